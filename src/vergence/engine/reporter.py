"""What training tells whoever watches, and the one who is told nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from vergence.metrics.verdict import Verdict

Line = Mapping[str, Any]


@runtime_checkable
class View(Protocol):
    """What the loop tells whoever watches."""

    def found(self, block: Sequence[tuple[str, str]]) -> None:
        """Take in what the run found before its first step, as labels and what stands beside them."""

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        """Training begins, or goes on after `done` of `total` steps with the log `lines` of before."""

    def step(self) -> None:
        """One step is done."""

    def line(self, line: Line, verdict: Verdict) -> None:
        """A line of metrics was logged."""

    def say(self, text: str) -> None:
        """Something else worth a line."""

    def stop(self) -> None:
        """Training is over, one way or another."""


class Quiet:
    """Says nothing."""

    def found(self, block: Sequence[tuple[str, str]]) -> None: ...
    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None: ...
    def step(self) -> None: ...
    def line(self, line: Line, verdict: Verdict) -> None: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...
