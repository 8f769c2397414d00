"""A finished run as its folder has it, for tables and figures; read without torch.

A folder may come from anywhere: what is not as a run writes it is left out where it is read, and named.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from vergence.config import Folder, Run, Watched
from vergence.config.schema import said
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.run_folder import METRICS, RUN, SUMMARY, own_key, read_json, read_log, run_or_watched_in
from vergence.metrics.table import PROBES, SHOWN


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        run: what was run; of a loop that was watched, a `Watched`, which has of a run what a page asks for.
        folder: where it lies.
        lines: its log, one dict a line of `metrics.jsonl`.
        summary: its `summary.json`.
        gaps: what of these is missing, or was left out; a line each.
        pictures: how many it trained on; None where `run.json` does not say.
        digest: of these pictures; None as above.
    """

    run: Run
    folder: Path
    lines: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    gaps: tuple[str, ...] = ()
    pictures: int | None = None
    digest: str | None = None

    @property
    def identity(self) -> str:
        """The run's key and, for a folder of pictures, their digest, which the key leaves out: no other run has it."""
        return f"{self.run.key}-{self.digest}" if isinstance(self.run.data, Folder) else self.run.key

    def course(self, metric: str | tuple[str, ...]) -> tuple[list[float], list[float]]:
        """Return epochs and values of a metric over the log; lines without it are left out.

        A dot leads inside, as in "online.knn.accuracy"; so does a tuple, where names have dots of their own, as in
        ("layers", "encoder.layer1", "rate").
        """
        known = [(line["epoch"], value) for line in self.lines if (value := _inside(line, metric)) is not None]
        return [epoch for epoch, _ in known], [value for _, value in known]

    def by_epoch(self, metric: str | tuple[str, ...]) -> dict[int, float]:
        """Return the means over the log lines of each epoch that has any, by its number, from 1 on."""
        epochs: dict[int, list[float]] = {}
        for epoch, value in zip(*self.course(metric), strict=True):
            epochs.setdefault(math.ceil(epoch), []).append(value)
        return {epoch: fmean(values) for epoch, values in epochs.items()}

    def mean(self, metric: str | tuple[str, ...], epochs: float = 1) -> float | None:
        """Return the mean over the log lines of the last epochs; None where there are none."""
        if not self.lines:
            return None
        first = self.lines[-1]["epoch"] - epochs
        known = [v for line in self.lines if line["epoch"] > first and (v := _inside(line, metric)) is not None]
        return sum(known) / len(known) if known else None

    def accuracy(self, probe: str) -> float | None:
        """Return the percent of a probe, one of `PROBES`, at the end of the run."""
        score = self.summary.get(probe)
        return None if not score else score.get("accuracy")

    @cached_property
    def verdict(self) -> str | None:
        """The last verdict; None for an encoder that was not trained."""
        return (self.summary.get("verdict") or {}).get("state")


Results = Mapping[str, Sequence[Result]]
"""Finished runs by the name of their row, in the order of seeds. A run that is missing is left out."""


def _inside(line: Mapping[str, Any], metric: str | tuple[str, ...]) -> Any:
    value: Any = line
    for part in metric.split(".") if isinstance(metric, str) else metric:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


# --- reading ----------------------------------------------------------------------------------------------------------


def read_result(folder: Path) -> Result:
    """Read a finished run.

    Raises:
        InputError: there is none, or it is not finished, or its summary is not its own.
    """
    run = described(folder)
    if not os.path.exists(folder / SUMMARY):
        raise InputError(f"{folder}: this run is not finished; {_go_on(folder, run)}")
    return read_course(folder, run, read_summary(folder, run))


def described(folder: Path) -> Run:
    """Return what a folder's results are of, a `Watched` too, in the place of a run; raises as `run_in` does."""
    return cast(Run, run_or_watched_in(folder))


def read_summary(folder: Path, run: Run) -> dict[str, Any]:
    """Return the summary of a finished run.

    Raises:
        InputError: it is another run's, or not as a run writes it.
    """
    path = folder / SUMMARY
    summary = _with_todays_probes(read_json(path))
    if (key := summary.get("key")) != (own := own_key(folder, run)):
        raise InputError(f"{path}: of another run ({said(key)}, not '{own}'); remove it and {_go_on(folder, run)}")
    wrong = [name for name, shape in _SUMMARY.items() if not _fits(summary.get(name), shape)]
    needed = _NEEDED if run.epochs or "verdict" in summary else _NEEDED[:1]
    if isinstance(run, Watched):
        needed = [names for names in needed if names != ("final", "loss")]
    if wrong := wrong or [".".join(names) for names in needed if _inside(summary, names) is None]:
        raise InputError(f"{path}: not as a run writes it: {', '.join(wrong)}; remove it and {_go_on(folder, run)}")
    return summary


