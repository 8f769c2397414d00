"""Pictures that a program gives: torch data sets and arrays, packed into a file and read from it as any other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from small_runs import SHORT
from vergence import runs
from vergence.config import Folder, Run
from vergence.data import Images, load, pack
from vergence.errors import InputError, MachineError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 12, 16, 3), np.uint8)
LABELS = np.arange(20) % 2


class Pictures:
    """A map-style data set of whatever it is given."""

    def __init__(self, items: Any, **attributes: Any):
        self.items = items
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def read(path: Path, split: Any = "pretrain") -> Images:
    return load(Folder(root=str(path), size=16), split, cache_dir=path.parent / "cache")


def pixels(images: Images) -> np.ndarray:
    every = [images.pixels[place].permute(1, 2, 0).numpy() for place in range(len(images))]
    order = np.argsort([int(name.rpartition("/")[2]) for name in images.names or ()])
    return np.stack(every)[order]


def strided(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 2, axis=1)[:, ::2]


WAYS: Mapping[str, Callable[[], Any]] = {
    "array": lambda: PIXELS,
    "strided array": lambda: strided(PIXELS),
    "tensor, channels first": lambda: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "floating point": lambda: torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255,
    "data set of arrays": lambda: Pictures(PIXELS),
    "data set of PIL pictures": lambda: Pictures([Image.fromarray(values) for values in PIXELS]),
    "data set of mappings": lambda: Pictures([{"image": Image.fromarray(values)} for values in PIXELS]),
    "list of PIL pictures": lambda: [Image.fromarray(values) for values in PIXELS],
}


@pytest.mark.parametrize("way", WAYS)
def test_pictures_without_labels_come_back_to_the_bit(tmp_path: Path, way: str) -> None:
    images = read(pack(tmp_path / "pictures.arrow", train=WAYS[way]()))
    assert images.labels is None
    assert np.array_equal(pixels(images), PIXELS)


def other_pictures(train: Any) -> Any:
    """Return other pictures with the labels that a training set has."""
    if isinstance(train, tuple):
        return PIXELS // 2, train[1]
    return Pictures([{"image": p, "label": y} for p, y in zip(PIXELS // 2, LABELS, strict=True)])


@pytest.mark.parametrize(
    ("train", "classes", "expected"),
    [
        ((PIXELS, LABELS), None, ("0", "1")),
        ((torch.from_numpy(PIXELS), torch.from_numpy(LABELS)), ["dog", "cat"], ("dog", "cat")),
        ((PIXELS, ["dog", "cat"] * 10), None, ("cat", "dog")),
        ((PIXELS, ["dog", "cat"] * 10), ("dog", "cat"), ("dog", "cat")),
        (Pictures([*zip(PIXELS, LABELS, strict=True)], classes=["x", "y"]), None, ("x", "y")),
        (Pictures([{"pixels": p, "label": int(y)} for p, y in zip(PIXELS, LABELS, strict=True)]), None, ("0", "1")),
    ],
)
def test_labels_and_names_of_classes(tmp_path: Path, train: Any, classes: Any, expected: tuple[str, ...]) -> None:
    path = pack(tmp_path / "pictures.arrow", train=train, test=other_pictures(train), classes=classes)
    images = read(path, "train")
    assert images.classes == expected
    assert images.labels is not None
    numbers = [int(name.rpartition("/")[2]) for name in images.names or ()]
    first = expected.index("dog") if "dog" in expected else 0
    assert images.labels.tolist() == [first if number % 2 == 0 else 1 - first for number in numbers]


@pytest.mark.filterwarnings("ignore:.*(repeat another|among the training):UserWarning")
def test_splits(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.arrow", train=(PIXELS, LABELS), test=(PIXELS[:4], LABELS[:4]), unlabelled=PIXELS[4:9])
    assert [len(read(path, split)) for split in ("pretrain", "train", "test")] == [25, 20, 4]
    assert read(path, "test").facts["test"] == "split test"


def test_labels_that_are_none(tmp_path: Path) -> None:
    labels = [None if number % 4 == 3 else number % 2 for number in range(20)]
    numbers = [-1 if label is None else label for label in labels]
    test = (PIXELS[:2] // 2, [0, 1])
    read_one, read_other = (
        read(pack(tmp_path / f"{name}.arrow", train=(PIXELS, given), test=test), "train")
        for name, given in {"none": labels, "below": numbers}.items()
    )
    assert len(read_one) == 15
    assert (read_one.digest(), read_one.classes) == (read_other.digest(), read_other.classes)


def test_gray_sixteen_bits_and_transparency(tmp_path: Path) -> None:
    gray = RANDOM.integers(0, 65_536, (20, 12, 16), np.uint16)
    images = read(pack(tmp_path / "gray.arrow", train=gray))
    assert np.array_equal(pixels(images)[..., 0], np.round(gray / 257).astype(np.uint8))
    clear = np.concatenate([PIXELS, np.full((20, 12, 16, 1), 255, np.uint8)], axis=3)
    assert np.array_equal(pixels(read(pack(tmp_path / "clear.arrow", train=clear))), PIXELS)


def test_the_same_pictures_leave_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pictures.arrow"
    pack(path, train=(PIXELS, LABELS))
    before = path.stat()
    pack(path, train=(PIXELS, LABELS))
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    pack(path, train=(PIXELS[::-1], LABELS))
    assert path.stat().st_ino != before.st_ino
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures.arrow"]


def test_the_file_is_what_hugging_face_writes(tmp_path: Path) -> None:
    path = pack(tmp_path / "pictures.arrow", train=(PIXELS, LABELS), classes=["cat", "dog"])
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.column_names == ["image", "label", "split"]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"_type": "ClassLabel", "names": ["cat", "dog"]}
    assert features["image"] == {"_type": "Image"}


def test_a_whole_run(tmp_path: Path) -> None:
    path = pack(tmp_path / "pictures.arrow", train=(PIXELS, LABELS), test=(PIXELS[:6] // 2, LABELS[:6]))
    run: Run = replace(SHORT, data=Folder(root=str(path), size=16), batch_size=5)
    summary = runs.run_training(run, tmp_path / "run")
    assert summary["verdict"]["state"]
    assert summary["knn"] is not None
    pack(path, train=(PIXELS, LABELS), test=(PIXELS[:6] // 2, LABELS[:6]))
    assert runs.run_training(run, tmp_path / "run") == json.loads(json.dumps(summary))
    pack(path, train=(PIXELS // 3, LABELS), test=(PIXELS[:6] // 2, LABELS[:6]))
    with pytest.raises(InputError, match="holds this run on other pictures"):
        runs.run_training(run, tmp_path / "run")


def random_crops() -> Pictures:
    class Drawing(Pictures):
        def __getitem__(self, index: int) -> Any:
            return RANDOM.integers(0, 256, (12, 16, 3), np.uint8)

    return Drawing(PIXELS)


class Broken(Pictures):
    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyError("no such file")
        return super().__getitem__(index)


REFUSED: Mapping[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "not .arrow": (lambda: {"path": "x.parquet", "train": PIXELS}, r"x.parquet: call the file x.arrow"),
    "no indices": (
        lambda: {"train": iter([])},
        r"pictures of type list_iterator; give what has a length",
    ),
    "nothing": (lambda: {"train": PIXELS[:0]}, r"train: no pictures"),
    "lengths": (lambda: {"train": (PIXELS, LABELS[:7])}, r"train: 20 pictures, but 7 labels"),
    "not steady": (lambda: {"train": random_crops()}, r"picture 0 of train: another picture each time; give"),
    "raises": (lambda: {"train": Broken(PIXELS)}, r"picture 3 of train: KeyError: 'no such file'"),
    "type": (lambda: {"train": PIXELS.astype(np.int64)}, r"picture 0 .* of int64; expected uint8, uint16 of one"),
    "range": (lambda: {"train": PIXELS.astype(np.float32)}, r"of float32, from \d+ to 2\d\d; expected 0 to 1"),
    "not a number": (lambda: {"train": np.full((4, 9, 9), np.nan)}, r"from nan to nan; expected 0 to 1"),
    "shape": (lambda: {"train": PIXELS[:, :, :, :2]}, r"an array of shape \[12, 16, 2\] of uint8; expected \[h w\]"),
    "either": (lambda: {"train": np.zeros((4, 3, 9, 3), np.uint8)}, r"\[3, 9, 3\] of uint8; expected \[h w\]"),
    "too small": (lambda: {"train": PIXELS[:, :5]}, r"16 x 5 pixels, a side of less than 8"),
    "no picture": (lambda: {"train": ["a.jpg", "b.jpg"]}, r"picture 0 of train: str, which is no picture"),
    "mapping": (lambda: {"train": Pictures([{"x": 1}])}, r"a mapping without 'image', but with x"),
    "label below 0": (lambda: {"train": (PIXELS, LABELS - 2)}, r"picture 0 of train: label -2; expected .* from 0 on"),
    "label above": (lambda: {"train": (PIXELS, LABELS), "classes": ["a"]}, r"picture 1 of train: label 1; .* 0 to 0"),
    "label unknown": (lambda: {"train": (PIXELS, ["a"] * 20), "classes": ["b"]}, r"label 'a' is none of the 1 classes"),
    "label half": (lambda: {"train": (PIXELS, LABELS + 0.5)}, r"label of type float64; expected a whole number"),
    "mixed": (lambda: {"train": [PIXELS[0], PIXELS[1].astype(np.int32)]}, r"picture 1 of train: .* of int32"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.unshaped] * (case == "no indices")) for case in REFUSED]
)
def test_what_is_refused_leaves_nothing(tmp_path: Path, case: str) -> None:
    make, expected = REFUSED[case]
    arguments = make()
    path = tmp_path / arguments.pop("path", "x.arrow")
    with pytest.raises(InputError, match=expected) as error:
        pack(path, **arguments)
    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot write .*x.arrow: .*; choose another place"):
        pack(tmp_path / "nowhere" / "x.arrow", train=PIXELS)
