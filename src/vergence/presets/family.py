"""What each method of the family asks of a run: its share of the default preset, and its paper's small-data setting."""

import math
from collections.abc import Callable
from dataclasses import replace

from vergence import config as c


def _simsiam(run: c.Run) -> c.Run:
    """Return a default run whose predictor has a constant rate, as the authors' code; digits get small heads."""
    if isinstance(run.data, c.Digits):
        given, own = run.method, c.SimSiam()
        narrow = {"projector": replace(own.projector, hidden=512, out=512), "predictor": c.MLPPredictor(hidden=128)}
        untouched = {name: slot for name, slot in narrow.items() if getattr(given, name) == getattr(own, name)}
        run = replace(run, method=replace(given, **untouched))
    return replace(run, optimizer=replace(run.optimizer, predictor_rate="constant"))


def _directpred(run: c.Run) -> c.Run:
    """Return a default run with the authors' rate, and 0.05 for digits.

    The projections' mean is part of their correlation and outgrows the rest at the rates of the other methods.
    """
    return replace(run, optimizer=replace(run.optimizer, lr=0.05 if isinstance(run.data, c.Digits) else 0.03))


def simsiam_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as SimSiam's authors have it on CIFAR-10 (arXiv 2011.10566, Appendix D).

    ResNet-18 with the CIFAR stem, SGD at 0.03 for each 256 pictures of a batch of 512, 800 epochs of a cosine, views
    without blur, two layers in the projector instead of three. The predictor's rate is constant, as in their code's
    command for ImageNet (github.com/facebookresearch/simsiam); the appendix does not say.
    """
    if isinstance(method, c.SimSiam):
        method = replace(method, projector=replace(method.projector, layers=2))
    batch_size = 512
    view = replace(c.VIEWS["blog"].first, blur=0.0)
    return c.Run(
        method=method,
        data=data,
        views=c.Views(size=data.size, first=view, second=view),
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.SGD(lr=0.03 * batch_size / 256, weight_decay=5e-4, predictor_rate="constant"),
        epochs=800,
        batch_size=batch_size,
    )


def directpred_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as DirectPred's authors have it on CIFAR-10 and STL-10 (arXiv 2102.06810 and their code's command).

    ResNet-18, with the CIFAR stem for CIFAR-10; SGD at a constant 0.03, weight decay 4e-4, batch 128, 100 epochs,
    SimCLR's views. Projector 512-128 whose batch norm has no scale and shift, target at a constant 0.996, rho 0.3, eps
    0.01: DirectPred's own settings (github.com/facebookresearch/luckmatters, ssl/real-dataset).
    """
    if isinstance(method, c.DirectPred) and method.predictor == c.Direct():
        method = replace(method, predictor=c.Direct(eps=0.01, rho=0.3))
    return c.Run(
        method=method,
        data=data,
        views=replace(c.VIEWS["simclr"], size=data.size),
        encoder=c.Encoder(stem="cifar" if isinstance(data, c.CIFAR10) else "imagenet"),
        optimizer=c.SGD(lr=0.03, weight_decay=4e-4),
        schedule=c.Constant(),
        epochs=100,
        batch_size=128,
    )


SUITED: dict[type[c.Method], Callable[[c.Run], c.Run]] = {
    c.SimSiam: _simsiam,
    c.DirectPred: _directpred,
}


"""What changes in the default run for a method whose authors ask for something else."""


PAPERS: dict[str, Callable[[c.Method, c.Data], c.Run]] = {
    "simsiam-paper": simsiam_paper,
    "directpred-paper": directpred_paper,
}


"""Presets named METHOD-paper: each paper's setting for small pictures."""


def suited(run: c.Run) -> c.Run:
    """Return a default run with what its method asks for."""
    suit = SUITED.get(type(run.method))
    return run if suit is None else suit(run)


_TRUST = 0.02


"""LARS's trust coefficient in solo-learn's settings for CIFAR-10, where the authors' for ImageNet have 0.001."""


