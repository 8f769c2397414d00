"""CIFAR-10 and CIFAR-100 from Parquet shards or from the published binary version; never from pickles."""

import functools
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vergence import register
from vergence.config import CIFAR10, CIFAR100
from vergence.data.cache import Decoded, Writer, cached, default_cache_dir, paths_digest
from vergence.data.images import Images
from vergence.data.published import Archive, as_published, members, places, unpacked
from vergence.data.splits import TUNING_SHARE, Split, held_out
from vergence.errors import InputError
from vergence.files.names import shown

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One of the two data sets as it is published.

    Attributes:
        archive: the binary version.
        binaries: the names of its files, with how many pictures each holds, by part: "train" and "test".
        column: the Parquet shards' column of pictures.
        labels: their columns of labels, in the order of the bytes that begin a row of the binary version; the last is
            the one that is read.
        classes: the classes' names, in the order of those labels.
    """

    archive: Archive
    binaries: Mapping[str, Mapping[str, int]]
    column: str
    labels: tuple[str, ...]
    classes: tuple[str, ...]


TEN = Version(
    archive=Archive(
        name="cifar-10-binary.tar.gz",
        inner="cifar-10-batches-bin",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        checksum="c32a1d4ab5d03f1284b67883e8d87530",
        limit=170_052_171,
    ),
    binaries={
        "train": {f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
        "test": {"test_batch.bin": 10_000},
    },
    column="image",
    labels=("label",),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

COARSE = {
    "aquatic mammals": "beaver, dolphin, otter, seal, whale",
    "fish": "aquarium fish, flatfish, ray, shark, trout",
    "flowers": "orchid, poppy, rose, sunflower, tulip",
    "food containers": "bottle, bowl, can, cup, plate",
    "fruit and vegetables": "apple, mushroom, orange, pear, sweet pepper",
    "household electrical devices": "clock, keyboard, lamp, telephone, television",
    "household furniture": "bed, chair, couch, table, wardrobe",
    "insects": "bee, beetle, butterfly, caterpillar, cockroach",
    "large carnivores": "bear, leopard, lion, tiger, wolf",
    "large man-made outdoor things": "bridge, castle, house, road, skyscraper",
    "large natural outdoor scenes": "cloud, forest, mountain, plain, sea",
    "large omnivores and herbivores": "camel, cattle, chimpanzee, elephant, kangaroo",
    "medium-sized mammals": "fox, porcupine, possum, raccoon, skunk",
    "non-insect invertebrates": "crab, lobster, snail, spider, worm",
    "people": "baby, boy, girl, man, woman",
    "reptiles": "crocodile, dinosaur, lizard, snake, turtle",
    "small mammals": "hamster, mouse, rabbit, shrew, squirrel",
    "trees": "maple tree, oak tree, palm tree, pine tree, willow tree",
    "vehicles 1": "bicycle, bus, motorcycle, pickup truck, train",
    "vehicles 2": "lawn mower, rocket, streetcar, tank, tractor",
}
"""CIFAR-100's 20 coarse classes with the five fine ones of each, both numbered in the order of their names."""

_COARSE_OF = {fine: number for number, names in enumerate(COARSE.values()) for fine in names.split(", ")}

HUNDRED = Version(
    archive=Archive(
        name="cifar-100-binary.tar.gz",
        inner="cifar-100-binary",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        checksum="03b5dce01913d631647c71ecec9e9cb8",
        limit=200_000_000,
    ),
    binaries={"train": {"train.bin": 50_000}, "test": {"test.bin": 10_000}},
    column="img",
    labels=("coarse_label", "fine_label"),
    classes=tuple(sorted(_COARSE_OF)),
)


