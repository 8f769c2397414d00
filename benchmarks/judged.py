"""What the verdicts of a finished run said while it trained, and what came out.

The log is read again, line by line, by the functions that say the verdict while a run trains. What came out is decided
by numbers that no rule of a verdict reads:

- The outcome: kNN and linear classifier on the test pictures, each beside the same probe on the encoder's own first
  weights, which the run's summary has as `baselines.untrained`. An encoder has `learned` if one of the two is above
  the untrained encoder's beyond Newcombe's 95% interval and none is below it so; it has `lost` if one is below and none
  above; else `neither` is shown. A verdict sees no label, no probe and no test picture: this truth is independent of
  it. The interval takes the two scores for those of different pictures, though they are of the same: it is too wide,
  and more runs than need be are `neither`.
- The rank: whether the representation ends with less than half of the untrained encoder's effective rank, in
  evaluation mode, on up to 512 training pictures. The rules of the projections do not read it. Those of the
  representation read a rank too, that of single batches in training mode, against a tenth: so only the verdict on the
  projections is compared with this truth.
- The recovery: whether an online probe was below the untrained encoder's in the first half of the training, beyond the
  interval, and the encoder has learned at the end. A verdict sees no online probe either.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vergence.config import Watched
from vergence.errors import InputError
from vergence.files.results import Result, read_result
from vergence.files.run_folder import RUN, SUMMARY
from vergence.metrics.probe import difference_interval, interval
from vergence.metrics.table import PROBES
from vergence.metrics.verdict import REPRESENTATION, Judge, RepresentationJudge, Verdict, judge_representation
from vergence.report.naming import pictures_of
from vergence.study.kept import KEPT, kept

WORDS = ("healthy", "recovering", "undecided", "dimensional collapse", "complete collapse")
COLLAPSE = WORDS[3:]
LEARNED, NEITHER, LOST = OUTCOMES = ("learned", "neither", "lost")
RIGHT = {"healthy": LEARNED, "collapse": LOST}
PROJECTIONS, BOTH = "projections", "both"
ABOUT = (PROJECTIONS, "representation", BOTH)
"""What a verdict is about. Both: a collapse where one of the two is one, healthy where both are, else undecided."""

UNSEEN = ("clothing96",)
"""Pictures on which no threshold of a verdict was chosen, and no default of a method."""


@dataclass(frozen=True)
class Judged:
    """A finished run: what its verdicts said, and what came out.

    Attributes:
        identity: the run's key, or what tells its pictures apart beside it.
        pictures: the data set's name.
        method: its kind.
        row: of its study, or its folder.
        seed: of the run.
        course: for each log line the share of training that is done, and the verdicts after it.
        end: on the representation in evaluation mode, which is what the summary says; None where it says nothing.
        gains: for each probe the points above the untrained encoder, and their 95% interval.
        rank: of the representation at the end, as a share of the untrained encoder's; None: not measured.
        looked: whether online probes scored it in the first half of the training.
        dip: the share of training at which such a score was lowest, where that is below the untrained encoder's beyond
            the interval; else None.
    """

    identity: str
    pictures: str
    method: str
    row: str
    seed: int
    course: tuple[tuple[float, Mapping[str, Verdict]], ...]
    end: Verdict | None
    gains: Mapping[str, tuple[float, tuple[float, float]]]
    rank: float | None
    looked: bool
    dip: float | None

    def said(self, share: float, about: str) -> Verdict:
        """Return the last verdict before a share of the training was over."""
        heard = [verdicts[about] for done, verdicts in self.course if done <= share + 1e-9]
        return heard[-1] if heard else Verdict("undecided", "no log line so far", {})

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        above = any(low > 0 for _, (low, _) in self.gains.values())
        below = any(high < 0 for _, (_, high) in self.gains.values())
        return NEITHER if above == below else LEARNED if above else LOST

    def contradicts(self, state: str) -> bool:
        """Return whether what came out shows that a word was wrong."""
        return self.outcome != NEITHER and RIGHT.get(group(state), self.outcome) != self.outcome

    @property
    def right_since(self) -> float | None:
        """Return the share of training from which on the projections' verdict was right to the end; None: never."""
        since = None
        for done, verdicts in self.course:
            if RIGHT.get(group(verdicts[PROJECTIONS].state)) != self.outcome:
                since = None
            elif since is None:
                since = done
        return since

    @property
    def part(self) -> str:
        """Return the part of the runs to which it belongs, by the hash of its key."""
        if self.pictures in UNSEEN:
            return "never used"
        odd = hashlib.sha256(self.identity.encode()).digest()[-1] % 2
        return "odd half" if odd else "even half"


def group(state: str) -> str:
    """Return "collapse" for both kinds of it, else the state."""
    return "collapse" if state in COLLAPSE else state


