"""One word on a run's state, with the rule that fired, the numbers behind it and what to try.

The rules are in `RULES` for the projections z, which the loss is about, and in `REPRESENTATION_RULES` for the
representation y, which is what is kept and used; the first that holds gives the verdict. They read the mean of the last
`WINDOW` log lines, and never stop a run: BYOL can collapse and recover.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vergence.metrics.table import BUILT_IN, TABLE

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


CLOSER = 1e-3
"""How near different representations must have come, as a share of their distance in the untrained encoder, to count
as one point. Not a cosine: that of a healthy encoder with group norm rises to 0.9995, for all its features may share a
large mean, and an untrained torchvision ResNet-18 begins at 0.976."""

FEWER_DIRECTIONS = 0.1
"""Effective rank of the centred representations, as a share of the untrained encoder's, below which dimensions have
collapsed; at least 2 directions."""

MORE_AGREEMENT = 0.05
"""How much better two views of a picture must agree than in the untrained encoder; two standard errors where those are
more, as on few pictures."""

NET_OF_NOISE = 0.2
"""LiDAR, as a share of the untrained encoder's, below which too few directions tell pictures apart; at least 2."""

POINT = 1e-4
"""How far apart different pictures are, as 1 - their mean cosine, where they count as one point though there is no
untrained encoder to compare with: a healthy one with group norm comes to 5e-4."""

FEWEST = 100
"""Pictures below which nothing but a collapse to a point is said: no rank can exceed their number."""


class Verdict(NamedTuple):
    """What a run looks like.

    Attributes:
        state: "healthy", "complete collapse", "dimensional collapse", "recovering" or "undecided";
            where any encoder is diagnosed, "untrained" too.
        rule: the sentence that holds.
        numbers: what it was decided on.
        advice: what to try, in order; empty where nothing needs to change. docs/metrics.md gives the causes.
    """

    state: str
    rule: str
    numbers: dict[str, float]
    advice: str = ""


class Rule(NamedTuple):
    """A state, the sentence that explains it, its condition on the numbers, and what to try where it holds."""

    state: str
    sentence: str
    holds: Callable[[Mapping[str, float]], bool]
    advice: str = ""


def decide(rules: tuple[Rule, ...], numbers: Mapping[str, float]) -> Verdict:
    """The verdict of the first rule that holds."""
    rule = next(rule for rule in rules if rule.holds(numbers))
    finite = {name: round(value, 6) for name, value in numbers.items() if math.isfinite(value)}
    return Verdict(rule.state, rule.sentence, finite, rule.advice)


def _gain_needed(n: Mapping[str, float]) -> float:
    """`MORE_AGREEMENT`, or two standard errors of a difference of two means over the pictures: cosines of unrelated
    directions scatter by the root of 1 / rank.
    """
    rank = max(1.0, min(n["y_rank"], n["untrained_y_rank"]))
    return max(MORE_AGREEMENT, 2 * math.sqrt(2 / (n["pictures"] * rank)))


def _few(n: Mapping[str, float], least: float) -> bool:
    return n["lidar"] < max(2.0, least)


def _is_point(n: Mapping[str, float]) -> bool:
    return n["neg_cos"] >= COLLAPSED_COSINE or n["z_std"] <= COLLAPSED_STD


_WAIT = "wait: it may recover; a lower --optimizer.lr where it does not"

RULES = (
    Rule(
        "undecided",
        f"fewer than {FIRST} log lines so far",
        lambda n: n["lines"] < FIRST,
        "train for more steps, or log more of them: --log-every 1",
    ),
    Rule(
        "recovering",
        "still nearly one point, but its spread has more than doubled since its lowest and is growing",
        lambda n: _is_point(n) and n["z_std"] > 2 * n["lowest_z_std"] and n["z_std"] > 1.1 * n["z_std_before"],
        _WAIT,
    ),
    Rule(
        "complete collapse",
        f"all pictures give one projection: neg_cos >= {COLLAPSED_COSINE} or z_std <= {COLLAPSED_STD}",
        _is_point,
        "--projector.norm batch or --predictor.norm batch, a predictor with a moving-average target, "
        "a lower --optimizer.lr, --optimizer lars, a larger --optimizer.weight-decay",
    ),
    Rule(
        "recovering",
        f"was collapsed to a point, and different pictures are still closer than {RECOVERED_COSINE}",
        lambda n: n["was_point"] > 0 and n["neg_cos"] > RECOVERED_COSINE,
        _WAIT,
    ),
    Rule(
        "dimensional collapse",
        f"projections fill fewer than 2 or {FEW_DIRECTIONS:.0%} of the directions they could",
        lambda n: n["effective_rank"] < max(2.0, FEW_DIRECTIONS * n["directions"]),
        "--projector.norm batch, a nonlinear predictor (--predictor mlp), weaker --views, a lower --optimizer.lr, "
        "a contrastive method (simclr)",
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
        "train longer, a higher --optimizer.lr, a larger --batch-size, weaker --views",
    ),
)

