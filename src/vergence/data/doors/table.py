"""Tables that hold encoded pictures, or paths of pictures: Parquet, Arrow and Feather files, and folders of them."""

import itertools
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vergence.data.doors.columns import (
    Columns,
    TableFile,
    bytes_and_paths,
    columns_of,
    described,
    opened_table,
    text_columns,
)
from vergence.data.doors.door import (
    Door,
    Listing,
    class_name,
    listing_of,
    path_below,
    read_whole,
    reading,
    split_in,
    status_of,
)
from vergence.data.doors.manifest import LOOKED_AT, PathList, Row
from vergence.data.doors.shards import Shard, shard
from vergence.data.scan import Found
from vergence.errors import InputError
from vergence.files.names import shown
from vergence.machine.progress import counted

_DICT, _STATE = "dataset_dict.json", "state.json"
_MOST_JSON = 1 << 24  # bytes


def table_door(shards: Sequence[Shard], labels: str, outside: bool) -> Door:
    """Return what reads the pictures of shards, or of the paths in a single one.

    Raises:
        InputError: no column of pictures or paths, or shards that differ in their columns.
    """
    every = []
    for one in shards:
        with opened_table(one.path) as file:
            columns, schema = columns_of(file.schema, labels, one.path), file.schema
            if columns.picture is None:
                path = columns.path or _column_of_files(file, one.path)
                if path is not None and len(shards) == 1:
                    return PathList(one.path, _Rows(one.path, path, columns).read, outside, columns.classes)
                raise InputError(
                    f"{shown(one.path)}: no column of encoded pictures (bytes, or a struct of bytes and path)"
                    f"{'' if path or len(shards) > 1 else ' or of paths'}; columns: {described(schema)}"
                )
            every.append(columns)
            if columns != every[0]:
                raise InputError(
                    f"{shown(one.path)}: other columns or names of classes than in {shown(shards[0].name)}; "
                    "give the two apart"
                )
    return Table(tuple(shards), every[0], outside)


def saved_by_datasets(root: Path) -> tuple[Shard, ...] | None:
    """Return the shards of a folder that Hugging Face's `save_to_disk` wrote; None where it is no such folder.

    Raises:
        InputError: its own files are damaged, or name shards that are not there.
    """
    if status_of(root / _DICT):
        splits = _json(root / _DICT).get("splits")
        return tuple(
            one for split in _plain_names(splits, root / _DICT) for one in _saved(root / split, f"{split}/", split)
        )
    if status_of(root / _STATE):
        said = _json(root / _STATE).get("_split")
        return _saved(root, "", split_in(said) if isinstance(said, str) else None)
    return None


def _saved(folder: Path, prefix: str, split: str | None) -> tuple[Shard, ...]:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise InputError(f"{shown(folder)}: picks its rows by another file; save it again after flatten_indices()")
    files = state.get("_data_files")
    names = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else None
    return tuple(shard(folder / name, f"{prefix}{name}", split) for name in _plain_names(names, folder / _STATE))


def _plain_names(names: Any, where: Path) -> list[str]:
    """Names inside one folder: a file must not lead us elsewhere."""
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        strange = [shown(name) for name in names if name in ("", ".", "..") or "/" in name or "\0" in name]
        if not strange and len(set(names)) == len(names):
            return names
    raise InputError(f"{shown(where)}: does not name the parts of the data set; save it again")


def _json(path: Path) -> dict[str, Any]:
    with reading(path, "what `save_to_disk` writes beside its shards"):
        if path.stat().st_size > _MOST_JSON:
            raise ValueError(f"more than {_MOST_JSON:,} bytes")
        said = json.loads(path.read_bytes())
        if not isinstance(said, dict):
            raise ValueError("no object")
        return said


def _column_of_files(file: TableFile, path: Path) -> str | None:
    """The only column of text whose first values are files."""
    holding = []
    for name in text_columns(file.schema):
        _, batch = next(iter(file.batches([name])), (0, None))
        values = batch.column(name).slice(0, LOOKED_AT).to_pylist() if batch is not None else []
        if values and all(value and status_of(path.parent / value) for value in values):
            holding.append(name)
    return holding[0] if len(holding) == 1 else None


@dataclass(frozen=True)
class _Rows:
    """The rows of a table of paths."""

    table: Path
    path: str
    columns: Columns

    def read(self) -> Iterator[Row]:
        with opened_table(self.table) as file:
            for start, batch in file.batches([self.path, *self.columns.beside]):
                paths = batch.column(self.path).to_pylist()
                beside = _labels_and_splits(batch, start, self.columns, self.table)
                for number, (path, (label, split)) in enumerate(zip(paths, beside, strict=True), start):
                    yield Row(f"row {number}", path or "", label, split)


def _labels_and_splits(batch: Any, start: int, columns: Columns, path: Path) -> Iterator[tuple[str | None, str | None]]:
    labels, splits = (
        itertools.repeat(None, batch.num_rows) if name is None else batch.column(name).to_pylist()
        for name in (columns.label, columns.split)
    )
    for number, (label, split) in enumerate(zip(labels, splits, strict=True), start):
        yield class_name(label, columns.classes, f"{path}: row {number}"), split or None


