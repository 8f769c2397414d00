"""Whole pictures on disk, encoded: what was read once is kept, however the reading ends.

A store is a folder of parts, Arrow files of some thousand pictures each, which are only ever added. A picture is known
by its file's name, size and time of change, so that a picture that is new or has changed is read, and all others are
where they were. Which of them a run uses, in which order and with which labels, is not in the store.
"""

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from vergence.data.scan import Found
from vergence.data.tally import DIGEST, About
from vergence.errors import MachineError
from vergence.files import durable
from vergence.files.names import shown

if TYPE_CHECKING:
    import pyarrow as pa

PICTURES_IN_PART = 4096
BYTES_IN_PART = 64 << 20
"""A part is closed, and safe from a kill, when it has so many pictures or bytes."""

log = logging.getLogger("vergence.data")


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture as a store keeps it.

    Attributes:
        encoded: a JPEG, PNG or WebP file.
        height: of its pixels.
        width: of its pixels.
        about: what is known of it.
    """

    encoded: bytes
    height: int
    width: int
    about: About


def name_of(found: Found, settings: str = "") -> bytes:
    """Return the 16 bytes by which a store knows a picture: its file, and how it was decoded."""
    told = b"\0".join((os.fsencode(found.path), b"%d" % found.size, b"%d" % found.changed, settings.encode()))
    return hashlib.blake2b(told, digest_size=16).digest()


class Store:
    """The pictures of a folder's store, in the order in which they were added.

    Args:
        folder: of the parts; it is made when the first is written. Whoever adds holds it alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: dict[bytes, int] = {}
        self._starts: list[int] = [0]
        self._parts = 0
        self._columns: dict[str, list[Any]] = {field: [] for field in _schema().names}
        self.refresh()

    def __len__(self) -> int:
        return self._starts[-1]

    def refresh(self) -> None:
        """Open the parts that others have added."""
        for path in sorted(self.folder.glob("part-*.arrow")):
            if _number(path) >= self._parts:
                self._open(path)

    def encoded(self, row: int) -> memoryview:
        """Return the file of a picture, not copied."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return memoryview(self._columns["encoded"][part][row - self._starts[part]].as_buffer())

    def shapes(self, rows: Sequence[int]) -> Int64[np.ndarray, "n 2"]:
        """Return height and width of the pictures of these rows."""
        sides = [self._column(name, rows).to_numpy() for name in ("height", "width")]
        return np.stack(sides, axis=1).astype(np.int64)

    def about(self, rows: Sequence[int]) -> About:
        """Return what is known of the pictures of these rows, as columns."""
        digest, *others = (self._column(name, rows) for name in About._fields)
        return About(np.frombuffer(b"".join(digest.to_pylist()), DIGEST), *(column.to_numpy() for column in others))

    def _column(self, name: str, rows: Sequence[int]) -> "pa.ChunkedArray":
        import pyarrow as pa

        return pa.chunked_array(self._columns[name], _schema().field(name).type).take(pa.array(rows, pa.int64()))

    def add(self, pictures: Iterable[tuple[bytes, Kept]]) -> None:
        """Write pictures, each with its name, part by part.

        Raises:
            MachineError: the disk is full or fails; what was closed before stays.
        """
        waiting: list[tuple[bytes, Kept]] = []
        size = 0
        try:
            for name, kept in pictures:
                waiting.append((name, kept))
                size += len(kept.encoded)
                if len(waiting) == PICTURES_IN_PART or size >= BYTES_IN_PART:
                    done, waiting, size = waiting, [], 0
                    self._write(done)
        finally:  # whatever ends it, what has been decoded is kept
            if waiting:
                self._write(waiting)

    def _write(self, pictures: list[tuple[bytes, Kept]]) -> None:
        import pyarrow as pa

        rows = [(name, kept.encoded, kept.height, kept.width, *kept.about) for name, kept in pictures]
        columns = dict(zip(_schema().names, zip(*rows, strict=True), strict=True))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, _schema()) as writer:
            writer.write_batch(pa.RecordBatch.from_pydict(columns, _schema()))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"part-{self._parts:06d}.arrow"
        durable.write_file(path, sink.getvalue().to_pybytes())
        self._open(path)

    def _open(self, path: Path) -> None:
        """Map a part; one that is damaged is taken away, and its pictures are read again.

        Raises:
            MachineError: the part cannot be read, which does not say that it is damaged.
        """
        import pyarrow as pa

        self._parts = _number(path) + 1
        try:
            with pa.memory_map(str(path)) as file:  # what is mapped stays when the file is closed
                batch = pa.ipc.open_file(file).get_batch(0)
            batch.validate()
            if batch.schema != _schema():
                raise ValueError("another schema")
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # no permission, no more open files, a bad disk
                raise MachineError(f"cannot read the cache {shown(path)}: {shown(str(error))}; try again") from error
            log.warning("%s is damaged (%s); its pictures are read again", shown(path), shown(str(error))[:100])
            with contextlib.suppress(OSError):
                path.unlink()
            return
        start = len(self)
        self.rows |= zip(batch.column("name").to_pylist(), range(start, start + len(batch)), strict=True)
        for name, column in self._columns.items():
            column.append(batch.column(name))
        self._starts.append(start + len(batch))


def _number(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])


@functools.cache
def _schema() -> "pa.Schema":
    import pyarrow as pa

    sixteen, number = pa.binary(16), pa.int32()
    file = {"name": sixteen, "encoded": pa.large_binary(), "height": number, "width": number}
    about = dict.fromkeys(About._fields, number) | {"digest": sixteen, "constant": pa.bool_()}
    return pa.schema(file | about)
