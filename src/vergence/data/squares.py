"""The middle square of each picture of a folder, reduced once: what runs of before whole pictures are trained on."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vergence.data import tally
from vergence.data.arrange import Pairs
from vergence.data.cache import Writer, cached, files_digest
from vergence.data.content import WHOLE_RANGE, BadPicture, Reading, file_of
from vergence.data.formats import extras, reader_of
from vergence.data.picture import WORKERS, decode, square, strict_pillow
from vergence.data.scan import Bad, Found
from vergence.data.tally import About, Read, Task
from vergence.errors import InputError
from vergence.files.names import shown

_BLOCK = 256


class _Square(NamedTuple):
    pixels: UInt8[np.ndarray, "3 s s"]
    about: About
    found: Found
    label: int


def read_squares(task: Task) -> Read:
    """Return the middle squares, decoded into the cache where they are not there."""
    import PIL

    from vergence.data.picture import RULES

    config, scanned, arranged = task.config, task.scanned, task.arranged
    if len(task.roots) > 1 or not task.roots[0].is_dir():
        raise InputError(f"{task.source.where}: --data.crops square is for one folder of pictures; leave it at whole")
    root = task.roots[0]
    labels = repr([label for _, label in arranged.pairs])
    identity = {
        "root": str(root.resolve()),
        "files": files_digest((file.path, file.size, file.changed) for file, _ in arranged.pairs),
        "arranged": [len(arranged.train), len(arranged.unlabelled), hashlib.sha256(labels.encode()).hexdigest()],
        "bad": [f"{bad.name}: {bad.reason}" for bad in scanned.bad],
        "size": config.size,
        "bad_images": config.bad_images if task.strict else "left out",  # never what a run takes for judged
        "rules": RULES,
        "pillow": PIL.__version__,
        **tally.reading_key(config),
    }
    if readers := sorted({reader_of(file.path) for file, _ in arranged.pairs} - {""}):
        identity["readers"] = readers
    if config.bad_images == "skip" and (here := extras()):  # what is left out for want of one is looked at again
        identity["extras"] = here
    size = config.size
    decoded = cached(task.cache_dir, "folder", identity, size, size, lambda writer: _decode(task, writer))
    return Read(lambda part: decoded.images((), size, part), decoded.notes, decoded.folder)


def _decode(task: Task, writer: Writer) -> dict[str, Any]:
    """Decode every picture into the cache; return what is known of them."""
    notes = _decode_all(task, writer, task.reading)
    highest = notes["scaled"]["highest"]
    if highest is not None and (top := task.top_of(highest)) < WHOLE_RANGE:
        writer.restart()  # the range is known only when all have been seen, and so they are decoded once more
        notes = _decode_all(task, writer, replace(task.reading, top=top))
    return notes


def _decode_all(task: Task, writer: Writer, reading: Reading) -> dict[str, Any]:
    bad = list(task.scanned.bad)
    about: list[About] = []
    names: dict[str, list[str]] = {part: [] for part in task.parts}
    trained: set[int] = set()
    with strict_pillow(), ThreadPoolExecutor(WORKERS) as pool:
        for part, pairs in task.parts.items():
            for good in _blocks(task, pairs, pool, bad, reading):
                writer.add(np.stack([one.pixels for one in good]), np.asarray([one.label for one in good], np.int64))
                about += [one.about for one in good]
                names[part] += [one.found.path for one in good]
                trained |= {one.label for one in good} if part == "train" else set()
    tally.judge(task, bad, trained)
    return tally.notes_of(tally.columns(about), names, bad, reading.top)


def _blocks(
    task: Task, pairs: Pairs, pool: ThreadPoolExecutor, bad: list[Bad], reading: Reading
) -> Iterator[list[_Square]]:
    """Give some hundred pictures at a time; those that cannot be decoded go to `bad`."""

    def attempt(pair: tuple[Found, int]) -> _Square | Bad:
        found, label = pair
        try:
            root = task.roots[0]
            picture = decode(file_of(root, found), shown(root / found.path), task.config.size, reading, found.page)
        except BadPicture as error:
            return Bad(shown(found.path), str(error))
        pixels = square(picture.image, task.config.size)
        return _Square(pixels, tally.look_at(picture, pixels), found, label)

    for start in range(0, len(pairs), _BLOCK):
        results = [*pool.map(attempt, pairs[start : start + _BLOCK])]
        bad.extend(result for result in results if isinstance(result, Bad))
        if good := [result for result in results if isinstance(result, _Square)]:
            yield good
