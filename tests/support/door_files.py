"""Files that list or hold pictures, as other programs write them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_files import member, tar

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def contents(*numbers: int) -> list[bytes]:
    """What stands for the bytes of pictures: nothing here decodes them."""
    return [f"picture {number}".encode() for number in numbers]


def images(data: Iterable[bytes | None], paths: Iterable[str | None] | None = None) -> pa.Array:
    """A column of pictures as Hugging Face writes it."""
    data = list(data)
    named = [None] * len(data) if paths is None else list(paths)
    return pa.array([{"bytes": d, "path": p} for d, p in zip(data, named, strict=True)], IMAGE)


def named_classes(table: pa.Table, **names: list[Any]) -> pa.Table:
    """The table with names of classes in Hugging Face's metadata, by column."""
    features = {column: {"names": given, "_type": "ClassLabel"} for column, given in names.items()}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def shard_table(first: int, count: int, **columns: Sequence[Any]) -> pa.Table:
    """Pictures numbered from `first`, and other columns."""
    return pa.table({"image": images(contents(*range(first, first + count))), **columns})


def write_stream(path: Path, table: pa.Table, rows: int = 2) -> None:
    """An Arrow stream, as `datasets` keeps its shards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_ipc(path: Path, table: pa.Table, compression: str | None = None) -> None:
    """An Arrow file, or Feather's second version."""
    with pa.OSFile(str(path), "wb") as sink:
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=2)


def write_parquet(path: Path, table: pa.Table, **options: Any) -> None:
    """A Parquet file of several groups of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **{"row_group_size": 2, **options})


def write_saved(folder: Path, tables: Sequence[pa.Table], **state: Any) -> None:
    """A folder as `datasets.save_to_disk` writes it."""
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_stream(folder / name, table)
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None, **state}))
    (folder / "dataset_info.json").write_text("{}")


def write_tar(path: Path, parts: Mapping[str, bytes]) -> None:
    """A tar of plain files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar(member(name, data) for name, data in parts.items()))


def draw(*paths: Path) -> None:
    """A file with bytes of its own at each path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {path.name}".encode())


def pixels(*shape: int) -> np.ndarray:
    """Values that tell where they are."""
    return np.arange(int(np.prod(shape)), dtype=np.uint32).astype(np.uint8).reshape(shape)
