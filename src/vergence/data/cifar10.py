"""CIFAR-10 from Parquet shards or from the published binary version; never from pickles."""

import functools
import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vergence import register
from vergence.config import CIFAR10
from vergence.data.cache import Decoded, Writer, cached, default_cache_dir, paths_digest
from vergence.data.images import Images
from vergence.data.published import Archive, as_published, members, places, unpacked
from vergence.data.splits import TUNING_SHARE, Split, held_out
from vergence.errors import InputError
from vergence.files.names import shown

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = Archive(
    name="cifar-10-binary.tar.gz",
    inner="cifar-10-batches-bin",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    checksum="c32a1d4ab5d03f1284b67883e8d87530",
    limit=170_052_171,
)
BINARIES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
ROWS = 10_000  # in each binary file
_ROW_BYTES = 1 + 3 * 32 * 32


@register.data(CIFAR10)
def load(config: CIFAR10, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Images:
    """A split; "pretrain" and "train" are the same 50,000 pictures, or those of them that are not held out.

    Args:
        config: the size of views, and whether "test" is the published one, or held out of the 50,000: then the
            published one is not even looked for.
        split: which pictures.
        data_dir: where Parquet shards, binary files or the archive may lie; the archive is downloaded if none is there.
        cache_dir: where decoded pictures and the archive are kept.
    """
    folders, cache_dir = places(config, data_dir), cache_dir or default_cache_dir()
    if config.scored_on == "held-out":
        return _apart(_decoded("train", folders, cache_dir), config.size, split)
    decoded = _decoded("test" if split == "test" else "train", folders, cache_dir)
    images = decoded.images(CLASSES, config.size)
    splits: tuple[Split, ...] = ("test",) if split == "test" else ("pretrain", "train")
    return as_published(images, decoded, dict.fromkeys(splits, len(images)))


def _apart(decoded: Decoded, size: int, split: Split) -> Images:
    """Those that are held out, or the others.

    Told by their pixels, not by their place, for shards and binaries may have them in different orders.
    """
    images = decoded.images(CLASSES, size)
    assert images.labels is not None
    keys = [memoryview(picture) for picture in decoded.pixels.flatten(1).numpy()]
    held = torch.tensor(held_out(keys, images.labels.tolist(), TUNING_SHARE))
    kept, scored = int((~held).sum()), int(held.sum())
    images = as_published(images, decoded, {"pretrain": kept, "train": kept, "test": scored})
    images = replace(images, facts={**images.facts, "test": "a tenth of each class of the published training pictures"})
    chosen = images.take((held if split == "test" else ~held).nonzero().squeeze(1))
    return replace(chosen, split_name="held-out training") if split == "test" else chosen


def _decoded(part: str, folders: tuple[Path, ...], cache_dir: Path) -> Decoded:
    import PIL

    name = f"cifar10-{part}"
    for folder in folders:
        if shards := _complete(sorted(folder.glob(f"{part}-*.parquet"))):
            identity = {"parquet": paths_digest(shards), "pillow": PIL.__version__}
            return cached(cache_dir, name, identity, 32, 32, functools.partial(_from_parquet, shards))
    wanted = BINARIES[part]
    if files := unpacked(ARCHIVE, wanted, folders):
        identity = {"binary": paths_digest(files.values())}
        return cached(cache_dir, name, identity, 32, 32, functools.partial(_from_binary, files))

    def build(writer: Writer) -> dict[str, Any]:
        return _from_binary(members(ARCHIVE, wanted, folders, cache_dir, writer.scratch), writer)

    return cached(cache_dir, name, {"archive": ARCHIVE.checksum}, 32, 32, build)


def _complete(shards: list[Path]) -> list[Path]:
    """Return the shards if they are as many as their names say: half of the data must not pass for all of it."""
    for shard in shards:
        if not shard.is_file():  # opening a pipe would wait for ever
            raise InputError(f"{shown(shard)} is no file; remove it, or put a Parquet file there")
        said = re.search(r"-of-(\d+)\.parquet$", shard.name)
        if said and int(said[1]) != len(shards):
            raise InputError(f"{shown(shard.parent)}: {len(shards)} of {int(said[1])} shards like {shown(shard.name)}")
    return shards


def _from_binary(files: dict[str, Path], writer: Writer) -> dict[str, Any]:
    """Rows of one label and 32 x 32 values of red, then green, then blue."""
    for path in files.values():
        if path.stat().st_size != ROWS * _ROW_BYTES:
            raise InputError(f"{shown(path)}: {path.stat().st_size} bytes instead of {ROWS * _ROW_BYTES}; get it again")
        rows = np.fromfile(path, np.uint8).reshape(-1, _ROW_BYTES)
        writer.add(rows[:, 1:].reshape(-1, 3, 32, 32), _labels(rows[:, 0].astype(np.int64), path))
    return {}


def _from_parquet(shards: Iterable[Path], writer: Writer) -> dict[str, Any]:
    """Rows of a picture's file and a label.

    In one thread: pictures this small spend more time on handing over the interpreter's lock than on decoding.
    """
    import pyarrow
    import pyarrow.parquet

    from vergence.data.picture import strict_pillow

    for shard in shards:
        row = 0
        try:
            with strict_pillow(), pyarrow.parquet.ParquetFile(shard) as file:
                for batch in file.iter_batches(1000, columns=["image", "label"]):
                    pictures = batch.column("image").field("bytes").to_pylist()
                    labels = np.asarray(batch.column("label").to_pylist(), np.int64)
                    pixels = np.stack([_picture(data, shard, row + i) for i, data in enumerate(pictures)])
                    writer.add(pixels, _labels(labels, shard))
                    row += len(pixels)
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            expected = "columns image (struct of bytes, path) and label (0-9)"
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


def _labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if labels.size and not (labels.min() >= 0 and labels.max() < len(CLASSES)):
        raise InputError(f"{shown(path)}: labels from {labels.min()} to {labels.max()} instead of 0 to 9")
    return labels
