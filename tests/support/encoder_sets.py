"""Representations of five encoders by which numbers are compared, and their table in docs/metrics.md.

python tests/support/encoder_sets.py docs/metrics.md    # writes the table with the values that are computed now
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vergence import losses
from vergence.metrics import diagnosis as d
from vergence.metrics.examination import MEASURES, examine
from vergence.metrics.verdict import judge_encoder

N, Q, D = 500, 10, 64


def made() -> Iterator[tuple[str, np.ndarray]]:
    """Representations [n q d] of five encoders, from one generator: their names in the table of reference values."""
    draw = np.random.default_rng(0).standard_normal

    def views(pictures: np.ndarray) -> np.ndarray:
        return pictures[:, None] + 0.3 * draw((N, Q, D))

    yield "isotropic", views(draw((N, D)))
    few, directions = draw((N, 8)), np.linalg.qr(draw((D, 8)))[0]
    yield "8 directions", views(few @ directions.T * np.sqrt(8))
    yield "power law", views(3 * draw((N, D)) * np.arange(1, D + 1) ** -0.5)
    yield "common direction", views(draw((N, D))) + 4
    yield "collapsed", 1 + 1e-3 * draw((N, D))[:, None] + 1e-3 * draw((N, Q, D))


SETS = {name: torch.from_numpy(views) for name, views in made()}

NOISY = SETS["isotropic"][:, :1] + torch.randn(N, Q, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
"""What the five are judged beside: pictures differ in all directions, and views of one picture by as much."""

COLUMNS = (
    "rankme",
    "participation_ratio",
    "nesum",
    "alpha",
    "explained_variance_auc",
    "lidar",
    "alignment",
    "uniformity",
)


def measured(views: Tensor) -> dict[str, float]:
    y, other = views[:, 0], views[:, 1]
    found = {name: float(getattr(d, name)(y)) for name in COLUMNS[:3]} | {"alpha": d.alpha_req(y).alpha}
    found |= {"explained_variance_auc": float(d.explained_variance_auc(y)), "lidar": float(d.lidar(views))}
    return found | {"alignment": float(losses.alignment(y, other)), "uniformity": float(losses.uniformity(y))}


BEGIN, END = "<!-- encoders: begin -->", "<!-- encoders: end -->"


def written() -> str:
    """Return the table of docs/metrics.md: each number of each set, and the verdict beside `NOISY`."""
    found = {name: numbers_of(views) for name, views in SETS.items()}
    untrained = numbers_of(NOISY)
    lines = ["| kind | number | " + " | ".join(found) + " |", "|---" * (2 + len(found)) + "|"]
    for name, measure in MEASURES.items():
        values = " | ".join(f"{numbers[name]:z.3f}" for numbers in found.values())
        lines.append(f"| {measure.kind} | {measure.label} | {values} |")
    states = (judge_encoder(numbers, untrained, N, D).state for numbers in found.values())
    lines.append(f"| | **verdict** | {' | '.join(f'**{state}**' for state in states)} |")
    return "\n".join([BEGIN, *lines, END])


def numbers_of(views: Tensor) -> dict[str, float | None]:
    """Return all numbers of a set, with the first view of each picture for the picture itself."""
    found = examine(views[:, 0], views, views[:, 0], {})
    assert found is not None
    return found.numbers


if __name__ == "__main__":
    page = Path(sys.argv[1])
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + written() + rest.partition(END)[2])
