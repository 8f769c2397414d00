"""What a folder's loader says at every start, and what it notes in `Images.facts`."""

import json
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vergence.config import Folder
from vergence.data import Images, Split, load

pytestmark = pytest.mark.wide

_RANDOM = np.random.default_rng(0)


def noise(height: int = 10, width: int = 12, bands: int = 3) -> np.ndarray:
    return _RANDOM.integers(0, 256, (height, width, bands), np.uint8)


def draw(root: Path, count: int, suffix: str = "png") -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise()).save(root / f"{i:03}.{suffix}")


def heard(root: Path, split: Split = "pretrain", bad: Any = "fail") -> tuple[Images, list[str]]:
    """A split, and what is said when it is loaded, without the folder's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = load(Folder(root=str(root), size=10, bad_images=bad), split, cache_dir=root.parent / "cache")
    said = [str(warning.message) for warning in caught]
    assert all(line.startswith(f"{root}: ") and line.isprintable() for line in said)
    return images, [line.removeprefix(f"{root}: ") for line in said]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


def test_an_ordinary_folder_is_read_without_a_word(root: Path) -> None:
    draw(root / "a", 150)
    draw(root / "b", 150)
    shutil.copy(root / "a" / "000.png", root / "a" / "copy.png")  # one of three hundred is no news
    Image.new("RGB", (20, 20), (9, 9, 9)).save(root / "b" / "black.png")
    (root / "labels.csv").touch()
    (root / ".DS_Store").touch()
    for split in ("pretrain", "train", "test"):
        images, said = heard(root, split)
        assert said == []
        assert images.names is not None
        assert len(images.names) == len(images)
    assert images.facts == {
        "pictures": {"pretrain": 242, "train": 242, "test": 60},
        "classes": 2,
        "test": "a fifth of each class, by the names of its files",
        "side": {"smallest": 10, "median": 10, "largest": 20},
        "kept": 20,
        "crops": "whole",
        "left_out": {},
        "unread": {},
        "others": {".csv": 1},
        "unused": {},
        "doubles": 0,
        "repeated": 1,
        "constant": 1,
        "test_in_train": images.facts["test_in_train"],
        "faint": 0,
        "darkest": 0,
        "brightest": 255,
        "scaled": {"highest": None, "top": 65_535},
        "dropped": 0,
        "pages": {"files": 0, "most": 1, "unused": 0},
        "cache": images.facts["cache"],
    }
    assert Path(images.facts["cache"], "part-000000.arrow").is_file()
    assert json.loads(json.dumps(images.facts)) == images.facts


def test_names_are_those_of_the_pictures_that_are_used(root: Path) -> None:
    draw(root / "a", 20)
    draw(root / "b", 20)
    (root / "a" / "003.png").write_bytes(b"cut off")
    parts = [heard(root, split, "skip")[0] for split in ("train", "test")]
    for images in parts:
        assert images.names is not None
        for index, name in enumerate(images.names):
            with Image.open(root / name) as image:
                assert np.array_equal(np.asarray(image).transpose(2, 0, 1), images.pixels[index])
    assert {name for images in parts for name in images.names or ()} == {
        f"{folder}/{i:03}.png" for folder in "ab" for i in range(20)
    } - {"a/003.png"}
    assert parts[0].facts["left_out"] == {"not a picture of a known format": 1}


def test_remarks_come_at_every_start(root: Path) -> None:
    root.mkdir()
    for i in range(16):
        Image.new("RGB", (10, 10)).save(root / f"{i}.png")  # a covered lens
    expected = (
        "16 of 16 pictures are of one colour; 15 of 16 pictures repeat another pixel by pixel; remove what is not"
    )
    for _ in range(2):  # the second time from the cache
        (line,) = heard(root)[1]
        assert line.startswith(expected)


def test_copies_of_one_photograph_are_said(root: Path) -> None:
    draw(root, 1)
    for i in range(1, 40):
        shutil.copy(root / "000.png", root / f"{i:03}.png")
    (line,) = heard(root)[1]
    assert line == "39 of 40 pictures repeat another pixel by pixel; remove what is not meant"


def test_files_that_look_like_pictures_are_counted(root: Path) -> None:
    draw(root, 5)
    for name in ("1.heic", "2.HEIC", "scan.dcm", "old.tga", "notes.txt"):
        (root / name).touch()
    images, (line,) = heard(root)
    assert line == (
        "not read, though they look like pictures: 2 .heic, 1 .tga, 1 .dcm; convert them to PNG or JPEG, or remove them"
    )
    assert images.facts["unread"] == {".heic": 2, ".tga": 1, ".dcm": 1}
    assert images.facts["others"] == {".txt": 1}


@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
def test_pages_that_are_not_used_are_said(root: Path, kind: str, suffix: str) -> None:
    root.mkdir()
    options = {"lossless": True} if kind == "WEBP" else {}
    for i in range(4):
        first, *more = (Image.fromarray(noise()) for _ in range(7))
        first.save(root / f"{i}.{suffix}", kind, save_all=True, append_images=more, **options)
    images, (line,) = heard(root)
    assert line.startswith("4 files have more than one page or frame, 7 at most: only the first is used")
    assert images.facts["pages"] == {"files": 4, "most": 7, "unused": 24}


def test_small_copies_in_a_tiff_and_second_views_of_a_camera_are_no_pages(root: Path) -> None:
    root.mkdir()
    page, small = Image.fromarray(noise(40, 40)), Image.fromarray(noise(20, 20))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(root / "pyramid.tif", save_all=True, append_images=[small])
    with Image.open(root / "pyramid.tif") as image:
        image.seek(1)
        assert image.tag_v2[254] == 1  # pyright: ignore[reportAttributeAccessIssue]
    page.save(root / "camera.mpo", "MPO", save_all=True, append_images=[small])
    images, said = heard(root)
    assert (len(images), said) == (2, [])


@pytest.mark.parametrize(("bits", "top"), [(5, 255), (8, 255), (10, 1023), (12, 4095), (13, 8191), (14, 16_383)])
@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_values_of_fewer_bits_than_their_files_are_scaled_by_the_folder(
    root: Path, bits: int, top: int, suffix: str
) -> None:
    draw(root / "test" / "a", 3)  # colours beside them stay what they are
    (root / "train" / "a").mkdir(parents=True)
    values = _RANDOM.integers(0, 1 << bits, (300, 10, 10)).astype(np.uint16)
    values[0, 0, 0] = (1 << bits) - 1
    values[1:] //= 2  # one picture decides for all
    for i, picture in enumerate(values):
        Image.fromarray(picture).save(root / "train" / "a" / f"{i:03}.{suffix}")
    images, said = heard(root, "train")
    if bits > 5:
        highest = f"no value of the gray pictures of 16 bits is above {(1 << bits) - 1:,}"
        assert said == [f"{highest}: 0 to {top:,} is scaled to 0 to 255, not 0 to 65,535"]
    assert images.facts["scaled"] == {"highest": (1 << bits) - 1, "top": top}
    green = np.stack([images.pixels[index][1].numpy() for index in range(len(images))])
    assert np.array_equal(green, np.round(values * (255 / top)).astype(np.uint8))
    test = heard(root, "test")[0]
    with Image.open(root / "test" / "a" / "001.png") as image:
        assert np.array_equal(test.pixels[1].numpy(), np.asarray(image).transpose(2, 0, 1))


def test_values_of_sixteen_bits_are_not_stretched(root: Path) -> None:
    root.mkdir()
    values = _RANDOM.integers(0, 16_385, (8, 10, 10)).astype(np.uint16)
    values[0, 0, 0] = 16_384
    for i, picture in enumerate(values):
        Image.fromarray(picture).save(root / f"{i}.png")
    images, said = heard(root)
    assert np.array_equal(images.pixels[:, 0].numpy(), np.round(values * (255 / 65_535)).astype(np.uint8))
    assert images.facts["scaled"] == {"highest": 16_384, "top": 65_535}
    assert "all values lie between 0 and 64" in said[0]


def test_pictures_that_hardly_use_their_range_are_said(root: Path) -> None:
    """Twelve bits in sixteen again, where one picture of the folder is brighter."""
    root.mkdir()
    for i in range(8):
        values = _RANDOM.integers(0, 65_536 if i == 3 else 4096, (10, 10))
        Image.fromarray(values.astype(np.uint16)).save(root / f"{i}.png")
    images, (line,) = heard(root)
    assert line.startswith(
        "7 of 8 pictures use an eighth or less of the range from 0 to 255, and all values lie between"
    )
    assert images.facts["faint"] == 7


def test_dark_pictures_among_others_are_no_news(root: Path) -> None:
    draw(root, 6)
    for i in range(5):
        Image.fromarray(noise() // 10).save(root / f"night {i}.png")
    images, said = heard(root)
    assert (images.facts["faint"], said) == (5, [])


def bands_tiff(bands: int, bits: int, extra: tuple[int, ...]) -> bytes:
    """A TIFF of 16 x 16 pixels of so many bands."""
    size = 16 * 16 * bands * bits // 8
    at = 8 + 2 + 12 * 10 + 4
    depths, kinds = struct.pack(f"<{bands}H", *[bits] * bands), struct.pack(f"<{len(extra)}H", *extra)
    short = [value if 2 * len(part) <= 4 else place for part, place, value in ((extra, at + len(depths), sum(extra)),)]
    tags = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, bands, at), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, at + len(depths) + len(kinds)), (277, 3, 1, bands), (278, 4, 1, 16), (279, 4, 1, size)]
    tags += [(338, 3, len(extra), short[0])]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, 10) + entries + bytes(4) + depths + kinds + _RANDOM.bytes(size)


@pytest.mark.parametrize(("bands", "bits"), [(4, 8), (5, 8), (6, 8), (4, 16)])
def test_a_band_that_is_dropped_is_said(root: Path, bands: int, bits: int) -> None:
    draw(root, 3)
    (root / "satellite.tif").write_bytes(bands_tiff(bands, bits, (0,) * (bands - 3)))
    images, said = heard(root)
    assert said == ["1 pictures have bands besides colour and transparency, which are dropped"]
    assert images.facts["dropped"] == 1
