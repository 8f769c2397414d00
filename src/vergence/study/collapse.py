"""Checks of collapse: whether a row ends with one representation for all pictures, and whether it found its way out."""

from collections.abc import Callable

from vergence.files.results import Result
from vergence.metrics.verdict import COLLAPSED_COSINE, COLLAPSED_STD
from vergence.report.measures import Results, listed, logged
from vergence.study.checks import (
    Check,
    Judged,
    above,
    all_hold,
    any_of,
    at_most,
    fewest_steps,
    holds_if,
    reversed_outcome,
)

COSINE, SPREAD = logged("neg_cos", "negative cosine at the end"), logged("z_std", "spread")
IS_COLLAPSED = f"collapsed: cosine at least {COLLAPSED_COSINE:g}, or spread at most {COLLAPSED_STD:g}, over an epoch"


def collapses(row: str) -> Check:
    """Return the check that different pictures have one projection in the last epoch, in a row's runs.

    Either their cosine with the target's projections says so or their spread: the target's may lie elsewhere.
    """
    check = any_of(above(COSINE, row, COLLAPSED_COSINE), at_most(SPREAD, row, COLLAPSED_STD))
    return Check(check.telling(tells_collapse(row)).judge, IS_COLLAPSED, (row,))


def recovers(row: str, least: int) -> Check:
    """Return the check that a row spends an epoch collapsed, in every seed, and is not collapsed at the end.

    A run of fewer steps than `least` that is collapsed at the end decides nothing: there is still time to recover.
    """
    at_the_end = collapses(row)

    def judged(results: Results) -> Judged:
        outcome, numbers = at_the_end.judge(results)
        if outcome == "holds" and fewest_steps(results, [row]) < least:
            return "not decided", numbers
        ever = all_hold(holds_if(bool(collapsed_epochs(result))) for result in results.get(row, ()))
        return all_hold([ever, reversed_outcome(outcome)]), numbers

    return Check(judged, f"{IS_COLLAPSED}; recovered: so for an epoch, and not at the end", (row,))


def collapsed_epochs(result: Result) -> list[int]:
    """Return the epochs of a run in which it was collapsed, on the mean of their log lines."""
    cosines, spreads = (result.by_epoch(measure.metric) for measure in (COSINE, SPREAD))
    return [epoch for epoch in cosines if cosines[epoch] >= COLLAPSED_COSINE or spreads[epoch] <= COLLAPSED_STD]


def tells_collapse(*rows: str) -> Callable[[Results], str]:
    """Return a function that writes in one sentence how long each row was collapsed, and how it ends."""

    def told(results: Results) -> str:
        parts = []
        for row in rows:
            spent = ", ".join(f"{len(collapsed_epochs(r))} of {r.run.epochs} epochs" for r in results.get(row, ()))
            end = listed([(measure.name, measure.of(results, row)) for measure in (COSINE, SPREAD)], 3)
            parts.append(f"{row}: collapsed in {spent}, {end}" if spent else f"{row}: not run")
        return "; ".join(parts)

    return told
