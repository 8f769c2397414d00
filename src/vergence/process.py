"""The process that a command runs in: its three streams, and SIGTERM."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM came where nothing listens for it: before the first step, or in an evaluation."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Leave on SIGTERM as on SIGINT, by way of what cleans up. The loop that trains listens itself, and saves first."""

    def leave(_number: int, _frame: object) -> None:
        raise Terminated

    here = threading.current_thread() is threading.main_thread()  # Python delivers signals to the main thread only
    if not here or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def open_streams() -> None:
    """Point what the caller closed of input, output and errors at nothing: the next file opened would take its number,
    and what a library prints would be written into a checkpoint.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115, until Python leaves