REPRESENTATION_RULES = (
    Rule(
        "undecided",
        "no log line has the representation of the untrained encoder to compare with",
        lambda n: n["lines"] < 1,
    ),
    Rule(
        "undecided",
        "representations are not finite numbers",
        lambda n: not all(map(math.isfinite, n.values())),
        "a lower --optimizer.lr",
    ),
    Rule(
        "complete collapse",
        f"different pictures are {1 / CLOSER:,.0f} times closer together than in the untrained encoder",
        lambda n: 1 - n["y_neg_cos"] <= CLOSER * (1 - n["untrained_y_neg_cos"]),
        "batch norm in the encoder (--encoder.norm batch), then as for collapsed projections",
    ),
    Rule(
        "dimensional collapse",
        f"representations fill fewer than 2, or {FEWER_DIRECTIONS:.0%} of the untrained encoder's directions",
        lambda n: n["y_rank"] < max(2.0, FEWER_DIRECTIONS * n["untrained_y_rank"]),
        "--projector.norm batch, a wider or deeper projector (--projector.layers 3), a lower "
        "--optimizer.weight-decay, a lower --optimizer.lr",
    ),
    Rule(
        "undecided",
        "not collapsed, but projections are one point: the loss no longer tells the encoder anything",
        lambda n: n["projections_collapsed"] > 0,
        "first what is said of the projections",
    ),
    Rule(
        "healthy",
        "views of a picture agree more than in the untrained encoder, in many directions",
        lambda n: n["y_agreement"] - n["untrained_y_agreement"] >= _gain_needed(n),
    ),
    Rule(
        "undecided",
        "views of a picture do not yet agree more than in the untrained encoder, beyond chance on these pictures",
        lambda n: True,
        "train longer; collapsed projections first, if they are; a higher --optimizer.lr",
    ),
)

_FEW_LEFT = (
    "what was learned lies in few directions: read LiDAR beside RankMe, whose rank may be noise, and the spectrum"
)

ENCODER_RULES = (
    REPRESENTATION_RULES[1]._replace(advice="whether its pictures are normalized as it was trained: --mean, --std"),
    Rule(
        "complete collapse",
        f"different pictures are one point: 1 - their mean cosine is at most {CLOSER:g} of the untrained encoder's, or "
        f"{POINT:g} where there is none",
        lambda n: 1 - n["y_neg_cos"] <= (CLOSER * (1 - n["untrained_y_neg_cos"]) if n["compared"] else POINT),
        "look at mean cosine, std and RankMe: what is centred does not see it",
    ),
    Rule(
        "undecided",
        f"fewer than {FEWEST} pictures: ranks and agreement are those of the pictures, not of the encoder",
        lambda n: n["pictures"] < FEWEST,
        "more pictures",
    ),
    Rule(
        "dimensional collapse",
        f"representations fill fewer than 2, or {FEWER_DIRECTIONS:.0%} of the untrained encoder's directions; or fewer "
        f"than 2, or {NET_OF_NOISE:.0%}, net of what differs among views of one picture (LiDAR)",
        lambda n: (
            n["compared"] > 0 and (REPRESENTATION_RULES[3].holds(n) or _few(n, NET_OF_NOISE * n["untrained_lidar"]))
        ),
        _FEW_LEFT,
    ),
    Rule(
        "dimensional collapse",
        f"representations fill fewer than 2 or {FEW_DIRECTIONS:.0%} of the directions they could, as they are or "
        "net of what differs among views of one picture (LiDAR)",
        lambda n: not n["compared"] and min(n["y_rank"], n["lidar"]) < max(2.0, FEW_DIRECTIONS * n["most_directions"]),
        _FEW_LEFT,
    ),
    Rule(
        "undecided",
        "not collapsed, but there is no untrained encoder to compare with: whether it has learned anything is not said",
        lambda n: not n["compared"],
        "kNN and linear, beside other encoders: vergence diagnose MODEL --beside OTHER",
    ),
    Rule(
        "healthy",
        "views of a picture agree more, or share more neighbours, than in the same network untrained",
        lambda n: (
            n["y_agreement"] - n["untrained_y_agreement"] >= _gain_needed(n)
            or n["neighbours"] - n["untrained_neighbours"] >= _gain_needed(n)
        ),
    ),
    Rule(
        "untrained",
        "no better than its own untrained network: views of a picture agree no more, and share no more neighbours",
        lambda n: n["y_agreement"] - n["untrained_y_agreement"] > -_gain_needed(n),
        "whether its weights were read, and kNN and linear where there are labels",
    ),
    Rule(
        "undecided",
        "not collapsed, but views of a picture agree less than in the same network untrained",
        lambda n: True,
        "kNN and linear, and the invariances: it may have been trained for something else than these views",
    ),
)
"""The rules of `judge_encoder`."""

