"""One picture: every mode by its rule, every damage an error."""

import contextlib
import ctypes
import hashlib
import io
import os
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, PngImagePlugin

from vergence.data import bands, content, formats, picture
from vergence.data.content import READING, BadPicture, Reading
from vergence.data.picture import decode, eight_bits, square, strict_pillow
from vergence.data.scan import Found
from vergence.errors import InputError

RAMP = np.add.outer(np.arange(24), 9 * np.arange(24)).astype(np.uint8)  # 0..230
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], 2)


def read(path: Path, size: int = 24, reading: Reading = READING, page: int = 0) -> np.ndarray:
    with strict_pillow():
        return square(decode(content_of(path), path.name, size, reading, page).image, size)


def content_of(path: Path) -> content.Content:
    status = path.stat()
    return content.file_of(path.parent, Found(path.name, status.st_size, status.st_mtime_ns))


def saved(folder: Path, image: Image.Image, kind: str, **options: object) -> Path:
    path = folder / f"picture.{kind.lower()}"
    image.save(path, kind, **options)
    return path


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[None], 3, 0)


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_gray_and_colour_are_exact(tmp_path: Path, kind: str) -> None:
    assert np.array_equal(read(saved(tmp_path, Image.fromarray(RAMP), kind)), gray(RAMP))
    assert np.array_equal(read(saved(tmp_path, Image.fromarray(COLOURS), kind)), COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["AVIF", "MPO"])
def test_formats_of_cameras_and_the_web_are_read(tmp_path: Path, kind: str) -> None:
    smooth = Image.fromarray(COLOURS).resize((64, 64), Image.Resampling.BICUBIC)
    pixels = read(saved(tmp_path, smooth, kind, quality=95), 64)
    assert np.abs(pixels.astype(int) - np.asarray(smooth).transpose(2, 0, 1)).mean() < 4


def test_a_format_that_this_pillow_was_built_without_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, NOISE, "AVIF")
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(BadPicture, match="AVIF support not installed"):
        read(path)


@pytest.mark.parametrize("suffix", ["tga", "ICB", "vda", "vst"])
@pytest.mark.parametrize("packed", [None, "tga_rle"])
def test_a_targa_is_told_by_its_suffix_and_its_header(tmp_path: Path, suffix: str, packed: str | None) -> None:
    path = tmp_path / f"picture.{suffix}"
    for image in (Image.fromarray(RAMP), Image.fromarray(COLOURS), Image.fromarray(COLOURS).quantize(16)):
        image.save(path, "TGA", compression=packed)
        assert np.array_equal(read(path), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    data = path.read_bytes()
    for place, value in ((1, 7), (2, 5), (12, 0), (16, 15), (17, 0xC0)):
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
        with pytest.raises(BadPicture, match="not a picture of a known format"):
            read(path)
    for cut in (0, 17, 30, len(data) // 2):
        path.write_bytes(data[:cut])
        with pytest.raises(BadPicture):
            read(path)


def test_a_heic_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.jpg"  # as phones send it
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadPicture, match=r"HEIC, which is read with pillow-heif: pip install 'vergence\[heif\]'"):
        read(path)


def test_a_heic_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pip install 'vergence[heif]'")
    smooth = Image.fromarray(COLOURS).resize((64, 64), Image.Resampling.BICUBIC)
    path = tmp_path / "picture.heic"
    heif.from_pillow(smooth).save(path, quality=95)
    assert np.abs(read(path, 64).astype(int) - np.asarray(smooth).transpose(2, 0, 1)).mean() < 4
    assert "HEIF" not in Image.OPEN  # it is used, and not registered for the whole process
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadPicture):
        read(path)


def test_jpeg_xl_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\xff\x0a" + bytes(100))
    with pytest.raises(BadPicture, match="JPEG XL, which is not read; convert it"):
        read(tmp_path / "picture.png")


# --- bands that are chosen, ranges that are stated, pages -------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_bands_are_chosen_by_their_numbers(tmp_path: Path, mode: str) -> None:
    image = in_mode(mode)
    values = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(mode, mode))).reshape(24, 24, -1)
    path = saved(tmp_path, image, "TIFF")
    count = values.shape[2]
    assert np.array_equal(read(path, reading=Reading(bands=(count,))), gray(values[..., -1]))
    picked = (count, 1, min(2, count))
    expected = values[..., [number - 1 for number in picked]].transpose(2, 0, 1)
    assert np.array_equal(read(path, reading=Reading(bands=picked)), expected)
    with pytest.raises(BadPicture, match=rf"{count} bands?, and --data.channels asks for band 9"):
        read(path, reading=Reading(bands=(1, 9, 2)))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("packed", [None, "zlib", "lzw"])
