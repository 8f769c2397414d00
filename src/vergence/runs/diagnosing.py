"""Any encoder, diagnosed: by a fixed protocol, beside the same network untrained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.augment import (
    crop_resize,
    evaluation_view,
    gaussian_blur,
    grayscale,
    jitter,
    kernel_size,
    normalize,
    solarize,
    two_views,
)
from vergence.config.views import VIEWS
from vergence.data import Images, load
from vergence.data.images import unscored
from vergence.engine.evaluate import beside, evaluate, representing
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files.names import path_or_none
from vergence.machine.device import device_of
from vergence.machine.progress import counted
from vergence.machine.randomness import generator
from vergence.machine.threads import two_workers
from vergence.metrics.examination import DELTA, Examination, examine
from vergence.metrics.verdict import Verdict, judge_encoder
from vergence.runs.models import Model
from vergence.runs.pictures import to_score

PICTURES = 10_000
"""Pictures whose representations are looked at; all where there are fewer."""

LOOKED_AT, SEEN = 1_000, 10
"""Pictures whose views are taken, and how many views of each: LiDAR's paper takes as many views of more pictures."""

BATCH = 128

TRANSFORMS = {
    "crop": "half the area, in the middle",
    "flip": "mirrored",
    "jitter": "brightness, contrast and saturation x 1.4, hue turned by 0.1",
    "gray": "without colour",
    "blur": "a Gaussian of 2 pixels",
    "solarize": "above 0.5 inverted",
}
"""What an encoder's invariance is measured to, at which strength."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found of an encoder.

    Attributes:
        name: of the model.
        pictures: what they are called.
        digest: of the pictures that were looked at.
        n: how many those are.
        of: how many there were.
        m: of how many of them `q` views were taken.
        q: see above.
        d: the width of a representation.
        pipeline: of the views, in words.
        verdict: on the encoder, relative to the same network untrained.
        found: its numbers; None where they are not finite.
        untrained: those of the same network with random weights; None where there is none.
        scores: of kNN and a linear classifier, as `engine.evaluate` has them; empty without labels.
        remarks: what had to be assumed, and what is not there, a sentence each.
    """

    name: str
    pictures: str
    digest: str
    n: int
    of: int
    m: int
    q: int
    d: int
    pipeline: str
    verdict: Verdict
    found: Examination | None
    untrained: Examination | None
    scores: dict[str, Any]
    remarks: tuple[str, ...]

    @property
    def protocol(self) -> str:
        """How it was measured, in one sentence."""
        chosen = (
            f"{self.n:,} of {self.of:,} pictures, chosen with seed 0" if self.n < self.of else f"{self.n:,} pictures"
        )
        return (
            f"{chosen}, {self.d:,} dimensions, evaluation mode, float32 features, "
            f"float64 spectra; LiDAR and agreement on {self.q} views each of {self.m:,} of them ({self.pipeline}), "
            f"delta {DELTA:g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, both spectra included."""
        return {
            **vars(self),
            "protocol": self.protocol,
            "verdict": self.verdict._asdict(),
            "found": self.found and self.found._asdict(),
            "untrained": self.untrained and self.untrained._asdict(),
            "transforms": TRANSFORMS,
        }


def diagnose(
    model: Model,
    data: config.Data | Images | None = None,
    *,
    views: config.Views | None = None,
    where: Where = Where(),
    most: int = PICTURES,
) -> Diagnosis:
    """Return what an encoder's representations are like, by the fixed protocol, and a verdict.

    Args:
        model: what `open_model` returns, of a run, a name, a file or a module.
        data: the pictures, with or without labels; None: those that a run was trained on.
        views: the pipeline of the random views; None: that of the run, else the blog's. Size and normalization are the
            model's.
        where: the pictures' folder, and the device.
        most: pictures that are looked at; any other number than `PICTURES` makes a report of its own.

    Raises:
        InputError: there are no pictures, fewer than two, or they are not those of the run.
    """
    device, own = device_of(where.device), model.views
    views = replace(views or own, size=own.size, mean=own.mean, std=own.std, local=config.Local())
    name, images, labelled = _pictures_of(model, data, path_or_none(where.data_dir))
    if len(images) < 2:
        raise InputError(f"{name}: one picture has no spread; a diagnosis needs two, and says little of fewer than 100")
    of, images = len(images), _some(images, most)
    remarks, fresh = [*model.remarks], model.untrained()
    found = _examined(model.encoder, images, views, replace(where, device=device), model.name)
    untrained = None if fresh is None else _examined(fresh, images, views, replace(where, device=device), "untrained")
    if untrained is None:
        why = "has no layer that can be given random weights" if fresh is None else "gives no finite numbers"
        remarks.append(f"nothing to compare with: the network untrained {why}; only what is absolute is judged")
    scores: dict[str, Any] = {}
    if why := "pictures of a program are not divided" if labelled is None else unscored(*labelled):
        remarks.append(f"no kNN and no linear score: {why}")
    elif labelled is not None:
        train, test = (_some(part, most) for part in labelled)
        score = partial(evaluate, where=where, probing=Probing(probes=("knn", "linear")))
        scores = score(model.encoder, train, test, views)
        scores = scores if fresh is None else beside(scores, "untrained", score(fresh, train, test, views))
    m = min(len(images), LOOKED_AT)
    return Diagnosis(
        name=model.name,
        pictures=name,
        digest=images.digest(),
        n=len(images),
        of=of,
        m=m,
        q=SEEN,
        d=model.dim,
        pipeline=_said(views),
        verdict=judge_encoder(found and found.numbers, untrained and untrained.numbers, m, model.dim),
        found=found,
        untrained=untrained,
        scores=scores,
        remarks=tuple(remarks),
    )


def _pictures_of(model: Model, data: Any, data_dir: Any) -> tuple[str, Images, tuple[Images, Images] | None]:
    """Return the name of the pictures, those whose views are cut, and those to fit and to score probes on."""
    if isinstance(data, Images):
        return "pictures of a program", data, None
    if model.run is not None and model.folder is not None:
        data = to_score(model.run, model.folder, data, data_dir)[0].data
    elif data is None:
        raise InputError(f"{model.name}: which pictures? Only a run has its own; name them, as in ./photos")
    else:
        data = replace(data, size=model.views.size)
    images, *labelled = (load(data, split, data_dir=data_dir) for split in ("pretrain", "train", "test"))
    return config.data_name(data), images, (labelled[0], labelled[1])


def _some(images: Images, most: int) -> Images:
    """Return the first `most` pictures of a fixed permutation, in its order."""
    return images.take(torch.randperm(len(images), generator=generator(0, "diagnose"))[:most])


def _said(views: config.Views) -> str:
    """Return the name of a pipeline; without one, that it is the run's own."""
    plain = {name: replace(one, size=views.size, mean=views.mean, std=views.std) for name, one in VIEWS.items()}
    known = next((name for name, one in plain.items() if (one.first, one.second) == (views.first, views.second)), None)
    return "views of its own pipeline" if known is None else f"views: {known}"


def _examined(encoder: nn.Module, images: Images, views: config.Views, where: Where, who: str) -> Examination | None:
    """Return an encoder's numbers on the pictures, and on the views and transforms of the first of them."""
    device = device_of(where.device)
    represent = representing(encoder, device)
    first = images.pixels[: min(len(images), LOOKED_AT)].to(device)
    bare = replace(views, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def seen(what: str, count: int, look: Callable[[slice], Tensor]) -> Tensor:
        def of_block(start: int) -> Tensor:
            return represent(look(slice(start, min(count, start + BATCH)))).cpu()

        blocks = range(0, count, BATCH)
        with two_workers(device) as both:
            return where.group.all_rows(
                blocks, lambda own: both.map(of_block, counted(f"{who}, {what}", own, len(own)))
            )

    def pair(number: int) -> Float[Tensor, "m 2 d"]:
        def look(part: slice) -> Tensor:
            both = two_views(first, images.size, views, generator(0, "diagnose", number), part=part)
            return both.transpose(0, 1).flatten(0, 1)

        return seen(f"views {2 * number + 1} and {2 * number + 2}", len(first), look).unflatten(0, (-1, 2))

    def changed(change: Callable[[Tensor], Tensor]) -> Callable[[slice], Tensor]:
        return lambda part: normalize(change(evaluation_view(first[part], images.size, bare)), views.mean, views.std)

    y = seen("pictures", len(images), lambda part: evaluation_view(images.pixels[part].to(device), images.size, views))
    some = torch.cat([pair(number) for number in range(SEEN // 2)], dim=1)
    ways = _transforms(views.size)
    transformed = {name: seen(name, len(first), changed(way)) for name, way in ways.items()}
    return examine(y, some, y[: len(first)], transformed)


def _transforms(size: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what `TRANSFORMS` names: functions of pictures `[b 3 size size]` in [0, 1]."""

    def all_of(x: Tensor, value: float) -> Tensor:
        return torch.full((len(x),), value)

    def crop(x: Tensor) -> Tensor:
        side = round(size * 0.5**0.5)
        corner, length = (torch.full((len(x),), number) for number in ((size - side) // 2, side))
        return crop_resize(x, corner, corner, length, length, size)

    def recolour(x: Tensor) -> Tensor:
        stronger = all_of(x, 1.4)
        return jitter(x, stronger, stronger, stronger, all_of(x, 0.1), torch.arange(4).expand(len(x), 4))

    return {
        "crop": crop,
        "flip": lambda x: x.flip(3),
        "jitter": recolour,
        "gray": grayscale,
        "blur": lambda x: gaussian_blur(x, all_of(x, 2.0), kernel_size(size)),
        "solarize": solarize,
    }
