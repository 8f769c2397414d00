"""What can go wrong for a reason the user can mend, and the exit code each kind leaves with."""

import errno


class VergenceError(Exception):
    """One line for the user: what is wrong, where, and what to do. Everything else is a bug (exit 1)."""

    exit_code = 1


_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "failed to map segment", "Storage size calculation")
"""What torch says, the system's loader of libraries, and torch where a size has no room in 64 bits."""
_MACHINE = {
    getattr(errno, name)
    for name in ("EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ESTALE", "EAGAIN")
}


def out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error) for words in _NO_MEMORY)
    )


def of_the_machine(error: BaseException) -> bool:
    """Return whether a system call failed for want of something that has nothing to do with the file it was about."""
    return isinstance(error, OSError) and error.errno in _MACHINE


class InputError(VergenceError):
    """The configuration, the data or a checkpoint cannot be used as it is."""

    exit_code = 2


class Diverged(VergenceError):
    """The loss is no longer a number; nothing was updated with it."""

    exit_code = 3


class MachineError(VergenceError):
    """The machine refused: disk, memory, a lock that another process holds."""

    exit_code = 4


class Busy(MachineError):
    """Another process holds the folder; later it may not."""


class Stopped(VergenceError):
    """A signal asked the run to stop; its state is saved. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number, self.exit_code = signal_number, 128 + signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM came where nothing listens for it: before the first step, or in an evaluation."""
