"""Files that must survive: a damaged one is noticed, and a failed write changes nothing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from small_runs import VARIANTS, run_of
from vergence import config as c
from vergence import methods
from vergence.engine import checkpoint
from vergence.errors import InputError, MachineError
from vergence.files import durable, series
from vergence.optim import build_optimizer

FILES = {"weights.bin": bytes(range(256)) * 2, "state.json": b'{"step": 3}', "empty": b""}


def temporaries(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".writing-")]


def in_another_process(script, *arguments, **environment):
    """Run a few lines with `durable` and `Path` at hand."""
    head = (
        "import sys\nfrom pathlib import Path\nfrom vergence.files import durable\n"
        "from vergence.errors import MachineError\n"
    )
    command = [sys.executable, "-c", head + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


# --- sealed folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path):
    durable.write_folder(tmp_path / "sealed", FILES)
    return tmp_path / "sealed"


def refused(folder):
    with pytest.raises(InputError, match="damaged") as caught:
        durable.read_folder(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_sealed_folder_gives_back_what_was_written(sealed):
    assert durable.read_folder(sealed) == FILES
    assert not temporaries(sealed.parent)


@pytest.mark.parametrize("name", ["weights.bin", "state.json", durable.MANIFEST])
def test_every_flipped_bit_is_noticed(sealed, name):
    whole = (sealed / name).read_bytes()
    for position in range(0, len(whole), 7):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        (sealed / name).write_bytes(data)
        refused(sealed)
    (sealed / name).write_bytes(whole)
    assert durable.read_folder(sealed) == FILES


@pytest.mark.parametrize("name", ["weights.bin", "state.json", durable.MANIFEST])
@pytest.mark.parametrize("sixteenths", range(16))
def test_a_truncated_file_is_noticed(sealed, name, sixteenths):
    whole = (sealed / name).read_bytes()
    (sealed / name).write_bytes(whole[: len(whole) * sixteenths // 16])
    refused(sealed)


@pytest.mark.parametrize("name", [*FILES, durable.MANIFEST])
def test_a_missing_file_is_noticed(sealed, name):
    (sealed / name).unlink()
    refused(sealed)


@pytest.mark.parametrize("name", [*FILES, durable.MANIFEST])
def test_a_longer_file_is_noticed(sealed, name):
    with open(sealed / name, "ab") as file:
        file.write(b"\x00")
    refused(sealed)


def test_an_extra_file_or_folder_is_noticed(sealed):
    (sealed / "extra").touch()
    refused(sealed)
    (sealed / "extra").unlink()
    (sealed / "extra").mkdir()
    refused(sealed)


@pytest.mark.parametrize(
    "manifest", [b"[]", b"3", b"{}", b"null", b"\xff\xfe", b"[" * 5000, b'{"../sealed/empty": {}}']
)
def test_a_manifest_that_is_none_is_noticed(sealed, manifest):
    (sealed / durable.MANIFEST).write_bytes(manifest)
    refused(sealed)


@pytest.mark.parametrize("entry", [3, None, "sha256", []])
def test_an_entry_of_a_manifest_that_is_none_is_noticed(sealed, entry):
    seal = json.loads((sealed / durable.MANIFEST).read_bytes())
    (sealed / durable.MANIFEST).write_text(json.dumps(seal | {"state.json": entry}))
    refused(sealed)


def test_a_manifest_of_more_than_a_megabyte_is_not_read(sealed):
    whole = (sealed / durable.MANIFEST).read_bytes()
    (sealed / durable.MANIFEST).write_bytes(whole.ljust(1 << 20))
    assert durable.read_folder(sealed) == FILES
    (sealed / durable.MANIFEST).write_bytes(whole.ljust((1 << 20) + 1))
    with pytest.raises(InputError, match=r"damaged: its manifest.json is too long$"):
        durable.read_folder(sealed)


def test_no_folder_and_a_file_in_its_place(tmp_path):
    refused(tmp_path / "none")
    (tmp_path / "file").touch()
    refused(tmp_path / "file")


def test_a_sealed_folder_is_not_written_over(sealed):
    with pytest.raises(MachineError, match="cannot write"):
        durable.write_folder(sealed, {"other": b""})
    assert durable.read_folder(sealed) == FILES
    assert not temporaries(sealed.parent)


def test_what_is_too_large_to_hold_is_sealed_where_it_lies(tmp_path):
    (tmp_path / "partial" / "inner").mkdir(parents=True)
    (tmp_path / "partial" / "large").write_bytes(b"x" * 1000)
    (tmp_path / "partial" / "inner" / "small").write_bytes(b"y")
    durable.seal_folder(tmp_path / "partial", tmp_path / "whole")
    manifest = json.loads((tmp_path / "whole" / durable.MANIFEST).read_text())
    assert {name: entry["bytes"] for name, entry in manifest.items()} == {"large": 1000, "inner/small": 1}
    assert not (tmp_path / "partial").exists()
    (tmp_path / "part").write_bytes(b"z")
    durable.seal_file(tmp_path / "part", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"z"
    assert not (tmp_path / "part").exists()


def test_a_removed_folder_is_gone_and_a_sweep_takes_what_was_left(sealed):
    root = sealed.parent
    durable.remove_folder(sealed)
    assert not list(root.iterdir())
    (root / ".writing-7-folder" / ".writing-7-inner").mkdir(parents=True)
    (root / "deep").mkdir()
    (root / "deep" / ".writing-7-file").write_bytes(b"half")
    (root / "deep" / "file").write_bytes(b"whole")
    durable.sweep(root)
    assert [path.name for path in root.rglob("*")] == ["deep", "file"]


# --- writing ----------------------------------------------------------------------------------------------------------

OVERWRITE = "durable.write_file(Path(sys.argv[1]), b'new' * 1000)"


@pytest.mark.parametrize("point", [point for point in durable.FAILPOINTS if point.startswith(("write", "replace"))])
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, point):
    path = tmp_path / "file"
    durable.write_file(path, b"old")
    done = in_another_process(OVERWRITE, path, VERGENCE_FAILPOINT=point)
    assert done.returncode == -signal.SIGKILL, done.stderr
    renamed = point in ("replace.after", "replace.synced")
    assert path.read_bytes() == (b"new" * 1000 if renamed else b"old")
    assert bool(temporaries(tmp_path)) == (not renamed)
    durable.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


LIMITED = """
import resource
def within(limit): resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
def attempt(call, *arguments):
    try: call(*arguments)
    except MachineError as error: print(error)
    else: print("written")
