"""Jobs that a cluster does: what is asked of it, what is watched, and what SLURM is told, by commands in its place."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest

from vergence.errors import Busy, Diverged, InputError, MachineError, Stopped
from vergence.files import durable
from vergence.grid import FAILED, cluster, watch
from vergence.grid.cluster import Cluster, read_cluster, require_engine
from vergence.grid.ray_tasks import Ray
from vergence.grid.slurm import Runner, Slurm
from vergence.grid.status import Failure, GridView
from vergence.grid.watch import run_on

pytestmark = [pytest.mark.wide, pytest.mark.xdist_group("grid")]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_says_what_is_asked(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text('runners = 2\ngpus = 0.25\npartition = "gpu"\nsetup = ["module load cuda"]\n')
    assert read_cluster(file) == Cluster(runners=2, gpus=0.25, partition="gpu", setup=("module load cuda",))
    assert read_cluster(None) == Cluster()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('partitoin = "gpu"', "partitoin: unknown key; did you mean 'partition'?"),
        ("runners = 0", "runners: must be at least 1, not 0"),
        ("minutes = 'four hours'", "minutes: expected a whole number, not 'four hours'"),
        ("executor = 'pbs'", "executor: unknown choice 'pbs'; known: local, slurm"),
        ("runners 4", "cannot be read: Expected '=' after a key"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(text, said, tmp_path):
    (tmp_path / "cluster.toml").write_text(text)
    with pytest.raises(InputError, match=r"cluster\.toml") as refused:
        read_cluster(tmp_path / "cluster.toml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cluster\.toml: cannot be read: No such file or directory"):
        read_cluster(tmp_path / "cluster.toml")


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_its_extra(engine, package, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    require_engine("local")
    with pytest.raises(
        InputError, match=rf"--on {engine}: {package} is not installed: pip install 'vergence\[{engine}\]'"
    ):
        require_engine(engine)


def test_neither_the_grid_nor_a_local_run_loads_them():
    script = "import sys, vergence.grid.watch, vergence.grid.slurm, vergence.grid.ray_tasks, vergence.command.studies;"
    script += "print({'submitit', 'ray', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


# --- the watch --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """A job that is done when its folder says so."""

    name: str
    work: float = 1.0

    @property
    def folder(self):
        return self.name

    def finished(self, folder):
        return (folder / "done").exists()

    def execute(self, folder, view):
        raise AssertionError("the watch does no job")


class Pretended:
    """A cluster that does with each job's folder what `does` says, one at each question whether it is alive."""

    about = "one runner"

    def __init__(self, root, does, left=()):
        self.root, self.does, self.of_before = root, does, left
        self.names, self.gone = list(left), False

    def left(self):
        return self if self.of_before else None

    def start(self, names):
        self.names = list(names)
        self.started = list(names)
        return self

    def alive(self):
        if self.names:
            self.does(self.root / self.names.pop(0))
        return bool(self.names)

    def last_words(self):
        return "error: node7 has no pictures"

    def leave(self):
        self.gone = True
        return "its runners go on"


def finish(folder):
    folder.mkdir(exist_ok=True)
    (folder / "done").touch()


def fail(folder):
    durable.write_json(folder / FAILED, {"kind": "Diverged", "message": "not finite", "exit_code": 3})


class Told(GridView):
    def __init__(self):
        self.ended, self.said = [], []

    def done(self, name, seconds, verdict):
        self.ended.append(name)

    def failed(self, name, failure):
        self.ended.append(f"{name} failed")

    def say(self, text):
        self.said.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "PERIOD", 0.01)


JOBS = [Marked("a"), Marked("b"), Marked("c")]


def test_folders_say_what_is_done(tmp_path):
    finish(tmp_path / "b")
    engine, view = Pretended(tmp_path, finish), Told()
    assert run_on(engine, JOBS, tmp_path, view) == {}
    assert (engine.started, view.ended, view.said, engine.gone) == (["a", "c"], ["a", "c"], ["one runner"], True)
    engine = Pretended(tmp_path, fail)
    assert run_on(engine, JOBS, tmp_path, Told()) == {}
    assert not hasattr(engine, "started")  # nothing was left to do


def test_a_failure_is_told_and_tried_again_at_the_next_start(tmp_path):
    failures = run_on(Pretended(tmp_path, fail), JOBS[:1], tmp_path, view := Told())
    assert failures == {"a": Failure("Diverged", "not finite", Diverged.exit_code)}
    assert view.ended == ["a failed"]
    assert run_on(Pretended(tmp_path, finish), JOBS[:1], tmp_path, Told()) == {}
    assert not (tmp_path / "a" / FAILED).exists()


def test_runners_that_are_left_are_watched_and_no_others_started(tmp_path):
    fail(tmp_path / "a")
    engine = Pretended(tmp_path, finish, left=["b", "c"])
    assert list(run_on(engine, JOBS, tmp_path, view := Told())) == ["a"]
    assert view.ended == ["b", "c"]
    assert not hasattr(engine, "started")


def test_jobs_that_nothing_does_are_one_line(tmp_path):
    engine = Pretended(tmp_path, lambda folder: None)
    with pytest.raises(MachineError) as refused:
        run_on(engine, JOBS, tmp_path, Told())
    assert str(refused.value) == (
        f"{tmp_path}: 3 of 3 jobs are not done, and nothing is left that does them: error: node7 has no pictures; "
        "the same command starts it again"
    )
    assert engine.gone


