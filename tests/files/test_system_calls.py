"""Every system call of a checkpoint's write is killed once, and fails once: the old checkpoint or the new is left."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import checker
import soak
from repository import SOURCE, SUPPORT
from small_runs import VARIANTS, run_of
from vergence.engine.periods import Periods
from vergence.files import series
from vergence.runs import run_training

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("system calls")]
RUN = run_of(VARIANTS["moco"], subset=28, epochs=3)
OLD, NEW = 6, 9
CALLS = {
    "openat": 8,
    "write": 4,
    "fsync": 7,
    "close": 8,
    "mkdir": 1,
    "rename": 2,
    "unlink": 4,
    "rmdir": 1,
}
"""The calls that a write consists of, and how many of each there are at least: fewer killed would prove too little."""
ELSEWHERE = {"mkdir": "mkdirat", "rename": "renameat,renameat2", "unlink": "unlinkat", "rmdir": "unlinkat"}
"""The names of the same on machines that have only these."""


@pytest.fixture(scope="module")
def strace():
    path = shutil.which("strace")
    if path is None:
        pytest.skip("NO STRACE: no system call was killed (apt install strace)")
    return path


class Interrupted(BaseException):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_training(RUN, folder, periods=Periods(log_every=2, save_every=3))
    return folder


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """The same run, ended just before its third checkpoint was to be written."""
    folder = tmp_path_factory.mktemp("halfway") / "run"
    real = series.add

    def add(checkpoints, step, files):
        if step == NEW:
            raise Interrupted
        return real(checkpoints, step, files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "add", add)
        with pytest.raises(Interrupted):
            run_training(RUN, folder, periods=Periods(log_every=2, save_every=3))
    assert checker.newest_step(folder) == OLD
    return folder


@pytest.fixture(scope="module")
def ends(whole, tmp_path_factory):
    """Resume what a fault left, once for each different state, and compare every bit with the whole run."""
    known = set()

    def end(folder):
        state = frozenset(name for name, _ in checker.tree(folder / "checkpoints").items() if ".writing-" not in name)
        if state not in known:
            known.add(state)
            copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("resumed") / "run"))
            run_training(RUN, copy, resume=True, periods=Periods(log_every=2, save_every=3))
            checker.check(copy, whole)

    return end


def linked(folder, copy):
    """A copy that shares its files' bytes: a checkpoint's files are made and removed, never changed."""
    return Path(shutil.copytree(folder, copy, copy_function=os.link))


def attacked(strace, tmp_path, folder, source, call, fault):
    """Write the new checkpoint with strace attached; the exit code and what was said."""
    command = [sys.executable, "-S", SUPPORT / "one_write.py", folder / "checkpoints", NEW, source]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    log = tmp_path / "strace.log"
    with subprocess.Popen([*map(str, command)], env=environment, **pipes) as writer:
        assert writer.stdout.readline() == "ready\n"
        names = ",".join(f"?{name}" for name in (call, *ELSEWHERE.get(call, "").split(",")) if name)
        injection = f"inject={names}:{fault}"
        words = [strace, "-p", str(writer.pid), "-o", str(log), "-e", f"trace={names}", "-e", injection]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as tracer:
            attached = tracer.stderr.readline()
            if "attached" not in attached:
                writer.kill()
                pytest.skip(f"STRACE CANNOT ATTACH HERE, nothing was injected: {attached}")
            began = time.monotonic()
            _, error = writer.communicate("\n", timeout=30)
            tracer.wait(timeout=30)
    return {"code": writer.returncode, "error": error, "seconds": time.monotonic() - began}, log.read_text()


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_system_call_the_old_or_the_new_checkpoint_stands(call, strace, whole, halfway, ends, tmp_path):
    source, left = whole / "checkpoints" / f"step-{NEW:09d}", Counter()
    for k in range(1, 100):
        folder = linked(halfway, tmp_path / f"{k}" / "run")
        (folder.parent / "beside").write_text("not ours")
        outside = checker.tree(folder.parent)
        answer, _ = attacked(strace, tmp_path, folder, source, call, f"signal=SIGKILL:when={k}")
        if answer["code"] == 0:
            break
        checker.check(folder, answer=answer, code=-9, at_least=OLD, outside=outside)
        there = [path.name for path in series.found(folder / "checkpoints")]
        steps = tuple(int(name.removeprefix("step-")) for name in there)
        assert steps in ((3, 6), (3, 6, 9), (6, 9)), "a third state"
        soak.count("system calls killed")
        left[steps] += 1
        ends(folder)
        shutil.rmtree(folder.parent)
    assert answer["code"] == 0, "never a pass without a kill"
    assert checker.newest_step(folder) == NEW
    assert sum(left.values()) >= CALLS[call], left


@pytest.mark.parametrize(
    ("call", "error", "lasting", "said"),
    [
        ("write", "ENOSPC", "+", "No space left on device: the disk is full; free some space and resume"),
        ("write", "EIO", "", "Input/output error"),
        ("fsync", "EIO", "", "Input/output error"),
        ("close", "EIO", "", "Input/output error"),
        ("openat", "ENOSPC", "", "No space left on device"),
        ("rename", "EIO", "", "Input/output error"),
        ("mkdir", "ENOSPC", "", "No space left on device"),
    ],
)
def test_a_system_call_that_fails_is_no_checkpoint(call, error, lasting, said, strace, whole, halfway, ends, tmp_path):
    """At each call: what failed is not saved, however it reads now; the error says what to do; nothing is left over."""
    source, failed = whole / "checkpoints" / f"step-{NEW:09d}", 0
    for k in range(1, 100):
        folder = linked(halfway, tmp_path / f"{k}")
        answer, log = attacked(strace, tmp_path, folder, source, call, f"error={error}:when={k}{lasting}")
        if "(INJECTED)" not in log:
            break
        failed += 1
        newest = checker.newest_step(folder)
        if answer["code"] == 0:  # it struck what lists or cleans up, after all was durable
            assert newest == NEW
        else:
            checker.check(folder, answer=answer, code=4, said=[said], at_least=OLD)
            placed = newest == NEW  # the failure was in removing the oldest
            assert placed != (f"step-{NEW:09d}" in answer["error"]), answer["error"]
            assert placed or not checker.leftovers(folder)
        ends(folder)
        shutil.rmtree(folder)
    assert answer["code"] == 0
    assert failed >= CALLS[call]


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: no disk was filled")
def test_a_full_disk_leaves_the_checkpoints_as_they_were(whole, halfway, tmp_path):
    size = sum(path.stat().st_size for path in halfway.rglob("*") if path.is_file())
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    source = whole / "checkpoints" / f"step-{NEW:09d}"
    script = (
        f"mount -t tmpfs -o size={size + (1 << 20)} tmpfs {disk} && cp -a {halfway} {disk}/run\n"
        f"echo | {sys.executable} -S {SUPPORT / 'one_write.py'} {disk}/run/checkpoints {NEW} {source} > /dev/null\n"
        f"code=$?; cp -a {disk}/run {after}; exit $code"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    answer = {"code": done.returncode, "error": done.stderr, "seconds": 0}
    said = ["the disk is full; free some space and resume", "bytes are to be written", "are free"]
    checker.check(after, answer=answer, code=4, said=said, at_least=OLD)
    assert checker.tree(after) == checker.tree(halfway)
