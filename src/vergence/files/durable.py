"""The one place that writes files which must survive a kill or a power cut.

A file or folder is written beside its final name, flushed to the disk, and renamed: readers see the old one or the new
one, never a part. A folder is sealed by `manifest.json`, written last, which holds the SHA-256 of every file in it.
Each step is a named failpoint, so that a test can kill the process between any two of them. A power cut also takes what
was not flushed, names in folders as well as bytes in files; `tests/support/power.py` shows what each flush is for.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vergence.errors import Busy, InputError, MachineError

MANIFEST = "manifest.json"
_TEMPORARY = ".writing-"
_LONGEST_MANIFEST = 1 << 20

FAILPOINTS = (
    "write.opened",
    "write.written",
    "write.synced",
    "replace.before",
    "replace.after",
    "replace.synced",
    "append.before",
    "append.after",
    "remove.before",
    "remove.after",
)
"""The moments a test may kill at: `VERGENCE_FAILPOINT=replace.before:3` ends the process at the third passage."""

disk: Any = os
"""Makes every system call that changes a disk. A test puts another object with these functions here, to fail the k-th
call or to keep account of what was not flushed."""

Content = bytes | Sequence[bytes | bytearray | memoryview]
"""What a file is to hold: bytes, or the pieces that make it up."""

_passed: dict[str, int] = {}


def _reach(point: str) -> None:
    wanted, _, count = os.environ.get("VERGENCE_FAILPOINT", "").partition(":")
    if wanted == point:
        _passed[point] = _passed.get(point, 0) + 1
        if _passed[point] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


UNCONFIRMED = "the disk does not confirm that it is saved; check the disk, and resume"


@contextlib.contextmanager
def _explained(
    path: Path, size: int = 0, otherwise: str = "nothing was replaced; what was saved before still stands"
) -> Iterator[None]:
    """Turn what the file system says into one line that says what to do; `size` is how many bytes it was about."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "the disk is full; free some space and resume",
            errno.EDQUOT: "the quota is used up; free some space and resume",
            errno.EROFS: "the file system is read-only; choose another folder with --out",
            errno.EACCES: "no permission to write there; choose another folder with --out",
            errno.EFBIG: "the file would exceed the size limit of this process (ulimit -f)",
            errno.ENAMETOOLONG: "the path is too long; choose another folder with --out",
            errno.ENOTDIR: "a part of the path is a file; choose another folder with --out",
        }.get(error.errno or 0, otherwise)
        if error.errno == errno.ENOSPC and size and path.parent.exists():
            advice += f" ({size:,} bytes are to be written, {shutil.disk_usage(path.parent).free:,} are free)"
        raise MachineError(f"cannot write {path}: {error.strerror or error}: {advice}") from error


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Give a file's descriptor; closing it can fail too, and then the file is not written."""
    handle = disk.open(path, flags, 0o666)
    try:
        yield handle
    finally:
        disk.close(handle)


