"""What a power cut may leave of a folder, found out without cutting the power.

`Recorder` takes the place of `durable.disk`: it does what it is asked and keeps a log. `Disk` lives through that log up
to any moment and gives the states that a cut at that moment may leave. It knows of nothing but what POSIX promises: the
bytes of a file that was flushed are there, the names in a folder that was flushed are there. Of all else any part may
be there, in any order: a name without its bytes, bytes whose length is there and which are zeros, the second of two
renames without the first.
"""

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = tuple[Any, ...]
MODES = ("nothing", "everything", "names", "bytes")
"""The corner cases: what of the unflushed survives. All other states draw from it at random."""


class Recorder:
    """Stands for the disk in `durable.disk`, and logs what happens below `root`.

    An event is ("folder", id), ("file", id), ("truncate", id), ("write", id, offset, bytes), ("flush", id, site),
    ("names", id of a folder, {name: id, or None where it goes}) or ("mark", what a test says).
    """

    def __init__(self, root: Path):
        self.root = root
        self.log: list[Event] = []
        self._names: dict[int, dict[str, int]] = {}
        self._sizes: dict[int, int] = {}
        self._open: dict[int, tuple[int, int | None]] = {}
        self._paths: dict[int, str] = {}
        self._unflushed: dict[int, set[str]] = {}
        self._folder(".")
        assert not list(root.iterdir()), "the log must begin with nothing"

    def mark(self, *what: Any) -> None:
        self.log.append(("mark", *what))

    def open(self, path, flags: int, mode: int = 0o777) -> int:
        handle = os.open(path, flags, mode)
        where = self._where(path)
        if where is None:
            return handle
        node = self._find(where)
        if node is None:
            node = self._new(("file",), where)
            self._sizes[node] = 0
            self._change(where, {where.name: node})
        if flags & os.O_TRUNC and self._sizes.get(node):
            self._sizes[node] = 0
            self.log.append(("truncate", node))
        self._open[handle] = node, None if flags & os.O_APPEND else 0
        return handle

    def write(self, handle: int, data) -> int:
        done = os.write(handle, data)
        if handle in self._open:
            node, position = self._open[handle]
            offset = self._sizes[node] if position is None else position
            self.log.append(("write", node, offset, bytes(data[:done])))
            self._sizes[node] = max(self._sizes[node], offset + done)
            self._open[handle] = node, None if position is None else position + done
            self._unflushed.setdefault(node, set()).add("bytes")
        return done

    def fsync(self, handle: int) -> None:
        """Logged only: flushing the disk of the tests would prove nothing and take its time."""
        if handle in self._open:
            node, _ = self._open[handle]
            new = self._unflushed.pop(node, set())
            self.log.append(("flush", node, _site(self._paths[node], new)))

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)
        os.close(handle)

    def replace(self, old, new) -> None:
        before, after = self._where(old), self._where(new)
        os.replace(old, new)
        assert before is not None
        assert after is not None
        assert before.parent == after.parent
        node = self._find(before)
        assert node is not None
        self._change(before, {before.name: None, after.name: node})
        self._paths[node] = after.as_posix()

    def mkdir(self, path, mode: int = 0o777) -> None:
        os.mkdir(path, mode)
        where = self._where(path)
        assert where is not None
        self._change(where, {where.name: self._folder(where)})

    def unlink(self, path) -> None:
        os.unlink(path)
        self._gone(path)

    def rmdir(self, path) -> None:
        os.rmdir(path)
        self._gone(path)

    def _gone(self, path) -> None:
        where = self._where(path)
        assert where is not None
        self._change(where, {where.name: None})

    def _folder(self, where) -> int:
        node = self._new(("folder",), where)
        self._names[node] = {}
        return node

    def _new(self, event: Event, where) -> int:
        node = len(self._paths)
        self._paths[node] = Path(where).as_posix()
        self.log.append((*event, node))
        return node

    def _where(self, path) -> Path | None:
        path = Path(path)
        return path.relative_to(self.root) if path.is_relative_to(self.root) else None

    def _find(self, where: Path) -> int | None:
        node: int | None = 0
        for part in where.parts:
            node = None if node is None else self._names[node].get(part)
        return node

    def _change(self, where: Path, names: dict[str, int | None]) -> None:
        folder = self._find(where.parent)
        assert folder is not None
        for name, node in names.items():
            if node is None:
                self._names[folder].pop(name)
            else:
                self._names[folder][name] = node
        self.log.append(("names", folder, names))
        self._unflushed.setdefault(folder, set()).update(names)


def _site(path: str, new: set[str]) -> str:
    """What a flush is of, alike for every step and process; empty where nothing was to be flushed."""
    text = f"{path}: {', '.join(sorted(new))}" if new else ""
    return re.sub(r"\d+", "#", text)


