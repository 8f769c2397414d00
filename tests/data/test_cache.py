"""The decoded cache: opened only when whole, rebuilt otherwise, never written through."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from vergence.data import cache
from vergence.data.cache import UNLABELLED, Decoded, Writer, cached, default_cache_dir
from vergence.errors import InputError, MachineError
from vergence.files import durable

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.int64)


class Builder:
    """Counts how often it is asked to decode."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, writer: Writer) -> dict[str, Any]:
        self.calls += 1
        writer.add(PIXELS[:3], LABELS[:3])
        writer.add(PIXELS[3:], LABELS[3:])
        return {"facts": {"of": 7}}


def opened(tmp_path: Path, build: Any, **identity: Any) -> Decoded:
    return cached(tmp_path, "set", {"source": "a"} | identity, 4, 5, build)


def sealed(tmp_path: Path) -> Path:
    (folder,) = tmp_path.glob("set-*/decoded")
    return folder


def test_decodes_once_and_reads_the_same(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(3):
        decoded = opened(tmp_path, build)
        assert torch.equal(decoded.pixels, torch.from_numpy(PIXELS))
        assert decoded.labels.tolist() == LABELS.tolist()
        assert decoded.notes["facts"] == {"of": 7}
        assert decoded.pixels.is_contiguous()
    assert build.calls == 1
    assert sorted(path.name for path in sealed(tmp_path).parent.iterdir()) == [".lock", "decoded"]
    np.testing.assert_array_equal(np.load(sealed(tmp_path) / "pixels.npy"), PIXELS)


def test_what_a_killed_process_left_is_not_there_for_the_next(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        assert not writer.scratch.exists()
        writer.scratch.mkdir()
        return Builder()(writer)

    opened(tmp_path, build)
    folder = sealed(tmp_path).parent
    durable.remove_folder(folder / "decoded")
    for name in ("partial", "scratch"):
        (folder / name).mkdir()
        (folder / name / "old").write_text("old")
    opened(tmp_path, build)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "decoded"]
    assert sorted(path.name for path in sealed(tmp_path).iterdir()) == [
        *("facts.json", "identity.json", "labels.npy", "manifest.json", "pixels.npy")
    ]


def test_an_entry_says_what_it_is(tmp_path: Path) -> None:
    opened(tmp_path, Builder())
    assert re.fullmatch(r"set-[0-9a-f]{16}", sealed(tmp_path).parent.name)
    assert (sealed(tmp_path) / "identity.json").read_text() == '{\n "source": "a"\n}\n'


def test_another_identity_is_another_entry(tmp_path: Path) -> None:
    build = Builder()
    opened(tmp_path, build)
    opened(tmp_path, build, size=2)
    assert build.calls == 2


def test_writing_to_the_pixels_does_not_reach_the_file(tmp_path: Path) -> None:
    build = Builder()
    opened(tmp_path, build).pixels.zero_()
    assert torch.equal(opened(tmp_path, build).pixels, torch.from_numpy(PIXELS))


def test_images_are_a_contiguous_run_and_unlabelled_if_any_is(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        writer.add(PIXELS, np.asarray([0, 1, 2, UNLABELLED, UNLABELLED, 0, 1]))
        return {}

    decoded = opened(tmp_path, build)
    first = decoded.images(("a", "b", "c"), 8, slice(0, 3))
    assert first.labels is not None
    assert first.labels.tolist() == [0, 1, 2]
    assert first.pixels.is_contiguous()
    assert first.size == 8
    assert decoded.images(("a", "b", "c"), 8).labels is None


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy", "facts.json", "identity.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "long", "empty"])
def test_a_damaged_entry_is_decoded_anew(tmp_path: Path, name: str, damage: str) -> None:
    build = Builder()
    opened(tmp_path, build)
    path = sealed(tmp_path) / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": data[:-1], "long": data + b"\0", "empty": b""}[damage])
    assert torch.equal(opened(tmp_path, build).pixels, torch.from_numpy(PIXELS))
    assert build.calls == 2
    assert opened(tmp_path, build).notes["facts"] == {"of": 7}
    assert build.calls == 2


@pytest.mark.parametrize("name", ["labels.npy", "facts.json"])
def test_a_flipped_bit_in_a_small_file_is_noticed(tmp_path: Path, name: str) -> None:
    build = Builder()
    opened(tmp_path, build)
    path = sealed(tmp_path) / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    opened(tmp_path, build)
    assert build.calls == 2


def test_a_builder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        writer.add(PIXELS, LABELS)
        writer.scratch.mkdir()
        (writer.scratch / "file").touch()
        raise InputError("bad")

    with pytest.raises(InputError, match="bad"):
        opened(tmp_path, build)
    (entry,) = tmp_path.iterdir()
    assert [path.name for path in entry.iterdir()] == [".lock"]


def test_what_a_kill_left_behind_is_not_trusted_and_goes(tmp_path: Path) -> None:
    build = Builder()
    opened(tmp_path, build)
    entry = sealed(tmp_path).parent
    os.rename(entry / "decoded", entry / "partial")
    (entry / ".writing-1-decoded").mkdir()
    opened(tmp_path, build)
    assert build.calls == 2
    assert sorted(path.name for path in entry.iterdir()) == [".lock", "decoded"]


