"""Imagenette, Tiny ImageNet and ImageNet, on files that these tests write."""

import contextlib
import errno
import hashlib
import http.server
import io
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from data_files import saved
from vergence.command import cli
from vergence.config import Data, ImageNet, Imagenette, TinyImageNet
from vergence.data import imagenet, load
from vergence.data.imagenet import Counts
from vergence.errors import InputError, MachineError
from vergence.files import durable

TENCH, SPRINGER, CRANE, CRANE_TOO = "n01440764", "n02102040", "n02012849", "n03126707"
RANDOM = np.random.default_rng(0)
NOWHERE = "http://127.0.0.1:9/x"

pytestmark = pytest.mark.filterwarnings("ignore:.*pictures use an eighth:UserWarning")


def jpeg() -> bytes:
    return saved(Image.fromarray(RANDOM.integers(0, 256, (20, 24, 3), np.uint8)), "JPEG")


def write(files: dict[str, bytes], root: Path) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def sorted_files(classes: tuple[str, ...] = (TENCH, SPRINGER), train: int = 3, val: int = 2) -> dict[str, bytes]:
    """Pictures by split and class."""
    parts = {"train": train, "val": val}
    return {f"{part}/{c}/{c}_{n}.JPEG": jpeg() for part, count in parts.items() for c in classes for n in range(count)}


def tiny_files() -> dict[str, bytes]:
    """Tiny ImageNet as published: validation pictures in one folder, test pictures without labels."""
    files = {f"train/{c}/images/{c}_{n}.JPEG": jpeg() for c in (TENCH, SPRINGER) for n in range(3)}
    files |= {f"train/{c}/{c}_boxes.txt": b"n\t0\t0\t62\t62\n" for c in (TENCH, SPRINGER)}
    files |= {f"val/images/val_{n}.JPEG": jpeg() for n in range(4)}
    lines = [f"val_{n}.JPEG\t{SPRINGER if n % 2 else TENCH}\t0\t32\t44\t62\n" for n in range(4)]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    return files | {"test/images/test_0.JPEG": jpeg(), "wnids.txt": f"{SPRINGER}\n{TENCH}\n".encode()}


def packed(files: dict[str, bytes], inner: str, path: Path) -> bytes:
    """A tgz or a zip, by its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(f"{inner}/{name}", data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(f"{inner}/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of three and two pictures; nothing is fetched from where it really is."""
    monkeypatch.setattr(imagenet, "COUNTS", dict.fromkeys(imagenet.COUNTS, Counts(2, 6, 4)))
    away = {name: replace(archive, url=NOWHERE) for name, archive in imagenet.IMAGENETTE.items()}
    monkeypatch.setattr(imagenet, "IMAGENETTE", away)
    monkeypatch.setattr(imagenet, "TINY", replace(imagenet.TINY, url=NOWHERE))


@pytest.fixture(params=["imagenette", "tiny-imagenet"])
def published(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Data, Path]:
    """A data set's settings, and its archive as small as a test writes it, whose checksum is expected."""
    (tmp_path / "data").mkdir()
    tiny = request.param == "tiny-imagenet"
    archive = imagenet.TINY if tiny else imagenet.IMAGENETTE["320px"]
    path = tmp_path / "data" / archive.name
    data = packed(tiny_files() if tiny else sorted_files(), archive.inner, path)
    archive = replace(archive, checksum=hashlib.md5(data).hexdigest())
    if tiny:
        monkeypatch.setattr(imagenet, "TINY", archive)
        return TinyImageNet(size=16), path
    monkeypatch.setattr(imagenet, "IMAGENETTE", {**imagenet.IMAGENETTE, "320px": archive})
    return Imagenette(size=16, version="320px"), path


def test_an_archive_is_unpacked_once(published: tuple[Data, Path], tmp_path: Path) -> None:
    config, path = published
    place = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    train, test = load(config, "train", **place), load(config, "test", **place)
    assert (train.pixels.shape, test.pixels.shape) == ((6, 3, 20, 24), (4, 3, 20, 24))
    assert train.classes == test.classes == ("tench", "English springer")
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert train.names is not None
    assert all(name.startswith(f"train/{TENCH}/") for name in train.names[:3])
    assert (train.facts["test"], train.facts["pictures"]) == (
        "published",
        {"pretrain": 6, "train": 6, "test": 4},
    )
    assert load(config, "pretrain", **place).digest() == train.digest()
    path.unlink()  # from the cache alone
    again = load(config, "train", data_dir=None, cache_dir=tmp_path / "cache")
    assert again.digest() == train.digest()


