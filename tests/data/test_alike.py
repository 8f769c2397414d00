"""Copies are found, pictures that merely look similar are not; the search goes through every pair."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import COPIES, photo, pixels_of, small_of
from vergence.augment import Ragged
from vergence.data import alike


def near(images: list[Image.Image]) -> set[tuple[int, int]]:
    found = alike.near_pairs(*small_of(images))
    assert found.complete
    return {*zip(found.first.tolist(), found.second.tolist(), strict=True)}


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_is_found_and_nothing_else(change: str) -> None:
    originals = [photo(seed) for seed in range(30)]
    copies = [COPIES[change](image) for image in originals[:10]]
    assert near([*originals, *copies]) == {(i, 30 + i) for i in range(10)}


def test_a_picture_with_another_thing_in_its_middle_is_no_copy() -> None:
    other = photo(0)
    other.paste(photo(1, 48, 36), (40, 30))
    assert near([photo(0), other]) == set()


def test_flat_and_tiny_pictures_are_in_no_pair() -> None:
    chance = np.random.default_rng(0)
    noise = [Image.fromarray(chance.integers(120, 124, (64, 64, 3), np.uint8)) for _ in range(4)]
    flat = [Image.new("RGB", (64, 64), (9, 9, level)) for level in (0, 1)]
    tiny = [photo(0).resize((side, side)) for side in (8, 8, 15, 15)]
    assert near([*noise, *noise, *flat, *tiny]) == set()
    assert near([photo(0).resize((16, 16))] * 2) == {(0, 1)}
    assert not alike.has_detail(small_of([*noise, *flat])[0]).any()


def slow_hash(small: np.ndarray) -> np.ndarray:
    """The hash of one thumbnail [3 32 32], as its definition is written."""
    gray = 0.299 * small[0] + 0.587 * small[1] + 0.114 * small[2]
    found = np.zeros((8, 8))
    for k in range(1, 9):
        for m in range(1, 9):
            for y in range(32):
                for x in range(32):
                    found[k - 1, m - 1] += (
                        gray[y, x] * np.cos(np.pi * k * (2 * y + 1) / 64) * np.cos(np.pi * m * (2 * x + 1) / 64)
                    )
    ordered = np.sort(found.flatten())
    return found.flatten() > ordered[31]  # torch's median is the lower of the two in the middle


def test_hashes_are_as_defined() -> None:
    small, _ = small_of([photo(seed) for seed in range(2)])
    for fast, one in zip(alike.hashes(small), small.numpy().astype(float), strict=True):
        assert (fast.numpy() == slow_hash(one)).all()
        assert fast.sum() == 32


def test_whole_pictures_of_different_shapes_have_the_thumbnails_of_tensors() -> None:
    images = [photo(0), photo(1, 70, 90), photo(2, 400, 300)]
    of = [pixels_of(image) for image in images]
    ragged = Ragged(lambda index, factor: of[index], torch.tensor([one.shape[1:] for one in of]))
    assert torch.equal(alike.thumbnails(ragged), small_of(images)[0])
    assert alike.thumbnails(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("distance", [0, 3, 22])
def test_every_pair_within_a_distance_is_found(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_BLOCK", 7)
    monkeypatch.setattr(alike, "_TILE", 11)
    hashed = torch.rand(60, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    hashed[50:] = hashed[:10]
    hashed[55:, :3] ^= True
    found = alike.pairs_within(hashed, distance)
    expected = {(i, j) for i in range(60) for j in range(i + 1, 60) if int((hashed[i] != hashed[j]).sum()) <= distance}
    assert found.complete
    assert {*zip(found.first.tolist(), found.second.tolist(), strict=True)} == expected
    assert len(expected) >= (5 if distance == 0 else 10)


def test_a_search_with_too_many_pairs_says_that_it_ended() -> None:
    found = alike.pairs_within(torch.zeros(600, 64, dtype=torch.bool), most=100)
    assert (len(found.first), found.complete) == (100, False)


def test_groups_join_what_pairs_join() -> None:
    assert alike.groups_of([(4, 9), (1, 2), (9, 3), (7, 8), (2, 1)]) == [[1, 2], [3, 4, 9], [7, 8]]
    assert alike.groups_of([]) == []
    assert alike.equal_groups([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]