def _by_moments(run: c.Run) -> c.Run:
    """Return a default run with LARS and half an epoch of warm-up, as Barlow Twins' and VICReg's authors ask for.

    Their losses are sums over many dimensions, whose gradients are large at first: SGD at the default rate diverges.
    Barlow Twins' loss is multiplied by 0.1, which is the rate of what LARS does not adapt. Digits get narrower heads.
    """
    changes: dict[str, object] = {"scale": 0.1} if isinstance(run.method, c.BarlowTwins) else {}
    if _is_small(run):
        changes["projector"] = replace(run.method.projector, hidden=512, out=256)
    optimizer = c.LARS(lr=0.3, trust_coefficient=_TRUST, weight_decay=1e-4)
    return replace(
        run,
        method=_where_default(run.method, **changes),
        optimizer=optimizer,
        schedule=c.Cosine(warmup_epochs=0.5),
    )


def _nnclr(run: c.Run) -> c.Run:
    """Return a default run with a queue for few pictures, a twelfth of CIFAR-10's, and smaller heads for digits."""
    changes: dict[str, object] = {"queue": 4096}
    if _is_small(run):
        narrow = replace(run.method.projector, hidden=512, out=256)
        changes = {"queue": 512, "projector": narrow, "predictor": c.MLPPredictor()}
    return replace(run, method=_where_default(run.method, **changes))


def _is_small(run: c.Run) -> bool:
    return isinstance(run.data, c.Digits)


def _where_default(method: c.Method, **changes: object) -> c.Method:
    """Return the method with the changes to fields that nobody has set."""
    own = type(method)
    return replace(method, **{name: v for name, v in changes.items() if getattr(method, name) == getattr(own, name)})


def barlow_twins_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for Barlow Twins on CIFAR-10 (scripts/pretrain/cifar/barlow.yaml): 92.10 % there.

    The authors published none for small pictures. ResNet-18 with the CIFAR stem, heads 2048-2048-2048, loss times 0.1,
    BYOL's views without blur, LARS 0.3 for each 256 pictures of a batch, weight decay 1e-4; 1,000 epochs of batch 256.
    """
    method = replace(method, scale=0.1) if isinstance(method, c.BarlowTwins) else method
    return _small_pictures(method, data, _asymmetric(data), lr=0.3, weight_decay=1e-4)


def vicreg_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for VICReg on CIFAR-10 (scripts/pretrain/cifar/vicreg.yaml): 92.07 % there.

    The authors published none for small pictures. As `barlow_twins_paper`, but with symmetric views, and the variance
    term at 50: solo-learn's weight of 25 is for a sum over the views, which the authors' code halves.
    """
    method = replace(method, variance=50.0) if isinstance(method, c.VICReg) else method
    view = replace(c.VIEWS["blog"].first, saturation=0.2, blur=0.0, solarize=0.1)
    views = c.Views(size=data.size, first=view, second=view)
    return _small_pictures(method, data, views, lr=0.3, weight_decay=1e-4)


def nnclr_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for NNCLR on CIFAR-10 (scripts/pretrain/cifar/nnclr.yaml): 91.88 % there.

    The authors published none for small pictures. Heads 2048-2048-256 and 4096-256, temperature 0.2 (the paper's for
    ImageNet is 0.1), a queue of 65,536, LARS 0.4 for each 256 pictures of a batch, weight decay 1e-5; else as
    `barlow_twins_paper`.
    """
    method = replace(method, temperature=0.2) if isinstance(method, c.NNCLR) else method
    return _small_pictures(method, data, _asymmetric(data), lr=0.4, weight_decay=1e-5)


def _asymmetric(data: c.Data) -> c.Views:
    """Return BYOL's views without blur, solo-learn's for CIFAR-10."""
    first, second = (replace(view, blur=0.0) for view in (c.VIEWS["byol"].first, c.VIEWS["byol"].second))
    return c.Views(size=data.size, first=first, second=second)


def _small_pictures(method: c.Method, data: c.Data, views: c.Views, lr: float, weight_decay: float) -> c.Run:
    batch_size = 256
    return c.Run(
        method=method,
        data=data,
        views=views,
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.LARS(lr=lr * batch_size / 256, weight_decay=weight_decay, trust_coefficient=_TRUST),
        schedule=c.Cosine(warmup_epochs=10),
        epochs=1000,
        batch_size=batch_size,
    )


_PROTOTYPES = {
    c.SwAV: {2_000: 64, 20_000: 256, 200_000: 512, 1_000_000: 1024, math.inf: 3000},
    c.DINO: {2_000: 64, 20_000: 1024, 50_000: 2048, 100_000: 4096, 200_000: 16384, 500_000: 32768, math.inf: 65536},
}


"""Prototypes for fewer pictures than so many.

