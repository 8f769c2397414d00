"""Files that list or hold pictures: what is found, in which order, with which label and split, and what is refused."""

import csv
import io
import json
import os
import random
import re
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest

import soak
from data_files import damaged, member, packed, surroundings, tar
from door_files import (
    contents,
    draw,
    images,
    named_classes,
    pixels,
    shard_table,
    write_ipc,
    write_parquet,
    write_saved,
    write_stream,
    write_tar,
)
from vergence.data.doors import Door, Listing, door, door_of
from vergence.errors import InputError, VergenceError
from vergence.files.names import shown

START = int(os.environ.get("VERGENCE_SEED", 0))


def of(path: Path, **options: Any) -> Door:
    found = door_of(path, **options)
    assert found is not None
    return found


def listing(path: Path, **options: Any) -> Listing:
    return of(path, **options).listing()


def names(found: Listing) -> list[str]:
    return [picture.path for picture in found.found]


def read(path: Path, **options: Any) -> list[Any]:
    """All contents; that any part of them is the same is looked at too."""
    opened = of(path, **options)
    found = opened.listing().found
    every = list(opened.contents(found))
    some = list(opened.contents(found[1::2]))
    assert len(every) == len(found)
    assert all(np.array_equal(a, b) for a, b in zip(some, every[1::2], strict=True))
    assert list(opened.contents([])) == []
    return every


