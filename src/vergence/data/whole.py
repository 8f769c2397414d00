"""Whole pictures, with their own aspect ratio: read once into a store, decoded again when their crops are cut."""

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from vergence.augment.ragged import Ragged, middle_square
from vergence.config import Folder
from vergence.data import picture
from vergence.data.cache import UNLABELLED, Writer, alone, cached
from vergence.data.content import WHOLE_RANGE, BadPicture, Content, Reading
from vergence.data.formats import reader_of
from vergence.data.images import Images
from vergence.data.scan import Bad, Found
from vergence.data.store import Kept, Rows, Store, name_of
from vergence.data.tally import Read, Task, judge, look_at, notes_of, reading_key
from vergence.errors import MachineError
from vergence.files import durable
from vergence.files.names import shown
from vergence.machine.progress import counted

A = TypeVar("A")
B = TypeVar("B")

RULES = 1
"""Part of a store's key: raise it when a picture is kept as other pixels, or other notes are taken of it."""

QUALITY = 95
"""The quality of the JPEG in which a reduced picture is kept; its colours have the resolution of its brightness."""

LARGEST_IN_ONE_SHAPE = 160 * 160
"""Pictures of one shape are kept decoded if they have no more pixels than this each."""

HELD = 1 / 4
"""The share of the free memory that decoded pictures may take."""

_MOST_METADATA = 1 << 16
_BLOCK = 256
_WAITING = 64
"""Pictures that are decoded before those in front of them have been written."""


def store_folder(config: Folder, roots: Sequence[Path], cache_dir: Path) -> Path:
    """Return the folder of the store that holds the pictures of these places as these settings keep them."""
    import PIL

    rules = [*(str(root.resolve()) for root in roots), config.kept, picture.RULES, RULES, PIL.__version__]
    rules += [changed] if (changed := reading_key(config)) else []
    return cache_dir / f"pictures-{hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]}"


def read_whole(task: Task) -> Read:
    """Return whole pictures; those that the folder's store does not have are read into it first."""
    store = Store(store_folder(task.config, task.roots, task.cache_dir))
    every = [found for found, _ in task.arranged.pairs]
    names = [name_of(found, reader_of(found.path)) for found in every]
    reasons = _read_missing(store, task, dict(zip(names, every, strict=True)), task.reading)
    good = [place for place, name in enumerate(names) if name not in reasons]
    highest = store.about([store.rows[names[place]] for place in good]).highest
    if (top := task.top_of(int(highest.max(initial=-1)))) < WHOLE_RANGE:
        # known only when all have been seen: those of 16 bits are read again
        again = {name_of(every[good[i]], f"top {top}"): good[i] for i in np.flatnonzero(highest >= 0).tolist()}
        wanted = {name: every[place] for name, place in again.items()}
        _read_missing(store, task, wanted, replace(task.reading, top=top))
        for name, place in again.items():
            names[place] = name
    bad = list(task.scanned.bad)
    bad += [Bad(shown(found.path), reasons[name]) for name, found in zip(names, every, strict=True) if name in reasons]
    labels = np.asarray([label for _, label in task.arranged.pairs], np.int64)
    edges = np.cumsum([len(pairs) for pairs in task.parts.values()])
    parts = np.split(np.asarray(good, np.int64), np.searchsorted(good, edges[:-1]))
    judge(task, bad, {*labels[parts[0]].tolist()})
    of_parts = {part: [every[place].path for place in places] for part, places in zip(task.parts, parts, strict=True)}
    rows = np.asarray([store.rows[names[place]] for place in good])
    notes = notes_of(store.about(rows), of_parts, bad, top)
    if bad:
        durable.write_json(store.folder / "bad.json", notes["bad"])
    return Read(Whole(store, rows, torch.from_numpy(labels[good]), task.cache_dir), notes, store.folder)


