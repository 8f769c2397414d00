"""What a look at many pictures found, kept so that the next start need not look at each file again.

An index stands beside the store of the pictures. It holds while the folders and files that it was made from have their
times: a file that is added, removed, renamed or replaced changes its folder's; one that is overwritten in place, no.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakValueDictionary

import torch

from vergence.config import Folder
from vergence.data.formats import extras
from vergence.data.images import Images
from vergence.data.store import Store
from vergence.data.tally import Read, Task
from vergence.data.whole import Whole, store_folder
from vergence.errors import MachineError
from vergence.files import durable

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""Part of an index's key: raise it when other things are found in the same pictures."""

LEAST = 20_000
"""Fewer pictures are looked at one by one at every start."""

_in_use: WeakValueDictionary[Path, Store] = WeakValueDictionary()
"""Stores whose pictures are in use: that of a run's three splits is one, and mapped once."""

_SETTLED = 2_000_000_000
"""Nanoseconds that a folder must have been left alone: a disk's times may be no finer, and a later file unseen."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder or of several places, sorted.

    Attributes:
        where: their name for people.
        images: gives some of them, which stand in the order of the parts; without names and classes.
        names: of all of them.
        counts: how many are in each part: train, unlabelled, test.
        classes: their names, in the order of the labels.
        shared: every split is all pictures.
        scored: there was something to score on, whether or not it can be used.
        facts: as `docs/data.md` lists them.
    """

    where: str
    images: Callable[[slice], Images]
    names: Sequence[str]
    counts: Mapping[str, int]
    classes: tuple[str, ...]
    shared: bool
    scored: bool
    facts: Mapping[str, Any]


def opened(config: Folder, roots: Sequence[Path], cache_dir: Path) -> Pictures | None:
    """Return the pictures that were found at an earlier start; None where all must be looked at."""
    import pyarrow as pa

    try:
        folder = store_folder(config, roots, cache_dir)
        whole = pa.memory_map(str(_path(folder, config))).read_buffer()
        if hashlib.sha256(whole[_DIGEST:]).hexdigest().encode() != whole[:_DIGEST].to_pybytes():
            return None
        batch = pa.ipc.open_file(whole[_DIGEST:]).get_batch(0)
    except (OSError, ValueError, pa.ArrowException):  # ValueError: a path with a zero byte
        return None
    told = json.loads(batch.schema.metadata[b"told"])
    if any(_changed(path) != changed for path, changed in told["times"]):
        return None
    store = _in_use.get(folder)
    if store is None or not _is_as_told(store, told):
        store = Store(folder)
        if not _is_as_told(store, told):
            return None
        _in_use[folder] = store
    rows, labels = (batch.column(name).to_numpy().copy() for name in ("row", "label"))
    images = Whole(store, rows, torch.from_numpy(labels), cache_dir)
    pictures = told["pictures"]
    return Pictures(images=images, names=Names(batch.column("name")), **pictures | {"classes": (*pictures["classes"],)})


def clock() -> int | None:
    """Return the time that a new file gets now, in nanoseconds; None where none can be written."""
    with suppress(OSError), tempfile.TemporaryFile() as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return None


def keep(pictures: Pictures, read: Read, task: Task, started: int | None) -> None:
    """Keep what was found, where there are many pictures, and nothing was changed for a while before the look.

    Args:
        pictures: that were found.
        read: how.
        task: where, and with which settings.
        started: when the look began, by `clock`.
    """
    import pyarrow as pa

    files = task.source.files
    many = len(pictures.names) >= max(LEAST, 4 * len(files))
    if started is None or not (many and files and isinstance(read.images, Whole)):
        return
    times = [(os.fspath(path), _changed(path)) for path in files]
    if any(changed is None or changed > started - _SETTLED for _, changed in times):
        return
    store = read.images.store
    plain = {name: value for name, value in vars(pictures).items() if name not in ("images", "names")}
    told = {"pictures": plain, "times": times, "parts": store.parts, "mark": store.mark(store.parts)}
    columns = {
        "row": pa.array(read.images.rows),
        "label": pa.array(read.images.labels.numpy()),
        "name": pa.array([os.fsencode(name) for name in pictures.names], pa.large_binary()),
    }
    batch = pa.RecordBatch.from_pydict(columns, metadata={b"told": json.dumps(told).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue().to_pybytes()
    with suppress(MachineError):  # a full disk, or a cache that only others write: the next start looks again
        durable.write_file(_path(store.folder, task.config), hashlib.sha256(content).hexdigest().encode() + content)


_DIGEST = 64
"""Bytes of the hexadecimal digest that an index begins with."""


def _path(folder: Path, config: Folder) -> Path:
    settings = repr((FORMAT, extras(), replace(config, root="", more=())))
    return folder / f"index-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.arrow"


def _is_as_told(store: Store, told: Mapping[str, Any]) -> bool:
    with suppress(OSError):  # a part that is gone
        return store.mark(told["parts"]) == told["mark"]
    return False


def _changed(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


class Names(Sequence[str]):
    """Paths of pictures, which lie in a file until they are asked for."""

    def __init__(self, column: "pa.LargeBinaryArray"):
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, chosen: int) -> str: ...

    @overload
    def __getitem__(self, chosen: slice) -> "Names": ...

    def __getitem__(self, chosen: int | slice) -> "str | Names":
        taken = self._column[chosen]
        return Names(taken) if isinstance(chosen, slice) else os.fsdecode(taken.as_py())

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, self._column.to_pylist())