def refusal(path: Path, **options: Any) -> str:
    """The line with which a file is refused, when it is listed or when its pictures are read."""
    with pytest.raises(InputError) as refused:
        read(path, **options)
    line = str(refused.value)
    assert line.isprintable()
    return line


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_list_of_paths(tmp_path: Path) -> None:
    draw(tmp_path / "b.jpg", tmp_path / "deep" / "a b.png")
    (tmp_path / "list.txt").write_text("deep/a b.png\r\n\r\nb.jpg")
    found = listing(tmp_path / "list.txt")
    assert names(found) == ["deep/a b.png", "b.jpg"]
    assert (found.labels, found.classes, found.splits) == (None, None, None)
    status = (tmp_path / "b.jpg").stat()
    assert (found.found[1].size, found.found[1].changed) == (status.st_size, status.st_mtime_ns)
    assert read(tmp_path / "list.txt") == [b"picture a b.png", b"picture b.jpg"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label,split\na.jpg,cat,train\n'b,1.jpg',dog,Val\nc.jpg,,train\n", "list.csv"),
        ("File Name\tlabel\tsubset\na.jpg\tcat\ttrain\n'b,1.jpg'\tdog\tVal\nc.jpg\t\ttrain\n", "list.tsv"),
        ("id;IMAGE;Class;set\n1;a.jpg;cat;train\n2;b,1.jpg;dog;Val\n3;c.jpg; ;train\n", "list.csv"),
        ("label,where,partition\r\ncat,a.jpg,train\r\n dog, 'b,1.jpg', Val\r\n,c.jpg,train\r\n", "list.csv"),
    ],
    ids=["commas", "tabs", "semicolons", "an unknown name"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_with_labels_and_splits(tmp_path: Path, text: str, name: str, encoding: str) -> None:
    draw(*(tmp_path / picture for picture in ("a.jpg", "b,1.jpg", "c.jpg")))
    (tmp_path / name).write_bytes(text.replace("'", '"').encode(encoding))
    found = listing(tmp_path / name)
    assert names(found) == ["a.jpg", "b,1.jpg", "c.jpg"]
    assert found.labels == ("cat", "dog", None)
    assert found.splits == ("train", "Val", "train")
    assert listing(tmp_path / name, labels="none").labels is None
    assert read(tmp_path / name)[1] == b"picture b,1.jpg"


def test_the_column_of_labels_is_chosen(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("path,labels,fine_label,Breed\na.jpg,1,2,3\n")
    assert listing(tmp_path / "list.csv").labels == ("2",)
    assert listing(tmp_path / "list.csv", labels="breed").labels == ("3",)
    line = refusal(tmp_path / "list.csv", labels="bred")
    assert line.endswith("list.csv: no column 'bred' for the labels; columns: path, labels, fine_label, Breed")
    (tmp_path / "list.txt").write_text("a.jpg\n")
    assert "no column 'breed' for the labels; columns: none" in refusal(tmp_path / "list.txt", labels="breed")


def test_one_column_needs_no_name(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "list.csv").write_text("a.jpg\nb.jpg\n")
    assert names(listing(tmp_path / "list.csv")) == ["a.jpg", "b.jpg"]


def test_latin_1(tmp_path: Path) -> None:
    draw(tmp_path / "größe.jpg", tmp_path / "b.jpg")
    (tmp_path / "list.csv").write_bytes("path,label\ngröße.jpg,ä\nb.jpg,ü".encode("latin-1"))
    assert listing(tmp_path / "list.csv").labels == ("ä", "ü")
    (tmp_path / "list.txt").write_bytes(b"b.jpg\nx\xc3")  # cut within a letter: no UTF-8
    assert "name no file" in refusal(tmp_path / "list.txt")


def test_paths_stay_in_the_folder_unless_they_may_leave(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    draw(inside / "a.jpg", inside / "b.jpg", outside / "c.jpg", outside / "d.jpg")
    (inside / "list.txt").write_text(f"x/../a.jpg\n{inside}/b.jpg\n../out/c.jpg\n{outside}/d.jpg\n")
    line = refusal(inside / "list.txt")
    assert f"2 paths lead out of {inside}: ../out/c.jpg (line 3), {outside}/d.jpg (line 4)" in line
    assert "--data.outside" in line
    assert names(listing(inside / "list.txt", outside=True)) == [
        "a.jpg",
        "b.jpg",
        f"{outside}/c.jpg",
        f"{outside}/d.jpg",
    ]
    assert read(inside / "list.txt", outside=True)[3] == b"picture d.jpg"
    (inside / "list.txt").write_text(f"a.jpg\n../out/c.jpg\n{outside}/c.jpg\n")
    assert "1 files are listed again" in refusal(inside / "list.txt", outside=True)


def test_a_parquet_list(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "b.jpg")
    table = pa.table({"file_name": ["b.jpg", "a.jpg"], "label": [1, -1], "split": ["x", "y"], "note": ["b.jpg", "-"]})
    write_parquet(tmp_path / "list.parquet", named_classes(table, label=["cat", "dog"]))
    found = listing(tmp_path / "list.parquet")
    assert (names(found), found.labels, found.classes) == (["b.jpg", "a.jpg"], ("dog", None), ("cat", "dog"))
    assert found.splits == ("x", "y")
    assert read(tmp_path / "list.parquet") == [b"picture b.jpg", b"picture a.jpg"]
    write_ipc(tmp_path / "list.arrow", pa.table({"n": ["x", "y"], "where": ["b.jpg", "a.jpg"]}))
    assert names(listing(tmp_path / "list.arrow")) == ["b.jpg", "a.jpg"]


LISTS = {
    "": "lists or holds no pictures",
    "path,label\n": "lists or holds no pictures",
    "path,label\na.jpg,1\nmissing.jpg,2\nalso missing,3\n": r"2 of 3 rows name no file in .*: missing.jpg \(line 3\), ",
    "path,label\na.jpg,1\n./a.jpg,2\n": r"1 files are listed again: ./a.jpg \(line 3\); keep one row of each",
    "path,label\n,1\na.jpg,1\n": r"1 rows without a path \(line 2\)",
    "path,label\na.jpg,1\na.jpg\n": "line 3: 1 cells instead of 2",
    'path,label\n"a.jpg,1\n': "line 2: unexpected end of data",
    'path,label\n"a.jpg"x,1\n': "line 2: .*expected after",
    "a.jpg,1\nb.jpg,2\n": "no line that names the columns; put one above the others, such as path,label",
    "x,label\nb,1\n": "no column of paths among x, label; call it path",
    "x,y\na.jpg,a.jpg\n": "several columns of paths among x, y",
    "path,label,path\na.jpg,1,a.jpg\n": "several columns 'path'; rename all but one",
    "path,split\na.jpg,train\nb.jpg,\n": "1 of 2 pictures without a split: b.jpg",
    "path\na\0.jpg\n": "holds zero bytes",
    "path\nfolder\n": "1 of 1 rows name no file",
    "path,label,label\na.jpg,1,2\n": "several columns 'label'; rename all but one",
    "x" * (1 << 17): "a line of more than 65,536 characters",
}


@pytest.mark.parametrize(("text", "expected"), LISTS.items(), ids=range(len(LISTS)))
def test_lists_that_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "folder" / "c.jpg")
    (tmp_path / "list.csv").write_text(text, newline="")
    assert re.search(expected, refusal(tmp_path / "list.csv"))


def test_a_picture_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    opened = of(tmp_path / "list.txt")
    found = opened.listing().found
    (tmp_path / "a.jpg").write_bytes(b"longer than it was")
    with pytest.raises(InputError, match=r"a\.jpg: changed since it was listed"):
        list(opened.contents(found))
    os.unlink(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "a.jpg")  # must not wait for who writes
    with pytest.raises(InputError, match=r"a\.jpg: changed since it was listed"):
        list(opened.contents(found))
    os.unlink(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: expected a file that can be read: .*No such file"):
        list(opened.contents(found))
    assert list(opened.contents(found[1:])) == [b"picture b.jpg"]


def test_a_picture_of_too_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\n")
    monkeypatch.setattr(door, "MOST_BYTES", 4)
    assert "a.jpg: 13 bytes, more than the 4 of a picture" in refusal(tmp_path / "list.txt")


@pytest.mark.slow
def test_a_long_list_takes_little_memory(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(quick / "a.jpg")
    status = (quick / "a.jpg").stat()
    monkeypatch.setattr("vergence.data.doors.manifest.status_of", lambda path: status)
    rows = 100_000
    with open(quick / "list.csv", "w") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((f"n{n % 1000:04}/{n:08}.jpg", n % 1000) for n in range(rows))]
        )
    tracemalloc.start()
    try:
        found = listing(quick / "list.csv")
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.found) == rows
    assert held / rows < 600  # bytes to a picture: a million take less than 600 MB


# --- tables -----------------------------------------------------------------------------------------------------------


def write_feather(path: Path, table: pa.Table) -> None:
    feather.write_feather(table, str(path), compression="lz4", chunksize=2)


WRITERS: dict[str, tuple[str, Callable[..., None]]] = {
    "parquet": ("x.parquet", write_parquet),
    "stream": ("x.arrow", write_stream),
    "file": ("x.arrow", write_ipc),
    "feather": ("x.feather", write_feather),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_of_pictures(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    table = shard_table(0, 5, label=pa.array([1, 0, -1, None, 1]), coarse=["a", "b", "c", "d", "e"])
    write(tmp_path / name, named_classes(table, label=["cat", "dog"]))
    found = listing(tmp_path / name)
    assert names(found) == [f"{name}/{row}" for row in range(5)]
    assert {(picture.size, picture.changed) for picture in found.found} == {
        ((tmp_path / name).stat().st_size, (tmp_path / name).stat().st_mtime_ns)
    }
    assert found.labels == ("dog", "cat", None, None, "dog")
    assert found.classes == ("cat", "dog")
    assert found.splits is None
    assert read(tmp_path / name) == contents(0, 1, 2, 3, 4)
    assert listing(tmp_path / name, labels="coarse").labels == ("a", "b", "c", "d", "e")
    assert listing(tmp_path / name, labels="none").labels is None


def test_cifar_100_as_it_is_published(tmp_path: Path) -> None:
    table = pa.table({"img": images(contents(0, 1)), "fine_label": [1, 0], "coarse_label": [0, 0]})
    table = named_classes(table, fine_label=["apple", "bee"], coarse_label=["food"])
    for split in ("train", "test"):
        write_parquet(tmp_path / "cifar100" / f"{split}-00000-of-00001.parquet", table)
    found = listing(tmp_path)
    assert names(found)[0] == "cifar100/test-00000-of-00001.parquet/0"
    assert found.labels == ("bee", "apple") * 2
    assert found.classes == ("apple", "bee")
    assert found.splits == ("test", "test", "train", "train")
    assert listing(tmp_path, labels="coarse_label").labels == ("food",) * 4
    assert read(tmp_path) == contents(0, 1, 0, 1)


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], ["train", "train"]),
        (["data/test-00000-of-00001-6f3344faa23e9b0a.parquet", "data/train.parquet"], ["test", "train"]),
        (["Test_set/0000.parquet", "Train/0000.parquet"], ["Test_set", "Train"]),
        (["default/train/0.parquet", "default/val/0.parquet"], ["train", "val"]),
        (["part-0.parquet", "part-1.parquet"], None),
        (["data-00000-of-00002.parquet", "data-00001-of-00002.parquet"], None),
        (["a-0-of-1.parquet", "b-0-of-1.parquet"], ["a", "b"]),
        (["set-train-val.parquet", "set-test.parquet"], ["test", "train-val"]),
        ([".hidden.parquet", "x/cifar10-train.parquet"], ["train"]),
    ],
)
def test_splits_of_shards(tmp_path: Path, paths: list[str], splits: list[str] | None) -> None:
    for path in paths:
        write_parquet(tmp_path / path, shard_table(0, 1))
    (tmp_path / "README.md").write_text("no picture")
    found = listing(tmp_path)
    expected = [word if word != "Test_set" else "Test" for word in splits] if splits else None
    assert (None if found.splits is None else list(found.splits)) == expected


