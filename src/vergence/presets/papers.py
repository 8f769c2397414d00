"""Presets named METHOD-paper: each paper's setting for small pictures, or where it has none another library's."""

from collections.abc import Callable
from dataclasses import replace

from vergence import config as c
from vergence.presets.suited import TRUST


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


def barlow_twins_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for Barlow Twins on CIFAR-10 (scripts/pretrain/cifar/barlow.yaml): 92.10 % there.

    The authors published none for small pictures. ResNet-18 with the CIFAR stem, heads 2048-2048-2048, loss times 0.1,
    BYOL's views without blur, LARS 0.3 for each 256 pictures of a batch, weight decay 1e-4; 1,000 epochs of batch 256.
    """
    method = replace(method, scale=0.1) if isinstance(method, c.BarlowTwins) else method
    return _as_solo_learn(method, data, _asymmetric(), c.LARS(lr=0.3, weight_decay=1e-4, trust_coefficient=TRUST))


def vicreg_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for VICReg on CIFAR-10 (scripts/pretrain/cifar/vicreg.yaml): 92.07 % there.

    The authors published none for small pictures. As `barlow_twins_paper`, but with symmetric views, and the variance
    term at 50: solo-learn's weight of 25 is for a sum over the views, which the authors' code halves.
    """
    method = replace(method, variance=50.0) if isinstance(method, c.VICReg) else method
    view = replace(c.VIEWS["blog"].first, saturation=0.2, blur=0.0, solarize=0.1)
    views = c.Views(first=view, second=view)
    return _as_solo_learn(method, data, views, c.LARS(lr=0.3, weight_decay=1e-4, trust_coefficient=TRUST))


def nnclr_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn's for NNCLR on CIFAR-10 (scripts/pretrain/cifar/nnclr.yaml): 91.88 % there.

    The authors published none for small pictures. Heads 2048-2048-256 and 4096-256, temperature 0.2 (the paper's for
    ImageNet is 0.1), a queue of 65,536, LARS 0.4 for each 256 pictures of a batch, weight decay 1e-5; else as
    `barlow_twins_paper`.
    """
    method = replace(method, temperature=0.2) if isinstance(method, c.NNCLR) else method
    return _as_solo_learn(method, data, _asymmetric(), c.LARS(lr=0.4, weight_decay=1e-5, trust_coefficient=TRUST))


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
    return _as_solo_learn(method, data, c.VIEWS["simclr"], c.LARS(lr=0.6, weight_decay=1e-6))


def dino_paper(method: c.Method, data: c.Data) -> c.Run:
    """Return a run as solo-learn has DINO on CIFAR-10 (scripts/pretrain/cifar/dino.yaml; 89.52 there).

    4,096 prototypes, projector 2048-2048-256 with GELU and without norm, decay 0.9995 to 1, the target's temperature
    constant at 0.07; BYOL's views without blur, LARS 0.3, batch 256, 1,000 epochs. The paper has no setting for small
    pictures.
    """
    if isinstance(method, c.DINO):
        method = replace(method, temperature_epochs=0, target=c.MovingAverage(decay=0.9995))
        method = replace(method, projector=replace(method.projector, hidden=2048))
    return _as_solo_learn(method, data, _asymmetric(), c.LARS(lr=0.3, weight_decay=1e-6))


def _asymmetric() -> c.Views:
    """Return BYOL's views without blur, solo-learn's for CIFAR-10."""
    byol = c.VIEWS["byol"]
    return c.Views(first=replace(byol.first, blur=0.0), second=replace(byol.second, blur=0.0))


def _as_solo_learn(method: c.Method, data: c.Data, views: c.Views, optimizer: c.LARS) -> c.Run:
    """Return a run as solo-learn's for CIFAR-10, but for its LARS: there the rate of a layer is lr at most."""
    return c.Run(
        method=method,
        data=data,
        views=replace(views, size=data.size),
        encoder=c.Encoder(stem="cifar"),
        optimizer=optimizer,
        schedule=c.Cosine(warmup_epochs=10, warmup_from="first-share"),
        epochs=1000,
        batch_size=256,
    )


PAPERS: dict[str, Callable[[c.Method, c.Data], c.Run]] = {
    "simsiam-paper": simsiam_paper,
    "directpred-paper": directpred_paper,
    "barlow-twins-paper": barlow_twins_paper,
    "vicreg-paper": vicreg_paper,
    "nnclr-paper": nnclr_paper,
    "sigreg-paper": sigreg_paper,
    "w-mse-paper": w_mse_paper,
    "swav-paper": swav_paper,
    "dino-paper": dino_paper,
}
"""Each for the method of its name."""
