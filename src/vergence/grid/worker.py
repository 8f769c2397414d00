"""The process that does a grid's jobs, one after another, and what it says to the runner."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from vergence import plugins
from vergence.engine.reporter import Line, Reporter
from vergence.errors import Busy, MachineError, Stopped, VergenceError, out_of_memory
from vergence.files import durable
from vergence.grid.status import Failure, Progress
from vergence.machine.memory import keep_freed_memory
from vergence.metrics.verdict import Verdict

FAILED = "failed.json"
"""Why the last try of a job failed; not there in a finished folder."""

TRYING = ".trying"
"""Held by the worker that tries a job, until a failure is written down: a job lets go of its own lock before that."""

PERIOD = 0.3
"""Least seconds between two messages of progress from one worker."""


class End(NamedTuple):
    """A worker's last message on a job: done where `busy` and `failure` say nothing. A worker that `leaves` ends."""

    failure: Failure | None = None
    busy: str | None = None
    leaves: bool = False


def work(connection: Connection, threads: int, runner: int) -> None:
    """Do one job after another, as a worker. SIGINT, which a terminal sends to all, is for the runner, which then sends
    SIGTERM, once.

    SIGTERM ends the process on the spot, which is as safe as any kill, except where a job takes it to save first, as
    training does. The kernel sends it too when the runner dies (on Linux).
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT})
    end_with_parent()
    if os.getppid() != runner:  # it died before that
        return
    if os.environ.get(plugins.VARIABLE):
        plugins.load_named()
    keep_freed_memory()  # before torch starts threads, and for all jobs
    teller = Teller(connection)
    warnings.showwarning = teller.warn
    end = End()
    while not end.leaves:
        try:
            job, folder, stamp = connection.recv()
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # its module cannot be imported, say
            end = End(failure_of(error), leaves=True)
        else:
            end = _alone(job, folder, stamp, threads, teller)
        try:
            connection.send(end)
        except OSError:
            return


def _alone(job: Any, folder: Path, stamp: int | None, threads: int, teller: "Teller") -> End:
    """Try a job unless another runner does, or did since the time of `stamp`; write down a failure."""
    try:
        with durable.locked(folder, TRYING):
            if stamp_of(folder) not in (None, stamp):
                return End(busy=f"{folder}: another runner tried it just now")
            end = _attempt(job, folder, threads, teller)
            if end.failure is not None:
                record(folder, end.failure)
            return end
    except Busy as error:
        return End(busy=str(error))
    except VergenceError as error:
        return End(failure_of(error))


def _attempt(job: Any, folder: Path, threads: int, teller: "Teller") -> End:
    try:
        import torch

        torch.set_num_threads(threads)
        teller.progress = Progress()
        job.execute(folder, teller)
        teller.stop()
        if not job.finished(folder):
            return End(Failure("bug", "the job came to its end, but its folder is not finished", 1))
    except Busy as error:
        return End(busy=str(error))
    except Stopped as error:
        sys.exit(error.exit_code)  # the runner knows why, or is gone, or it was meant for this process and is a death
    except VergenceError as error:
        return End(failure_of(error))
    except BaseException as error:  # SystemExit too; after a bug, or out of memory, who knows what the process holds
        return End(failure_of(error), leaves=True)
    return End()


class Teller(Reporter):
    """Tells the runner what a job reports; the blocks of many jobs would hide that, and stay in their summaries."""

    def __init__(self, connection: Connection):
        self.connection, self.progress, self.sent = connection, Progress(), 0.0
        self.total, self.done = 1, 0

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.total, self.done = max(1, total), done
        last = lines[-1] if lines else {}
        self.progress = Progress(done / self.total, done / self.total, last.get("loss"), last.get("verdict"))
        self._send(self.progress)
        for warning in warnings:
            self.say(f"warning: {warning}")

    def step(self) -> None:
        self.done += 1
        self._proceed(self.progress._replace(share=self.done / self.total))

    def line(self, line: Line, verdict: Verdict) -> None:
        self._proceed(self.progress._replace(loss=line.get("loss"), verdict=verdict.state))

    def say(self, text: str) -> None:
        self._send(text)

    def stop(self) -> None:
        self._send(self.progress)

    def warn(self, message: Warning | str, category: type[Warning], *_where: object) -> None:
        """Pass on a warning of ours, as the command does; Python calls this with each one."""
        if category is UserWarning:
            self.say(f"warning: {message}")

    def _proceed(self, progress: Progress) -> None:
        self.progress = progress
        if time.monotonic() - self.sent >= PERIOD:
            self._send(progress)

    def _send(self, message: Progress | str) -> None:
        self.sent = time.monotonic()
        try:
            self.connection.send(message)
        except OSError:  # the runner is gone: as if the kernel had said so
            signal.raise_signal(signal.SIGTERM)


def end_with_parent() -> None:
    """Let the kernel send this process SIGTERM when the one that started it dies (on Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def stamp_of(folder: Path) -> int | None:
    """Return when a failure was last written down in a job's folder, in nanoseconds; None where none is."""
    try:
        return (folder / FAILED).stat().st_mtime_ns
    except OSError:
        return None


def record(folder: Path, failure: Failure) -> None:
    """Write a failure down in the job's folder; where that cannot be, on a full disk say, the failure itself counts."""
    said = {name: value for name, value in asdict(failure).items() if value is not None}
    with contextlib.suppress(MachineError):
        durable.write_json(folder / FAILED, said | {"time": datetime.now(UTC).isoformat(timespec="seconds")})


def failure_of(error: BaseException) -> Failure:
    """Return what to say of an exception."""
    if isinstance(error, VergenceError):
        fewer = "; or try fewer jobs at once" if error.__cause__ and out_of_memory(error.__cause__) else ""
        return Failure(type(error).__name__, str(error) + fewer, error.exit_code)
    if out_of_memory(error):
        return Failure("MachineError", "out of memory; try fewer jobs at once", MachineError.exit_code)
    line = (str(error).splitlines() or [""])[0]
    return Failure("bug", f"{type(error).__name__}: {line}", 1, "".join(traceback.format_exception(error)))


@contextlib.contextmanager
def signals() -> Iterator[Sequence[int]]:
    """Give the SIGINT and SIGTERM that came so far."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield told
        return
    before = {n: signal.signal(n, lambda number, _frame: told.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