def test_what_datasets_computed_is_no_shard(tmp_path: Path) -> None:
    for name in ("cifar10-train.arrow", "cifar10-test.arrow", "cache-0123.arrow"):
        write_stream(tmp_path / name, shard_table(0, 1))
    assert listing(tmp_path).splits == ("test", "train")


def test_columns_of_one_name_that_are_not_used_do_no_harm(tmp_path: Path) -> None:
    twice = pa.table([[1], [2], images(contents(0))], ["a", "a", "image"])
    for name, write in WRITERS.values():
        write(tmp_path / name, twice)
        assert read(tmp_path / name) == contents(0)


def test_a_folder_with_pictures_is_no_door(tmp_path: Path) -> None:
    assert door_of(tmp_path) is None
    assert door_of(tmp_path / "missing") is None
    write_parquet(tmp_path / "x.parquet", shard_table(0, 1))
    draw(tmp_path / "cats" / "a.jpg")
    assert door_of(tmp_path) is None


def test_rows_that_name_a_file(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "deep" / "b.jpg")
    table = pa.table({"image": images([None, b"here", None], ["a.jpg", "elsewhere", str(tmp_path / "deep" / "b.jpg")])})
    for name, write in WRITERS.values():
        write(tmp_path / name, table)
        found = listing(tmp_path / name)
        assert found.found[0].size == len("picture a.jpg")
        assert found.found[1].size == (tmp_path / name).stat().st_size
        assert read(tmp_path / name) == [b"picture a.jpg", b"here", b"picture b.jpg"]
    write_parquet(tmp_path / "x.parquet", table, write_statistics=False)  # found out when it is read
    assert read(tmp_path / "x.parquet") == [b"picture a.jpg", b"here", b"picture b.jpg"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([None], "row 0 has neither bytes nor a path"),
        (["gone.jpg"], "row 0 has no bytes, and there is no file gone.jpg beside it"),
        (["../a.jpg"], r"its path leads out of .*: ../a.jpg; allow it with --data.outside"),
    ],
)
@pytest.mark.parametrize("statistics", [True, False])
def test_rows_without_a_picture(tmp_path: Path, paths: list[str], expected: str, statistics: bool) -> None:
    draw(tmp_path / "a.jpg")
    path = tmp_path / "in" / "x.parquet"
    write_parquet(path, pa.table({"image": images([None], paths)}), write_statistics=statistics)
    assert re.search(expected, refusal(path))
    if paths == ["../a.jpg"]:
        assert read(path, outside=True) == [b"picture a.jpg"]