@dataclass
class _File:
    flushed: bytes = b""
    writes: list[tuple[int, bytes] | None] = field(default_factory=list)  # None: cut to nothing


@dataclass
class _Folder:
    flushed: dict[str, int] = field(default_factory=dict)
    changes: list[dict[str, int | None]] = field(default_factory=list)


class Disk:
    """A disk that lives through a log, and what a power cut may leave of it."""

    def __init__(self):
        self.nodes: dict[int, _File | _Folder] = {}

    def live(self, event: Event) -> None:
        match event:
            case ("folder", node):
                self.nodes[node] = _Folder()
            case ("file", node):
                self.nodes[node] = _File()
            case ("truncate", node):
                self.nodes[node].writes.append(None)
            case ("write", node, offset, data):
                self.nodes[node].writes.append((offset, data))
            case ("names", node, names):
                self.nodes[node].changes.append(names)
            case ("flush", node, _):
                self._flush(self.nodes[node])

    def _flush(self, node: "_File | _Folder") -> None:
        if isinstance(node, _File):
            node.flushed = _written(node.flushed, node.writes)
            node.writes.clear()
        else:
            node.flushed = _renamed(node.flushed, node.changes)
            node.changes.clear()

    @property
    def unflushed(self) -> bool:
        """Whether a cut may take anything at all."""
        return any(n.writes if isinstance(n, _File) else n.changes for n in self.nodes.values())

    def after_a_cut(self, mode: str, chance: random.Random) -> dict[str, Any]:
        """One state: names with bytes, or with such a mapping where they are folders."""
        return self._left(0, mode, chance, set())

    def _left(self, number: int, mode: str, chance: random.Random, above: set[int]) -> dict[str, Any]:
        folder = self.nodes[number]
        assert isinstance(folder, _Folder)
        names = _renamed(folder.flushed, _some_changes(folder.changes, mode, chance))
        left: dict[str, Any] = {}
        for name, inner in names.items():
            node = self.nodes[inner]
            if isinstance(node, _File):
                left[name] = _written(node.flushed, _some_writes(node.writes, mode, chance))
            elif inner not in above:
                left[name] = self._left(inner, mode, chance, above | {number})
        return left


def _renamed(names: dict[str, int], changes: list[dict[str, int | None]]) -> dict[str, int]:
    names = dict(names)
    for change in changes:
        for name, node in change.items():
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
    return names


def _written(data: bytes, writes: list[tuple[int, bytes] | None]) -> bytes:
    for write in writes:
        if write is None:
            data = b""
        else:
            offset, new = write
            data = data[:offset].ljust(offset, b"\0") + new + data[offset + len(new) :]
    return data


def _some_changes(changes, mode: str, chance: random.Random):
    if mode != "random":
        return changes if mode in ("everything", "names") else []
    chosen = [change for change in changes if chance.random() < 0.5]
    chance.shuffle(chosen)
    return chosen


def _some_writes(writes, mode: str, chance: random.Random):
    if mode != "random":
        return writes if mode in ("everything", "bytes") else []
    return list(_torn(writes, chance))


def _torn(writes, chance: random.Random) -> Iterator[tuple[int, bytes] | None]:
    for write in writes:
        fate = chance.choice(("kept", "lost", "cut", "zeros"))
        if write is None:
            if fate != "lost":
                yield None
        elif fate == "kept":
            yield write
        elif fate == "cut":
            yield write[0], write[1][: chance.randrange(len(write[1]) + 1)]
        elif fate == "zeros":
            yield write[0], bytes(len(write[1]))


def states(log: list[Event], at_random: int, seed: int, since: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a cut may leave after each event of the log, from the `since`-th on, with the event's number: the corner
    cases, and some at random; one state where nothing is unflushed.
    """
    disk, chance = Disk(), random.Random(seed)
    for number, event in enumerate(log, start=1):
        disk.live(event)
        if number < since or event[0] in ("folder", "file"):  # it has no name yet
            continue
        modes = (*MODES, *["random"] * at_random) if disk.unflushed else MODES[:1]
        for mode in modes:
            yield number, disk.after_a_cut(mode, chance)


def without(log: list[Event], site: str) -> tuple[list[Event], int]:
    """The log as it would be if a flush had been forgotten, and the number of the first event after it."""
    flushes = [event[0] == "flush" and event[2] == site for event in log]
    return [event for event, forgotten in zip(log, flushes, strict=True) if not forgotten], flushes.index(True) + 1


def sites(log: list[Event]) -> list[str]:
    """The flushes in a log that had something to flush."""
    return sorted({event[2] for event in log if event[0] == "flush"} - {""})


def put(state: dict[str, Any], folder: Path) -> None:
    """Make a state real."""
    folder.mkdir()
    for name, content in state.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            put(content, folder / name)