@dataclass(frozen=True)
class Whole:
    """Gives some of the good pictures of a store."""

    store: Store
    rows: Int64[np.ndarray, " n"]
    labels: Int64[Tensor, " n"]
    cache_dir: Path

    def __call__(self, part: slice) -> Images:
        pixels = self._pixels[part]
        labels = self.labels[part]
        side = pixels.shape[2] if isinstance(pixels, Tensor) and pixels.shape[2] == pixels.shape[3] else None
        digests = None if isinstance(pixels, Tensor) else self.store.digests(self.rows[part])
        return Images(pixels, None if (labels == UNLABELLED).any() else labels, (), side, digests=digests)

    @cached_property
    def _pixels(self) -> Ragged | UInt8[Tensor, "n 3 h w"]:
        return pixels_of(self.store, self.rows, self.cache_dir)


def _read_missing(store: Store, task: Task, wanted: Mapping[bytes, Found], reading: Reading) -> dict[bytes, str]:
    """Read the wanted pictures that the store does not have into it; return why the others could not be, by name."""
    if wanted.keys() <= store.rows.keys():
        return {}
    reasons: dict[bytes, str] = {}

    def attempt(item: tuple[bytes, Found, Content | np.ndarray]) -> tuple[bytes, Kept | str]:
        name, found, content = item
        try:
            where = f"{task.source.where}: {shown(found.path)}"
            seen = picture.read(content, where, task.config.kept, reading, found.page)
            return name, encode(seen, content, task.config.kept)
        except BadPicture as error:
            return name, str(error)

    def good(results: Iterable[tuple[bytes, Kept | str]]) -> Iterator[tuple[bytes, Kept]]:
        for name, result in results:
            if isinstance(result, Kept):
                yield name, result
            else:
                reasons[name] = result

    with alone(store.folder):
        durable.sweep(store.folder)
        store.refresh()  # another process may have read them
        order = {found.path: place for place, found in enumerate(task.scanned.found)}
        missing = {name: found for name, found in wanted.items() if name not in store.rows}
        missing = dict(sorted(missing.items(), key=lambda item: order[item[1].path]))
        contents = task.source.contents([*missing.values()])
        missed = counted(f"reading {task.source.where}", missing.items(), len(missing))
        items = ((name, found, next(contents)) for name, found in missed)
        with picture.strict_pillow(), ThreadPoolExecutor(picture.WORKERS) as pool:
            store.add(good(_in_turn(pool, attempt, items)))
    return reasons


def _in_turn(pool: ThreadPoolExecutor, function: Callable[[A], B], values: Iterable[A]) -> Iterator[B]:
    """Give results in order; unlike the pool's own `map`, with no more than some of them waiting."""
    waiting: deque[Future[B]] = deque()
    for value in values:
        waiting.append(pool.submit(function, value))
        if len(waiting) > _WAITING:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def encode(seen: picture.Picture, content: Content | np.ndarray, most: int) -> Kept:
    """Return a picture as a store keeps it, its shorter side reduced to `most` pixels where it is longer.

    What need not change is kept as the file has it, to the byte; what is not reduced keeps its pixels.
    """
    encoded = _encoded(seen, content, most)
    pixels = _pixels(encoded) if seen.side > most else _as_kept(seen)
    _, height, width = pixels.shape
    return Kept(encoded, height, width, look_at(seen, pixels))


def middle_of(seen: picture.Picture, content: Content | np.ndarray, most: int, size: int) -> UInt8[Tensor, "3 s s"]:
    """Return the middle square of a picture, resized to `size`: what evaluation sees of it, to the bit, from a store.

    Args:
        seen: the picture.
        content: what it was read from.
        most: the shorter side in pixels at which a store keeps it.
        size: side in pixels of the square.
    """

    def decode(_: int, factor: int) -> UInt8[Tensor, "3 h w"]:
        reduced = factor > 1 or seen.side > most
        return torch.from_numpy(_pixels(_encoded(seen, content, most), factor) if reduced else _as_kept(seen))

    width, height = _sides(seen.image, most) if seen.side > most else seen.image.size
    return middle_square(decode, 0, [height, width], size)


