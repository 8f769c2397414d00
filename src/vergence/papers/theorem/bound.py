"""Theorem 4.1 of the RAFT paper: BYOL's loss is bounded by BYOL', on every batch, for any weights of its two terms.

With unit vectors p (predictions) and z' (targets), p_1 - z'_2 = (p_1 - p_2) + (p_2 - z'_2). Taking squared norms, with
2 |u| |v| <= |u|^2 / r + r |v|^2 for any r > 0 and r = beta / alpha (Appendix G, Eq. 12 to 14),

    |p_1 - z'_2|^2 <= (1/alpha + 1/beta) (alpha |p_1 - p_2|^2 + beta |p_2 - z'_2|^2).

Averaged over pictures and both directions: half of BYOL's loss on the left, alignment a and cross-model distance c on
the right. Only r matters: the right side is (1 + 1/r) a + (1 + r) c, least at r* = sqrt(a / c), where it is
(sqrt(a) + sqrt(c))^2. So the bound holds for all weights where it holds at r*.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import NamedTuple

from vergence import config as c
from vergence import study as s
from vergence.presets import preset

ROWS = ("BYOL-MLPP", "BYOL-LP", "BYOL-NP")
Weights = tuple[float, float]
WEIGHTS: tuple[Weights, ...] = ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (1.0, 10.0), (10.0, 1.0))
"""Pairs (alpha, beta)."""

ROUNDING = 1e-6
"""The error of a squared distance 2 - 2 cos in float32: a cosine near 1 to a few times 2^-24, and the sum over a
hundred dimensions adds a few more."""

POINTS = 200
"""Most points of a curve."""


class Batch(NamedTuple):
    """One step: its epoch, one direction of BYOL's loss, alignment, cross-model distance; each distance in [0, 4]."""

    epoch: float
    byol: float
    alignment: float
    cross: float


def bound(alignment: float, cross: float, alpha: float, beta: float) -> float:
    """Return the right side of Theorem 4.1, at least 0."""
    return (1 / alpha + 1 / beta) * (alpha * alignment + beta * cross)


def tightest(alignment: float, cross: float) -> float:
    """Return the least right side over all alpha, beta > 0: (sqrt(a) + sqrt(c))^2, at least 0."""
    return (math.sqrt(max(0.0, alignment)) + math.sqrt(max(0.0, cross))) ** 2


def best_ratio(alignment: float, cross: float) -> float | None:
    """Return the beta / alpha that makes the bound tightest, sqrt(a / c); None where a distance is rounding."""
    return math.sqrt(alignment / cross) if min(alignment, cross) > ROUNDING else None


def right(batch: Batch, weights: Weights | None, known_to: float = 0.0) -> float:
    """Return the right side for these weights, None for the best; at the largest distances that `known_to` allows."""
    distances = batch.alignment + known_to, batch.cross + known_to
    return tightest(*distances) if weights is None else bound(*distances, *weights)


def excess(batch: Batch, weights: Weights | None) -> float:
    """Return by how much the left side exceeds the right when each distance is off by `ROUNDING` against the theorem.

    The best weights need this most: next to c = 0 an error e of c moves their right side by 2 sqrt(a e).
    """
    return batch.byol - ROUNDING - right(batch, weights, ROUNDING)


def ratio(batch: Batch, weights: Weights | None) -> float | None:
    """Return left over right, in [0, 1]; None where the right side is mostly rounding."""
    above = right(batch, weights)
    return batch.byol / above if above > 100 * ROUNDING else None


def batches(result: s.Result) -> list[Batch]:
    """Return the logged steps of a run of BYOL."""
    scale = result.run.method.scale if isinstance(result.run.method, c.BYOL) else 1.0
    return [
        Batch(line["epoch"], line["loss"] / (2 * scale), line["alignment"], line["cross_model"])
        for line in result.lines
        if line.get("cross_model") is not None
    ]


# --- the page ---------------------------------------------------------------------------------------------------------


def document() -> dict[str, c.Run]:
    """Return the paper's runs."""
    return {name: preset("raft", name, c.CIFAR10()) for name in ROWS}


class Seed(NamedTuple):
    """The steps of one run, to be seen beside the bound with these weights; None for the best of each step."""

    run: c.Run
    batches: Sequence[Batch]
    weights: Weights | None = None

    @property
    def ratios(self) -> list[float]:
        return [value for batch in self.batches if (value := ratio(batch, self.weights)) is not None]


def _known(results: s.Results) -> dict[str, list[Seed]]:
    """Return the runs that logged what the bound needs, for each row that has any."""
    seen = {name: [Seed(r.run, found) for r in results.get(name, ()) if (found := batches(r))] for name in ROWS}
    return {name: seeds for name, seeds in seen.items() if seeds}


def _named(weights: Weights | None) -> str:
    known = "the best (alpha, beta) of each step"
    return known if weights is None else f"(alpha, beta) = ({weights[0]:g}, {weights[1]:g})"


