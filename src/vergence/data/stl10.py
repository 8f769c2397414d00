"""STL-10 from its published binary files."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vergence import register
from vergence.config import STL10
from vergence.data.cache import UNLABELLED, Decoded, Writer, cached, default_cache_dir, paths_digest
from vergence.data.images import Images
from vergence.data.published import Archive, as_published, members, places, unpacked
from vergence.data.splits import Split
from vergence.errors import InputError
from vergence.files.names import shown

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
ARCHIVE = Archive(
    name="stl10_binary.tar.gz",
    inner="stl10_binary",
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",  # its only address: the checksum is the protection
    checksum="91f7769df0f17e558f3565bffb0c7dfb",
    limit=3 << 30,
)
_FILES = {
    "test": ("test_X.bin", "test_y.bin"),
    "train": ("train_X.bin", "train_y.bin", "fold_indices.txt"),
    "train+unlabeled": ("train_X.bin", "train_y.bin", "fold_indices.txt", "unlabeled_X.bin"),
}
_SIDE = 96
_BYTES = 3 * _SIDE * _SIDE


@register.data(STL10)
def load(config: STL10, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Images:
    """A split. "train" is one published fold if `config.fold` says so; "pretrain" is what `config.pretrain` says.

    Args:
        config: the size of views, the fold, and what views are cut from.
        split: which pictures.
        data_dir: where the binary files or the archive may lie; the archive is downloaded if none is there.
        cache_dir: where decoded pictures and the archive are kept.
    """
    folders, cache_dir = places(config, data_dir), cache_dir or default_cache_dir()
    if split == "pretrain" and config.pretrain != "train":
        decoded = _decoded("train+unlabeled", folders, cache_dir)
        labelled = decoded.notes["train"]
        images = decoded.images(CLASSES, config.size, slice(labelled if config.pretrain == "unlabeled" else 0, None))
        train = labelled if config.fold is None else len(decoded.notes["folds"][config.fold])
        return as_published(images, decoded, {"pretrain": len(images), "train": train})
    decoded = _decoded("test" if split == "test" else "train", folders, cache_dir)
    images = decoded.images(CLASSES, config.size)
    if split == "train" and config.fold is not None:
        fold = torch.tensor(decoded.notes["folds"][config.fold])
        return as_published(images, decoded, {"train": len(fold)}).take(fold)
    return as_published(images, decoded, {split: len(images)})


def _decoded(part: str, folders: tuple[Path, ...], cache_dir: Path) -> Decoded:
    name, wanted = f"stl10-{part}", _FILES[part]
    if files := unpacked(ARCHIVE, wanted, folders):
        identity = {"binary": paths_digest(files.values())}
        return cached(cache_dir, name, identity, _SIDE, _SIDE, functools.partial(_from_binary, files))

    def build(writer: Writer) -> dict[str, Any]:
        return _from_binary(members(ARCHIVE, wanted, folders, cache_dir, writer.scratch), writer)

    return cached(cache_dir, name, {"archive": ARCHIVE.checksum}, _SIDE, _SIDE, build)


def _from_binary(files: dict[str, Path], writer: Writer) -> dict[str, Any]:
    """Pictures by file name, labelled ones first; notes how many those are, and the folds of the training pictures."""
    part = "test" if "test_X.bin" in files else "train"
    path = files[f"{part}_y.bin"]
    labels = np.fromfile(path, np.uint8).astype(np.int64) - 1  # 1..10 in the file
    if labels.size and not (labels.min() >= 0 and labels.max() < len(CLASSES)):
        raise InputError(f"{shown(path)}: labels from {labels.min() + 1} to {labels.max() + 1} instead of 1 to 10")
    _pictures(files[f"{part}_X.bin"], writer, labels)
    if "unlabeled_X.bin" in files:
        _pictures(files["unlabeled_X.bin"], writer, None)
    if part == "test":
        return {}
    return {"train": len(labels), "folds": _folds(files["fold_indices.txt"], len(labels))}


def _pictures(path: Path, writer: Writer, labels: np.ndarray | None) -> None:
    """Rows of red, green and blue, each column after column: the trap of this format."""
    count, rest = divmod(path.stat().st_size, _BYTES)
    if rest or not count:
        raise InputError(f"{shown(path)}: {path.stat().st_size} bytes are not whole pictures of {_BYTES}; get it again")
    if labels is None:
        labels = np.full(count, UNLABELLED, np.int64)
    if len(labels) != count:
        raise InputError(f"{shown(path)}: {count} pictures, but {len(labels)} labels; get it again")
    columns = np.memmap(path, np.uint8, "r", shape=(count, 3, _SIDE, _SIDE))
    for start in range(0, count, 1000):
        block = slice(start, start + 1000)
        writer.add(columns[block].swapaxes(2, 3), labels[block])


def _folds(path: Path, count: int) -> list[list[int]]:
    """Ten lines of indices into the training pictures, counted from zero."""
    try:
        folds = [[int(word) for word in line.split()] for line in path.read_text("ascii").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{shown(path)}: expected lines of whole numbers: {shown(str(error))}") from error
    if len(folds) != 10 or not all(fold and min(fold) >= 0 and max(fold) < count for fold in folds):
        raise InputError(f"{shown(path)}: expected ten lines of indices from 0 to {count - 1}")
    return folds