SwAV has its authors' 3,000 for ImageNet and lightly's 512 for CIFAR, DINO the numbers of lightly-train; those for fewer
than 20,000 pictures of SwAV's, and 2,000 of DINO's, are ours, tried on digits.
"""


def _pictures(data: c.Data) -> int:
    """Return how many pictures to scale with: those published, or CIFAR's 50,000 where only reading tells."""
    return data.published or 50_000


def _prototypes(run: c.Run) -> c.Run:
    """Return a run with as many prototypes as suit the number of pictures, where the method has its usual number."""
    assert isinstance(run.method, c.SwAV | c.DINO)
    if run.method.prototypes != type(run.method)().prototypes:
        return run
    count = next(k for below, k in _PROTOTYPES[type(run.method)].items() if _pictures(run.data) < below)
    return replace(run, method=replace(run.method, prototypes=replace(run.method.prototypes, count=count)))


def _dino(run: c.Run) -> c.Run:
    """Return a run whose prototypes, temperatures and decay go with the number of pictures, as lightly-train's do.

    The target's temperature goes from 0.02 for 20,000 pictures or fewer to 0.07 for ImageNet's, its first from 0.02 to
    0.04 and its decay from 0.99 to 0.996 with it: a smaller one sharpens, which keeps few pictures from the uniform
    collapse. It rises in the first 30 % of the epochs at most. The projector has batch norm, without which
    a ResNet on digits collapsed to uniform in 20 steps of SGD at 0.2.
    """
    share = min(1.0, max(0.0, (_pictures(run.data) - 20_000) / (1_281_167 - 20_000)))
    own, given = c.DINO(), run.method
    changes = {
        "target_temperature": round(0.02 + 0.05 * share, 3),
        "target_temperature_start": round(0.02 + 0.02 * share, 3),
        "temperature_epochs": min(30.0, 0.3 * run.epochs),
        "projector": replace(own.projector, norm="batch"),
    }
    changes = {name: value for name, value in changes.items() if getattr(given, name) == getattr(own, name)}
    if isinstance(target := getattr(given, "target", None), c.MovingAverage) and target == c.MovingAverage(decay=0.99):
        changes["target"] = c.MovingAverage(decay=round(0.99 + 0.006 * share, 4))
    return _prototypes(replace(run, method=replace(given, **changes)))


def _as_solo_learn(method: c.Method, data: c.Data, views: c.Views, lr: float) -> c.Run:
    """Return a run as solo-learn's for CIFAR-10, but for its LARS: there the rate of a layer is lr at most."""
    return c.Run(
        method=method,
        data=data,
        views=replace(views, size=data.size),
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.LARS(lr=lr, weight_decay=1e-6),
        schedule=c.Cosine(warmup_epochs=10, warmup_from="first-share"),
        epochs=1000,
        batch_size=256,
    )


def swav_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn has SwAV on CIFAR-10 (scripts/pretrain/cifar/swav.yaml; 89.17 there).

    3,000 prototypes, frozen for 2 epochs; a queue of 3,840 from epoch 50; projector 2048-128, SimCLR's views, LARS 0.6,
    batch 256, 1,000 epochs. The paper has no setting for small pictures; LARS's trust coefficient of 0.001 is that of
    the authors' code at this batch (scripts/swav_200ep_bs256_pretrain.sh).
    """
    if isinstance(method, c.SwAV):
        prototypes = replace(method.prototypes, count=3000, frozen_epochs=2)
        method = replace(method, queue=3840, queue_from_epoch=50, prototypes=prototypes)
        method = replace(method, projector=replace(method.projector, hidden=2048))
    return _as_solo_learn(method, data, c.VIEWS["simclr"], lr=0.6)


def dino_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn has DINO on CIFAR-10 (scripts/pretrain/cifar/dino.yaml; 89.52 there).

    4,096 prototypes, projector 2048-2048-256 with GELU and without norm, decay 0.9995 to 1, the target's temperature
    constant at 0.07; BYOL's views without blur, LARS 0.3, batch 256, 1,000 epochs. The paper has no setting for small
    pictures.
    """
    if isinstance(method, c.DINO):
        method = replace(method, temperature_epochs=0, target=c.MovingAverage(decay=0.9995))
        method = replace(method, projector=replace(method.projector, hidden=2048))
    first, second = (replace(view, blur=0.0) for view in (c.VIEWS["byol"].first, c.VIEWS["byol"].second))
    return _as_solo_learn(method, data, c.Views(first=first, second=second), lr=0.3)


