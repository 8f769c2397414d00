"""Unpack a tar.gz or a zip of strangers: plain files and folders, inside one folder, within limits.

The standard library's own filters have been bypassed more than once, by links above all. Here nothing but plain files
and folders is accepted, so that there is never a link to follow.
"""

import functools
import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vergence.errors import InputError, MachineError
from vergence.files.names import shown

_BLOCK = 1 << 13
"""The most bytes read at once, and so the longest header: tarfile may take a time to search one that grows with the
square of its length (CVE-2024-6232)."""

_LONGEST = 255  # bytes of a name, on every usual file system


_DAMAGE = (
    *(tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, struct.error),
    *(ValueError, RecursionError, OverflowError),  # of numbers and texts in a header that are none
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        ratio: unpacked bytes to each byte of the archive; text and flat pictures reach about 50.
    """

    members: int = 1000
    bytes: int = 8 << 30
    ratio: int = 200


class _Bounded:
    """A gzip stream that ends with an error where it grows past a limit, whatever the tar headers in it claim."""

    def __init__(self, stream: gzip.GzipFile, most: int):
        self._stream, self._most, self._read = stream, most, 0

    def _within(self, position: int) -> None:
        if position > self._most:
            raise InputError(f"unpacks to more than {self._most} bytes")

    def read(self, size: int) -> bytes:
        # tarfile reads a header at once, into memory, however long it says that it is
        if size > _BLOCK:
            raise InputError(f"a header of {size} bytes, more than {_BLOCK}")
        data = self._stream.read(size)
        self._read += len(data)  # counted besides the position, which a header of negative size could turn back
        self._within(max(self._read, self._stream.tell()))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset < self._stream.tell() - tarfile.BLOCKSIZE:
            raise InputError("a header that points back")
        self._within(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()


@dataclass(frozen=True)
class _Member:
    """A file or folder in an archive, by what its header says; `opened` gives what it holds."""

    name: str
    size: int
    plain: bool
    folder: bool
    opened: Callable[[], IO[bytes] | None]


def extract(
    archive: Path, into: Path, *, wanted: Container[str] | None = None, limits: Limits | None = None
) -> list[Path]:
    """Unpack an archive into a folder that is made for it.

    Args:
        archive: the file: a zip if its name ends so, else a tar.gz.
        into: must not exist, or be empty.
        wanted: file names (without folders) to write; None writes all. The others are checked all the same.
        limits: on the count of members, the bytes they unpack to, and their ratio to the archive's.

    Returns:
        The files written.

    Raises:
        InputError: the archive is damaged, or holds a link, a device, a name outside the folder, a name twice, a file
            where a folder is, or more than the limits allow. What was written before that is inside `into`.
        MachineError: the disk refused.
    """
    limits = limits or Limits()
    written: list[Path] = []
    if into.exists() and any(into.iterdir()):
        raise ValueError(f"{into} is not empty")
    try:
        into.mkdir(parents=True, exist_ok=True)
        most = min(limits.bytes, max(limits.ratio * archive.stat().st_size, 1 << 16))  # a tar has 10 KiB of its own
        seen: dict[PurePosixPath, bool] = {}
        members = _of_zip if archive.suffix == ".zip" else _of_tar
        for count, member in enumerate(members(archive, most), start=1):
            name = _checked(member, seen)
            if count > limits.members:
                raise InputError(f"more than {limits.members} members")
            if not member.folder and (wanted is None or name.name in wanted):
                written.append(_write(member, into / name))
    except InputError as error:
        raise InputError(f"{shown(archive)}: refused: {error}") from error
    except _DAMAGE as error:
        raise InputError(f"{shown(archive)}: damaged: {shown(str(error))}; get it again") from error
    except OSError as error:
        raise MachineError(f"cannot unpack {shown(archive)}: {error.strerror or error}; free some space") from error
    return written


def _of_tar(archive: Path, most: int) -> Iterator[_Member]:
    with gzip.open(archive) as stream, tarfile.open(fileobj=(bounded := _Bounded(stream, most)), mode="r:") as tar:  # pyright: ignore
        for info in tar:
            plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse() and info.size >= 0
            opened: Any = functools.partial(tar.extractfile, info)
            yield _Member(info.name, info.size, plain, info.isdir(), opened)
        while bounded.read(_BLOCK):  # to the end, where gzip compares its checksum
            pass


def _of_zip(archive: Path, most: int) -> Iterator[_Member]:
    total = 0
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            total += info.file_size  # no more than that is ever read of it
            if total > most:
                raise InputError(f"unpacks to more than {most} bytes")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"'{shown(info.filename)}' is encrypted, or compressed otherwise than by deflate")
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix
            folder = info.is_dir() and kind in (0, stat.S_IFDIR)
            plain = not info.is_dir() and kind in (0, stat.S_IFREG)
            # the name as it is in the file: zipfile cuts it at a zero byte
            yield _Member(info.orig_filename, info.file_size, plain, folder, functools.partial(packed.open, info))


def _checked(member: _Member, seen: dict[PurePosixPath, bool]) -> PurePosixPath:
    """The member's name, if it may be written at all; `seen` says of each name so far whether it is a folder."""
    name = PurePosixPath(member.name)
    if not (member.plain or member.folder):
        raise InputError(f"'{shown(member.name)}' is neither a plain file nor a folder")
    if (
        name.is_absolute()
        or not (name.parts or member.folder)
        or ".." in name.parts
        or "\\" in member.name
        or "\0" in member.name
    ):
        raise InputError(f"'{shown(member.name)}' lies outside")
    encoded = [part.encode(errors="surrogateescape") for part in name.parts]
    if any(len(part) > _LONGEST for part in encoded) or sum(map(len, encoded)) > _LONGEST * 8:
        raise InputError(f"'{shown(member.name)[:80]}...' is too long a name")
    if name in seen and not (member.folder and seen[name]):
        raise InputError(f"'{shown(member.name)}' is there twice")
    if not all(seen.setdefault(parent, True) for parent in name.parents):
        raise InputError(f"'{shown(member.name)}' lies in a file")
    seen[name] = member.folder
    return name


def _write(member: _Member, path: Path) -> Path:
    source = member.opened()
    assert source is not None  # it is None for links and devices only
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with source, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
        while left and (block := source.read(min(_BLOCK, left))):
            file.write(block)
            left -= len(block)
    if left:
        raise EOFError(f"'{member.name}' ends early")
    return path
