"""The formats of picture files: which there are, what opens each, and how many pages a file has."""

import importlib.metadata
import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from io import BufferedIOBase
from typing import IO, Any, cast

from PIL import Image, ImageFile, TgaImagePlugin, TiffImagePlugin

from vergence.data.content import BadPicture
from vergence.data.scan import GET_HEIF, HEIF, TARGA, suffix_of
from vergence.errors import of_the_machine

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "JPEG2000", "BMP", "GIF", "TIFF", "PPM")
"""What is told by its first bytes. No EPS, for which Pillow would start Ghostscript."""

MOST_PAGES = 1000
"""Pages of a file are counted up to here."""

_NOT_THEIRS = (SyntaxError, IndexError, TypeError, struct.error)
"""What plugins of Pillow say to what is not theirs."""

_BRANDS_OF_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_BITS, _BANDS, _KIND_OF_PAGE = 258, 277, 254  # tags of TIFF
_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of PNG


def open_image(file: BufferedIOBase, name: str = "") -> ImageFile.ImageFile:
    """Return the picture in a file, told by its content; a TGA, which has no such mark, by the suffix of its name too.

    Not `Image.open`: its limit is on the pixels of the file, ours on those that are decoded.

    Raises:
        BadPicture: it is of no format that is read.
    """
    file.seek(0)
    prefix = file.read(18)
    for format in FORMATS:
        factory, accept = Image.OPEN.get(format, (None, None))
        if factory is None or accept is None or not (accepted := accept(prefix[:16])):
            continue
        if isinstance(accepted, str):  # known, but left out of this Pillow
            raise BadPicture(accepted)
        if (image := _opened(factory, file)) is not None:
            return image
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _BRANDS_OF_HEIF:
        if find_spec("pillow_heif") is None:
            raise BadPicture(GET_HEIF)
        from pillow_heif import HeifImageFile  # pyright: ignore[reportMissingImports]

        if (image := _opened(HeifImageFile, file)) is not None:
            return image
    if suffix_of(name) in TARGA and _is_targa(prefix) and (image := _opened(TgaImagePlugin.TgaImageFile, file)):
        return image
    if prefix.startswith(_JPEG_XL):
        raise BadPicture("JPEG XL, which is not read; convert it to PNG or JPEG")
    raise BadPicture(_refusal_of_tiff(file) or "not a picture of a known format")


def _opened(factory: Any, file: BufferedIOBase) -> ImageFile.ImageFile | None:
    file.seek(0)
    with suppress(*_NOT_THEIRS):
        return factory(cast("IO[bytes]", file), "")
    return None


def _is_targa(header: bytes) -> bool:
    """Return whether 18 bytes can be the header of a TGA: its fields, one by one, and that they agree."""
    if len(header) < 18:
        return False
    with_palette, kind = header[1], header[2]
    width, height, depth, flags = struct.unpack_from("<HHBB", header, 12)
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & ~8, ())  # 8: packed
    return with_palette == (kind & ~8 == 1) and depth in depths and flags < 64 and width > 0 < height


def reader_of(path: str) -> str:
    """Return the package, with its version, that reads files of a suffix in Pillow's place; empty where Pillow does."""
    return f"pillow-heif {importlib.metadata.version('pillow-heif')}" if suffix_of(path) in HEIF else ""


def without_text(file: BufferedIOBase) -> io.BytesIO:
    """Return a PNG without its texts and its colour profile, which Pillow reads up to a limit and we never do."""
    file.seek(0)
    kept = io.BytesIO()
    kept.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _TEXT:
            file.seek(length + 4, io.SEEK_CUR)
        else:
            kept.write(head + file.read(length + 4))
    return kept


def _directories(file: BufferedIOBase) -> Iterator[TiffImagePlugin.ImageFileDirectory_v2]:
    """Yield the tags of each page of a TIFF, whether or not its pixels can be read; they hold until the next."""
    file.seek(0)
    prefix = file.read(16)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix[: 16 if b"+" in prefix[2:4] else 8])
    starts: set[int] = set()
    while tags.next and tags.next not in starts and len(starts) < MOST_PAGES:
        starts.add(tags.next)
        file.seek(tags.next)
        tags.load(cast("IO[bytes]", file))
        yield tags


def bands_of_tiff(file: BufferedIOBase) -> tuple[int, list[int]] | None:
    """Return how many bands the first page of a TIFF has, and of how many bits; None for any other file."""
    try:
        tags = next(_directories(file))
        return int(tags.get(_BANDS, 1)), sorted({int(value) for value in tags.get(_BITS, (1,))})
    except Exception:  # decoders raise nearly anything on damaged data
        return None


def _refusal_of_tiff(file: BufferedIOBase) -> str | None:
    """Return what a TIFF is that is refused for its bands; None where these are not the reason."""
    if (described := bands_of_tiff(file)) is None:
        return None
    bands, bits = described
    if (bits == [8] and bands <= 4) or (bits == [16] and bands in (1, 3, 4)):
        return None
    what = f"a TIFF of {bands} bands of {' and '.join(map(str, bits[:3]))} bits"
    read = "1 to 4 bands of 8 bits, and 1, 3 or 4 of 16, are read"
    return f"{what}; {read}; choose three of others, or one, by their numbers, as in --data.channels 3,2,1"


def dropped_bands(image: ImageFile.ImageFile) -> int:
    """Return how many bands of a TIFF are in none of the picture's."""
    tags = getattr(image, "tag_v2", {})
    return max(0, int(tags.get(_BANDS, 1)) - len(image.getbands())) if image.format == "TIFF" else 0


def pages_of(file: BufferedIOBase) -> list[int]:
    """Return the numbers, from 1 on, of the pages or frames of a file; small copies and masks in a TIFF are none."""
    pages = [1]
    try:
        if bands_of_tiff(file) is None:
            with open_image(file) as image:
                several = image.format in ("GIF", "PNG", "WEBP", "AVIF", "HEIF")
                return [*range(1, getattr(image, "n_frames", 1) + 1)] if several else pages
        for page, tags in enumerate(_directories(file), 1):
            if page > 1 and not int(tags.get(_KIND_OF_PAGE, 0)) & 5:  # 1: a small copy, 4: a mask
                pages.append(page)
    except Exception as error:  # what is behind a good first page may be anything
        if of_the_machine(error):
            raise
    return pages


def extras() -> list[str]:
    """Return the packages that are here and read what Pillow does not."""
    return [name for name in ("pillow_heif", "tifffile") if find_spec(name)]
