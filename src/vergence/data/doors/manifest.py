"""Lists of paths: a text file with a path a line, or a table with a column of paths and maybe labels and splits."""

import codecs
import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vergence.data.doors.door import (
    SPLIT_COLUMNS,
    Listing,
    column_of,
    label_column,
    listing_of,
    path_below,
    read_whole,
    reading,
    status_of,
)
from vergence.data.scan import Found
from vergence.errors import InputError
from vergence.files.names import listed, shown
from vergence.machine.progress import counted

PATHS = ("path", "file", "filename", "filepath", "image", "img", "image_path", "picture")
"""Columns taken for the path, the first that is there, in any spelling (`file_name`, `File Name`)."""

LOOKED_AT = 20
"""Rows whose values tell whether a column of another name holds paths."""

_LONGEST = 1 << 16  # characters of a line

_DELIMITERS = (",", ";", "\t", "|")


class Row(NamedTuple):
    """A row of a list: where it stands, the path as written, the class and the split, None where there is none."""

    place: str
    path: str
    label: str | None
    split: str | None


@dataclass(frozen=True)
class PathList:
    """A list of pictures' files.

    Attributes:
        path: the list; its folder is where relative paths start.
        rows: what yields its rows, without holding them.
        outside: paths may lead out of the list's folder.
        classes: names of the classes in the order of their numbers, where the list says it.
    """

    path: Path
    rows: Callable[[], Iterator[Row]]
    outside: bool
    classes: tuple[str, ...] | None = None

    def listing(self) -> Listing:
        """Return the pictures, each with the bytes and time of change of its own file.

        Raises:
            InputError: rows without a path, paths that lead outside or to no file, or that are listed twice.
        """
        root = os.path.abspath(self.path.parent)
        found: list[Found] = []
        labels: list[str | None] = []
        splits: list[str | None] = []
        seen: set[str] = set()
        wrong = _Wrong()
        for place, text, label, split in counted(f"listing {shown(self.path)}", self.rows()):
            if not text:
                wrong.empty.append(place)
            elif (name := path_below(root, text, self.outside)) is None:
                wrong.outside.append(f"{shown(text)} ({place})")
            elif name in seen:
                wrong.twice.append(f"{shown(text)} ({place})")
            elif (status := status_of(os.path.join(root, name))) is None:
                wrong.missing.append(f"{shown(text)} ({place})")
            else:
                seen.add(name)
                found.append(Found(name, status.st_size, status.st_mtime_ns))
                labels.append(label and sys.intern(label))
                splits.append(split and sys.intern(split))
        wrong.refuse(self.path, len(found), root)
        folders = {os.path.dirname(os.path.join(root, file.path)) for file in found}
        listing = listing_of(found, labels, splits, self.path, self.classes)
        return replace(listing, files=[self.path, *map(Path, sorted(folders))])

    def contents(self, wanted: Sequence[Found]) -> Iterator[bytes]:
        """Yield the bytes of each wanted picture's file."""
        root = os.path.abspath(self.path.parent)
        for picture in wanted:
            yield read_whole(os.path.join(root, picture.path), picture)


@dataclass
class _Wrong:
    """Rows that cannot be used."""

    empty: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def refuse(self, path: Path, good: int, root: str) -> None:
        """Raise an error of the kind that is likeliest to be the reason of the others."""
        where = shown(path)
        if self.empty:
            raise InputError(f"{where}: {len(self.empty):,} rows without a path ({listed(self.empty)}); remove them")
        if self.outside:
            lead = f"{len(self.outside):,} paths lead out of {shown(root)}: {listed(self.outside)}"
            raise InputError(f"{where}: {lead}; allow them with --data.outside, or move the list")
        if self.missing:
            rows = f"{len(self.missing):,} of {good + len(self.missing) + len(self.twice):,} rows"
            missing = f"{rows} name no file in {shown(root)}: {listed(self.missing)}"
            raise InputError(f"{where}: {missing}; mend the paths, or move the list")
        if self.twice:
            again = f"{len(self.twice):,} files are listed again: {listed(self.twice)}"
            raise InputError(f"{where}: {again}; keep one row of each")


@dataclass(frozen=True)
class Lines:
    """A text file with one path a line; empty lines are passed over."""

    path: Path
    labels: str

    def read(self) -> Iterator[Row]:
        """Yield a row for each line.

        Raises:
            InputError: a column is named for the labels, where there are none.
        """
        label_column([], self.labels, self.path)
        with _text(self.path) as file:
            for number, line in enumerate(_lines(file, self.path), 1):
                if text := line.rstrip("\r\n"):
                    yield Row(f"line {number}", text, None, None)


