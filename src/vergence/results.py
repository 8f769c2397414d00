"""A finished run as its folder has it, for tables and figures; read without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vergence.config import Run
from vergence.errors import InputError
from vergence.runfile import METRICS, RUN, SUMMARY, no_run, read_json, read_log, read_run

PROBES = ("knn", "linear", "logistic")


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        run: what was run.
        folder: where it lies.
        lines: its log, one dict a line of `metrics.jsonl`.
        summary: its `summary.json`.
    """

    run: Run
    folder: Path
    lines: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    def course(self, metric: str | tuple[str, ...]) -> tuple[list[float], list[float]]:
        """Epochs and values of a metric over the log; lines without it are left out.

        A dot leads inside, as in "online.knn.accuracy"; so does a tuple, where names have dots of their own, as in
        ("layers", "encoder.layer1", "rate").
        """
        known = [(line["epoch"], value) for line in self.lines if (value := _inside(line, metric)) is not None]
        return [epoch for epoch, _ in known], [value for _, value in known]

    def mean(self, metric: str | tuple[str, ...], epochs: float = 1) -> float | None:
        """Mean over the log lines of the last epochs; None where there are none."""
        if not self.lines:
            return None
        first = self.lines[-1]["epoch"] - epochs
        known = [v for line in self.lines if line["epoch"] > first and (v := _inside(line, metric)) is not None]
        return sum(known) / len(known) if known else None

    def accuracy(self, probe: str) -> float | None:
        """Percent of a probe ("knn", "linear", "logistic") at the end of the run."""
        score = self.summary.get(probe)
        return None if not score else score["accuracy"]

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


def read_result(folder: Path) -> Result:
    """Read a finished run.

    Raises:
        InputError: there is none, or it is not finished.
    """
    if not (folder / RUN).exists():
        raise no_run(folder)
    if not (folder / SUMMARY).exists():
        raise InputError(
            f"{folder}: this run is not finished; go on with: vergence train --config {folder / RUN} "
            f"--out {folder} --resume"
        )
    return Result(read_run(folder / RUN), folder, read_log(folder / METRICS), _summary(folder / SUMMARY))


def _summary(path: Path) -> dict[str, Any]:
    summary = read_json(path)
    for probe in PROBES:
        if (score := summary.get(probe)) is not None and not (isinstance(score, dict) and _is_percent(score)):
            raise InputError(f"{path}: damaged: {probe} has no accuracy; delete the file and train with --resume")
    verdict = summary.get("verdict")
    if verdict is not None and not (isinstance(verdict, dict) and isinstance(verdict.get("state"), str)):
        raise InputError(f"{path}: damaged: the verdict has no state; delete the file and train with --resume")
    return summary


def _is_percent(score: dict[str, Any]) -> bool:
    accuracy = score.get("accuracy", "missing")
    return accuracy is None or (type(accuracy) in (int, float) and 0 <= accuracy <= 100)