def _counted(name: str, about: str, of: Callable[[Batch, Weights | None], bool]) -> s.Cell:
    """Return the column of how many steps, of all seeds, something holds."""

    def count(_: str, seeds: Sequence[Seed]) -> s.Value:
        return s.Value(mean=sum(of(b, seed.weights) for seed in seeds for b in seed.batches), n=len(seeds))

    return s.Cell(name, count, 0, about)


def _largest(_: str, seeds: Sequence[Seed]) -> s.Value:
    return s.Value(mean=max((value for seed in seeds for value in seed.ratios), default=None), n=len(seeds))


def _best(_: str, seeds: Sequence[Seed]) -> str:
    best = [value for seed in seeds for b in seed.batches if (value := best_ratio(b.alignment, b.cross)) is not None]
    return f"{median(best):.2f}" if seeds[0].weights is None and best else ""


UNEXPLAINED = f"of them, those that distances off by {ROUNDING:g} do not explain"
COLUMNS = (
    _counted("steps", "logged steps, all seeds", lambda batch, weights: True),
    _counted(
        "left > right", "steps where the numbers as logged violate the theorem", lambda b, w: b.byol > right(b, w)
    ),
    _counted("beyond rounding", UNEXPLAINED, lambda batch, weights: excess(batch, weights) > 0),
    s.Cell("largest ratio", _largest, 4, "left / right, where the right side is above 1e-4"),
    s.Measure("mean ratio", lambda seed: fmean(seed.ratios) if seed.ratios else None, 4),
    s.Cell("median beta/alpha", _best, 2, "that makes the bound tightest"),
)


def tables(results: s.Results) -> Iterator[s.Table]:
    """Yield the table of each row beside each choice of weights."""
    rows = {
        f"{name}, {_named(weights)}": [seed._replace(weights=weights) for seed in seeds]
        for name, seeds in _known(results).items()
        for weights in (*WEIGHTS, None)
    }
    note = (
        "Left: half of BYOL's loss. Right: (1/alpha + 1/beta)(alpha alignment + beta cross-model). Float32, as logged."
    )
    if rows:
        yield s.make_table("bound", "Theorem 4.1 on every step", COLUMNS, rows, note)


def figures(results: s.Results) -> Iterator[s.Figure]:
    """Yield the figure of how tight the bound is, step by step."""
    known = {name: seeds[0].batches for name, seeds in _known(results).items()}
    known = {name: seen[:: math.ceil(len(seen) / POINTS)] for name, seen in known.items()}
    if not known:
        return

    def panel(title: str, y: str, value: Callable[[Batch], float | None], *, log: bool = False) -> s.Panel:
        points = {name: [(b.epoch, v) for b in seen if (v := value(b)) is not None] for name, seen in known.items()}
        curves = tuple(s.Curve.through(name, points[name], number) for number, name in enumerate(points))
        return s.Panel(title=title, x="epoch", y=y, curves=curves, log=log)

    panels = (
        panel("alpha = beta = 1", "left / right", lambda b: ratio(b, (1.0, 1.0))),
        panel("best alpha, beta of the step", "left / right", lambda b: ratio(b, None)),
        panel(
            "best beta / alpha: √(alignment / cross-model)",
            "beta / alpha",
            lambda b: best_ratio(b.alignment, b.cross),
            log=True,
        ),
    )
    caption = (
        "How much of its bound BYOL's loss fills, step by step, for the first seed of each predictor: 1 would be "
        "equality. Left with equal weights, in the middle with the weights that make each step's bound tightest, which "
        "are on the right. Steps whose right side is rounding are left out."
    )
    yield s.Figure("bound-course", "How tight Theorem 4.1 is", caption, s.Panels(panels, across=3))


def _judge(results: s.Results) -> s.Judged:
    known, outcomes, said = _known(results), [], []
    for name in ROWS:
        every = [batch for seed in known.get(name, ()) for batch in seed.batches]
        worst = max((excess(b, weights) for b in every for weights in (*WEIGHTS, None)), default=None)
        outcomes.append(s.is_at_most(worst, 0.0))
        strict = sum(any(b.byol > right(b, w) for w in (*WEIGHTS, None)) for b in every)
        fullest = max((v for b in every if (v := ratio(b, None)) is not None), default=None)
        said.append(
            f"{name}: {len(every)} steps, {strict} above the bound as logged, "
            f"{sum(any(excess(b, w) > 0 for w in (*WEIGHTS, None)) for b in every)} beyond rounding"
            + ("" if fullest is None else f", at most {fullest:.4f} of the tightest bound")
            if every
            else f"{name}: not run"
        )
    return s.all_hold(outcomes), "; ".join(said) + "."


CLAIMS = (
    s.Claim(
        "bound",
        "BYOL's loss is at most (1/alpha + 1/beta) times BYOL' on every batch, for any alpha, beta > 0",
        s.Check(_judge),
        "RAFT, Theorem 4.1 and Appendix G",
        f"At {len(WEIGHTS)} pairs (alpha, beta) and at the best pair of each step, which covers all others, the left "
        f"side stays below the right one when each of the three distances may be off by {ROUNDING:g}, as in float32.",
    ),
)
