"""Checks of results: each yields an outcome, the numbers it rests on and its rule, together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from vergence.files.results import Result
from vergence.metrics.verdict import COLLAPSED_COSINE, COLLAPSED_STD
from vergence.report.content import Finding, Outcome, Value
from vergence.report.measures import Measure, Results, first_epoch, listed, logged, steps

Judged = tuple[Outcome, str]
"""An outcome, and the numbers it rests on in one sentence."""

Rows = str | Sequence[str]
"""The name of a row, or several."""


@dataclass(frozen=True)
class Check:
    """A question to results.

    Attributes:
        judge: the outcome, and the numbers it rests on.
        rule: how the outcome follows from the numbers, in one sentence.
        rows: whose results it reads.
    """

    judge: Callable[[Results], Judged]
    rule: str = ""
    rows: tuple[str, ...] = ()

    def outcome(self, results: Results) -> Outcome:
        """Return whether it holds."""
        return self.judge(results)[0]

    def numbers(self, results: Results) -> str:
        """Return the numbers that it rests on."""
        return self.judge(results)[1]

    def telling(self, *numbers: Callable[[Results], str]) -> "Check":
        """Return the check with other numbers in its sentence, such as those of `Measure.tells`."""
        return replace(
            self, judge=lambda results: (self.outcome(results), "; ".join(tell(results) for tell in numbers))
        )


@dataclass(frozen=True)
class Claim:
    """A statement of a document, and how it is checked.

    Attributes:
        slug: its name.
        text: what the document says.
        check: the check.
        source: where the document says so.
        rule: how the outcome follows from the numbers; empty: as the check says.
    """

    slug: str
    text: str
    check: Check
    source: str
    rule: str = ""

    def judge(self, results: Results) -> Finding:
        """Return the finding on these results."""
        outcome, numbers = self.check.judge(results)
        return Finding(self.slug, self.text, self.source, outcome, numbers, self.rule or self.check.rule)


# --- from numbers to outcomes -----------------------------------------------------------------------------------------


Number = Value | float | None
"""What is compared: a value with its noise, a number without any, or None where a number is missing."""


def is_above(one: Number, other: Number, by: float = 0.0) -> Outcome:
    """Judge whether `one` exceeds `other` by at least `by`.

    Two standard errors of the difference, where there are seeds enough to know them, are taken off before it counts as
    holding, and granted before it counts as not holding. Not decided between, or where a number is missing.
    """
    one, other = (side if isinstance(side, Value) else Value(mean=side, n=1) for side in (one, other))
    if one.mean is None or other.mean is None:
        return "not decided"
    error = sum(value.spread**2 / value.n for value in (one, other) if value.spread is not None) ** 0.5
    excess, noise = one.mean - other.mean - by, 2 * error
    if excess - noise >= 0:
        return "holds"
    return "does not hold" if excess + noise < 0 else "not decided"


def is_near(one: Number, other: Number, within: float) -> Outcome:
    """Judge whether `one` and `other` differ by no more than `within`; noise counts as in `is_above`."""
    return all_hold(reversed_outcome(is_above(a, b, within)) for a, b in ((one, other), (other, one)))


def is_at_most(one: Number, other: Number, plus: float = 0.0) -> Outcome:
    """Judge whether `one` exceeds `other` by no more than `plus`; noise counts as in `is_above`."""
    return reversed_outcome(is_above(one, other, plus))


def holds_if(condition: bool) -> Outcome:
    """Return "holds" where the condition is true, "does not hold" where it is false."""
    return "holds" if condition else "does not hold"


def reversed_outcome(outcome: str) -> Outcome:
    """Return "does not hold" for "holds" and the other way round; "not decided" stays."""
    outcomes: dict[str, Outcome] = {"holds": "does not hold", "does not hold": "holds"}
    return outcomes.get(outcome, "not decided")


def all_hold(outcomes: Iterable[str]) -> Outcome:
    """Return "holds" where all do, "does not hold" where one does not, "not decided" where there are none."""
    found = set(outcomes)
    if "does not hold" in found:
        return "does not hold"
    return "holds" if found == {"holds"} else "not decided"


def any_holds(outcomes: Iterable[str]) -> Outcome:
    """Return "holds" where one does, "does not hold" where none does, "not decided" where there are none."""
    return reversed_outcome(all_hold(map(reversed_outcome, outcomes)))


# --- comparisons ------------------------------------------------------------------------------------------------------


def above(measure: Measure, one: Rows, other: str | float, by: float = 0.0) -> Check:
    """Return the check that each row of `one` exceeds `other`, a row or a number, by at least `by`."""
    relation, more = ("exceeds", f" by {by:g} or more") if by else ("is at least", "")
    return _compared(measure, one, other, relation, more, lambda a, b: is_above(a, b, by))


def at_least(measure: Measure, one: Rows, other: str | float, minus: float = 0.0) -> Check:
    """Return the check that no row of `one` is below `other`, a row or a number, by more than `minus`."""
    less = f", less {minus:g}" if minus else ""
    return _compared(measure, one, other, "is at least", less, lambda a, b: is_above(a, b, -minus))


def at_most(measure: Measure, one: Rows, other: str | float, plus: float = 0.0) -> Check:
    """Return the check that no row of `one` exceeds `other`, a row or a number, by more than `plus`."""
    more = f", plus {plus:g}" if plus else ""
    return _compared(measure, one, other, "is at most", more, lambda a, b: is_at_most(a, b, plus))


def _compared(
    measure: Measure,
    one: Rows,
    other: str | float,
    relation: str,
    margin: str,
    judge: Callable[[Number, Number], Outcome],
) -> Check:
    rows, than = _names(one), f"that of {other}" if isinstance(other, str) else f"{other:g}"
    told = (*rows, other) if isinstance(other, str) else rows

    def judged(results: Results) -> Judged:
        level = measure.of(results, other) if isinstance(other, str) else other
        return all_hold(judge(measure.of(results, row), level) for row in rows), measure.tells(*told)(results)

    return Check(judged, f"{measure.title} of {_each(rows)} {relation} {than}{margin}", told)


def close(measure: Measure, rows: Sequence[str], within: float) -> Check:
    """Return the check that each two of the rows differ by no more than `within`."""

    def judged(results: Results) -> Judged:
        values = [measure.of(results, row) for row in rows]
        near = (is_near(a, b, within) for a, b in combinations(values, 2))
        return all_hold(near), measure.tells(*rows)(results)

    return Check(judged, f"{measure.title} of {' and '.join(rows)} differs by {within:g} or less", tuple(rows))


def falls(measure: Measure, rows: Rows, by: float) -> Check:
    """Return the check that a logged measure of each row ends lower than in the first epoch, by at least `by`."""
    first = replace(measure, read=lambda result: first_epoch(result, measure.metric), label="first epoch")
    names = _names(rows)

    def judged(results: Results) -> Judged:
        lower = (is_above(first.of(results, row), measure.of(results, row), by) for row in names)
        return all_hold(lower), f"{first.tells(*names)(results)}; at the end, {measure.tells(*names)(results)}"

    rule = f"{measure.title} of {_each(names)} ends lower than in the first epoch by {by:g} or more"
    return Check(judged, rule, names)


def _names(rows: Rows) -> tuple[str, ...]:
    return (rows,) if isinstance(rows, str) else tuple(rows)


def _each(rows: Sequence[str]) -> str:
    return rows[0] if len(rows) == 1 else f"each of {', '.join(rows)}"


# --- combinations -----------------------------------------------------------------------------------------------------


def all_of(*checks: Check) -> Check:
    """Return the check that all of these hold."""
    return _together(checks, all_hold, "; ")


def any_of(*checks: Check) -> Check:
    """Return the check that one of these holds."""
    return _together(checks, any_holds, ", or ")


def _together(checks: Sequence[Check], outcome: Callable[[Sequence[Outcome]], Outcome], between: str) -> Check:
    def judged(results: Results) -> Judged:
        found = [check.judge(results) for check in checks]
        return outcome([o for o, _ in found]), "; ".join(dict.fromkeys(numbers for _, numbers in found))

    rows = tuple(dict.fromkeys(row for check in checks for row in check.rows))
    return Check(judged, between.join(dict.fromkeys(check.rule for check in checks)), rows)


def opposite(check: Check) -> Check:
    """Return the check that this one does not hold."""

    def judged(results: Results) -> Judged:
        outcome, numbers = check.judge(results)
        return reversed_outcome(outcome), numbers

    return Check(judged, f"not: {check.rule}", check.rows)


# --- where nothing can be decided -------------------------------------------------------------------------------------


def undecided(check: Check, when: Outcome, least: int) -> Check:
    """Return the check, not decided where its outcome is `when` and a run of its rows had fewer steps than `least`.

    What has not happened yet may still happen: a run that has not learnt is no failure before it had the time to.
    """

    def judged(results: Results) -> Judged:
        outcome, numbers = check.judge(results)
        early = outcome == when and fewest_steps(results, check.rows) < least
        return "not decided" if early else outcome, numbers

    return replace(check, judge=judged)


def after(least: int, check: Check, rows: Sequence[str] = ()) -> Check:
    """Return the check, not decided where a trained run of `rows`, or of its own, had fewer steps than `least`."""
    names = tuple(rows) or check.rows

    def judged(results: Results) -> Judged:
        outcome, numbers = check.judge(results)
        if (made := fewest_steps(results, names, least)) >= least:
            return outcome, numbers
        return "not decided", f"{numbers}. Runs of {made:,} steps; judged from {least:,} on"

    return replace(check, judge=judged)


def where_run(check: Check) -> Check:
    """Return the check, not decided, and not asked, where one of its rows has no result."""

    def judged(results: Results) -> Judged:
        missing = [row for row in check.rows if not results.get(row)]
        return ("not decided", f"not run: {', '.join(missing)}") if missing else check.judge(results)

    return replace(check, judge=judged)


def fewest_steps(results: Results, rows: Sequence[str], default: int = 0) -> int:
    """Return the least steps among the trained runs of these rows; `default` where there are none."""
    found = (steps(result) for row in rows for result in results.get(row, ()) if result.run.epochs)
    return min(found, default=default)


# --- collapse ---------------------------------------------------------------------------------------------------------

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
