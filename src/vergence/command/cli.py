"""The command `vergence`. Errors are one line each and an exit code; help imports nothing but the standard library."""

import sys
from collections.abc import Sequence

from vergence.command.parser import parser
from vergence.command.process import guarded

COMPUTING = {"train", "evaluate", "bench", "demo"}


def command() -> int:
    """Run the command that this process was started for, and return its exit code: the console script `vergence`.

    The memory of a process that computes is settled here, and not in `main`, which other programs call in theirs.
    """
    if COMPUTING & set(sys.argv):
        from vergence.machine.memory import keep_freed_memory  # not before help

        keep_freed_memory()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 bad input, 3 diverged, 4 machine, 1 a bug, 128 + signal."""
    return guarded(_dispatch, list(sys.argv[1:] if arguments is None else arguments))


def _dispatch(words: list[str]) -> int:
    if words in ([], ["-h"], ["--help"], ["--version"]):
        top, _ = parser()
        top.parse_args(words)
        top.print_help()
        return 0
    from vergence.command.handlers import dispatch  # it reads every configuration there is

    return dispatch(words)
