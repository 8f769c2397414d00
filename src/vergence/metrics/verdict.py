"""One word on a run's state, with the rule that fired and the numbers behind it.

The rules are in `RULES`, in the order in which they are asked; the first that holds gives the verdict. They read the
mean of the last `WINDOW` log lines, and never stop a run: BYOL can collapse and recover.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

WINDOW = 5
FIRST = 3
"""Log lines before anything is said."""

COLLAPSED_COSINE = 0.97
"""Mean cosine of different pictures from which on they count as one point (14 degrees; the blog measures 0.9999)."""

COLLAPSED_STD = 0.05
"""`z_std` below which projections count as one point whatever their cosines say."""

RECOVERED_COSINE = 0.9
"""A run that was collapsed counts as recovering until different pictures are this far apart."""

FEW_DIRECTIONS = 0.05
"""Effective rank, as a share of the most there can be, below which dimensions have collapsed; at least 2 directions."""

SEPARATION = 0.05
"""How much more alike two views of a picture must be than two pictures."""


class Verdict(NamedTuple):
    """What a run looks like.

    Attributes:
        state: "healthy", "complete collapse", "dimensional collapse", "recovering" or "undecided".
        rule: the sentence that holds.
        numbers: what it was decided on.
    """

    state: str
    rule: str
    numbers: dict[str, float]


class Rule(NamedTuple):
    """A state, the sentence that explains it, and its condition on the numbers."""

    state: str
    sentence: str
    holds: Callable[[Mapping[str, float]], bool]


def _is_point(n: Mapping[str, float]) -> bool:
    return n["neg_cos"] >= COLLAPSED_COSINE or n["z_std"] <= COLLAPSED_STD


RULES = (
    Rule(
        "undecided",
        f"fewer than {FIRST} log lines so far",
        lambda n: n["lines"] < FIRST,
    ),
    Rule(
        "recovering",
        "still nearly one point, but its spread has more than doubled since its lowest and is growing",
        lambda n: _is_point(n) and n["z_std"] > 2 * n["lowest_z_std"] and n["z_std"] > 1.1 * n["z_std_before"],
    ),
    Rule(
        "complete collapse",
        f"all pictures give one projection: neg_cos >= {COLLAPSED_COSINE} or z_std <= {COLLAPSED_STD}",
        _is_point,
    ),
    Rule(
        "recovering",
        f"was collapsed to a point, and different pictures are still closer than {RECOVERED_COSINE}",
        lambda n: n["was_point"] > 0 and n["neg_cos"] > RECOVERED_COSINE,
    ),
    Rule(
        "dimensional collapse",
        f"projections fill fewer than 2 or {FEW_DIRECTIONS:.0%} of the directions they could",
        lambda n: n["effective_rank"] < max(2.0, FEW_DIRECTIONS * n["directions"]),
    ),
    Rule(
        "healthy",
        f"views of a picture are closer than different pictures by {SEPARATION} or more, in many directions",
        lambda n: n["pos_cos"] - n["neg_cos"] >= SEPARATION,
    ),
    Rule(
        "undecided",
        f"not collapsed, but views of a picture are not yet {SEPARATION} closer than different pictures",
        lambda n: True,
    ),
)


class Judge:
    """Follows a run line by line. Its state is a function of the lines alone, so a resumed run replays them.

    Args:
        directions: the most directions a batch of projections can fill: min(batch size, dimensions).
    """

    def __init__(self, directions: int):
        self.directions = directions
        self.lines = 0
        self.recent: deque[dict[str, float]] = deque(maxlen=2 * WINDOW)
        self.lowest_z_std = float("inf")
        self.was_point = False

    def hear(self, line: Mapping[str, Any]) -> Verdict:
        """Take in one log line and say how the run looks after it."""
        self.lines += 1
        self.recent.append({name: float(line[name]) for name in ("pos_cos", "neg_cos", "z_std", "effective_rank")})
        latest, before = list(self.recent)[-WINDOW:], list(self.recent)[:-WINDOW]
        numbers = {name: _mean(latest, name) for name in latest[0]}
        self.lowest_z_std = min(self.lowest_z_std, numbers["z_std"])
        numbers |= {
            "lines": float(self.lines),
            "directions": float(self.directions),
            "lowest_z_std": self.lowest_z_std,
            "z_std_before": _mean(before, "z_std") if before else numbers["z_std"],
            "was_point": float(self.was_point),
        }
        rule = next(rule for rule in RULES if rule.holds(numbers))
        if self.lines >= FIRST and _is_point(numbers):
            self.was_point = True
        elif numbers["neg_cos"] <= RECOVERED_COSINE:
            self.was_point = False  # recovered: what comes next is judged on its own
        return Verdict(rule.state, rule.sentence, {name: round(value, 6) for name, value in numbers.items()})


def _mean(lines: list[dict[str, float]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines)