@dataclass(frozen=True)
class Table:
    """Shards of a table with a column of encoded pictures.

    Attributes:
        shards: the files, in order.
        columns: which columns are what.
        outside: rows without bytes may name a file outside of their shard's folder.
    """

    shards: tuple[Shard, ...]
    columns: Columns
    outside: bool

    @cached_property
    def _picture(self) -> str:
        assert self.columns.picture is not None
        return self.columns.picture

    def listing(self) -> Listing:
        """Return a picture for each row, named by its shard and number.

        Raises:
            InputError: damaged shards, labels that are none, rows without bytes or a file, rows without a split.
        """
        found: list[Found] = []
        labels: list[str | None] = []
        splits: list[str | None] = []
        any_beside = False
        for one in counted("listing shards", self.shards, len(self.shards)):
            with opened_table(one.path) as file:
                beside = self._files_beside(one, file)
                any_beside = any_beside or bool(beside)
                found.extend(beside.get(row) or one.picture(row) for row in range(file.count()))
                for start, batch in file.batches(self.columns.beside) if self.columns.beside else ():
                    for label, split in _labels_and_splits(batch, start, self.columns, one.path):
                        labels.append(label and sys.intern(label))
                        splits.append(one.split or (split and sys.intern(split)))
            if not self.columns.beside:
                labels.extend(itertools.repeat(None, len(found) - len(labels)))
                splits.extend(itertools.repeat(one.split, len(found) - len(splits)))
            if len(splits) != len(found):
                raise InputError(f"{shown(one.path)}: columns of different lengths; get it again")
        listing = listing_of(found, labels, splits, self.shards[0].path, self.columns.classes)
        return listing if any_beside else replace(listing, files=[one.path for one in self.shards])

    def contents(self, wanted: Sequence[Found]) -> Iterator[bytes]:
        """Yield the bytes of each wanted picture, from its row or from the file that the row names."""
        shards = {one.name: one for one in self.shards}
        for name, pictures in itertools.groupby(wanted, key=lambda picture: picture.path.rpartition("/")[0]):
            yield from self._pictures(shards[name], pictures)

    def _pictures(self, one: Shard, wanted: Iterator[Found]) -> Iterator[bytes]:
        rows = deque((int(picture.path.rpartition("/")[2]), picture) for picture in wanted)
        if shard(one.path, one.name, one.split) != one:
            raise InputError(f"{shown(one.path)}: changed since it was listed; start again")
        with opened_table(one.path) as file:
            for start, batch in file.batches([self._picture], lambda group: bool(rows) and rows[0][0] < group.stop):
                data, paths = bytes_and_paths(batch.column(self._picture))
                while rows and rows[0][0] < start + batch.num_rows:
                    row, picture = rows.popleft()
                    encoded = data[row - start].as_py()
                    if encoded is None:
                        text = None if paths is None else paths[row - start].as_py()
                        encoded = self._from_beside(one, row, text, picture)
                    yield encoded
        if rows:
            raise InputError(f"{shown(one.path)}: no row {rows[0][0]}; get it again")

    def _files_beside(self, one: Shard, file: TableFile) -> dict[int, Found]:
        """The rows that have no bytes but name a file, which then tells whether they have changed.

        Looked for where rows are small, and that is quick. (pyarrow's statistics of a column would say it, but they end
        the process where they are damaged.)
        """
        beside: dict[int, Found] = {}
        for start, batch in file.batches([self._picture], lambda group: not group.large):
            data, paths = bytes_and_paths(batch.column(self._picture))
            if data.null_count:
                for place, absent in enumerate(data.is_null().to_pylist()):
                    if absent:
                        row, text = start + place, None if paths is None else paths[place].as_py()
                        status = os.stat(self._path_beside(one, row, text))
                        beside[row] = Found(f"{one.name}/{row}", status.st_size, status.st_mtime_ns)
        return beside

    def _path_beside(self, one: Shard, row: int, text: str | None) -> str:
        if not text:
            raise InputError(f"{shown(one.path)}: row {row} has neither bytes nor a path; remove it")
        root = os.path.abspath(one.path.parent)
        name = path_below(root, text, self.outside)
        if name is None:
            lead = f"row {row} has no bytes, and its path leads out of {shown(root)}: {shown(text)}"
            raise InputError(f"{shown(one.path)}: {lead}; allow it with --data.outside")
        if status_of(path := os.path.join(root, name)) is None:
            raise InputError(f"{shown(one.path)}: row {row} has no bytes, and there is no file {shown(text)} beside it")
        return path

    def _from_beside(self, one: Shard, row: int, text: str | None, picture: Found) -> bytes:
        path = self._path_beside(one, row, text)
        if (picture.size, picture.changed) == (one.size, one.changed):  # it was not looked for
            status = os.stat(path)
            picture = Found(picture.path, status.st_size, status.st_mtime_ns)
        return read_whole(path, picture)
