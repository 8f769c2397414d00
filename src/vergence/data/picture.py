"""One picture file to 8-bit red, green and blue: a written rule for every mode, an error for the rest."""

import ctypes
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedIOBase

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from vergence.data.bands import beyond_pillow, chosen, values_of, values_of_tiff
from vergence.data.content import READING, WHOLE_RANGE, BadPicture, Content, Reading
from vergence.data.formats import dropped_bands, open_image, pages_of, without_text
from vergence.errors import InputError, MachineError, of_the_machine
from vergence.files.names import shown
from vergence.machine.filters import own_filters

RULES = 3
"""Part of the cache's key: raise it when a picture is decoded to other values, or other notes are taken of it."""

PLAIN = ("JPEG", "PNG", "WEBP")
"""The formats in which whole pictures are kept."""

WORKERS = min(16, os.cpu_count() or 1)
"""Threads that decode. Each holds a whole picture; more would cost memory before they gain time."""

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


@dataclass(frozen=True)
class Picture:
    """A decoded picture, and what is worth knowing of its file.

    Attributes:
        image: upright, red, green and blue; a JPEG that is much larger than was asked for, at a fraction of its size.
        side: the file's shorter side in pixels.
        plain: whether whoever decodes the file sees these very pixels: one upright page of 8 bits, nothing transparent.
        pages: pages or frames in the file, of which this is the first; small copies and masks are none. Of a page that
            is a picture of its own, 1.
        dropped: bands of the file that are neither colour nor transparency, and so in no pixel.
        highest: the greatest value, where what is used of the file has one gray band of 16 bits, or chosen ones.
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
        with _silent_libtiff(), _silent_tifffile():
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


@contextmanager
def _silent_tifffile() -> Iterator[None]:
    """Keep tifffile's log quiet: what is wrong with a picture is in the exception too."""
    log, dropped = logging.getLogger("tifffile"), lambda record: False
    log.addFilter(dropped)
    try:
        yield
    finally:
        log.removeFilter(dropped)


def decode(content: Content, where: str, size: int, reading: Reading = READING, page: int = 0) -> Picture:
    """Return a picture whose shorter side is meant to be `size` pixels.

    Args:
        content: opens its file.
        where: its name for people; its suffix tells a TGA, which nothing in the file does.
        size: a JPEG is decoded at a fraction that leaves twice this.
        reading: which bands, and how values of more than 8 bits are scaled.
        page: the page or frame, from 1 on, that is a picture of its own; 0: the first stands for the file.

    Raises:
        BadPicture: it cannot be read, is damaged, too large or too small, of no known mode, or changed since the scan.
        MachineError: it is not its fault: the disk fails, or memory or open files are used up; names `where`.
    """
    try:
        with content() as file:
            try:
                return _decoded(file, where, size, reading, page)
            except ValueError as error:  # of Pillow's limits on texts, which are no pixels
                if "MAX_TEXT" not in str(error):
                    raise
            return replace(_decoded(without_text(file), where, size, reading, page), plain=False)
    except BadPicture:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged data
        if of_the_machine(error) or isinstance(error, MemoryError):  # and the picture may be whole
            why = str(error) or "out of memory"
            raise MachineError(f"cannot read {where}: {why}; try again") from error
        raise BadPicture(shown(f"{type(error).__name__}: {error}")[:200]) from error


def read(content: Content | np.ndarray, where: str, size: int, reading: Reading = READING, page: int = 0) -> Picture:
    """Return a picture of a file as `decode` does, or of values as `of_values` does; they say which arguments."""
    if isinstance(content, np.ndarray):
        return of_values(content, reading)
    return decode(content, where, size, reading, page)


