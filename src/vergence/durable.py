"""The one place that writes files which must survive a kill or a power cut.

A file or folder is written beside its final name, flushed to the disk, and renamed: readers see the old one or the new
one, never a part. A folder is sealed by `manifest.json`, written last, which holds the SHA-256 of every file in it.
Each step is a named failpoint, so that a test can kill the process between any two of them.
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
from collections.abc import Iterator, Mapping
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

_passed: dict[str, int] = {}


def _reach(point: str) -> None:
    wanted, _, count = os.environ.get("VERGENCE_FAILPOINT", "").partition(":")
    if wanted == point:
        _passed[point] = _passed.get(point, 0) + 1
        if _passed[point] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the file system says into one line that says what to do."""
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
        }.get(error.errno or 0, "nothing was replaced; what was saved before still stands")
        raise MachineError(f"cannot write {path}: {error.strerror or error}: {advice}") from error


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        _reach("write.opened")
        file.write(data)
        file.flush()
        _reach("write.written")
        os.fsync(file.fileno())
    _reach("write.synced")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, or explain why not."""
    with _explained(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(folder)) from error


def write_file(path: Path, data: bytes) -> None:
    """Replace a file as a whole."""
    make_folder(path.parent)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    with _explained(path):
        try:
            _write_synced(temporary, data)
            _reach("replace.before")
            os.replace(temporary, path)
            _reach("replace.after")
            sync_folder(path.parent)
            _reach("replace.synced")
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file as a whole."""
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a sealed folder that was not there before."""
    make_folder(folder.parent)
    temporary = folder.with_name(f"{_TEMPORARY}{os.getpid()}-{folder.name}")
    with _explained(folder):
        try:
            temporary.mkdir()
            for name, data in files.items():
                _write_synced(temporary / name, data)
            seal = {name: _entry(data) for name, data in files.items()}
            _write_synced(temporary / MANIFEST, json.dumps(seal, indent=2).encode())
            sync_folder(temporary)
            _reach("replace.before")
            os.replace(temporary, folder)
            _reach("replace.after")
            sync_folder(folder.parent)
            _reach("replace.synced")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def seal_folder(temporary: Path, folder: Path) -> None:
    """Seal a folder whose files are already on the disk, too large for `write_folder`, and give it its final name.

    `temporary` must lie beside `folder`, which must not be there. Files in subfolders are sealed too.
    """
    with _explained(folder):
        seal = {}
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            seal[path.relative_to(temporary).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
        _write_synced(temporary / MANIFEST, json.dumps(seal, indent=2).encode())
        for inner in (p for p in temporary.rglob("*") if p.is_dir()):
            sync_folder(inner)
        sync_folder(temporary)
        _reach("replace.before")
        os.replace(temporary, folder)
        _reach("replace.after")
        sync_folder(folder.parent)
        _reach("replace.synced")


def seal_file(temporary: Path, path: Path) -> None:
    """Give a finished file beside `path` its final name."""
    with _explained(path):
        sync_file(temporary)
        _reach("replace.before")
        os.replace(temporary, path)
        _reach("replace.after")
        sync_folder(path.parent)
        _reach("replace.synced")


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a sealed folder, each compared with the manifest. Only plain files of the length it says are opened.

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
    """Remove a sealed folder in one step for every reader: rename it away, then delete."""
    doomed = folder.with_name(f"{_TEMPORARY}{os.getpid()}-{folder.name}")
    with _explained(folder):
        _reach("remove.before")
        os.replace(folder, doomed)
        _reach("remove.after")
        shutil.rmtree(doomed)


def sweep(folder: Path) -> None:
    """Delete what an interrupted write left behind. Call only while holding the folder's lock."""
    for entry in folder.glob(f"**/{_TEMPORARY}*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add one line to a log. A torn last line is what `read_lines` expects after a kill."""
    with _explained(path):
        _reach("append.before")
        with open(path, "ab") as file:
            file.write(line.encode() + b"\n")
        _reach("append.after")


def sync_file(path: Path) -> None:
    """Flush to the disk what was appended."""
    if path.exists():
        with _explained(path), open(path, "rb") as file:
            os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a log, one to a line; a torn last line is left out."""
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
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder against other processes; the kernel lets go when the process dies, however it dies.

    Locks of other names are other locks.

    Raises:
        Busy: another process holds it.
    """
    make_folder(folder)
    with _explained(folder):
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode(errors="replace") or "another process"
            raise Busy(f"{folder} is in use by {holder}; wait for it, or choose another --out") from error
        with _explained(folder):
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(handle)
