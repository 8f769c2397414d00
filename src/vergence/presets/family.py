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
