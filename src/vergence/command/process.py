"""The process that a command runs in: its three streams, its signals, and what it says and returns when it ends."""

import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import FrameType

from vergence.errors import MachineError, Terminated, VergenceError, of_the_machine, out_of_memory
from vergence.files.names import shown
from vergence.machine.progress import Progress, watched

INTERRUPTED, TERMINATED = "interrupted", "terminated; what was saved stands"


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Leave on SIGTERM as on SIGINT, by way of what cleans up. The loop that trains listens itself, and saves first.

    While a module is imported both end the process where it stands: libraries that are cut off there raise anything.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if _imports(frame):
            os.write(2, f"error: {TERMINATED if number == signal.SIGTERM else INTERRUPTED}\n".encode())
            os._exit(128 + number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # Python delivers signals to the main thread only
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    ours = [number for number, handler in usual.items() if here and signal.getsignal(number) == handler]
    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, usual[number])


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def open_streams() -> Iterator[None]:
    """Point what the caller closed of input, output and errors at nothing: the next file opened would take its number,
    and what a library prints would be written into a checkpoint. What Python calls them is put back at the end.
    """
    before = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    written = (before["stdout"], before["stderr"])
    errors = {stream: stream.errors for stream in written if hasattr(stream, "reconfigure")}
    try:
        _open_streams()
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
        for stream, usual in errors.items():
            if not stream.closed:
                stream.reconfigure(errors=usual)


def _open_streams() -> None:
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115, until Python leaves
        if mode == "w" and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # what another encoding lacks is no reason to end


_guests = 0
_coming_and_going = threading.Lock()
_left: contextlib.ExitStack


@contextlib.contextmanager
def as_a_guest() -> Iterator[None]:
    """Within, warnings are shown and streams are open as a command needs them; then all is as it was found.

    Commands in several threads share it: the first that comes sets it up, the last that goes puts it back.
    """
    global _guests, _left
    with _coming_and_going:
        _guests += 1
        if _guests == 1:
            with contextlib.ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                warnings.showwarning = functools.partial(_show_warning, set())
                stack.enter_context(open_streams())
                _left = stack.pop_all()
    try:
        yield
    finally:
        with _coming_and_going:
            _guests -= 1
            if _guests == 0:
                _left.close()


@contextlib.contextmanager
def variables_put_back(*names: str) -> Iterator[None]:
    """At the end, give these variables of the environment the values that they had, or none."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command with its words: whatever it raises becomes lines on stderr and an exit code."""
    with as_a_guest():
        try:
            try:
                with terminable(), watched(_ShownProgress()):
                    _require_current_folder()
                    return command(words)
            finally:
                sys.stdout.flush()  # a reader that is gone shows here, not while Python leaves
        except VergenceError as error:
            return _end(_printable(str(error), words), error.exit_code)
        except Terminated:
            return _end(TERMINATED, 143)
        except KeyboardInterrupt:
            return _end(INTERRUPTED, 130)
        except BrokenPipeError:  # the reader of our output is gone: nothing is left to say
            _drop_output()
            return 141
        except Exception as error:  # a bug: one line here, the trace in a file
            return _bug(error)


def _end(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Write what waits in our output's buffer to nowhere, for Python would try again when it leaves."""
    usual, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        sys.stdout.flush()
    finally:
        os.dup2(usual, 1)
        os.close(usual)
        os.close(nowhere)


def _require_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise MachineError("the current folder is not there any more; change to another one") from error


def _printable(text: str, words: list[str]) -> str:
    """An error's text, in which a path that was given may hold newlines and escape codes: those as escapes."""
    for part in (part for word in words for part in word.split("/") if not part.isprintable()):
        text = text.replace(part, shown(part))
    return text


def _show_warning(said: set[str], message: Warning | str, category: type[Warning], *_where: object) -> None:
    if category is UserWarning and str(message) not in said:  # others' notices to developers are not for our users
        said.add(str(message))  # each split of the pictures is loaded, and would say the same
        print(f"warning: {message}", file=sys.stderr)


class _ShownProgress:
    """Says on stderr how far long work is: on a terminal in one line that changes, else a line now and then."""

    def __init__(self) -> None:
        self._next = 0.0
        self._written = 0  # characters of the line that changes

    def __call__(self, progress: Progress | None) -> None:
        if progress is None:
            self._write("")
            return
        now = time.monotonic()
        if progress.done == 0:
            self._next = now + 0.5  # what takes less is not worth a word
        if now < self._next:
            return
        in_place = sys.stderr.isatty()
        self._next = now + (0.2 if in_place else 30)
        if in_place:
            self._write(str(progress))
        else:
            print(progress, file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        if text or self._written:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r{text:{self._written}}", end="" if text else "\r", file=sys.stderr, flush=True)
            self._written = len(text)


def _bug(error: Exception) -> int:
    if out_of_memory(error):
        known = "out of memory; try a smaller --batch-size, and --resume: what was saved stands"
        return _end(known, MachineError.exit_code)
    if of_the_machine(error):
        return _end(f"{shown(str(error))}: check the disk and the limits of this process", MachineError.exit_code)
    text = (str(error).splitlines() or [""])[0]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="vergence-", suffix=".log", delete=False) as log:
            traceback.print_exception(error, file=log)
        where = f"trace in {log.name}"
    except OSError:
        where = "no trace: there is no folder for it; set TMPDIR"
    from vergence.plugins import blamed  # not before help

    whose = blamed(error) or "a bug in vergence"
    return _end(f"{whose}: {type(error).__name__}: {text} ({where})", 1)