def test_bands_beyond_pillow_are_read_by_tifffile(tmp_path: Path, planar: str, packed: str | None) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs pip install 'vergence[tiff]'")
    if packed == "lzw":
        pytest.importorskip("imagecodecs", reason="needs pip install 'vergence[tiff]'")
    values = np.random.default_rng(0).integers(0, 65_536, (24, 24, 6), np.uint16)
    path = tmp_path / "picture.tif"
    bands_last = planar == "contig"
    with tifffile.TiffWriter(path) as writer:
        for page in (values, values[::-1]):
            page = page if bands_last else page.transpose(2, 0, 1)
            writer.write(page, photometric="minisblack", planarconfig=planar, compression=packed, metadata=None)
    expected = np.round(values[..., [3, 2, 1]] * (255 / 65_535)).astype(np.uint8).transpose(2, 0, 1)
    reading = Reading(bands=(4, 3, 2))
    assert np.array_equal(read(path, reading=reading), expected)
    assert np.array_equal(read(path, reading=reading, page=2), expected[:, ::-1])
    with strict_pillow():
        seen = decode(content_of(path), path.name, 24, reading)
    assert (seen.pages, seen.dropped, seen.highest) == (2, 0, values[..., 1:4].max())
    with pytest.raises(BadPicture, match=r"24 x 24 pixels of 6 bands are 1,728 to decode, more than 1,000"):
        read(path, reading=replace(reading, most_pixels=1000))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadPicture):
        read(path, reading=reading)


def test_bands_beyond_pillow_without_tifffile_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = six_bands(tmp_path)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(BadPicture, match=r"a TIFF of 6 bands of 16 bits, read with tifffile: pip install 'vergence\["):
        read(path, reading=Reading(bands=(3, 2, 1)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_values_are_turned_as_pictures_are(orientation: int) -> None:
    method = picture._UPRIGHT.get(orientation)
    image = Image.fromarray(COLOURS[:20])
    expected = np.asarray(image if method is None else image.transpose(method))
    assert np.array_equal(bands.turned(COLOURS[:20], orientation), expected)


def test_a_range_that_is_stated_is_scaled(tmp_path: Path) -> None:
    reading = Reading(span=(100.0, 200.0))
    expected = np.round((RAMP.astype(float).clip(100, 200) - 100) * 2.55).astype(np.uint8)
    for values in (RAMP.astype(np.uint16), RAMP.astype(np.int32), RAMP.astype(np.float32)):
        path = saved(tmp_path, Image.fromarray(values), "TIFF")
        assert np.array_equal(read(path, reading=reading), gray(expected)), values.dtype
    assert np.array_equal(read(saved(tmp_path, Image.fromarray(RAMP), "PNG"), reading=reading), gray(RAMP))  # of 8 bits


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_page_is_a_picture_of_its_own(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (24, 24), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = saved(tmp_path, frames[0], kind, save_all=True, append_images=frames[1:], **options)
    for page, frame in enumerate(frames, 1):
        assert read(path, page=page)[:, 5, 5].tolist() == list(frame.getpixel((0, 0)))  # pyright: ignore
    with strict_pillow():
        seen = decode(content_of(path), path.name, 24, page=2)
    assert (seen.pages, seen.plain) == (1, False)


def test_one_bit(tmp_path: Path) -> None:
    bits = RAMP > 100
    for kind in ("PNG", "BMP", "TIFF", "PPM", "GIF"):
        path = saved(tmp_path, Image.fromarray(bits), kind)
        assert np.array_equal(read(path), gray(bits * np.uint8(255))), kind


def test_palettes(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(16)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert np.array_equal(read(saved(tmp_path, image, kind)), expected), kind


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    alpha = RAMP.T
    exact = (COLOURS * (alpha[..., None] / 255.0) + 255 * (1 - alpha[..., None] / 255.0)).transpose(2, 0, 1)
    image = Image.fromarray(np.dstack([COLOURS, alpha]))
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.abs(read(saved(tmp_path, image, kind, **options)) - exact).max() <= 1, kind
    image = Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(alpha)))
    exact = gray(RAMP * (alpha / 255.0) + 255 * (1 - alpha / 255.0))
    assert np.abs(read(saved(tmp_path, image, "PNG")) - exact).max() <= 1
    assert np.abs(read(saved(tmp_path, image, "TIFF")) - exact).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_transparent_colour_becomes_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (24, 24), 0)
    image.paste(1, (0, 0, 12, 24))
    if mode == "P":
        image.putpalette([9, 9, 9, 200, 100, 50])
    transparent = (0, 0, 0) if mode == "RGB" else 0
    pixels = read(saved(tmp_path, image, "PNG", transparency=transparent))
    assert (pixels[:, :, 12:] == 255).all()
    first = {"RGB": [1, 0, 0], "L": [1, 1, 1], "P": [200, 100, 50], "1": [255, 255, 255]}[mode]
    assert (pixels[:, :, :12] == np.array(first)[:, None, None]).all()


def test_a_palette_with_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (24, 24), 0)
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.paste(1, (0, 0, 12, 24))
    pixels = read(saved(tmp_path, image, "PNG", transparency=bytes([128, 255])))
    assert abs(int(pixels[0, 0, 20]) - 127) <= 1
    assert pixels[0, 0, 0] == 0


