"""The loaders on real pictures."""

from pathlib import Path

import pytest
from PIL import Image

from data_files import COPIES, small_of
from vergence.config import CIFAR10, Folder
from vergence.data import load
from vergence.data.alike import near_pairs
from vergence.data.arrange import arrange
from vergence.data.scan import scan


@pytest.mark.real
def test_cifar_test_pictures(real_data: Path, tmp_path: Path) -> None:
    images = load(CIFAR10(), "test", data_dir=real_data, cache_dir=tmp_path)
    assert images.pixels.shape == (10_000, 3, 32, 32)
    assert images.labels is not None
    assert images.labels.bincount().tolist() == [1000] * 10
    means = images.pixels.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.494, 0.485, 0.450], abs=0.002)


@pytest.mark.real
@pytest.mark.slow
def test_cifar_training_pictures(real_data: Path, tmp_path: Path) -> None:
    images = load(CIFAR10(), "pretrain", data_dir=real_data, cache_dir=tmp_path)
    assert images.pixels.shape == (50_000, 3, 32, 32)
    assert images.labels is not None
    assert images.labels.bincount().tolist() == [5000] * 10
    means = images.pixels.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.0005)


@pytest.mark.real
@pytest.mark.slow
def test_cifar_held_out_pictures(real_data: Path, tmp_path: Path) -> None:
    config = CIFAR10(scored_on="held-out")
    rest, held = (load(config, split, data_dir=real_data, cache_dir=tmp_path) for split in ("train", "test"))
    assert rest.labels is not None
    assert held.labels is not None
    assert rest.labels.bincount().tolist() == [4500] * 10
    assert held.labels.bincount().tolist() == [500] * 10
    assert [entry.name for entry in tmp_path.glob("cifar10-test-*")] == []


@pytest.mark.real
def test_clothing_scan(real_data: Path) -> None:
    root = real_data / "clothing96"
    found = scan(root)
    assert len(found.found) == 3781
    assert (found.bad, found.doubles, found.others) == ((), 0, ("LICENSE",))
    assert {path for path in found.folders if "/" not in path} == {"train", "validation", "test"}
    arranged = arrange(found, root)
    assert len(arranged.classes) == 10
    assert (len(arranged.train), len(arranged.test)) == (3068, 372)


@pytest.mark.real
@pytest.mark.slow
def test_clothing(real_data: Path, tmp_path: Path) -> None:
    config = Folder(root="clothing96")
    with pytest.warns(UserWarning, match="not used: 341 pictures in validation/"):
        train, test = (load(config, split, data_dir=real_data, cache_dir=tmp_path) for split in ("pretrain", "test"))
    assert train.pixels.shape == (3068, 3, 96, 96)
    assert test.pixels.shape == (372, 3, 96, 96)
    assert train.classes == test.classes
    assert train.labels is not None
    assert train.labels.unique().tolist() == list(range(10))


@pytest.mark.real
def test_among_real_photos_copies_are_found_and_nothing_else(real_data: Path) -> None:
    paths = sorted((real_data / "clothing96" / "test").rglob("*.jpg"))
    photos = [Image.open(path).convert("RGB") for path in paths]
    copies = [COPIES[change](photo) for change, photo in zip([*COPIES] * 10, photos, strict=False)]
    found = near_pairs(*small_of([*photos, *copies]))
    pairs = {*zip(found.first.tolist(), found.second.tolist(), strict=True)}
    true = {(i, len(photos) + i) for i in range(len(copies))}
    assert pairs <= true
    assert len(true - pairs) <= 1  # values that are cut off at 255 may move a hash
