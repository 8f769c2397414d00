"""An encoder and labelled pictures to accuracies, each with its protocol."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.augment import evaluation_view
from vergence.data import Images
from vergence.metrics import probe
from vergence.nn.encoders import fold_batch_norm
from vergence.results import PROBES
from vergence.runtime import keep_freed_memory, lanes


@torch.no_grad()
def features(
    encoder: nn.Module,
    images: Images,
    views: config.Views,
    *,
    device: torch.device,
    batch_size: int = 256,
    precision: config.Precision = "float32",
) -> Float[Tensor, "n d"]:
    """Representations of whole, unaugmented pictures, in evaluation mode (batch norm uses its running statistics).

    The encoder itself is left as it is: a copy with its batch norms folded into the convolutions does the work, in
    bfloat16 where that is asked for and the device is a GPU.
    """
    frozen = fold_batch_norm(copy.deepcopy(encoder).eval()).to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def represent(pixels: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda" and precision == "bfloat16"):
            return frozen(evaluation_view(pixels.to(device), images.size, views)).float()

    keep_freed_memory()
    with lanes(device) as both:
        return torch.cat(both.map(represent, images.pixels.split(batch_size)))


def evaluate(
    encoder: nn.Module,
    train: Images,
    test: Images,
    views: config.Views,
    *,
    device: torch.device,
    probes: tuple[str, ...] = PROBES,
    k: int = 20,
    temperature: float = 0.07,
    precision: config.Precision = "float32",
) -> dict[str, Any]:
    """Accuracies in percent, by probe: `{"accuracy": ..., "protocol": ...}`. Empty where there are no labels.

    Args:
        encoder: pictures `[b 3 h w]` to representations `[b d]`.
        train: labelled pictures the kNN and linear probes are fitted on.
        test: labelled pictures every probe is scored on; each protocol says what they are called.
        views: size and normalization of the pictures.
        device: where features are taken and probes fitted.
        probes: which of "knn", "linear", "logistic".
        k: neighbours of the kNN probe.
        temperature: of the kNN probe.
        precision: of the features on a GPU.

    Raises:
        ValueError: an unknown probe, no neighbour, or a temperature that is none.
    """
    if unknown := set(probes) - set(PROBES):
        raise ValueError(f"probes must be of knn, linear and logistic, not {', '.join(sorted(unknown))}")
    if k < 1 or not 0 < temperature < float("inf"):
        raise ValueError(f"k must be at least 1 and temperature above 0, not {k} and {temperature}")
    if test.labels is None or train.labels is None or len(test) < 2 or len(test.classes) < 2:
        return {}

    def represented(images: Images, labels: Tensor) -> probe.Features:
        y = features(encoder, images, views, device=device, precision=precision)
        return probe.Features(y, labels.to(device), images.called)

    scored = represented(test, test.labels)
    results: dict[str, Any] = {}
    if "knn" in probes or "linear" in probes:
        fitted = probe.Features(
            features(encoder, train, views, device=device, precision=precision), train.labels.to(device)
        )
        if "knn" in probes:
            results["knn"] = probe.knn(fitted, scored, k, temperature)
        if "linear" in probes:
            results["linear"] = probe.linear(fitted, scored)
    if "logistic" in probes:
        results["logistic"] = probe.logistic(scored)
    return results