def _encoded(seen: picture.Picture, content: Content | np.ndarray, most: int) -> bytes:
    """Return the file in which a picture is kept."""
    image = seen.image
    if seen.side > most:
        return _jpeg(image.resize(_sides(image, most), Image.Resampling.BICUBIC))
    encoded = None
    if seen.plain and not isinstance(content, np.ndarray):
        encoded = _as_it_is(content, 3 * image.width * image.height)
    return _png(image) if encoded is None else encoded


def _as_kept(seen: picture.Picture) -> UInt8[np.ndarray, "3 h w"]:
    """Return the pixels of a picture that is not reduced, as decoding what is kept gives them."""
    return np.array(seen.image).transpose(2, 0, 1)


def _sides(image: Image.Image, most: int) -> tuple[int, int]:
    """Return width and height of a picture whose shorter side is reduced to `most`."""
    factor = most / min(image.size)
    width, height = (max(most, round(side * factor)) for side in image.size)
    return width, height


def _as_it_is(content: Content, pixels: int) -> bytes | None:
    """Return the bytes of a file; None where most of them are no pixels."""
    with content() as file:
        file.seek(0, os.SEEK_END)
        if file.tell() > pixels + _MOST_METADATA:
            return None
        file.seek(0)
        return file.read()


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _pixels(encoded: "bytes | memoryview", factor: int = 1) -> UInt8[np.ndarray, "3 h w"]:
    """Return the pixels of a kept picture; a JPEG reduced by a factor, another one not."""
    with picture.open_image(io.BytesIO(encoded)) as image:
        if factor > 1:
            image.draft("RGB", (-(-image.width // factor), -(-image.height // factor)))
        return np.array(image if image.mode == "RGB" else image.convert("RGB")).transpose(2, 0, 1)


def pixels_of(store: Store, rows: Rows, cache_dir: Path) -> Ragged | UInt8[Tensor, "n 3 h w"]:
    """Return the pictures of these rows, decoded when they are asked for.

    Small ones of one shape are decoded once and are a tensor: which it is depends on the pictures alone.

    Args:
        store: that has them.
        rows: which, and in which order.
        cache_dir: where decoded pictures are kept.
    """
    Image.init()  # all plugins, before any thread asks for one
    shapes = store.shapes(rows)
    if (shapes == shapes[0]).all() and shapes[0].prod() <= LARGEST_IN_ONE_SHAPE:
        return _in_one_shape(store, rows, cache_dir)
    held: dict[int, Tensor] | None = {} if 3 * int(shapes.prod(1).sum()) < HELD * _free_memory() else None

    def decode(index: int, factor: int) -> UInt8[Tensor, "3 h w"]:
        # one that is decoded at a fraction is never held, so that free memory does not change a bit
        pixels = held.get(index) if held is not None and factor == 1 else None
        if pixels is None:
            pixels = torch.from_numpy(_kept_pixels(store, int(rows[index]), factor))
            if held is not None and factor == 1:
                held[index] = pixels
        return pixels

    return Ragged(decode, torch.from_numpy(shapes), held=held is not None)


def _in_one_shape(store: Store, rows: Rows, cache_dir: Path) -> UInt8[Tensor, "n 3 h w"]:
    def build(writer: Writer) -> dict[str, object]:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                pixels = np.stack([*pool.map(lambda row: _kept_pixels(store, int(row)), block)])
                writer.add(pixels, np.full(len(block), UNLABELLED))
        return {}

    identity = {"digests": hashlib.sha256(store.digests(rows).tobytes()).hexdigest()}
    height, width = (int(side) for side in store.shapes(rows[:1])[0])
    return cached(cache_dir, "whole", identity, height, width, build).pixels


def _kept_pixels(store: Store, row: int, factor: int = 1) -> UInt8[np.ndarray, "3 h w"]:
    try:
        return _pixels(store.encoded(row), factor)
    except Exception as error:  # decoders raise nearly anything on damaged data
        damaged = f"{type(error).__name__}: {error}"
        raise MachineError(
            f"the cache {shown(store.folder)} is damaged ({shown(damaged)}); remove it, and start again"
        ) from error


def _free_memory() -> int:
    """Return the bytes that this machine can still give, as far as it says."""
    try:
        with open("/proc/meminfo") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