def test_cmyk_ycbcr_and_lab(tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOURS).resize((64, 64), Image.Resampling.BICUBIC)
    for mode, kind, options in (
        ("CMYK", "TIFF", {}),
        ("CMYK", "JPEG", {"quality": 100}),
        ("YCbCr", "JPEG", {"quality": 100}),
    ):
        image = smooth.convert(mode)
        difference = read(saved(tmp_path, image, kind, **options), 64).astype(int) - np.asarray(smooth).transpose(
            2, 0, 1
        )
        assert np.abs(difference).mean() < 4, (mode, kind)
    neutral = read(saved(tmp_path, Image.new("LAB", (8, 8), (128, 128, 128)), "TIFF"), 8)  # L* 50
    assert np.abs(neutral.astype(int) - 119).max() <= 2


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = RAMP.astype(np.uint16) * 257 + 5
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(read(saved(tmp_path, Image.fromarray(values), kind)), gray(RAMP)), kind
    big_endian = Image.frombytes("I;16B", (24, 24), values.astype(">u2").tobytes())
    assert np.array_equal(square(eight_bits(big_endian), 24), gray(RAMP))
    halves = np.array([[128, 129, 65406, 65407]], np.uint16)  # about 0.5 and 254.5: the scale is 65535, from 0
    assert picture._scaled(halves).tolist() == [[0, 1, 254, 255]]


