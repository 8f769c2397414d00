"""What happens to a run from outside: signals, streams, disks, users, clocks. One checker says what must then hold."""

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import soak
from checker import check, check_answer, digest, leftovers, newest_step, tree
from repository import MODULES, SOURCE
from small_runs import VARIANTS, run_of
from vergence.config.schema import to_dict
from vergence.files import durable

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]
RUN = run_of(VARIANTS["byol"], subset=28, epochs=3)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: users and disks were not changed")


def command(config, folder, *more):
    words = ["train", "--config", config, "--out", folder, "--resume", "--device", "cpu", "--threads", "1"]
    return [*words, "--log-every", 2, "--save-every", 3, *more]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(to_dict(RUN)))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config, vergence):
    """The run that nobody touched: nine steps, saved after 3, 6 and 9."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    check(folder, answer=vergence(*command(config, folder)), at_least=9)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory, config, vergence):
    """The same run, killed after its sixth step and before its ninth."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    struck = [("signal_at", "vergence.engine.step.update", 8, signal.SIGKILL)]
    answer = vergence(*command(config, folder), faults=struck)
    check(folder, answer=answer, code=-signal.SIGKILL, every=3, at_least=6)
    soak.count("kills")
    return folder


@pytest.fixture
def halfway(tmp_path, killed):
    """A copy of it."""
    return Path(shutil.copytree(killed, tmp_path / "halfway"))


# --- signals ----------------------------------------------------------------------------------------------------------

MOMENTS = {
    "before the first step": ("vergence.runs.execute.load_images", 1, 0, False),
    "while the method is built": ("vergence.methods.build", 1, 0, False),
    "in a step": ("vergence.engine.step.update", 5, 5, True),
    "while a line is logged": ("vergence.files.durable.append_line", 2, 3, True),
    "during a save": ("vergence.files.series.add", 2, 6, True),
    "between the files of a save": ("vergence.files.durable._write_synced", 9, 6, True),
    "in the evaluation": ("vergence.runs.execute.evaluate", 1, 9, False),
}
"""Where a signal comes, the step that is saved when the process has left, and whether it waited to save it."""


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        *((moment, signal.SIGTERM) for moment in MOMENTS),
        *((moment, signal.SIGINT) for moment in ("before the first step", "in a step", "in the evaluation")),
    ],
)
def test_a_signal_saves_and_leaves(moment, number, config, whole, tmp_path, vergence):
    target, call, saved, waits = MOMENTS[moment]
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("signal_at", target, call, number)])
    said = {True: "--resume", False: "interrupted" if number == signal.SIGINT else "terminated"}[waits]
    check(folder, answer=answer, code=128 + number, said=[said], every=3, limit=10)
    assert newest_step(folder) == saved
    assert not leftovers(folder)
    check(folder, whole, vergence(*command(config, folder)))


@pytest.mark.parametrize("moment", ["in a step", "between the files of a save"])
def test_a_second_interrupt_leaves_at_once(moment, config, whole, tmp_path, vergence):
    target, call, saved, _ = MOMENTS[moment]
    folder = tmp_path / "run"
    twice = ("signal_at", target, call, signal.SIGINT, signal.SIGINT)
    answer = vergence(*command(config, folder), faults=[twice])
    check(folder, answer=answer, code=130, said=["interrupted"], limit=10)
    assert newest_step(folder) == 3 < saved
    check(folder, whole, vergence(*command(config, folder)))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_anywhere_is_survived(moment, config, whole, tmp_path, vergence):
    target, call, _, _ = MOMENTS[moment]
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("signal_at", target, call, signal.SIGKILL)])
    check(folder, answer=answer, code=-signal.SIGKILL, every=3)
    soak.count("kills")
    check(folder, whole, vergence(*command(config, folder)))


def test_a_terminal_that_hangs_up(config, whole, tmp_path, vergence):
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("signal_at", "vergence.engine.step.update", 5, signal.SIGHUP)])
    check(folder, answer=answer, code=-signal.SIGHUP, every=3, at_least=3)
    check(folder, whole, vergence(*command(config, folder)))


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_reader_that_is_gone_ends_the_run_without_harm(config, whole, tmp_path, vergence):
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("reader_gone",)])
    check(folder, answer=answer, code=141, every=3)
    assert answer["error"] == ""
    check(folder, whole, vergence(*command(config, folder)))


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_change_nothing(closed, config, whole, tmp_path, vergence):
    """The next file that is opened must not get the number of a stream: what is printed would be written into it."""
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("silent", number) for number in closed])
    check(folder, whole, answer)


# --- disks and users --------------------------------------------------------------------------------------------------


@as_root
def test_a_disk_without_room_is_refused_before_the_first_step(config, tmp_path, vergence):
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    small = ("small_disk", disk, 8 << 20, after)
    answer = vergence(*command(config, disk / "run"), faults=[small])
    said = ["the disk has no room", "bytes are needed", "are free", "free some space, or choose another --out"]
    check_answer(answer, 4, said)
    needed, free = (
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:bytes are needed|are free)", answer["error"])
    )
    assert free < 8 << 20 < needed
    assert not (after / "run" / "metrics.jsonl").exists()
    assert newest_step(after / "run") == 0