def test_an_unpacked_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    folder = write(sorted_files(), tmp_path / "data" / "imagenette" / "imagenette2-160")
    images = load(Imagenette(size=16), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(images) == 4
    assert not list((tmp_path / "cache").glob("imagenette2*"))
    (folder / "val" / TENCH / f"{TENCH}_0.JPEG").unlink()
    with pytest.raises(InputError, match=r"6 \+ 3 pictures of 2 classes instead of 6 \+ 4 .*; get it again, or give"):
        load(Imagenette(size=16), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    shutil.rmtree(folder / "val")
    with pytest.raises(InputError, match=r"imagenette2-160: val/ missing; get it again"):
        load(Imagenette(size=16), "train", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_tiny_imagenet_is_read_as_it_lies(tmp_path: Path) -> None:
    files = tiny_files()
    folder = write(files, tmp_path / "data" / "tiny-imagenet-200")
    images = load(TinyImageNet(size=20), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert images.names == tuple(
        f"val/{c}/val_{n}.JPEG" for c, n in ((TENCH, 0), (TENCH, 2), (SPRINGER, 1), (SPRINGER, 3))
    )
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(files)


def test_tiny_imagenet_sorted_by_its_user_is_read_too(tmp_path: Path) -> None:
    write(sorted_files() | {"test/images/test_0.JPEG": jpeg()}, tmp_path / "data" / "tiny-imagenet-200")
    images = load(TinyImageNet(size=16), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(images) == 4


@pytest.mark.parametrize("line", ["val_3.JPEG", "../val_3.JPEG\tn01440764", "val_3.JPEG\t../..\t0", ""])
def test_annotations_that_are_none_are_named(tmp_path: Path, line: str) -> None:
    folder = write(tiny_files(), tmp_path / "data" / "tiny-imagenet-200")
    listing = folder / "val" / "val_annotations.txt"
    listing.write_text(listing.read_text().replace(listing.read_text().splitlines()[3], line))
    with pytest.raises(InputError, match=r"val_annotations.txt: line 4: expected a picture and its class"):
        load(TinyImageNet(size=16), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_annotations_of_a_picture_that_is_not_there(tmp_path: Path) -> None:
    folder = write(tiny_files(), tmp_path / "data" / "tiny-imagenet-200")
    (folder / "val" / "images" / "val_2.JPEG").unlink()
    with pytest.raises(InputError, match=r"val_2.JPEG \(a link to nothing\)"):
        load(TinyImageNet(size=16), "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_another_archive_is_refused(published: tuple[Data, Path], tmp_path: Path) -> None:
    config, path = published
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=rf"{re.escape(path.name)}: checksum .*: get it again, or take it out"):
        load(config, "train", data_dir=path.parent, cache_dir=tmp_path / "cache")


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERGENCE_DATA_DIR", raising=False)
    for kind, name in (("imagenette", "imagenette2-160.tgz"), ("tiny-imagenet", "tiny-imagenet-200.zip")):
        assert cli.main(["train", "byol", "--data", kind, "--out", str(tmp_path / "out"), "--device", "cpu"]) != 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {NOWHERE}: ")
        assert line.endswith(f"or put {name} into the folder given by --data-dir")


class Serves(http.server.BaseHTTPRequestHandler):
    """Sends what it is given, from the byte that is asked for."""

    body: ClassVar[bytes]
    asked: ClassVar[list[str | None]]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.end_headers()
        self.wfile.write(self.body[start:])


@contextlib.contextmanager
def serving(body: bytes) -> Iterator[tuple[str, list[str | None]]]:
    handler = type("Handler", (Serves,), {"body": body, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/file", handler.asked
        server.shutdown()
        thread.join()


def at(config: Data, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set's archive, which is now at this address."""
    if isinstance(config, TinyImageNet):
        monkeypatch.setattr(imagenet, "TINY", replace(imagenet.TINY, url=url))
        return imagenet.TINY.name
    archives = {name: replace(archive, url=url) for name, archive in imagenet.IMAGENETTE.items()}
    monkeypatch.setattr(imagenet, "IMAGENETTE", archives)
    return archives["320px"].name


def test_a_download_goes_on_where_it_stopped(
    published: tuple[Data, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = published
    body = path.read_bytes()
    with serving(body) as (url, asked):
        name = at(config, url, monkeypatch)
        write({f"{name}.part": body[:1000]}, tmp_path / "cache" / "downloads")
        assert len(load(config, "train", data_dir=None, cache_dir=tmp_path / "cache")) == 6
    assert asked == ["bytes=1000-"]


def test_a_download_of_something_else_leaves_nothing(
    published: tuple[Data, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = published
    with serving(b"<html>moved</html>") as (url, _):
        at(config, url, monkeypatch)
        with pytest.raises(InputError, match="nothing was kept; try again later, or put"):
            load(config, "train", data_dir=None, cache_dir=tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != ".lock"] == []


def test_a_half_unpacked_archive_is_unpacked_again(
    published: tuple[Data, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the folder has its name, a start leaves a part, which the next one does not take for the whole."""
    config, path = published
    real, where = durable.seal_folder, []

    def killed(partial: Path, whole: Path) -> None:
        shutil.copytree(partial, tmp_path / "left")
        where.append(partial)
        raise KeyboardInterrupt

    place = {"data_dir": path.parent, "cache_dir": tmp_path / "cache"}
    monkeypatch.setattr(durable, "seal_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        load(config, "train", **place)
    (partial,) = where
    next((tmp_path / "left").rglob(f"{TENCH}_1.JPEG")).unlink()
    shutil.copytree(tmp_path / "left", partial)  # a kill cleans nothing up
    monkeypatch.setattr(durable, "seal_folder", real)
    assert len(load(config, "train", **place)) == 6
    assert not partial.exists()


def test_a_full_disk_is_one_line(published: tuple[Data, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, path = published
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*args: object, **options: object) -> None:
        raise full

    place = {"data_dir": path.parent, "cache_dir": tmp_path / "cache"}
    with monkeypatch.context() as patched:
        patched.setattr("vergence.data.extract._write", refuse)
        with pytest.raises(MachineError, match=r"^cannot unpack .*: No space left on device; free some space$"):
            load(config, "train", **place)
    if isinstance(config, TinyImageNet):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "symlink_to", refuse)
            with pytest.raises(MachineError, match=r"^cannot write .*: No space left on device: free some space"):
                load(config, "train", **place)
    assert len(load(config, "train", **place)) == 6


# --- ImageNet ---------------------------------------------------------------------------------------------------------


def test_imagenet_is_read_from_its_folder(tmp_path: Path) -> None:
    files = sorted_files((CRANE, CRANE_TOO)) | {"test/ILSVRC2012_test_00000001.JPEG": jpeg()}
    write(files, tmp_path / "data" / "imagenet")
    place = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    train, test = load(ImageNet(size=16), "pretrain", **place), load(ImageNet(size=16), "test", **place)
    assert (len(train), len(test)) == (6, 4)
    assert train.classes == (f"crane ({CRANE})", f"crane ({CRANE_TOO})"), "two classes have one name"
    assert test.labels is not None
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert test.facts["test"] == "published"


def test_other_counts_of_imagenet_are_said(tmp_path: Path) -> None:
    write(sorted_files((TENCH, "goldfish", SPRINGER)), tmp_path)
    with pytest.warns(UserWarning, match=r"9 \+ 6 pictures of 3 classes instead of 6 \+ 4 pictures of 2 classes; get"):
        images = load(ImageNet(size=16), "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert images.classes == ("goldfish", "tench", "English springer")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"readme": b""}, r"no ImageNet there; expected train/ and val/, each with a folder for every class"),
        ({"train/n01440764/a.JPEG": b""}, r"no ImageNet there; expected train/ and val/"),
        ({"ILSVRC2012_img_val.tar": b""}, r": ILSVRC2012_img_val.tar not unpacked; unpack both there, .*torchvision"),
        (
            {"ILSVRC2012_img_train.tar": b"", "ILSVRC2012_img_val.tar": b"", "train/a/b.JPEG": b""},
            r"ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar not unpacked; unpack both there, .*: python -c",
        ),
        (
            {"train/n01440764/a.JPEG": b"", "val/ILSVRC2012_val_00000001.JPEG": b""},
            r"val: has no class folders; put each picture into the folder of its class",
        ),
    ],
)
def test_imagenet_otherwise_arranged_is_one_line(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    write(files, tmp_path / "data")
    with pytest.raises(InputError, match=says) as caught:
        load(ImageNet(), "train", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert str(caught.value).isprintable()


def test_imagenet_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imagenet is not downloaded; give the folder .*, with --data-dir"):
        load(ImageNet(), "train", cache_dir=tmp_path)


def test_classes_are_called_by_words() -> None:
    assert imagenet._in_words(["n01440764", "n04399382", "none"]) == ("tench", "teddy", "none")


@pytest.mark.parametrize("version", ["160px", "320px", "full"])
def test_checksums_are_those_of_torchvision(version: str) -> None:
    from torchvision.datasets import Imagenette as Theirs

    address, checksum = Theirs._ARCHIVES[version]
    archive = imagenet.IMAGENETTE[version]
    assert (address.rpartition("/")[2], checksum) == (archive.name, archive.checksum)