# --- reading ----------------------------------------------------------------------------------------------------------


def judged(result: Result, row: str) -> Judged:
    """Return what a run's verdicts said and what came out.

    Raises:
        InputError: it cannot be judged, and why.
    """
    run = result.run
    if isinstance(run, Watched) or not result.lines:
        raise InputError("nothing was trained, or a loop was only watched")
    gains = {probe: gained(result.summary, probe, result.summary.get(probe)) for probe in ("knn", "linear")}
    end, rank = at_the_end(result)
    looks = sorted(online(result))
    course = tuple(replayed(result))
    total = course[-1][0]
    return Judged(
        identity=result.identity,
        pictures=pictures_of(run),
        method=run.method.kind,
        row=row,
        seed=run.seed,
        course=tuple((done / total, verdicts) for done, verdicts in course),
        end=end,
        gains=gains,
        rank=rank,
        looked=bool(looks),
        dip=looks[0][2] if looks and looks[0][1] < 0 else None,
    )


def replayed(result: Result) -> Iterator[tuple[float, dict[str, Verdict]]]:
    """Yield step and verdicts of each log line, as the judges of a run in training say them."""
    run = result.run
    judge, other = Judge(min(run.batch_size, run.method.projector.out)), RepresentationJudge(run.batch_size)
    for line in result.lines:
        projections = judge.hear(line)
        representation = other.hear({**line, "verdict": projections.state})
        states = {projections.state, representation.state}
        both = next((word for word in COLLAPSE if word in states), "undecided")
        both = "healthy" if states == {"healthy"} else both
        said = {PROJECTIONS: projections, "representation": representation, BOTH: Verdict(both, "", {})}
        yield line["step"], said


def gained(summary: Mapping[str, Any], probe: str, score: Any) -> tuple[float, tuple[float, float]]:
    """Return the points of a score above the untrained encoder's at the end of the run, and their interval."""
    untrained = ((summary.get(probe) or {}).get("baselines") or {}).get("untrained")
    scored = re.findall(r"(\d+) (?:test|held-out training) pictures", str((score or {}).get("protocol")))
    if untrained is None or not scored or score.get("accuracy") is None:
        raise InputError(f"no score of {probe} beside the untrained encoder's")
    n = int(scored[-1])
    ends = interval(round(untrained / 100 * n), n)
    accuracy = score["accuracy"]
    own = score.get("interval") or interval(round(accuracy / 100 * n), n)
    return accuracy - untrained, difference_interval(accuracy, own, untrained, ends)


def at_the_end(result: Result) -> tuple[Verdict | None, float | None]:
    """Return verdict and rank of the representation in evaluation mode; None for each where it was not measured."""
    numbers = (result.summary.get("representation") or {}).get("numbers") or {}
    if any(numbers.get(start + name) is None for name in REPRESENTATION for start in ("", "untrained_")):
        return None, None
    now, untrained = ({name: numbers[start + name] for name in REPRESENTATION} for start in ("", "untrained_"))
    verdict = judge_representation(now, untrained, int(numbers["pictures"]), numbers["projections_collapsed"] > 0)
    return verdict, now["y_rank"] / untrained["y_rank"]


def online(result: Result) -> Iterator[tuple[float, float, float]]:
    """Yield each online score of the first half: points above the untrained encoder, the most they may be, and when."""
    total = result.lines[-1]["step"]
    for line in result.lines:
        for probe, score in (line.get("online") or {}).items():
            if probe in PROBES and line["step"] <= total / 2:
                points, (_, most) = gained(result.summary, probe, score)
                yield points, most, line["step"] / total


def gather(places: Iterable[Path]) -> tuple[list[Judged], Counter[str]]:
    """Return all runs that can be judged, each once, and how many cannot, by the reason."""
    found: dict[str, Judged] = {}
    left: Counter[str] = Counter()

    def add(row: str, folder: Path) -> None:
        try:
            one = judged(read_result(folder), row)
            found.setdefault(one.identity, one)
        except InputError as error:
            left[str(error).replace(f"{folder}", folder.name)] += 1

    for place in places:
        if place.is_file():
            with kept(place) as (index, root):
                for row, folders in index["rows"].items():
                    for folder in folders:
                        if folder and (root / folder / RUN).exists():
                            add(row, root / folder)
        elif (place / RUN).exists():
            add(place.name, place)
        elif folders := sorted(path.parent for path in place.glob(f"*/{SUMMARY}")):
            for folder in folders:
                add(folder.name, folder)
        else:
            raise InputError(f"{place}: neither {KEPT} of a study, nor a run, nor a folder with finished runs")
    return sorted(found.values(), key=lambda one: (one.pictures, one.method, one.row, one.seed)), left
