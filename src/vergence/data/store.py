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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, UInt8

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


Rows = Sequence[int] | Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class _Part:
    """A file of pictures: where its encoded pictures begin in it, and each of them from there."""

    path: Path
    offsets: Int64[np.ndarray, " n"]
    start: int


class Store:
    """The pictures of a folder's store, in the order in which they were added.

    Args:
        folder: of the parts; it is made when the first is written. Whoever adds holds it alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._starts: list[int] = [0]
        self._next = 0
        self._parts: list[_Part] = []
        self._columns: dict[str, list[Any]] = {field: [] for field in _schema().names if field != "encoded"}
        self._rows: dict[bytes, int] = {}
        self._named = 0  # parts whose pictures are in it
        self.refresh()

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def rows(self) -> Mapping[bytes, int]:
        """The row of each picture by its name."""
        for part in range(self._named, len(self._parts)):
            names = self._columns["name"][part].to_pylist()
            self._rows |= zip(names, range(self._starts[part], self._starts[part + 1]), strict=True)
        self._named = len(self._parts)
        return self._rows

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def mark(self, parts: int) -> str:
        """Return a digest of the first parts: rows of a store that has the same are the same pictures."""
        told = [(part.path.name, part.path.stat()) for part in self._parts[:parts]]
        lines = [f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in told]
        return hashlib.sha256("\n".join([*lines, str(self._starts[: parts + 1])]).encode()).hexdigest()

    def refresh(self) -> None:
        """Open the parts that others have added."""
        for path in sorted(self.folder.glob("part-*.arrow")):
            if _number(path) >= self._next:
                self._open(path)

    def encoded(self, row: int) -> bytes:
        """Return the file of a picture.

        Raises:
            OSError: the disk fails, or the part is gone.
        """
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part, place = self._parts[number], row - self._starts[number]
        # read, not mapped: pages would count as this process's memory, and a disk that fails would end it
        with open(part.path, "rb", buffering=0) as file:
            start, stop = (int(offset) for offset in part.offsets[place : place + 2])
            encoded = os.pread(file.fileno(), stop - start, part.start + start)
        if len(encoded) != stop - start:
            raise OSError(f"{part.path} has been cut short")
        return encoded

    def shapes(self, rows: Rows) -> Int64[np.ndarray, "n 2"]:
        """Return height and width of the pictures of these rows."""
        sides = [self._column(name, rows).to_numpy() for name in ("height", "width")]
        return np.stack(sides, axis=1).astype(np.int64)

    def digests(self, rows: Rows) -> UInt8[np.ndarray, "n 16"]:
        """Return 16 bytes of a hash of the pixels of each of these rows."""
        taken = self._column("digest", rows).combine_chunks()
        bytes_ = np.frombuffer(taken.buffers()[1], np.uint8)
        return bytes_[16 * taken.offset :][: 16 * len(taken)].reshape(-1, 16)

    def about(self, rows: Rows) -> About:
        """Return what is known of the pictures of these rows, as columns."""
        others = (self._column(name, rows).to_numpy() for name in About._fields[1:])
        return About(self.digests(rows).reshape(-1).view(DIGEST), *others)

    def _column(self, name: str, rows: Rows) -> "pa.ChunkedArray":
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
        path = self.folder / f"part-{self._next:06d}.arrow"
        durable.write_file(path, sink.getvalue().to_pybytes())
        self._open(path)

    def _open(self, path: Path) -> None:
        """Map a part; one that is damaged is taken away, and its pictures are read again.

        Raises:
            MachineError: the part cannot be read, which does not say that it is damaged.
        """
        import pyarrow as pa

        self._next = _number(path) + 1
        try:
            with pa.memory_map(str(path)) as file:  # what is mapped stays when the file is closed
                whole = file.read_buffer()
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
        for name, column in self._columns.items():
            column.append(batch.column(name))
        _, offsets, encoded = batch.column("encoded").buffers()
        self._parts.append(_Part(path, np.frombuffer(offsets, np.int64), encoded.address - whole.address))
        self._starts.append(len(self) + len(batch))


def _number(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])


@functools.cache
def _schema() -> "pa.Schema":
    import pyarrow as pa

    sixteen, number = pa.binary(16), pa.int32()
    file = {"name": sixteen, "encoded": pa.large_binary(), "height": number, "width": number}
    about = dict.fromkeys(About._fields, number) | {"digest": sixteen, "constant": pa.bool_()}
    return pa.schema(file | about)
