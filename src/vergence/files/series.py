"""Sealed folders numbered by step, of which the newest two are kept: the one before in case the newest is damaged."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vergence.errors import InputError, MachineError
from vergence.files import durable

KEEP = 2


def folder_of(series: Path, step: int) -> Path:
    """Return the folder of a step."""
    return series / f"step-{step:09d}"


def found(series: Path) -> list[Path]:
    """Return the folders there are, oldest first by number, for a clock may jump; copies of other names are none.

    Raises:
        MachineError: they cannot be listed.
    """
    try:
        names = os.listdir(series)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):  # there can be none
            return []
        raise MachineError(f"cannot list {series}: {error.strerror}: check the disk and the permissions") from error
    return sorted((series / name for name in names if re.fullmatch(r"step-\d{9,}", name)), key=_step)


def add(series: Path, step: int, files: Mapping[str, durable.Content]) -> Path:
    """Write the folder of a step, then drop all but it and the one before.

    A folder of this step or a later one that is there already is a damaged one, which nothing was resumed from.
    """
    folder = folder_of(series, step)
    if folder.exists():
        durable.remove_folder(folder)
    durable.write_folder(folder, files)
    there = found(series)
    kept = [other for other in there if _step(other) <= step][-KEEP:]
    for other in there:
        if other not in kept:
            durable.remove_folder(other)
    return folder


def newest(series: Path) -> tuple[Path | None, dict[str, bytes], list[str]]:
    """Return the newest whole folder, if there is one, its files, and a line for each damaged one that was passed over.

    Raises:
        InputError: there are folders but none is whole.
    """
    warnings: list[str] = []
    for folder in reversed(found(series)):
        try:
            return folder, durable.read_folder(folder), warnings
        except InputError as error:
            warnings.append(f"{error}; trying the one before it")
    if warnings:
        raise InputError("\n".join(warnings) + f"\n{series}: no whole checkpoint left; train again in another --out")
    return None, {}, []


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
