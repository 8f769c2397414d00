"""One picture file to 8-bit red, green and blue: a written rule for every mode, an error for the rest."""

import ctypes
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, TiffImagePlugin

from vergence.data.content import WHOLE_RANGE, BadPicture, Content
from vergence.errors import InputError, MachineError, of_the_machine
from vergence.files.names import shown
from vergence.machine.filters import own_filters

RULES = 3
"""Part of the cache's key: raise it when a picture is decoded to other values, or other notes are taken of it."""

PLAIN = ("JPEG", "PNG", "WEBP")
"""The formats in which whole pictures are kept."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "JPEG2000", "BMP", "GIF", "TIFF", "PPM")
"""No EPS, for which Pillow would start Ghostscript; no TGA, which nothing in its first bytes tells from noise."""

MOST_PIXELS = 64 << 20
"""What is decoded of a picture, at most: more is refused by its header. A JPEG is decoded at a fraction."""

MOST_SOURCE = 16 * MOST_PIXELS
"""What a file may hold, at most: however few of its pixels are kept, all have to be gone through."""

WORKERS = min(16, os.cpu_count() or 1)
"""Threads that decode. Each holds a whole picture; more would cost memory before they gain time."""

MOST_PAGES = 1000
"""Pages of a TIFF are counted up to here."""

LEAST_SIDE = 8
_EIGHT_BITS = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"))
_UPRIGHT = {  # the Exif orientation, and what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_BITS, _BANDS, _KIND_OF_PAGE = 258, 277, 254  # tags of TIFF


@dataclass(frozen=True)
class Picture:
    """A decoded picture, and what is worth knowing of its file.

    Attributes:
        image: upright, red, green and blue; a JPEG that is much larger than was asked for, at a fraction of its size.
        side: the file's shorter side in pixels.
        plain: whether whoever decodes the file sees these very pixels: one upright page of 8 bits, nothing transparent.
        pages: pages or frames in the file, of which this is the first; small copies and masks are none.
        dropped: bands of the file that are neither colour nor transparency, and so in no pixel.
        highest: the greatest value, where the file holds one gray band of 16 bits.
    """

    image: Image.Image
    side: int
    plain: bool
    pages: int
    dropped: int
    highest: int | None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Decode inside this: a decompression-bomb warning is an error, other warnings of Pillow and libtiff are dropped.

    Warning filters belong to the whole process, so that threads must be started and ended inside.

    Raises:
        InputError: some other code has told Pillow to pass truncated pictures, with gray where data is missing.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES was set to True by other code; set it back to False")
    Image.init()  # all plugins, before any thread asks for one
    with own_filters():
        warnings.filterwarnings("ignore", module=r"PIL\.|vergence\.data\.picture")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _silent_libtiff():
            yield


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep libtiff from writing to stderr, past Python: what is wrong with a picture is in the exception too."""
    # through Pillow's own module, whose libtiff need not be the system's; out of reach where it is linked statically
    set_handler = getattr(ctypes.CDLL(Image.core.__file__), "TIFFSetErrorHandler", None)
    if set_handler is None:
        yield
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    before = set_handler(None)
    try:
        yield
    finally:
        set_handler(before)


def decode(content: Content, where: str, size: int, top: int = WHOLE_RANGE) -> Picture:
    """Return a picture whose shorter side is meant to be `size` pixels; of gray values of 16 bits, `top` becomes 255.

    Raises:
        BadPicture: it cannot be read, is damaged, too large or too small, of no known mode, or changed since the scan.
        MachineError: it is not its fault: the disk fails, or memory or open files are used up; names `where`.
    """
    try:
        with content() as file:
            with open_image(file) as image:
                side, kind = min(image.size), image.format
                _check_size(image, size)
                image.load()
                upright, dropped = _upright(image), _dropped(image)
                pages = getattr(image, "n_frames", 1) if kind in ("PNG", "WEBP", "AVIF") else 1
            if kind in ("TIFF", "GIF"):
                pages = _pages(file)
            as_it_lies = kind in PLAIN and upright is image and pages == 1
            plain = as_it_lies and image.mode in ("L", "RGB") and not image.has_transparency_data
            return Picture(eight_bits(upright, top), side, plain, pages, dropped, _highest(upright))
    except BadPicture:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged data
        if of_the_machine(error) or isinstance(error, MemoryError):  # and the picture may be whole
            why = str(error) or "out of memory"
            raise MachineError(f"cannot read {where}: {why}; try again") from error
        raise BadPicture(shown(f"{type(error).__name__}: {error}")[:200]) from error


def of_values(values: np.ndarray, top: int = WHOLE_RANGE) -> Picture:
    """Return a picture of values [h w] or [h w c]: one, three or four bands of 8 bits, or one of 16.

    Raises:
        BadPicture: there is no rule for such values, or a side is too small.
    """
    if min(values.shape[:2]) < LEAST_SIDE:
        raise BadPicture(f"{values.shape[1]} x {values.shape[0]} pixels, a side of less than {LEAST_SIDE}")
    if values.dtype == np.uint16 and values.ndim == 3:
        raise BadPicture(f"{values.shape[2]} bands of 16 bits; 1 is read")
    image = Image.fromarray(np.ascontiguousarray(values))
    return Picture(eight_bits(image, top), min(image.size), plain=False, pages=1, dropped=0, highest=_highest(image))


