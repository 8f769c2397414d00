"""Damaged pictures and archives by the thousand: only our own errors may come out, and nothing outside may change.

The damage depends on a seed alone. A failure names the seed; what it stands for is written beside it.
"""

import gzip
import os
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest

import soak
from data_files import damaged, member, packed, pictures, surroundings, tar, zipped
from vergence.config import Folder
from vergence.data import load, tally
from vergence.data.extract import Limits, extract
from vergence.errors import InputError, VergenceError

pytestmark = pytest.mark.filterwarnings("ignore:.*pictures: ")

START = int(os.environ.get("VERGENCE_SEED", 0))
_TOGETHER = 100  # pictures in a folder
SLOWEST = 10.0  # seconds for one input, on a busy machine


@pytest.mark.slow
def test_no_damaged_picture_brings_anything_but_our_error(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tally, "MOST_BAD", 1.0)
    whole, root, cache = pictures(), quick / "pictures", quick / "cache"
    kept, executions = 0, soak.times(2000, 100_000)
    for first in range(START, START + executions, _TOGETHER):
        root.mkdir()
        for seed in range(first, first + _TOGETHER):
            chance = random.Random(seed)
            name = chance.choice(list(whole))
            data = damaged(whole[name], chance)
            (root / f"{seed}.{name.partition(',')[0]}").write_bytes(data)
        before, began = surroundings(quick, cache), time.monotonic()
        try:
            images = load(Folder(root=str(root), size=16, bad_images="skip"), "pretrain", cache_dir=cache)
            kept += len(images)
        except VergenceError as error:
            assert str(error).isprintable()  # noqa: PT017
        except BaseException as error:
            raise AssertionError(f"one of the seeds from {first}: {root}") from error
        assert time.monotonic() - began < SLOWEST * _TOGETHER
        assert surroundings(quick, cache) == before
        shutil.rmtree(root)
        shutil.rmtree(cache)
    assert 0 < kept < executions / 2  # some damage does no harm, but most must, or this tested nothing
    assert capfd.readouterr() == ("", "")  # decoders must not write to the terminal themselves
    soak.count("fuzz executions", executions)


NAMES = (
    *(
        "a",
        "b",
        "a/b",
        "a/b/c",
        "./a",
        "a/",
        ".",
        "..",
        "../outside/new",
        "a/../../outside/file",
        "/tmp/vergence-escaped",
    ),
    *("", "/", "//", "a//b", "\\..\\x", "C:\\x", "a\0b", "x" * 255, "x" * 256, "d/" * 20 + "f", "\x1b[31m", "\u202e"),
    *("a" * 99 + "/" + "b" * 99, "link", "link/new", "naïve", "con", "a\nb", "-rf", "~", "$(touch x)"),
)
KINDS = tuple(bytes([kind]) for kind in b"0000000\x00015523467gLKSxXDV")
PAX = (
    {"path": "../outside/new"},
    {"path": "a"},
    {"size": "-1"},
    {"size": "99999999999999999999"},
    {"size": "x"},
    {"linkpath": "../outside/file"},
    {"hdrcharset": "BINARY"},
    {"GNU.sparse.map": "0,x,1"},
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../outside/new", "GNU.sparse.realsize": "9"},
    {"mtime": "nan"},
    {"uid": "1e400"},
)


def archive_of(chance: random.Random) -> bytes:
    """Some members of strange names and kinds; then damaged, inside or outside the compression, or not at all."""
    members = []
    for _ in range(chance.randint(0, 5)):
        pax = chance.choice(PAX) if chance.random() < 0.15 else {}
        data = chance.randbytes(chance.choice((0, 1, 511, 512, 513, 3000)))
        members.append(member(chance.choice(NAMES), data, chance.choice(KINDS), chance.choice(NAMES), **pax))
    style = chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    try:
        inner = tar(members, style)
    except (ValueError, UnicodeError):  # a name that this style of header cannot hold
        inner = tar([member("a")], style)
    match chance.randrange(8):
        case 0:
            return damaged(packed([member("a"), member("b/c")], style), chance)
        case 1:
            return damaged(zipped(["a", "..\\outside\\new", "../outside/new"]), chance)
        case 2:
            return inner  # without compression
        case 3:
            return gzip.compress(inner, 1, mtime=0)
        case 4:
            return gzip.compress(inner, 1, mtime=0) + chance.randbytes(chance.randint(1, 50))
        case _:
            return gzip.compress(damaged(inner, chance), 1, mtime=0)


def test_no_damaged_archive_brings_anything_but_our_error_or_writes_outside(quick: Path) -> None:
    (quick / "outside").mkdir()
    (quick / "outside" / "file").write_text("untouched")
    archive, into = quick / "a.tar.gz", quick / "into"
    limits = Limits(members=50, bytes=1 << 20)
    executions, unpacked = soak.times(2000, 100_000), 0
    for seed in range(START, START + executions):
        archive.write_bytes(archive_of(random.Random(seed)))
        before, began = surroundings(quick, into), time.monotonic()
        try:
            files = extract(archive, into, limits=limits)
            unpacked += len(files)
            assert all(path.resolve().is_relative_to(into) for path in files), f"seed {seed}"
        except InputError as error:
            assert str(error).isprintable(), f"seed {seed}"  # noqa: PT017
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {archive}") from error
        assert time.monotonic() - began < SLOWEST, f"seed {seed}"
        assert surroundings(quick, into) == before, f"seed {seed}"
        inside = list(into.rglob("*"))
        assert all(path.is_file() or path.is_dir() for path in inside), f"seed {seed}"
        assert not any(path.is_symlink() for path in inside), f"seed {seed}"
        shutil.rmtree(into, ignore_errors=True)
    assert not Path("/tmp/vergence-escaped").exists()
    assert unpacked > 0
    soak.count("fuzz executions", executions)
