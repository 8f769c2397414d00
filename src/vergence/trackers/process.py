"""A tracker in a process of its own, which can neither change a run nor hold it up.

What it imports, which threads, handlers and random numbers it has, where it hangs or crashes: all of that stays in its
process. The run writes into a pipe, never waits for it, and goes on without a tracker that fails.
"""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vergence import plugins
from vergence.engine.reporter import Line, Relay, Reporter, Reporters
from vergence.errors import VergenceError
from vergence.files import durable
from vergence.files.names import shown
from vergence.files.run_folder import RUN, TRACKED, read_run

PATIENCE = 30.0
"""Seconds that all trackers together have at the end, when the run's files are written."""

MOST = 16 << 20
"""Bytes that may wait for a tracker; a line has about a thousand."""


@contextlib.contextmanager
def tracked(names: Sequence[str], folder: Path, terminal: Reporter) -> Iterator[Reporter]:
    """Tell trackers what the terminal is told; at the end, wait for them.

    Args:
        names: of the trackers.
        folder: of the run; it has a `run.json` when they are told something first.
        terminal: told first, and told why a tracker is dropped.
    """
    trackers = [ProcessTracker(name, folder, terminal.say) for name in dict.fromkeys(names)]
    try:
        yield Reporters([terminal, *trackers])
    finally:
        deadline = time.perf_counter() + PATIENCE
        for tracker in trackers:
            tracker.end(deadline)


class ProcessTracker(Relay):
    """The run's end of the pipe to a tracker, whose process begins when there is something to tell.

    Args:
        name: under which it is registered.
        folder: of the run.
        say: told, once, that the tracker is dropped.
    """

    def __init__(self, name: str, folder: Path, say: Callable[[str], None]):
        self.name, self.folder, self.warn = name, folder, say
        self.process: subprocess.Popen[bytes] | None = None
        self.dropped = False
        self.waiting = bytearray()

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.tell("start", total, done, per_epoch, None, warnings)  # its process reads the lines from the log

    def tell(self, call: str, *told: Any) -> None:
        if self.dropped:
            return
        if self.process is None:
            try:
                self.process = self._begin()
            except (OSError, VergenceError) as error:
                self._drop(plugins.said_by(error))
                return
        self.waiting += json.dumps([call, *told]).encode() + b"\n"
        self._write()
        if len(self.waiting) > MOST:
            self._drop("it does not keep up")

    def end(self, deadline: float) -> None:
        """Hand over what waits and let the tracker finish, until `time.perf_counter()` is at the deadline."""
        if self.process is None or self.dropped:
            return
        assert self.process.stdin is not None
        room = select.poll()
        room.register(self.process.stdin, select.POLLOUT)
        try:
            while self.waiting and room.poll(1000 * max(0.0, deadline - time.perf_counter())):
                self._write()
            self.process.stdin.close()
            if self.process.wait(max(0.0, deadline - time.perf_counter())):
                self._drop()
        except subprocess.TimeoutExpired:
            self._drop(f"it has not finished {PATIENCE:.0f} s after the run")
        finally:
            self._close()

    def _begin(self) -> subprocess.Popen[bytes]:
        """Start the process. It imports from where this one does, and what it prints is kept for the case it fails."""
        if not (self.folder / TRACKED).exists():
            key = read_run(self.folder / RUN).key
            durable.write_json(self.folder / TRACKED, {"id": f"{key}-{secrets.token_hex(4)}"})
        command = [sys.executable, "-P", "-m", "vergence.trackers", self.name, str(self.folder)]
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115, until the end
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self.printed,
                stderr=self.printed,
                bufsize=0,
                env=os.environ | plugins.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C on a terminal is for the run
            )
        except OSError:
            self.printed.close()
            raise
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _write(self) -> None:
        """Write as much of what waits as the pipe takes at once."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            while self.waiting:
                del self.waiting[: os.write(self.process.stdin.fileno(), self.waiting[: 64 << 10])]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more
            self._drop()

    def _drop(self, why: str = "") -> None:
        """Go on without the tracker and say why: what it printed last, where its process has ended."""
        if self.dropped:
            return
        self.dropped = True
        self.waiting.clear()
        if self.process is not None and not why:
            self.printed.seek(0)
            printed = self.printed.read().decode(errors="replace").split("\n")
            why = next((line for line in reversed(printed) if line.strip()), "its process has ended")
        self._close()
        self.warn(f"warning: --track {self.name}: {shown(why)}; the run goes on without it")

    def _close(self) -> None:
        """End the process, if it has not ended, and let go of what it was told by."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a call of the system's that hangs
            self.process.wait(1)
        self.printed.close()
