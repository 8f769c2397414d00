"""What a command's words and files must satisfy beyond the bounds of its options; the answer is one line."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vergence.config import suggest
from vergence.config.schema import said
from vergence.errors import InputError


def none_empty(words: Sequence[str]) -> None:
    """Raise `InputError` where a word of a command line is empty: a shell's variable that is not set, never meant."""
    for before, word in pairwise(("vergence", *words)):
        name, equals, value = word.partition("=")
        if not word or (name.startswith("--") and equals and not value):
            raise InputError(f"{name or before}: what should stand there is empty; is a variable not set?")


def one_of(option: str, value: str, choices: Sequence[str], what: str = "choice") -> None:
    """Raise `InputError` where the value is none of the choices; `what` each of them is."""
    if value not in choices:
        raise InputError(f"{option}: unknown {what} {said(value)}; {suggest.choice(value, choices)}")


def file_to_write(option: str, path: Path) -> Path:
    """Return where a file of that name is to be written: behind links, and never in the place of what is no such file.

    Raises:
        InputError: it is a folder, a device, a pipe, or a file that a run needs.
    """
    from vergence.files.run_folder import RUN, is_of_run

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
