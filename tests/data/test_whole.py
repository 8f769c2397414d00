"""Whole pictures: how they are kept, what is read again, and what does not change a bit of a run."""

import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from vergence.augment import Ragged, two_views
from vergence.config import Folder, Views
from vergence.data import Images, load, store, whole
from vergence.data.content import BadPicture
from vergence.errors import InputError, MachineError
from vergence.machine.randomness import generator

RANDOM = np.random.default_rng(0)


def smooth(height: int, width: int) -> Image.Image:
    small = RANDOM.integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def draw(root: Path, *shapes: tuple[int, int], suffix: str = "png", start: int = 0) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i, shape in enumerate(shapes):
        smooth(*shape).save(root / f"{start + i:03}.{suffix}")


def read(root: Path, split: Any = "pretrain", size: int = 16, **settings: Any) -> Images:
    return load(Folder(root=str(root), size=size, **settings), split, cache_dir=root.parent / "cache")


def pixels(images: Images, index: int) -> np.ndarray:
    return images.pixels[index].numpy().transpose(1, 2, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


def parts(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("pictures-*/part-*.arrow"))


# --- how they are kept ------------------------------------------------------------------------------------------------


def test_small_pictures_keep_every_pixel_and_their_shape(root: Path) -> None:
    draw(root, (20, 30), (31, 17), (32, 200))
    images = read(root)
    assert isinstance(images.pixels, Ragged)
    assert images.size is None
    for index, name in enumerate(images.names or ()):
        with Image.open(root / name) as image:
            assert np.array_equal(pixels(images, index), np.asarray(image))


def test_larger_pictures_are_reduced_to_twice_the_view_with_their_own_aspect_ratio(root: Path) -> None:
    draw(root, (300, 400), (640, 100), (100, 33))
    images = read(root)
    assert isinstance(images.pixels, Ragged)
    assert images.pixels.shapes.tolist() == [[32, 43], [205, 32], [97, 32]]
    for index, name in enumerate(images.names or ()):
        with Image.open(root / name) as image:
            small = image.resize(pixels(images, index).shape[1::-1], Image.Resampling.BICUBIC)
            assert np.abs(pixels(images, index).astype(int) - np.asarray(small)).mean() < 3
    assert images.facts["side"] == {"smallest": 33, "median": 100, "largest": 300}
    assert (images.facts["kept"], images.facts["crops"]) == (32, "whole")
    assert read(root, keep=50).facts["kept"] == 50
    larger = read(root, keep=100_000).pixels
    assert isinstance(larger, Ragged)
    assert larger.shapes.tolist() == [[300, 400], [640, 100], [100, 33]]


def test_a_jpeg_that_is_small_enough_is_kept_byte_for_byte(root: Path) -> None:
    draw(root, (20, 30), (32, 40), suffix="jpg")
    read(root)
    there = store.Store(parts(root)[0].parent)
    kept = {bytes(there.encoded(row)) for row in range(len(there))}
    assert kept == {path.read_bytes() for path in root.iterdir()}


def test_what_is_not_the_pixels_is_not_kept(root: Path) -> None:
    """Texts, profiles, and all that the file says of how its pixels are to be seen."""
    root.mkdir()
    image = smooth(24, 30)
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 900_000)
    image.save(root / "0.png", pnginfo=text)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(root / "1.jpg", exif=exif, quality=95)
    image.convert("RGBA").save(root / "2.png")
    image.save(root / "3.tif")
    image.convert("CMYK").save(root / "4.jpg", quality=95)
    with pytest.warns(UserWarning, match="2 of 5 pictures repeat another"):
        images = read(root)
    assert isinstance(images.pixels, Ragged)
    assert images.pixels.shapes.tolist() == [[24, 30], [30, 24], [24, 30], [24, 30], [24, 30]]
    for index in (0, 2, 3):
        assert np.array_equal(pixels(images, index), np.asarray(image))
    assert sum(path.stat().st_size for path in parts(root)) < 60_000


def test_pictures_of_one_small_shape_are_a_tensor(root: Path) -> None:
    draw(root, *[(20, 20)] * 3)
    images = read(root)
    assert isinstance(images.pixels, torch.Tensor)
    assert (tuple(images.pixels.shape), images.size) == ((3, 3, 20, 20), 20)
    for path in root.iterdir():
        smooth(20, 24).save(path)
    images = read(root)
    assert isinstance(images.pixels, torch.Tensor)
    assert (tuple(images.pixels.shape), images.size) == ((3, 3, 20, 24), None)
    assert isinstance(read(root, size=100).pixels, torch.Tensor)
    draw(root, (200, 200), (200, 200), start=3)
    for path in [*root.iterdir()][:3]:
        path.unlink()


