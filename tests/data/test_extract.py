"""Archives built to do harm: each is refused, and nothing outside the folder changes."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vergence.data.extract import Limits, _Bounded, _Member, _write, extract
from vergence.errors import InputError, MachineError


def member(name: str, data: bytes = b"data", kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return path


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A folder whose surroundings are compared afterwards."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "work"]
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]
    assert (tmp_path / "outside" / "file").read_text() == "untouched"
    assert {path.name for path in work.iterdir()} <= {"a.tar.gz", "a.zip", "into"}


def test_files_and_folders_come_out(work: Path) -> None:
    path = archive(
        work / "a.tar.gz",
        (member("top/", kind=tarfile.DIRTYPE), b""),
        (member("top/one"), b"data"),
        (member("top/in/two"), b"data"),
        (member("top/empty", b""), b""),
    )
    files = extract(path, work / "into")
    assert [str(file.relative_to(work / "into")) for file in files] == ["top/one", "top/in/two", "top/empty"]
    assert [file.read_bytes() for file in files] == [b"data", b"data", b""]
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in files)


def test_only_what_is_wanted_is_written(work: Path) -> None:
    path = archive(work / "a.tar.gz", (member("top/one"), b"data"), (member("top/two"), b"data"))
    assert [file.name for file in extract(path, work / "into", wanted={"two"})] == ["two"]


@pytest.mark.parametrize(
    "members",
    [
        [(member("../outside/new"), b"data")],
        [(member("top/../../outside/file"), b"data")],
        [(member("/tmp/vergence-escaped"), b"data")],
        [(member("..\\outside\\new"), b"data")],
        [(member(".", kind=tarfile.REGTYPE), b"data")],
        [(member("link", kind=tarfile.SYMTYPE, link="../outside"), b""), (member("link/new"), b"data")],
        [(member("link", kind=tarfile.SYMTYPE, link="../outside/file"), b""), (member("link"), b"data")],
        [(member("link", kind=tarfile.SYMTYPE, link="inside"), b"")],
        [(member("link", kind=tarfile.LNKTYPE, link="../outside/file"), b"")],
        [(member("pipe", kind=tarfile.FIFOTYPE), b"")],
        [(member("device", kind=tarfile.CHRTYPE), b"")],
        [(member("device", kind=tarfile.BLKTYPE), b"")],
        [(member("sparse", kind=tarfile.GNUTYPE_SPARSE), b"")],
        [(member("twice"), b"data"), (member("twice"), b"data")],
        [(member("twice"), b"data"), (member("./twice"), b"data")],
        [(member("file"), b"data"), (member("file/in it"), b"data")],
        [(member("file"), b"data"), (member("file/folder/in it"), b"data")],
        [(member("a/" * 1500 + "../" * 1510 + "outside/file"), b"data")],  # longer than a path may be, then out again
    ],
)
def test_whatever_could_escape_is_refused(work: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    path = archive(work / "a.tar.gz", *members)
    with pytest.raises(InputError, match=r"refused: '.*' (is neither|lies outside|is there twice|lies in a file)"):
        extract(path, work / "into")
    assert not Path("/tmp/vergence-escaped").exists()
    assert not any(file.is_symlink() for file in (work / "into").rglob("*"))


def test_a_refusal_is_printable(work: Path) -> None:
    path = archive(work / "a.tar.gz", (member("\x1b[31m\n/../x"), b"data"))
    with pytest.raises(InputError, match=r"'\\x1b\[31m\\n/\.\./x' lies outside") as error:
        extract(path, work / "into")
    assert str(error.value).isprintable()


def test_too_many_members(work: Path) -> None:
    path = archive(work / "a.tar.gz", *((member(f"{i}"), b"data") for i in range(11)))
    with pytest.raises(InputError, match="more than 10 members"):
        extract(path, work / "into", limits=Limits(members=10))


def test_as_many_members_as_there_may_be(work: Path) -> None:
    path = archive(work / "a.tar.gz", *((member(f"{i}"), b"data") for i in range(11)))
    assert len(extract(path, work / "into", limits=Limits(members=11))) == 11


@pytest.mark.parametrize("limits", [Limits(bytes=1_000_000), Limits(ratio=100)])
@pytest.mark.parametrize("wanted", [None, ()])
def test_a_bomb_stops_at_the_limit(work: Path, limits: Limits, wanted: tuple[str, ...] | None) -> None:
    bomb = bytes(20_000_000)
    path = archive(work / "a.tar.gz", (member("bomb", bomb), bomb), (member("after"), b"data"))
    with pytest.raises(InputError, match="unpacks to more than"):
        extract(path, work / "into", limits=limits, wanted=wanted)
    assert sum(file.stat().st_size for file in (work / "into").rglob("*")) < 4_000_000


def test_a_long_name_is_not_read_into_memory(work: Path) -> None:
    header = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)
    header.size = 1 << 40
    (work / "a.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    with pytest.raises(InputError, match="a header of"):
        extract(work / "a.tar.gz", work / "into")


def test_what_is_read_again_counts_again(work: Path) -> None:
    """A header that points back by a block, again and again, ends; in all, just as much may be read as was said."""
    (work / "a.tar.gz").write_bytes(gzip.compress(bytes(4096)))
    with gzip.open(work / "a.tar.gz") as stream:
        bounded = _Bounded(stream, 4 * tarfile.BLOCKSIZE)
        for _ in range(4):
            assert len(bounded.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE
            bounded.seek(0)
        with pytest.raises(InputError, match="unpacks to more than 2048 bytes"):
            bounded.read(1)


def test_a_negative_size_does_not_loop(work: Path) -> None:
    header = member("back")
    header.size = -1024
    data = header.tobuf(tarfile.GNU_FORMAT)
    (work / "a.tar.gz").write_bytes(gzip.compress(data * 3 + bytes(10_240)))
    with pytest.raises(InputError, match=r"neither a plain file|points back|damaged"):
        extract(work / "a.tar.gz", work / "into")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_short_archive_is_damaged(work: Path, keep: float) -> None:
    data = np.random.default_rng(0).bytes(1_000_000)  # else it is the ratio that is refused
    path = archive(work / "a.tar.gz", (member("one", data), data), (member("two", data), data))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="damaged"):
        extract(path, work / "into")


@pytest.mark.parametrize(
    "data", [b"<html>not found</html>", gzip.compress(b"no tar at all" * 100, mtime=0)], ids=["page", "gzip"]
)
def test_something_else_is_damaged(work: Path, data: bytes) -> None:
    (work / "a.tar.gz").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        extract(work / "a.tar.gz", work / "into")


def test_a_stream_is_not_turned_back(work: Path) -> None:
    """tarfile itself goes back by one block at most, to look at a header again."""
    (work / "a.tar.gz").write_bytes(gzip.compress(bytes(4096)))
    with gzip.open(work / "a.tar.gz") as stream:
        bounded = _Bounded(stream, 4096)
        bounded.read(2048)
        assert bounded.seek(2048 - tarfile.BLOCKSIZE) == 1536
        with pytest.raises(InputError, match="a header that points back"):
            bounded.seek(1536 - tarfile.BLOCKSIZE - 1)
        for whence in (io.SEEK_CUR, io.SEEK_END):
            with pytest.raises(InputError, match="a header that points back"):
                bounded.seek(2000, whence)
        assert bounded.tell() == 1536
        assert bounded.seek(4096) == 4096
        with pytest.raises(InputError, match="unpacks to more than 4096 bytes"):
            bounded.seek(4097)


def test_a_folder_that_holds_something_is_left_alone(work: Path) -> None:
    path = archive(work / "a.tar.gz", (member("one"), b"data"))
    (work / "into").mkdir()
    (work / "into" / "mine").write_text("mine")
    with pytest.raises(ValueError, match="into is not empty"):
        extract(path, work / "into")
    assert [entry.name for entry in (work / "into").iterdir()] == ["mine"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="SKIPPED: this system has no /dev/full")
def test_a_full_disk_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(work / "a.tar.gz", (member("one"), b"data"))
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: real("/dev/full", os.O_WRONLY))
    with pytest.raises(MachineError) as caught:
        extract(path, work / "into")
    assert str(caught.value) == f"cannot unpack {path}: No space left on device; free some space"


def test_a_member_that_ends_before_its_size_is_damaged(work: Path) -> None:
    data = gzip.compress(member("one", bytes(5000)).tobuf() + bytes(1000))
    (work / "a.tar.gz").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        extract(work / "a.tar.gz", work / "into")
    short = _Member("one", 5000, plain=True, folder=False, opened=lambda: io.BytesIO(bytes(1000)))
    with pytest.raises(EOFError, match="'one' ends early"):  # as if tarfile did not see it
        _write(short, work / "into" / "again")


def test_how_long_a_name_may_be(work: Path) -> None:
    parts = ["n" * 255] * 8
    assert len(extract(archive(work / "a.tar.gz", (member("/".join(parts)), b"data")), work / "into")) == 1
    for longer in ([*parts, "n"], ["n" * 256]):
        path = archive(work / "a.tar.gz", (member("/".join(longer)), b"data"))
        with pytest.raises(InputError, match="is too long a name"):
            extract(path, work / "into" / "again")


# --- zip --------------------------------------------------------------------------------------------------------------


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            packed.writestr(info, data)
    return path


def test_files_come_out_of_a_zip(work: Path) -> None:
    path = zipped(work / "a.zip", ("top/", b""), ("top/one", b"data"), ("top/in/two", b"more"), ("top/empty", b""))
    files = extract(path, work / "into")
    assert [str(file.relative_to(work / "into")) for file in files] == ["top/one", "top/in/two", "top/empty"]
    assert [file.read_bytes() for file in files] == [b"data", b"more", b""]


@pytest.mark.parametrize(
    ("names", "mode"),
    [
        (["../outside/new"], 0),
        (["top/../../outside/file"], 0),
        (["/tmp/vergence-escaped"], 0),
        (["..\\outside\\new"], 0),
        (["file", "file/in it"], 0),
        (["link"], stat.S_IFLNK | 0o777),
        (["pipe"], stat.S_IFIFO | 0o666),
        (["link/"], stat.S_IFLNK | 0o777),
    ],
)
def test_what_could_escape_from_a_zip_is_refused(work: Path, names: list[str], mode: int) -> None:
    path = zipped(work / "a.zip", *((name, b"../outside/file") for name in names), mode=mode)
    with pytest.raises(InputError, match=r"refused: '.*' (is neither|lies outside|lies in a file)"):
        extract(path, work / "into")
    assert not Path("/tmp/vergence-escaped").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_refused(work: Path) -> None:
    with pytest.raises(InputError, match="'twice' is there twice"):
        extract(zipped(work / "a.zip", ("twice", b"data"), ("twice", b"data")), work / "into")


def test_a_zip_bomb_is_refused_before_it_unpacks(work: Path) -> None:
    path = zipped(work / "a.zip", ("bomb", bytes(20_000_000)))
    with pytest.raises(InputError, match="unpacks to more than"):
        extract(path, work / "into")
    assert not any((work / "into").iterdir())


def test_a_zip_gives_no_more_than_its_header_says(work: Path) -> None:
    """A header that says less than what follows must not fill the disk."""
    path = zipped(work / "a.zip", ("bomb", bytes(5_000_000)))
    data = bytearray(path.read_bytes())
    size = data.rindex((5_000_000).to_bytes(4, "little"))
    data[size : size + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        extract(path, work / "into")
    assert sum(file.stat().st_size for file in (work / "into").iterdir()) <= 100


def test_too_many_members_of_a_zip(work: Path) -> None:
    path = zipped(work / "a.zip", *((str(number), b"data") for number in range(11)))
    with pytest.raises(InputError, match="more than 10 members"):
        extract(path, work / "into", limits=Limits(members=10))


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_of_a_zip_are_refused(work: Path, compression: int) -> None:
    with zipfile.ZipFile(work / "a.zip", "w", compression) as packed:
        packed.writestr("one", b"data")
    with pytest.raises(InputError, match="'one' is encrypted, or compressed otherwise"):
        extract(work / "a.zip", work / "into")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_short_zip_is_damaged(work: Path, keep: float) -> None:
    path = zipped(work / "a.zip", ("one", np.random.default_rng(0).bytes(100_000)))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="damaged"):
        extract(path, work / "into")


def test_a_changed_byte_in_a_zip_is_damage(work: Path) -> None:
    path = zipped(work / "a.zip", ("one", np.random.default_rng(0).bytes(100_000)))
    data = bytearray(path.read_bytes())
    data[50_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        extract(path, work / "into")
