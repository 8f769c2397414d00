"""Files of embeddings: a row for each picture, `path`, `label`, `split` and `embedding`, as .parquet, .csv or .npz.

They are put together from parts, Arrow files of some rows each, of which one is in memory at a time. Those that keep
numbers as they are, .parquet and .npz, are read, anybody's too that have a `path` and an `embedding`.
"""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float, Float32

from vergence.config.suggest import choice
from vergence.errors import InputError
from vergence.files.names import listed, shown, suggestion

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
    if suffix not in _WRITERS:
        raise InputError(f"--out: {shown(out)}: the suffix names the format; {choice(suffix, _WRITERS)}")
    if out.exists() and not partial_of(out).exists():
        raise InputError(f"{shown(out)} is there already; remove it, or choose another --out")
    return _WRITERS[suffix]


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


_WRITERS = {".parquet": _join_parquet, ".csv": _join_csv, ".npz": _join_npz}


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of pictures, in the order of their paths.

    Attributes:
        paths: of the pictures, each once, with slashes.
        values: float32, finite, one row a picture.
        labels: the name of each picture's class, empty where it has none.
        model: the name of what made them; empty where the file does not say it.
    """

    paths: list[str]
    values: Float32[np.ndarray, "n d"]
    labels: list[str]
    model: str = ""


def read_embeddings(file: Path) -> Embeddings:
    """Return the embeddings of a .parquet or .npz file with `path` and `embedding`, and perhaps `label`.

    Raises:
        InputError: there is no such file, it cannot be read, has no such columns, the same path twice, fewer than two
            rows, or numbers that are not finite.
    """
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise InputError(f"{shown(file)}: embeddings are read from such files only: {choice(file.suffix, _READERS)}")
    if not file.is_file():
        raise InputError(f"there is no file {shown(file)}{suggestion(file)}")
    try:
        paths, values, labels, model = read(file)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:  # those of pyarrow are among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{shown(file)}: cannot be read as embeddings: {shown(reason)}") from error
    if values.ndim != 2 or len(values) != len(paths) or not values.shape[1]:
        raise InputError(f"{shown(file)}: the embeddings must be one row of numbers for each path")
    if len(paths) < 2:
        raise InputError(f"{shown(file)}: there must be two embeddings or more to compare, not {len(paths)}")
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise InputError(f"{shown(file)}: {len(twice):,} paths are there more than once: {listed(twice)}")
    finite = np.concatenate([np.isfinite(part).all(1) for part in np.array_split(values, len(values) // 65_536 + 1)])
    if not finite.all():
        first = paths[int(np.argmin(finite))]
        count = int((~finite).sum())
        raise InputError(f"{shown(file)}: {count:,} embeddings hold numbers that are not finite, first {shown(first)}")
    order = sorted(range(len(paths)), key=lambda index: paths[index].encode("utf-8", "surrogateescape"))
    if order != list(range(len(order))):
        paths, labels, values = [paths[i] for i in order], [labels[i] for i in order], values[order]
    return Embeddings(paths, values, labels, model)


_Rows = tuple[list[str], Float32[np.ndarray, "n d"], list[str], str]


def _read_parquet(file: Path) -> _Rows:
    """Read row group by row group into one array."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        names = table.schema_arrow.names
        _require(names)
        has_labels = "label" in names
        paths, labels = [], []
        values = None
        for number in range(table.num_row_groups):
            group = table.read_row_group(number, ["path", "embedding", *(["label"] if has_labels else [])])
            rows = group.column("embedding").combine_chunks()
            if rows.null_count:
                raise ValueError("an embedding is missing")
            part = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
            if values is None:
                values = np.empty((table.metadata.num_rows, part.shape[1]), np.float32)
            values[len(paths) : len(paths) + len(part)] = part
            paths += map(str, group.column("path").to_pylist())
            labels += group.column("label").to_pylist() if has_labels else [""] * len(part)
        notes = json.loads((table.schema_arrow.metadata or {}).get(NOTES, b"{}"))
    values = np.empty((0, 1), np.float32) if values is None else values
    return paths, values, ["" if label is None else str(label) for label in labels], _model_of(notes)


def _read_npz(file: Path) -> _Rows:
    with np.load(file, allow_pickle=False) as arrays:
        _require(arrays.files)
        paths = [str(path) for path in arrays["path"].tolist()]
        labels = [str(label) for label in arrays["label"].tolist()] if "label" in arrays.files else [""] * len(paths)
        notes = json.loads(str(arrays[NOTES.decode()])) if NOTES.decode() in arrays.files else {}
        return paths, arrays["embedding"].astype(np.float32, copy=False), labels, _model_of(notes)


def _model_of(notes: object) -> str:
    return str(notes.get("model", "")) if isinstance(notes, dict) else ""


def _require(names: list[str]) -> None:
    if missing := [name for name in ("path", "embedding") if name not in names]:
        raise ValueError(f"it has no {' and no '.join(missing)}, but {listed(names) or 'nothing'}")


_READERS = {".parquet": _read_parquet, ".npz": _read_npz}