def _decoded(file: BufferedIOBase, where: str, size: int, reading: Reading, page: int) -> Picture:
    if reading.bands and beyond_pillow(file):
        pages = 1 if page else len(pages_of(file))
        return replace(of_values(values_of_tiff(file, page or 1, reading), reading), pages=pages)
    with open_image(file, where) as image:
        if page:
            image.seek(page - 1)
        side, kind = min(image.size), image.format
        _check_size(image, size, reading)
        image.load()
        upright, dropped = _upright(image), dropped_bands(image)
        pages = getattr(image, "n_frames", 1) if kind in ("PNG", "WEBP", "AVIF", "HEIF") else 1
    if kind in ("TIFF", "GIF") and not page:
        pages = len(pages_of(file))
    pages = 1 if page else pages
    if reading.bands:
        return replace(of_values(values_of(upright), reading), side=side, pages=pages)
    as_it_lies = kind in PLAIN and upright is image and pages == 1 and not page
    plain = as_it_lies and image.mode in ("L", "RGB") and not image.has_transparency_data
    highest = _highest(np.asarray(upright)) if _more_than_eight_bits(upright) else None
    return Picture(eight_bits(upright, reading), side, plain, pages, dropped, highest)


def of_values(values: np.ndarray, reading: Reading = READING) -> Picture:
    """Return a picture of values [h w] or [h w c]: one, three or four bands of 8 bits, or one of 16; any if chosen.

    Raises:
        BadPicture: there is no rule for such values, a side is too small, or there are not the bands that are chosen.
    """
    height, width = values.shape[:2]
    reading.check_size(width, height, 0)  # it is decoded already
    if reading.bands:
        values = chosen(values, reading.bands)
    elif values.dtype == np.uint16 and values.ndim == 3:
        raise BadPicture(f"{values.shape[2]} bands of 16 bits; 1 is read; choose by --data.channels, as in 3,2,1")
    if values.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(values))
        return Picture(eight_bits(image), min(image.size), plain=False, pages=1, dropped=0, highest=None)
    image = Image.fromarray(_scaled(values, reading)).convert("RGB")
    return Picture(image, min(image.size), plain=False, pages=1, dropped=0, highest=_highest(values))


def _check_size(image: ImageFile.ImageFile, size: int, reading: Reading) -> None:
    """Refuse what is too large or too small, and set a JPEG to a fraction that leaves twice what is needed."""
    width, height = image.size
    if image.format in ("JPEG", "MPO"):  # a HEIC would give its small copy
        image.draft(None, (2 * size, 2 * size))
    # all coefficients of a progressive JPEG are held at once, at whatever fraction it is decoded
    progressive = image.info.get("progressive") and image.size != (width, height)
    decoded = width * height if progressive else image.width * image.height
    reading.check_size(width, height, decoded, ", progressive," if progressive else "")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged Exif data, beside pixels that are not
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _more_than_eight_bits(image: Image.Image) -> bool:
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def eight_bits(image: Image.Image, reading: Reading = READING) -> Image.Image:
    """Return a picture of mode RGB from one of any mode a file can have; see the table in `docs/data.md`.

    Raises:
        BadPicture: no rule for this mode, or values that are not finite.
    """
    if _more_than_eight_bits(image):
        return Image.fromarray(_scaled(np.asarray(image), reading)).convert("RGB")
    if image.mode not in _EIGHT_BITS:
        raise BadPicture(f"no rule for mode {image.mode}")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _highest(values: np.ndarray) -> int | None:
    """Return the greatest of whole numbers that 16 bits can hold; None of others."""
    whole = values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= WHOLE_RANGE
    return int(values.max()) if whole else None


def _scaled(values: np.ndarray, reading: Reading = READING) -> np.ndarray:
    """Return values of more than 8 bits scaled and rounded: Pillow's own conversion would clip them at 255."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise BadPicture("values that are not finite")
    if reading.span is not None:
        low, high = reading.span
        values = values.clip(low, high)
    elif values.dtype.kind in "iu" and low >= 0 and high <= WHOLE_RANGE:
        low, high = 0.0, float(reading.top)
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
