"""What training tells whoever watches it: a terminal, a log of one's own, or nobody."""

from collections.abc import Mapping, Sequence
from typing import Any

from vergence.metrics.verdict import Verdict

Line = Mapping[str, Any]
"""One line of a run's log: numbers by name."""


class Reporter:
    """What training tells whoever watches. Each method may be overridden; as it stands it does nothing."""

    def found(self, block: Sequence[tuple[str, str]]) -> None:
        """Take in what the run found before its first step, as labels and what stands beside them."""

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        """Training begins, or goes on after `done` of `total` steps with the log `lines` of before."""

    def step(self) -> None:
        """One step is done."""

    def line(self, line: Line, verdict: Verdict) -> None:
        """A line of metrics was logged."""

    def say(self, text: str) -> None:
        """Something else is worth a line."""

    def stop(self) -> None:
        """Training is over, one way or another."""


class Relay(Reporter):
    """A reporter that hands on all that it is told: the name of each call and its arguments."""

    def tell(self, call: str, *told: Any) -> None:
        """Hand on one call."""
        raise NotImplementedError

    def found(self, block: Sequence[tuple[str, str]]) -> None:
        self.tell("found", block)

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.tell("start", total, done, per_epoch, lines, warnings)

    def step(self) -> None:
        self.tell("step")

    def line(self, line: Line, verdict: Verdict) -> None:
        self.tell("line", line, verdict)

    def say(self, text: str) -> None:
        self.tell("say", text)

    def stop(self) -> None:
        self.tell("stop")


class Reporters(Relay):
    """Several reporters that are told the same, in their order."""

    def __init__(self, reporters: Sequence[Reporter]):
        self.reporters = tuple(reporters)

    def tell(self, call: str, *told: Any) -> None:
        for reporter in self.reporters:
            getattr(reporter, call)(*told)
