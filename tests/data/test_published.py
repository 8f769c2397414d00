"""Digits, CIFAR-10, CIFAR-100 and STL-10, on files that these tests write."""

import hashlib
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_files import published, webp, write_parquet
from vergence.config import CIFAR10, CIFAR100, STL10, Digits
from vergence.data import cifar, load, stl10
from vergence.data.splits import Split, held_out
from vergence.errors import InputError, MachineError

RANDOM = np.random.default_rng(0)

# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    train, test = load(Digits(), "train"), load(Digits(), "test")
    assert train.pixels.shape == (1438, 3, 8, 8)
    assert test.pixels.shape == (359, 3, 8, 8)
    assert train.pixels.dtype == torch.uint8
    assert train.pixels.max() == 255
    assert train.pixels.is_contiguous()
    assert (train.pixels[:, 0] == train.pixels[:, 2]).all()
    assert train.size == 32
    assert train.classes == tuple("0123456789")
    assert train.labels is not None
    assert test.labels is not None
    assert test.labels.bincount().min() >= 34
    assert load(Digits(), "pretrain").digest() == train.digest()
    assert not test.published_order
    assert test.names is None
    assert test.facts["pictures"] == {"pretrain": 1438, "train": 1438, "test": 359}
    assert test.facts["test"] == "a fifth of each class, by their numbers"


def test_digits_split_is_the_same_forever() -> None:
    assert load(Digits(), "train").digest() == "ad6e566063d157e0"
    assert load(Digits(), "test").digest() == "1f1a525a7c495856"


def test_held_out_is_a_fifth_of_every_class() -> None:
    labels = [0] * 100 + [1] * 10 + [2] * 2 + [3]
    keys = [str(i).encode() for i in range(len(labels))]
    test = held_out(keys, labels)
    assert [sum(t for t, label in zip(test, labels, strict=True) if label == c) for c in range(4)] == [20, 2, 0, 0]
    backwards = held_out(keys[::-1], labels[::-1])
    assert backwards[::-1] == test


def test_another_share_is_held_out_in_the_same_order() -> None:
    keys, labels = [str(i).encode() for i in range(100)], [0] * 60 + [1] * 40
    tenth, fifth = held_out(keys, labels, 0.1), held_out(keys, labels)
    assert [sum(tenth[:60]), sum(tenth[60:])] == [6, 4]
    assert all(f for t, f in zip(tenth, fifth, strict=True) if t)
    assert held_out([memoryview(key) for key in keys], labels, 0.1) == tenth


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises((ValueError, TypeError), match="validation"):
        load(Digits(), "validation")  # pyright: ignore[reportArgumentType]


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def cifar_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    return RANDOM.integers(0, 256, (count, 3, 32, 32), np.uint8), RANDOM.integers(0, 10, count).astype(np.uint8)


