"""Theorem 4.1 of the RAFT paper: BYOL's loss is bounded by BYOL', on every batch, for any weights of its two terms.

With unit vectors p (predictions) and z' (targets), p_1 - z'_2 = (p_1 - p_2) + (p_2 - z'_2). Taking squared norms, with
2 |u| |v| <= |u|^2 / r + r |v|^2 for any r > 0 and r = beta / alpha (Appendix G, Eq. 12 to 14),

    |p_1 - z'_2|^2 <= (1/alpha + 1/beta) (alpha |p_1 - p_2|^2 + beta |p_2 - z'_2|^2).

Averaged over pictures and both directions: half of BYOL's loss on the left, alignment a and cross-model distance c on
the right. Only r matters: the right side is (1 + 1/r) a + (1 + r) c, least at r* = sqrt(a / c), where it is
(sqrt(a) + sqrt(c))^2. So the bound holds for all weights where it holds at r*.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any, NamedTuple

from vergence import config as c
from vergence.experiments.experiment import Place, Rows, Scale, over_seeds
from vergence.experiments.judging import all_of, is_at_most
from vergence.files.results import Result
from vergence.presets import preset
from vergence.report.content import Column, Curve, Figure, Finding, Outcome, Panel, Panels, Row, Table, Value

ROWS = ("BYOL-MLPP", "BYOL-LP", "BYOL-NP")
WEIGHTS = ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (1.0, 10.0), (10.0, 1.0))
"""Pairs (alpha, beta)."""

ROUNDING = 1e-6
"""How well a squared distance 2 - 2 cos is known in float32: a cosine near 1 to a few times 2^-24, and the sum over a
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
    """The right side of Theorem 4.1, at least 0."""
    return (1 / alpha + 1 / beta) * (alpha * alignment + beta * cross)


def tightest(alignment: float, cross: float) -> float:
    """The least right side over all alpha, beta > 0: (sqrt(a) + sqrt(c))^2, at least 0."""
    return (math.sqrt(max(0.0, alignment)) + math.sqrt(max(0.0, cross))) ** 2


def best_ratio(alignment: float, cross: float) -> float | None:
    """The beta / alpha that makes the bound tightest, sqrt(a / c); None where a distance is rounding."""
    return math.sqrt(alignment / cross) if min(alignment, cross) > ROUNDING else None


def right(batch: Batch, weights: tuple[float, float] | None, known_to: float = 0.0) -> float:
    """The right side for weights (alpha, beta), None for the best; at the largest distances that `known_to` allows."""
    distances = batch.alignment + known_to, batch.cross + known_to
    return tightest(*distances) if weights is None else bound(*distances, *weights)


def excess(batch: Batch, weights: tuple[float, float] | None) -> float:
    """By how much the left side exceeds the right when each distance is off by `ROUNDING` against the theorem.

    The best weights need this most: next to c = 0 an error e of c moves their right side by 2 sqrt(a e).
    """
    return batch.byol - ROUNDING - right(batch, weights, ROUNDING)


def ratio(batch: Batch, weights: tuple[float, float] | None) -> float | None:
    """Left over right, in [0, 1]; None where the right side is mostly rounding."""
    above = right(batch, weights)
    return batch.byol / above if above > 100 * ROUNDING else None


def batches(result: Result) -> list[Batch]:
    """The logged steps of a run of BYOL."""
    scale = result.run.method.scale if isinstance(result.run.method, c.BYOL) else 1.0
    return [
        Batch(line["epoch"], line["loss"] / (2 * scale), line["alignment"], line["cross_model"])
        for line in result.lines
        if line.get("cross_model") is not None
    ]


# --- the experiment ---------------------------------------------------------------------------------------------------


def document() -> dict[str, c.Run]:
    """The paper's runs."""
    return {name: preset("raft", name, c.CIFAR10()) for name in ROWS}


def runs(scale: Scale) -> dict[str, c.Run]:
    return {name: replace(scale.apply(run), epochs=scale.long) for name, run in document().items()}


def jobs(scale: Scale, place: Place) -> Rows:
    return over_seeds(runs(scale), scale, place, log_every=1)


def _known(results: Mapping[str, Sequence[Any]]) -> dict[str, list[list[Batch]]]:
    """For each row that has been run, the batches of each seed."""
    seen = {name: [found for r in results.get(name, ()) if (found := batches(r))] for name in ROWS}
    return {name: runs_of_row for name, runs_of_row in seen.items() if runs_of_row}


def _named(weights: tuple[float, float] | None) -> str:
    return (
        "the best (alpha, beta) of each step"
        if weights is None
        else f"(alpha, beta) = ({weights[0]:g}, {weights[1]:g})"
    )


