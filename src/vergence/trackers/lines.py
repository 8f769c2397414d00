"""What trackers of a log have in common: each number of a line once, whatever was killed and resumed in between."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vergence.config import Run
from vergence.config.schema import to_dict
from vergence.engine.reporter import Line, Reporter
from vergence.files.run_folder import TRACKED, read_json
from vergence.metrics.verdict import Verdict


class LineTracker(Reporter):
    """A tracker that keeps the numbers of a run's lines, and asks its own store how far it has them.

    What is there already is passed over, and what a kill has kept from it is added from the log. So a line that is
    written again after a resume, with the same numbers, is kept once.
    """

    def __init__(self, run: Run, folder: Path):
        self.run, self.folder = run, folder
        self.kept: defaultdict[str, int] = defaultdict(int)
        self.states: dict[str, str] = {}

    def open(self) -> defaultdict[str, int]:
        """Begin, or go on; return the last step of each number that is kept already, 0 where none is."""
        raise NotImplementedError

    def add(self, step: int, numbers: Mapping[str, float], states: Mapping[str, str]) -> None:
        """Keep the numbers of a step, and those of the verdicts that are others than at the line before."""
        raise NotImplementedError

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.kept = self.open()
        for line in lines:
            self._take(line)

    def line(self, line: Line, verdict: Verdict) -> None:
        self._take(line)

    def _take(self, line: Line) -> None:
        step, values = line["step"], dict(leaves(line))
        states = {name: value for name, value in values.items() if isinstance(value, str)}
        changed = {name: state for name, state in states.items() if state != self.states.get(name)}
        numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and name != "step" and step > self.kept[name]
        }
        self.states |= changed
        if numbers:
            self.add(step, numbers, changed)

    def identity(self) -> str:
        """Return the name by which a store knows this run, and no other of the same settings."""
        return read_json(self.folder / TRACKED)["id"]

    def settings(self) -> dict[str, Any]:
        """Return the run's settings and its key as a tracker lists them: flat, with names such as `views/size`."""
        return {"key": self.run.key, **dict(leaves(to_dict(self.run)))}


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what stands in nested mappings with its names joined by `/`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value


def now() -> float:
    """Return the time as trackers note it, in seconds since 1970."""
    return datetime.now(UTC).timestamp()
