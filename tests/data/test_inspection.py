"""What is found in pictures before a run: what was planted there, and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageEnhance

from data_files import photo
from vergence import config
from vergence.data import Inspection, Split, inspect, inspection, load
from vergence.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with published splits, of photos that are all different."""
    root = tmp_path / "pictures"
    seed = 0
    for split, count in (("train", 8), ("test", 3)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                photo(seed, 100 + 10 * i).save(root / split / name / f"{i}.png")
                seed += 1
    return root


def looked(root: Path, **options: Any) -> Inspection:
    return inspect(config.Folder(root=str(root), **options), cache_dir=root.parent / "cache")


def named(found: Inspection, groups: Any) -> list[list[str]]:
    return [[found.name(index) for index in group] for group in groups]


def test_a_clean_folder_has_nothing_to_tell(root: Path) -> None:
    found = looked(root)
    assert (found.one_colour, found.repeated, found.near, found.leaks, found.limits) == ((), (), (), (), ())
    survey = found.survey
    assert (survey.bad, survey.refused, survey.unscored, survey.remarks) == ((), None, None, ())
    assert survey.test is not None
    assert (len(survey.pretrain), len(survey.train), len(survey.test)) == (16, 16, 6)
    assert (survey.suffixes, survey.sides) == ({".png": 22}, {96: 22})
    assert found.pixels(0).shape == (3, 96, 100)
    assert found.name(16) == "test/cat/0.png"


def test_it_finds_what_a_run_finds(root: Path) -> None:
    survey = looked(root).survey
    splits: tuple[Split, ...] = ("pretrain", "train", "test")
    for split, images in zip(splits, (survey.pretrain, survey.train, survey.test), strict=True):
        loaded = load(config.Folder(root=str(root)), split, cache_dir=root.parent / "cache")
        assert images is not None
        assert (images.names, images.classes, images.digest()) == (loaded.names, loaded.classes, loaded.digest())
        assert survey.facts == loaded.facts


def test_planted_copies_leaks_and_flat_pictures_are_found(root: Path) -> None:
    cats = root / "train" / "cat"
    shutil.copy(cats / "1.png", cats / "again.png")
    shutil.copy(cats / "1.png", root / "test" / "cat" / "same.png")
    original = Image.open(root / "train" / "dog" / "2.png")
    original.save(root / "test" / "dog" / "encoded.jpg", quality=50)
    brighter = ImageEnhance.Brightness(Image.open(root / "train" / "dog" / "5.png")).enhance(1.2)
    brighter.resize((75, 48)).save(root / "train" / "dog" / "brighter.png")
    Image.new("RGB", (40, 40), (1, 2, 3)).save(cats / "flat.png")
    found = looked(root)
    assert named(found, found.repeated) == [["train/cat/1.png", "train/cat/again.png", "test/cat/same.png"]]
    assert named(found, found.near) == [
        ["train/dog/2.png", "test/dog/encoded.jpg"],
        ["train/dog/5.png", "train/dog/brighter.png"],
    ]
    leaks = [(found.name(leak.test), found.name(leak.train), leak.exact) for leak in found.leaks]
    assert leaks == [
        ("test/cat/same.png", "train/cat/1.png", True),
        ("test/dog/encoded.jpg", "train/dog/2.png", False),
    ]
    assert [found.name(index) for index in found.one_colour] == ["train/cat/flat.png"]


def test_every_copy_of_a_test_picture_leaks_with_it(root: Path) -> None:
    held_out = root / "test" / "cat"
    Image.open(root / "train" / "cat" / "1.png").save(held_out / "a.jpg", quality=60)
    shutil.copy(held_out / "a.jpg", held_out / "b.jpg")
    found = looked(root)
    leaks = [(found.name(leak.test), found.name(leak.train), leak.exact) for leak in found.leaks]
    assert leaks == [(f"test/cat/{name}.jpg", "train/cat/1.png", False) for name in "ab"]


@pytest.mark.parametrize("options", [{}, {"bad_images": "skip"}, {"crops": "square", "size": 32}])
def test_bad_pictures_are_named_and_do_not_end_it(root: Path, options: dict[str, Any]) -> None:
    dogs = root / "train" / "dog"
    (dogs / "cut.png").write_bytes((dogs / "0.png").read_bytes()[:400])
    (dogs / "text.jpg").write_text("no picture")
    found = looked(root, **options)
    assert {bad.name for bad in found.survey.bad} == {"train/dog/cut.png", "train/dog/text.jpg"}
    assert all(bad.reason for bad in found.survey.bad)
    assert len(found.survey.pretrain) == 16
    if options.get("bad_images") == "skip":
        assert found.survey.refused is None
        return
    with pytest.raises(InputError) as refused:  # also after they were looked at
        load(config.Folder(root=str(root), **options), "train", cache_dir=root.parent / "cache")
    assert found.survey.refused == str(refused.value)


def test_a_class_without_a_readable_picture_is_a_reason_to_refuse(root: Path) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.write_text("no picture")
    refused = looked(root, bad_images="skip").survey.refused
    assert refused is not None
    assert "8 of 22 pictures cannot be used, more than the 10% that may be skipped" in refused


def test_without_a_readable_test_picture_nothing_is_scored(root: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        path.write_text("no picture")
    found = looked(root)
    assert found.survey.test is None
    assert found.survey.unscored == found.survey.refused
    assert (len(found.survey.pretrain), len(found.survey.bad)) == (16, 6)


def test_without_any_readable_picture_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_text("no picture")
    with pytest.raises(InputError, match="none of the 1 pictures can be used"):
        looked(tmp_path / "p")


def test_without_labels_nothing_is_held_out(root: Path) -> None:
    survey = looked(root, labels="none").survey
    assert survey.test is None
    assert survey.unscored == "these pictures have no labels"


def test_of_many_pictures_some_are_compared_and_it_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MOST_COMPARED", 12)
    shutil.copy(root / "train" / "cat" / "1.png", root / "test" / "cat" / "same.png")
    found = looked(root)
    assert found.limits == ("12 of the 23 pictures, chosen at random, were compared with each other",)
    assert len(found.leaks) == 1  # equal pictures are found among all


def test_a_data_set_by_its_name() -> None:
    found = inspect(config.Digits())
    assert (found.survey.where, found.near, found.leaks) == ("digits", (), ())
    assert found.limits == ("1,797 pictures with a side of less than 16 px were compared pixel by pixel only",)
    assert found.name(0) == "training picture 0"
    assert found.name(1438) == "test picture 0"
    assert torch.equal(found.pixels(1438), load(config.Digits(), "test").pixels[0])


def test_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no data folder"):
        inspect(config.Folder(root="p"), data_dir=tmp_path / "nowhere")
