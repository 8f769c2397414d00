"""From numbers to holds, does not hold, not decided."""

from collections.abc import Iterable, Sequence

from vergence.report.content import Outcome, Value


def is_above(one: Value, other: Value, by: float = 0.0) -> Outcome:
    """Judge whether `one` exceeds `other` by at least `by`.

    Two standard errors of the difference, where there are seeds enough to know them, are taken off before it counts as
    holding, and granted before it counts as not holding. Not decided between, or where a number is missing.
    """
    if one.mean is None or other.mean is None:
        return "not decided"
    excess, noise = one.mean - other.mean - by, 2 * standard_error(one, other)
    if excess - noise >= 0:
        return "holds"
    return "does not hold" if excess + noise < 0 else "not decided"


def is_near(one: Value, other: Value, within: float) -> Outcome:
    """Judge whether `one` and `other` differ by no more than `within`; noise counts as in `is_above`."""
    return all_hold(reversed_outcome(is_above(a, b, within)) for a, b in ((one, other), (other, one)))


def is_at_most(one: Value, other: Value, plus: float = 0.0) -> Outcome:
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


def standard_error(one: Value, other: Value) -> float:
    """Return the standard error of the difference of two means; 0 where neither has a spread."""
    return sum(v.spread**2 / v.n for v in (one, other) if v.spread is not None) ** 0.5


def said(value: Value, digits: int = 1) -> str:
    """Return a value as a sentence holds it: 57.7 ± 0.4 (n = 3)."""
    if value.mean is None:
        return "not measured"
    spread = "" if value.spread is None else f" ± {value.spread:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread} (n = {value.n})"


def listed(named: Sequence[tuple[str, Value]], digits: int = 1) -> str:
    """Return several values in one sentence, each with its name."""
    return "; ".join(f"{name} {said(value, digits)}" for name, value in named)
