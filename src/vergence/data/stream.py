"""Every picture of a place or a data set once, in order, as evaluation sees it: read, shown, and not kept."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vergence.augment.ragged import Ragged, middle_square
from vergence.config import Folder
from vergence.data import picture
from vergence.data.cache import UNLABELLED, files_digest
from vergence.data.content import WHOLE_RANGE, BadPicture, Content
from vergence.data.images import Images
from vergence.data.scan import Bad, Found
from vergence.data.sources import source_of
from vergence.data.tally import Task
from vergence.data.whole import middle_of
from vergence.files.names import shown
from vergence.files.run_folder import places_of
from vergence.machine.ahead import done_ahead


class Seen(NamedTuple):
    """A picture as evaluation sees it.

    Attributes:
        pixels: red, green and blue; all of a stream have one shape.
        highest: the greatest value, where its file has one gray band of 16 bits; else -1.
    """

    pixels: UInt8[Tensor, "3 h w"]
    highest: int = -1


@dataclass(frozen=True)
class Stream:
    """Pictures in the order of their paths, or in that of the file that lists or holds them.

    Attributes:
        where: their name for people.
        paths: of all of them, with slashes; each is there once.
        labels: the name of each picture's class, empty where it has none.
        splits: "train", "test", "unlabelled", or "unused" for what belongs to no split.
        bad: what lies there and is no readable file.
        digest: of what was listed: other pictures, labels or splits have another.
        source: side in pixels at which `evaluation_view` takes the pixels; None: the middle square as it is.
        read: gives the pictures from an index on, in order, or why one cannot be used; its other arguments are the
            gray value of 16 bits that becomes 255, and how many pictures may be decoded ahead.
        top: gives that value for the greatest one of all pictures.
    """

    where: str
    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]
    bad: Sequence[Bad]
    digest: str
    source: int | None
    read: Callable[[int, int, int], Generator[Seen | Bad, None, None]]
    top: Callable[[int], int] = lambda highest: WHOLE_RANGE

    def __len__(self) -> int:
        return len(self.paths)


def stream_of_places(config: Folder, size: int, data_dir: Path | None) -> Stream:
    """Return the pictures of a folder or of several places. No cache is read or written.

    Args:
        config: where they are, and how they are read.
        size: side in pixels at which they are wanted.
        data_dir: where relative places start.
    """
    roots = places_of(config, data_dir)
    task = Task(config, roots, source_of(config, roots), Path(), strict=False)
    classes, found = task.arranged.classes, task.scanned.found
    sorted_into = {
        picture.path: (split, classes[label] if label != UNLABELLED else "")
        for split, pairs in task.parts.items()
        for picture, label in pairs
    }
    splits, labels = zip(*(sorted_into.get(file.path, ("unused", "")) for file in found), strict=True)

    def attempt(item: tuple[Found, Content | np.ndarray], top: int) -> Seen | Bad:
        file, content = item
        where = f"{task.source.where}: {shown(file.path)}"
        most = config.kept if config.crops == "whole" else config.size
        try:
            seen = picture.read(content, where, most, replace(task.reading, top=top), file.page)
            if config.crops == "whole":
                pixels = middle_of(seen, content, most, size)
            else:
                pixels = torch.from_numpy(picture.square(seen.image, most))
        except BadPicture as error:
            return Bad(shown(file.path), str(error))
        return Seen(pixels, -1 if seen.highest is None else seen.highest)

    def read(start: int, top: int, ahead: int) -> Generator[Seen | Bad, None, None]:
        wanted = found[start:]
        items = zip(wanted, task.source.contents(wanted), strict=True)
        with picture.strict_pillow():
            yield from done_ahead(lambda item: attempt(item, top), items, threads=picture.WORKERS, ahead=ahead)

    return Stream(
        where=task.source.where,
        paths=[file.path for file in found],
        labels=labels,
        splits=splits,
        bad=task.scanned.bad,
        digest=_digest(files_digest((file.path, file.size, file.changed) for file in found), splits, labels),
        source=size if config.crops == "whole" else config.size,
        read=read,
        top=task.top_of,
    )


def stream_of_splits(name: str, size: int, pretrain: Images, train: Images, test: Images) -> Stream:
    """Return the pictures of a data set's splits, each once.

    Those of "pretrain" that are not among "train" are unlabelled. A picture without a file is called by its split and
    its place there, as in `test/0042`.
    """
    parts = {"train": train, "unlabelled": pretrain.take(torch.tensor(_others(pretrain, train), dtype=torch.int64))}
    if test.labels is not None:  # else they are among the others
        parts["test"] = test
    entries: list[tuple[str, str, int]] = []
    for split, images in parts.items():
        width = len(str(len(images)))
        names = images.names or [f"{split}/{index:0{width}d}" for index in range(len(images))]
        entries += [(path, split, index) for index, path in enumerate(names)]
    entries.sort(key=lambda entry: os.fsencode(entry[0]))

    def label(split: str, index: int) -> str:
        images = parts[split]
        return "" if split == "unlabelled" or images.labels is None else images.classes[int(images.labels[index])]

    def show(entry: tuple[str, str, int]) -> Seen:
        _, split, index = entry
        pixels = parts[split].pixels
        if isinstance(pixels, Ragged):
            return Seen(middle_square(pixels.decode, int(pixels.indices[index]), pixels.shapes[index].tolist(), size))
        return Seen(pixels[index])

    def read(start: int, top: int, ahead: int) -> Generator[Seen | Bad, None, None]:
        return done_ahead(show, entries[start:], threads=picture.WORKERS, ahead=ahead)

    labels = [label(split, index) for _, split, index in entries]
    splits = [split for _, split, _ in entries]
    return Stream(
        where=name,
        paths=[path for path, _, _ in entries],
        labels=labels,
        splits=splits,
        bad=(),
        digest=_digest("".join(images.digest() for images in parts.values()), splits, labels),
        source=size if isinstance(train.pixels, Ragged) else train.size,
        read=read,
    )


def _others(pretrain: Images, train: Images) -> list[int]:
    """Return the indices of the pictures of one set that are not among another's, each of which stands for one."""
    among = Counter(train.keys)
    others = []
    for index, key in enumerate(pretrain.keys):
        if among[key]:
            among[key] -= 1
        else:
            others.append(index)
    return others


def _digest(pictures: str, splits: Sequence[str], labels: Sequence[str]) -> str:
    hasher = hashlib.sha256(pictures.encode())
    for split, label in zip(splits, labels, strict=True):
        hasher.update(f"{split}\0{label}\0".encode())
    return hasher.hexdigest()[:16]