def test_floats_and_32_bits_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    scaled = np.round(RAMP * (255 / RAMP.max())).astype(np.uint8)
    for values in (RAMP / np.float32(230), RAMP.astype(np.float32) * 1e6 - 5e7, RAMP.astype(np.int32) * 1_000_000):
        path = saved(tmp_path, Image.fromarray(values), "TIFF")
        assert np.abs(read(path).astype(int) - gray(scaled)).max() <= 1
    path = saved(tmp_path, Image.fromarray(np.full((24, 24), -3.0, np.float32)), "TIFF")
    assert (read(path) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    values = np.zeros((24, 24), np.float32)
    values[3, 3] = value
    with pytest.raises(BadPicture, match="not finite"):
        read(saved(tmp_path, Image.fromarray(values), "TIFF"))


def test_a_mode_without_a_rule() -> None:
    with pytest.raises(BadPicture, match="no rule for mode HSV"):
        eight_bits(Image.new("HSV", (8, 8)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (24, 24), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read(saved(tmp_path, frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert pixels[:, 5, 5].tolist() == [255, 0, 0]


def in_mode(mode: str) -> Image.Image:
    """The same picture in any mode that a file can have; half of it transparent where the mode can be."""
    colours, alpha = Image.fromarray(COLOURS), Image.fromarray(RAMP.T)
    if mode in ("LA", "RGBA"):
        colours.putalpha(alpha)
    match mode:
        case "PA":
            image = colours.quantize(16).convert("PA")
            image.putalpha(alpha)
            return image
        case "P":
            return colours.quantize(16)
        case "I;16":
            return Image.fromarray(RAMP.astype(np.uint16) * 257 + 5)
        case "I":
            return Image.fromarray(RAMP.astype(np.int32) * 1000 - 7)
        case "LAB":
            return Image.merge("LAB", colours.split())
        case _:
            return colours.convert(mode)


@pytest.mark.parametrize(
    ("mode", "digest"),
    [
        ("1", "224df6b16b219299"),
        ("L", "2e83dbe667344233"),
        ("LA", "f9d155b066759c04"),
        ("P", "eb96fe3f6c008e90"),
        ("PA", "fd259d73c53e9bb2"),
        ("RGB", "0030db1102f777b8"),
        ("RGBA", "93a52c611b0a202e"),
        ("CMYK", "0030db1102f777b8"),
        ("YCbCr", "f4a965897a468cb5"),
        ("I;16", "cfcb4dc4c8717254"),
        ("I", "9a66ebd892ffab88"),
        ("F", "e7dd36908b7463e2"),
        ("LAB", "d1afec444d1adb9b"),
    ],
)
def test_each_mode_has_the_pixels_it_had(tmp_path: Path, mode: str, digest: str) -> None:
    """Another digest is another data set under the same name: raise `RULES` with it."""
    path = saved(tmp_path, in_mode(mode), "TIFF")
    with Image.open(path) as image:
        assert image.mode == mode
    assert hashlib.sha256(read(path, 17).tobytes()).hexdigest()[:16] == digest


def test_a_colour_profile_changes_nothing(tmp_path: Path) -> None:
    plain = read(saved(tmp_path, Image.fromarray(COLOURS), "PNG"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        path = saved(tmp_path, Image.fromarray(COLOURS), kind, icc_profile=profile, **options)
        with Image.open(path) as image:
            assert image.info["icc_profile"] == profile
        assert np.array_equal(read(path), plain), kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:32, :32], upright[:32, 32:], upright[32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {  # how a camera held that way stores it
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    pixels = read(saved(tmp_path, image, kind, exif=exif, **options), 64)
    difference = pixels.astype(int) - upright.transpose(2, 0, 1)
    assert np.abs(difference[:, 4:28, 4:28]).max() <= 3
    assert np.abs(difference[:, 36:60, 4:28]).max() <= 3


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 24), (24, 40), (41, 24), (25, 24)])
def test_the_middle_is_kept_exactly(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    top, left = (shape[0] - 24) // 2, (shape[1] - 24) // 2
    expected = values[top : top + 24, left : left + 24].transpose(2, 0, 1)
    result = square(Image.fromarray(values), 24)
    assert np.array_equal(result, expected)
    assert result.flags.c_contiguous


def test_reduction_is_antialiased_and_stays_as_it_is() -> None:
    checks = np.indices((96, 96)).sum(0) % 2 * 255
    assert np.abs(square(Image.fromarray(checks.astype(np.uint8)).convert("RGB"), 24).astype(int) - 127).max() <= 8
    digest = hashlib.sha256(square(Image.fromarray(np.tile(COLOURS, (3, 4, 1))), 17).data).hexdigest()
    assert digest[:16] == "b3a9cda28117b964"


def test_a_large_jpeg_is_decoded_at_a_fraction_without_showing(tmp_path: Path) -> None:
    large = Image.fromarray(COLOURS).resize((1000, 800), Image.Resampling.BICUBIC)
    whole = square(large, 24).astype(int)
    assert np.abs(read(saved(tmp_path, large, "JPEG", quality=95)) - whole).max() <= 6


def test_a_jpeg_is_decoded_at_twice_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[tuple[int, int]] = []
    upright = picture._upright
    monkeypatch.setattr(picture, "_upright", lambda image: (sides.append(image.size), upright(image))[1])
    for side in (48, 96, 191, 192, 384):
        read(saved(tmp_path, Image.new("RGB", (side, side)), "JPEG"))
    assert sides == [(side, side) for side in (48, 48, 96, 48, 48)]


@pytest.mark.parametrize("shape", [(1, 1), (7, 24), (24, 7), (1, 10_000)])
def test_too_small_is_named(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(BadPicture, match="a side of less than 8"):
        read(saved(tmp_path, Image.new("RGB", shape), "PNG"))


def test_a_long_strip_does_not_become_a_large_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (8, 100_000), (1, 2, 3)), "PNG")
    tracemalloc.start()
    assert read(path, 96)[:, 0, 0].tolist() == [1, 2, 3]
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


@pytest.mark.parametrize("side", [8193, 10_000, 50_000])  # below, at and far above what Pillow itself warns of
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side) + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b""))
    tracemalloc.start()
    started = time.perf_counter()
    said = rf"{side} x {side} pixels are {side**2:,} to decode, more than 64 Mi \(67,108,864\); make it smaller"
    with pytest.raises(BadPicture, match=said):
        read(path)
    assert time.perf_counter() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_photograph_of_108_megapixels_is_decoded_at_an_eighth(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (12_000, 9_000), 120), "JPEG", quality=60)
    tracemalloc.start()
    with strict_pillow():
        result = decode(content_of(path), path.name, 96)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert result.side == 9_000
    assert np.abs(np.asarray(result.image).astype(int) - 120).max() <= 1


def test_a_progressive_jpeg_counts_whole_for_all_of_it_is_held(tmp_path: Path) -> None:
    reading = Reading(most_pixels=1 << 20)
    large = Image.new("L", (1200, 1000), 120)
    assert read(saved(tmp_path, large, "JPEG"), reading=reading).shape == (3, 24, 24)
    with pytest.raises(BadPicture, match=r"1200 x 1000 pixels, progressive, are 1,200,000 to decode, more than 1 Mi"):
        read(saved(tmp_path, large, "JPEG", progressive=True), reading=reading)


def test_the_limit_can_be_raised_and_says_how(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (100, 50), 120), "PNG")
    with pytest.raises(BadPicture, match=r"are 5,000 to decode, more than 4,999; .*, or raise --data.most-pixels"):
        read(path, reading=Reading(most_pixels=4999))
    assert (read(path, reading=Reading(most_pixels=5000)) == 120).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_panorama_is_read(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, Image.new("L", (30_000, 2_000), 120), kind)
    assert np.abs(read(path).astype(int) - 120).max() <= 1


