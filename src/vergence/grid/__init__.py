"""Many jobs, several at a time, each exactly once.

A job's folder says whether it is finished, and nothing else is remembered: a grid that was stopped or killed goes on
with the same command, and several runners may share one root. Until a job begins, runner and workers stand on the
standard library, so a worker hears within moments of its start that its runner is gone.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.spawn import get_preparation_data
from pathlib import Path

from vergence import plugins
from vergence.errors import MachineError, Stopped
from vergence.files import durable
from vergence.grid.job import Job, Task, by_name, tasks_of
from vergence.grid.status import Failure, GridStatus, GridView, Progress, Running
from vergence.grid.worker import FAILED, End, failure_of, record, signals

__all__ = ["FAILED", "Job", "run_grid"]

TICK = 0.2
"""Seconds in which the runner looks at signals and the clock at least once."""

AGAIN = 1.0
"""Seconds until a job whose folder another process holds is asked for again."""

GRACE = 60.0
"""Seconds a worker that was told to stop has for its step and its checkpoint before it is killed."""

BEGIN = """
import sys
from multiprocessing.connection import Connection
from multiprocessing.spawn import prepare
pipe, threads, runner = map(int, sys.argv[1:])
connection = Connection(pipe)
try:
    prepared = connection.recv()
except (EOFError, OSError):
    sys.exit()
prepare(prepared)
from vergence.grid.worker import work
work(connection, threads, runner)
"""
"""What a worker runs: as multiprocessing's spawn does, but silent where the runner is killed while it starts it."""


def run_grid(
    jobs: Sequence[Job], root: Path, *, at_once: int, threads: int, view: GridView, helps: bool = False
) -> dict[str, Failure]:
    """Do what is not finished yet of `jobs`, in their order; return the failures by name.

    A job that failed at an earlier start is tried again. Several runners may do so on one root: they share the work,
    and each returns when all of it is done. A script calls this under `if __name__ == "__main__":`, for the processes
    import it.

    Args:
        jobs: what is wanted; those with one folder are done once.
        root: holds the folders of the jobs.
        at_once: jobs done at the same time, each in a process of its own. Changes no result.
        threads: CPU threads of each of them; not made out of `at_once`, for it changes last bits.
        view: told what happens.
        helps: whether this runner is one of several that somebody watches: it tries no job again that failed, and
            returns as soon as others hold all that is left.

    Raises:
        ValueError: two jobs have one name, or a number is below 1.
        MachineError: the root cannot be written, or no process started.
        Stopped: a signal asked for it; what was under way is saved, and the same call goes on.
    """
    if at_once < 1 or threads < 1:
        raise ValueError(f"at_once and threads must be at least 1, not {at_once} and {threads}")
    tasks = tasks_of(jobs, root, again=not helps)
    durable.make_folder(root)
    with signals() as told:
        runner = _Runner(tasks, at_once, threads, view, told)
        try:
            runner.run(helps)
        finally:
            runner.close()
            view.stop()
    standing = runner.standing
    if runner.waiting and told:
        failed = f", {standing.failed} failed" if standing.failed else ""
        text = f"{root}: stopped with {standing.finished} of {standing.jobs} jobs done{failed}"
        raise Stopped(f"{text}; what was under way is saved, and the same command goes on", told[0])
    return by_name(runner.failures)