def test_large_pictures_of_one_shape_are_decoded_when_they_are_wanted(root: Path) -> None:
    draw(root, (161, 160), (161, 160))
    assert isinstance(read(root, size=96).pixels, Ragged)
    draw(root, (160, 160), (160, 160))
    assert isinstance(read(root, size=96).pixels, torch.Tensor)


# --- what is read again -----------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    decode = whole.picture.decode

    def counting(content: Any, where: str, *more: Any) -> Any:
        asked.append(where.rpartition(": ")[2])
        return decode(content, where, *more)

    monkeypatch.setattr(whole.picture, "decode", counting)
    return asked


def test_only_what_is_new_or_has_changed_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, (20, 30), (20, 31), (20, 32))
    before = read(root)
    asked = counted(monkeypatch)
    assert read(root).digest() == before.digest()
    assert asked == []
    draw(root, (24, 24), start=3)
    smooth(9, 9).save(root / "001.png")
    after = read(root)
    assert sorted(asked) == ["001.png", "003.png"]
    assert after.digest() != before.digest()


def test_what_was_read_is_kept_however_the_reading_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, *[(20, 30)] * 4, (20, 31))
    monkeypatch.setattr(store, "PICTURES_IN_PART", 2)
    encode = whole.encode

    def fails(seen: Any, content: Any, most: int) -> Any:
        if seen.image.width == 31:
            raise MachineError("cannot read it: the disk fails; try again")
        return encode(seen, content, most)

    monkeypatch.setattr(whole, "encode", fails)
    with pytest.raises(MachineError, match="the disk fails"):
        read(root)
    assert len(parts(root)) == 2
    monkeypatch.setattr(whole, "encode", encode)
    asked = counted(monkeypatch)
    assert len(read(root)) == 5
    assert asked == ["004.png"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_damaged_part_is_read_again(
    root: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    draw(root, *[(20, 30)] * 4, (20, 31))
    monkeypatch.setattr(store, "PICTURES_IN_PART", 2)
    digest = read(root).digest()
    data = parts(root)[1].read_bytes()
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema({"x": pa.int32()})) as writer:
        writer.write_batch(pa.record_batch({"x": pa.array([1], pa.int32())}))
    other = sink.getvalue().to_pybytes()
    parts(root)[1].write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"text", "other": other}[damage])
    asked = counted(monkeypatch)
    assert read(root).digest() == digest
    assert len(asked) == 2
    assert "is damaged" in caplog.text
    assert read(root).digest() == digest


