"""Files of tables, opened in one way: Parquet, Arrow's IPC as file or as stream, Feather; and which column is what."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from vergence.data.doors.door import SPLIT_COLUMNS, column_of, label_column, reading
from vergence.data.doors.manifest import PATHS
from vergence.errors import InputError
from vergence.files.names import listed, shown

if TYPE_CHECKING:
    import pyarrow

PICTURES = ("image", "img", "picture", "jpg", "png", "bytes")
"""Columns taken for the encoded pictures where several hold bytes, the first that is there."""

_AT_ONCE = 32 << 20  # bytes of pictures that are held at a time
_MOST_ROWS = 1000
_LEAST_PICTURE = 512  # bytes; rows with fewer may name a file instead


class Group(NamedTuple):
    """Rows that are stored together, from `start` to before `stop`; `large`: so many bytes that they are pictures."""

    start: int
    stop: int
    large: bool


Wanted = Callable[[Group], bool]


@runtime_checkable
class TableFile(Protocol):
    """An open file of a table."""

    schema: "pyarrow.Schema"

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def batches(self, columns: list[str], wanted: Wanted | None = None) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        """Yield some columns, and the number of the first row, of the groups that are wanted, some rows at a time."""
        ...


class _Parquet:
    def __init__(self, path: Path):
        import pyarrow.parquet

        # not ahead and not all at once: a group of rows may hold a gigabyte of pictures
        self._file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        self.schema = self._file.schema_arrow
        said = self._file.metadata
        self._groups = [said.row_group(number) for number in range(said.num_row_groups)]
        self._rows = sum(group.num_rows for group in self._groups)
        _check_rows(self._rows, path)

    def count(self) -> int:
        return self._rows

    def batches(self, columns: list[str], wanted: Wanted | None = None) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        start = 0
        for number, group in enumerate(self._groups):
            stop = start + group.num_rows
            # not by column: pyarrow ends the process where what is said of a column is damaged
            row_bytes = group.total_byte_size // max(1, group.num_rows)
            if wanted is None or wanted(Group(start, stop, row_bytes >= _LEAST_PICTURE)):
                size = max(1, min(_MOST_ROWS, _AT_ONCE // max(1, row_bytes)))
                at = start
                for batch in self._file.iter_batches(size, row_groups=[number], columns=columns, use_threads=False):
                    yield at, batch
                    at += batch.num_rows
                if at != stop:
                    raise ValueError(f"{at - start} rows where {stop - start} are said to be")
            start = stop


class _Ipc:
    def __init__(self, path: Path):
        import pyarrow

        self._path = path
        self._source = pyarrow.memory_map(str(path))
        start = self._source.read(6)
        if start[:4] == b"FEA1":
            raise InputError(f"{shown(path)}: Feather's first version; save it again as Parquet or Feather 2")
        self._is_file = start == b"ARROW1"
        self.schema = self._reader(None).schema

    def _reader(self, fields: list[int] | None) -> Any:
        import pyarrow

        self._source.seek(0)
        options = pyarrow.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        return (pyarrow.ipc.open_file if self._is_file else pyarrow.ipc.open_stream)(self._source, options=options)

    def count(self) -> int:
        return sum(batch.num_rows for _, batch in self._each([0], None))

    def batches(self, columns: list[str], wanted: Wanted | None = None) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        return self._each([self.schema.get_field_index(name) for name in columns], wanted)

    def _each(self, fields: list[int], wanted: Wanted | None) -> "Iterator[tuple[int, pyarrow.RecordBatch]]":
        reader = self._reader(fields)
        each = map(reader.get_batch, range(reader.num_record_batches)) if self._is_file else reader
        start = 0
        for batch in each:
            _check_rows(batch.num_rows, self._path)
            batch.validate(full=True)  # the bytes are used as they lie in the file: an offset may point anywhere
            if wanted is None or wanted(Group(start, start + batch.num_rows, large=False)):
                yield start, batch
            start += batch.num_rows


def _check_rows(rows: int, path: Path) -> None:
    """Refuse rows that a file has no room for: a number in its header would keep us busy for ever."""
    if not 0 <= rows <= path.stat().st_size:
        raise ValueError(f"{rows:,} rows in {path.stat().st_size:,} bytes")


@contextmanager
def opened_table(path: Path) -> Iterator[TableFile]:
    """Open a table.

    Raises:
        InputError: it is damaged, or of no format that is read; also for what is found out while it is read.
    """
    what = "a Parquet file" if path.suffix.lower() == ".parquet" else "an Arrow file, stream or Feather file"
    with reading(path, what):
        yield _Parquet(path) if path.suffix.lower() == ".parquet" else _Ipc(path)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what, None where there is none.

    Attributes:
        picture: encoded pictures, as bytes or as a struct of bytes and path.
        path: paths of pictures' files; only where there are no pictures.
        label: the labels.
        classes: names of the classes in the order of their numbers, as Hugging Face's ClassLabel says.
        split: names of splits.
    """

    picture: str | None
    path: str | None
    label: str | None
    classes: tuple[str, ...] | None
    split: str | None

    @property
    def beside(self) -> list[str]:
        """Return the columns of label and split."""
        return [name for name in (self.label, self.split) if name is not None]