@as_root
def test_the_room_that_is_asked_for_is_enough_and_not_too_much(config, whole, tmp_path, vergence):
    """A disk of just that size holds the run; checkpoints that are there already count as room."""
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    one = sum(path.stat().st_size for path in (whole / "checkpoints" / "step-000000009").iterdir())
    small = ("small_disk", disk, 3 * one + (1 << 18), after)
    answer = vergence(*command(config, disk / "run"), faults=[small])
    check(after / "run", whole, answer)


def test_a_file_that_may_not_grow(config, whole, tmp_path, vergence):
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), faults=[("limited_files", 1 << 20)])
    said = ["File too large", "ulimit -f", "step-000000003"]
    check(folder, answer=answer, code=4, said=said)
    assert newest_step(folder) == 0
    assert not leftovers(folder)
    check(folder, whole, vergence(*command(config, folder)))


@as_root
def test_a_disk_that_can_only_be_read(config, tmp_path, vergence):
    disk = tmp_path / "disk"
    disk.mkdir()
    outside = tree(tmp_path)
    answer = vergence(*command(config, disk / "run"), faults=[("read_only_disk", disk)])
    check_answer(answer, 4, ["Read-only file system", "choose another folder with --out"], limit=5)
    assert tree(tmp_path) == outside


@as_root
def test_a_finished_run_on_a_disk_that_can_only_be_read_is_recognised(config, whole, vergence):
    answer = vergence(*command(config, whole), faults=[("read_only_disk", whole)])
    check(whole, answer=answer, at_least=9)


@as_root
def test_a_folder_of_someone_else(config, vergence):
    """Not under the tests' own folder, which only its owner may enter: the refusal would be of another folder."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        readable = Path(name, "config.json")
        shutil.copy(config, readable)
        readable.chmod(0o644)
        answer = vergence(*command(readable, Path(name, "run")), faults=[("as_user", 65534)])
        check_answer(answer, 4, ["Permission denied", "no permission to write there", name], limit=5)
        assert [path.name for path in Path(name).iterdir()] == ["config.json"]


@pytest.mark.parametrize("kind", ["a file", "below a file", "255 characters and more"])
def test_a_path_that_is_none(kind, config, tmp_path, vergence):
    (tmp_path / "file").write_text("not ours")
    outside = tree(tmp_path)
    path = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "run"}.get(kind, tmp_path / ("n" * 256))
    answer = vergence(*command(config, path))
    check_answer(answer, 4, ["cannot write", "choose another folder with --out"], limit=5)
    assert tree(tmp_path) == outside


def test_a_run_that_another_process_is_at(config, halfway, whole, vergence):
    with durable.locked(halfway):
        before = tree(halfway)
        answer = vergence(*command(config, halfway))
        check(
            halfway, answer=answer, code=4, said=[f"in use by process {os.getpid()} on {socket.gethostname()}"], limit=5
        )
        assert tree(halfway) == before
    check(halfway, whole, vergence(*command(config, halfway)))


# --- the log, the end, the clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail", [b'{"step": 9, "ep', b"\0" * 50, b'{"step": 7, "loss": 1.0}\n{"step": 8}\n{"st', b"\n\xff"]
)
def test_a_torn_log_is_cut_back_to_the_checkpoint(tail, config, halfway, whole, vergence):
    log = halfway / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + tail)
    check(halfway, whole, vergence(*command(config, halfway)))
    steps = [line["step"] for line in durable.read_lines(log)]
    assert steps == sorted(set(steps))


def test_a_finished_run_is_left_alone(config, whole, vergence):
    before = tree(whole)
    check(whole, answer=vergence(*command(config, whole)), at_least=9)
    assert tree(whole) == before


def test_clocks_zones_and_locales_change_nothing(config, whole, tmp_path, vergence):
    folder = tmp_path / "run"
    odd = {"TZ": "Asia/Kolkata", "LC_ALL": "C", "LANG": "C"}
    answer = vergence(*command(config, folder), environment=odd, faults=[("jumping_clock",)])
    check(folder, whole, answer)
    for line in durable.read_lines(folder / "metrics.jsonl"):
        assert 0 < line["seconds"] < 60, "a duration from a clock that jumps"


def test_order_of_hashing_changes_nothing(config, whole, tmp_path):
    """In a process of its own: the seed of hashing is chosen when Python starts."""
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "vergence", *map(str, command(config, folder))]
    odd = {"PYTHONHASHSEED": "12345", "TZ": "America/St_Johns", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env={**os.environ, **odd, "PYTHONPATH": str(SOURCE)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digest(folder) == digest(whole)


WALL_CLOCK = {"time.time", "time.time_ns", "time.localtime", "time.ctime"}


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: path.stem)
def test_no_duration_comes_from_the_wall_clock(path):
    """What is written down as a date may; `datetime.now` is used for nothing else."""
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not calls & WALL_CLOCK
