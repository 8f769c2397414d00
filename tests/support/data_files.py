"""Picture files of every allowed format, and archives: whole, and then damaged in ways that depend on a seed alone."""

import contextlib
import gzip
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageEnhance

from vergence.data.alike import thumbnails
from vergence.data.cifar import Version

_RANDOM = np.random.default_rng(0)
PIXELS = _RANDOM.integers(0, 256, (16, 12, 3), np.uint8)


def photo(seed: int, width: int = 128, height: int = 96) -> Image.Image:
    """A picture with large and small shapes, unlike that of another seed."""
    chance = np.random.default_rng(seed)
    parts = [
        np.asarray(Image.fromarray(chance.integers(0, 256, (n, n, 3), np.uint8)).resize((width, height), 3), float)
        for n in (3, 7, 16)
    ]
    return Image.fromarray(np.clip(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2], 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of this format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(image: Image.Image) -> torch.Tensor:
    """An image as a tensor [3 h w]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


COPIES = {
    "encoded": lambda image: Image.open(io.BytesIO(saved(image, "JPEG", quality=50))).convert("RGB"),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "twice": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "wider": lambda image: image.resize((image.width * 2, image.height), Image.Resampling.BICUBIC),
}
"""Ways to copy a picture that leave it what it was."""


def small_of(images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """The images' thumbnails, and their shorter sides."""
    found = [thumbnails(pixels_of(image)[None]) for image in images]
    return torch.cat(found), torch.tensor([min(image.size) for image in images])


def pictures() -> dict[str, bytes]:
    """Small whole pictures, of each allowed format and each decoder within it."""
    image = Image.fromarray(PIXELS)
    gray = PIXELS[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90, expand=False)]}
    tiffs = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return {
        "jpeg": saved(image, "JPEG", exif=exif),
        "jpeg, progressive": saved(image, "JPEG", progressive=True),
        "jpeg, cmyk": saved(image.convert("CMYK"), "JPEG"),
        "png": saved(image, "PNG"),
        "png, palette": saved(image.quantize(8), "PNG", transparency=0),
        "png, 16 bits": saved(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
        "png, frames": saved(image, "PNG", **frames),
        "webp": saved(image, "WEBP"),
        "webp, lossless": saved(image, "WEBP", lossless=True),
        "webp, frames": saved(image, "WEBP", **frames),
        "avif": saved(image, "AVIF"),
        "jp2": saved(image, "JPEG2000"),
        "mpo": saved(image, "MPO", **frames),
        "bmp": saved(image, "BMP"),
        "bmp, palette": saved(image.quantize(8), "BMP"),
        "gif": saved(image, "GIF"),
        "gif, frames": saved(image, "GIF", **frames),
        **{f"tiff, {name}": saved(image, "TIFF", compression=name) for name in tiffs},
        "tiff, group4": saved(image.convert("1"), "TIFF", compression="group4"),
        "tiff, float": saved(image.convert("F"), "TIFF"),
        "tiff, lab": saved(Image.new("LAB", (12, 16), (128, 128, 128)), "TIFF"),
        "ppm": saved(image, "PPM"),
        "ppm, words": b"P2\n12 16\n255\n" + b" ".join(b"%d" % value for value in gray.ravel()),
        "ppm, float": saved(image.convert("F"), "PPM"),
    }


_ENDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\1\0", b"\1\0\0\0", b"9" * 12, b"-1")


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four changes, more of them near the beginning, behind what tells the format."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        near = chance.random() < 0.6
        place = min(4 + int(chance.expovariate(1 / 60)), len(result) - 1) if near else chance.randrange(len(result))
        match chance.randrange(7):
            case 0:
                result[place] ^= 1 << chance.randrange(8)
            case 1:
                result[place] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                del result[place : place + chance.randint(1, 16)]
            case 3:
                result[place:place] = chance.randbytes(chance.randint(1, 16))
            case 4:
                del result[place + 1 :]
            case 5:
                other = chance.randrange(len(result))
                result[place : place + 8] = result[other : other + 8]
            case _:
                end = chance.choice(_ENDS)
                result[place : place + len(end)] = end
        if not result:
            result = bytearray(b"\0")
    return bytes(result)


def member(
    name: str, data: bytes = b"data", kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str
) -> tuple[tarfile.TarInfo, bytes]:
    """A header as it is told, and what follows it."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax
    info.size = len(data) if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0
    return info, data


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], style: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return file.getvalue()


def packed(members: Iterable[tuple[tarfile.TarInfo, bytes]], style: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar.gz."""
    return gzip.compress(tar(members, style), 1, mtime=0)


def zipped(names: Iterable[str], data: bytes = b"data") -> bytes:
    """A zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def published(version: Version, **changes: Any) -> Version:
    """One of the CIFARs with another address or checksum of its archive."""
    return replace(version, archive=replace(version.archive, **changes))


def surroundings(root: Path, but: Path) -> dict[str, tuple[int, int, int]]:
    """What lies below a folder, apart from one part of it: kind, size and time of change by path."""
    found = {}
    for above, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(above, name) != but]
        for path in (Path(above, name) for name in (*folders, *files)):
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root reads everything: take another user's rights, or the test would pass or fail by accident."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def webp(pixels: np.ndarray) -> bytes:
    """A picture as the published files hold it."""
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "WEBP", lossless=True)
    return file.getvalue()


def write_parquet(
    path: Path, pictures: list[bytes | None], labels: list[int | None], columns: tuple[str, str] = ("image", "label")
) -> None:
    """A file of pictures and classes as CIFAR-10 is published, or with CIFAR-100's names of the columns."""
    image = pa.array(
        [{"bytes": p, "path": None} for p in pictures], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    pq.write_table(pa.table(dict(zip(columns, (image, pa.array(labels, pa.int64())), strict=True))), path)