@pytest.mark.slow
@pytest.mark.parametrize("point", ["write.opened", "write.synced", "replace.before", "replace.after"])
def test_a_kill_while_sealing(tmp_path: Path, point: str) -> None:
    code = (
        "import sys, numpy; from pathlib import Path; from vergence.data.cache import cached\n"
        "def build(writer): writer.add(numpy.full((2, 3, 4, 5), 7, 'uint8'), numpy.zeros(2, 'int64')); return {}\n"
        "print(int(cached(Path(sys.argv[1]), 'set', {}, 4, 5, build).pixels.sum()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    killed = subprocess.run(command, env=os.environ | {"VERGENCE_FAILPOINT": point}, timeout=60, check=False)
    assert killed.returncode == -9
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout == f"{2 * 3 * 4 * 5 * 7}\n"
    (entry,) = tmp_path.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == [".lock", "decoded"]


def test_every_file_stands_in_the_manifest(tmp_path: Path) -> None:
    opened(tmp_path, Builder())
    seal = json.loads((sealed(tmp_path) / durable.MANIFEST).read_bytes())
    assert set(seal) == {"pixels.npy", "labels.npy", "facts.json", "identity.json"}
    assert durable.read_folder(sealed(tmp_path)).keys() == seal.keys()


def test_a_second_process_waits_and_then_reads(tmp_path: Path) -> None:
    started = threading.Event()

    def slow(writer: Writer) -> dict[str, Any]:
        started.set()
        time.sleep(0.3)
        return Builder()(writer)

    thread = threading.Thread(target=opened, args=(tmp_path, slow))
    thread.start()
    assert started.wait(10)
    late = Builder()
    assert len(opened(tmp_path, late).labels) == 7
    thread.join(10)
    assert late.calls == 0


def test_a_builder_may_start_again(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        writer.add(255 - PIXELS, LABELS[::-1].copy())
        writer.restart()
        return Builder()(writer)

    decoded = opened(tmp_path, build)
    assert np.array_equal(decoded.pixels.numpy(), PIXELS)
    assert decoded.labels.tolist() == LABELS.tolist()


def test_waiting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 0.0)
    with durable.locked(tmp_path / "x"), pytest.raises(MachineError, match="locked for"), cache.alone(tmp_path / "x"):
        pass


def test_a_cache_without_locks_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(durable.fcntl, "flock", refuses)
    said = (
        r"cannot be held: .* no locks \(No locks available\).*; set VERGENCE_CACHE to another folder, on a local disk"
    )
    with pytest.raises(MachineError, match=said):
        opened(tmp_path, Builder())


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="VERGENCE_CACHE") as error:
        cached(tmp_path / "file", "set", {}, 4, 5, Builder())
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="SKIPPED: this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> BinaryIO:
        return open("/dev/full", "wb")

    monkeypatch.setattr(cache, "_created", full)
    with pytest.raises(MachineError, match="cannot write the cache: No space left"):
        opened(tmp_path, Builder())


def test_a_source_that_vanishes_is_one_line(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        (tmp_path / "gone\n.bin").read_bytes()
        return {}

    with pytest.raises(InputError, match=r"cannot read .*gone\\n.bin: No such file"):
        opened(tmp_path, build)


def test_wrong_blocks_are_refused(tmp_path: Path) -> None:
    def build(writer: Writer) -> dict[str, Any]:
        writer.add(PIXELS[:, :, :3], LABELS)
        return {}

    with pytest.raises(ValueError, match="expected 7 uint8 pictures"):
        opened(tmp_path, build)


def test_a_builder_that_adds_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must add at least one picture"):
        opened(tmp_path, lambda writer: {})
    assert [path.name for path in next(tmp_path.glob("set-*")).iterdir()] == [".lock"]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VERGENCE_CACHE", "/a/b")
    assert default_cache_dir() == Path("/a/b")
    monkeypatch.delenv("VERGENCE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_dir() == Path("/x/vergence")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache/vergence"


def test_without_a_home_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VERGENCE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(MachineError, match="no home folder for the cache; set VERGENCE_CACHE to a folder"):
        default_cache_dir()


def test_what_another_process_decoded_meanwhile_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, alone = Builder(), cache.alone

    @contextlib.contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(cache, "alone", alone)
        opened(tmp_path, build)  # while this one waits for the lock
        yield

    monkeypatch.setattr(cache, "alone", late)
    assert torch.equal(opened(tmp_path, build).pixels, torch.from_numpy(PIXELS))
    assert build.calls == 1


def test_an_entry_that_cannot_be_read_back_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_opened", lambda sealed: None)
    with pytest.raises(MachineError, match=r"cache entry .* cannot be read back; set VERGENCE_CACHE to another disk"):
        opened(tmp_path, Builder())


LAYOUTS = {
    "flat pixels": (PIXELS.reshape(-1), LABELS),
    "other numbers": (PIXELS.astype(np.int8), LABELS),
    "narrow labels": (PIXELS, LABELS.astype(np.int32)),
    "a label too few": (PIXELS, LABELS[1:]),
    "labels in two dimensions": (PIXELS, LABELS[:, None]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_of_another_layout_are_no_entry(tmp_path: Path, name: str) -> None:
    """Sealed as ours are: what only another program would write."""
    (tmp_path / "partial").mkdir()
    for file, array in zip(("pixels.npy", "labels.npy"), LAYOUTS[name], strict=True):
        np.save(tmp_path / "partial" / file, array)
    durable.seal_folder(tmp_path / "partial", tmp_path / "decoded")
    assert cache._opened(tmp_path / "decoded") is None