def test_a_jpeg_of_too_many_pixels_to_go_through_is_refused(tmp_path: Path) -> None:
    data = saved(tmp_path, Image.new("L", (16, 16)), "JPEG").read_bytes()
    path = tmp_path / "large.jpg"
    path.write_bytes(data.replace(b"\x08\0\x10\0\x10\x01", b"\x08\xff\xff\xff\xff\x01"))
    with pytest.raises(BadPicture, match=r"65535 x 65535 pixels are 4,294,836,225, more than 1024 Mi"):
        read(path)


def six_bands(folder: Path) -> Path:
    """The header of a TIFF of six bands of 16 bits."""
    bits = struct.pack("<6H", *[16] * 6)
    tags = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 6, 62), (277, 3, 1, 6)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path = folder / "satellite.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 4) + entries + bytes(4) + bits)
    return path


def test_a_tiff_of_other_bands_is_described(tmp_path: Path) -> None:
    path = six_bands(tmp_path)
    with pytest.raises(
        BadPicture,
        match=r"a TIFF of 6 bands of 16 bits; 1 to 4 bands of 8 bits, and 1, 3 or 4 of 16, .*--data.channels",
    ):
        read(path)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_of_any_size_are_no_reason_to_refuse_a_png(tmp_path: Path, name: bytes, after: bool) -> None:
    """Pillow stops at 1 MiB of one text, and at 64 MiB of all."""
    path = saved(tmp_path, Image.fromarray(COLOURS), "PNG")
    plain, between = read(path), b"\0\0\0\0\0" if name == b"iTXt" else b"\0\0"
    large = chunk(name, b"key" + between.replace(b"\0", b"\0\1", 1)[:5] + zlib.compress(bytes(3_000_000)))
    if name != b"iTXt":
        large = chunk(name, b"key\0\0" + zlib.compress(bytes(3_000_000)))
    data, at = path.read_bytes(), path.read_bytes().index(b"IEND") - 4 if after else 33
    path.write_bytes(data[:at] + large + data[at:])
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    with strict_pillow():
        result = decode(content_of(path), path.name, 24)
    assert np.array_equal(square(result.image, 24), plain)
    assert not result.plain  # whoever decodes the file as it is finds the text
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


