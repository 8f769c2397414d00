"""Walk a folder of pictures: every file once, nothing opened, nothing that can hang."""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vergence.errors import InputError
from vergence.files.names import listed, shown, suggestion
from vergence.machine.progress import counted

HEIF = frozenset((".heic", ".heif", ".hif"))
TARGA = frozenset((".tga", ".icb", ".vda", ".vst"))
GET_HEIF = "HEIC, which is read with pillow-heif: pip install 'vergence[heif]'"
"""What there is to do about a HEIC that cannot be read."""

_COMMON = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif")
_OTHERS = (".jp2", ".j2k", ".j2c", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", *TARGA)
_BY_EXTRAS = HEIF if find_spec("pillow_heif") else frozenset()
SUFFIXES = frozenset((*_COMMON, *_OTHERS, *_BY_EXTRAS))

_UNREAD = {
    ".heic .heif .hif": GET_HEIF,
    ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw .raw": "raw values of a camera; develop them to JPEG or TIFF",
    ".dcm .dicom .nii .nrrd .mha .fits .fit .svs .ndpi .czi .lif .nd2 .mrc": "files of instruments; save them as TIFF",
    ".jxl": "JPEG XL; convert them to PNG or JPEG",
    ".psd .xcf .exr .hdr .pcx .sgi .dds .ico .icns .svg .eps .qoi .jxr .wdp .jls .bpg .djvu": (
        "of no format that is read; convert them to PNG or JPEG"
    ),
}
LIKE_PICTURES = {
    suffix: reason for suffixes, reason in _UNREAD.items() for suffix in suffixes.split() if suffix not in SUFFIXES
}
"""Suffixes of what holds a picture, but is not read, each with the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture's file: its path below the root, with slashes, and what tells whether it has changed.

    Where it is one of several pages in a file, which has that size and time, its name ends in `#` and the page.
    """

    path: str
    size: int
    changed: int  # in nanoseconds
    page: int = 0  # from 1 on; 0: the file is the picture


@dataclass(frozen=True)
class Bad:
    """A picture that cannot be used, and why; both printable."""

    name: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What lies in a folder.

    Attributes:
        found: files with a picture's suffix, in the order of their paths' bytes.
        bad: dangling links, link loops, files that may not be read, and whatever is neither file nor folder.
        folders: paths of all folders below the root; hidden ones are left out.
        doubles: files and folders that were reached a second time, by a hard or symbolic link.
        others: paths of files with other suffixes.
        hidden: files and folders whose name begins with a dot.
    """

    found: tuple[Found, ...]
    bad: tuple[Bad, ...]
    folders: tuple[str, ...]
    doubles: int
    others: tuple[str, ...]
    hidden: int


def suffix_of(path: str) -> str:
    """A path's suffix in small letters; empty where there is none."""
    return os.path.splitext(path)[1].lower()


def by_suffix(paths: Iterable[str]) -> dict[str, int]:
    """Return how many files there are of each suffix, printable, the most frequent first."""
    return dict(Counter(shown(suffix_of(path)[:20]) for path in sorted(paths)).most_common())


def told(counts: Mapping[str, int], most: int = 5) -> str:
    """Counts by suffix in words, as in "16 .heic, 2 .txt"."""
    return listed([f"{count:,} {suffix or 'without a suffix'}" for suffix, count in counts.items()], most)


def unread(counts: Mapping[str, int]) -> list[str]:
    """Return a line for each reason for which files that look like pictures are not read, of counts by suffix."""
    by_reason: dict[str, dict[str, int]] = {}
    for suffix, count in counts.items():
        if suffix in LIKE_PICTURES:
            by_reason.setdefault(LIKE_PICTURES[suffix], {})[suffix] = count
    return [f"{told(each)} ({reason})" for reason, each in by_reason.items()]


def scan(root: Path) -> Scan:
    """Everything below the root, by device and inode: link loops end, and a file with two names counts once.

    Links are followed last, also out of the root, so that a file keeps the name, and the class, of where it really is.

    Raises:
        InputError: the root is not there or no folder, or a folder cannot be read. A folder is never left out quietly:
            it might be a whole class.
    """
    seen = {_identity(_root_stat(root))}
    prefix = f"{root}/"  # texts: a million joined paths of pathlib's take seconds
    found: list[Found] = []
    bad: list[Bad] = []
    folders: list[str] = []
    unreadable: list[str] = []
    others: list[str] = []
    doubles = hidden = 0
    to_list, links = deque([""]), deque()

    def entries() -> Iterator[tuple[str, bool]]:
        while to_list or links:
            yield from _entries(prefix, to_list.popleft(), unreadable) if to_list else [(links.popleft(), False)]

    for path, is_link in counted(f"listing {shown(root)}", entries()):
        name = path.rpartition("/")[2]
        if name.startswith("."):
            hidden += 1
        elif is_link:
            links.append(path)
        elif isinstance(status := _status(prefix, path), Bad):
            bad.append(status)
        elif not stat.S_ISDIR(status.st_mode) and suffix_of(name) not in SUFFIXES:
            others.append(path)
        elif not (stat.S_ISDIR(status.st_mode) or _may_read(prefix + path)):
            bad.append(Bad(shown(path), "no permission to read it"))
        elif _identity(status) in seen:
            doubles += 1
        else:
            seen.add(_identity(status))
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
                to_list.append(path)
            else:
                found.append(Found(path, status.st_size, status.st_mtime_ns))
    if unreadable:
        raise InputError(f"{shown(root)}: {len(unreadable)} folders cannot be read: {listed(sorted(unreadable))}")
    found.sort(key=lambda file: os.fsencode(file.path))
    bad.sort(key=lambda b: b.name)
    return Scan(tuple(found), tuple(bad), tuple(sorted(folders)), doubles, tuple(others), hidden)


def _may_read(path: str) -> bool:
    # asked here, so that a permission that changes makes another listing, and so another entry of the cache
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _root_stat(root: Path) -> os.stat_result:
    try:
        status = root.stat()
    except FileNotFoundError as error:
        raise InputError(f"there is no folder {shown(root)}{suggestion(root)}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputError(f"{shown(root)}: cannot be read: {shown(str(error))}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise InputError(
            f"{shown(root)} is not a folder; name the folder of the pictures, unpacked if it is an archive"
        )
    return status


def _entries(prefix: str, folder: str, unreadable: list[str]) -> list[tuple[str, bool]]:
    """The paths in a folder, in order, and whether each is a symbolic link."""
    try:
        with os.scandir(prefix + folder) as entries:
            names = sorted((entry.name, entry.is_symlink()) for entry in entries)
    except OSError as error:
        unreadable.append(f"{shown(folder or prefix[:-1])} ({error.strerror})")
        return []
    return [(f"{folder}/{name}" if folder else name, is_link) for name, is_link in names]


def _status(prefix: str, path: str) -> os.stat_result | Bad:
    """What a path leads to, if that is a folder or a file that may be opened without waiting for anyone."""
    try:
        status = os.stat(prefix + path)
    except FileNotFoundError:
        return Bad(shown(path), "a link to nothing")
    except OSError as error:  # a link to itself, a folder that may not be searched
        return Bad(shown(path), str(error.strerror).lower())
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return status
    return Bad(shown(path), "a pipe, socket or device")