def open_image(file: BufferedIOBase) -> ImageFile.ImageFile:
    """The picture in a file, told by its content.

    Not `Image.open`: its limit is on the pixels of the file, ours on those that are decoded.
    """
    file.seek(0)
    prefix = file.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or not (accepted := accept(prefix)):
            continue
        if isinstance(accepted, str):  # known, but left out of this Pillow
            raise BadPicture(accepted)
        file.seek(0)
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # what plugins say to what is not theirs
            return factory(cast("IO[bytes]", file), "")
    raise BadPicture(_bands(file, prefix) or "not a picture of a known format")


def _bands(file: BufferedIOBase, prefix: bytes) -> str | None:
    """Return what a TIFF is that is refused for its bands; None where these are not the reason."""
    try:
        header = prefix[: 16 if prefix[2:3] == b"+" or prefix[3:4] == b"+" else 8]
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(cast("IO[bytes]", file))
        bands, bits = int(tags.get(_BANDS, 1)), sorted({int(value) for value in tags.get(_BITS, (1,))})
    except Exception:  # decoders raise nearly anything on damaged data
        return None
    if (bits == [8] and bands <= 4) or (bits == [16] and bands in (1, 3, 4)):
        return None
    what = f"a TIFF of {bands} bands of {' and '.join(map(str, bits[:3]))} bits"
    return f"{what}; 1 to 4 bands of 8 bits, and 1, 3 or 4 of 16, are read"


def _check_size(image: ImageFile.ImageFile, size: int) -> None:
    """Refuse what is too large or too small, and set a JPEG to a fraction that leaves twice what is needed."""
    sides = f"{image.width} x {image.height} pixels"
    if min(image.size) < LEAST_SIDE:
        raise BadPicture(f"{sides}, a side of less than {LEAST_SIDE}")
    whole = image.width * image.height
    image.draft(None, (2 * size, 2 * size))
    # all coefficients of a progressive JPEG are held at once, at whatever fraction it is decoded
    decoded = whole if image.info.get("progressive") else image.width * image.height
    if decoded > MOST_PIXELS:
        how = ", progressive," if decoded > image.width * image.height else ""
        most = f"more than {MOST_PIXELS >> 20} Mi ({MOST_PIXELS:,})"
        raise BadPicture(f"{sides}{how} are {decoded:,} to decode, {most}; make it smaller")
    if whole > MOST_SOURCE:
        raise BadPicture(f"{sides} are {whole:,}, more than {MOST_SOURCE >> 20} Mi ({MOST_SOURCE:,}); make it smaller")


def _dropped(image: ImageFile.ImageFile) -> int:
    tags = getattr(image, "tag_v2", {})
    return max(0, int(tags.get(_BANDS, 1)) - len(image.getbands())) if image.format == "TIFF" else 0


def _pages(file: BufferedIOBase) -> int:
    """Pages of a TIFF, frames of a GIF. Opened once more: who looks for the next page loses the one before."""
    count = 1
    with suppress(Exception), open_image(file) as image:  # what is behind a good first page may be anything
        if image.format == "GIF":
            return getattr(image, "n_frames", 1)
        for page in range(1, MOST_PAGES):
            image.seek(page)
            count += not int(getattr(image, "tag_v2", {}).get(_KIND_OF_PAGE, 0)) & 5  # 1: a small copy, 4: a mask
    return count


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged Exif data, beside pixels that are not
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def eight_bits(image: Image.Image, top: int = WHOLE_RANGE) -> Image.Image:
    """Mode RGB from any mode a file can have; see the table in `docs/data.md`.

    Raises:
        BadPicture: no rule for this mode, or values that are not finite.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(np.asarray(image), top)).convert("RGB")
    if image.mode not in _EIGHT_BITS:
        raise BadPicture(f"no rule for mode {image.mode}")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _highest(image: Image.Image) -> int | None:
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    values = np.asarray(image)
    return int(values.max()) if values.min() >= 0 and values.max() <= WHOLE_RANGE else None


def _scaled(values: np.ndarray, top: int = WHOLE_RANGE) -> np.ndarray:
    """Gray values of more than 8 bits, scaled and rounded: Pillow's own conversion would clip them at 255."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise BadPicture("values that are not finite")
    if values.dtype.kind in "iu" and low >= 0 and high <= WHOLE_RANGE:
        low, high = 0.0, float(top)
    span = high - low or 1.0
    return np.round((values.astype(np.float64) - low) * (255 / span)).astype(np.uint8)


def square(image: Image.Image, size: int) -> UInt8[np.ndarray, "3 h w"]:
    """The middle square, resized by an antialiased bicubic filter: as if the shorter side were resized, then cropped.

    Cropping comes first, because a picture of 8 x 8,000,000 pixels would else become a large one.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2  # whole pixels: a half would blur
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
