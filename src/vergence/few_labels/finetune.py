"""Fine-tuning: all weights of an encoder and a linear layer on it, on a few labelled pictures, by one fixed recipe.

The recipe is the same for every encoder, also for random weights, where it is supervised training from scratch: AdamW,
a cosine from a rate to 0, and a number of steps that only the number of labelled pictures decides. A step takes
`PICTURES` of them, the same ones again where there are fewer, in two crops each, which may be mirrored. The layer
starts at 0. Batch norms normalize by the crops of a step, of which there are always as many, and are scored with their
running statistics: frozen ones would leave random weights without any normalization.
"""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.augment import two_views
from vergence.data import Images
from vergence.data.splits import held_out
from vergence.engine.evaluate import features
from vergence.machine.randomness import generator, seed_of

RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates that are tried; the middle one where no labelled picture can be held out to choose by."""

PICTURES = 32
"""Labelled pictures in a step."""

LEAST_STEPS, PASSES = 100, 10
"""Steps of a fit: so many passes over the labelled pictures, and at least so many steps."""

RECIPE = (
    f"all weights and a linear layer, AdamW, the best of the rates {', '.join(f'{rate:g}' for rate in RATES)} on a "
    f"fifth of the labelled pictures of each class that are held out (the middle one where none can be), then fitted "
    f"once on all of them; cosine to 0, {PASSES} passes but at least {LEAST_STEPS} steps of {PICTURES} pictures in two "
    "crops each; batch norm by the crops of a step"
)
"""The recipe in words, for a page."""


def steps_for(count: int) -> int:
    """Return the number of steps that a fit on `count` labelled pictures takes."""
    return max(LEAST_STEPS, PASSES * math.ceil(count / PICTURES))


class Classifier(nn.Module):
    """An encoder and a linear layer on its representations, which starts at 0.

    Args:
        encoder: pictures `[b 3 s s]` to representations `[b dim]`; it is copied.
        dim: the width of a representation.
        classes: how many there are.
    """

    def __init__(self, encoder: nn.Module, dim: int, classes: int):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.head = nn.Linear(dim, classes, device="meta").to_empty(device="cpu")  # no random numbers are drawn
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        return self.head(self.encoder(pictures))


def finetune(
    classifier: Classifier,
    labelled: Images,
    views: config.Views,
    *,
    seed: int,
    device: torch.device,
    steps: int | None = None,
    step: Callable[[], None] = lambda: None,
) -> tuple[Classifier, str]:
    """Return the classifier fitted on labelled pictures, in evaluation mode, and how, in words. No other is looked at.

    Args:
        classifier: with the weights it starts from, which stay as they are.
        labelled: all that it may see.
        views: size, normalization, and in `first` and `second` how crops are drawn.
        seed: of the order of the pictures and of their crops.
        device: where it is trained.
        steps: of the fit, and of that of each rate that is tried; None: `steps_for(len(labelled))`.
        step: called after each of them.
    """
    steps = steps or steps_for(len(labelled))
    classifier = copy.deepcopy(classifier).to(device)
    rate, chosen = RATES[1], "the middle one, for none of so few can be held out"
    assert labelled.labels is not None
    scored = torch.tensor(held_out(labelled.keys, labelled.labels.tolist()))
    if scored.any():
        fitted, left = labelled.take((~scored).nonzero()[:, 0]), labelled.take(scored.nonzero()[:, 0])
        losses: dict[float, float] = {}
        assert left.labels is not None
        for rate in RATES:
            tried = _fit(classifier, fitted, views, rate, seed, steps, step)
            loss = F.cross_entropy(features(tried, left, views, device=device).cpu(), left.labels).item()
            losses[rate] = loss if math.isfinite(loss) else math.inf
        rate, chosen = min(RATES, key=losses.__getitem__), f"chosen on {len(left)} held-out labelled pictures"
    fitted = _fit(classifier, labelled, views, rate, seed, steps, step)
    return fitted, f"all weights, AdamW {rate:g} {chosen}, {steps} steps"


def _fit(
    start: Classifier,
    labelled: Images,
    views: config.Views,
    rate: float,
    seed: int,
    steps: int,
    step: Callable[[], None],
) -> Classifier:
    """Return a copy of a classifier, on its device, that was trained at one rate."""
    classifier, device = copy.deepcopy(start).to(memory_format=torch.channels_last).train(), start.head.weight.device
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate)
    passes = math.ceil(steps * PICTURES / len(labelled))
    order = torch.cat([torch.randperm(len(labelled), generator=generator(seed, "few", i)) for i in range(passes)])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(seed, "dropout"))
        for i, chosen in enumerate(order[: steps * PICTURES].split(PICTURES)):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * i / steps)) / 2
            some = labelled.take(chosen)
            crops = two_views(some.pixels.to(device), some.size, views, generator(seed, "views", i))
            assert some.labels is not None
            loss = F.cross_entropy(classifier(crops.flatten(0, 1)), some.labels.to(device).repeat(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step()
    return classifier.eval()