root = Path(sys.argv[1])
durable.write_file(root / "file", b"old")
within(100)
attempt(durable.write_file, root / "file", b"new" * 1000)
attempt(durable.write_folder, root / "folder", {"small": b"", "large": b"new" * 1000})
attempt(durable.write_json, root / "list.json", list(range(1000)))
within(5)
attempt(durable.append_line, root / "log", "a line that is too long")
within(0)
attempt(durable.locked(root).__enter__)
"""


def test_no_room_for_a_file_leaves_everything_as_it_was(tmp_path):
    done = in_another_process(LIMITED, tmp_path)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.startswith(f"cannot write {tmp_path}")
        assert "File too large: the file would exceed the size limit of this process (ulimit -f)" in line
    assert (tmp_path / "file").read_bytes() == b"old"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"file", "log", ".lock"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_explained():
    with pytest.raises(MachineError, match="No space left on device: the disk is full; free some space and resume"):
        durable.append_line(Path("/dev/full"), "line")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space and resume"),
        (errno.EDQUOT, "the quota is used up; free some space and resume"),
        (errno.EROFS, "the file system is read-only; choose another folder with --out"),
        (errno.EACCES, "no permission to write there; choose another folder with --out"),
        (errno.EIO, "nothing was replaced; what was saved before still stands"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_the_disk_says_is_explained_and_nothing_is_replaced(tmp_path, monkeypatch, number, advice, call):
    """A write whose fsync failed is not saved, whatever the page cache shows."""

    def broken(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    durable.write_file(path, b"old")
    monkeypatch.setattr(os, call, broken)
    with pytest.raises(MachineError) as caught:
        durable.write_file(path, b"new")
    assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(number)}: {advice}")
    assert ("(3 bytes are to be written, " in str(caught.value)) == (number == errno.ENOSPC)
    with pytest.raises(MachineError):
        durable.write_folder(tmp_path / "folder", FILES)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def impossible_paths(root):
    return {"below a file": root / "file" / "run" / "x", "too long": root / ("n" * 300), "of a folder": root / "folder"}


@pytest.mark.parametrize("which", ["below a file", "too long", "of a folder"])
def test_paths_that_cannot_be_written(tmp_path, which):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    path = impossible_paths(tmp_path)[which]
    said = {"below a file": "a part of the path is a file", "too long": "the path is too long", "of a folder": ""}[
        which
    ]
    calls = {
        "write_file": lambda: durable.write_file(path, b""),
        "write_json": lambda: durable.write_json(path, {}),
        "write_folder": lambda: durable.write_folder(path, FILES),
        "append_line": lambda: durable.append_line(path, ""),
    }
    if which == "of a folder":
        del calls["write_folder"]  # has a test of its own
    for name, call in calls.items():
        with pytest.raises(MachineError, match="cannot write") as caught:
            call()
        assert said in str(caught.value), name
        assert len(str(caught.value).splitlines()) == 1
    assert not temporaries(tmp_path)


@pytest.mark.parametrize(("wanted", "passage"), [("write.synced", 1), ("write.synced:1", 1), ("write.synced:3", 3)])
def test_a_failpoint_kills_at_the_passage_that_was_asked_for(tmp_path, monkeypatch, wanted, passage):
    struck = []
    monkeypatch.setattr(durable, "_passed", {})
    monkeypatch.setattr(os, "kill", lambda *given: struck.append(given))
    monkeypatch.setenv("VERGENCE_FAILPOINT", wanted)
    kills = []
    for number in range(1, 5):
        durable.write_file(tmp_path / "file", b"%d" % number)
        kills.append(len(struck))
    assert kills == [int(number >= passage) for number in range(1, 5)]
    assert struck == [(os.getpid(), signal.SIGKILL)]


def test_a_folder_whose_name_was_not_flushed_is_not_there(tmp_path, monkeypatch):
    """It could be read just now, and would be gone after a power cut: then it was never saved."""
    flushed = durable.sync_folder

    def fails_above(folder):
        if folder == tmp_path:
            assert (tmp_path / "folder").is_dir()  # the fault comes after the renaming
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flushed(folder)

    monkeypatch.setattr(durable, "sync_folder", fails_above)
    with pytest.raises(MachineError, match="Input/output error: nothing was replaced"):
        durable.write_folder(tmp_path / "folder", FILES)
    assert list(tmp_path.iterdir()) == []


def test_folders_within_a_sealed_folder_are_flushed_too(tmp_path, monkeypatch):
    flushed = []
    (tmp_path / "new" / "in" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "in" / "file").write_bytes(b"1")
    monkeypatch.setattr(durable, "sync_folder", flushed.append)
    durable.seal_folder(tmp_path / "new", tmp_path / "final")
    assert sorted(flushed) == [tmp_path, *(tmp_path / "new" / name for name in ("", "in", "in/deep"))]
    seal = json.loads((tmp_path / "final" / durable.MANIFEST).read_bytes())
    assert list(seal) == ["in/file"]
    assert seal["in/file"]["bytes"] == 1


SAVED = "open write.opened write write.written fsync close write.synced "
FLUSHED = "open fsync close "
NAMED = f"replace.before replace replace.after {FLUSHED} replace.synced"
STEPS = {
    "make_folder": (lambda at: durable.make_folder(at / "a" / "b"), f"mkdir {FLUSHED} mkdir {FLUSHED}"),
    "write_file": (
        lambda at: durable.write_file(at / "file", b"1"),
        SAVED + NAMED.replace("replace.after", "unlink replace.after"),
    ),
    "write_folder": (
        lambda at: durable.write_folder(at / "folder", {"one": b"1", "two": b"2"}),
        f"mkdir {SAVED * 3} {FLUSHED} {NAMED}",
    ),
    "seal_folder": (lambda at: durable.seal_folder(at / "new", at / "sealed"), FLUSHED + SAVED + FLUSHED * 2 + NAMED),
    "seal_file": (lambda at: durable.seal_file(at / "log", at / "other"), FLUSHED + NAMED),
    "append_line": (lambda at: durable.append_line(at / "log", "1"), "append.before open write close append.after"),
    "sync_file": (lambda at: durable.sync_file(at / "log"), FLUSHED * 2),
    "sync_file of none": (lambda at: durable.sync_file(at / "none"), ""),
    "remove_folder": (
        lambda at: durable.remove_folder(at / "new"),
        f"remove.before replace {FLUSHED} remove.after unlink rmdir rmdir",
    ),
    "sweep": (lambda at: durable.sweep(at), "unlink rmdir unlink unlink"),
}


@pytest.mark.parametrize("name", STEPS)
def test_every_step_of_a_write_is_taken_in_its_order(tmp_path, monkeypatch, name):
    """What each is for is shown by cutting the power between them; here, that none is lost or moved unseen."""
    taken = []

    class Account:
        def __getattr__(self, call):
            return lambda *given, **named: (taken.append(call), getattr(os, call)(*given, **named))[1]

    (tmp_path / "new" / "in").mkdir(parents=True)
    (tmp_path / "new" / "in" / "file").touch()
    (tmp_path / "log").write_text("0\n")
    (tmp_path / ".writing-1-folder").mkdir()
    for left in (".writing-1-folder/file", ".writing-2-file"):
        (tmp_path / left).touch()
    (tmp_path / ".writing-3-link").symlink_to(tmp_path / "new")
    monkeypatch.setattr(durable, "disk", Account())
    monkeypatch.setattr(durable, "_reach", taken.append)
    call, steps = STEPS[name]
    call(tmp_path)
    assert taken == steps.split() if name != "sweep" else sorted(taken) == sorted(steps.split())
    if name == "sweep":
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "new"]
        assert (tmp_path / "new" / "in" / "file").exists()  # of a link only the link is gone


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(MachineError, match="a part of the path is a file; choose another folder with --out"):
            durable.make_folder(path)


def test_json_is_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


# --- logs and locks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (None, []),
        (b"", []),
        (b'{"step": 1}\n{"step": 2}\n', [1, 2]),
        (b'{"step": 1}\n{"step": 2}', [1, 2]),
        (b'{"step": 1}\n{"step"', [1]),
        (b'{"step": 1}\n\xff\xfe', [1]),
        (b'{"step": 1}\n3\n[]\n"x"\n{"step": 2}\n', [1, 2]),
        (b'{"step": 1}\n' + b"\x00" * 100, [1]),
    ],
)
def test_a_log_is_read_up_to_its_torn_tail(tmp_path, content, steps):
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    assert [line["step"] for line in durable.read_lines(path)] == steps


def test_lines_are_added_and_made_durable(tmp_path):
    for step in range(3):
        durable.append_line(tmp_path / "log", json.dumps({"step": step}))
    durable.sync_file(tmp_path / "log")
    durable.sync_file(tmp_path / "none")
    assert [line["step"] for line in durable.read_lines(tmp_path / "log")] == [0, 1, 2]


def test_a_folder_is_held_by_one_and_free_again(tmp_path):
    folder = tmp_path / "new" / "run"
    with durable.locked(folder):
        with pytest.raises(
            MachineError, match=rf"in use by process {os.getpid()} on .*; wait for it, or choose another"
        ):
            durable.locked(folder).__enter__()
        with durable.locked(tmp_path / "other"):
            pass
    with pytest.raises(KeyError), durable.locked(folder):
        raise KeyError
    with durable.locked(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable.fcntl, "flock", refuses)
    with pytest.raises(MachineError) as caught, durable.locked(tmp_path / "run"):
        pass
    why = f"{tmp_path / 'run'} cannot be held: its file system gives no locks ({os.strerror(number)})"
    assert str(caught.value).startswith(why)
    assert str(caught.value).endswith("; choose another --out, on a local disk")


# --- checkpoints ------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": c.SGD(lr=0.1),
    "sgd on layers": c.SGD(lr=0.1, factor=3.0, layers=("projector",)),
    "adam": c.Adam(),
    "adamw": c.AdamW(betas=(0.8, 0.9)),
    "lars": c.LARS(lr=1.0, layers=("encoder",)),
}
RECORD = {"key": "0123456789ab", "data": "feed"}


def built(optimizer=OPTIMIZERS["sgd"], method="byol", seed=0):
    run = run_of(VARIANTS[method], optimizer=optimizer, seed=seed)
    network = methods.build(run).to(memory_format=torch.channels_last)
    return network, build_optimizer(run.optimizer, network)


def step(method, optimizer, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)  # laid out as backward does
            parameter.grad.copy_(torch.randn(parameter.shape, generator=generator))
    optimizer.step()


@pytest.fixture
def saved(tmp_path):
    """The folder of two checkpoints, after steps 1 and 2."""
    method, optimizer = built()
    for number in (1, 2):
        step(method, optimizer, number)
        checkpoint.save(tmp_path, number, method, optimizer, RECORD)
    return tmp_path


def spoil(folder):
    path = folder / "method.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")


def resealed(folder, **changed):
    """The same checkpoint with other files, sealed as ours are: what only a foreign program would write."""
    files = {**durable.read_folder(folder), **{name.replace("_", "."): data for name, data in changed.items()}}
    durable.remove_folder(folder)
    durable.write_folder(folder, {name: data for name, data in files.items() if data is not None})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_was_saved_goes_on_with_the_same_bits(tmp_path, name):
    method, optimizer = built(OPTIMIZERS[name])
    for number in (1, 2, 3):
        step(method, optimizer, number)
    checkpoint.save(tmp_path, 3, method, optimizer, RECORD)
    other, other_optimizer = built(OPTIMIZERS[name], seed=1)
    assert checkpoint.load_newest(tmp_path, other, other_optimizer, RECORD) == (3, [])
    for number in (4, 5):
        step(method, optimizer, number)
        step(other, other_optimizer, number)
    ours, theirs = method.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    one, two = optimizer.state_dict(), other_optimizer.state_dict()
    assert one["param_groups"] == two["param_groups"]
    assert one["state"].keys() == two["state"].keys() != set()
    for index, values in one["state"].items():
        for key, value in values.items():
            assert torch.equal(value, two["state"][index][key]), (index, key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_lie_in_memory_as_their_weights_do(tmp_path, name):
    """Fused kernels walk both in memory order: a moment laid out otherwise would belong to other weights."""
    method, optimizer = built(OPTIMIZERS[name])
    step(method, optimizer, 1)
    checkpoint.save(tmp_path, 1, method, optimizer, RECORD)
    other, other_optimizer = built(OPTIMIZERS[name])
    checkpoint.load_newest(tmp_path, other, other_optimizer, RECORD)
    last = [p for p in other.parameters() if p.ndim == 4 and not p.is_contiguous()]
    assert len(last) > 5, "no weight here is channels-last: this test would prove nothing"
    for parameter, values in other_optimizer.state.items():
        for value in values.values():
            assert value.shape != parameter.shape or value.stride() == parameter.stride()


def test_the_queue_and_the_target_are_saved_too(tmp_path):
    method, optimizer = built(method="moco")
    step(method, optimizer, 1)
    method.queue.push(torch.randn(5, 8))
    method.move_target(0.5, "after-optimizer")
    checkpoint.save(tmp_path, 1, method, optimizer, RECORD)
    other, _ = built(method="moco", seed=1)
    assert checkpoint.load_method(checkpoint.folder_of(tmp_path, 1), other) == 1
    assert int(other.queue.position) == 5
    assert torch.equal(method.queue.keys, other.queue.keys)
    for one, two in zip(method.target.parameters(), other.target.parameters(), strict=True):
        assert torch.equal(one, two)


def test_tensors_are_packed_as_safetensors_packs_them():
    """Byte for byte, whatever their type, shape and order in memory."""
    values = torch.arange(-12, 12).reshape(2, 3, 2, 2)
    kinds = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32)
    kinds += (torch.float32, torch.float64, torch.int64)
    tensors = {f"b.{kind}": values.to(kind) for kind in kinds}
    tensors |= {"a.é": torch.rand(2, 3, 2, 2).to(memory_format=torch.channels_last), "scalar": torch.tensor(3)}
    tensors |= {
        "none": torch.zeros(0, 3),
        "part": torch.rand(4, 4)[:, 1],
        "large": torch.rand(600, 600),
        "weight": torch.nn.Parameter(torch.rand(2)),
    }
    ours = b"".join(checkpoint._pack(tensors))
    assert ours == safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    assert b"".join(checkpoint._pack({})) == safetensors.torch.save({})
    method, optimizer = built(OPTIMIZERS["adam"])
    step(method, optimizer, 1)
    state = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
    assert b"".join(checkpoint._pack(method.state_dict())) == safetensors.torch.save(state)


def test_a_checkpoint_of_step_zero_is_one(tmp_path):
    method, optimizer = built()
    checkpoint.save(tmp_path, 0, method, optimizer, RECORD)
    assert checkpoint.load_newest(tmp_path, method, optimizer, RECORD) == (0, [])
    assert checkpoint.load_method(checkpoint.folder_of(tmp_path, 0), method) == 0


def test_what_a_reader_may_open_is_indented(saved):
    """State and manifest are lines to be read and compared, not one line."""
    folder = checkpoint.folder_of(saved, 2)
    for name in ("state.json", durable.MANIFEST):
        text = (folder / name).read_text()
        assert text.startswith('{\n  "')
        assert text == json.dumps(json.loads(text), indent=2)


def test_nothing_there_is_step_zero(tmp_path):
    method, optimizer = built()
    assert checkpoint.load_newest(tmp_path / "none", method, optimizer, RECORD) == (0, [])
    assert checkpoint.found(tmp_path / "none") == []


def test_the_newest_two_are_kept(saved):
    method, optimizer = built()
    for number in (3, 4, 5, 1000000001):
        checkpoint.save(saved, number, method, optimizer, RECORD)
    assert [path.name for path in checkpoint.found(saved)] == ["step-000000005", "step-1000000001"]
    assert not temporaries(saved)


def test_a_damaged_checkpoint_is_passed_over_and_said(saved):
    spoil(checkpoint.folder_of(saved, 2))
    method, optimizer = built(seed=1)
    done, warnings = checkpoint.load_newest(saved, method, optimizer, RECORD)
    assert done == 1
    (warning,) = warnings
    assert "step-000000002: damaged: method.safetensors does not match its SHA-256; trying the one before it" in warning


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(saved):
    spoil(checkpoint.folder_of(saved, 2))
    method, optimizer = built()
    checkpoint.load_newest(saved, method, optimizer, RECORD)
    checkpoint.save(saved, 2, method, optimizer, RECORD)
    assert checkpoint.load_newest(saved, method, optimizer, RECORD) == (2, [])


def test_a_damaged_checkpoint_does_not_count_among_the_two_kept(saved):
    method, optimizer = built()
    checkpoint.save(saved, 9, method, optimizer, RECORD)
    spoil(checkpoint.folder_of(saved, 9))
    for number in (3, 4):
        checkpoint.save(saved, number, method, optimizer, RECORD)
    assert [path.name for path in checkpoint.found(saved)] == ["step-000000003", "step-000000004"]


def test_no_whole_checkpoint_left(saved):
    for folder in checkpoint.found(saved):
        spoil(folder)
    with pytest.raises(InputError) as caught:
        checkpoint.load_newest(saved, *built(), RECORD)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[-1] == f"{saved}: no whole checkpoint left; train again in another --out"


@pytest.mark.parametrize("name", RECORD)
def test_a_checkpoint_of_another_run_or_other_pictures_is_refused(saved, name):
    with pytest.raises(InputError, match=f"belongs to another run: {name} is '{RECORD[name]}', not 'other'"):
        checkpoint.load_newest(saved, *built(), RECORD | {name: "other"})


def state_of(saved):
    return json.loads(durable.read_folder(checkpoint.folder_of(saved, 2))["state.json"])


FOREIGN = {
    "newer format": (
        lambda s: {"state_json": json.dumps(s | {"format": 2}).encode()},
        "written by a newer version of vergence, 0.1.0 (format 2, known here: 1); upgrade",
    ),
    "no format": (lambda s: {"state_json": b"{}"}, "not a checkpoint of this run: KeyError"),
    "format of text": (lambda s: {"state_json": json.dumps(s | {"format": "x"}).encode()}, "TypeError"),
    "no object": (lambda s: {"state_json": b"[]"}, "not a checkpoint of this run"),
    "no JSON": (lambda s: {"state_json": b"\xff"}, "not a checkpoint of this run"),
    "a step before the first": (
        lambda s: {"state_json": json.dumps(s | {"step": -1}).encode()},
        "ValueError: its step is -1",
    ),
    "a step of half": (lambda s: {"state_json": json.dumps(s | {"step": 1.5}).encode()}, "ValueError: its step is 1.5"),
    "another rate's kind": (
        lambda s: {"state_json": json.dumps(s | {"optimizer": [s["optimizer"][0] | {"lr": "0.1"}]}).encode()},
        "ValueError: the settings of another optimizer",
    ),
    "a setting too few": (
        lambda s: {
            "state_json": json.dumps(
                s | {"optimizer": [{k: v for k, v in s["optimizer"][0].items() if k != "lr"}]}
            ).encode()
        },
        "ValueError: the settings of another optimizer",
    ),
    "no state": (lambda s: {"state_json": None}, "KeyError: 'state.json'"),
    "no moments": (lambda s: {"optimizer_safetensors": None}, "KeyError: 'optimizer.safetensors'"),
    "a pickle": (lambda s: {"method_safetensors": b"\x80\x04cos\nsystem\n."}, "SafetensorError"),
    "other weights": (
        lambda s: {"method_safetensors": safetensors.torch.save({"x": torch.zeros(2)})},
        "RuntimeError: Error(s) in loading state_dict for BYOL: Missing key(s)",
    ),
    "more moments": (
        lambda s: {"optimizer_safetensors": safetensors.torch.save({"999.momentum_buffer": torch.zeros(2)})},
        "KeyError",
    ),
    "moments of another shape": (
        lambda s: {"optimizer_safetensors": safetensors.torch.save({"0.momentum_buffer": torch.zeros(2)})},
        "ValueError: '0.momentum_buffer' has the shape [2], not [16, 3, 3, 3]",
    ),
    "other groups": (lambda s: {"state_json": json.dumps(s | {"optimizer": []}).encode()}, "ValueError"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_sealed_folder_that_is_no_checkpoint_of_ours_is_refused(saved, name):
    change, said = FOREIGN[name]
    resealed(checkpoint.folder_of(saved, 2), **change(state_of(saved)))
    with pytest.raises(InputError) as caught:
        checkpoint.load_newest(saved, *built(), RECORD)
    (line,) = str(caught.value).splitlines()
    assert said in line
    assert len(line) < 500


def test_another_head_does_not_fit(saved):
    run = run_of(replace(VARIANTS["byol"], projector=c.Projector(hidden=16, out=9)))
    with pytest.raises(InputError, match="size mismatch"):
        checkpoint.load_method(checkpoint.folder_of(saved, 2), methods.build(run))


SIZES = {"sgd": 1, "sgd without momentum": 0, "adam": 2}
"""Moments of each optimizer, as often as there are weights."""


@pytest.mark.parametrize("name", SIZES)
def test_room_for_three_checkpoints_is_asked_for_before_the_first_step(tmp_path, monkeypatch, name):
    kinds = {"sgd": c.SGD(), "sgd without momentum": c.SGD(momentum=0.0), "adam": c.Adam()}
    method, optimizer = built(kinds[name])
    weights = sum(p.nbytes for group in optimizer.param_groups for p in group["params"])
    one = sum(tensor.nbytes for tensor in method.state_dict().values()) + SIZES[name] * weights
    asked = []

    def room(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=free))
        checkpoint.require_space(tmp_path / "run" / "checkpoints", method, optimizer)

    room(3 * one)
    with pytest.raises(MachineError) as caught:
        room(3 * one - 1)
    assert str(caught.value) == (
        f"{tmp_path / 'run' / 'checkpoints'}: the disk has no room: {3 * one:,} bytes are needed for 2 checkpoints and "
        f"the one being written, {3 * one - 1:,} are free; free some space, or choose another --out"
    )
    assert asked == [tmp_path] * 2  # of the run's folder there is nothing yet


def test_checkpoints_that_are_there_need_no_room_again(saved, monkeypatch):
    method, optimizer = built()
    step(method, optimizer, 1)  # with moments of its own
    there = sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())
    state = optimizer.state_dict()["state"].values()
    tensors = [*method.state_dict().values(), *(moment for moments in state for moment in moments.values())]
    one = sum(tensor.nbytes for tensor in tensors)
    assert one < there < 3 * one  # two, with their headers
    needed = max(one, 3 * one - there)

    def room(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        checkpoint.require_space(saved, method, optimizer)

    room(needed)
    with pytest.raises(MachineError, match=f"{needed:,} bytes are needed"):
        room(needed - 1)


def test_the_digest_of_a_state_is_of_weights_moments_and_settings():
    def digest(change=lambda method, optimizer: None):
        method, optimizer = built()
        step(method, optimizer, 1)
        change(method, optimizer)
        return checkpoint.state_digest(method, optimizer)

    def weight(method, optimizer):
        next(method.parameters()).data[0] += 1

    def moment(method, optimizer):
        next(iter(optimizer.state.values()))["momentum_buffer"][0] += 1

    def setting(method, optimizer):
        optimizer.param_groups[0]["lr"] *= 2

    assert digest() == digest()
    assert len({digest(), digest(weight), digest(moment), digest(setting)}) == 4


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EIO])
def test_folders_that_cannot_be_listed_are_none_only_where_there_can_be_none(tmp_path, monkeypatch, number):
    def refused(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listdir", refused)
    if number not in (errno.EACCES, errno.EIO):
        assert series.found(tmp_path) == []
        return
    with pytest.raises(MachineError) as caught:
        series.found(tmp_path)
    advice = "check the disk and the permissions"
    assert str(caught.value) == f"cannot list {tmp_path}: {os.strerror(number)}: {advice}"
