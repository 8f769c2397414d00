"""The bands of a picture that are chosen by their numbers, whatever its file calls them."""

from contextlib import suppress
from importlib.util import find_spec
from io import BufferedIOBase

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from vergence.data.content import BadPicture, Reading
from vergence.data.formats import bands_of_tiff, open_image

GET_TIFF = "read with tifffile: pip install 'vergence[tiff]'"


def chosen(values: Shaped[np.ndarray, "h w *c"], bands: tuple[int, ...]) -> Shaped[np.ndarray, "h w *b"]:
    """Return the bands of these numbers, counted from 1; a single one is [h w].

    Raises:
        BadPicture: there are not so many.
    """
    values = values if values.ndim == 3 else values[..., None]
    if max(bands) > (count := values.shape[2]):
        raise BadPicture(f"{count} band{'s' * (count > 1)}, and --data.channels asks for band {max(bands)}")
    picked = values[..., [band - 1 for band in bands]]
    return np.ascontiguousarray(picked if len(bands) > 1 else picked[..., 0])


def values_of(image: Image.Image) -> Shaped[np.ndarray, "h w *c"]:
    """Return the values of all bands of a picture as its file has them; of a palette, those of its colours."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return np.asarray(image.convert("L") if image.mode == "1" else image)


def beyond_pillow(file: BufferedIOBase) -> bool:
    """Return whether a file is a TIFF of which Pillow reads not all bands, or not all of their bits."""
    if (described := bands_of_tiff(file)) is None or described[0] == 1:
        return False
    with suppress(BadPicture), open_image(file) as image:
        return described[1] != [8] or described[0] != len(image.getbands())
    return True


def values_of_tiff(file: BufferedIOBase, page: int, reading: Reading) -> Shaped[np.ndarray, "h w c"]:
    """Return the values of all bands of a page of a TIFF, counted from 1.

    Raises:
        BadPicture: it is too large or too small, no picture of bands, or tifffile is not there to read it.
    """
    bands, bits = bands_of_tiff(file) or (0, [])
    if find_spec("tifffile") is None:
        raise BadPicture(f"a TIFF of {bands} bands of {' and '.join(map(str, bits[:3]))} bits, {GET_TIFF}")
    import tifffile  # pyright: ignore[reportMissingImports]

    file.seek(0)
    with tifffile.TiffFile(file, name="picture.tif") as tiff:  # else it wants the name of the file itself
        found = tiff.pages[page - 1]
        tile = found.tilewidth * found.tilelength * found.bitspersample // 8 if found.is_tiled else 0
        taken = -(-max(found.nbytes, tile) // 4)  # memory, as in pixels of four bytes
        reading.check_size(found.imagewidth, found.imagelength, taken, f" of {found.samplesperpixel} bands")
        if found.axes not in ("YXS", "SYX", "YX") or found.dtype is None or found.dtype.kind not in "uif":
            raise BadPicture(f"a TIFF of the axes {found.axes} and values of type {found.dtype}, which is not read")
        values = found.asarray(maxworkers=1)
        values = values.transpose(1, 2, 0) if found.axes == "SYX" else values
        tag = found.tags.get(274)
    return turned(values, 1 if tag is None else tag.value)


def turned(values: Shaped[np.ndarray, "h w *c"], orientation: int) -> Shaped[np.ndarray, "h2 w2 *c"]:
    """Return values with an Exif orientation undone; one that is unknown is none."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
