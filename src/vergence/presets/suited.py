"""What each method of the family changes in the default run: what its authors ask for, and what few pictures need."""

import math
from collections.abc import Callable
from dataclasses import replace

from vergence import config as c

TRUST = 0.02
"""LARS's trust coefficient in solo-learn's settings for CIFAR-10, where the authors' for ImageNet have 0.001."""

_PROTOTYPES = {
    c.SwAV: {2_000: 64, 20_000: 256, 200_000: 512, 1_000_000: 1024, math.inf: 3000},
    c.DINO: {2_000: 64, 20_000: 1024, 50_000: 2048, 100_000: 4096, 200_000: 16384, 500_000: 32768, math.inf: 65536},
}
"""Prototypes for fewer pictures than so many.

SwAV has its authors' 3,000 for ImageNet and lightly's 512 for CIFAR, DINO the numbers of lightly-train; those for fewer
than 20,000 pictures of SwAV's, and 2,000 of DINO's, are ours, tried on digits.
"""


def suited(run: c.Run) -> c.Run:
    """Return a default run with what its method asks for."""
    suit = SUITED.get(type(run.method))
    return run if suit is None else suit(run)


def _simsiam(run: c.Run) -> c.Run:
    """Return a default run whose predictor has a constant rate, as the authors' code; digits get small heads."""
    if isinstance(run.data, c.Digits):
        projector = replace(run.method.projector, hidden=512, out=512)
        small = _where_default(run.method, projector=projector, predictor=c.MLPPredictor(hidden=128))
        run = replace(run, method=small)
    return replace(run, optimizer=replace(run.optimizer, predictor_rate="constant"))


def _directpred(run: c.Run) -> c.Run:
    """Return a default run with the authors' rate, and 0.05 for digits.

    The projections' mean is part of their correlation and outgrows the rest at the rates of the other methods.
    """
    return replace(run, optimizer=replace(run.optimizer, lr=0.05 if isinstance(run.data, c.Digits) else 0.03))


def _by_moments(run: c.Run) -> c.Run:
    """Return a default run with LARS and half an epoch of warm-up, as Barlow Twins' and VICReg's authors ask for.

    Their losses are sums over many dimensions, whose gradients are large at first: SGD at the default rate diverges.
    Barlow Twins' loss is multiplied by 0.1, which is the rate of what LARS does not adapt. Digits get narrower heads.
    """
    changes: dict[str, object] = {"scale": 0.1} if isinstance(run.method, c.BarlowTwins) else {}
    if isinstance(run.data, c.Digits):
        changes["projector"] = replace(run.method.projector, hidden=512, out=256)
    optimizer = c.LARS(lr=0.3, trust_coefficient=TRUST, weight_decay=1e-4)
    return replace(
        run,
        method=_where_default(run.method, **changes),
        optimizer=optimizer,
        schedule=c.Cosine(warmup_epochs=0.5),
    )


def _nnclr(run: c.Run) -> c.Run:
    """Return a default run with a queue for few pictures, a twelfth of CIFAR-10's, and smaller heads for digits."""
    changes: dict[str, object] = {"queue": 4096}
    if isinstance(run.data, c.Digits):
        narrow = replace(run.method.projector, hidden=512, out=256)
        changes = {"queue": 512, "projector": narrow, "predictor": c.MLPPredictor()}
    return replace(run, method=_where_default(run.method, **changes))


def _sigreg(run: c.Run) -> c.Run:
    """Return a default run with 256 slices and lambda 0.02 at a batch of 256, as LeJEPA's example for small pictures.

    The statistic has a factor n, so lambda goes with 1 / batch: 0.08 at 64, 0.04 at 128. VISReg's terms have none; its
    authors' lambda for few pictures is 0.6.
    """
    assert isinstance(run.method, c.SIGReg)
    weight = 0.6 if run.method.regularizer == "visreg" else 5.12 / run.batch_size
    changes = {"weight": weight, "slices": 256, "projector": replace(run.method.projector, hidden=512)}
    return replace(run, method=_where_default(run.method, **changes))


def _w_mse(run: c.Run) -> c.Run:
    """Return a default run that whitens whole batches, in at most 64 dimensions, with the paper's Adam."""
    projector = replace(run.method.projector, out=min(64, run.batch_size // 2))
    method = _where_default(run.method, projector=projector)
    return replace(run, method=method, optimizer=c.Adam(lr=2e-3, weight_decay=1e-6), schedule=c.Cosine(warmup_epochs=1))


def _prototypes(run: c.Run) -> c.Run:
    """Return a run with as many prototypes as suit the number of pictures, where the method has its usual number."""
    method = run.method
    assert isinstance(method, c.SwAV | c.DINO)
    count = next(k for below, k in _PROTOTYPES[type(method)].items() if _pictures(run.data) < below)
    return replace(run, method=_where_default(method, prototypes=replace(method.prototypes, count=count)))


def _dino(run: c.Run) -> c.Run:
    """Return a run whose prototypes, temperatures and decay go with the number of pictures, as lightly-train's do.

    The target's temperature goes from 0.02 for 20,000 pictures or fewer to 0.07 for ImageNet's, its first from 0.02 to
    0.04 and its decay from 0.99 to 0.996 with it: a smaller one sharpens, which keeps few pictures from the uniform
    collapse. It rises in the first 30 % of the epochs at most. The projector has batch norm, without which
    a ResNet on digits collapsed to uniform in 20 steps of SGD at 0.2.
    """
    share = min(1.0, max(0.0, (_pictures(run.data) - 20_000) / (1_281_167 - 20_000)))
    method = _where_default(
        run.method,
        target_temperature=round(0.02 + 0.05 * share, 3),
        target_temperature_start=round(0.02 + 0.02 * share, 3),
        temperature_epochs=min(30.0, 0.3 * run.epochs),
        projector=replace(c.DINO().projector, norm="batch"),
    )
    if getattr(method, "target", None) == c.MovingAverage(decay=0.99):  # as the default run has it
        method = replace(method, target=c.MovingAverage(decay=round(0.99 + 0.006 * share, 4)))
    return _prototypes(replace(run, method=method))


def _pictures(data: c.Data) -> int:
    """Return how many pictures to scale with: those published, or CIFAR's 50,000 where only reading tells."""
    return data.published or 50_000


def _where_default(method: c.Method, **changes: object) -> c.Method:
    """Return the method with the changes to fields that nobody has set."""
    own = type(method)
    return replace(method, **{name: v for name, v in changes.items() if getattr(method, name) == getattr(own, name)})


SUITED: dict[type[c.Method], Callable[[c.Run], c.Run]] = {
    c.SimSiam: _simsiam,
    c.DirectPred: _directpred,
    c.BarlowTwins: _by_moments,
    c.VICReg: _by_moments,
    c.NNCLR: _nnclr,
    c.SIGReg: _sigreg,
    c.WMSE: _w_mse,
    c.SwAV: _prototypes,
    c.DINO: _dino,
}
"""What changes in the default run for a method whose authors ask for something else."""
