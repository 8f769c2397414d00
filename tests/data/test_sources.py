"""One door for pictures of every kind: folders, lists, tables, arrays, and several of them together."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vergence.augment import Ragged
from vergence.config import Folder
from vergence.data import Images, load
from vergence.errors import InputError

RANDOM = np.random.default_rng(0)


def draw(folder: Path, count: int, start: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{start + i:03}.png" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(RANDOM.integers(0, 256, (20 + i % 3, 24, 3), np.uint8)).save(folder / name)
    return names


def write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def read(*places: Path, split: Any = "pretrain", **settings: Any) -> Images:
    first, *more = map(str, places)
    config = Folder(root=first, more=tuple(more), size=16, **settings)
    return load(config, split, cache_dir=places[0].parent / "cache")


def labels(images: Images) -> list[str]:
    assert images.labels is not None
    return [images.classes[label] for label in images.labels.tolist()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_list_with_labels_and_splits(root: Path) -> None:
    names = draw(root, 12)
    rows = [
        (name, ("cat", "dog")[i % 2], ("Train", "val", "Test_set", "unlabeled")[i % 4]) for i, name in enumerate(names)
    ]
    path = write(root / "list.csv", [("path", "label", "split"), *rows])
    with pytest.warns(UserWarning, match="scored on split Test_set; not used: 3 pictures in split val"):
        train, test, pretrain = (read(path, split=split) for split in ("train", "test", "pretrain"))
    assert train.names == ("000.png", "004.png", "008.png")
    assert test.names == ("002.png", "006.png", "010.png")
    assert pretrain.names == ("000.png", "004.png", "008.png", "003.png", "007.png", "011.png")
    assert (labels(train), labels(test)) == (["cat"] * 3, ["cat"] * 3)
    assert pretrain.labels is None
    for index, name in enumerate(test.names or ()):
        with Image.open(root / name) as image:
            assert np.array_equal(test.pixels[index].permute(1, 2, 0).numpy(), np.asarray(image))


def test_a_list_without_splits_holds_a_fifth_of_each_class_out(root: Path) -> None:
    rows = [(name, i % 2) for i, name in enumerate(draw(root, 20))]
    path = write(root / "list.csv", [("file", "class"), *rows])
    train, test = read(path), read(path, split="test")
    assert (len(train), len(test)) == (16, 4)
    assert sorted(labels(test)) == ["0", "0", "1", "1"]
    assert not {*(train.names or ())} & {*(test.names or ())}


def test_a_list_of_paths_alone_has_no_labels(root: Path) -> None:
    path = root / "list.txt"
    names = draw(root / "deep", 5)
    path.write_text("\n".join(f"deep/{name}" for name in reversed(names)))
    images = read(path)
    assert images.labels is None
    assert images.names == tuple(f"deep/{name}" for name in reversed(names))
    assert len(read(path, split="test")) == 5


def test_pictures_without_a_label_are_trained_on_and_not_scored(root: Path) -> None:
    rows = [(name, "" if i < 5 else "ab"[i % 2]) for i, name in enumerate(draw(root, 25))]
    path = write(root / "list.csv", [("path", "label"), *rows])
    assert [len(read(path, split=split)) for split in ("pretrain", "train", "test")] == [21, 16, 4]


def test_numbers_of_classes_are_sorted_as_numbers(root: Path) -> None:
    rows = [(name, (2, 10, 1)[i % 3]) for i, name in enumerate(draw(root, 15))]
    assert read(write(root / "list.csv", [("path", "label"), *rows])).classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", "train"), ("b", "fold-3")],
            r"splits of unknown names: 'fold-3' \(10 pictures\); call them train, test",
        ),
        ([("a", "train"), ("b", "test")], "test has classes that the training pictures have not: b"),
    ],
)
def test_a_list_that_can_be_read_in_two_ways_is_refused(root: Path, rows: list[tuple[str, str]], message: str) -> None:
    table = [(name, *rows[i % 2]) for i, name in enumerate(draw(root, 20))]
    with pytest.raises(InputError, match=message):
        read(write(root / "list.csv", [("path", "label", "split"), *table]))


def test_of_a_list_of_tests_a_fifth_is_held_out_as_of_any_other(root: Path) -> None:
    rows = [(name, "ab"[i % 2], "val") for i, name in enumerate(draw(root, 20))]
    assert len(read(write(root / "list.csv", [("path", "label", "split"), *rows]))) == 16


def test_paths_may_lead_out_where_that_is_said(root: Path, tmp_path: Path) -> None:
    names = draw(root, 4)
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists" / "list.csv", [("path",), *((f"../pictures/{name}",) for name in names)])
    with pytest.raises(InputError, match=r"--data\.outside"):
        read(path)
    assert len(read(path, outside=True)) == 4


# --- labels of a folder -----------------------------------------------------------------------------------------------


def test_a_folders_labels_can_be_left(root: Path) -> None:
    for name in "abc":
        draw(root / name, 5)
    images = read(root, labels="none")
    assert (len(images), images.labels, images.facts["test"]) == (15, None, None)
    assert len(read(root, labels="folders")) == len(read(root)) == 12


def test_a_test_folder_is_never_trained_on(root: Path) -> None:
    draw(root / "train" / "a", 5)
    draw(root / "test" / "a", 3)
    with pytest.warns(UserWarning, match="not used: 3 pictures in test/"):
        assert len(read(root, labels="none")) == 5


def test_a_folder_has_no_columns(root: Path) -> None:
    draw(root / "a", 5)
    with pytest.raises(InputError, match=r"'kind' is a column, and .* a folder; .* choose auto, folders or none"):
        read(root, labels="kind")
    path = write(root / "list.csv", [("path", "label"), ("a/000.png", "x")])
    with pytest.raises(InputError, match="folders is for a folder of pictures; name a column, or none"):
        read(path, labels="folders")


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_an_array_is_its_pictures(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 256, (20, 18, 22, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=values, labels=np.arange(20) % 2)
    train, test = (read(tmp_path / "x.npz", split=split) for split in ("train", "test"))
    assert isinstance(train.pixels, torch.Tensor)
    assert (train.pixels.shape, len(test)) == ((16, 3, 18, 22), 4)
    kept = {tuple(picture.flatten().tolist()) for picture in torch.cat([train.pixels, test.pixels])}  # pyright: ignore
    assert kept == {tuple(picture.transpose(2, 0, 1).flatten().tolist()) for picture in values}


def test_an_array_of_twelve_bits_is_scaled_as_a_folder_is(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 4096, (6, 18, 22)).astype(np.uint16)
    values[0, 0, 0] = 4095
    np.save(tmp_path / "x.npy", values)
    with pytest.warns(UserWarning, match="0 to 4,095 is scaled to 0 to 255"):
        images = read(tmp_path / "x.npy")
    expected = np.round(values * (255 / 4095)).astype(np.uint8)
    assert isinstance(images.pixels, torch.Tensor)
    assert np.array_equal(images.pixels[:, 1].numpy(), expected)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_channels_of_an_array_are_chosen(tmp_path: Path, kind: type, first: bool) -> None:
    values = RANDOM.integers(0, np.iinfo(kind).max, (6, 18, 22, 5), kind, endpoint=True)
    np.save(tmp_path / "x.npy", values.transpose(0, 3, 1, 2) if first else values)
    with pytest.raises(InputError, match=r"expected .* with 1, 3 or 4 channels c; choose of other .* --data.channels"):
        read(tmp_path / "x.npy")
    scale = 255 / np.iinfo(kind).max
    for channels, picked in (("5,1,2", [4, 0, 1]), ("4", [3, 3, 3])):
        images = read(tmp_path / "x.npy", channels=channels, range="full")
        assert isinstance(images.pixels, torch.Tensor)
        expected = np.round(values[..., picked] * scale).astype(np.uint8).transpose(0, 3, 1, 2)
        assert np.array_equal(images.pixels.numpy(), expected)
    with pytest.raises(InputError, match=r"5 bands, and --data.channels asks for band 6"):
        read(tmp_path / "x.npy", channels="6")


def test_how_pictures_are_read_is_in_the_name_of_the_store_where_it_is_not_the_default(root: Path) -> None:
    draw(root, 4)
    default = read(root).facts["cache"]
    others = [{"channels": "3,2,1"}, {"range": "full"}, {"most_pixels": 1 << 27}]
    assert len({default, *(read(root, **settings).facts["cache"] for settings in others)}) == 4
    assert read(root, pages="all", channels="auto", range="auto", most_pixels=1 << 26).facts["cache"] == default


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 7, 20, 3), np.uint8), "20 x 7 pixels, a side of less than 8"),
        (np.zeros((3, 20, 20, 3), np.uint16), "3 bands of 16 bits; 1 is read"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "x.npy")


# --- several places ---------------------------------------------------------------------------------------------------


def test_places_are_added_to_each_other(root: Path, tmp_path: Path) -> None:
    draw(root / "cat", 10)
    draw(root / "dog", 10)
    other = tmp_path / "more" / "pictures"
    draw(other / "dog", 5)
    draw(other / "owl", 5)
    loose = tmp_path / "loose"
    draw(loose, 7)
    train, test, pretrain = (read(root, other, loose, split=split) for split in ("train", "test", "pretrain"))
    assert train.classes == test.classes == ("cat", "dog", "owl")
    assert [len(images) for images in (train, test, pretrain)] == [24, 6, 31]
    assert isinstance(pretrain.pixels, Ragged)
    for images in (train, test, pretrain):
        for index, name in enumerate(images.names or ()):
            place, _, path = name.partition("/")
            folder = {"pictures": root, "pictures (2)": other, "loose": loose}[place]
            with Image.open(folder / path) as image:
                assert np.array_equal(images.pixels[index].permute(1, 2, 0).numpy(), np.asarray(image))
    assert labels(test) == [name.split("/")[1] for name in test.names or ()]


def test_places_of_different_kinds_are_added(root: Path, tmp_path: Path) -> None:
    draw(root / "cat", 10)
    np.savez(tmp_path / "x.npz", images=RANDOM.integers(0, 256, (10, 18, 22, 3), np.uint8), labels=["dog"] * 10)
    images = read(root, tmp_path / "x.npz")
    assert (len(images), images.classes) == (16, ("cat", "dog"))


def test_places_without_labels_have_none_together(root: Path, tmp_path: Path) -> None:
    draw(root, 4)
    draw(tmp_path / "more", 3)
    images = read(root, tmp_path / "more")
    assert (len(images), images.labels) == (7, None)
    assert read(tmp_path / "more", root).digest() != images.digest()


def test_squares_are_of_one_folder(root: Path, tmp_path: Path) -> None:
    draw(root, 4)
    draw(tmp_path / "more", 3)
    with pytest.raises(InputError, match=r"--data\.crops square is for one folder of pictures"):
        read(root, tmp_path / "more", crops="square")
    np.save(tmp_path / "x.npy", np.zeros((3, 20, 20), np.uint8))
    with pytest.raises(InputError, match=r"--data\.crops square is for one folder of pictures"):
        read(tmp_path / "x.npy", crops="square")