def test_many_texts_are_no_reason_to_refuse_a_png(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(COLOURS), "PNG")
    plain, data = read(path), path.read_bytes()
    texts = b"".join(chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(1_000_000))) for i in range(70))
    path.write_bytes(data[:33] + texts + data[33:])
    assert np.array_equal(read(path), plain)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_large_profiles_and_metadata_of_other_formats_change_nothing(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(COLOURS)
    plain = read(saved(tmp_path, image, kind))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(60_000)
    path = saved(tmp_path, image, kind, icc_profile=bytes(5_000_000), **({} if kind == "TIFF" else {"exif": exif}))
    assert path.stat().st_size > 5_000_000
    assert np.array_equal(read(path), plain)


def test_a_bomb_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    text = b"key\0\0" + zlib.compress(bytes(200_000_000), 1)
    path.write_bytes(png_header(8, 8) + chunk(b"zTXt", text) + chunk(b"IEND", b""))
    with pytest.raises(BadPicture):
        read(path)


# --- damage -----------------------------------------------------------------------------------------------------------

NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_truncated_at_every_sixteenth(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    NOISE.save(file, kind)
    data = file.getvalue()
    path = tmp_path / "picture"
    for sixteenth in range(16):
        path.write_bytes(data[: len(data) * sixteenth // 16])
        with pytest.raises(BadPicture):
            read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is text",
        b"<!doctype html><html><body>404</body></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.4\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"icns\0\0\0\x10ic07\0\0\0\x08",
        b"DDS |\0\0\0",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        np.random.default_rng(2).bytes(5000),
    ],
)
def test_other_files_are_no_pictures(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(BadPicture):
        read(path)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "DDS", "TGA", "ICO"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.png"
    NOISE.save(path, kind)
    with pytest.raises(BadPicture, match="not a picture of a known format"):
        read(path)


def test_the_name_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    NOISE.save(path, "PNG")
    assert np.array_equal(read(path, 40), np.asarray(NOISE).transpose(2, 0, 1))


def test_random_bytes_flipped_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO"):
        file = io.BytesIO()
        NOISE.save(file, kind)
        for _ in range(30):
            data = bytearray(file.getvalue())
            for place in random.integers(0, min(len(data), 300), 4):
                data[place] = random.integers(256)
            (tmp_path / "picture").write_bytes(data)
            with contextlib.suppress(BadPicture):
                assert read(tmp_path / "picture").shape == (3, 24, 24)


def test_truncated_pictures_switched_on_by_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match="LOAD_TRUNCATED_IMAGES"), strict_pillow():
        pass


def test_warnings_of_pillow_are_dropped_and_others_kept() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with strict_pillow():
            for module in ("PIL.TiffImagePlugin", "vergence.data.picture", "PILLOW", "numpy"):
                warnings.warn_explicit(f"of {module}", UserWarning, "file", 1, module)
            with pytest.raises(Image.DecompressionBombWarning):
                warnings.warn_explicit("a bomb", Image.DecompressionBombWarning, "file", 1, "PIL.Image")
    assert [str(warning.message) for warning in caught] == ["of PILLOW", "of numpy"]


def test_warning_filters_are_put_back() -> None:
    before = list(warnings.filters)
    with strict_pillow():
        pass
    assert list(warnings.filters) == before


# --- files that change ------------------------------------------------------------------------------------------------


def gone(path: Path) -> None:
    path.unlink()


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [gone, longer, pipe, folder])
def test_changed_after_the_scan(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = saved(tmp_path, NOISE, "PNG")
    content = content_of(path)
    change(path)
    with strict_pillow(), pytest.raises(BadPicture, match=r"changed since|No such file|directory"):
        decode(content, path.name, 24)


@pytest.mark.parametrize("linked", ["its own", "statically"])
def test_libtiff_is_silenced_where_it_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: str
) -> None:
    """Its handler is taken away inside and is back afterwards; where no handler is in reach, all else works."""
    calls: list[object] = []

    def handler(new: object) -> object:
        calls.append(new)
        return "theirs"

    library = SimpleNamespace(**({"TIFFSetErrorHandler": handler} if linked == "its own" else {}))
    path = saved(tmp_path, Image.fromarray(RAMP), "TIFF")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)

    def interrupted() -> None:
        with strict_pillow():
            assert calls == ([None] if linked == "its own" else [])
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert calls == ([None, "theirs"] if linked == "its own" else [])
    assert np.array_equal(read(path), gray(RAMP))


def test_a_picture_whose_exif_data_are_damaged_is_as_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(self: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    image = Image.fromarray(COLOURS)
    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert picture._upright(image) is image


def test_pages_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("L", (8, 8), shade) for shade in range(4)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert formats.pages_of(file) == [1, 2, 3, 4]
    monkeypatch.setattr(formats, "MOST_PAGES", 3)
    assert formats.pages_of(file) == [1, 2, 3]
