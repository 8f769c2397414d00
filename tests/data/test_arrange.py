"""Folders that are splits in any spelling, pictures without labels beside others, and classes too small to hold out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vergence.config import Folder
from vergence.data import Images, Split, load
from vergence.data.arrange import HELD_OUT
from vergence.errors import InputError

_RANDOM = np.random.default_rng(0)


def draw(root: Path, counts: dict[str, int]) -> None:
    """So many pictures in each folder, each of its own."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(_RANDOM.integers(0, 256, (10, 10, 3), np.uint8)).save(root / name / f"{i:03}.png")


def read(root: Path, split: Split = "pretrain") -> Images:
    return load(Folder(root=str(root), size=10), split, cache_dir=root.parent / "cache")


def tops(images: Images) -> dict[str, int]:
    """How many pictures come from each folder of the root."""
    assert images.names is not None
    assert len(images.names) == len(images)
    found = [name.split("/")[0] for name in images.names]
    return {top: found.count(top) for top in found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("Train", "Test"), ("TRAIN", "TEST"), ("training", "testing"), ("Training", "Validation"), ("train", "Val")),
        *(("train", "valid"), ("train", "eval"), ("train", "Evaluation"), ("train", "dev"), ("train_set", "test-set")),
        *(("trainset", "testset"), ("Training Set", "Validation.set")),
    ],
)
def test_splits_are_read_in_any_spelling(root: Path, train: str, test: str) -> None:
    draw(root, {f"{train}/a": 4, f"{train}/b": 3, f"{test}/a": 2, f"{test}/b": 2})
    for split in ("pretrain", "train"):
        assert tops(read(root, split)) == {train: 7}
    scored = read(root, "test")
    assert tops(scored) == {test: 4}
    assert scored.classes == ("a", "b")
    assert scored.facts["test"] == f"{test}/"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"Train": 1, "boat": 1}, r"is Train/ a split or a class like boat/\?"),
        ({"train/a": 1, "Train/a": 1, "test/a": 1}, r"Train/, train/ have the same meaning; keep one of them"),
        ({"train/a": 1, "training/a": 1, "test/a": 1}, r"train/, training/ are both folders of training pictures"),
        ({"train/a": 1, "test/a": 1, "Test set/a": 1}, r"Test set/, test/ have the same meaning"),
        ({"Testing": 1, "cats": 1}, r"has Testing/ but no train/ beside it; .* rename this one if it is a class"),
        ({"valid/a": 1}, "has valid/ but no train/"),
        ({"unlabelled": 1, "cat": 1, "dog": 1}, r"is unlabelled/ a class like cat/, dog/\? .* into train/"),
        ({"unsup": 1, "": 1}, r"is unsup/ a class like the pictures beside it\?"),
        (
            {"set/Train/a": 1, "set/val/a": 1},
            r"all pictures lie in set/, which has a folder Train/; give .*pictures/set$",
        ),
    ],
)
def test_names_of_splits_are_never_classes(root: Path, tree: dict[str, int], message: str) -> None:
    draw(root, tree)
    with pytest.raises(InputError, match=message):
        read(root)


@pytest.mark.parametrize("names", [("Trains", "tested"), ("retrain", "contest"), ("developed", "value")])
def test_names_that_only_hold_such_a_word_are_classes(root: Path, names: tuple[str, str]) -> None:
    draw(root, dict.fromkeys(names, 5))
    assert read(root).classes == tuple(sorted(names))


def test_what_is_scored_on_and_what_is_not_used_is_said(root: Path) -> None:
    draw(root, {"train/a": 3, "val/a": 2, "test/a": 4, "sketches": 5})
    Image.fromarray(_RANDOM.integers(0, 256, (10, 10, 3), np.uint8)).save(root / "cover.png")
    said = (
        r"scored on test/; not used: 1 pictures in \./, 5 pictures in sketches/, 2 pictures in val/; to train on them"
    )
    with pytest.warns(UserWarning, match=said):
        images = read(root, "test")
    assert tops(images) == {"test": 4}
    assert images.facts["unused"] == {"./": 1, "sketches/": 5, "val/": 2}


# --- pictures without labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "Unlabeled", "unsup", "extra"])
def test_views_are_cut_from_unlabelled_pictures_too(root: Path, name: str) -> None:
    draw(root, {"train/a": 3, "train/b": 2, "test/a": 2, f"{name}/deep": 6})
    pretrain, train, test = read(root, "pretrain"), read(root, "train"), read(root, "test")
    assert tops(pretrain) == {"train": 5, name: 6}
    assert pretrain.labels is None
    assert (tops(train), tops(test)) == ({"train": 5}, {"test": 2})
    assert train.labels is not None
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(pretrain.pixels[:5], train.pixels)
    assert pretrain.facts["pictures"] == {"pretrain": 11, "train": 5, "test": 2}
    digests = train.digest(), test.digest()
    shutil.rmtree(root / name)
    assert (read(root, "train").digest(), read(root, "test").digest()) == digests


def test_unlabelled_pictures_beside_train_without_test(root: Path) -> None:
    draw(root, {"train/a": 5, "train/b": 5, "unlabelled": 4})
    assert tops(read(root)) == {"train": 8, "unlabelled": 4}
    test = read(root, "test")
    assert (tops(test), test.facts["test"]) == ({"train": 2}, HELD_OUT)
    shutil.rmtree(root / "train")
    draw(root, {"train": 3})
    for split in ("pretrain", "train", "test"):  # nothing is labelled: nothing is held out
        assert tops(read(root, split)) == {"train": 3, "unlabelled": 4}


def test_unlabelled_pictures_alone(root: Path) -> None:
    draw(root, {"unlabelled/x": 3, "extra": 2})
    images = read(root)
    assert (len(images), images.labels, images.classes) == (5, None, ())


# --- classes too small to hold out ------------------------------------------------------------------------------------


def test_where_no_class_has_three_pictures_all_are_trained_on(root: Path) -> None:
    draw(root, {f"patient {i}": 2 for i in range(6)})
    said = "no class has three pictures, .*: all 12 are trained on, and nothing is scored; add a folder test/ to score"
    with pytest.warns(UserWarning, match=said) as caught:
        pretrain, train, test = (read(root, split) for split in ("pretrain", "train", "test"))
    assert len({str(warning.message) for warning in caught}) == 1
    assert len(pretrain) == len(train) == 12
    assert train.labels is not None
    assert test.labels is None
    assert train.facts["pictures"] == {"pretrain": 12, "train": 12, "test": 0}
    assert train.facts["test"] is None


def test_a_class_of_two_is_trained_on_beside_others(root: Path) -> None:
    draw(root, {"a": 5, "b": 2})
    assert [len(read(root, split)) for split in ("pretrain", "train", "test")] == [6, 6, 1]


# --- what is found instead --------------------------------------------------------------------------------------------


def test_what_was_found_instead_of_pictures_is_named(root: Path) -> None:
    for name in ("a/1.cr2", "a/2.CR2", "a/3.txt", "b/README", "b/.hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    found = r"found 2 folders, 4 other files \(2 .cr2, 1 .txt, 1 without a suffix\), 0 that cannot be read; expected"
    with pytest.raises(InputError, match=found):
        read(root)
    draw(root, {"c": 3})
    (root / "d").mkdir()
    holds = r"a \(holds 2 .cr2, 1 .txt\), b \(holds 1 without a suffix\), d \(holds nothing\)"
    with pytest.raises(InputError, match=f"class folders without a picture: {holds}"):
        read(root)
