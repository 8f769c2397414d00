"""Folders of pictures: what becomes a split, a class, a bad picture; and what must neither hang nor pass quietly."""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_files import unprivileged
from vergence.config import Folder
from vergence.data import Images, load
from vergence.data.scan import scan
from vergence.errors import InputError
from vergence.files.names import listed, shown, suggestion

_RANDOM = np.random.default_rng(0)


def draw(*paths: Path) -> None:
    """A picture of its own at each path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = _RANDOM.integers(0, 256, (10, 10, 3), np.uint8)
        Image.fromarray(pixels).save(path, "PNG")


def draw_classes(folder: Path, counts: dict[str, int]) -> None:
    draw(*(folder / name / f"{i:03}.png" for name, count in counts.items() for i in range(count)))


def read(root: Path, split: str = "pretrain", *, bad: str = "fail", size: int = 10, keep: int | None = None) -> Images:
    config = Folder(root=str(root), size=size, bad_images=bad, keep=keep)  # pyright: ignore[reportArgumentType]
    return load(config, split, cache_dir=root.parent / "cache")  # pyright: ignore[reportArgumentType]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).transpose(2, 0, 1)


def labels_of(images: Images) -> list[int]:
    assert images.labels is not None
    return images.labels.tolist()


def few() -> AbstractContextManager[object]:
    """Expect what is said where nothing can be held out; for tests of something else."""
    return pytest.warns(UserWarning, match="no class has three pictures")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    return root


# --- splits and classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_published_splits(root: Path, test_name: str) -> None:
    draw_classes(root / "train", {"cat": 2, "ant": 3})
    draw_classes(root / test_name, {"cat": 2})
    train, test = read(root, "train"), read(root, "test")
    assert train.classes == test.classes == ("ant", "cat")
    assert labels_of(train) == [0, 0, 0, 1, 1]
    assert labels_of(test) == [1, 1]
    assert np.array_equal(train.pixels[3].numpy(), pixels_of(root / "train/cat/000.png"))
    assert np.array_equal(test.pixels[1].numpy(), pixels_of(root / test_name / "cat/001.png"))
    assert read(root).digest() == train.digest()
    assert train.pixels.is_contiguous()
    assert test.pixels.is_contiguous()


def test_validation_is_not_read_where_there_is_a_test_folder(root: Path) -> None:
    draw_classes(root / "train", {"a": 1})
    draw_classes(root / "validation", {"a": 2})
    draw_classes(root / "test", {"a": 3})
    with pytest.warns(UserWarning, match="scored on test/; not used: 2 pictures in validation/"):
        assert [len(read(root, split)) for split in ("pretrain", "train", "test")] == [1, 1, 3]


@pytest.mark.parametrize("prefix", ["", "train"])
def test_without_published_splits_a_fifth_is_held_out_of_everything(root: Path, prefix: str) -> None:
    draw_classes(root / prefix, {"a": 10, "b": 5, "c": 1})
    pretrain, train, test = (read(root, split) for split in ("pretrain", "train", "test"))
    assert labels_of(train) == [0] * 8 + [1] * 4 + [2]
    assert labels_of(test) == [0, 0, 1]
    assert pretrain.digest() == train.digest()
    assert not {p.tobytes() for p in test.pixels.numpy()} & {p.tobytes() for p in train.pixels.numpy()}
    before = {p.tobytes() for p in test.pixels.numpy()}
    draw(root / prefix / "d" / "1.png")  # another class leaves the others' split as it was
    assert {p.tobytes() for p in read(root, "test").pixels.numpy()} == before


def test_without_class_folders_there_are_no_labels(root: Path) -> None:
    draw(*(root / f"{i}.png" for i in range(4)))
    for split in ("pretrain", "train", "test"):
        images = read(root, split)
        assert images.labels is None
        assert images.classes == ()
        assert len(images) == 4


def test_unlabelled_training_pictures_with_labelled_test_pictures(root: Path) -> None:
    draw(root / "train" / "1.png")
    draw_classes(root / "test", {"a": 2})
    assert read(root, "train").labels is None
    assert read(root, "test").labels is None


def test_labelled_training_pictures_with_unlabelled_test_pictures(root: Path) -> None:
    draw_classes(root / "train", {"a": 2})
    draw(root / "test" / "1.png")
    assert labels_of(read(root, "train")) == [0, 0]
    assert read(root, "test").labels is None


def test_mixed_pictures_are_all_used_without_labels_and_it_is_said(root: Path) -> None:
    draw_classes(root, {"a": 3})
    draw(root / "loose.png")
    with pytest.warns(UserWarning, match="1 of 4 pictures lie in no class folder"):
        images = read(root)
    assert images.labels is None
    assert len(images) == 4


def test_the_first_folder_is_the_class(root: Path) -> None:
    draw(*(root / name for name in ("a/deep/er/1.png", "a/2.png", "b/deep/3.png")))
    with few():
        assert labels_of(read(root)) == [0, 0, 1]


def test_classes_that_differ_in_case_are_two(root: Path) -> None:
    draw_classes(root, {"Cat": 3, "cat": 1})
    assert read(root).classes == ("Cat", "cat")


def test_one_class_is_allowed(root: Path) -> None:
    draw_classes(root, {"a": 5})
    assert labels_of(read(root)) == [0] * 4


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"train": 1, "boat": 1}, r"is train/ a split or a class like boat/\?"),
        ({"test": 1, "val": 1}, "has test/ but no train/"),
        ({"train/a": 1, "test/b": 1}, "test/ has classes that train/ has not: b"),
        ({"train/a": 1, "test/A": 1}, "test/ has classes that train/ has not: A"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(root: Path, tree: dict[str, int], message: str) -> None:
    draw_classes(root, tree)
    with pytest.raises(InputError, match=message):
        read(root)


def test_empty_parts_are_named(root: Path) -> None:
    with pytest.raises(
        InputError, match="no pictures: found 0 folders, 0 other files, 0 that cannot be read; expected"
    ):
        read(root)
    (root / "a").mkdir()
    (root / "a" / "notes.txt").touch()
    with pytest.raises(InputError, match="no pictures: found 1 folders, 1 other files"):
        read(root)
    draw_classes(root, {"b": 2})
    with pytest.raises(InputError, match="class folders without a picture: a"):
        read(root)
    shutil.rmtree(root / "a")
    (root / "test").mkdir()
    (root / "b").rename(root / "train")
    with pytest.raises(InputError, match="no pictures in test/"):
        read(root)


def test_a_root_that_is_not_there(root: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*pictues; did you mean '.*pictures'"):
        read(root.with_name("pictues"))
    with pytest.raises(InputError, match="is not there either"):
        read(root / "no" / "where")
    (root / "file").touch()
    with pytest.raises(InputError, match="no list, table, tar or array of pictures"):
        read(root / "file")
    assert suggestion(root / "zzzzzzzz") == ""
    for strange in ("", "~no-such-user/x", "a\0b"):
        with pytest.raises(InputError):
            load(Folder(root=strange), "train", cache_dir=root / "cache")


def test_a_root_is_relative_to_the_data_folder(root: Path) -> None:
    draw(root / "1.png")
    assert len(load(Folder(root="pictures"), "train", data_dir=root.parent, cache_dir=root.parent / "c")) == 1


def test_other_files_are_no_pictures(root: Path) -> None:
    draw(root / "a/1.png", root / "b/2.JPG")
    for name in ("README.txt", "a/.hidden.png", "a/data.csv", "b/Thumbs.db"):
        (root / name).write_text("text")
    draw_classes(root, {".thumbnails": 2})
    assert scan(root).others == ("README.txt", "a/data.csv", "b/Thumbs.db")
    assert scan(root).hidden == 2
    with few():
        assert labels_of(read(root)) == [0, 1]


# --- links, and what is no file ---------------------------------------------------------------------------------------


def test_every_file_is_visited_once(root: Path) -> None:
    draw_classes(root, {"a": 2, "b": 2})
    (root / "a" / "loop").symlink_to("..")
    (root / "a" / "self").symlink_to(".")
    (root / "again").symlink_to("b")
    (root / "a" / "copy.png").symlink_to("000.png")
    os.link(root / "a" / "000.png", root / "b" / "hard.png")
    found = scan(root)
    assert [file.path for file in found.found] == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    assert found.doubles == 5
    with pytest.warns(UserWarning, match="5 files and folders are reached twice, by links; each is used once"), few():
        assert labels_of(read(root)) == [0, 0, 1, 1]


def test_links_out_of_the_root_are_followed(root: Path) -> None:
    draw_classes(root.parent / "elsewhere", {"b": 2})
    draw(root / "a" / "1.png")
    (root / "b").symlink_to(root.parent / "elsewhere" / "b")
    with few():
        assert read(root).classes == ("a", "b")


def test_dangling_links_and_special_files_are_bad(root: Path) -> None:
    draw(*(root / f"{i}.png" for i in range(40)))
    (root / "dangling.png").symlink_to("nowhere")
    (root / "itself.png").symlink_to("itself.png")
    os.mkfifo(root / "pipe.png")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as endpoint, contextlib.chdir(root):
        endpoint.bind("socket.png")
        assert {(bad.name, bad.reason) for bad in scan(root).bad} == {
            ("dangling.png", "a link to nothing"),
            ("itself.png", "too many levels of symbolic links"),
            ("pipe.png", "a pipe, socket or device"),
            ("socket.png", "a pipe, socket or device"),
        }
    with pytest.raises(InputError, match=r"4 of 44 pictures cannot be used: dangling.png .* and 1 more"):
        read(root)
    with pytest.warns(UserWarning, match="4 pictures that cannot be used were left out"):
        assert len(read(root, bad="skip")) == 40


def test_files_deleted_while_reading_are_bad(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(*(root / f"{i}.png" for i in range(3)))
    before = scan(root)
    (root / "1.png").unlink()
    monkeypatch.setattr("vergence.data.sources.scan", lambda _: before)
    with pytest.raises(InputError, match=r"1 of 3 pictures cannot be used: 1.png \(FileNotFoundError"):
        read(root)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that any user may reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        root.mkdir()
        for path in (Path(folder), root):
            path.chmod(0o777)
        yield root


def test_unreadable_files_are_bad(open_root: Path) -> None:
    draw(*(open_root / f"{i}.png" for i in range(20)))
    (open_root / "3.png").chmod(0)
    with unprivileged():
        with pytest.raises(PermissionError):
            (open_root / "3.png").read_bytes()
        with pytest.raises(InputError, match=r"1 of 20 pictures cannot be used: 3.png \(no permission to read it\)"):
            read(open_root)
        with pytest.warns(UserWarning, match="1 pictures"):
            assert len(read(open_root, bad="skip")) == 19
        # once it can be read, the change must be noticed although neither size nor time of change tell
    (open_root / "3.png").chmod(0o644)
    with unprivileged():
        assert len(read(open_root, bad="skip")) == 20


@pytest.mark.parametrize("bad", ["fail", "skip"])
def test_unreadable_folders_are_never_skipped(open_root: Path, bad: str) -> None:
    draw_classes(open_root, {"a": 20, "b": 1})
    (open_root / "b").chmod(0)
    with unprivileged():
        with pytest.raises(PermissionError):
            list((open_root / "b").iterdir())
        with pytest.raises(InputError, match=r"1 folders cannot be read: b \(Permission denied\)"):
            read(open_root, bad=bad)
    (open_root / "b").chmod(0o755)


# --- bad pictures -----------------------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def test_bad_pictures_fail_with_names_and_reasons(root: Path) -> None:
    draw(*(root / f"{i}.png" for i in range(9)))
    for i in range(5):
        spoil(root / f"{i}.png")
    with pytest.raises(InputError, match=r"5 of 9 pictures cannot be used: 0.png \(.*\), 1.png .* and 2 more") as error:
        read(root)
    assert "\n" not in str(error.value)
    for i in range(5):
        draw(root / f"{i}.png")
    assert len(read(root)) == 9


def test_bad_pictures_are_skipped_once_and_listed(root: Path) -> None:
    draw_classes(root, {"a": 20, "b": 20})
    spoil(root / "a" / "004.png")
    spoil(root / "b" / "007.png")
    with pytest.warns(UserWarning, match="2 pictures that cannot be used were left out: .*bad.json"):
        first = read(root, bad="skip")
    with pytest.warns(UserWarning, match="2 pictures"):
        test = read(root, "test", bad="skip")
    assert len(first) + len(test) == 38
    (listing,) = (root.parent / "cache").glob("*/bad.json")
    bad = json.loads(listing.read_text())
    assert sorted(entry["name"] for entry in bad) == ["a/004.png", "b/007.png"]
    assert all(entry["reason"] for entry in bad)
    draw(root / "a" / "004.png", root / "b" / "007.png")
    whole, whole_test = read(root, bad="skip"), read(root, "test", bad="skip")
    assert (len(whole), len(whole_test)) == (32, 8)
    assert set(test.keys) <= set(whole_test.keys)  # bad ones do not move others between splits


def test_too_many_bad_pictures_are_refused(root: Path) -> None:
    draw(*(root / f"{i}.png" for i in range(10)))
    spoil(root / "0.png")
    with pytest.warns(UserWarning, match="1 pictures"):
        assert len(read(root, bad="skip")) == 9
    spoil(root / "1.png")
    with pytest.raises(InputError, match="2 of 10 pictures cannot be used, more than the 10% that may be skipped"):
        read(root, bad="skip")


@pytest.mark.parametrize("bad", ["fail", "skip"])
def test_nothing_readable(root: Path, bad: str) -> None:
    (root / "a.png").write_text("text")
    (root / "b.jpg").write_text("<html>")
    with pytest.raises(InputError, match=r"none of the 2 pictures can be used: a.png"):
        read(root, bad=bad)


def test_a_class_must_not_vanish(root: Path) -> None:
    draw_classes(root, {"a": 30, "b": 1})
    spoil(root / "b" / "000.png")
    with pytest.raises(InputError, match="classes of which no training picture can be read: b"):
        read(root, bad="skip")


# --- what the cache must notice, and what is counted ------------------------------------------------------------------


def test_the_second_load_does_not_decode(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_classes(root, {"a": 3, "b": 3})
    first = read(root).digest()
    monkeypatch.setattr("vergence.data.picture.decode", None)
    assert read(root).digest() == first


def test_changes_are_noticed(root: Path) -> None:
    draw_classes(root, {"a": 3, "b": 3})
    digests = [read(root).digest(), read(root, size=8, keep=8).digest()]
    draw(root / "a" / "000.png")
    digests.append(read(root).digest())
    (root / "a" / "001.png").rename(root / "b" / "001a.png")
    digests.append(read(root).digest())
    (root / "b").rename(root / "c")
    assert read(root).classes == ("a", "c")
    (root / "c" / "000.png").unlink()
    digests.append(read(root).digest())
    assert len(set(digests)) == len(digests)


def test_many_pictures_keep_their_order(root: Path) -> None:
    draw(*(root / f"{i:04}.png" for i in range(600)))
    images = read(root)
    for i in (0, 255, 256, 300, 599):
        assert np.array_equal(images.pixels[i].numpy(), pixels_of(root / f"{i:04}.png"))


def test_doubles_between_train_and_test_are_said(root: Path) -> None:
    draw_classes(root / "train", {"a": 3})
    draw_classes(root / "test", {"a": 2})
    read(root)  # no warning yet
    shutil.copy(root / "train/a/000.png", root / "test/a/copy.png")
    shutil.copy(root / "train/a/000.png", root / "train/a/copy.png")
    Image.new("RGB", (10, 10), (1, 2, 3)).save(root / "train/a/flat.png")
    with (
        pytest.warns(UserWarning, match="1 test pictures are among the training pictures too"),
        pytest.warns(UserWarning, match="1 of 8 pictures are of one colour; 2 of 8 pictures repeat another"),
    ):
        facts = read(root).facts
    assert facts["pictures"] == {"pretrain": 5, "train": 5, "test": 3}
    assert (facts["repeated"], facts["test_in_train"], facts["constant"]) == (2, 1, 1)


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "<img src=x onerror=alert(1)>",
    '"><script>',
    "new\nline",
    "\x1b[31mred",
    "right\u202eleft",
    "=cmd()",
    "x" * 251,
    "back\\slash",
    "naïve 漢字",
    os.fsdecode(b"bad\xff"),
]


def test_strange_names_are_printable_and_stay_different() -> None:
    texts = [shown(name) for name in [*NAMES, "new\\nline", "bad\\xff"]]
    assert all(text.isprintable() for text in texts)
    assert len(set(texts)) == len(texts)
    assert shown("new\nline") == "new\\nline"
    assert shown(os.fsdecode(b"bad\xff")) == "bad\\xff"
    assert shown(Path("naïve 漢字/plain")) == "naïve 漢字/plain"
    "".join(texts).encode()


def test_strange_names_are_read_and_reported(root: Path) -> None:
    for name in NAMES:
        try:
            draw(root / name / f"{name}.png")
        except OSError:
            warnings.warn(f"this file system refuses {name!a}", stacklevel=1)
    with few():
        images = read(root)
    assert images.names is not None
    assert set(images.names) == {f"{name}/{name}.png" for name in NAMES}
    assert len(images.classes) == len(NAMES)
    assert all(name.isprintable() for name in images.classes)
    for name in NAMES:
        spoil(root / name / f"{name}.png")
    with pytest.raises(InputError) as error:
        read(root)
    assert str(error.value).isprintable()
    str(error.value).encode()


@pytest.mark.parametrize(
    ("character", "said"),
    [
        ("\udc80", "\\x80"),
        ("\udcff", "\\xff"),
        ("\udc7f", "\\udc7f"),
        ("\udd00", "\\udd00"),
        ("\\", "\\\\"),
        ("ß", "ß"),
    ],
)
def test_a_byte_that_is_no_text_is_shown_as_that_byte(character: str, said: str) -> None:
    assert shown(f"a{character}b") == f"a{said}b"


def test_the_first_three_are_named_and_the_others_counted() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.filterwarnings("ignore")
def test_a_test_split_of_nothing_but_bad_pictures_is_refused(tmp_path: Path) -> None:
    draw_classes(tmp_path / "pets" / "train", {"a": 10, "b": 10})
    draw_classes(tmp_path / "pets" / "test", {"a": 1, "b": 1})
    for path in (tmp_path / "pets" / "test").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="none of the test pictures can be used; mend them"):
        read(tmp_path / "pets", "test", bad="skip")
