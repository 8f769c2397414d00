"""Small runs that every test of training shares: a tiny encoder, a few pictures, every method."""

from dataclasses import replace

import torch

from vergence import config as c
from vergence import methods as built
from vergence.augment import two_views
from vergence.data import Images
from vergence.engine.step import Setup, Stepper
from vergence.machine.threads import TwoWorkers
from vergence.optim import build_optimizer
from vergence.presets import NAMES, methods

TINY = c.Encoder(name="test_resnet")
HEADS = {
    "projector": c.Projector(hidden=16, out=8),
    "predictor": c.MLPPredictor(hidden=16),
    "queue": 24,
    "queue_from_epoch": 0.0,
    "slices": 32,
}


def small(method: c.Method) -> c.Method:
    """The method with heads, queue and prototypes of a few units; its own norms, predictor kind and target stay."""
    changed = {name: value for name, value in HEADS.items() if hasattr(method, name)}
    out = 3 if isinstance(method, c.WMSE) else 8  # a batch of 8, or half of one, can be whitened
    changed["projector"] = replace(method.projector, hidden=16, out=out)
    if isinstance(getattr(method, "predictor", None), c.MLPPredictor):
        changed["predictor"] = replace(method.predictor, hidden=16)
    else:
        changed.pop("predictor", None)
    if isinstance(prototypes := getattr(method, "prototypes", None), c.Prototypes):
        changed["prototypes"] = replace(prototypes, count=6, frozen_epochs=0.3)
    return replace(method, **changed)


VARIANTS: dict[str, c.Method] = {
    **{name: small(method) for name, method in methods().items()},
    **{
        name: small(method) for name, method in NAMES.items() if name.endswith(("LPI", "-NP")) or name.startswith("Tan")
    },
    "byol, copy": small(c.BYOL(target=c.Copy())),
    "byol, frozen": small(c.BYOL(target=c.Frozen())),
    "byol, stop-gradient": small(c.BYOL(target=c.StopGradient())),
    "moco, stop-gradient": small(c.MoCo(target=c.StopGradient())),
    "byol, independent, running, before": small(
        c.BYOL(target=c.MovingAverage(start="independent", batch_norm="running", update_when="before-optimizer"))
    ),
    "byol, batch renorm, standardized": small(
        c.BYOL(
            projector=c.Projector(norm="batch-renorm", weight="standardized"),
            predictor=c.MLPPredictor(norm="batch-renorm", weight="standardized"),
        )
    ),
    "byol, layer norm": small(c.BYOL(projector=c.Projector(norm="layer"), predictor=c.MLPPredictor(norm="group"))),
    "simsiam, shared": small(c.SimSiam(target=c.Shared())),
    "moco, shared": small(c.MoCo(target=c.Shared())),
    "directpred, isotropic": small(c.DirectPred(loss="isotropic")),
    "contrastive, direct": small(c.Contrastive(predictor=c.Direct())),
    "sigreg, visreg": small(c.SIGReg(regularizer="visreg", scale=0.5)),
    "w-mse, standardize": small(c.WMSE(whitening="standardize")),
}
"""Every method, every predictor, every target, every norm at least once."""


def run_of(method: c.Method, **changes) -> c.Run:
    """A run of a few steps on 16 px pictures."""
    run = c.Run(
        method=method,
        data=c.Digits(size=16),
        views=replace(c.VIEWS["blog"], size=16),
        encoder=TINY,
        optimizer=c.SGD(lr=0.05),
        epochs=2,
        batch_size=8,
    )
    return replace(run, **changes)


SHORT = run_of(VARIANTS["byol"], subset=16, epochs=1)
"""What the fixtures `whole` and `folder` hold, where a file of tests has no others."""


def pictures(n: int = 28, side: int = 16, classes: int = 4, seed: int = 0) -> Images:
    """Noise over a colour of its class: enough to train on, quick to make."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    colours = torch.randint(0, 200, (classes, 3, 1, 1), generator=torch.Generator().manual_seed(7))
    noise = torch.randint(0, 56, (n, 3, side, side), generator=g)
    return Images((colours[labels] + noise).to(torch.uint8), labels, tuple("abcd"[:classes]), side)


def views_of(n: int = 8, side: int = 16, seed: int = 1) -> torch.Tensor:
    """Two views of `pictures(n)`."""
    return two_views(pictures(n).pixels, side, c.Views(size=side), torch.Generator().manual_seed(seed))


CLASSES = torch.arange(8) % 4


def look(method, views, labels=CLASSES):
    """A forward pass; only the supervised baseline is told the classes."""
    return method(views, labels) if isinstance(method, built.Supervised) else method(views)


def stepper_of(run: c.Run, dtype=torch.float32) -> Stepper:
    """What trains a run on `pictures()`, three steps to an epoch."""
    method = built.build(run).to(dtype).train()
    setup = Setup(run, method, build_optimizer(run.optimizer, method), pictures(), torch.device("cpu"), 3)
    return Stepper(setup, TwoWorkers(None))
