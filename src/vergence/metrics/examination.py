"""Every number of an encoder's diagnosis, with its variant, range and meaning, in one table.

The terminal, the page, the JSON and docs/metrics.md read the table; `examine` computes it.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import losses
from vergence.metrics import collapse, diagnosis

NEIGHBOURS = 10
"""Nearest pictures by which two views are compared."""

DELTA = 1e-4
"""LiDAR's: as its authors have it, and as a share of the mean variance within pictures."""

KINDS = {
    "not centred": "The mean is not taken away: these see a collapse to a point, and take noise for rank.",
    "centred": "The mean is taken away: these count directions, and call a collapse to a point healthy.",
    "net of noise": "What differs among views of one picture is taken away: the rank of what tells pictures apart.",
    "two views": "How far two random views of a picture agree. No labels are needed.",
    "units": "Single dimensions, and norms.",
}
"""The groups of numbers, and what must be known of each: a diagnosis needs one of each of the first three."""


class Measure(NamedTuple):
    """What a number is.

    Attributes:
        name: its key.
        label: what it is called.
        kind: its group, one of `KINDS`.
        variant: how it is computed; under one name papers and libraries differ.
        range: its lowest and highest value, in words.
        reading: how to read it.
        compute: it, of representations `[n d]` and of views `[m q d]`; a ValueError where they are too few.
    """

    name: str
    label: str
    kind: str
    variant: str
    range: str
    reading: str
    compute: Callable[[Tensor, Tensor], Tensor | float]


# fmt: off
MEASURES = {measure.name: measure for measure in (
    Measure("rankme", "RankMe", "not centred",
            "exp of the entropy of the singular values' shares, each + 1e-7 (arXiv 2210.02885)", "1 to min(n, d)",
            "Directions, those of noise included; 1 at collapse to a point.",
            lambda y, views: diagnosis.rankme(y)),
    Measure("stable_rank", "stable rank", "not centred", "sum s² / s₁² of the singular values s", "1 to min(n, d)",
            "1 at collapse to a point, and where one direction is far stronger than the others.",
            lambda y, views: diagnosis.stable_rank(y)),
    Measure("mean_cosine", "mean cosine", "not centred", "mean cosine of two different pictures", "-1/(n-1) to 1",
            "1 at collapse to a point; a mean that all pictures share brings it near 1 too.",
            lambda y, views: diagnosis.mean_cosine(y)),
    Measure("std", "std", "not centred",
            "√d times the mean over dimensions of the std of unit vectors (SimSiam plots it without √d)", "0 to 1",
            "0 at collapse to a point, about 1 on the whole sphere.",
            lambda y, views: collapse.feature_std(y.double())),
    Measure(losses.uniformity.__name__, "uniformity", "not centred",
            "ln of the mean of exp(-2 |u - u'|²) over different pictures, u unit (arXiv 2005.10242)", "-8 to 0",
            "0 at collapse to a point; it hardly sees that dimensions collapse.",
            lambda y, views: losses.uniformity(y)),
    Measure("participation_ratio", "participation ratio", "centred",
            "(sum l)² / sum l² of the covariance's eigenvalues l", "1 to min(n-1, d)",
            "Directions that hold most of the variance.",
            lambda y, views: diagnosis.participation_ratio(y)),
    Measure("nesum", "NESum", "centred", "sum l / l₁, not divided by d (He & Ozay, ICML 2022)", "1 to min(n-1, d)",
            "The variance in units of the strongest direction's.",
            lambda y, views: diagnosis.nesum(y)),
    Measure("alpha", "alpha-ReQ", "centred",
            "fit of ln lᵢ on -ln i with weights 1/i, i from 11 to 100 or the last (NeurIPS 2022)", "at least 0",
            "The i-th eigenvalue is about i^-alpha; its paper claims about 1 for good features.",
            lambda y, views: diagnosis.alpha_req(y).alpha),
    Measure("alpha_r2", "R² of alpha-ReQ", "centred", "weighted as the fit", "0 to 1",
            "Well below 1 the eigenvalues follow no power law, and alpha means little.",
            lambda y, views: diagnosis.alpha_req(y).r2),
    Measure("explained_variance_auc", "AUC of explained variance", "centred",
            "mean over k of the share of the first k singular values, not squared (arXiv 2209.15007)", "0.5 to 1",
            "0.5 where all directions are alike, 1 for a line.",
            lambda y, views: diagnosis.explained_variance_auc(y)),
    Measure("centred_rank", "centred rank", "centred",
            "exp of the entropy of the singular values of centred rows, made unit", "1 to min(n-1, d)",
            "The rank that the verdict on a training run reads.",
            lambda y, views: collapse.centred_rank(y)),
    Measure("lidar", "LiDAR", "net of noise",
            f"exp of the entropy of eigenvalues of S_w^-½ S_b S_w^-½, delta {DELTA:g} on S_w's diagonal "
            "(arXiv 2312.04000)", "1 to min(m-1, d)",
            "Directions that tell pictures apart. Where views differ by far less than delta it is a rank of means.",
            lambda y, views: diagnosis.lidar(views, DELTA)),
    Measure("lidar_relative", "LiDAR, relative delta", "net of noise",
            f"the same, delta {DELTA:g} of the mean of S_w's diagonal", "1 to min(m-1, d)",
            "Does not depend on the scale: where the two differ, read this one.",
            lambda y, views: diagnosis.lidar(views, DELTA, relative=True)),
    Measure(losses.alignment.__name__, "alignment of views", "two views",
            "mean |u - u'|² of two views, u unit (arXiv 2005.10242)", "0 to 4", "Lower is closer; 0 at collapse too.",
            lambda y, views: losses.alignment(views[:, 0], views[:, 1])),
    Measure("agreement", "agreement", "two views", "mean cosine of two views, each view's mean taken away", "-1 to 1",
            "How much a view tells of which picture it is of.",
            lambda y, views: collapse.centred_agreement(views[:, 0], views[:, 1])),
    Measure("neighbour_agreement", "neighbour agreement", "two views",
            f"share of the {NEIGHBOURS} nearest pictures, by cosine, that two views have in common", "0 to 1",
            f"{NEIGHBOURS}/(m-1) by chance.",
            lambda y, views: diagnosis.neighbour_agreement(views[:, 0], views[:, 1], NEIGHBOURS)),
    Measure("dead_dimensions", "dead units", "units", "share of dimensions with a std below 1e-6 of the largest",
            "0 to 1", "Units that never move.",
            lambda y, views: diagnosis.dead_dimensions(y)),
    Measure("norm_spread", "norm spread", "units", "std of the norms over their mean", "0 to √(n-1)",
            "0 where all representations have the same norm.",
            lambda y, views: diagnosis.norm_spread(y)),
)}
# fmt: on


