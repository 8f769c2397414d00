"""The contract of a file that lists or holds pictures, and what all such files share: columns, splits, safe paths."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np

from vergence.data.arrange import TEST, TRAIN, UNLABELLED_NAMES
from vergence.data.scan import Found
from vergence.errors import InputError, MachineError, VergenceError, of_the_machine
from vergence.files.names import listed, shown

MOST_BYTES = 1 << 29
"""The most bytes of one encoded picture: it is read whole."""

SPLITS = frozenset((*TRAIN, *TEST, *UNLABELLED_NAMES))
"""Words in the names of shards, folders and arrays that name a split."""

LABELS = ("label", "class", "target", "y", "category", "fine_label", "labels")
"""Columns taken for the label, the first that is there."""

SPLIT_COLUMNS = ("split", "subset", "set", "partition")


@dataclass(frozen=True)
class Listing:
    """Pictures that a file lists or holds, in its order.

    Attributes:
        found: a unique name for each picture (`cats/1.jpg`, `part-0.parquet/17`, `shard-000.tar/a.jpg`), with the bytes
            and the time of change of the file that tells whether the picture has changed.
        labels: the name of each picture's class, None where it has none; None where there are no labels at all.
        classes: names of classes in the order of their numbers, where the file says it; else None.
        splits: each picture's split as it is written; None where the file knows of no splits.
        files: files and folders whose times, with that of the place itself, tell whether the listing still holds; None
            where each picture must be looked at.
    """

    found: Sequence[Found]
    labels: Sequence[str | None] | None = None
    classes: tuple[str, ...] | None = None
    splits: Sequence[str] | None = None
    files: Sequence[Path] | None = None


def listing_of(
    found: Sequence[Found],
    labels: Sequence[str | None],
    splits: Sequence[str | None],
    where: Path,
    classes: tuple[str, ...] | None = None,
) -> Listing:
    """Return a listing of pictures, which has labels where any picture has one, and splits where all have.

    Raises:
        InputError: there are no pictures, or some have a split and others do not.
    """
    if not found:
        raise InputError(f"{shown(where)}: lists or holds no pictures")
    without = [shown(file.path) for file, split in zip(found, splits, strict=True) if split is None]
    if without and len(without) < len(found):
        count = f"{len(without):,} of {len(found):,} pictures without a split"
        raise InputError(f"{shown(where)}: {count}: {listed(without)}; fill it in for all or for none")
    return Listing(
        tuple(found),
        tuple(labels) if any(label is not None for label in labels) else None,
        classes,
        None if without else tuple(split for split in splits if split is not None),
    )


@runtime_checkable
class Door(Protocol):
    """What lists or holds pictures."""

    def listing(self) -> Listing:
        """Return all pictures, without opening one.

        Raises:
            InputError: the file is damaged or incomplete, or does not say where its pictures are.
        """
        ...

    def contents(self, wanted: Sequence[Found]) -> Iterator[bytes | np.ndarray]:
        """Yield the encoded bytes, or the values [h w] or [h w c], uint8 or uint16, of each wanted picture.

        Args:
            wanted: some of the listing's pictures, in its order. They are read one after another, in memory that does
                not grow with their number.

        Raises:
            InputError: a picture is missing or damaged, or its file has changed since it was listed.
        """
        ...


def column_of(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """Return the first column that has one of the names, in the order of the names and in any spelling."""
    spelled = {_folded(column): column for column in reversed(columns)}
    return next((spelled[_folded(name)] for name in names if _folded(name) in spelled), None)


def label_column(columns: Sequence[str], labels: str, where: Path) -> str | None:
    """Return the column of labels: by the usual names for "auto", none for "none", else the one that is named.

    Raises:
        InputError: there is no column of that name.
    """
    if labels == "none":
        return None
    if labels == "auto":
        return column_of(columns, LABELS)
    column = labels if labels in columns else column_of(columns, (labels,))
    if column is None:
        there = listed([shown(name) for name in columns], 10) or "none"
        raise InputError(f"{shown(where)}: no column '{shown(labels)}' for the labels; columns: {there}")
    return column


def class_name(value: object, classes: Sequence[str] | None, place: str) -> str | None:
    """Return the name of the class that a label means; None where there is no label.

    A whole number is a place among `classes`, or its own name where there are none; so is a number such as 3.0, which
    tables make of 3 where other rows have no label. -1 with `classes`, not-a-number and empty text are no label.

    Raises:
        InputError: a number below 0, or none of the classes; a fraction; neither a number nor text.
    """
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise InputError(f"{shown(place)}: label {shown(str(value))[:80]}; expected a whole number from 0 on, or text")
    if classes is None and value >= 0:
        return str(value)
    if classes is not None and -1 <= value < len(classes):
        return None if value < 0 else classes[value]
    most = f"to {len(classes) - 1}" if classes else "on"
    raise InputError(f"{shown(place)}: label {value}; expected a whole number from 0 {most}")


def split_in(name: str) -> str | None:
    """Return the split that a name speaks of, as it is written: `train` of `cifar10-train-00000-of-00002`.

    A name that speaks of several gives all of them, joined: that is no split, and nothing to be guessed.
    """
    words = [word for word in re.split(r"[\W_]+", name) if word.casefold().removesuffix("set") in SPLITS]
    return "-".join(dict.fromkeys(words)) or None


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def path_below(root: str, text: str, outside: bool) -> str | None:
    """Return a path from the absolute folder `root`; where it leads out, the whole path if it may, else None."""
    whole = os.path.normpath(os.path.join(root, text))
    inside = root.rstrip("/") + "/"
    if whole.startswith(inside):
        return whole.removeprefix(inside)
    return whole if outside else None


def status_of(path: Path | str) -> os.stat_result | None:
    """Return what is known of a file without opening it; None where no plain file is."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return None
    return status if stat.S_ISREG(status.st_mode) else None


@contextmanager
def opened(path: Path | str, found: Found) -> Iterator[BinaryIO]:
    """Open a file that was listed.

    Raises:
        InputError: it cannot be read, or has changed.
        MachineError: the machine has no more open files.
    """
    with reading(path, "a file that can be read"):
        # a pipe that has taken the file's place must not make the open wait
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (found.size, found.changed):
            raise InputError(f"{shown(path)}: changed since it was listed; start again")
        yield file


def read_whole(path: Path | str, found: Found) -> bytes:
    """Return the bytes of a picture's file.

    Raises:
        InputError: it cannot be read, has changed, or is larger than `MOST_BYTES`.
    """
    check_bytes(found.size, str(path))
    with opened(path, found) as file, reading(path, "a file that can be read"):
        return file.read()


def check_bytes(size: int, name: str) -> None:
    """Refuse an encoded picture of more than `MOST_BYTES`."""
    if size > MOST_BYTES:
        raise InputError(f"{shown(name)}: {size:,} bytes, more than the {MOST_BYTES:,} of a picture; make it smaller")


@contextmanager
def reading(path: Path | str, expected: str) -> Iterator[None]:
    """Make one line of whatever a reader of files says: readers raise nearly anything on damaged data.

    Raises:
        InputError: the file is not what was expected.
        MachineError: the disk fails, or open files are used up: the file may be whole.
    """
    try:
        yield
    except VergenceError:
        raise
    except Exception as error:
        why = shown(str(error) or type(error).__name__)[:200]
        if of_the_machine(error):
            raise MachineError(f"cannot read {shown(path)}: {why}; try again") from error
        raise InputError(f"{shown(path)}: expected {expected}: {why}; mend it, or get it again") from error