def columns_of(schema: "pyarrow.Schema", labels: str, where: Path) -> Columns:
    """Return which columns of a table are what.

    Raises:
        InputError: several columns may be the pictures, the label is not there or no label, or a name is there twice.
    """
    import pyarrow

    holding = [field.name for field in schema if _is_bytes(field.type) or _struct_of_bytes(field.type)]
    picture = column_of(holding, PICTURES) or (holding[0] if len(holding) == 1 else None)
    if holding and picture is None:
        raise InputError(f"{shown(where)}: several columns of bytes ({_named(holding)}); call that of pictures image")
    texts = text_columns(schema)
    path = None if picture else column_of(texts, PATHS)
    label = label_column([field.name for field in schema if field.name not in (picture, path)], labels, where)
    split = column_of([name for name in texts if name not in (path, label)], SPLIT_COLUMNS)
    for name in (picture, path, label, split):
        if name is not None and schema.names.count(name) > 1:
            raise InputError(f"{shown(where)}: several columns '{shown(name)}'; rename all but one")
    if label is not None and pyarrow.types.is_nested(kind := schema.field(label).type):
        raise InputError(f"{shown(where)}: column '{shown(label)}' is {kind}; a label is one whole number or text")
    return Columns(picture, path, label, None if label is None else _class_names(schema, label, where), split)


def described(schema: "pyarrow.Schema") -> str:
    """Return the columns with their types, for an error line."""
    return listed([f"{shown(field.name)} ({shown(str(field.type))[:60]})" for field in schema], 10) or "none"


def text_columns(schema: "pyarrow.Schema") -> list[str]:
    """Return the names of the columns that hold text."""
    from pyarrow import types

    return [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]


def bytes_and_paths(column: Any) -> tuple[Any, Any]:
    """Return the bytes of a column of pictures, and the paths beside them; None where there are none."""
    if not _struct_of_bytes(column.type):
        return column, None
    parts = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    return parts["bytes"], parts.get("path")


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _struct_of_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_struct(kind) and any(field.name == "bytes" and _is_bytes(field.type) for field in kind)


def _class_names(schema: "pyarrow.Schema", label: str, where: Path) -> tuple[str, ...] | None:
    """Return the names that Hugging Face's metadata give a label's numbers; None where they do not."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        names = said["names"] if said["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if names is None:
        return None
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) < len(names):
        raise InputError(f"{shown(where)}: the names of the classes of '{shown(label)}' are no list of different names")
    return tuple(names)


def _named(names: list[str]) -> str:
    return listed([shown(name) for name in names], 10)
