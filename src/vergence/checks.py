"""What a command's own options must satisfy; the answer is one line that names the option."""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vergence import suggest
from vergence.errors import InputError
from vergence.schema import said


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Raise `InputError` where the value is none of the choices."""
    if value not in choices:
        raise InputError(f"{option}: unknown choice {said(value)}; {suggest.choice(value, choices)}")


def names(option: str, text: str, choices: Sequence[str], what: str) -> tuple[str, ...]:
    """The names of a list such as "knn,linear", in its order; `what` each of them is, for the error."""
    named = tuple(name for name in text.split(",") if name)
    for name in named:
        if name not in choices:
            raise InputError(f"{option}: unknown {what} {said(name)}; {suggest.choice(name, choices)}")
    return named


def at_least(option: str, value: int, low: int) -> None:
    """Raise `InputError` where the value is below the least."""
    if value < low:
        raise InputError(f"{option}: must be at least {low}, not {value}")


def at_most(option: str, value: int, high: int) -> None:
    """Raise `InputError` where the value is above the most."""
    if value > high:
        raise InputError(f"{option}: must be at most {high:,}, not {said(value)}")


def none_empty(words: Sequence[str]) -> None:
    """Raise `InputError` where a word of a command line is empty: a shell's variable that is not set, never meant."""
    for before, word in pairwise(("vergence", *words)):
        name, equals, value = word.partition("=")
        if not word or (name.startswith("--") and equals and not value):
            raise InputError(f"{name or before}: what should stand there is empty; is a variable not set?")


def path_of(text: str) -> Path:
    """A path as a user writes it, for argparse: `~` is the home folder, in `--out=~/x` too, where a shell leaves it."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{said(text)}: {error} Write the whole path") from error


def file_to_write(option: str, path: Path) -> Path:
    """Where a file of that name is to be written: behind links, and never in the place of what is not such a file.

    Raises:
        InputError: it is a folder, a device, a pipe, or a file that a run needs.
    """
    from vergence.runfile import RUN, is_of_run

    try:
        behind = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{option}: {path}: {error}; choose another name") from error
    if behind.is_dir():
        raise InputError(f"{option}: {path} is a folder; name a file in it")
    if behind.exists() and not behind.is_file():
        raise InputError(f"{option}: {path} is no plain file; choose another name")
    if is_of_run(behind.name) and (behind.parent / RUN).exists():
        raise InputError(f"{option}: {path} belongs to the run in {behind.parent}; choose another name")
    return behind