@register.data(CIFAR10)
def load_cifar10(
    config: CIFAR10, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> Images:
    """A split; "pretrain" and "train" are the same 50,000 pictures, or those of them that are not held out.

    Args:
        config: the size of views, and whether "test" is the published one, or held out of the 50,000: then the
            published one is not even looked for.
        split: which pictures.
        data_dir: where Parquet shards, binary files or the archive may lie; the archive is downloaded if none is there.
        cache_dir: where decoded pictures and the archive are kept.
    """
    return _load(TEN, config, split, places(config, data_dir), cache_dir or default_cache_dir())


@register.data(CIFAR100)
def load_cifar100(
    config: CIFAR100, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> Images:
    """A split as `load_cifar10` has it, with fine or coarse labels; the pictures that are held out are the same."""
    images = _load(HUNDRED, config, split, places(config, data_dir), cache_dir or default_cache_dir())
    if config.labels == "fine":
        return images
    assert images.labels is not None
    coarse = torch.tensor([_COARSE_OF[name] for name in images.classes])
    return replace(images, labels=coarse[images.labels], classes=tuple(COARSE))


def _load(
    version: Version, config: CIFAR10 | CIFAR100, split: Split, folders: tuple[Path, ...], cache_dir: Path
) -> Images:
    def decoded_part(part: str) -> Decoded:
        return _decoded(version, part, f"{config.kind}-{part}", folders, cache_dir)

    if config.scored_on == "held-out":
        return _apart(version, decoded_part("train"), config.size, split)
    decoded = decoded_part("test" if split == "test" else "train")
    images = decoded.images(version.classes, config.size)
    splits: tuple[Split, ...] = ("test",) if split == "test" else ("pretrain", "train")
    return as_published(images, decoded, dict.fromkeys(splits, len(images)))


def _apart(version: Version, decoded: Decoded, size: int, split: Split) -> Images:
    """Those that are held out, or the others.

    Told by their pixels, not by their place, for shards and binaries may have them in different orders.
    """
    images = decoded.images(version.classes, size)
    assert images.labels is not None
    keys = [memoryview(picture) for picture in decoded.pixels.flatten(1).numpy()]
    held = torch.tensor(held_out(keys, images.labels.tolist(), TUNING_SHARE))
    kept, scored = int((~held).sum()), int(held.sum())
    images = as_published(images, decoded, {"pretrain": kept, "train": kept, "test": scored})
    images = replace(images, facts={**images.facts, "test": "a tenth of each class of the published training pictures"})
    chosen = images.take((held if split == "test" else ~held).nonzero().squeeze(1))
    return replace(chosen, split_name="held-out training") if split == "test" else chosen


def _decoded(version: Version, part: str, name: str, folders: tuple[Path, ...], cache_dir: Path) -> Decoded:
    import PIL

    for folder in folders:
        if shards := _complete(sorted(folder.glob(f"{part}-*.parquet"))):
            identity = {"parquet": paths_digest(shards), "pillow": PIL.__version__}
            return cached(cache_dir, name, identity, 32, 32, functools.partial(_from_parquet, version, shards))
    wanted = tuple(version.binaries[part])
    if files := unpacked(version.archive, wanted, folders):
        identity = {"binary": paths_digest(files.values())}
        return cached(cache_dir, name, identity, 32, 32, functools.partial(_from_binary, version, part, files))

    def build(writer: Writer) -> dict[str, Any]:
        files = members(version.archive, wanted, folders, cache_dir, writer.scratch)
        return _from_binary(version, part, files, writer)

    return cached(cache_dir, name, {"archive": version.archive.checksum}, 32, 32, build)


def _complete(shards: list[Path]) -> list[Path]:
    """Return the shards if they are as many as their names say: half of the data must not pass for all of it."""
    for shard in shards:
        if not shard.is_file():  # opening a pipe would wait for ever
            raise InputError(f"{shown(shard)} is no file; remove it, or put a Parquet file there")
        said = re.search(r"-of-(\d+)\.parquet$", shard.name)
        if said and int(said[1]) != len(shards):
            raise InputError(f"{shown(shard.parent)}: {len(shards)} of {int(said[1])} shards like {shown(shard.name)}")
    return shards


def _from_binary(version: Version, part: str, files: dict[str, Path], writer: Writer) -> dict[str, Any]:
    """Rows of one or two labels and 32 x 32 values of red, then green, then blue."""
    labels = len(version.labels)
    for name, path in files.items():
        size, expected = path.stat().st_size, version.binaries[part][name] * (labels + _PIXELS)
        if size != expected:
            raise InputError(f"{shown(path)}: {size} bytes instead of {expected}; get it again")
        rows = np.fromfile(path, np.uint8).reshape(-1, labels + _PIXELS)
        label = _labels(version, rows[:, labels - 1].astype(np.int64), path)
        writer.add(rows[:, labels:].reshape(-1, 3, 32, 32), label)
    return {}


def _from_parquet(version: Version, shards: Iterable[Path], writer: Writer) -> dict[str, Any]:
    """Rows of a picture's file and a label.

    In one thread: pictures this small spend more time on handing over the interpreter's lock than on decoding.
    """
    import pyarrow
    import pyarrow.parquet

    from vergence.data.picture import strict_pillow

    column, label = version.column, version.labels[-1]
    for shard in shards:
        row = 0
        try:
            with strict_pillow(), pyarrow.parquet.ParquetFile(shard) as file:
                for batch in file.iter_batches(1000, columns=[column, label]):
                    pictures = batch.column(column).field("bytes").to_pylist()
                    labels = np.asarray(batch.column(label).to_pylist(), np.int64)
                    pixels = np.stack([_picture(data, shard, row + i) for i, data in enumerate(pictures)])
                    writer.add(pixels, _labels(version, labels, shard))
                    row += len(pixels)
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            expected = f"columns {column} (struct of bytes, path) and {label} (0-{len(version.classes) - 1})"
            raise InputError(
                f"{shown(shard)}: expected {expected}: {type(error).__name__}: {shown(str(error))}"
            ) from error
    return {}


def _picture(data: bytes | None, shard: Path, row: int) -> UInt8[np.ndarray, "3 32 32"]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data or b""), formats=("WEBP", "PNG")) as image:
            if image.size != (32, 32):
                raise ValueError(f"{image.width} x {image.height} pixels instead of 32 x 32")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise InputError(f"{shown(shard)}: row {row}: {shown(str(error))}; get it again") from error


def _labels(version: Version, labels: np.ndarray, path: Path) -> np.ndarray:
    last = len(version.classes) - 1
    if labels.size and not (labels.min() >= 0 and labels.max() <= last):
        raise InputError(f"{shown(path)}: labels from {labels.min()} to {labels.max()} instead of 0 to {last}")
    return labels
