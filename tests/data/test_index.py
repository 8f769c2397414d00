"""The index of many pictures: when it is used, when they are looked at again, and what it leaves as it is."""

import gc
import os
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vergence.config import Folder
from vergence.data import Images, folder, index, load
from vergence.errors import MachineError

RANDOM = np.random.default_rng(0)
COUNT = 24


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST", COUNT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for place in range(COUNT):
        draw(root / f"class-{place % 2}" / f"{place:02}.png", 20 + place)
    return settle(root)


def draw(path: Path, width: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (20, width, 3), np.uint8)).save(path)


def settle(root: Path) -> Path:
    """Make all that lies there old."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


def read(root: Path, split: Any = "pretrain", **settings: Any) -> Images:
    return load(Folder(root=str(root), size=16, **settings), split, cache_dir=root.parent / "cache")


def kept(root: Path) -> list[Path]:
    return [*(root.parent / "cache").glob("pictures-*/index-*.arrow")]


def told(images: Images) -> tuple[Any, ...]:
    return (
        [*(images.names or ())],
        None if images.labels is None else images.labels.tolist(),
        images.classes,
        images.digest(),
        images.keys,
        dict(images.facts),
        [images.pixels[place].tolist() for place in range(len(images))],
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often all pictures have been looked at since it was asked last."""
    count, source_of = [0], folder.source_of

    def counting(*arguments: Any) -> Any:
        count[0] += 1
        return source_of(*arguments)

    def asked() -> int:
        found, count[0] = count[0], 0
        return found

    monkeypatch.setattr(folder, "source_of", counting)
    return asked


@pytest.mark.parametrize("split", ["pretrain", "train", "test"])
def test_a_second_start_finds_the_same_without_a_look(root: Path, split: str, looks: Callable[[], int]) -> None:
    first = told(read(root, split))
    assert (looks(), len(kept(root))) == (1, 1)
    second = read(root, split)
    assert looks() == 0
    assert told(second) == first
    chosen = torch.tensor([2, 0])
    assert told(second.take(chosen))[:2] == tuple([column[2], column[0]] for column in first[:2])


def test_fewer_pictures_are_looked_at_at_every_start(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST", COUNT + 1)
    read(root)
    assert not kept(root)


def add(root: Path) -> None:
    draw(root / "class-0" / "new.png")


def remove(root: Path) -> None:
    (root / "class-0" / "00.png").unlink()


def rename(root: Path) -> None:
    (root / "class-0" / "00.png").rename(root / "class-1" / "00.png")


def replace(root: Path) -> None:
    draw(root.parent / "other.png")
    (root.parent / "other.png").replace(root / "class-0" / "00.png")


def add_a_class(root: Path) -> None:
    for place in range(3):
        draw(root / "class-2" / f"{place}.png")


@pytest.mark.parametrize("change", [add, remove, rename, replace, add_a_class])
def test_what_changes_a_folder_is_noticed(root: Path, change: Callable[[Path], None], looks: Callable[[], int]) -> None:
    before = told(read(root))
    change(root)
    looks()
    after = told(read(root))
    assert looks() == 1
    assert after != before
    read(root)
    assert looks() == 1, "a folder that has just changed is looked at again: its time may be too coarse"


def test_a_change_of_settings_is_another_index(root: Path, looks: Callable[[], int]) -> None:
    assert len(read(root).classes) == 2
    assert read(root, labels="none").labels is None
    assert (looks(), len(kept(root))) == (2, 2)
    assert len(read(root).classes) == 2
    assert looks() == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, flip, empty, Path.unlink])
def test_a_damaged_index_is_made_anew(root: Path, damage: Callable[[Path], None], looks: Callable[[], int]) -> None:
    first = told(read(root))
    damage(kept(root)[0])
    looks()
    assert told(read(root)) == first
    assert looks() == 1
    assert told(read(root)) == first
    assert looks() == 0


