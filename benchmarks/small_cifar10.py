"""CIFAR-10 in so many MiB, for a machine that it must be carried to.

    python benchmarks/small_cifar10.py SOURCE FOLDER [--mib 45]

SOURCE has the Parquet shards. FOLDER gets all test pictures and the first training pictures, as many as fit, each as
its file was; the order of the published training pictures says nothing of their class.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from PIL import Image

from vergence.errors import InputError

OVERHEAD = 24
"""Bytes that a row has besides its picture, at most; checked by a test."""


def write_shard(folder: Path, part: str, pictures: Sequence[bytes], labels: Sequence[int]) -> None:
    """Write CIFAR-10's train or test pictures as one Parquet file."""
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    image = pyarrow.array([{"bytes": picture, "path": None} for picture in pictures], kind)
    rows = pyarrow.table({"image": image, "label": pyarrow.array(labels, pyarrow.int64())})
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(rows, folder / f"{part}-00000-of-00001.parquet", compression="none")


def write_noise(folder: Path) -> None:
    """Write pictures for a dry run, as CIFAR-10 is published."""

    for part, count in (("train", 120), ("test", 40)):
        pixels = torch.randint(256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        pictures = [io.BytesIO() for _ in range(count)]
        for file, picture in zip(pictures, pixels, strict=True):
            Image.fromarray(picture.numpy()).save(file, "PNG")
        write_shard(folder, part, [file.getvalue() for file in pictures], [i % 10 for i in range(count)])


def pack(source: Path, folder: Path, mib: float) -> None:
    """Write all test pictures of CIFAR-10, and the first training pictures, as many as so many MiB hold.

    Raises:
        InputError: there are no Parquet shards, or the test pictures alone are more.
    """

    left = mib * 2**20 - 2**16
    for part in ("test", "train"):
        shards = sorted(source.glob(f"{part}-*.parquet"))
        if not shards:
            raise InputError(f"{source}: no {part}-*.parquet, as CIFAR-10 is published in shards")
        rows = [row for shard in shards for row in pyarrow.parquet.read_table(shard).to_pylist()]
        kept = []
        for row in rows:
            left -= len(row["image"]["bytes"]) + 24
            if left < 0:
                break
            kept.append(row)
        if part == "test" and len(kept) < len(rows):
            raise InputError(f"--mib {mib:g}: the test pictures alone are more")
        write_shard(folder, part, [row["image"]["bytes"] for row in kept], [row["label"] for row in kept])
        print(f"{part}: {len(kept):,} of {len(rows):,} pictures")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=float, default=45.0, help="of both files together, at most [%(default)s]")
    a = parser.parse_args(arguments)
    try:
        pack(a.source, a.folder, a.mib)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