PROJECTIONS = ("pos_cos", "neg_cos", "z_std", "effective_rank")
"""The metrics that `RULES` read."""

REPRESENTATION = tuple(name for name in BUILT_IN if set(TABLE[name].embeddings.split()) == {"y"})
"""The metrics that `REPRESENTATION_RULES` read, each beside the untrained encoder's: those of y alone."""

JUDGED = ("mean_cosine", "centred_rank", "agreement", "lidar_relative", "neighbour_agreement")
"""The numbers of `metrics.examination` that `judge_encoder` reads."""


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
        self.recent.append({name: float(line[name]) for name in PROJECTIONS})
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
        verdict = decide(RULES, numbers)
        if self.lines >= FIRST and _is_point(numbers):
            self.was_point = True
        elif numbers["neg_cos"] <= RECOVERED_COSINE:
            self.was_point = False  # recovered: what comes next is judged on its own
        return verdict


class RepresentationJudge:
    """Follows the representation line by line, beside that of the first step: its weights were untrained.

    The first line of a run that starts from other weights says in `untrained` what random ones give. Its state is a
    function of the lines alone. Lines that lack one of its numbers change nothing: those
    of older logs, and of MoCo, which passes one view through its encoder.

    Args:
        pictures: in a batch.
    """

    def __init__(self, pictures: int):
        self.pictures = pictures
        self.first: dict[str, float] | None = None
        self.recent: deque[dict[str, float]] = deque(maxlen=WINDOW)

    def hear(self, line: Mapping[str, Any]) -> Verdict:
        """Take in one log line and say how the representation looks after it."""
        if all(line.get(name) is not None for name in REPRESENTATION):
            numbers = {name: float(line[name]) for name in REPRESENTATION}
            if line["step"] == 1:
                self.first = line.get("untrained", numbers)
            self.recent.append(numbers)
        if self.first is None:
            return decide(REPRESENTATION_RULES, {"lines": 0.0})
        now = {name: _mean(list(self.recent), name) for name in REPRESENTATION}
        return judge_representation(now, self.first, self.pictures, line.get("verdict") == "complete collapse")


def judge_representation(
    now: Mapping[str, float], untrained: Mapping[str, float], pictures: int, projections_collapsed: bool = False
) -> Verdict:
    """The verdict on a representation.

    Args:
        now: its numbers, those of `REPRESENTATION`.
        untrained: those of the untrained encoder, on as many pictures.
        pictures: how many.
        projections_collapsed: whether the projections are one point.
    """
    numbers = {"lines": 1.0, "pictures": float(pictures), "projections_collapsed": float(projections_collapsed)}
    numbers |= {name: now[name] for name in REPRESENTATION}
    return decide(REPRESENTATION_RULES, numbers | {f"untrained_{name}": untrained[name] for name in REPRESENTATION})


def judge_encoder(
    now: Mapping[str, float | None] | None, untrained: Mapping[str, float | None] | None, pictures: int, dim: int
) -> Verdict:
    """Return the verdict on any encoder, relative to the same network untrained.

    Args:
        now: numbers of `examination.examine`; None where a representation is not finite.
        untrained: those of the untrained network; None where there is none: then only what is absolute is judged.
        pictures: whose views were taken.
        dim: the width of a representation.
    """
    now = dict.fromkeys(JUDGED, math.nan) if now is None else now
    about = {"compared": float(untrained is not None), "pictures": float(pictures)}
    most = {"most_directions": float(min(pictures - 1, dim))}
    return decide(ENCODER_RULES, about | _named(now, "") | _named(untrained or {}, "untrained_") | most)


def _named(numbers: Mapping[str, float | None], before: str) -> dict[str, float]:
    """Return what `ENCODER_RULES` read, by the names that the rules of a run have for it."""
    names = dict(zip(JUDGED, (*REPRESENTATION, "lidar", "neighbours"), strict=True))
    return {before + new: value for name, new in names.items() if (value := numbers.get(name)) is not None}


def _mean(lines: list[dict[str, float]], name: str) -> float:
    return sum(line[name] for line in lines) / len(lines)