def tables(results: Mapping[str, Sequence[Any]]) -> list[Table]:
    rows = []
    for name, seeds in _known(results).items():
        keys = tuple(r.run.key for r in results[name])
        every = [batch for of_seed in seeds for batch in of_seed]
        for weights in (*WEIGHTS, None):
            ratios = [[v for b in of_seed if (v := ratio(b, weights)) is not None] for of_seed in seeds]
            best = [v for b in every if (v := best_ratio(b.alignment, b.cross)) is not None]
            cells: dict[str, Value | str] = {
                "steps": Value(mean=len(every), n=len(seeds)),
                "left > right": Value(mean=sum(b.byol > right(b, weights) for b in every), n=len(seeds)),
                "beyond rounding": Value(mean=sum(excess(b, weights) > 0 for b in every), n=len(seeds)),
                "largest ratio": Value(mean=max((v for of in ratios for v in of), default=None), n=len(seeds)),
                "mean ratio": Value.over([fmean(of) if of else None for of in ratios]),
                "median beta/alpha": f"{median(best):.2f}" if weights is None and best else "",
            }
            rows.append(Row(f"{name}, {_named(weights)}", cells, keys))
    columns = (
        Column("steps", 0, "logged steps, all seeds"),
        Column("left > right", 0, "steps where the numbers as logged violate the theorem"),
        Column("beyond rounding", 0, f"of them, those that distances off by {ROUNDING:g} do not explain"),
        Column("largest ratio", 4, "left / right, where the right side is above 1e-4"),
        Column("mean ratio", 4),
        Column("median beta/alpha", 2, "that makes the bound tightest"),
    )
    note = (
        "Left: half of BYOL's loss. Right: (1/alpha + 1/beta)(alpha alignment + beta cross-model). Float32, as logged."
    )
    return [Table("bound", "Theorem 4.1 on every step", columns, tuple(rows), note)] if rows else []


def _thinned(batches_of_run: Sequence[Batch]) -> Sequence[Batch]:
    return batches_of_run[:: max(1, math.ceil(len(batches_of_run) / POINTS))]


def figures(results: Mapping[str, Sequence[Any]]) -> list[Figure]:
    known = {name: _thinned(seeds[0]) for name, seeds in _known(results).items()}
    if not known:
        return []

    def curves(value: Any) -> tuple[Curve, ...]:
        points = {name: [(b.epoch, v) for b in seen if (v := value(b)) is not None] for name, seen in known.items()}
        return tuple(
            Curve(name=name, x=[x for x, _ in of_row], y=[y for _, y in of_row], colour=number)
            for number, (name, of_row) in enumerate(points.items())
        )

    panels = (
        Panel(title="alpha = beta = 1", x="epoch", y="left / right", curves=curves(lambda b: ratio(b, (1.0, 1.0)))),
        Panel(
            title="best alpha, beta of the step", x="epoch", y="left / right", curves=curves(lambda b: ratio(b, None))
        ),
        Panel(
            title="best beta / alpha: √(alignment / cross-model)",
            x="epoch",
            y="beta / alpha",
            curves=curves(lambda b: best_ratio(b.alignment, b.cross)),
            log=True,
        ),
    )
    caption = (
        "How much of its bound BYOL's loss fills, step by step, for the first seed of each predictor: 1 would be "
        "equality. Left with equal weights, in the middle with the weights that make each step's bound tightest, which "
        "are on the right. Steps whose right side is rounding are left out."
    )
    return [Figure("bound-course", "How tight Theorem 4.1 is", caption, Panels(panels, across=3))]


def findings(results: Mapping[str, Sequence[Any]]) -> list[Finding]:
    known = _known(results)
    outcomes: list[Outcome] = []
    said = []
    for name in ROWS:
        every = [batch for of_seed in known.get(name, ()) for batch in of_seed]
        worst = max((excess(b, weights) for b in every for weights in (*WEIGHTS, None)), default=None)
        outcomes.append(is_at_most(Value(mean=worst), Value(mean=0.0)))
        strict = sum(any(b.byol > right(b, w) for w in (*WEIGHTS, None)) for b in every)
        fullest = max((v for b in every if (v := ratio(b, None)) is not None), default=None)
        said.append(
            f"{name}: {len(every)} steps, {strict} above the bound as logged, "
            f"{sum(any(excess(b, w) > 0 for w in (*WEIGHTS, None)) for b in every)} beyond rounding"
            + ("" if fullest is None else f", at most {fullest:.4f} of the tightest bound")
            if every
            else f"{name}: not run"
        )
    return [
        Finding(
            "bound",
            "BYOL's loss is at most (1/alpha + 1/beta) times BYOL' on every batch, for any alpha, beta > 0",
            "RAFT, Theorem 4.1 and Appendix G",
            all_of(*outcomes),
            "; ".join(said) + ".",
            f"At {len(WEIGHTS)} pairs (alpha, beta) and at the best pair of each step, which covers all others, the "
            f"left side stays below the right one when each of the three distances may be off by {ROUNDING:g}, as in "
            "float32.",
        )
    ]