SUITED |= {c.SwAV: _prototypes, c.DINO: _dino}


PAPERS |= {"swav-paper": swav_paper, "dino-paper": dino_paper}


def _sigreg(run: c.Run) -> c.Run:
    """256 slices and hidden units for small pictures; lambda 0.02 at a batch of 256 (LeJEPA's MINIMAL.md).

    The statistic has a factor n, so lambda goes with 1 / batch: 0.08 at 64, 0.04 at 128.
    """
    projector = replace(run.method.projector, hidden=512)
    changes = {"weight": 5.12 / run.batch_size, "slices": 256, "projector": projector}
    return replace(run, method=_where_default(run.method, **changes))


def _w_mse(run: c.Run) -> c.Run:
    """The whole batch as one slice, of twice as many pictures as dimensions, up to the paper's 64; and its Adam."""
    projector = replace(run.method.projector, out=min(64, run.batch_size // 2))
    method = _where_default(run.method, projector=projector)
    return replace(run, method=method, optimizer=c.Adam(lr=2e-3, weight_decay=1e-6), schedule=c.Cosine(warmup_epochs=1))


SUITED |= {c.SIGReg: _sigreg, c.WMSE: _w_mse}


def sigreg_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run on CIFAR-10 as the authors' group tuned it, with LeJEPA's optimizer for a ResNet.

    From facebookresearch/eb_jepa (examples/image_jepa): ResNet-18, projector 2048-2048-128, 256 slices, batch 256, 300
    epochs, 10 of them warm-up, both views solarized at 0.1 and not blurred, and the weight that it found best, 10 in
    its unit, in LeJEPA's 0.0097 at this batch: 91.0 linear. From LeJEPA's README: AdamW 5e-4, weight decay 5e-4.
    LeJEPA itself has no setting for CIFAR-10; eb_jepa's LARS with a clipped rate, and its bfloat16, are not imitated.
    """
    if isinstance(method, c.SIGReg):
        projector = replace(method.projector, layers=3, hidden=2048, out=128)
        method = replace(method, weight=0.0097, slices=256, projector=projector)
    view = c.View(saturation=0.2, blur=0.0, solarize=0.1)
    return c.Run(
        method=method,
        data=data,
        views=c.Views(size=data.size, first=view, second=view),
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.AdamW(lr=5e-4, weight_decay=5e-4),
        schedule=c.Cosine(warmup_epochs=10),
        epochs=300,
        batch_size=256,
    )


def w_mse_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as the authors' code has it for CIFAR-10 (htdt/self-supervised, W-MSE 2): 91.55 linear, 89.69 5-NN.

    ResNet-18, projector 1024-64, slices of 128 in a batch of 512, Adam 3e-3, weight decay 1e-6, 1,000 epochs, about 500
    steps of warm-up; gray at 0.1, no blur. Their rate falls to a fifth 50 and 25 epochs before the end, ours by a
    cosine.
    """
    if isinstance(method, c.WMSE):
        projector = replace(method.projector, layers=2, hidden=1024, out=64)
        method = replace(method, slice=128, projector=projector)
    view = c.View(gray=0.1, blur=0.0)
    return c.Run(
        method=method,
        data=data,
        views=c.Views(size=data.size, first=view, second=view),
        encoder=c.Encoder(stem="cifar"),
        optimizer=c.Adam(lr=3e-3, weight_decay=1e-6),
        schedule=c.Cosine(warmup_epochs=5),
        epochs=1000,
        batch_size=512,
    )


PAPERS |= {"sigreg-paper": sigreg_paper, "w-mse-paper": w_mse_paper}