@dataclass(frozen=True)
class Separated:
    """A file of values separated by commas, semicolons, tabs or bars, whose first line names the columns.

    A file of one column needs no such line.
    """

    path: Path
    labels: str

    def read(self) -> Iterator[Row]:
        """Yield the rows below the line that names the columns.

        Raises:
            InputError: no column of paths, no column as named for the labels, rows of other lengths, bad quoting.
        """
        with _text(self.path) as file:
            first = file.readline(_LONGEST)
            counts = {delimiter: first.count(delimiter) for delimiter in _DELIMITERS}
            delimiter = "\t" if self.path.suffix.lower() == ".tsv" else max(counts, key=lambda mark: counts[mark])
            file.seek(0)
            table = csv.reader(_lines(file, self.path), delimiter=delimiter, skipinitialspace=True, strict=True)
            try:
                yield from self._rows(table)
            except csv.Error as error:
                raise InputError(f"{shown(self.path)}: line {table.line_num}: {shown(str(error))}; mend it") from error

    def _rows(self, table: Iterator[list[str]]) -> Iterator[Row]:
        header = next((cells for cells in table if cells), None)
        if header is None:
            return
        first = f"line {_line(table)}"
        head = list(islice(_numbered(table, len(header), self.path), LOOKED_AT))
        path, names = self._columns(header, [cells for _, cells in head])
        if names is None:  # one column, and no line that names it
            yield Row(first, header[path], None, None)
            names = []
        label = label_column(names, self.labels, self.path)
        split = column_of(names, SPLIT_COLUMNS)
        for name in (*names[path : path + 1], label, split):
            if name is not None and names.count(name) > 1:
                raise InputError(f"{shown(self.path)}: several columns '{shown(name)}'; rename all but one")
        at_label, at_split = (None if name is None else names.index(name) for name in (label, split))
        for rows in (head, _numbered(table, len(header), self.path)):
            for number, cells in rows:
                yield Row(
                    f"line {number}",
                    cells[path],
                    None if at_label is None else cells[at_label].strip() or None,
                    None if at_split is None else cells[at_split].strip() or None,
                )

    def _columns(self, header: list[str], head: list[list[str]]) -> tuple[int, list[str] | None]:
        """The place of the column of paths, and the columns' names; None where the first line is a row."""
        names = [name.strip() for name in header]
        if path := column_of(names, PATHS):
            return names.index(path), names
        files = [place for place in range(len(names)) if self._are_files([header[place]])]
        if files and len(names) == 1:
            return files[0], None
        if files:
            raise InputError(
                f"{shown(self.path)}: no line that names the columns; put one above the others, such as path,label"
            )
        holding = [place for place in range(len(names)) if self._are_files([cells[place] for cells in head])]
        if len(holding) == 1:
            return holding[0], names
        what = "several columns" if holding else "no column"
        there = listed([shown(name) for name in names], 10) or "none"
        raise InputError(f"{shown(self.path)}: {what} of paths among {there}; call it path")

    def _are_files(self, texts: list[str]) -> bool:
        return bool(texts) and all(text and status_of(self.path.parent / text) is not None for text in texts)


def _numbered(table: Iterator[list[str]], width: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the number of their line; all as wide as the first."""
    for cells in table:
        if cells:
            number = _line(table)
            if len(cells) != width:
                counts = f"{len(cells)} cells instead of {width}"
                raise InputError(f"{shown(path)}: line {number}: {counts}; put quotes around what holds the separator")
            yield number, cells


def _line(table: Any) -> int:
    return table.line_num  # csv's reader has no public type


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Open a file of text for reading, lines ended as they are.

    Raises:
        InputError: it cannot be read, or holds zero bytes, as no text does.
    """
    with reading(path, "a file of text"), open(path, newline="", encoding=_encoding(path)) as file:
        yield file


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Lines with their ends; a file that is one line without an end must not fill the memory."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise InputError(f"{shown(path)}: a line of more than {_LONGEST:,} characters; this is no list of paths")
        yield line


def _encoding(path: Path) -> str:
    """Return the encoding that a byte-order mark says; else UTF-8 if all of it is; else Latin-1."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        start = file.read(3)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        file.seek(0)
        encoding = "utf-8-sig" if start == codecs.BOM_UTF8 else "utf-8"
        while block := file.read(1 << 20):
            if b"\0" in block:
                raise InputError(f"{shown(path)}: holds zero bytes, as no list of paths does; save it as UTF-8")
            if encoding != "latin-1":
                encoding = encoding if _decodes(decoder, block) else "latin-1"
        return encoding if encoding == "latin-1" or _decodes(decoder, b"", final=True) else "latin-1"


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True