def test_what_datasets_saves(tmp_path: Path) -> None:
    tables = [named_classes(shard_table(first, 3, label=[0, 1, 0]), label=["cat", "dog"]) for first in (0, 3)]
    write_saved(tmp_path / "one", tables)
    found = listing(tmp_path / "one")
    assert names(found)[::5] == ["data-00000-of-00002.arrow/0", "data-00001-of-00002.arrow/2"]
    assert (found.labels, found.splits) == (("cat", "dog", "cat") * 2, None)
    assert read(tmp_path / "one") == contents(*range(6))
    both = tmp_path / "both"
    write_saved(both / "train", tables)
    write_saved(both / "Held out", tables[1:])
    (both / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "Held out"]}))
    found = listing(both)
    assert found.splits == ("train",) * 6 + ("Held out",) * 3
    assert names(found)[-1] == "Held out/data-00000-of-00001.arrow/2"
    assert read(both) == contents(*range(6), *range(3, 6))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"_data_files": [{"filename": "../x.arrow"}]}, "does not name the parts of the data set"),
        ({"_data_files": [{"filename": 3}]}, "does not name the parts"),
        ({"_data_files": []}, "does not name the parts"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "gone.arrow is no file"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "save it again after flatten_indices"),
        ([], "expected what `save_to_disk` writes beside its shards: no object"),
        ("[" * 100_000, "expected what `save_to_disk` writes"),
    ],
)
def test_what_datasets_did_not_save(tmp_path: Path, state: Any, expected: str) -> None:
    write_saved(tmp_path, [shard_table(0, 1)])
    (tmp_path / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    assert expected in refusal(tmp_path)


def table(**columns: Any) -> pa.Table:
    return pa.table({"image": images(contents(0, 1)), **columns})


NAMES = ["cat", "dog"]
TABLES = {
    "no pictures": (pa.table({"a": [1], "b": ["x"]}), r"no column of encoded .*columns: a \(int64\), b \(string\)"),
    "no rows": (table().slice(0, 0), "lists or holds no pictures"),
    "several": (
        pa.table({"a": [b"x"], "b": [b"y"]}),
        r"several columns of bytes \(a, b\); call that of pictures image",
    ),
    "twice": (pa.table([images([b"x"]), images([b"x"])], ["image", "image"]), "several columns 'image'"),
    "a list": (table(label=[[0, 1], [1]]), "column 'label' is list<.*a label is one whole number or text"),
    "below 0": (table(label=[0, -1]), "row 1: label -1; expected a whole number from 0 on"),
    "a fraction": (table(label=[0.5, 1.0]), "row 0: label 0.5; expected a whole number"),
    "no such class": (named_classes(table(label=[0, 2]), label=NAMES), "row 1: label 2; expected .* from 0 to 1"),
    "classes": (named_classes(table(label=[0, 1]), label=["a", "a"]), "classes of 'label' are no list of different"),
    "no classes": (named_classes(table(label=[0, 1]), label=[3]), "classes of 'label' are no list of different"),
    "bytes": (table(label=[b"a", b"b"]), "row 0: label b'a'"),
    "half a split": (table(split=["train", None]), r"1 of 2 pictures without a split: x\..*/1; fill it in"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("table", "expected"), TABLES.values(), ids=TABLES)
def test_tables_that_are_refused(tmp_path: Path, kind: str, table: pa.Table, expected: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name, table)
    assert re.search(expected, refusal(tmp_path / name))


def test_numbers_of_tables_with_gaps_are_whole(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", table(label=[3.0, float("nan")]))
    assert listing(tmp_path / "x.parquet").labels == ("3", None)
    write_parquet(tmp_path / "x.parquet", table(label=pa.array(["b", "a"]).dictionary_encode()))
    assert listing(tmp_path / "x.parquet").labels == ("b", "a")
    write_parquet(tmp_path / "x.parquet", table(label=pa.nulls(2)))
    assert listing(tmp_path / "x.parquet").labels is None


def test_shards_that_are_refused(tmp_path: Path) -> None:
    first, second = (tmp_path / f"train-0000{number}-of-00002.parquet" for number in (0, 1))
    write_parquet(first, shard_table(0, 2, label=[0, 1]))
    line = refusal(tmp_path)
    assert f"{tmp_path}: 1 of 2 shards like train-*-of-*2; the first that is missing is number 1" in line
    assert len(read(first)) == 2  # who names one has one
    write_parquet(second, shard_table(0, 2, target=[0, 1]))
    assert "train-00001-of-00002.parquet: other columns or names of classes than in train-00000" in refusal(tmp_path)
    write_parquet(second, shard_table(0, 2, label=[0, 1]))
    write_parquet(tmp_path / "more.parquet", shard_table(0, 2, label=[0, 1]))
    assert "some shards name a split (train), others do not (more.parquet)" in refusal(tmp_path)
    (tmp_path / "more.parquet").rename(tmp_path / "train-00001-of-00002-0123456789abcdef.parquet")
    assert "3 of 2 shards like train-*-of-*2; a number is there twice" in refusal(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"")
    assert "shards of several kinds (3 .parquet, 1 .tar)" in refusal(tmp_path)


def test_a_shard_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", shard_table(0, 2))
    opened = of(tmp_path / "x.parquet")
    found = opened.listing().found
    write_parquet(tmp_path / "x.parquet", shard_table(0, 3))
    with pytest.raises(InputError, match=r"x\.parquet: changed since it was listed"):
        list(opened.contents(found))


def test_feathers_first_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.feather").write_bytes(b"FEA1" + bytes(100))
    assert "Feather's first version; save it again as Parquet" in refusal(tmp_path / "x.feather")


def test_large_groups_of_rows_are_read_in_pieces(tmp_path: Path) -> None:
    data = [bytes([number]) * (1 << 20) for number in range(96)]
    write_parquet(tmp_path / "x.parquet", pa.table({"image": images(data)}), row_group_size=96, write_batch_size=4)
    opened = of(tmp_path / "x.parquet")
    found = opened.listing().found
    before = pa.total_allocated_bytes()
    for number, encoded in enumerate(opened.contents(found)):
        assert encoded[:1] == bytes([number])
        assert pa.total_allocated_bytes() - before < 80 << 20  # of 96 MiB


# --- tars -------------------------------------------------------------------------------------------------------------

JSON = json.dumps({"class": "bird", "label": 7}).encode()


def test_samples_in_tars(tmp_path: Path) -> None:
    parts = {"a/x.jpg": b"0", "a/x.cls": b"3\n", "a/y.v.PNG": b"1", "a/y.cls": b"dog", ".DS_Store": b"", "README": b""}
    write_tar(tmp_path / "set-train-000.tar", parts)
    write_tar(tmp_path / "set-val-000.tar", {"./x.cls": b"4", "./z.webp": b"2", "./x.jpg": b"33", "./z.mask.png": b""})
    found = listing(tmp_path)
    assert names(found) == [
        *("set-train-000.tar/a/x.jpg", "set-train-000.tar/a/y.v.PNG", "set-val-000.tar/x.jpg", "set-val-000.tar/z.webp")
    ]
    assert found.labels == ("3", "dog", "4", None)
    assert found.splits == ("train", "train", "val", "val")
    assert found.found[0].size == (tmp_path / "set-train-000.tar").stat().st_size
    assert read(tmp_path) == [b"0", b"1", b"33", b"2"]
    assert names(listing(tmp_path / "set-train-000.tar")) == names(found)[:2]


@pytest.mark.parametrize(
    ("beside", "labels", "expected"),
    [
        ({"x.json": JSON, "x.txt": b"5"}, "auto", "7"),
        ({"x.json": b'{"class": "bird"}'}, "auto", "bird"),
        ({"x.cls": b"2", "x.json": JSON, "x.txt": b"5"}, "auto", "2"),
        ({"x.json": b"[1]", "x.txt": b"5"}, "auto", "5"),
        ({"x.txt": b"a bird on a tree"}, "auto", None),
        ({"x.txt": b"a bird on a tree"}, "txt", "a bird on a tree"),
        ({"x.json": JSON}, "class", "bird"),
        ({"x.json": JSON}, "none", None),
        ({"x.kind": b"owl"}, "kind", "owl"),
        ({}, "auto", None),
    ],
)
def test_labels_in_tars(tmp_path: Path, beside: dict[str, bytes], labels: str, expected: str | None) -> None:
    write_tar(tmp_path / "x.tar", {"x.jpg": b"0", **beside})
    assert listing(tmp_path / "x.tar", labels=labels).labels == (expected and (expected,))


def test_patterns_of_tars(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"train-{number:03}.tar", {"x.jpg": str(number).encode()})
    write_tar(tmp_path / "val-000.tar", {"x.jpg": b"v"})
    assert read(tmp_path / "train-{000..002}.tar") == [b"0", b"1", b"2"]
    assert read(tmp_path / "{train,val}-{000..000}.tar") == [b"0", b"v"]
    assert "train-003.tar is no file" in refusal(tmp_path / "train-{000..003}.tar")
    assert "write the smaller number first" in refusal(tmp_path / "train-{003..000}.tar")
    assert "stands for more than 100,000 shards" in refusal(tmp_path / "{00..99}{000..999}{00..10}.tar")


LINK = [member("x.jpg", kind=tarfile.SYMTYPE, link="/etc/passwd")]
TARS = {
    "empty": (b"", "cut short or damaged .*last whole sample: none"),
    "nothing in it": (tar([]), "no sample with a picture; suffixes of what it holds: nothing"),
    "no picture": (tar([member("x.json"), member("y.pt")]), "no sample with a picture; suffixes .*: .json, .pt"),
    "label alone": (tar([member("x.jpg"), member("y.cls", b"1")]), "sample y has no picture that is read, only .cls"),
    "raw": (tar([member("x.jpg"), member("y.cr2")]), "sample y has no picture that is read, only .cr2"),
    "two": (tar([member("x.jpg"), member("x.png")]), r"sample x has 2 pictures \(.jpg, .png\); keep one"),
    "two versions": (tar([member("x.v1.jpg"), member("x.v2.jpg")]), "sample x has 2 pictures"),
    "twice": (tar([member("x.jpg"), member("x.jpg")]), "'x.jpg' is there twice"),
    "link": (tar(LINK), "'x.jpg' is a link, which is not followed"),
    "hard link": (tar([member("x.jpg", kind=tarfile.LNKTYPE, link="y")]), "'x.jpg' is a link"),
    "device": (tar([member("x.jpg", kind=tarfile.CHRTYPE)]), "'x.jpg' is no plain file"),
    "two tars": (tar([member("x.jpg")]) + tar([member("y.jpg")]), "goes on after its end"),
    "gzip": (packed([member("x.jpg")]), "a packed archive cannot be read in places; unpack it first"),
    "below 0": (tar([member("x.jpg"), member("y.cls", b"-1"), member("y.jpg")]), "y.cls: label -1; expected"),
    "json": (tar([member("x.jpg"), member("x.json", b"{")]), "x.json: expected an object"),
    "deep json": (tar([member("x.jpg"), member("x.json", b"[" * 100_000)]), "x.json: expected an object"),
    "no text": (tar([member("x.jpg"), member("x.cls", b"\xff")]), "x.cls: expected a text"),
    "a long label": (tar([member("x.jpg"), member("x.cls", bytes((1 << 20) + 1))]), "bytes, more than 1,048,576"),
    "negative size": (tar([member("x.jpg", size="-512")]), "cut short or damaged"),
    "long header": (tar([member("x.jpg", comment="x" * 10_000)]), "a header of 10,"),
}


@pytest.mark.parametrize(("data", "expected"), TARS.values(), ids=TARS)
def test_tars_that_are_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    assert re.search(expected, refusal(tmp_path / "x.tar"))


def test_packed_tars_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.tar.gz").write_bytes(packed([member("x.jpg")]))
    for path in (tmp_path, tmp_path / "in" / "x.tar.gz"):
        assert "in/x.tar.gz: a packed archive cannot be read in places; unpack it first" in refusal(path)


def test_every_cut_of_a_tar_is_noticed(quick: Path) -> None:
    whole = tar([member(f"{name}{end}", b"data" * 200) for name in "abc" for end in (".jpg", ".txt")])
    body = whole.rstrip(b"\0")
    for end in (*range(0, len(body) + 512, 256), len(body)):
        (quick / "x.tar").write_bytes(whole[:end])
        line = refusal(quick / "x.tar")
        assert "x.tar: cut short or damaged" in line
        last = re.search("last whole sample: (.*);", line)
        assert last is not None
        assert last[1] in ("none", "a", "b")
        assert f"{last[1]}.jpg".encode() in whole[:end] or last[1] == "none"
    assert last[1] == "b"  # whether all of the last is there cannot be known


def test_a_label_that_no_sample_has(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"x.jpg": b"0", "x.json": JSON})
    line = refusal(tmp_path / "x.tar", labels="clas")
    assert "no label 'clas' in any sample; suffixes and fields: .jpg, .json, class, label" in line


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pixels(3, 5, 6), pixels(3, 5, 6)),
        (pixels(3, 5, 6, 3), pixels(3, 5, 6, 3)),
        (pixels(3, 5, 6, 4), pixels(3, 5, 6, 4)),
        (pixels(3, 5, 6, 1), pixels(3, 5, 6)),
        (pixels(3, 1, 5, 6), pixels(3, 5, 6)),
        (pixels(3, 3, 5, 6), pixels(3, 3, 5, 6).transpose(0, 2, 3, 1)),
        (np.asfortranarray(pixels(3, 5, 6, 3)), pixels(3, 5, 6, 3)),
        (pixels(6, 5, 6)[::2], pixels(6, 5, 6)[::2]),
        (pixels(3, 5, 6).astype(">u2") * 257, pixels(3, 5, 6).astype(np.uint16) * 257),
        (pixels(3, 5, 6).astype(np.float32) / 255, pixels(3, 5, 6)),
        (pixels(3, 5, 6).astype(np.float16) / 255, pixels(3, 5, 6)),
    ],
    ids=["gray", "rgb", "rgba", "one last", "one first", "first", "fortran", "strides", "16 bits", "float", "half"],
)
@pytest.mark.parametrize("kind", ["npy", "npz", "packed"])
def test_an_array(tmp_path: Path, values: np.ndarray, expected: np.ndarray, kind: str) -> None:
    path = tmp_path / f"x.{kind.replace('packed', 'npz')}"
    if kind == "npy":
        np.save(path, values)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=values)
    found = listing(path)
    assert names(found) == [f"{path.name}/{'' if kind == 'npy' else 'images/'}0000{number}" for number in range(3)]
    assert found.found[0].size == path.stat().st_size
    assert (found.labels, found.classes, found.splits) == (None, None, None)
    given = read(path)
    assert {picture.dtype for picture in given} == {expected.dtype}
    assert all(picture.flags.c_contiguous for picture in given)
    np.testing.assert_array_equal(np.stack(given), expected)


