"""Copies and parts of pictures are found, other pictures are not; where a part is, is found to a pixel."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from data_files import photo, pixels_of
from vergence.augment import Ragged
from vergence.data import alike, crops
from vergence.data.copies import AGREEING, KINDS, copies

REPEATED = ("b59e4d4a-a283-4868-8a81-2f24d8b9c8d8", "6075b4a5-5b1a-4ce0-aea0-9dbfbca7c35c")
"""Photos of that data set that are there again: one as a part of another, one a second time."""


def again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def cut(image: Image.Image, share: float, chance: random.Random) -> Image.Image:
    width, height = (round(side * share) for side in image.size)
    x, y = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def changed(images: list[Image.Image], count: int, chance: random.Random) -> list[Image.Image]:
    """Return copies of the first pictures: saved again, cut, brightened, resized, in turn."""
    ways = (
        lambda image: again(image, 40),
        lambda image: cut(image, 0.8, chance),
        lambda image: ImageEnhance.Brightness(image).enhance(1.3),
        lambda image: again(image.resize((image.width // 2, image.height // 2)), 90),
    )
    return [ways[index % 4](images[index]) for index in range(count)]


def ragged(images: list[Image.Image]) -> Ragged:
    pixels = [pixels_of(image) for image in images]
    return Ragged(lambda index, factor: pixels[index], torch.tensor([one.shape[1:] for one in pixels]))


def found_in(images: list[Image.Image], **given: float) -> dict[tuple[int, int], str]:
    none = torch.empty(0, 2, dtype=torch.int64)
    found = copies(ragged(images), [image.tobytes() for image in images], none, **given)
    assert (found.agreement >= given.get("threshold", AGREEING)).all()
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return dict(zip(pairs, (KINDS[kind] for kind in found.kind.tolist()), strict=True))


def test_copies_and_parts_are_found_and_nothing_else() -> None:
    originals = [photo(seed) for seed in range(30)]
    found = found_in([*originals, *changed(originals, 8, random.Random(0)), originals[9]])
    assert {*found} == {*((i, 30 + i) for i in range(8)), (9, 38)}
    assert found[9, 38] == "equal pixels"
    assert [found[i, 30 + i] for i in range(4)] == ["copy", "second is part of first", "copy", "copy"]


def test_which_one_is_the_part_is_told() -> None:
    assert found_in([cut(photo(0), 0.7, random.Random(1)), photo(0)]) == {(0, 1): "first is part of second"}


def test_a_part_is_placed_to_a_pixel() -> None:
    whole, (x, y, width, height) = photo(3), (20, 10, 90, 70)
    images = [whole.crop((x, y, x + width, y + height)), whole]
    small = alike.thumbnails(ragged(images), crops.SIDE)
    placed = crops.place(small, torch.tensor([[0, 1]]))
    middle = [2 * (y + height / 2) / 96 - 1, 2 * (x + width / 2) / 128 - 1]
    expected = torch.tensor([*middle, height / 96, width / 128])
    assert (placed.box[0] - expected).abs().max() < 2 / 96
    assert placed.agreement[0] > 0.95


def test_what_is_equal_counts_though_it_shows_nothing() -> None:
    flat = [Image.new("RGB", (64, 64), (9, 9, level)) for level in (0, 1, 0)]
    assert found_in(flat) == {(0, 2): "equal pixels"}


def test_no_pictures_and_few_pictures() -> None:
    assert found_in([photo(0)]) == {}
    assert found_in([photo(0), photo(1)]) == {}


def test_windows_are_described_by_their_cells() -> None:
    small = alike.thumbnails(ragged([photo(0)]), crops.SIDE)
    found = crops.described(small)[0]
    for number, (y, x, height, width) in list(enumerate(crops.windows().tolist()))[::7]:
        top, left = (64 * (middle + 1 - side) / 2 for middle, side in ((y, height), (x, width)))
        cells = np.zeros((3, 6, 6))
        for i in range(6):
            for j in range(6):
                rows, columns = (
                    np.clip(np.minimum(end, np.arange(1, 65)) - np.maximum(start, np.arange(64)), 0, None)
                    for start, end in (
                        (top + i * 64 * height / 6, top + (i + 1) * 64 * height / 6),
                        (left + j * 64 * width / 6, left + (j + 1) * 64 * width / 6),
                    )
                )
                cells[:, i, j] = np.einsum("chw,h,w->c", small[0].numpy(), rows, columns)
        cells /= (64 * height / 6) * (64 * width / 6)
        cells -= cells.mean((1, 2), keepdims=True)
        np.testing.assert_allclose(found[number], cells.ravel() / np.linalg.norm(cells), atol=1e-4)


@pytest.mark.real
@pytest.mark.slow
def test_ten_planted_copies_among_a_thousand_photos(real_data: Path) -> None:
    """No embedding has a part in it: this is the worst encoder."""
    chance = random.Random(0)
    files = sorted((real_data / "clothing96").glob("*/*/*.jpg"))
    chosen = [file for file in chance.sample(files, 1000) if file.stem not in REPEATED][:990]
    originals = [Image.open(file).convert("RGB") for file in chosen]
    found = found_in([*originals, *changed(originals, 10, chance)])
    assert {*found} == {(i, 990 + i) for i in range(10)}
