"""One picture file to one square of 8-bit red, green and blue: a written rule for every mode, an error for the rest."""

import ctypes
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from vergence.data.scan import Found
from vergence.errors import InputError, MachineError, of_the_machine
from vergence.names import shown

RULES = 1
"""Part of the cache's key: raise it when a picture is decoded to other values than before."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no EPS: Pillow would start Ghostscript
MOST_PIXELS = 64 << 20
"""Larger pictures are refused by their header. Below Pillow's own limit, which only warns up to twice its value."""

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


class BadPicture(Exception):
    """Why a picture cannot be used."""


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Decode inside this: a decompression-bomb warning is an error, other warnings of Pillow and libtiff are dropped.

    Warning filters belong to the whole process, so that threads must be started and ended inside.

    Raises:
        InputError: some other code has told Pillow to pass truncated pictures, with gray where data is missing.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES was set to True by other code; set it back to False")
    with warnings.catch_warnings():
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


def decode(root: Path, found: Found, size: int) -> UInt8[np.ndarray, "3 h w"]:
    """The middle square of a picture, `size` pixels wide.

    Raises:
        BadPicture: it cannot be read, is damaged, too large or too small, of no known mode, or changed since the scan.
        MachineError: it is not its fault: the disk fails, or memory or open files are used up.
    """
    try:
        # a pipe that has taken the file's place must not make the open wait
        handle = os.open(root / found.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (found.size, found.changed):
                raise BadPicture("changed since the folder was scanned")
            with Image.open(file, formats=FORMATS) as image:
                _check_size(image)
                # a JPEG is decoded at a fraction of its size where that is still twice what is needed
                image.draft(None, (2 * size, 2 * size))
                image.load()
                upright = _upright(image)
    except BadPicture:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadPicture("not a picture of a known format") from error
    except Exception as error:  # decoders raise nearly anything on damaged data
        if of_the_machine(error) or isinstance(error, MemoryError):  # and the picture may be whole
            why = str(error) or "out of memory"
            raise MachineError(f"cannot read {shown(root / found.path)}: {why}; try again") from error
        raise BadPicture(shown(f"{type(error).__name__}: {error}")[:200]) from error
    return square(eight_bits(upright), size)


def _check_size(image: Image.Image) -> None:
    sides = f"{image.width} x {image.height} pixels"
    if image.width * image.height > MOST_PIXELS:
        raise BadPicture(f"{sides}, more than {MOST_PIXELS >> 20} Mi")
    if min(image.size) < LEAST_SIDE:
        raise BadPicture(f"{sides}, a side of less than {LEAST_SIDE}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged Exif data, beside pixels that are not
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def eight_bits(image: Image.Image) -> Image.Image:
    """Mode RGB from any mode a file can have; see the table in `docs/data.md`.

    Raises:
        BadPicture: no rule for this mode, or values that are not finite.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(np.asarray(image))).convert("RGB")
    if image.mode not in _EIGHT_BITS:
        raise BadPicture(f"no rule for mode {image.mode}")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Gray values of more than 8 bits, scaled and rounded: Pillow's own conversion would clip them at 255."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise BadPicture("values that are not finite")
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
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
