"""Decoded pictures on disk: decoded once, sealed, and memory-mapped ever after.

One entry is a folder named after what was decoded and a hash of its sources and settings: others are another entry, so
nothing is ever out of date. An entry that is not as its manifest says is decoded anew; of the pixels only the length is
compared, since reading gigabytes before every run would cost more than it protects.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.data.images import Images
from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.names import shown

FORMAT = 1
"""Part of every key: raise it when the layout of an entry or the way anything is decoded changes."""

UNLABELLED = -1
_PIXELS, _LABELS = "pixels.npy", "labels.npy"
_PATIENCE = 3600.0
log = logging.getLogger("vergence.data")


def default_cache_dir() -> Path:
    """$VERGENCE_CACHE, or vergence/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("VERGENCE_CACHE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification: a relative path is to be ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise MachineError("there is no home folder for the cache; set VERGENCE_CACHE to a folder") from error
    return base / "vergence"


@dataclass(frozen=True)
class Decoded:
    """An opened entry: labels are `UNLABELLED` where there are none; `notes` is what its builder returned."""

    pixels: UInt8[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"]
    notes: dict[str, Any]
    folder: Path

    def images(self, classes: tuple[str, ...], size: int, part: slice = slice(None)) -> Images:
        """A run of these pictures, still memory-mapped; without labels if any of them has none."""
        labels = self.labels[part]
        return Images(self.pixels[part], None if (labels == UNLABELLED).any() else labels, classes, size)


class Writer:
    """Takes the pictures of an entry one block after the other.

    Attributes:
        scratch: a path beside the entry where the builder may put files; removed when it returns.
    """

    def __init__(self, file: BinaryIO, height: int, width: int, scratch: Path):
        self.scratch = scratch
        self._file = file
        self._shape = (3, height, width)
        self._labels: list[Int64[np.ndarray, " b"]] = []
        self._header(0)

    def _header(self, count: int) -> None:
        # numpy pads the header for any first dimension, so that it can be rewritten once the count is known
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        with _explained():
            np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, pixels: UInt8[np.ndarray, "b 3 h w"], labels: Int64[np.ndarray, " b"]) -> None:
        """Append pictures."""
        if pixels.shape != (len(labels), *self._shape) or pixels.dtype != np.uint8:
            raise ValueError(
                f"expected {len(labels)} uint8 pictures of {self._shape}, not {pixels.dtype} {pixels.shape}"
            )
        with _explained():
            # not through a memory map: on a full disk that is a bus error, not an exception
            self._file.write(np.ascontiguousarray(pixels).data)
        self._labels.append(labels)

    def restart(self) -> None:
        """Forget the pictures that were added so far."""
        with _explained():
            self._file.seek(0)
            self._file.truncate()
        self._labels.clear()
        self._header(0)

    def finish(self) -> Int64[np.ndarray, " n"]:
        """Write the final count; the labels of all pictures."""
        labels = np.concatenate([np.empty(0, np.int64), *self._labels])
        with _explained():
            self._file.seek(0)  # this also writes out what is buffered, and so may fail
            self._header(len(labels))
            self._file.flush()
        return labels


Build = Callable[[Writer], Mapping[str, Any]]
"""Adds the pictures to the writer and returns JSON values, each kept as `<name>.json` beside the pixels."""


def files_digest(files: Iterable[tuple[str, int, int]]) -> str:
    """SHA-256 of a listing: each file's name, bytes and time of change in nanoseconds, in the order given."""
    lines = (os.fsencode(name) + b"\0%d\0%d\0" % (size, changed) for name, size, changed in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def paths_digest(paths: Iterable[Path]) -> str:
    """`files_digest` of files by their paths."""
    return files_digest((str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths)


def cached(cache_dir: Path, name: str, identity: Mapping[str, Any], height: int, width: int, build: Build) -> Decoded:
    """Open an entry, decoded first where it is missing or damaged.

    Args:
        cache_dir: the folder of all entries.
        name: what is decoded, for people.
        identity: JSON values that determine the pixels: the sources' digest and every setting.
        height: of all pictures, in pixels.
        width: of all pictures, in pixels.
        build: decodes; what it raises is passed on, and leaves nothing behind.

    Raises:
        InputError: a source cannot be read.
        MachineError: the cache cannot be written, or another process has held the entry for an hour.
    """
    key = hashlib.sha256(json.dumps({**identity, "format": FORMAT}, sort_keys=True).encode()).hexdigest()[:16]
    entry = cache_dir / f"{name}-{key}"
    sealed, partial, scratch = entry / "decoded", entry / "partial", entry / "scratch"
    if (found := _opened(sealed)) is not None:
        return found
    with alone(entry):
        if (found := _opened(sealed)) is not None:  # decoded by the process that this one waited for
            return found
        durable.sweep(entry)
        if sealed.exists():
            log.warning("the cache entry %s is damaged; decoding it anew", shown(entry))
            durable.remove_folder(sealed)
        _clear(partial, scratch)  # an earlier process may have been killed
        try:
            _write(partial, scratch, height, width, build, dict(identity))
            durable.seal_folder(partial, sealed)
        finally:
            _clear(partial, scratch)
    if (found := _opened(sealed)) is None:
        raise MachineError(f"the cache entry {shown(entry)} cannot be read back; set VERGENCE_CACHE to another disk")
    return found


def _write(partial: Path, scratch: Path, height: int, width: int, build: Build, identity: dict[str, Any]) -> None:
    with _explained():
        partial.mkdir()
    with _closing(_created(partial / _PIXELS)) as file:
        writer = Writer(file, height, width, scratch)
        try:
            notes = build(writer)
        except OSError as error:  # what goes wrong in writing has already become a MachineError
            named = shown(error.filename or "a source file")
            raise InputError(f"cannot read {named}: {error.strerror or error}") from error
        labels = writer.finish()
    if not len(labels):
        raise ValueError("a builder must add at least one picture")
    with _explained():
        np.save(partial / _LABELS, labels)
        for name, value in {**notes, "identity": identity}.items():
            (partial / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


def _clear(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _closing(file: BinaryIO) -> Iterator[BinaryIO]:
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now: the first error counts
            file.close()
        raise
    with _explained():
        file.close()


def _created(path: Path) -> BinaryIO:
    with _explained():
        return open(path, "wb")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" {shown(error.filename)}" if error.filename else ""
        advice = "set VERGENCE_CACHE to a folder that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"free some space there, or {advice}"
        raise MachineError(f"cannot write the cache{where}: {error.strerror or error}: {advice}") from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder of the cache; wait while another process holds it, which ends when that process does.

    Raises:
        MachineError: the folder cannot be written, or has been held for an hour.
    """
    with _explained():
        folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(durable.locked(folder, otherwise="set VERGENCE_CACHE to another folder"))
                break
            except MachineError as error:
                if not isinstance(error.__cause__, BlockingIOError):  # refused, not held: waiting would not help
                    raise
                if time.monotonic() > deadline:
                    held = f"{shown(folder)} has been locked for an hour"
                    raise MachineError(f"{held}; end that process or set VERGENCE_CACHE") from error
            time.sleep(0.1)
        yield


def _opened(sealed: Path) -> Decoded | None:
    """The entry, or None where it is missing or not what its manifest says."""
    try:
        seal = json.loads((sealed / durable.MANIFEST).read_bytes())
        small = {name: (sealed / name).read_bytes() for name in seal if name != _PIXELS}
        if any(hashlib.sha256(data).hexdigest() != seal[name]["sha256"] for name, data in small.items()):
            return None
        if (sealed / _PIXELS).stat().st_size != seal[_PIXELS]["bytes"]:
            return None
        # copy on write: torch wants memory that can be written, and the file must never be
        pixels = np.load(sealed / _PIXELS, mmap_mode="c")
        labels = np.load(sealed / _LABELS)
        notes = {name.removesuffix(".json"): json.loads(data) for name, data in small.items() if name.endswith(".json")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError):
        return None
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, np.ndarray):  # numpy opens archives of arrays too
        return None
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
        return None
    return Decoded(torch.from_numpy(np.asarray(pixels)), torch.from_numpy(labels), notes, sealed)
