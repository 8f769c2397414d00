"""Files of embeddings: a row for each picture, `path`, `label`, `split` and `embedding`, as .parquet, .csv or .npz.

They are put together from parts, Arrow files of some rows each, of which one is in memory at a time.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float

from vergence.config.suggest import choice
from vergence.errors import InputError
from vergence.files.names import shown

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("path", "label", "split")
NOTES = b"vergence"
"""The key, in a Parquet file's metadata, of what the embeddings are of; in an .npz, the array of that name."""


def part_of(texts: dict[str, list[str]], embeddings: Float[np.ndarray, "n d"], notes: dict[str, Any]) -> bytes:
    """Return a part as an Arrow file.

    Args:
        texts: the columns of `TEXTS`, each of n values; bytes of a path that are no UTF-8 become escapes.
        embeddings: float32.
        notes: JSON values to be kept with it.
    """
    import pyarrow as pa

    flat = pa.array(embeddings.reshape(-1), pa.float32())
    columns = {
        **{name: pa.array([_as_utf8(text) for text in texts[name]], pa.string()) for name in TEXTS},
        "embedding": pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1]),
    }
    table = pa.table(columns).replace_schema_metadata({NOTES: json.dumps(notes)})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _as_utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def notes_of(part: Path) -> dict[str, Any]:
    """Return the notes that a part was given."""
    import pyarrow as pa

    with pa.OSFile(str(part)) as file:
        return json.loads(pa.ipc.open_file(file).schema.metadata[NOTES])


def partial_of(out: Path) -> Path:
    """Return the folder beside a file of embeddings in which its parts lie until it is whole."""
    return out.with_name(f"{out.name}.partial")


def joined_by(out: Path) -> Callable[[Sequence[Path], Path, dict[str, Any]], None]:
    """Return what joins parts into a file of the format that a suffix names.

    Raises:
        InputError: it names none; or the file is there, and no parts of it: nothing is written over.
    """
    suffix = out.suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(f"--out: {shown(out)}: the suffix names the format; {choice(suffix, _FORMATS)}")
    if out.exists() and not partial_of(out).exists():
        raise InputError(f"{shown(out)} is there already; remove it, or choose another --out")
    return _FORMATS[suffix]


def _read(part: Path) -> "pa.Table":
    import pyarrow as pa

    with pa.OSFile(str(part)) as file:
        return pa.ipc.open_file(file).read_all()


def _tables(parts: Sequence[Path]) -> "Iterator[pa.Table]":
    return (table for part in parts if len(table := _read(part)))


def _values(table: "pa.Table") -> Float[np.ndarray, "n d"]:
    column = table.column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def _join_parquet(parts: Sequence[Path], out: Path, about: dict[str, Any]) -> None:
    """Write a Parquet file, a row group for each part."""
    import pyarrow.parquet as pq

    schema = _read(parts[0]).schema.with_metadata({NOTES: json.dumps(about)})
    with pq.ParquetWriter(out, schema, use_dictionary=cast(Any, ["label", "split"])) as writer:
        for table in _tables(parts):
            writer.write_table(table.cast(schema), len(table))


def _join_csv(parts: Sequence[Path], out: Path, about: dict[str, Any]) -> None:
    """Write a CSV, where an embedding is the columns e0, e1, ..., each number as short as names it exactly."""
    import pyarrow as pa
    from pyarrow.csv import CSVWriter

    width = _read(parts[0]).schema.field("embedding").type.list_size
    numbers = [pa.field(f"e{index}", pa.float32()) for index in range(width)]
    schema = pa.schema([*(pa.field(name, pa.string()) for name in TEXTS), *numbers])
    with CSVWriter(out, schema) as writer:
        for table in _tables(parts):
            columns = [table.column(name) for name in TEXTS] + [pa.array(column) for column in _values(table).T]
            writer.write_table(pa.table(columns, schema=schema))


def _join_npz(parts: Sequence[Path], out: Path, about: dict[str, Any]) -> None:
    """Write arrays, never pickled: texts of one width, and float32 [n d]; about is JSON in an array without axes."""
    rows, width, longest = 0, 0, dict.fromkeys(TEXTS, 1)
    for table in _tables(parts):
        rows, width = rows + len(table), table.schema.field("embedding").type.list_size
        for name in TEXTS:
            longest[name] = max(longest[name], *(len(text) for text in table.column(name).to_pylist()))

    with zipfile.ZipFile(out, "w") as archive:

        def write(name: str, dtype: str, shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
            # a ZipInfo without a time: the same embeddings are the same bytes
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                header = {"descr": dtype, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype).tobytes())

        for name in TEXTS:
            texts = (np.asarray(table.column(name).to_pylist()) for table in _tables(parts))
            write(name, f"<U{longest[name]}", (rows,), texts)
        write("embedding", "<f4", (rows, width), map(_values, _tables(parts)))
        told = np.asarray(json.dumps(about))
        write(NOTES.decode(), told.dtype.str, (), iter([told]))


_FORMATS = {".parquet": _join_parquet, ".csv": _join_csv, ".npz": _join_npz}