def test_a_cache_without_room_for_an_index_is_used_without(
    root: Path, monkeypatch: pytest.MonkeyPatch, looks: Callable[[], int]
) -> None:
    first = told(read(root))
    kept(root)[0].unlink()

    def refuse(*_: object) -> None:
        raise MachineError("the disk is full")

    monkeypatch.setattr(index.durable, "write_file", refuse)
    looks()
    assert told(read(root)) == first
    assert (looks(), kept(root)) == (1, [])


def test_an_index_holds_for_its_store_alone(root: Path, looks: Callable[[], int]) -> None:
    first = told(read(root))
    for part in (root.parent / "cache").glob("pictures-*/part-*.arrow"):
        part.unlink()
    looks()
    assert told(read(root)) == first
    assert looks() == 1


def test_splits_in_use_share_their_store(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []
    read(root)
    gc.collect()  # what the first look made
    monkeypatch.setattr(index, "Store", lambda folder, make=index.Store: built.append(folder) or make(folder))
    splits = [read(root, split) for split in ("pretrain", "train", "test")]
    assert len(built) == 1
    del splits
    gc.collect()
    read(root)
    assert len(built) == 2


def test_parts_that_are_added_leave_an_index_as_it_is(root: Path, looks: Callable[[], int]) -> None:
    first = told(read(root))
    index_of_all = kept(root)[0]
    saved = index_of_all.read_bytes()
    draw(root / "class-0" / "new.png")
    read(root)  # into a part of its own
    (root / "class-0" / "new.png").unlink()
    settle(root)
    index_of_all.write_bytes(saved)
    looks()
    assert told(read(root)) == first
    assert looks() == 0


def test_several_places_have_one_index(root: Path, looks: Callable[[], int]) -> None:
    other = root.parent / "more"
    for place in range(COUNT):
        draw(other / f"class-{place % 2}" / f"{place:02}.png")
    settle(other)
    first = told(read(root, more=(str(other),)))
    looks()
    assert told(read(root, more=(str(other),))) == first
    assert looks() == 0
    draw(other / "class-1" / "new.png")
    assert told(read(root, more=(str(other),))) != first


def test_a_list_is_read_again_when_it_or_a_folder_changes(root: Path, looks: Callable[[], int]) -> None:
    paths = sorted(path.relative_to(root.parent) for path in root.rglob("*.png"))
    lines = [f"{path},{path.parent.name}" for path in paths]
    table = root.parent / "list.csv"
    table.write_text("\n".join(["path,label", *lines]))
    os.utime(table, (0, 0))
    first = told(read(table))
    assert told(read(table)) == first
    assert looks() == 1
    replace(root)
    assert told(read(table)) != first
    settle(root)
    table.write_text("\n".join(["path,label", *lines[:-1]]))
    assert len(read(table)) < len(first[0])


def test_shards_are_read_again_when_one_changes(root: Path, looks: Callable[[], int]) -> None:
    shards = root.parent / "shards"
    shards.mkdir()

    def pack(name: str, count: int) -> None:
        with tarfile.open(shards / name, "w") as tar:
            for path in sorted(root.rglob("*.png"))[:count]:
                tar.add(path, path.name)
        settle(shards)
        os.utime(shards / name, (count, count))

    pack("0.tar", COUNT)
    first = told(read(shards))
    assert told(read(shards)) == first
    assert looks() == 1
    pack("0.tar", COUNT - 1)
    assert len(read(shards)) == COUNT - 1


def test_names_of_any_bytes(root: Path) -> None:
    strange = os.fsdecode(b"\xff.png")
    (root / "class-0" / "00.png").rename(root / "class-0" / strange)
    settle(root)
    first = told(read(root, labels="none"))
    assert f"class-0/{strange}" in first[0]
    assert told(read(root, labels="none")) == first


def test_facts_are_plain_values(root: Path) -> None:
    read(root)
    again = read(root)
    assert asdict(again)["facts"] == dict(read(root).facts)
    assert again.facts["pictures"]["pretrain"] == len(again)