@pytest.mark.parametrize("keys", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"])
def test_splits_and_labels_of_arrays(tmp_path: Path, keys: str) -> None:
    values = (pixels(3, 5, 6), np.array([[2], [0], [1]]), pixels(2, 5, 6), np.array([0.0, 2.0]))
    np.savez(tmp_path / "x.npz", **dict(zip(keys.split(), values, strict=True)))
    found = listing(tmp_path / "x.npz")
    assert found.labels == ("2", "0", "1", "0", "2")
    assert found.splits == ("train",) * 3 + ("test",) * 2
    assert names(found)[3] == f"x.npz/{keys.split()[2]}/00000"
    np.testing.assert_array_equal(np.stack(read(tmp_path / "x.npz")), np.concatenate([values[0], values[2]]))
    assert listing(tmp_path / "x.npz", labels="none").labels is None


def test_the_array_of_labels_is_chosen(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=pixels(2, 5, 6), y=[0, 1], kind=["owl", "crow"])
    assert listing(tmp_path / "x.npz").labels == ("0", "1")
    assert listing(tmp_path / "x.npz", labels="kind").labels == ("owl", "crow")
    assert "no column 'kin' for the labels; columns: kind, x, y" in refusal(tmp_path / "x.npz", labels="kin")
    np.save(tmp_path / "x.npy", pixels(2, 5, 6))
    assert "no column 'y' for the labels" in refusal(tmp_path / "x.npy", labels="y")


X = {"x": pixels(2, 5, 6)}
ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "flat": ({"x": pixels(2, 30)}, r"an array of shape \[2, 30\]; expected \[n, h, w\]"),
    "one picture": ({"x": pixels(5, 6, 3)}, r"an array of shape \[5, 6, 3\]; expected"),
    "film": ({"x": pixels(1, 2, 5, 6, 3)}, "an array of shape"),
    "either": ({"x": pixels(2, 3, 5, 3)}, r"shape \[2, 3, 5, 3\] may be \[n, h, w, c\] or \[n, c, h, w\]"),
    "two channels": ({"x": pixels(2, 5, 6, 2)}, "1, 3 or 4 channels"),
    "none": ({"x": pixels(0, 5, 6)}, r"an array of shape \[0, 5, 6\], and so no pictures"),
    "int64": ({"x": pixels(2, 5, 6).astype(np.int64)}, "values of type int64; uint8, uint16, or .*convert them"),
    "bool": ({"x": pixels(2, 5, 6).astype(bool)}, "values of type bool"),
    "text": ({"x": np.full((2, 5, 6), "x")}, "values of type <U1"),
    "large floats": ({"x": np.full((2, 5, 6), 255.0)}, "x/00000: values from 255.0 to 255.0; floating point must be"),
    "not a number": ({"x": np.full((2, 5, 6), np.nan)}, "values from nan to nan"),
    "few labels": ({**X, "y": [0]}, r"labels of shape \[1\] for 2 pictures; expected \[2\]"),
    "one-hot": ({**X, "y": [[0, 1], [1, 0]]}, r"labels of shape \[2, 2\] for 2 pictures"),
    "below 0": ({**X, "y": [0, -1]}, r"y\[1\]: label -1; expected a whole number from 0 on"),
    "fraction": ({**X, "y": [0.5, 1]}, r"y\[0\]: label 0.5"),
    "truth": ({**X, "y": [True, False]}, "labels of type bool"),
    "some splits": ({**X, "x_test": pixels(2, 5, 6)}, "2 of 4 pictures without a split"),
    "no name": ({"y": [0, 1], "other": pixels(2, 5, 6)}, "no array of pictures .*arrays: y, other"),
}


