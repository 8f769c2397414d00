"""The classifiers of a folder, their means over seeds, and what an encoder gains over another one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vergence.errors import InputError
from vergence.files.run_folder import read_json
from vergence.metrics.probe import Z_95, difference_interval
from vergence.report.content import Value
from vergence.study.work import RESULT

_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 97.5% quantiles of Student's t for 1, 2, ... degrees of freedom."""


@dataclass(frozen=True)
class Outcome:
    """A classifier's score and what it was fitted on.

    Attributes:
        row: what its encoder is called.
        beside: the rows that it is compared with.
        digest: of the pictures.
        key: of the job.
        encoder: the digest of the encoder's weights.
        protocol: "linear probe" or "fine-tuned".
        labels: an amount such as "10%" or "10".
        count: labelled pictures that it was fitted on.
        seed: of their choice.
        whole: whether all pictures are labelled and nothing is random, so that it holds for every seed.
        crops: how crops were drawn.
        steps: of fine-tuning; None: as the number of labelled pictures decides.
        score: of `metrics.probe`.
        folder: of the job.
    """

    row: str
    beside: tuple[str, ...]
    digest: str
    key: str
    encoder: str
    protocol: str
    labels: str
    count: int
    seed: int
    whole: bool
    crops: Mapping[str, Any]
    steps: int | None
    score: Mapping[str, Any]
    folder: Path

    @property
    def accuracy(self) -> float | None:
        """The accuracy in percent; None where there is none."""
        return self.score["accuracy"]


def outcomes(root: Path) -> list[Outcome]:
    """Return what the finished jobs in a folder found, by amount, protocol, row and seed.

    Raises:
        InputError: a result cannot be read.
    """
    found = [_outcome(path, read_json(path)) for path in sorted(root.glob(f"fit-*/{RESULT}"))]
    return sorted(found, key=lambda one: (one.count, one.protocol, one.row, one.seed))


def _outcome(path: Path, result: Mapping[str, Any]) -> Outcome:
    try:
        task = result["task"]
        return Outcome(
            row=result["row"],
            beside=tuple(result["beside"]),
            digest=task["pictures"],
            key=result["key"],
            encoder=task["encoder"],
            protocol=task["protocol"],
            labels=task["labels"],
            count=result["pictures"],
            seed=task["seed"],
            whole=result["whole"],
            crops=task["views"]["first"],
            steps=task.get("steps"),
            score=result["score"],
            folder=path.parent,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is no result of this command; choose another --out") from error


def t_95(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t, for at least 1 degree of freedom, within 0.001."""
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = Z_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def mean_of(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return a mean and its 95% interval by Student's t; None for fewer than two values, and where all are equal."""
    value = Value.over(values)
    if value.mean is None or value.spread is None:
        return value.mean if value.mean is not None else math.nan, None
    half = t_95(value.n - 1) * value.spread / math.sqrt(value.n)
    return value.mean, (value.mean - half, value.mean + half) if half > 1e-9 else None


def accuracy_of(some: Sequence[Outcome]) -> Value:
    """Return the mean accuracy over seeds with its interval: Student's t over seeds, or Wilson's of a lone one.

    Seeds of one accuracy do not say how far seeds go apart: theirs is Wilson's too.
    """
    known = [one.accuracy for one in some if one.accuracy is not None]
    if not known:
        return Value(mean=None)
    mean, interval = mean_of(known)
    if interval is None:
        low, high = next(one.score["interval"] for one in some if one.accuracy is not None)
        interval = low, high
    else:
        interval = max(0.0, interval[0]), min(100.0, interval[1])
    return Value(mean=mean, n=len(known), interval=interval)


@dataclass(frozen=True)
class Gain:
    """What an encoder has more than another one, in points, with its 95% interval."""

    own: float
    other: float
    interval: tuple[float, float]

    @property
    def points(self) -> float:
        """The difference of the two means."""
        return self.own - self.other

    @property
    def word(self) -> str:
        """Whether it helps, by the interval alone."""
        return "helps" if self.interval[0] > 0 else "hurts" if self.interval[1] < 0 else "not decided"


def gain(own: Sequence[Outcome], other: Sequence[Outcome]) -> Gain | None:
    """Return what `own` has more than `other`; None where one has no accuracy, or no seed in common.

    With several seeds the differences are those of equal seeds, which have the same labelled pictures; a result that
    holds for every seed is taken for each. Of one seed the interval is Newcombe's, from Wilson's two, and so it is
    where all differences are equal, which says nothing of how far seeds go apart.
    """
    ours, theirs = ({one.seed: one for one in side if one.accuracy is not None} for side in (own, other))
    for side, of_seeds in ((ours, theirs), (theirs, ours)):
        if any(one.whole for one in side.values()):
            side |= dict.fromkeys(of_seeds, side[0])
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        return None
    first, second = ([one.accuracy or 0.0 for one in side] for side in zip(*pairs, strict=True))
    _, interval = mean_of([one - two for one, two in zip(first, second, strict=True)])
    if interval is None:
        ends, other_ends = (one.score["interval"] for one in pairs[0])
        interval = difference_interval(first[0], ends, second[0], other_ends)
    return Gain(sum(first) / len(first), sum(second) / len(second), interval)