class Examination(NamedTuple):
    """An encoder's numbers.

    Attributes:
        numbers: by their names in `MEASURES`; None where there are too few pictures or dimensions for one.
        invariance: `diagnosis.invariance` by the name of the transform.
        singular_values: of the representations as they are, the largest first.
        eigenvalues: of their covariance, the largest first.
    """

    numbers: dict[str, float | None]
    invariance: dict[str, float]
    singular_values: list[float]
    eigenvalues: list[float]


def examine(
    y: Float[Tensor, "n d"],
    views: Float[Tensor, "m q d"],
    plain: Float[Tensor, "m d"],
    transformed: Mapping[str, Float[Tensor, "m d"]],
) -> Examination | None:
    """Return an encoder's numbers; None where a representation is not finite.

    Args:
        y: representations of two pictures or more.
        views: of two random views or more of m of them.
        plain: of those m pictures as they are.
        transformed: of those m pictures transformed, by the transform's name.
    """
    if not all(bool(z.isfinite().all()) for z in (y, views, plain, *transformed.values())):
        return None
    whole = y.double()
    return Examination(
        {name: _number(measure, y, views) for name, measure in MEASURES.items()},
        {name: diagnosis.invariance(plain, z).item() for name, z in transformed.items()},
        torch.linalg.svdvals(whole).tolist(),
        (torch.linalg.svdvals(whole - whole.mean(0)).square() / (len(y) - 1)).tolist(),
    )


def _number(measure: Measure, y: Tensor, views: Tensor) -> float | None:
    try:
        return float(measure.compute(y, views))
    except ValueError:  # of the function, where it is given too few
        return None
