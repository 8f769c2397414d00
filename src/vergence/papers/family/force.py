"""What a loss does to embeddings that are nearly a point, or nearly a line: the force on their spread.

Embeddings are z_i = c + s e_i (a point) or z_i = a_i u + s e_i (a line), with e_i and a_i standard normal, c and u unit
vectors, and the two views of a picture apart by 0.3 s. The force is -dL/ds: above 0 it pushes embeddings apart, below
it pulls them together. No network is between: what is measured is the loss, at the embeddings that it sees, with a
method's queue, centre and predictor as they are after many steps on the same embeddings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import config as c
from vergence import methods, presets
from vergence import study as s
from vergence.machine.randomness import generator
from vergence.papers.family import rows

Shape = Literal["point", "line"]

ROW = "restoring force"
SPREADS = tuple(10 ** (-k / 4) for k in range(17))
"""Values of s: 1 to 1e-4."""

APART = 0.3
"""Distance of two views of a picture, in s."""

PICTURES, DIMENSIONS, DRAWS, SETTLE = 256, 128, 2, 64
"""Embeddings in a batch, their dimensions, batches averaged over, and the most steps before the force is measured."""

FEWER = {"queue": 1024, "slices": 64}
"""Settings that are smaller than a method's own: more of them would only average more."""


def embeddings(shape: Shape, spread: float | Tensor, draw: int) -> Float[Tensor, "2 b d 1 1"]:
    """Return two views of embeddings that fill a point, or a line, but for a spread, as pictures of one pixel."""
    drawn = generator(0, "force", draw)
    e, apart = (torch.randn(n, PICTURES, DIMENSIONS, generator=drawn, dtype=torch.float64) for n in (1, 2))
    direction = torch.randn(DIMENSIONS, generator=drawn, dtype=torch.float64)
    direction = direction / direction.norm()
    along = torch.ones(PICTURES, 1).double() if shape == "point" else torch.randn(PICTURES, 1, generator=drawn).double()
    return (along * direction + spread * (e + APART * apart))[..., None, None]


def force(method: c.Method, shape: Shape, spread: float) -> float:
    """Return -dL/ds of a method's loss, the mean over `DRAWS` batches."""
    found = []
    for draw in range(DRAWS):
        built = methods.on_embeddings(method, DIMENSIONS).double().train()
        _settle(built, embeddings(shape, spread, draw))
        s_ = torch.tensor(spread, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(built(embeddings(shape, s_, draw)).loss, s_)
        found.append(-slope.item())
    return sum(found) / len(found)


@torch.no_grad()
def _settle(method: methods.Method, views: Tensor) -> None:
    """Let queue, centre and predictor come to where steps on these embeddings alone bring them."""
    for _ in range(SETTLE):
        before = {name: value.clone() for name, value in method.state_dict().items()}
        method.finish_step(method(views))
        if all(torch.equal(value, before[name]) for name, value in method.state_dict().items()):
            return


@dataclass(frozen=True, kw_only=True)
class Force:
    """The force of one method's loss at every spread, near a point and near a line."""

    kind: ClassVar[str] = "force"
    method: c.Method

    def solve(self, data_dir: Path | None, device: torch.device, view: s.Reporter) -> dict[str, Any]:
        """Return `spread`, and for each shape the force there."""
        shapes: tuple[Shape, ...] = ("point", "line")
        return {"spread": SPREADS, **{shape: [force(self.method, shape, x) for x in SPREADS] for shape in shapes}}


def measured() -> dict[str, c.Method]:
    """Return the methods whose force is measured, as trained on digits, and each without one of its protections.

    A perceptron that predicts says nothing where nothing trains it: p is z there. `FEWER` holds.
    """
    found = {}
    for row, default in rows.METHODS.items():
        method = presets.default(default, c.Digits()).method
        found[row] = method
        found |= {removal.row: removal.without(method) for removal in rows.REMOVALS if removal.method == row}
    return {row: _alone(method) for row, method in found.items()}


def _alone(method: Any) -> c.Method:
    if isinstance(getattr(method, "predictor", None), c.MLPPredictor):
        method = replace(method, predictor=c.NoPredictor())
    fewer = {name: most for name, most in FEWER.items() if getattr(method, name, None)}
    return replace(method, **fewer)


def jobs(scale: s.Scale, place: s.Place) -> s.Plan:
    """Return the measurement of each method's force, by the name of its row."""
    return {
        f"{ROW}: {row}": [s.Work(name=f"{ROW}: {row}", task=Force(method=method), work=0.1)]
        for row, method in measured().items()
    }


# --- the figure -------------------------------------------------------------------------------------------------------


def of(results: s.Results) -> Mapping[str, Mapping[str, Any]]:
    """Return what was measured, by the name of the row."""
    names = {f"{ROW}: {row}": row for row in measured()}
    return {names[name]: found for name, found in s.firsts(results, names).items()}


def figures(results: s.Results) -> Iterator[s.Figure]:
    """Yield the force of every method near a point and near a line, its protections taken away beside it."""
    found = of(results)
    for shape in ("point", "line"):
        panels = [panel for row in rows.METHODS if (panel := _panel(row, shape, found))]
        if panels:
            yield s.Figure(
                f"force-{shape}",
                f"The force near a {shape}",
                f"-dL/ds of embeddings that fill a {shape} but for a spread s: solid where the loss pushes them apart, "
                "dotted where it pulls them together; its size, on logarithmic axes. Beside each method, the same "
                "without each of its protections. Batches of 256 embeddings in 128 dimensions, views apart by 0.3 s, "
                "no network; where a perceptron would predict, p is z.",
                s.Panels(tuple(panels), 3),
            )


def _panel(row: str, shape: str, found: Mapping[str, Mapping[str, Any]]) -> s.Panel | None:
    names = [row, *(removal.row for removal in rows.REMOVALS if removal.method == row)]
    curves = [
        curve
        for colour, name in enumerate(names)
        if name in found
        for curve in _signed(name.removeprefix(f"{row}, ") if colour else "whole", found[name], shape, colour)
    ]
    return s.Panel(title=row, x="s", y="|dL/ds|", curves=tuple(curves), log=True, log_x=True) if curves else None


def _signed(name: str, measured: Mapping[str, Any], shape: str, colour: int) -> Iterator[s.Curve]:
    """Yield the stretches of one sign, each a curve."""
    points = list(zip(measured["spread"], measured[shape], strict=True))
    stretch: list[tuple[float, float]] = []
    for x, force in [*points, (0.0, float("nan"))]:
        if stretch and (force > 0) != (stretch[-1][1] > 0):
            yield _stretch(name, stretch, colour)
            stretch = []
        if force:
            stretch.append((x, force))


def _stretch(name: str, points: Sequence[tuple[float, float]], colour: int) -> s.Curve:
    apart = points[0][1] > 0
    return s.Curve.through(name, [(x, abs(force)) for x, force in points], colour, "solid" if apart else "dotted")