def read_course(folder: Path, run: Run, summary: Mapping[str, Any]) -> Result:
    """Return a run as far as it came: its log beside its summary, which is empty where it is not finished."""
    torn = []
    try:
        found = durable.read_lines(folder / METRICS)
    except OSError as error:
        gap = f"{METRICS}: cannot be read: {error.strerror}"
        return Result(run, folder, [], summary, (gap,), *_trained_on(folder))
    try:
        read_log(folder / METRICS)
    except InputError as error:  # training would not go on from it; what can be shown is shown
        torn = [f"{METRICS}{str(error).partition(METRICS)[2].partition(';')[0]}: left out"]
    except OSError as error:
        torn = [f"{METRICS}: {error.strerror}"]
    lines, wrong = [], Counter[str]()
    for line in found:
        if not all(_is_amount(line.get(name)) and line[name] > 0 for name in ("step", "epoch")):
            wrong["step, epoch"] += 1
            continue
        if isinstance(line.get("online"), Mapping):
            line["online"] = _with_todays_probes(line["online"])
        misfits = {name for name, value in line.items() if not _fits(value, _LINE.get(name, _is_number))}
        lines.append({name: value for name, value in line.items() if name not in misfits})
        wrong.update(misfits)
    gaps = [f"{METRICS}: {said(name)} left out of {n} lines: not as a run writes it" for name, n in wrong.items()]
    if summary and run.epochs and not lines:
        gaps.append(f"{METRICS}: missing, or empty: no curves")
    elif summary and lines and lines[-1]["epoch"] < run.epochs:
        gaps.append(f"{METRICS}: ends at epoch {lines[-1]['epoch']:.4g} of {run.epochs}")
    return Result(run, folder, lines, summary, (*torn, *gaps), *_trained_on(folder))


def _trained_on(folder: Path) -> tuple[int | None, str | None]:
    """Return how many pictures a run's `run.json` counts, and their digest; None for what it does not say."""
    there = read_json(folder / RUN)
    count, digest = there.get("pictures"), there.get("data")
    return count if type(count) is int else None, digest if isinstance(digest, str) else None


def _with_todays_probes(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores with the RAFT paper's linear probe under its own name: older runs call it "linear"."""
    old = scores.get("linear")
    if isinstance(old, Mapping) and str(old.get("protocol")).startswith("linear layer, Adam"):
        return {**scores, "linear": None, "linear-raft": old}
    return dict(scores)


def _go_on(folder: Path, run: Run) -> str:
    if isinstance(run, Watched):
        return "go on with its loop, whose watch.close() writes the summary"
    return f"go on with: vergence train --config {folder / RUN} --out {folder} --resume"


def _fits(value: Any, shape: Any) -> bool:
    """Return whether a value is None or has a shape.

    A shape is a type, a function that says so, a dict of shapes by name for an object, or [shape] for one of any names.
    """
    if value is None:
        return True
    if isinstance(shape, type):
        return isinstance(value, shape)
    if callable(shape):
        return bool(shape(value))
    if not isinstance(value, Mapping):
        return False
    if isinstance(shape, list):
        return all(_fits(inner, shape[0]) for inner in value.values())
    return all(_fits(value.get(name), inner) for name, inner in shape.items())


def _is_number(value: Any) -> bool:
    """Return whether it is a number that no sum makes overflow; NaN and infinity too: whoever shows them says so."""
    return type(value) in (int, float) and not 1e300 < abs(value) < math.inf


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1e12


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _are_numbers(value: Any) -> bool:
    """Return whether these are numbers in lists and objects, one inside the other."""
    if isinstance(value, Mapping | list):
        return all(map(_are_numbers, value.values() if isinstance(value, Mapping) else value))
    return value is None or _is_number(value)


def _are_ends(value: Any) -> bool:
    """Return whether these are the two ends of an interval."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _are_pairs(value: Any) -> bool:
    """Return whether these are lines of a label and a text."""
    return isinstance(value, list) and all(
        isinstance(line, list) and len(line) == 2 and all(isinstance(text, str) for text in line) for line in value
    )


_SCORE: dict[str, Any] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy"), _is_number),
    "interval": _are_ends,
    "baselines": [_is_number],
    "converged": bool,
    "protocol": str,
}
_VERDICT: dict[str, Any] = {**dict.fromkeys(("state", "rule", "advice"), str), "numbers": [_is_number]}
_LINE: dict[str, Any] = {
    **dict.fromkeys(("verdict", "representation"), str),
    "layers": [[_is_number]],
    "online": [_SCORE],
    **dict.fromkeys(("terms", "split", "predictor", "circle", "spectrum"), _are_numbers),
}
"""The shapes of the fields of a log line that are no numbers."""

_SUMMARY: dict[str, Any] = {
    **dict.fromkeys(PROBES, _SCORE),
    **dict.fromkeys(("seconds", "images_per_second"), _is_amount),
    "encoder": str,
    "final": dict.fromkeys(SHOWN["end"], _is_number),
    "verdict": _VERDICT,
    "representation": _VERDICT,
    "start": _are_pairs,
    "environment": [_is_plain],
}
_NEEDED = (
    ("encoder",),
    *(("verdict", name) for name in ("state", "rule")),
    *(("final", name) for name in _SUMMARY["final"]),
    *(("seconds",), ("images_per_second",), ("environment", "device_name")),
)
"""What the summary of a trained run says in any case; the first, of one that was not trained too."""
