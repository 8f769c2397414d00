"""Doors: files that list pictures or hold them, each read in one way."""

from collections.abc import Sequence
from pathlib import Path

from vergence.config.spelling import closest
from vergence.data.doors.arrays import array_door
from vergence.data.doors.door import Door, Listing
from vergence.data.doors.manifest import Lines, PathList, Separated
from vergence.data.doors.shards import (
    PACKED,
    TABLES,
    TARS,
    check_complete,
    expanded,
    refusal_of_packed,
    shards_below,
    shards_in,
)
from vergence.data.doors.table import saved_by_datasets, table_door
from vergence.data.doors.webdataset import WebDataset
from vergence.data.scan import SUFFIXES
from vergence.errors import InputError
from vergence.files.names import shown

__all__ = ["Door", "Listing", "door_of"]

LISTS = frozenset((".csv", ".tsv", ".txt"))
ARRAYS = frozenset((".npy", ".npz"))


def door_of(path: Path, labels: str = "auto", outside: bool = False, any_bands: bool = False) -> Door | None:
    """Return what reads the pictures that a file, or a folder of shards, lists or holds; None for any other folder.

    Args:
        path: a list (.csv, .tsv, .txt), a table (.parquet, .arrow, .feather), a tar of samples, a pattern of such
            (`train-{000..009}.tar`), an array (.npy, .npz), or a folder.
        labels: "auto" looks for labels by the usual names, "none" takes none; else the name of the column, the field
            or the array.
        outside: paths in a list or table may lead out of its folder.
        any_bands: pictures of an array may have any number of channels, of which some are chosen.

    Raises:
        InputError: no such file, one that is not read, or one that does not say where its pictures are.
    """
    if path.is_dir():
        return _door_of_folder(path, labels, outside)
    suffix = path.suffix.lower()
    if path.name.lower().endswith(PACKED):
        raise refusal_of_packed(path)
    if not path.exists() and "{" in path.name and suffix in TARS | TABLES:
        return _door_of_shards(expanded(path), path.parent, labels, outside)
    if suffix not in LISTS | TABLES | TARS | ARRAYS:
        if not path.exists():
            return None  # who looks for a folder says what there is
        what = "one picture; name its folder" if suffix in SUFFIXES else "no list, table, tar or array of pictures"
        known = ", ".join(sorted(LISTS | TABLES | TARS | ARRAYS))
        raise InputError(f"{shown(path)}: {what}; files that are read: {known}")
    if not path.is_file():
        raise InputError(f"there is no file {shown(path)}{_suggestion(path)}")
    if suffix in LISTS:
        rows = Lines(path, labels) if suffix == ".txt" else Separated(path, labels)
        return PathList(path, rows.read, outside)
    if suffix in ARRAYS:
        return array_door(path, labels, any_bands)
    return _door_of_shards([path], path.parent, labels, outside)


def _door_of_folder(root: Path, labels: str, outside: bool) -> Door | None:
    if saved := saved_by_datasets(root):
        return table_door(saved, labels, outside)
    paths = shards_in(root)
    if not paths:
        return None
    check_complete(paths)
    return _door_of_shards(paths, root, labels, outside)


def _door_of_shards(paths: Sequence[Path], root: Path, labels: str, outside: bool) -> Door:
    shards = shards_below(paths, root)
    if paths[0].suffix.lower() in TARS:
        return WebDataset(shards, labels)
    return table_door(shards, labels, outside)


def _suggestion(missing: Path) -> str:
    """The end of an error line about a file that is not there: the sibling closest in name, or nothing."""
    try:
        siblings = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        return f": {shown(missing.parent)} is not there either"
    close = closest(missing.name, siblings)
    return f"; did you mean '{shown(missing.with_name(close))}'?" if close else ""
