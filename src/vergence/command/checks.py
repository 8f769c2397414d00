"""What a command's words and files must satisfy beyond the bounds of its options; the answer is one line."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from vergence.command.commands import OPTIONS
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


def no_data_option(words: Sequence[str], name: str) -> None:
    """See that the pictures of a command that takes them behind a model are not given with --data."""
    places = [field.name for field in dataclasses.fields(OPTIONS[name])] if name in OPTIONS else []
    if "pictures" in places and any(word.partition("=")[0] == "--data" for word in words):
        raise InputError(
            f"--data: pictures are named without it here, as in: vergence {name} {places[0].upper()} ./pictures"
        )
