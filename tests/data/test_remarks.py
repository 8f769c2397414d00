"""What a folder's loader says at every start, and what it notes in `Images.facts`."""

import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vergence.config import Folder
from vergence.data import Images, Split, load
from vergence.errors import InputError

pytestmark = pytest.mark.wide

_RANDOM = np.random.default_rng(0)


def noise(height: int = 10, width: int = 12, bands: int = 3) -> np.ndarray:
    return _RANDOM.integers(0, 256, (height, width, bands), np.uint8)


def draw(root: Path, count: int, suffix: str = "png") -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise()).save(root / f"{i:03}.{suffix}")


def heard(root: Path, split: Split = "pretrain", bad: Any = "fail", **settings: Any) -> tuple[Images, list[str]]:
    """A split, and what is said when it is loaded, without the folder's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = Folder(root=str(root), size=10, bad_images=bad, **settings)
        images = load(config, split, cache_dir=root.parent / "cache")
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
    for name in ("1.psd", "2.PSD", "scan.dcm", "old.pcx", "new.jxl", "notes.txt"):
        (root / name).touch()
    for _ in range(2):  # the second time from the cache
        images, (line,) = heard(root)
        assert line == (
            "not read, though they look like pictures: 2 .psd, 1 .pcx (of no format that is read; convert them to PNG "
            "or JPEG); 1 .jxl (JPEG XL; convert them to PNG or JPEG); 1 .dcm (files of instruments; save them as TIFF)"
        )
        assert images.facts["unread"] == {".psd": 2, ".jxl": 1, ".pcx": 1, ".dcm": 1}
    assert images.facts["others"] == {".txt": 1}


def test_heic_without_its_package_is_counted_with_what_to_install(root: Path) -> None:
    """In a process of its own: which suffixes are read is decided when the library is imported."""
    draw(root, 5)
    (root / "1.heic").touch()
    (root / "2.HIF").touch()
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from vergence.config import Folder\n"
        "from vergence.data import load\n"
        f"load(Folder(root={str(root)!r}, size=10), 'pretrain')\n"
    )
    environment = {**os.environ, "VERGENCE_CACHE": str(root.parent / "cache")}
    for _ in range(2):  # the second time from the cache
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        counted = "1 .heic, 1 .hif (HEIC, which is read with pillow-heif: pip install 'vergence[heif]')"
        assert f"not read, though they look like pictures: {counted}" in done.stderr


def test_heic_is_read_where_its_package_is(root: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pip install 'vergence[heif]'")
    draw(root, 5)
    heif.from_pillow(Image.fromarray(noise(64, 64))).save(root / "1.heic")
    images, said = heard(root)
    assert (len(images), said) == (6, [])


def test_pictures_that_are_left_out_are_counted_by_reason_at_every_start(root: Path) -> None:
    draw(root, 30)
    (root / "a.png").write_bytes(b"cut off")
    Image.new("L", (4, 40)).save(root / "b.png")
    for _ in range(2):  # the second time from the cache
        (line,) = heard(root, bad="skip")[1]
        reasons = "1 (not a picture of a known format), 1 (4 x 40 pixels, a side of less than 8)"
        assert line.startswith(f"2 pictures that cannot be used were left out: {reasons}; ")
        assert line.endswith("/bad.json")


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


@pytest.mark.parametrize("crops", ["whole", "square"])
def test_pages_are_pictures_of_their_own_where_that_is_asked_for(root: Path, crops: str) -> None:
    pages = {}
    for folder, count in (("a", 3), ("b", 12)):
        (root / folder).mkdir(parents=True)
        pages[folder] = [Image.fromarray(noise(10, 10)) for _ in range(count)]
        pages[folder][0].save(root / folder / "stack.tif", save_all=True, append_images=pages[folder][1:])
        Image.fromarray(noise(10, 10)).save(root / folder / "one.tif")
    for _ in range(2):  # the second time from the cache
        images, (line,) = heard(root, pages="all", crops=crops)
        assert line == (
            "15 of 17 pictures are pages of files, such as stack.tif#3, each a picture of its own; "
            "pages of one file may be trained on and scored on"
        )
        assert images.facts["pages"] == {"files": 0, "most": 1, "unused": 0, "used": 15}
        test = heard(root, "test", pages="all", crops=crops)[0]
        named = {name: part.pixels[i] for part in (images, test) for i, name in enumerate(part.names or ())}
        expected = {f"{folder}/stack.tif#{n}" for folder, of in pages.items() for n in range(1, len(of) + 1)}
        assert set(named) == expected | {"a/one.tif", "b/one.tif"}
        for name in expected:
            page = pages[name[0]][int(name.rpartition("#")[2]) - 1]
            assert np.array_equal(named[name].numpy(), np.asarray(page).transpose(2, 0, 1)), name
    assert len(heard(root)[0]) == 4


def test_pages_of_a_list_and_too_many_pages_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, 3)
    (root / "list.txt").write_text("000.png\n001.png\n")
    with pytest.raises(InputError, match=r"list.txt: --data.pages all is for a folder of pictures; leave it at first"):
        heard(root / "list.txt", pages="all")
    Image.new("L", (8, 8)).save(root / "s.tif", save_all=True, append_images=[Image.new("L", (8, 8))] * 4)
    (root / "cut.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"1 of 9 pictures cannot be used: cut.tif"):
        heard(root, pages="all")
    monkeypatch.setattr("vergence.data.formats.MOST_PAGES", 5)
    monkeypatch.setattr("vergence.data.pages.MOST_PAGES", 5)
    with pytest.raises(InputError, match=r"5 pages or more in s.tif; make several files of each"):
        heard(root, pages="all")


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
        highest = f"no value that is read with 16 bits is above {(1 << bits) - 1:,}"
        another = "--data.range full, or LOW,HIGH, has another range scaled"
        assert said == [f"{highest}: 0 to {top:,} is scaled to 0 to 255, not 0 to 65,535; {another}"]
    assert images.facts["scaled"] == {"highest": (1 << bits) - 1, "top": top}
    green = np.stack([images.pixels[index][1].numpy() for index in range(len(images))])
    assert np.array_equal(green, np.round(values * (255 / top)).astype(np.uint8))
    test = heard(root, "test")[0]
    with Image.open(root / "test" / "a" / "001.png") as image:
        assert np.array_equal(test.pixels[1].numpy(), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("crops", ["whole", "square"])
def test_a_range_that_is_stated_is_used_and_cut_off_values_are_said(root: Path, crops: str) -> None:
    root.mkdir()
    values = _RANDOM.integers(0, 4096, (4, 10, 10)).astype(np.uint16)
    values[0, 0, 0] = 4095
    for i, picture in enumerate(values):
        Image.fromarray(picture).save(root / f"{i}.png")
    images, said = heard(root, range="100,2000", crops=crops)
    assert said == ["values up to 4,095 are above 2,000 of --data.range: they become 255"]
    assert images.facts["scaled"] == {"highest": 4095, "low": 100, "top": 2000}
    expected = np.round((values.clip(100, 2000).astype(float) - 100) * (255 / 1900)).astype(np.uint8)
    assert np.array_equal(images.pixels[:, 0].numpy(), expected)
    assert heard(root, range="0,4095", crops=crops)[1] == []
    images, _ = heard(root, range="full", crops=crops)
    assert np.array_equal(images.pixels[:, 0].numpy(), np.round(values * (255 / 65_535)).astype(np.uint8))


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
