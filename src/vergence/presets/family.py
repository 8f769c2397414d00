"""What each method of the family asks of a run: its share of the default preset, and its paper's small-data setting."""

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
