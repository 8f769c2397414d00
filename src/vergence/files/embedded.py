"""Read embeddings that stand in a file beside the paths of their pictures: Parquet or NumPy's .npz, anybody's."""

import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vergence.config.suggest import choice
from vergence.errors import InputError
from vergence.files.names import listed, shown, suggestion


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
    read = _FORMATS.get(file.suffix.lower())
    if read is None:
        raise InputError(f"{shown(file)}: embeddings are read from such files only: {choice(file.suffix, _FORMATS)}")
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


_Read = tuple[list[str], Float32[np.ndarray, "n d"], list[str], str]


def _parquet(file: Path) -> _Read:
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
        notes = json.loads((table.schema_arrow.metadata or {}).get(b"vergence", b"{}"))
    values = np.empty((0, 1), np.float32) if values is None else values
    return paths, values, ["" if label is None else str(label) for label in labels], _model_of(notes)


def _npz(file: Path) -> _Read:
    with np.load(file, allow_pickle=False) as arrays:
        _require(arrays.files)
        paths = [str(path) for path in arrays["path"].tolist()]
        labels = [str(label) for label in arrays["label"].tolist()] if "label" in arrays.files else [""] * len(paths)
        notes = json.loads(str(arrays["vergence"])) if "vergence" in arrays.files else {}
        return paths, arrays["embedding"].astype(np.float32, copy=False), labels, _model_of(notes)


def _model_of(notes: object) -> str:
    return str(notes.get("model", "")) if isinstance(notes, dict) else ""


def _require(names: list[str]) -> None:
    if missing := [name for name in ("path", "embedding") if name not in names]:
        raise ValueError(f"it has no {' and no '.join(missing)}, but {listed(names) or 'nothing'}")


_FORMATS = {".parquet": _parquet, ".npz": _npz}