@pytest.mark.parametrize(("arrays", "expected"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert re.search(expected, refusal(tmp_path / "x.npz"))


def header(text: str, data: bytes = b"") -> bytes:
    """An .npy whose header is this text."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def npy(descr: str = "'|u1'", shape: str = "(2, 5, 6)", data: bytes = bytes(60)) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n", data)


FILES = {
    "empty": (b"", "expected a NumPy file"),
    "pickle": (b"\x80\x04\x95" + bytes(50), "expected a NumPy file"),
    "objects": (npy("'|O'"), "holds Python objects, which are never opened"),
    "cut short": (npy(data=bytes(59)), r"\d+ bytes instead of \d+, cut short; get it again"),
    "more": (npy(data=bytes(61)), "more than the array"),
    "negative": (npy(shape="(-2, 5, 6)"), r"expected a NumPy file of .*a shape of \[-2, 5, 6\]"),
    "huge": (npy(shape="(2**70, 5, 6)"), "expected a NumPy file"),
    "larger than all": (npy(shape=f"({2**70}, 5, 6)"), "cut short"),
    "code": (header("__import__('os').abort()\n"), "expected a NumPy file"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(100), "expected a NumPy file"),
    "fields": (npy("[('a', '|u1')]"), "values of type"),
}


@pytest.mark.parametrize(("data", "expected"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_files_that_are_no_arrays(tmp_path: Path, data: bytes, expected: str, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
    assert re.search(expected, refusal(path))


def test_an_archive_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2, 1000, 1000), np.uint8))
    assert "x: unpacks to more than 200 times its bytes; save it as .npy" in refusal(tmp_path / "x.npz")


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", npy())
    assert "two arrays of one name" in refusal(tmp_path / "x.npz")


# --- all of them ------------------------------------------------------------------------------------------------------


def test_files_that_are_no_door(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", tmp_path / "notes.docx", tmp_path / "list.csv")
    assert "a.jpg: one picture; name its folder; files that are read: .arrow, .csv, " in refusal(tmp_path / "a.jpg")
    assert "notes.docx: no list, table, tar or array of pictures" in refusal(tmp_path / "notes.docx")
    assert refusal(tmp_path / "lst.csv") == f"there is no file {tmp_path}/lst.csv; did you mean '{tmp_path}/list.csv'?"
    assert "is not there either" in refusal(tmp_path / "gone" / "list.csv")
    os.mkfifo(tmp_path / "x.npy")
    assert "there is no file" in refusal(tmp_path / "x.npy")


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\x1b[31m.jpg\n")
    assert "\\x1b[31m.jpg (line 1)" in refusal(tmp_path / "list.txt")
    write_tar(tmp_path / "x.tar", {"\x1b.jpg": b"", "\x1b.png": b""})
    assert "sample \\x1b has 2 pictures" in refusal(tmp_path / "x.tar")


def whole_files() -> dict[str, bytes]:
    """A small file for each door."""
    files = {"x.csv": b"path,label,split\na.jpg,1,train\nb.jpg,2,test\n", "x.txt": b"a.jpg\nb.jpg\n"}
    parts = [member(f"{name}{end}", b"7") for name in "abcd" for end in (".jpg", ".cls")]
    files["x.tar"] = tar(parts)
    table = named_classes(shard_table(0, 6, label=[0, 1, 0, 1, 0, 1]), label=NAMES)
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, write) in WRITERS.items():
            write(path := Path(folder) / name, table)
            files[f"{kind}.{name.partition('.')[2]}"] = path.read_bytes()
    for name, save in (("x.npy", np.save), ("x.npz", np.savez), ("p.npz", np.savez_compressed)):
        file = io.BytesIO()
        save(file, pixels(4, 5, 6)) if name == "x.npy" else save(file, x=pixels(4, 5, 6), y=[0, 1, 2, 3])
        files[name] = file.getvalue()
    return files


def test_no_damaged_file_brings_anything_but_our_error(quick: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw(quick / "a.jpg", quick / "b.jpg")
    whole, good = whole_files(), 0
    for name, data in whole.items():
        (quick / name).write_bytes(data)
        assert read(quick / name)
        (quick / name).unlink()
    executions = soak.times(1500, 100_000)
    for seed in range(START, START + executions):
        chance = random.Random(seed)
        name = chance.choice(list(whole))
        (quick / name).write_bytes(damaged(whole[name], chance))
        before = surroundings(quick, quick / "none")
        try:
            opened = of(quick / name)
            good += len(list(opened.contents(opened.listing().found)))
        except VergenceError as error:
            assert str(error).isprintable(), f"seed {seed}"  # noqa: PT017
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {name}") from error
        assert surroundings(quick, quick / "none") == before, f"seed {seed}"
        (quick / name).unlink()
    assert good > 0
    assert capfd.readouterr() == ("", "")
    soak.count("fuzz executions", executions)


@pytest.mark.real
def test_real_shards(real_data: Path) -> None:
    opened = of(real_data / "cifar10")
    found = opened.listing()
    assert found.splits is not None
    assert (len(found.found), found.splits.count("train"), found.splits.count("test")) == (60_000, 50_000, 10_000)
    assert found.labels is not None
    assert {found.labels.count(name) for name in found.classes or ()} == {6000}
    assert {bytes(data[:4]) for data in opened.contents(found.found[::6000])} == {b"RIFF"}
    assert shown(found.found[0].path) == "test-00000-of-00001.parquet/0"
