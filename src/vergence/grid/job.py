"""The jobs of a grid, and what their folders say of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from vergence.engine.reporter import Reporter
from vergence.grid.status import Failure
from vergence.grid.worker import FAILED, failure_of, stamp_of


@runtime_checkable
class Job(Protocol):
    """A piece of work with a folder of its own. It is pickled on its way to the process that does it."""

    @property
    def name(self) -> str:
        """How it is shown; two jobs may not share one."""
        ...

    @property
    def folder(self) -> str:
        """Name of its folder, from the key of what it does: equal work, equal folder."""
        ...

    @property
    def work(self) -> float:
        """How long it takes compared with others, in any unit (such as epochs)."""
        ...

    def finished(self, folder: Path) -> bool:
        """Return whether the folder holds this job done. Cheap, and without torch."""
        ...

    def execute(self, folder: Path, view: Reporter) -> None:
        """Do it, or go on with it; leave the folder such that `finished` is true. Takes the folder's lock itself, and
        asks `finished` once more when it has it: another process may have let go of it just then, done.

        Raises:
            VergenceError: it cannot be done; `Busy` also where another process holds the folder.
        """
        ...


@dataclass(eq=False)
class Task:
    """The jobs of one folder.

    Attributes:
        number: place in the order.
        job: the first of them.
        folder: theirs.
        names: of all of them.
        deaths: processes that died over it.
        again: from when on it may be asked for, on the monotonic clock.
        stamp: time of the `failed.json` that was there at the start, whose job is tried again; None where none is.
    """

    number: int
    job: Job
    folder: Path
    stamp: int | None
    names: list[str] = field(default_factory=list)
    deaths: int = 0
    again: float = 0.0

    @property
    def name(self) -> str:
        return self.names[0]

    def finished(self) -> bool | Failure:
        """Return what the job says of its folder, or what prevents it."""
        try:
            return self.job.finished(self.folder)
        except Exception as error:
            return failure_of(error)

    def failed_elsewhere(self) -> Failure | None:
        """Return the failure that another runner wrote down since the start: one of them tries, not each."""
        if stamp_of(self.folder) in (None, self.stamp):
            return None
        try:
            found = json.loads((self.folder / FAILED).read_bytes())
            return Failure(found["kind"], found["message"], found["exit_code"], found.get("trace"))
        except (OSError, ValueError, LookupError, TypeError):
            return None


def tasks_of(jobs: Sequence[Job], root: Path, *, again: bool) -> list[Task]:
    """Return the jobs by their folders, in their order.

    Args:
        jobs: no two of one name.
        root: holds their folders.
        again: whether a job that failed before is tried again; else its failure counts.

    Raises:
        ValueError: two jobs have one name.
    """
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ValueError(f"two jobs are called {next(name for name in names if names.count(name) > 1)!r}")
    tasks: dict[str, Task] = {}
    for job in jobs:
        folder = root / job.folder
        stamp = stamp_of(folder) if again else None
        tasks.setdefault(job.folder, Task(len(tasks), job, folder, stamp)).names.append(job.name)
    return list(tasks.values())


def by_name(failures: Mapping[Task, Failure]) -> dict[str, Failure]:
    """Return failures by the names of their jobs, in the order of the tasks."""
    tasks = sorted(failures, key=lambda task: task.number)
    return {name: failures[task] for task in tasks for name in task.names}
