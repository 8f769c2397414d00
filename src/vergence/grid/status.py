"""The state of a grid while it runs, and who is told of it."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Failure:
    """Why a job is not done.

    Attributes:
        kind: class of the `VergenceError`, "bug" for any other exception, "killed" where its process died twice.
        message: for the user; one line where it is a bug.
        exit_code: of a command that would have done this job alone.
        trace: of a bug.
    """

    kind: str
    message: str
    exit_code: int
    trace: str | None = None


class Progress(NamedTuple):
    """How far a running job is.

    Attributes:
        share: of its work that is done, in [0, 1].
        before: the share that was done before this start.
        loss: the last one logged.
        verdict: state of the last verdict.
    """

    share: float = 0.0
    before: float = 0.0
    loss: float | None = None
    verdict: str | None = None


@dataclass
class Running:
    """A job in a worker's hands, since `began` on the monotonic clock, in seconds."""

    work: float
    began: float
    progress: Progress = field(default_factory=Progress)

    @property
    def earned(self) -> float:
        """Work done since it began."""
        return (self.progress.share - self.progress.before) * self.work


@dataclass
class GridStatus:
    """The state of a grid.

    Attributes:
        jobs: how many there are; those with one folder count once.
        work: of all of them.
        began: when this runner did, on the monotonic clock, in seconds.
        finished, failed: how many jobs are.
        settled: work of these.
        earned: work of theirs that was done since `began`.
        running: the jobs in hand by name, in the order in which they began.
    """

    jobs: int
    work: float
    began: float
    finished: int = 0
    failed: int = 0
    settled: float = 0.0
    earned: float = 0.0
    running: dict[str, Running] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Jobs that nobody here works on yet."""
        return self.jobs - self.finished - self.failed - len(self.running)

    @property
    def done(self) -> float:
        """Work that is settled or done of what is running."""
        return self.settled + sum(job.progress.share * job.work for job in self.running.values())

    def left(self) -> float | None:
        """Return the seconds until all is done at the speed since `began`; None before there is one."""
        earned = self.earned + sum(job.earned for job in self.running.values())
        return (time.monotonic() - self.began) / earned * (self.work - self.done) if earned > 0 else None


class GridView:
    """What the runner tells whoever watches. Each method may be overridden; as it stands it does nothing."""

    def start(self, standing: GridStatus) -> None:
        """The grid begins; `standing` is kept up to date until `stop`."""

    def done(self, name: str, seconds: float | None, verdict: str | None) -> None:
        """A job is finished, after so many seconds here, or by another runner where None."""

    def failed(self, name: str, failure: Failure) -> None:
        """A job failed."""

    def say(self, text: str) -> None:
        """Something else worth a line."""

    def tick(self) -> None:
        """Called a few times a second, whatever happens."""

    def stop(self) -> None:
        """The grid is over, one way or another."""