@pytest.mark.parametrize("shapes", [[(20, 30), (20, 31)], [(20, 30), (20, 30)]], ids=["different", "one"])
def test_another_process_begins_with_what_is_kept(root: Path, shapes: list[tuple[int, int]]) -> None:
    """It opens no picture of the folder, and has yet to load what decodes the kept ones."""
    draw(root, *shapes)
    first = read(root)
    shutil.rmtree(next((root.parent / "cache").glob("whole-*"), root.parent / "nothing"), ignore_errors=True)
    code = (
        "import sys; from pathlib import Path; from vergence.config import Folder; from vergence.data import load\n"
        "images = load(Folder(root=sys.argv[1], size=16), 'pretrain', cache_dir=sys.argv[2])\n"
        "print(images.digest(), int(images.pixels[1].sum()))"
    )
    command = [sys.executable, "-c", code, str(root), str(root.parent / "cache")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert said.split() == [first.digest(), str(int(first.pixels[1].sum()))]


def test_a_part_that_cannot_be_read_is_not_taken_for_damaged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, (20, 30), (20, 31))
    digest = read(root).digest()

    def fails(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.memory_map", fails)
        with pytest.raises(MachineError, match=r"cannot read the cache .*Too many open files; try again"):
            read(root)
    assert len(parts(root)) == 1
    assert read(root).digest() == digest


def test_a_picture_that_was_bad_is_tried_again(root: Path) -> None:
    draw(root, *[(20, 30)] * 20)
    good = (root / "007.png").read_bytes()
    status = (root / "007.png").stat()
    (root / "007.png").write_bytes(bytes(len(good)))
    with pytest.warns(UserWarning, match="1 pictures that cannot be used"):
        assert len(read(root, bad_images="skip")) == 19
    (root / "007.png").write_bytes(good)
    os.utime(root / "007.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(read(root)) == 20


def test_a_kept_picture_that_is_damaged_is_one_line(root: Path) -> None:
    draw(root, (20, 30), (20, 31))
    images = read(root)
    with parts(root)[0].open("r+b") as file:
        data = file.read()
        for start in range(len(data)):
            if data[start : start + 4] == b"IDAT":
                file.seek(start + 8)
                file.write(bytes(16))
    with pytest.raises(MachineError, match=r"the cache .* is damaged .*; remove it, and start again") as error:
        images.pixels[0]
    assert "\n" not in str(error.value)


# --- what does not change a bit ---------------------------------------------------------------------------------------


def test_free_memory_changes_no_bit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, (100, 130), (300, 200), (90, 90), suffix="jpg")
    made = []
    for share in (1.0, 0.0):
        monkeypatch.setattr(whole, "HELD", share)
        images = read(root, keep=300)
        assert isinstance(images.pixels, Ragged)
        assert images.pixels.held is (share > 0)
        for _ in range(2):
            made.append(two_views(images.pixels, images.size, Views(size=16), generator(0, "views", 1)))
    assert all(torch.equal(one, made[0]) for one in made)


def test_pixels_of_a_kind_are_the_same_run_in_any_file(root: Path) -> None:
    """The digest is that of the pixels: a PNG and a TIFF of one picture are one picture."""
    draw(root, (20, 30), (21, 30))
    digest = read(root).digest()
    for path in [*root.iterdir()]:
        with Image.open(path) as image:
            image.save(path.with_suffix(".tif"))
        path.unlink()
    assert read(root).digest() == digest
    images = read(root)
    assert replace(images, labels=torch.tensor([0, 1])).digest() != digest


def test_taken_pictures_keep_their_digests(root: Path) -> None:
    draw(root, (20, 30), (21, 30), (22, 30))
    images = read(root)
    taken = images.take(torch.tensor([2, 0]))
    assert taken.keys == [images.keys[2], images.keys[0]]
    assert np.array_equal(pixels(taken, 0), pixels(images, 2))


def test_detail_is_that_of_the_whole_picture(root: Path) -> None:
    """Crops of a photograph that is kept at twice the view have the detail of crops of the photograph: within 3%."""
    from torchvision.transforms import v2 as tv

    from vergence.augment import Boxes, draw
    from vergence.config import View

    root.mkdir()
    image = np.zeros((3, 900, 1200))
    for h, w in ((6, 8), (24, 32), (96, 128)):
        for band in image:
            small = Image.fromarray(RANDOM.normal(0, 1, (h, w)).astype(np.float32))
            band += np.asarray(small.resize((1200, 900), Image.Resampling.BICUBIC))
    photo = Image.fromarray(np.clip(128 + 25 * image, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    photo.save(root / "0.png")
    photo.rotate(90, expand=True).save(root / "1.png")
    images = read(root, size=96)
    assert isinstance(images.pixels, Ragged)
    original = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    n = 40
    full = draw(View(), n, torch.tensor([[900, 1200]] * n), generator(0, "views", 1))
    ours = draw(View(), n, images.pixels.shapes[:1].expand(n, 2), generator(0, "views", 1))
    crops = images.pixels[torch.zeros(n, dtype=torch.int64)].start_cutting([Boxes(*ours[:4])], [96])()[0]
    theirs = torch.stack(
        [
            tv.functional.resized_crop(original, *box, [96, 96], antialias=True)
            for box in torch.stack([*full[:4]], 1).tolist()
        ]
    )

    def detail(x: torch.Tensor) -> float:
        x = x.float()
        return float((x[..., 1:] - x[..., :-1]).abs().mean() + (x[..., 1:, :] - x[..., :-1, :]).abs().mean())

    assert abs(detail(crops) / detail(theirs) - 1) < 0.03


def test_an_empty_buffer_is_no_picture() -> None:
    with pytest.raises(BadPicture):
        whole._pixels(io.BytesIO(b"").getvalue())


def test_bad_pictures_fail_without_losing_the_good_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, (20, 30), (20, 31))
    (root / "002.png").write_bytes(b"text")
    with pytest.raises(InputError, match="1 of 3 pictures cannot be used"):
        read(root)
    asked = counted(monkeypatch)
    (root / "002.png").unlink()
    assert len(read(root)) == 2
    assert asked == []