def write_binaries(folder: Path, rows: int = 20) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name in (*cifar.TEN.binaries["train"], *cifar.TEN.binaries["test"]):
        pixels, labels = written[name] = cifar_rows(rows)
        (folder / name).write_bytes(np.concatenate([labels[:, None], pixels.reshape(rows, -1)], 1).tobytes())
    return written


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {part: dict.fromkeys(names, 20) for part, names in cifar.TEN.binaries.items()}
    monkeypatch.setattr(cifar, "TEN", replace(cifar.TEN, binaries=few))


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"])
def test_cifar_binary(tmp_path: Path, inner: str) -> None:
    written = write_binaries(tmp_path / "data" / inner)
    splits: tuple[tuple[Split, str], ...] = (("pretrain", "train"), ("train", "train"), ("test", "test"))
    for split, part in splits:
        names = cifar.TEN.binaries[part]
        images = load(CIFAR10(size=40), split, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
        assert np.array_equal(images.pixels.numpy(), np.concatenate([written[name][0] for name in names]))
        assert images.labels is not None
        assert images.labels.tolist() == [label for name in names for label in written[name][1]]
        assert images.size == 40
        assert images.classes[3] == "cat"
        assert images.published_order
        assert images.facts["test"] == "published"
        assert images.facts["pictures"][split] == len(images)
        assert Path(images.facts["cache"], "pixels.npy").is_file()
        assert not images.take(torch.arange(2)).published_order


def test_cifar_binary_of_wrong_length(tmp_path: Path) -> None:
    write_binaries(tmp_path)
    with pytest.raises(InputError, match="61460 bytes instead of 30730000"):
        load(CIFAR10(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")


@pytest.mark.usefixtures("few_rows")
def test_cifar_binary_with_a_file_missing(tmp_path: Path) -> None:
    write_binaries(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_3.bin missing"):
        load(CIFAR10(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")


@pytest.mark.usefixtures("few_rows")
def test_cifar_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_binaries(tmp_path / "made" / "cifar-10-batches-bin")
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    with pytest.raises(InputError, match="checksum"):
        load(CIFAR10(), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, checksum=checksum))
    for _ in range(2):
        images = load(CIFAR10(), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
        assert np.array_equal(images.pixels.numpy(), written["test_batch.bin"][0])
        path.unlink(missing_ok=True)  # the second time from the cache alone
    (entry,) = (tmp_path / "cache").glob("cifar10-*/decoded/..")
    assert sorted(p.name for p in entry.iterdir()) == [".lock", "decoded"]


def test_cifar_parquet(tmp_path: Path) -> None:
    pixels, labels = cifar_rows(30)
    for shard, rows in enumerate((slice(0, 12), slice(12, 30))):
        path = tmp_path / f"train-0000{shard}-of-00002.parquet"
        write_parquet(path, [webp(p) for p in pixels[rows]], labels[rows].tolist())
    images = load(CIFAR10(), "pretrain", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), pixels)
    assert images.labels is not None
    assert images.labels.tolist() == labels.tolist()


def test_cifar_parquet_with_a_shard_missing(tmp_path: Path) -> None:
    pixels, labels = cifar_rows(2)
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [webp(p) for p in pixels], labels.tolist())
    with pytest.raises(InputError, match="1 of 2 shards"):
        load(CIFAR10(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_a_changed_shard_is_decoded_anew(tmp_path: Path) -> None:
    path = tmp_path / "test-00000-of-00001.parquet"
    for count in (3, 4):
        pixels, labels = cifar_rows(count)
        write_parquet(path, [webp(p) for p in pixels], labels.tolist())
        images = load(CIFAR10(), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
        assert np.array_equal(images.pixels.numpy(), pixels)


GOOD = webp(np.zeros((3, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([GOOD, b"no picture"], [1, 2], "row 1"),
        ([GOOD, GOOD[:30]], [1, 2], "row 1"),
        ([GOOD, None], [1, 2], "row 1"),
        ([webp(np.zeros((3, 32, 31), np.uint8))], [1], "31 x 32 pixels instead of 32 x 32"),
        ([GOOD], [10], "labels from 10 to 10"),
        ([GOOD], [None], "expected columns"),
    ],
)
def test_bad_rows_are_named(
    tmp_path: Path, pictures: list[bytes | None], labels: list[int | None], message: str
) -> None:
    write_parquet(tmp_path / "test-00000-of-00001.parquet", pictures, labels)
    with pytest.raises(InputError, match=message):
        load(CIFAR10(), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_other_parquet_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test-00000-of-00001.parquet"
    pq.write_table(pa.table({"img": [1], "label": [2]}), path)
    with pytest.raises(InputError, match="expected columns image"):
        load(CIFAR10(), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    path.write_bytes(b"PAR1 this is no parquet file PAR1")
    with pytest.raises(InputError, match=r"test-00000-of-00001.parquet"):
        load(CIFAR10(), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_the_pickled_version_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(f"cos\nmkdir\n(S'{tmp_path}/opened'\ntR.".encode())  # a pickle that acts
    monkeypatch.setattr(cifar, "TEN", published(cifar.TEN, url="http://127.0.0.1:9/x"))
    with pytest.raises(MachineError, match=r"or put cifar-10-binary.tar.gz into the folder given by --data-dir"):
        load(CIFAR10(), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "opened").exists()


def test_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"there is no data folder .*; did you mean '.*pictures'"):
        load(CIFAR10(), "test", data_dir=tmp_path / "picture", cache_dir=tmp_path)


def written_in_order(folder: Path, kind: str) -> None:
    """A hundred training pictures, ten of each class: as binaries, or from the last to the first as Parquet. No test
    pictures.
    """
    pixels = np.random.default_rng(7).integers(0, 256, (100, 3, 32, 32), np.uint8)
    labels = np.arange(100, dtype=np.uint8) % 10
    if kind == "parquet":
        write_parquet(folder / "train-00000-of-00001.parquet", [webp(p) for p in pixels[::-1]], labels[::-1].tolist())
        return
    rows = np.concatenate([labels[:, None], pixels.reshape(100, -1)], 1)
    for name, some in zip(cifar.TEN.binaries["train"], np.split(rows, 5), strict=True):
        (folder / name).write_bytes(some.tobytes())


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("kind", ["binary", "parquet"])
def test_cifar_scored_on_held_out_pictures_takes_a_tenth_of_each_class_of_the_training_pictures(
    tmp_path: Path, kind: str
) -> None:
    written_in_order(tmp_path, kind)
    split = {
        name: load(CIFAR10(scored_on="held-out"), name, data_dir=tmp_path, cache_dir=tmp_path / "cache")
        for name in ("pretrain", "train", "test")
    }
    every = load(CIFAR10(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    known = {name: {picture.numpy().tobytes() for picture in images.pixels} for name, images in split.items()}
    assert (len(split["train"]), len(split["test"]), len(every)) == (90, 10, 100)
    assert split["pretrain"].digest() == split["train"].digest()
    assert not known["train"] & known["test"]
    assert known["train"] | known["test"] == {picture.numpy().tobytes() for picture in every.pixels}
    for images, of_each in ((split["train"], 9), (split["test"], 1)):
        assert images.labels is not None
        assert images.labels.bincount().tolist() == [of_each] * 10
    assert {images.facts["test"] for images in split.values()} == {
        "a tenth of each class of the published training pictures"
    }
    assert split["test"].facts["pictures"] == {"pretrain": 90, "train": 90, "test": 10}
    assert not any(images.published_order for images in split.values())
    assert (split["test"].split_name, load(Digits(), "test").split_name) == ("held-out training", "test")
    same = hashlib.sha256(b"".join(sorted(known["test"]))).hexdigest()
    assert same.startswith("0d8f0c36cce8"), "whatever file they are in, and in every release, the same are held out"


@pytest.mark.usefixtures("few_rows")
def test_cifar_scored_on_held_out_pictures_takes_nothing_from_the_test_pictures(tmp_path: Path) -> None:
    written_in_order(tmp_path, "binary")
    (tmp_path / "test_batch.bin").write_bytes(b"no pictures")
    place = {"data_dir": tmp_path, "cache_dir": tmp_path / "cache"}
    with pytest.raises(InputError, match=r"test_batch.bin: 11 bytes"):
        load(CIFAR10(), "test", **place)
    shutil.rmtree(tmp_path / "cache")
    assert len(load(CIFAR10(scored_on="held-out"), "test", **place)) == 10
    assert [entry.name for entry in (tmp_path / "cache").glob("cifar10-test-*")] == []


# --- CIFAR-100 --------------------------------------------------------------------------------------------------------

COARSE = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17
18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0
17 8 14 13
"""
"""The coarse class of each fine one, as the published rows have them."""


@pytest.fixture
def hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """A row of every class in each file, from the last to the first: coarse label, fine label, pixels."""
    few = {part: dict.fromkeys(names, 100) for part, names in cifar.HUNDRED.binaries.items()}
    monkeypatch.setattr(cifar, "HUNDRED", replace(cifar.HUNDRED, binaries=few))
    pixels = np.random.default_rng(3).integers(0, 256, (2, 100, 3, 32, 32), np.uint8)
    fine = np.arange(100, dtype=np.uint8)[::-1, None]
    coarse = np.array(COARSE.split(), np.uint8)[::-1, None]
    folder = tmp_path / "data" / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name, part in zip(("train.bin", "test.bin"), pixels, strict=True):
        (folder / name).write_bytes(np.concatenate([coarse, fine, part.reshape(100, -1)], 1).tobytes())
    return tmp_path / "data", pixels


def test_cifar100_binary(hundred: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    data, pixels = hundred
    splits: tuple[tuple[Split, int], ...] = (("pretrain", 0), ("train", 0), ("test", 1))
    for split, part in splits:
        images = load(CIFAR100(size=40), split, data_dir=data, cache_dir=tmp_path / "cache")
        assert np.array_equal(images.pixels.numpy(), pixels[part])
        assert images.labels is not None
        assert images.labels.tolist() == list(range(99, -1, -1))
        assert (images.size, len(images.classes)) == (40, 100)
        assert images.classes[:2] + images.classes[98:] == ("apple", "aquarium fish", "woman", "worm")
        assert images.published_order


def test_cifar100_coarse_labels(hundred: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    config = CIFAR100(labels="coarse")
    images = load(config, "train", data_dir=hundred[0], cache_dir=tmp_path / "cache")
    assert images.labels is not None
    assert images.labels.tolist() == [int(label) for label in COARSE.split()][::-1]
    assert len(images.classes) == 20
    assert images.classes[:2] + images.classes[18:] == ("aquatic mammals", "fish", "vehicles 1", "vehicles 2")
    load(CIFAR100(), "train", data_dir=hundred[0], cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("cifar100-train-*"))) == 1, "decoded once for both kinds of labels"


def test_cifar100_parquet_as_the_hub_has_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (6, 3, 32, 32), np.uint8)
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, [webp(p) for p in pixels], [0, 99, 5, 7, 1, 50], ("img", "fine_label"))
    images = load(CIFAR100(), "pretrain", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), pixels)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 99, 5, 7, 1, 50]
    write_parquet(path, [GOOD], [100], ("img", "fine_label"))
    with pytest.raises(InputError, match="labels from 100 to 100 instead of 0 to 99"):
        load(CIFAR100(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    write_parquet(path, [GOOD], [1])
    with pytest.raises(InputError, match=r"expected columns img \(struct of bytes, path\) and fine_label \(0-99\)"):
        load(CIFAR100(), "train", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_cifar100_holds_the_same_pictures_out_for_both_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (40, 3, 32, 32), np.uint8)
    labels = [1, 4, 30, 55] * 10  # of one coarse class but the second
    write_parquet(tmp_path / "train-00000-of-00001.parquet", [webp(p) for p in pixels], labels, ("img", "fine_label"))
    fine, coarse = (
        load(CIFAR100(labels=kind, scored_on="held-out"), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
        for kind in ("fine", "coarse")
    )
    assert fine.labels is not None
    assert sorted(fine.labels.tolist()) == [1, 4, 30, 55]
    assert torch.equal(fine.pixels, coarse.pixels)
    assert coarse.split_name == "held-out training"


def test_cifar100_damage_is_named(hundred: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder = hundred[0] / "cifar100" / "cifar-100-binary"
    (folder / "test.bin").write_bytes(bytes(3073 * 100))  # rows of CIFAR-10
    with pytest.raises(InputError, match=r"test.bin: 307300 bytes instead of 307400; get it again"):
        load(CIFAR100(), "test", data_dir=hundred[0], cache_dir=tmp_path / "cache")


def test_cifar100_archive(hundred: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(hundred[0] / "cifar100" / "cifar-100-binary", "cifar-100-binary")
    with pytest.raises(InputError, match="checksum"):
        load(CIFAR100(), "test", data_dir=tmp_path / "other", cache_dir=tmp_path / "cache")
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "HUNDRED", published(cifar.HUNDRED, checksum=checksum))
    images = load(CIFAR100(), "test", data_dir=tmp_path / "other", cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), hundred[1][1])


# --- STL-10 -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stl(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Files as published, but few: columns of red, of green, of blue; labels from 1; folds counted from 0."""
    folder = tmp_path / "data" / "stl10" / "stl10_binary"
    folder.mkdir(parents=True)
    pictures = {name: RANDOM.integers(0, 256, (n, 3, 96, 96), np.uint8) for name, n in STL_COUNTS.items()}
    for name, pixels in pictures.items():
        (folder / f"{name}_X.bin").write_bytes(
            b"".join(p[c, :, x].tobytes() for p in pixels for c in range(3) for x in range(96))
        )
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 3, 4]))
    (folder / "test_y.bin").write_bytes(bytes([2, 10]))
    (folder / "fold_indices.txt").write_text("".join(f"{i % 4} {(i + 1) % 4} \n" for i in range(10)))
    return tmp_path / "data", pictures


STL_COUNTS = {"train": 4, "test": 2, "unlabeled": 3}


def test_stl(stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    data, pictures = stl
    train = load(STL10(), "train", data_dir=data, cache_dir=tmp_path / "cache")
    test = load(STL10(), "test", data_dir=data, cache_dir=tmp_path / "cache")
    assert np.array_equal(train.pixels.numpy(), pictures["train"])
    assert np.array_equal(test.pixels.numpy(), pictures["test"])
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == [0, 9, 2, 3]
    assert test.labels.tolist() == [1, 9]
    assert train.pixels.is_contiguous()
    assert train.published_order
    assert test.published_order
    assert test.facts["pictures"] == {"test": 2}
    assert test.facts["side"] == {"smallest": 96, "median": 96, "largest": 96}


@pytest.mark.parametrize("what", ["train", "unlabeled", "train+unlabeled"])
def test_stl_pretraining_pictures(stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, what: str) -> None:
    data, pictures = stl
    config = STL10(pretrain=what)  # pyright: ignore[reportArgumentType]
    images = load(config, "pretrain", data_dir=data, cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), np.concatenate([pictures[name] for name in what.split("+")]))
    assert (images.labels is None) == (what != "train")
    assert images.facts["pictures"]["pretrain"] == len(images)


def test_stl_fold(stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    data, pictures = stl
    images = load(STL10(fold=7), "train", data_dir=data, cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), pictures["train"][[3, 0]])
    assert images.labels is not None
    assert images.labels.tolist() == [3, 0]
    assert images.facts["pictures"] == {"train": 2}
    assert not images.published_order
    assert len(load(STL10(fold=7, pretrain="train"), "pretrain", data_dir=data, cache_dir=tmp_path / "cache")) == 4


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train_X.bin", bytes(27647), "not whole pictures"),
        ("train_X.bin", bytes(27648), "1 pictures, but 4 labels"),
        ("train_y.bin", bytes([0, 1, 2, 3]), "labels from 0 to 3 instead of 1 to 10"),
        ("train_y.bin", bytes([1, 2, 3, 11]), "labels from 1 to 11"),
        ("fold_indices.txt", b"0 1\n" * 9, "ten lines"),
        ("fold_indices.txt", b"0 4\n" * 10, "from 0 to 3"),
        ("fold_indices.txt", b"a b\n" * 10, "whole numbers"),
    ],
)
def test_stl_damage_is_named(
    stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (stl[0] / "stl10" / "stl10_binary" / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load(STL10(), "train", data_dir=stl[0], cache_dir=tmp_path / "cache")


def test_stl_without_the_unlabelled_file(stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    (stl[0] / "stl10" / "stl10_binary" / "unlabeled_X.bin").unlink()
    assert len(load(STL10(pretrain="train"), "pretrain", data_dir=stl[0], cache_dir=tmp_path / "cache")) == 4
    with pytest.raises(InputError, match=r"unlabeled_X.bin missing"):
        load(STL10(), "pretrain", data_dir=stl[0], cache_dir=tmp_path / "cache")


def test_stl_archive(stl: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "stl10_binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(stl[0] / "stl10" / "stl10_binary", "stl10_binary")
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(stl10, "ARCHIVE", replace(stl10.ARCHIVE, checksum=checksum))
    images = load(STL10(pretrain="unlabeled"), "pretrain", data_dir=tmp_path / "other", cache_dir=tmp_path / "cache")
    assert np.array_equal(images.pixels.numpy(), stl[1]["unlabeled"])
