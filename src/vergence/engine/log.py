"""The lines of `metrics.jsonl`: written one by one, each with the verdicts after it, and summed up at the end."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vergence.files import durable
from vergence.files.run_folder import read_log
from vergence.metrics.table import NON_SCALARS, TIMING
from vergence.metrics.verdict import Judge, RepresentationJudge, Verdict

Line = Mapping[str, Any]


class Log:
    """A log that goes on after the lines it has: the judges have heard them.

    Args:
        path: of its file; None: it is kept in memory.
        kept: the lines that are there.
        done: steps before the first line that will be added, to time it.
        pictures: in a step.
        directions: the most that a step's projections can fill: min(pictures, dimensions).
    """

    def __init__(self, path: Path | None, kept: Sequence[Line], done: int, pictures: int, directions: int):
        self.path, self.pictures = path, pictures
        self.judge, self.representation = Judge(directions), RepresentationJudge(pictures)
        for line in kept:
            self.judge.hear(line)
            self.representation.hear(line)
        self.clock, self.clocked = time.perf_counter(), done

    def add(
        self, step: int, epoch: float, numbers: Line, more: Line | None = None
    ) -> tuple[dict[str, Any], Verdict, Verdict]:
        """Write the line of a step, with its time since the line before and with `more` at its end.

        Returns:
            The line, the verdict on the projections and that on the representation.
        """
        line: dict[str, Any] = {"step": step, "epoch": epoch, **numbers}
        verdict = self.judge.hear(line)
        line["verdict"] = verdict.state
        representation = self.representation.hear(line)
        line["representation"] = representation.state
        seconds = time.perf_counter() - self.clock
        line |= {"seconds": seconds, "images_per_second": (step - self.clocked) * self.pictures / seconds}
        line |= more or {}
        if self.path is not None:
            durable.append_line(self.path, json.dumps(line, allow_nan=False))
        self.clock, self.clocked = time.perf_counter(), step
        return line, verdict, representation


def keep_lines(path: Path, done: int) -> list[dict[str, Any]]:
    """Cut a log off after step `done`, and what is torn at its end, for it will be written again; return its lines."""
    kept = read_log(path, done)
    if path.exists():
        durable.write_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def summarize(lines: Sequence[Line], verdict: Verdict) -> dict[str, Any]:
    """Return what a summary says of a log, which has a line at least, and of the verdict after it."""
    return {
        "final": {name: value for name, value in lines[-1].items() if name not in (*TIMING, *NON_SCALARS)},
        "last_epoch": _last_epoch(lines),
        "verdict": verdict._asdict(),
        "images_per_second": sorted(line["images_per_second"] for line in lines)[len(lines) // 2],
        "seconds": round(sum(line["seconds"] for line in lines), 1),
    }


def _last_epoch(lines: Sequence[Line]) -> dict[str, float]:
    """Return means over the log lines of the last epoch, of what each of them has."""
    last = [line for line in lines if line["epoch"] > lines[-1]["epoch"] - 1]
    names = [n for n in last[-1] if n not in ("epoch", *TIMING) and all(isinstance(x.get(n), float) for x in last)]
    return {name: sum(line[name] for line in last) / len(last) for name in names} | {"lines": len(last)}
