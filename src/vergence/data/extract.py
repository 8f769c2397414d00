"""Unpack a tar.gz of strangers: plain files and folders, inside one folder, within limits.

The standard library's own filters have been bypassed more than once, by links above all. Here nothing but plain files
and folders is accepted, so that there is never a link to follow.
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vergence.errors import InputError, MachineError
from vergence.files.names import shown

_BLOCK = 1 << 13
"""The most bytes read at once, and so the longest header: tarfile may take a time to search one that grows with the
square of its length (CVE-2024-6232)."""

_LONGEST = 255  # bytes of a name, on every usual file system


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


def extract(
    archive: Path, into: Path, *, wanted: Container[str] | None = None, limits: Limits | None = None
) -> list[Path]:
    """Unpack a tar.gz into a folder that is made for it.

    Args:
        archive: the file.
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
        with gzip.open(archive) as stream, tarfile.open(fileobj=(bounded := _Bounded(stream, most)), mode="r:") as tar:  # pyright: ignore
            seen: dict[PurePosixPath, bool] = {}
            for count, member in enumerate(tar, start=1):
                name = _checked(member, seen)
                if count > limits.members:
                    raise InputError(f"more than {limits.members} members")
                if member.isreg() and (wanted is None or name.name in wanted):
                    written.append(_write(tar, member, into / name))
            while bounded.read(_BLOCK):  # to the end, where gzip compares its checksum
                pass
    except InputError as error:
        raise InputError(f"{shown(archive)}: refused: {error}") from error
    # ValueError: what tarfile makes of numbers and texts in a header that are none
    except (tarfile.TarError, EOFError, RecursionError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{shown(archive)}: damaged: {shown(str(error))}; get it again") from error
    except OSError as error:
        raise MachineError(f"cannot unpack {shown(archive)}: {error.strerror or error}; free some space") from error
    return written


def _checked(member: tarfile.TarInfo, seen: dict[PurePosixPath, bool]) -> PurePosixPath:
    """The member's name, if it may be written at all; `seen` says of each name so far whether it is a folder."""
    name = PurePosixPath(member.name)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse() and member.size >= 0
    if not (plain or member.isdir()):
        raise InputError(f"'{shown(member.name)}' is neither a plain file nor a folder")
    if (
        name.is_absolute()
        or not (name.parts or member.isdir())
        or ".." in name.parts
        or "\\" in member.name
        or "\0" in member.name
    ):
        raise InputError(f"'{shown(member.name)}' lies outside")
    encoded = [part.encode(errors="surrogateescape") for part in name.parts]
    if any(len(part) > _LONGEST for part in encoded) or sum(map(len, encoded)) > _LONGEST * 8:
        raise InputError(f"'{shown(member.name)[:80]}...' is too long a name")
    if name in seen and not (member.isdir() and seen[name]):
        raise InputError(f"'{shown(member.name)}' is there twice")
    if not all(seen.setdefault(parent, True) for parent in name.parents):
        raise InputError(f"'{shown(member.name)}' lies in a file")
    seen[name] = member.isdir()
    return name


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Path:
    source = tar.extractfile(member)
    assert source is not None  # it is None for links and devices only
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
        while left and (block := source.read(min(_BLOCK, left))):
            file.write(block)
            left -= len(block)
    if left:
        raise EOFError(f"'{member.name}' ends early")
    return path
