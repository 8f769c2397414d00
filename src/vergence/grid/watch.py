"""Jobs that are done elsewhere, on a cluster: all that is known of them here is what their folders say."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from vergence.errors import MachineError, Stopped
from vergence.files import durable
from vergence.grid.job import Job, Task, by_name, tasks_of
from vergence.grid.status import Failure, GridStatus, GridView
from vergence.grid.worker import FAILED, signals

PERIOD = 1.0
"""Seconds between two looks at the folders."""


class Runners(Protocol):
    """The processes on a cluster that do jobs, or wait for their turn there."""

    @property
    def about(self) -> str:
        """How many they are, and where to read what they say."""
        ...

    def alive(self) -> bool:
        """Return whether any is left."""
        ...

    def last_words(self) -> str:
        """Return what one of those that are gone said last; empty where none said anything."""
        ...

    def leave(self) -> str:
        """Watch no longer; return what becomes of those that are left."""
        ...


class Engine(Protocol):
    """A way to have jobs done on a cluster."""

    def left(self) -> Runners | None:
        """Return the runners of an earlier start, where some are left."""
        ...

    def start(self, names: Sequence[str]) -> Runners:
        """Start what does the jobs of these names.

        Raises:
            VergenceError: the cluster refuses.
        """
        ...


def run_on(engine: Engine, jobs: Sequence[Job], root: Path, view: GridView) -> dict[str, Failure]:
    """Have what is not finished yet of `jobs` done on a cluster, and watch; return the failures by name.

    A job that failed is tried again, unless runners of an earlier start are still at work.

    Args:
        engine: starts what does them.
        jobs: what is wanted; those with one folder are done once.
        root: holds the folders of the jobs, on every node.
        view: told what happens.

    Raises:
        ValueError: two jobs have one name.
        MachineError: the root cannot be written or has no locks, another process watches it, the cluster refuses, or
            jobs are not done and nothing is left that does them.
        Stopped: a signal ended the watch.
    """
    tasks = tasks_of(jobs, root, again=False)
    with durable.locked(root, ".watched"), signals() as told:
        runners = engine.left()
        for task in tasks if runners is None else ():
            if task.finished() is not True:
                with contextlib.suppress(OSError):
                    (task.folder / FAILED).unlink(missing_ok=True)
        watch = _Watch(tasks, view)
        for task, failure in watch.ended():
            watch.settle(task, failure)
        view.start(watch.standing)
        try:
            if watch.waiting:
                runners = runners or engine.start([task.name for task in watch.waiting])
                view.say(runners.about)
                watch.wait(runners, root, told)
        finally:
            view.stop()
    return by_name(watch.failures)


class _Watch:
    """The jobs that are not done yet, as far as their folders say."""

    def __init__(self, tasks: Sequence[Task], view: GridView):
        self.waiting, self.view = list(tasks), view
        self.failures: dict[Task, Failure] = {}
        self.standing = GridStatus(len(tasks), sum(task.job.work for task in tasks), time.monotonic())

    def wait(self, runners: Runners, root: Path, told: Sequence[int]) -> None:
        """Look until all is done, no runner is left, or a signal came."""
        try:
            while self.waiting and not told:
                alive = runners.alive()  # asked before the folders are, so that what the last one did is seen
                for task, failure in self.ended():
                    self.settle(task, failure)
                    if failure is None:
                        self.view.done(task.name, None, None)
                    else:
                        self.view.failed(task.name, failure)
                if self.waiting and not alive:
                    said = runners.last_words()
                    raise MachineError(
                        f"{root}: {len(self.waiting)} of {self.standing.jobs} jobs are not done, and nothing is left "
                        f"that does them{f': {said}' if said else ''}; the same command starts it again"
                    )
                self.view.tick()
                time.sleep(PERIOD if self.waiting else 0)
        finally:
            fate = runners.leave()
        if self.waiting:
            done = f"{self.standing.finished} of {self.standing.jobs} jobs done"
            raise Stopped(f"{root}: stopped watching with {done}; {fate}", told[0])

    def ended(self) -> Iterator[tuple[Task, Failure | None]]:
        """Yield the jobs that are done now, and those that failed, with the reason."""
        for task in list(self.waiting):
            with contextlib.suppress(OSError):
                os.listdir(task.folder)  # or a share's client may answer from what it remembers
            finished = task.finished()
            failure = finished if isinstance(finished, Failure) else task.failed_elsewhere()
            if finished is True:
                yield task, None
            elif failure is not None:
                yield task, failure

    def settle(self, task: Task, failure: Failure | None) -> None:
        """Count a job that is done, or failed."""
        self.waiting.remove(task)
        self.standing.settled += task.job.work
        if failure is None:
            self.standing.finished += 1
        else:
            self.standing.failed += 1
            self.failures[task] = failure