def _write(handle: int, data: Content) -> None:
    for piece in _pieces(data):
        rest = memoryview(piece)
        while rest:
            rest = rest[disk.write(handle, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        disk.fsync(handle)


def _write_synced(path: Path, data: Content) -> None:
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as handle:
        _reach("write.opened")
        _write(handle, data)
        _reach("write.written")
        disk.fsync(handle)
    _reach("write.synced")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each durable, or explain why not."""
    with _explained(folder):
        missing = [folder]
        while not missing[-1].exists():
            missing.append(missing[-1].parent)
        for new in reversed(missing[:-1]):
            with contextlib.suppress(FileExistsError):  # another process was quicker
                disk.mkdir(new)
            sync_folder(new.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(folder))


def _remove_tree(folder: Path) -> None:
    """Delete a folder with what is in it; of a link only the link."""
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(Path(entry.path))
            else:
                disk.unlink(entry.path)
    disk.rmdir(folder)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file as a whole."""
    make_folder(path.parent)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    with _explained(path, len(data)):
        try:
            _write_synced(temporary, data)
            _reach("replace.before")
            disk.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)
    with _explained(path, otherwise=UNCONFIRMED):
        _reach("replace.after")
        sync_folder(path.parent)
        _reach("replace.synced")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file as a whole."""
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _pieces(data: Content) -> Sequence[bytes | bytearray | memoryview]:
    return [data] if isinstance(data, bytes) else data


def _entry(data: Content) -> dict[str, Any]:
    hashed = hashlib.sha256()
    for piece in _pieces(data):
        hashed.update(piece)
    return {"sha256": hashed.hexdigest(), "bytes": sum(map(len, _pieces(data)))}


def write_folder(folder: Path, files: Mapping[str, Content]) -> None:
    """Write a sealed folder that was not there before. Files are hashed on another core while they are written."""
    make_folder(folder.parent)
    temporary = folder.with_name(f"{_TEMPORARY}{os.getpid()}-{folder.name}")
    size = sum(len(piece) for data in files.values() for piece in _pieces(data))
    with _explained(folder, size), ThreadPoolExecutor(1) as beside:
        try:
            disk.mkdir(temporary)
            entries = {name: beside.submit(_entry, data) for name, data in files.items()}
            for name, data in files.items():
                _write_synced(temporary / name, data)
            seal = {name: entry.result() for name, entry in entries.items()}
            _write_synced(temporary / MANIFEST, json.dumps(seal, indent=2).encode())
            sync_folder(temporary)
            _reach("replace.before")
            disk.replace(temporary, folder)
            _reach("replace.after")
            try:
                sync_folder(folder.parent)
            except OSError:  # what is not known to be on the disk is not saved, though it can be read just now
                disk.replace(folder, temporary)
                raise
            _reach("replace.synced")
        finally:
            with contextlib.suppress(OSError):
                _remove_tree(temporary)


def seal_folder(temporary: Path, folder: Path) -> None:
    """Seal a folder whose files are already on the disk, too large for `write_folder`, and give it its final name.

    `temporary` must lie beside `folder`, which must not be there. Files in subfolders are sealed too.
    """
    with _explained(folder):
        seal = {}
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            _sync(path)
            seal[path.relative_to(temporary).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
        _write_synced(temporary / MANIFEST, json.dumps(seal, indent=2).encode())
        for inner in (p for p in temporary.rglob("*") if p.is_dir()):
            sync_folder(inner)
        sync_folder(temporary)
        _reach("replace.before")
        disk.replace(temporary, folder)
        _reach("replace.after")
        sync_folder(folder.parent)
        _reach("replace.synced")


def seal_file(temporary: Path, path: Path) -> None:
    """Give a finished file beside `path` its final name."""
    with _explained(path):
        _sync(temporary)
        _reach("replace.before")
        disk.replace(temporary, path)
        _reach("replace.after")
        sync_folder(path.parent)
        _reach("replace.synced")


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a sealed folder, each compared with the manifest.

    Only plain files of the length it says are opened.

    Raises:
        InputError: a file is missing, damaged, a link or not listed, or the manifest is.
    """
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        for name, about in found.items():
            if not stat.S_ISREG(about.st_mode):  # a link leads out of the folder, a pipe never ends
                raise InputError(f"{folder}: damaged: {name!a} is no plain file")
        if found.pop(MANIFEST).st_size > _LONGEST_MANIFEST:
            raise InputError(f"{folder}: damaged: its {MANIFEST} is too long")
        seal = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(seal, dict) or found.keys() != seal.keys():
            raise InputError(f"{folder}: damaged: its files are not those of its manifest")
        files = {}
        for name, about in found.items():
            is_whole = isinstance(seal[name], dict) and seal[name].get("bytes") == about.st_size
            files[name] = (folder / name).read_bytes() if is_whole else b""
            if not is_whole or seal[name] != _entry(files[name]):
                said = name if name.isprintable() else ascii(name)
                raise InputError(f"{folder}: damaged: {said} does not match its SHA-256")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{folder}: damaged or not there: {type(error).__name__}: {error}") from error
    return files


def remove_folder(folder: Path) -> None:
    """Remove a sealed folder in one step for every reader, after a power cut too: rename it away, then delete."""
    doomed = folder.with_name(f"{_TEMPORARY}{os.getpid()}-{folder.name}")
    with _explained(folder):
        _reach("remove.before")
        disk.replace(folder, doomed)
        sync_folder(folder.parent)
        _reach("remove.after")
        _remove_tree(doomed)


def sweep(folder: Path) -> None:
    """Delete what an interrupted write left behind, by the names that writes give, in a folder and those in it.

    Call only while holding the folder's lock.
    """
    name = f"{_TEMPORARY}[0-9]*-*"
    for entry in [*folder.glob(name), *folder.glob(f"*/{name}")]:
        with contextlib.suppress(OSError):  # one inside another is gone with it
            if entry.is_dir() and not entry.is_symlink():
                _remove_tree(entry)
            else:
                disk.unlink(entry)


def append_line(path: Path, line: str) -> None:
    """Add one line to a log. A torn last line is what `read_lines` expects after a kill."""
    data = line.encode() + b"\n"
    with _explained(path, len(data)):
        _reach("append.before")
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as handle:
            _write(handle, data)
        _reach("append.after")


def sync_file(path: Path) -> None:
    """Flush to the disk what was appended, and the file's name, which may be new."""
    if path.exists():
        with _explained(path, otherwise=UNCONFIRMED):
            _sync(path)
            sync_folder(path.parent)


def _sync(path: Path) -> None:
    with _opened(path, os.O_RDONLY) as handle:
        disk.fsync(handle)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a log, one to a line; a torn last line is left out."""
    lines = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


@contextlib.contextmanager
def locked(
    folder: Path, name: str = ".lock", *, otherwise: str = "choose another --out", wait: bool = False
) -> Iterator[None]:
    """Hold a folder against other processes; the kernel lets go when the process dies, however it dies.

    Args:
        folder: what is held; made if it is not there.
        name: locks of other names are other locks.
        otherwise: what a user can do where this folder cannot be held.
        wait: until whoever holds it lets go.

    Raises:
        Busy: another process holds it, and `wait` was not asked for.
        MachineError: the folder cannot be written, or its file system has no locks.
    """
    make_folder(folder)
    with _explained(folder):
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode(errors="replace") or "another process"
            raise Busy(f"{folder} is in use by {holder}; wait for it, or {otherwise}") from error
        except (
            OSError
        ) as error:  # ENOLCK, ENOSYS, EOPNOTSUPP, EIO: shares of a network, and what is mounted by programs
            said = f"its file system gives no locks ({error.strerror or error}), so that two processes could mix there"
            raise MachineError(f"{folder} cannot be held: {said}; {otherwise}, on a local disk") from error
        with _explained(folder):
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(handle)