class _Worker:
    """A process that does one job after another, and the runner's end of the pipe to it."""

    def __init__(self, threads: int):
        self.piece: Task | None = None
        self.connection, theirs = multiprocessing.Pipe()
        prepared = get_preparation_data("worker")
        del prepared["authkey"]  # it refuses to be sent, and nobody asks for it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process is born with it
        try:
            numbers = map(str, (theirs.fileno(), threads, os.getpid()))
            command = [sys.executable, "-c", BEGIN, *numbers]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | plugins.environment(),
            )
        except OSError as error:
            self.connection.close()
            raise MachineError(f"cannot start a process: {error.strerror}; try fewer jobs at once") from error
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(OSError):  # it is dead already, as the pipe will tell
            self.connection.send(prepared)

    def end(self, patience: float) -> int:
        """Wait so many seconds until the process is gone, then kill it; return its exit code."""
        self.connection.close()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class _Runner:
    """The work that is left, and the workers that do it."""

    def __init__(self, pieces: Sequence[Task], at_once: int, threads: int, view: GridView, told: Sequence[int]):
        self.at_once, self.threads, self.view, self.told = at_once, threads, view, told
        self.standing = GridStatus(len(pieces), sum(piece.job.work for piece in pieces), time.monotonic())
        self.waiting = list(pieces)
        self.held: set[Task] = set()
        self.failures: dict[Task, Failure] = {}
        self.workers: list[_Worker] = []
        self.leaving: list[_Worker] = []
        self.deadline: float | None = None

    def run(self, helps: bool) -> None:
        """Do jobs until nothing is left, or nothing but what others hold, or all have stopped after a signal."""
        for piece in [piece for piece in self.waiting if piece.finished() is True]:
            self.waiting.remove(piece)
            self._finish(piece, 0.0)
        self.view.start(self.standing)
        while self.standing.running or (self.waiting and self.deadline is None):
            if self.told:
                self._stop()
            else:
                self._hand_out()
            for connection in wait([worker.connection for worker in self.workers], TICK):
                self._hear(next(worker for worker in self.workers if worker.connection is connection))
            self.view.tick()
            if helps and not self.standing.running and self.held.issuperset(self.waiting):
                return

    def close(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            if worker.piece is not None:  # the runner itself failed; let it save
                worker.process.terminate()
            worker.connection.close()
        for worker in (*self.workers, *self.leaving):
            worker.end(GRACE)

    def _hand_out(self) -> None:
        now = time.monotonic()
        for piece in [piece for piece in self.waiting if piece.again <= now]:
            if len(self.standing.running) == self.at_once:
                return
            self.waiting.remove(piece)
            finished = piece.finished()
            if finished is True:
                self._finish(piece, piece.job.work)
                self.view.done(piece.name, None, None)
            elif finished:
                self._fail(piece, finished)
            elif (failure := piece.failed_elsewhere()) is not None:
                self._fail(piece, failure, known=True)
            else:
                self._give(piece)

    def _give(self, piece: Task) -> None:
        worker = next((worker for worker in self.workers if worker.piece is None), None)
        if worker is None:
            worker = _Worker(self.threads)
            self.workers.append(worker)
        try:
            worker.connection.send((piece.job, piece.folder, piece.stamp))
        except OSError:  # dead, too
            pass
        except Exception as error:  # the job cannot be sent
            self._fail(piece, failure_of(error))
            return
        worker.piece = piece
        self.held.discard(piece)
        self.standing.running[piece.name] = Running(piece.job.work, time.monotonic())

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if (piece := worker.piece) is None:
            return
        if isinstance(message, End):
            self._end(worker, piece, message)
        elif isinstance(message, Progress):
            self.standing.running[piece.name].progress = message
        else:
            self.view.say(f"{piece.name}: {message}")

    def _end(self, worker: _Worker, piece: Task, end: End) -> None:
        worker.piece = None
        if end.leaves:
            self.workers.remove(worker)
            self.leaving.append(worker)
        running = self.standing.running.pop(piece.name)
        if end.busy:
            if not piece.again:
                self.view.say(f"{piece.name}: put off: {end.busy}")
            self.held.add(piece)
            self._put_back(piece, AGAIN)
            return
        self.held.clear()  # while this one was done here, another runner may have let go of its own
        if end.failure is not None:
            self._fail(piece, end.failure, running.earned, known=True)
            return
        self._finish(piece, (1 - running.progress.before) * running.work)
        self.view.done(piece.name, time.monotonic() - running.began, running.progress.verdict)

    def _bury(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        code = worker.end(10)
        if (piece := worker.piece) is None:
            return
        earned = self.standing.running.pop(piece.name).earned
        if self.told:
            self._put_back(piece)
            return
        piece.deaths += 1
        if piece.deaths < 2:
            self.view.say(f"{piece.name}: its process was {_cause(code)}; trying once more")
            self._put_back(piece)
        else:
            self._fail(piece, Failure("killed", _cause(code), MachineError.exit_code), earned)

    def _put_back(self, piece: Task, pause: float = 0.0) -> None:
        piece.again = time.monotonic() + pause
        self.waiting = sorted([*self.waiting, piece], key=lambda piece: piece.number)

    def _finish(self, piece: Task, earned: float) -> None:
        self.standing.finished += 1
        self.standing.settled += piece.job.work
        self.standing.earned += earned
        with contextlib.suppress(OSError):
            (piece.folder / FAILED).unlink(missing_ok=True)

    def _fail(self, piece: Task, failure: Failure, earned: float = 0.0, *, known: bool = False) -> None:
        self.standing.failed += 1
        self.standing.settled += piece.job.work
        self.standing.earned += earned
        self.failures[piece] = failure
        if not known:
            record(piece.folder, failure)
        self.view.failed(piece.name, failure)

    def _stop(self) -> None:
        """Tell the workers once; kill those that do not end in time, or all where SIGINT came twice."""
        busy = [worker for worker in self.workers if worker.piece is not None]
        if self.deadline is None:
            self.deadline = time.monotonic() + GRACE
            self.view.say(f"stopping: {len(busy)} under way will save what they have")
            for worker in busy:
                worker.process.terminate()
        elif time.monotonic() > self.deadline or self.told.count(signal.SIGINT) > 1:
            for worker in busy:
                worker.process.kill()


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"killed by signal {-code}" + ("; out of memory?" if -code == signal.SIGKILL else "")
