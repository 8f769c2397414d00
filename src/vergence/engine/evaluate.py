"""An encoder and labelled pictures to scores: accuracies beside what they must beat, each with its protocol."""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.augment import Ragged, evaluation_view, two_views
from vergence.data import Images
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.machine.device import HALF, device_of
from vergence.machine.processes import SINGLE_PROCESS, Group
from vergence.machine.randomness import generator
from vergence.machine.threads import two_workers
from vergence.metrics import probe
from vergence.metrics.measure import number
from vergence.metrics.table import PROBES
from vergence.metrics.verdict import REPRESENTATION
from vergence.networks.encoders import fold_batch_norm


@torch.no_grad()
def features(
    encoder: nn.Module,
    images: Images,
    views: config.Views,
    *,
    device: torch.device | str,
    batch_size: int = 256,
    precision: config.Precision = "float32",
) -> Float[Tensor, "n d"]:
    """Representations of whole, unaugmented pictures, in evaluation mode (batch norm uses its running statistics).

    The encoder itself is left as it is: a copy with its batch norms folded into the convolutions does the work, in
    16 bits where that is asked for and the device is a GPU.
    """
    device = device_of(device)
    return _features(_frozen(encoder, device), images, views, device, precision, batch_size)


@torch.no_grad()
def _features(
    frozen: nn.Module,
    images: Images,
    views: config.Views,
    device: torch.device,
    precision: config.Precision,
    batch_size: int = 256,
    group: Group = SINGLE_PROCESS,
) -> Float[Tensor, "n d"]:
    @torch.no_grad()
    def represent(pixels: Tensor | Ragged) -> Tensor:
        with _half(device, precision):
            return frozen(evaluation_view(pixels.to(device), images.size, views)).float()

    with two_workers(device) as both:
        return group.all_rows([*images.pixels.split(batch_size)], partial(both.map, represent))


def representing(
    encoder: nn.Module, device: torch.device, precision: config.Precision = "float32"
) -> Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b d"]]:
    """Return what gives the representations of normalized pictures, as `features` takes them, on their device."""
    frozen = _frozen(encoder, device)

    @torch.no_grad()
    def represent(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        with _half(device, precision):
            return frozen(pictures).float()

    return represent


def _frozen(encoder: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy on the device, in evaluation mode, with its batch norms folded into its convolutions."""
    folded = fold_batch_norm(encoder)
    with torch.no_grad():  # or the weights of a TorchScript program are copied with their history, and torch warns
        frozen = copy.deepcopy(encoder).eval() if folded is encoder else folded
    return frozen.to(device).to(memory_format=torch.channels_last)


def _half(device: torch.device, precision: config.Precision) -> torch.autocast:
    """The context in which features are taken: in 16 bits where that is asked for and the device is a GPU."""
    return torch.autocast("cuda", HALF.get(precision), enabled=device.type == "cuda" and precision in HALF)


LOOKED_AT = 512
"""Pictures whose views a representation is judged on."""


@torch.no_grad()
def look_at_representation(
    encoder: nn.Module,
    images: Images,
    views: config.Views,
    *,
    device: torch.device | str,
    precision: config.Precision = "float32",
) -> dict[str, float]:
    """The numbers of `verdict.REPRESENTATION`, in evaluation mode, on two views each of up to `LOOKED_AT` pictures.

    The pictures and their views are the same at every call with the same images. All are NaN where a representation is
    not finite.
    """
    device = device_of(device)
    chosen = torch.randperm(len(images), generator=generator(0, "representation"))[:LOOKED_AT]
    both = two_views(images.pixels[chosen], images.size, views, generator(0, "representation", 1))
    represent = representing(encoder, device, precision)
    y1, y2 = (torch.cat([represent(part.to(device)) for part in view.split(128)]) for view in both)
    if not (y1.isfinite().all() and y2.isfinite().all()):
        return dict.fromkeys(REPRESENTATION, math.nan)
    y = {"y": torch.stack([y1, y2])}
    return {name: number(name, y) for name in REPRESENTATION}


def evaluate(
    encoder: nn.Module,
    train: Images,
    test: Images,
    views: config.Views,
    *,
    where: Where = Where(),
    probing: Probing = Probing(),
    precision: config.Precision = "float32",
) -> dict[str, Any]:
    """Scores by probe, as `metrics.probe` gives them. Empty where there are no labels, and on ranks that do not write.

    A score does not depend on the order of the pictures, but for protocols that go by a publisher's order.

    Args:
        encoder: pictures `[b 3 h w]` to representations `[b d]`.
        train: labelled pictures the kNN and linear probes are fitted on.
        test: labelled pictures every probe is scored on; each protocol says what they are called.
        views: size and normalization of the pictures.
        where: the device that takes features and fits probes, and the processes that share the pictures; each makes the
            same call.
        probing: which probes, and how.
        precision: of the features on a GPU.
    """
    if test.labels is None or train.labels is None or len(test) < 2 or len(test.classes) < 2:
        return {}
    device, group = device_of(where.device), where.group
    frozen = _frozen(encoder, device)
    represented = partial(_represented, frozen, views=views, device=device, precision=precision, group=group)
    scored = represented(test)
    fitted = represented(train) if set(probing.probes) - {"logistic"} else scored
    if not group.is_main:
        return {}
    if not (scored.y.isfinite().all() and fitted.y.isfinite().all()):
        return {name: probe.unscored("the encoder's representations are not finite") for name in probing.probes}
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "knn": lambda: probe.knn(fitted, scored, probing.k, probing.temperature),
        "linear": lambda: probe.linear(fitted, scored),
        "logistic": lambda: probe.logistic(scored),
        "linear-raft": lambda: probe.linear_raft(fitted, scored),
    }
    return {name: ways[name]() for name in PROBES if name in probing.probes}


def beside(scores: dict[str, Any], name: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores with those that an encoder must beat among their `baselines`.

    Args:
        scores: of `evaluate`.
        name: of the other encoder, such as "untrained".
        others: its scores by the same probes on the same pictures.
    """
    return {
        which: score
        if score["accuracy"] is None
        else score | {"baselines": {name: others[which]["accuracy"], **score["baselines"]}}
        for which, score in scores.items()
    }


def labelled_features(
    encoder: nn.Module,
    images: Images,
    views: config.Views,
    *,
    device: torch.device | str,
    precision: config.Precision = "float32",
) -> probe.Features:
    """Return the features of labelled pictures as probes take them: in an order that is a function of the pictures.

    Arguments as of `features`.
    """
    device = device_of(device)
    return _represented(_frozen(encoder, device), images, views, device, precision)


def _represented(
    frozen: nn.Module,
    images: Images,
    views: config.Views,
    device: torch.device,
    precision: config.Precision,
    group: Group = SINGLE_PROCESS,
) -> probe.Features:
    """The features of labelled pictures, in the publisher's order or in one that is a function of the pictures."""
    assert images.labels is not None
    y, labels = _features(frozen, images, views, device, precision, group=group), images.labels
    if images.published_order:
        return probe.Features(y, labels.to(device), images.split_name, images.keys, published_order=True)
    order = sorted(range(len(images)), key=lambda index: (images.keys[index], int(labels[index])))
    keys = [images.keys[index] for index in order]
    return probe.Features(y[order], labels[order].to(device), images.split_name, keys)