def test_a_signal_ends_the_watch_and_not_the_work(tmp_path):
    def interrupt(folder):
        finish(folder)
        signal.raise_signal(signal.SIGINT)

    engine = Pretended(tmp_path, interrupt)
    with pytest.raises(Stopped, match=r"stopped watching with 1 of 3 jobs done; its runners go on") as stopped:
        run_on(engine, JOBS, tmp_path, Told())
    assert stopped.value.exit_code == 130
    assert engine.gone


def test_one_process_watches(tmp_path):
    with durable.locked(tmp_path, ".watched"), pytest.raises(Busy):
        run_on(Pretended(tmp_path, finish), JOBS, tmp_path, Told())


# --- SLURM ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of SLURM's names that accept an array as job 7; `say` replaces what one of them does."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vergence[slurm]'")
    folder = tmp_path / "bin"
    folder.mkdir()

    def say(command, script):
        (folder / command).write_text(f"#!/bin/sh\n{script}\n")
        (folder / command).chmod(0o755)

    say("srun", "exit 1")
    say("sbatch", f'cp "$1" {tmp_path}/batch.sh; echo Submitted batch job 7')
    say("sacct", 'echo "JobID|State|NodeList"; echo "7_0|RUNNING|n1"; echo "7_1|PENDING|"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return say


def test_runners_are_one_array_with_what_the_file_says(slurm, tmp_path):
    asked = Cluster(
        runners=3, minutes=90, cpus=4, gpus=1, memory=8, partition="gpu", grace=60, setup=("module load x",)
    )
    runners = Slurm(asked, ["sweep", "byol"], tmp_path / "cluster").start(["a", "b"])
    assert runners.about == f"2 runners, 7_0 to 7_1; logs in {tmp_path / 'cluster'}"
    assert runners.leave() == "its runners go on (scancel 7 ends them), and the same command watches again"
    lines = (tmp_path / "batch.sh").read_text().splitlines()
    wanted = ["array=0-1%2", "partition=gpu", "time=90", "cpus-per-task=4", "gpus-per-node=1", "mem=8GB"]
    for option in [*wanted, "signal=USR2@60", "job-name=vergence", "open-mode=append"]:
        assert f"#SBATCH --{option}" in lines
    assert "module load x" in lines


def test_runners_of_an_earlier_command_are_found_again_while_slurm_knows_them(slurm, tmp_path):
    engine = Slurm(Cluster(runners=2), ["sweep", "byol"], tmp_path / "cluster")
    assert engine.left() is None
    engine.start(["a", "b"])
    assert engine.left().about.startswith("2 runners, 7_0 to 7_1;")
    slurm("sacct", 'echo "JobID|State|NodeList"; echo "7_0|TIMEOUT|n1"; echo "7_1|CANCELLED|"')
    assert engine.left() is None
    (tmp_path / "cluster" / "submitted.json").write_text("[]")
    assert engine.left() is None


def test_a_cluster_that_refuses_is_one_line(slurm, tmp_path):
    slurm("sbatch", 'echo "sbatch: error: invalid partition specified: gpx" >&2; echo "more" >&2; exit 1')
    with pytest.raises(MachineError) as refused:
        Slurm(Cluster(), ["sweep"], tmp_path / "cluster").start(["a"])
    said = "--on slurm: no runner was submitted: sbatch: error: invalid partition specified: gpx"
    assert str(refused.value) == said
    assert not (tmp_path / "cluster" / "submitted.json").exists()


def test_no_cluster_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vergence[slurm]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r'no runner was submitted: Could not detect "srun"'):
        Slurm(Cluster(), ["sweep"], tmp_path / "cluster").start(["a"])


def test_slurm_gives_whole_gpus(tmp_path):
    with pytest.raises(InputError, match=r"gpus: SLURM gives whole GPUs, not 0\.25"):
        Slurm(Cluster(gpus=0.25), [], tmp_path)


SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(*_):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print(signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN, flush=True)
(folder / "ready").touch()
time.sleep(60)
"""


def test_a_runner_that_makes_room_saves_first_and_is_queued_again(tmp_path):
    """As submitit does: a signal interrupts the call, and its handler calls `checkpoint` and leaves."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vergence[slurm]'")
    runner, kept = Runner([sys.executable, "-c", SAVES, str(tmp_path)], grace=30), []

    def make_room(*_):
        kept.append(runner.checkpoint())
        raise SystemExit

    def tell():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, make_room)
    try:
        threading.Thread(target=tell).start()
        with pytest.raises(SystemExit):
            runner()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (tmp_path / "saved").exists()
    assert kept[0].function.command == runner.command
    assert kept[0].function.process is None


def test_a_runner_tells_its_exit_code():
    assert Runner([sys.executable, "-c", "raise SystemExit(3)"], grace=30)() == 3


# --- Ray --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_one_line_at_once(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(MachineError) as refused:
        Ray(Cluster(address=address), ["sweep"]).start(["a"])
    assert str(refused.value) == f"--on ray: no cluster at {address}: Connection refused"
