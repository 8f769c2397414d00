"""Jobs in processes: done once, whatever is killed or told to stop, and however many runners there are.

The fake jobs create each of their files exclusively, so doing anything twice is an error. Their workers import a stub
in place of torch, which takes them no time.
"""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import soak
from repository import SUPPORT
from vergence import grid
from vergence.errors import Diverged, InputError, MachineError, Stopped
from vergence.files import durable
from vergence.grid import FAILED, Job, run_grid
from vergence.grid import status as grid_standing
from vergence.grid import worker as grid_worker
from vergence.grid.status import Failure, GridStatus, Progress, Running

pytestmark = [pytest.mark.wide, pytest.mark.xdist_group("grid")]

PATH = (Path(__file__).parent, SUPPORT, os.environ.get("PYTHONPATH"))
"""Where other processes find this file and what it imports."""
STUB = "import os, time\ndef set_num_threads(n): os.environ['STUB_THREADS'] = str(n)\ntime.sleep(STUB_SLEEP)\n"


# what the workers import: jobs that only write files, and one that trains


def note(root, *words):
    with open(root / "ledger", "a") as ledger:
        ledger.write(" ".join(map(str, words)) + "\n")


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


@dataclass(frozen=True)
class Fake:
    """Takes `steps` steps of `pause` seconds and goes on where it was; then does what `ends` says."""

    name: str
    folder: str = ""
    work: float = 1.0
    steps: int = 2
    pause: float = 0.0
    ends: str = "well"

    def __post_init__(self):
        object.__setattr__(self, "folder", self.folder or f"of-{self.name}")

    def finished(self, folder):
        if self.ends == "unreadable":
            raise InputError("not JSON")
        return (folder / "done").exists()

    def execute(self, folder, view):
        with durable.locked(folder):
            if self.finished(folder):
                return
            note(folder.parent, self.name, os.getpid(), os.environ["STUB_THREADS"])
            done = len(list(folder.glob("step-*")))
            view.start(self.steps, done, 1, [], ["old data"] if self.ends == "warned" else [])
            for step in range(done, self.steps):
                time.sleep(self.pause)
                create(folder / f"step-{step}")
                view.step()
                view.line({"loss": 1 / (step + 1)}, SimpleNamespace(state="healthy"))
            view.stop()
            getattr(self, self.ends)(folder)
            if self.ends != "lazy":
                create(folder / "done")

    def well(self, folder): ...
    def lazy(self, folder): ...
    def warned(self, folder): ...

    def diverged(self, folder):
        raise Diverged(f"{folder}: not finite")

    def bug(self, folder):
        raise ZeroDivisionError("one\ntwo")

    def leave(self, folder):
        sys.exit(3)

    def once(self, folder):
        if not (folder / "mended").exists():
            raise MachineError("the disk is full")

    def killed(self, folder):
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_once(self, folder):
        if not (folder / "killed").exists():
            create(folder / "killed")
            self.killed(folder)

    def saves(self, folder):
        """As training does: takes both signals, saves, stops."""
        told = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: told.append(number))
        create(folder / "ready")
        while not told:
            time.sleep(0.02)
        time.sleep(0.3)
        create(folder / f"saved-{told}")
        raise Stopped("saved", told[0])

    def deaf(self, folder):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        create(folder / "ready")
        time.sleep(600)


@dataclass(frozen=True)
class Cell(Fake):
    """A cell of a table: each step's number follows from the one before, as training's does."""

    variant: str = ""
    seed: int = 0

    def execute(self, folder, view):
        with durable.locked(folder):
            if self.finished(folder):
                return
            note(folder.parent, self.name, os.getpid(), 1)
            done = sorted(folder.glob("step-[0-9]"))
            state = done[-1].read_text() if done else f"{self.variant}, {self.seed}"
            view.start(self.steps, len(done), 1, [], [])
            for step in range(len(done), self.steps):
                time.sleep(self.pause)
                state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
                (folder / f"step-{step}.part").write_text(state)
                os.link(folder / f"step-{step}.part", folder / f"step-{step}")  # an error where it is there
                (folder / f"step-{step}.part").unlink()
                view.step()
            view.stop()
            durable.write_json(folder / "done", {"value": int(state[:8], 16) / 2**32})


@dataclass(frozen=True)
class Trained:
    """A real run of three steps an epoch."""

    name: str
    seed: int
    epochs: int
    work: float = 1.0

    @property
    def folder(self):
        return self.name

    def finished(self, folder):
        return (folder / "summary.json").exists()

    def execute(self, folder, view):
        from small_runs import VARIANTS, run_of
        from vergence.engine.periods import Periods
        from vergence.runs import run_training

        run = run_of(VARIANTS["byol"], subset=28, seed=self.seed, epochs=self.epochs)
        run_training(run, folder, resume=True, reporter=view, periods=Periods(log_every=1))


def many(count=10, **changes):
    return [Fake(f"job {number}", **changes) for number in range(count)]


VARIANTS = tuple(f"variant {letter}" for letter in "abcdef")
SETS = {
    "few": lambda: many(8, steps=10, pause=0.04),
    "short": lambda: many(16, pause=0.12),
    "saves": lambda: [*many(1), Fake("a", ends="saves"), Fake("b", ends="saves"), *many(2)[1:]],
    "failing": lambda: [Fake(f"bad {number}", ends="diverged", steps=0) for number in range(5)],
    "cells": lambda: [
        Cell(f"{variant}, seed {seed}", f"{variant}-{seed}", steps=3, pause=0.05, variant=variant, seed=seed)
        for variant in VARIANTS
        for seed in range(4)
    ],
    "trained": lambda: [Trained("short", 0, 8), Trained("long", 1, 16)],
}


class Seen:
    """A view that keeps what it was told."""

    def __init__(self):
        self.ended, self.said, self.failures, self.shares = [], [], {}, {}
        self.stopped = False

    def start(self, standing):
        self.standing, self.before = standing, standing.finished

    def done(self, name, seconds, verdict):
        self.ended.append((name, seconds is not None, verdict))

    def failed(self, name, failure):
        self.failures[name] = failure

    def say(self, text):
        self.said.append(text)

    def tick(self):
        assert 0 <= self.standing.waiting <= self.standing.jobs
        for name, job in self.standing.running.items():
            self.shares.setdefault(name, set()).add(job.progress.share)

    def stop(self):
        self.stopped = True


def main():
    """A runner of its own: the root, the set of jobs, how many at once."""
    root, which, at_once = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    jobs = SETS[which]()
    create(root / f"runner-{os.getpid()}")
    while not (root / "go").exists():
        time.sleep(0.01)
    try:
        failures = run_grid(jobs, root, at_once=at_once, threads=1, view=Seen())
        assert list(failures) == [job.name for job in jobs if not job.finished(root / job.folder)]
        assert bool(failures) == (which == "failing"), failures
    except Stopped as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if os.environ.get("SLOW_RECORDS"):  # between a failure and its record there is time for another runner to ask

    def slowly(path, value, write=durable.write_json):
        time.sleep(0.6)
        write(path, value)

    durable.write_json = slowly


# what the tests use


@pytest.fixture(autouse=True)
def stub(tmp_path_factory, monkeypatch):
    """Workers that fake jobs are done in import this instead of torch."""
    folder = tmp_path_factory.mktemp("stub")
    write_stub(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    left = [process for leader in Runner.all for process in session(leader)] + children()
    Runner.all.clear()
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def write_stub(folder, sleep=0.0):
    (folder / "torch.py").write_text(STUB.replace("STUB_SLEEP", str(sleep)))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


class Runner:
    """Another process that runs a grid, in a session of its own."""

    all: ClassVar[list[int]] = []

    def __init__(self, root, which, at_once=2, stub=None, go=True):
        path = (stub, *PATH)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import test_grid; test_grid.main()", str(root), which, str(at_once)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, path)))},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.all.append(self.process.pid)
        until((root / f"runner-{self.process.pid}").exists)
        if go:
            (root / "go").touch()

    def end(self, patience=60):
        """Its exit code and its last words, once no process of its session is left."""
        _, said = self.process.communicate(timeout=patience)
        until(lambda: not session(self.process.pid), patience=20)
        return self.process.returncode, said

    def kill(self):
        self.process.kill()
        return self.end()


def session(leader):
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, sid = entry.read_text().rpartition(")")[2].split()[:4]
            if int(sid) == leader and state != "Z":
                found.append(int(entry.parent.name))
    return found


def until(holds, patience=60.0):
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def ledger(root):
    """Name, process and threads of each job that began, in order."""
    path = root / "ledger"
    rows = [line.rsplit(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []
    return [(name, int(process), int(threads)) for name, process, threads in rows]


def begun(root):
    return [name for name, _, _ in ledger(root)]


def prints(folder):
    """Name, place, time and digest of all files."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(jobs, root, *, at_once=2, threads=1):
    view = Seen()
    failures = run_grid(jobs, root, at_once=at_once, threads=threads, view=view)
    assert view.stopped
    assert view.standing.done == pytest.approx(view.standing.work)
    assert not children()
    return failures, view


def children():
    """The workers this process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            command = entry.with_name("cmdline").read_bytes()
            if int(parent) == os.getpid() and state != "Z" and b"grid.worker" in command:
                found.append(int(entry.parent.name))
    return found


# the work


def test_importing_it_imports_nothing_heavy():
    script = "import sys, vergence.grid; print({'torch', 'numpy', 'rich', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_fakes_are_jobs():
    assert isinstance(Fake("a"), Job)


def test_each_job_is_done_once_and_in_order(root):
    jobs = many(6)
    failures, view = run(jobs, root, at_once=1, threads=3)
    names = [job.name for job in jobs]
    assert failures == {}
    assert begun(root) == names
    assert [name for name, _, _ in view.ended] == names
    assert {(here, verdict) for _, here, verdict in view.ended} == {(True, "healthy")}
    assert len({process for _, process, _ in ledger(root)}) == 1  # one worker did them all
    assert {threads for _, _, threads in ledger(root)} == {3}


def test_several_at_once_are_several_processes_with_the_same_threads(root):
    failures, view = run(many(4, pause=0.3, work=2.5), root, at_once=2, threads=3)
    assert failures == {}
    assert sorted(begun(root)) == [f"job {number}" for number in range(4)]
    assert len({process for _, process, _ in ledger(root)}) == 2
    assert {threads for _, _, threads in ledger(root)} == {3}
    assert view.standing.earned == pytest.approx(10)
    assert any(0 < share < 1 for shares in view.shares.values() for share in shares)


def test_no_more_workers_than_jobs_and_none_for_none(root, monkeypatch):
    started = []
    monkeypatch.setattr(grid, "_Worker", lambda threads, kind=grid._Worker: started.append(threads) or kind(threads))
    run(many(2), root, at_once=8)
    assert 1 <= len(started) <= 2
    run(many(2), root, at_once=8)
    run([], root)
    assert len(started) <= 2


def test_what_is_finished_is_left_alone(root):
    run(many(2), root)
    before = prints(root)
    failures, view = run(many(3), root)
    assert failures == {}
    assert view.before == 2
    assert view.standing.earned == pytest.approx(1)  # what was there is no measure of speed
    assert begun(root) == [*begun(root)[:2], "job 2"]
    after = prints(root)
    assert {name: after[name] for name in before if name != "ledger"} == {
        n: v for n, v in before.items() if n != "ledger"
    }


def test_one_folder_is_one_piece_of_work(root):
    jobs = [Fake("a", "shared"), Fake("b", "own"), Fake("c", "shared"), Fake("d", "bad", ends="bug"), Fake("e", "bad")]
    failures, view = run(jobs, root)
    assert sorted(begun(root)) == ["a", "b", "d"]
    assert view.standing.jobs == 3
    assert list(failures) == ["d", "e"]


@pytest.mark.parametrize(
    ("jobs", "at_once", "threads"), [([Fake("a", "x"), Fake("a", "y")], 1, 1), (many(1), 0, 1), (many(1), 1, 0)]
)
def test_the_caller_is_told_of_its_bugs(jobs, at_once, threads, root):
    with pytest.raises(ValueError, match=r"'a'|at least 1"):
        run_grid(jobs, root, at_once=at_once, threads=threads, view=Seen())
    assert not list(root.iterdir())


def test_a_root_that_cannot_be_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError):
        run_grid(many(1), tmp_path / "file" / "root", at_once=1, threads=1, view=Seen())


def test_a_warning_reaches_the_view(root):
    _, view = run([Fake("a", ends="warned")], root)
    assert view.said == ["a: warning: old data"]


# failures


def test_a_failure_is_recorded_and_the_rest_goes_on(root):
    failures, view = run([Fake("a"), Fake("b", ends="diverged"), Fake("c")], root, at_once=1)
    assert failures == view.failures
    assert failures["b"] == Failure("Diverged", f"{root / 'of-b'}: not finite", 3)
    record = json.loads((root / "of-b" / FAILED).read_text())
    assert set(record) == {"kind", "message", "exit_code", "time"}
    assert [name for name, _, _ in view.ended] == ["a", "c"]
    assert len({process for _, process, _ in ledger(root)}) == 1


def test_a_failed_job_is_tried_again_at_the_next_start(root):
    jobs = [Fake("a", ends="once"), Fake("b")]
    assert run(jobs, root)[0]["a"].kind == "MachineError"
    assert run(jobs, root)[0]["a"].message == "the disk is full"
    create(root / "of-a" / "mended")
    failures, view = run(jobs, root)
    assert failures == {}
    assert (view.before, [name for name, _, _ in view.ended]) == (1, ["a"])
    assert not (root / "of-a" / FAILED).exists()
    assert begun(root).count("a") == 3


@pytest.mark.parametrize("ends", ["bug", "leave"])
def test_a_bug_leaves_a_trace_and_its_process_is_replaced(ends, root, capfd):
    failures, _ = run([Fake("a", ends=ends), Fake("b")], root, at_once=1)
    failure = failures["a"]
    assert (failure.kind, failure.exit_code) == ("bug", 1)
    assert failure.message == {"bug": "ZeroDivisionError: one", "leave": "SystemExit: 3"}[ends]
    assert f"in {ends}" in json.loads((root / "of-a" / FAILED).read_text())["trace"]
    (_, first, _), (_, second, _) = ledger(root)
    assert first != second
    assert capfd.readouterr() == ("", "")


def test_a_job_that_cannot_be_sent_or_asked_or_lies_fails_alone(root):
    class Local(Fake): ...

    jobs = [Local("a"), Fake("b", ends="unreadable"), Fake("c", ends="lazy"), Fake("d")]
    failures, _ = run(jobs, root)
    assert {name: failure.kind for name, failure in failures.items()} == {"a": "bug", "b": "InputError", "c": "bug"}
    assert "not finished" in failures["c"].message
    assert (root / "of-d" / "done").exists()


def test_what_cannot_be_written_down_does_not_hide_the_failure(root):
    (root / "of-a" / FAILED).mkdir(parents=True)  # no file can take its place
    assert list(run([Fake("a", ends="diverged"), Fake("b")], root)[0]) == ["a"]
    assert (root / "of-a" / FAILED).is_dir()


def test_a_killed_worker_is_replaced_once(root):
    jobs = [Fake("a", ends="killed"), Fake("b", ends="killed_once"), *many(2)]
    failures, view = run(jobs, root)
    assert failures == {"a": Failure("killed", "killed by signal 9; out of memory?", 4)}
    assert json.loads((root / "of-a" / FAILED).read_text())["kind"] == "killed"
    assert sorted(begun(root)) == ["a", "a", "b", "b", "job 0", "job 1"]
    assert sum("trying once more" in said for said in view.said) == 2
    for killed in "ab":  # one of a's may be one of b's: a worker goes on after a job that ends well
        assert len({process for name, process, _ in ledger(root) if name == killed}) == 2


def test_an_error_of_the_view_leaves_no_process(root):
    class Broken(Seen):
        def done(self, name, seconds, verdict):
            until((root / "of-b" / "ready").exists)
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_grid([Fake("a"), Fake("b", ends="saves")], root, at_once=2, threads=1, view=Broken())
    assert not children()
    assert (root / "of-b" / "saved-[15]").exists()


# other runners


@pytest.mark.slow
def test_a_folder_in_use_is_asked_for_again(root, monkeypatch):
    monkeypatch.setattr(grid, "AGAIN", 0.2)
    with contextlib.ExitStack() as held:
        held.enter_context(durable.locked(root / "of-job 0"))
        timer = threading.Timer(1.5, held.close)
        timer.start()
        failures, view = run(many(3), root, at_once=1)
        timer.join()
    assert failures == {}
    assert begun(root) == ["job 1", "job 2", "job 0"]
    assert [f"process {os.getpid()}" in said for said in view.said] == [True]  # said once


@pytest.mark.slow
@pytest.mark.parametrize("how", ["done", "failed"])
def test_what_another_runner_ended_is_taken_from_it(how, root, monkeypatch):
    monkeypatch.setattr(grid, "AGAIN", 0.2)
    folder = root / "of-a"
    durable.write_json(folder / FAILED, {"kind": "old"})
    failure = Failure("Diverged", "not finite", 3)

    def end():
        if how == "done":
            create(folder / "done")
        else:
            durable.write_json(folder / FAILED, {"kind": "Diverged", "message": "not finite", "exit_code": 3})
        held.close()

    with contextlib.ExitStack() as held:
        held.enter_context(durable.locked(folder))
        timer = threading.Timer(1.0, end)
        timer.start()
        failures, view = run([Fake("a")], root)
        timer.join()
    assert failures == ({} if how == "done" else {"a": failure})
    assert view.ended == ([("a", False, None)] if how == "done" else [])
    assert begun(root) == []
    assert (folder / FAILED).exists() == (how == "failed")


@pytest.mark.slow
def test_two_runners_share_the_work(root, stub):
    runners = [Runner(root, "short", at_once=1, stub=stub, go=False) for _ in range(2)]
    (root / "go").touch()
    assert [runner.end() for runner in runners] == [(0, ""), (0, "")]  # each saw all finished when it returned
    assert sorted(begun(root)) == sorted(job.name for job in SETS["short"]())
    assert len({process for _, process, _ in ledger(root)}) == 2


def test_a_runner_that_helps_leaves_what_others_hold_and_what_failed(root):
    durable.write_json(root / "of-b" / FAILED, {"kind": "Diverged", "message": "not finite", "exit_code": 3})
    with durable.locked(root / "of-a"):
        failures = run_grid([*many(2), Fake("a"), Fake("b")], root, at_once=2, threads=1, view=Seen(), helps=True)
    assert failures == {"b": Failure("Diverged", "not finite", 3)}
    assert sorted(begun(root)) == ["job 0", "job 1"]
    assert not children()
    assert run_grid([Fake("a")], root, at_once=1, threads=1, view=Seen(), helps=True) == {}
    assert begun(root)[2:] == ["a"]


@pytest.mark.slow
def test_of_two_runners_one_tries_what_fails(root, stub, monkeypatch):
    monkeypatch.setenv("SLOW_RECORDS", "yes")
    runners = [Runner(root, "failing", at_once=1, stub=stub, go=False) for _ in range(2)]
    (root / "go").touch()
    assert [runner.end() for runner in runners] == [(0, ""), (0, "")]  # each told of every failure
    assert sorted(begun(root)) == [job.name for job in SETS["failing"]()]


def test_a_job_that_is_changed_is_another_one_and_what_is_finished_stays(root):
    old = [Cell("a, seed 0", "a-0", variant="a"), Cell("b, seed 0", "b-0", variant="b")]
    new = [old[0], Cell("b, seed 0", "b2-0", variant="b2")]
    run(old, root)
    before = prints(root / "a-0") | prints(root / "b-0")
    failures, view = run(new, root)
    assert (failures, view.before) == ({}, 1)
    assert sorted(begun(root)) == ["a, seed 0", "b, seed 0", "b, seed 0"]
    assert prints(root / "a-0") | prints(root / "b-0") == before


def test_every_change_of_a_run_is_another_folder():
    from small_runs import VARIANTS as METHODS
    from small_runs import run_of
    from vergence import config as c
    from vergence.runs.training import Training

    one = run_of(METHODS["byol"])
    changes = {"epochs": 3, "seed": 1, "batch_size": 9, "subset": 20, "optimizer": c.SGD(lr=0.06)}
    folders = {Training(name="a", run=replace(one, **{name: value})).folder for name, value in changes.items()}
    assert len(folders | {Training(name="a", run=one).folder}) == len(changes) + 1


# signals and kills


def table_of(jobs, root):
    """The grid's table as CSV: mean and spread over the seeds of each variant."""
    from vergence.report.content import Column, Row, Table, Value
    from vergence.report.tables import table_csv

    def values(variant):
        return [json.loads((root / j.folder / "done").read_text())["value"] for j in jobs if j.variant == variant]

    rows = tuple(Row(variant, {"value": Value.over(values(variant))}) for variant in VARIANTS)
    return table_csv(Table("cells", "Cells", (Column("value"),), rows))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The table of 24 cells that nobody disturbed."""
    root = tmp_path_factory.mktemp("unbroken")
    for job in SETS["cells"]():
        job.execute(root / job.folder, grid_worker.Teller(SimpleNamespace(send=lambda message: None)))
    return table_of(SETS["cells"](), root)


WAYS = ("runner", "cell", "both", "one of two")


@pytest.mark.slow
def test_24_cells_under_kills_end_with_the_same_table(tmp_path, stub, unbroken):
    """The runner killed, a cell, both, one of two runners, in turns: finished cells stay as they are to the inode."""
    wanted, kills = soak.times(4, 50), 0
    chance = random.Random(24)
    for grid_number in range(wanted + 1):
        root = tmp_path / f"grid-{grid_number}"
        root.mkdir()
        kills += kill_cells(root, stub, chance, min(4, wanted - kills))
        assert table_of(SETS["cells"](), root) == unbroken
        if kills == wanted:
            break
    assert kills == wanted
    soak.count("grid kills", kills)


def kill_cells(root, stub, chance, wanted):
    """Run the grid to its end through so many kills, or fewer where it ended before; return how many there were."""
    jobs, finished, kills = SETS["cells"](), {}, 0
    while True:
        way = WAYS[kills] if kills < wanted else "none"
        target = steps_in(root) + chance.choice([1, 3, 8])
        runners = [Runner(root, "cells", stub=stub) for _ in range(2 if way == "one of two" else 1)]
        victim = runners[0].process
        if way != "none":
            until(lambda target=target, victim=victim: steps_in(root) >= target or victim.poll() is not None)
        if way == "cell":
            kills += kill_worker(victim)
        elif way != "none":
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if way == "both" else os.kill)(victim.pid, signal.SIGKILL)
        ends = [runner.end() for runner in runners]
        kills += ends[0][0] == -signal.SIGKILL  # it was killed, and had not ended before
        for job in jobs:
            if job.finished(root / job.folder):
                assert prints(root / job.folder) == finished.setdefault(job.name, prints(root / job.folder))
        assert {code for code, _ in ends} <= {0, -signal.SIGKILL}, ends
        if way == "none" or len(finished) == len(jobs):
            assert len(finished) == len(jobs)
            return kills


def steps_in(root):
    return len(list(root.glob("*/step-[0-9]")))


def kill_worker(runner):
    """Kill a process of the runner's that has a job; whether there was one."""
    while runner.poll() is None:
        for worker in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((worker / "stat").read_text().rpartition(")")[2].split()[1])
                held = (worker / "fd").iterdir() if parent == runner.pid else ()
                if any(os.readlink(handle).endswith(grid_worker.TRYING) for handle in held):
                    os.kill(int(worker.name), signal.SIGKILL)
                    until(lambda worker=worker: not (worker / "exe").exists())
                    return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_runners_killed_at_random_do_each_job_once(root, stub):
    jobs, chance, finished = SETS["few"](), random.Random(3), {}
    for kill in range(12):
        steps = len(list(root.glob("*/step-*")))
        runner = Runner(root, "few", stub=stub)
        if kill < 7:
            target = steps + chance.choice([0, 1, 3, 8])
            until(lambda target=target: len(list(root.glob("*/step-*"))) >= target)
            time.sleep(chance.uniform(0, 0.1))
            code, said = runner.kill()
            assert said == ""
        else:
            code, said = runner.end()
        for job in jobs:
            if job.finished(root / job.folder):
                finished.setdefault(job.name, prints(root / job.folder))
        assert code in (0, -signal.SIGKILL), said
        if code == 0:
            break
    assert kill >= 3
    assert {job.name: prints(root / job.folder) for job in jobs} == finished
    assert all(len(list((root / job.folder).glob("step-*"))) == 10 for job in jobs)
    assert not list(root.glob(f"*/{FAILED}"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_a_signal_saves_and_leaves(number, group, root, stub):
    runner = Runner(root, "saves", stub=stub)
    until(lambda: all((root / f"of-{name}" / "ready").exists() for name in "ab"))
    (os.killpg if group else os.kill)(runner.process.pid, number)
    code, said = runner.end()
    assert code == 128 + number
    assert len(said.splitlines()) == 1
    assert "stopped with 1 of 4 jobs done; what was under way is saved, and the same command goes on" in said
    twice = group and number == signal.SIGTERM  # from the group and from the runner, in one or two
    for name in "ab":
        (saved,) = (root / f"of-{name}").glob("saved-*")
        assert saved.name in {"saved-[15]", "saved-[15, 15]" if twice else ""}
    jobs = [Fake(job.name) for job in SETS["saves"]()]
    assert run(jobs, root)[0] == {}
    assert begun(root).count("job 0") == 1
    assert begun(root).count("job 1") == 1


@pytest.mark.slow
def test_the_terminals_interrupt_while_workers_start(root, stub):
    write_stub(stub, sleep=1.5)
    for pause in (0.0, 0.1, 0.3, 1.0):
        runner = Runner(root, "few", stub=stub)
        until(lambda leader=runner.process.pid: len(session(leader)) >= 2)
        time.sleep(pause)
        os.killpg(runner.process.pid, signal.SIGINT)
        code, said = runner.end()
        assert (code, len(said.splitlines())) == (130, 1), said


@pytest.mark.slow
def test_a_worker_saves_when_its_runner_is_killed(root, stub):
    runner = Runner(root, "saves", stub=stub)
    until(lambda: all((root / f"of-{name}" / "ready").exists() for name in "ab"))
    assert runner.kill() == (-signal.SIGKILL, "")
    assert len(list(root.glob("of-?/saved-*"))) == 2


@pytest.mark.slow
def test_a_worker_that_hears_nothing_is_killed_in_the_end(root, monkeypatch):
    monkeypatch.setattr(grid, "GRACE", 1.0)
    stop(root, [signal.SIGTERM])
    monkeypatch.setattr(grid, "GRACE", 600.0)
    (root / "of-a" / "ready").unlink()
    stop(root, [signal.SIGINT, signal.SIGINT])


def stop(root, numbers):
    def send():
        until((root / "of-a" / "ready").exists)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.5)
        with contextlib.suppress(AssertionError):
            until(lambda: view.stopped, patience=20)
        for process in children():  # or the runner would wait for them for good
            os.kill(process, signal.SIGKILL)

    before = signal.getsignal(signal.SIGINT)
    thread, view = threading.Thread(target=send), Seen()
    thread.start()
    began = time.monotonic()
    with pytest.raises(Stopped, match="stopped with 0 of 2 jobs done, 1 failed") as stopped:
        run_grid([Fake("b", ends="diverged"), Fake("a", ends="deaf")], root, at_once=1, threads=1, view=view)
    thread.join()
    assert stopped.value.exit_code == 128 + numbers[0]
    assert time.monotonic() - began < 20
    assert view.stopped
    assert not children()
    assert signal.getsignal(signal.SIGINT) is before  # what it was, which in the background is to ignore it


def test_without_the_kernels_word_the_broken_pipe_tells(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    ours, theirs = multiprocessing.Pipe()
    teller = grid_worker.Teller(theirs)
    try:
        teller.start(100, 0, 1, [], [])
        for _ in range(100):
            teller.step()
            teller.line({"loss": 0.5}, SimpleNamespace(state="healthy"))
        teller.stop()
        sent = []
        while ours.poll():
            sent.append(ours.recv())
        assert 2 <= len(sent) <= 5  # of 201: a few a second
        assert sent[-1] == Progress(1.0, 0.0, 0.5, "healthy")
        ours.close()
        assert heard == []
        teller.say("anyone?")
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        ours.close()
        theirs.close()


def test_a_runner_killed_while_it_starts_a_worker_leaves_silence():
    ours, theirs = multiprocessing.Pipe()
    command = [sys.executable, "-c", grid.BEGIN, str(theirs.fileno()), "1", str(os.getpid())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
        theirs.close()
        ours.close()
        assert process.communicate(timeout=60) == (None, b"")
    assert process.returncode == 0


def test_a_script_may_bring_its_own_jobs(root, stub, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nimport test_grid\n\n"
        "class Own(test_grid.Fake): ...\n\n"
        "if __name__ == '__main__':\n"
        "    jobs, view = [Own('a')], test_grid.Seen()\n"
        "    print(test_grid.run_grid(jobs, Path(sys.argv[1]), at_once=1, threads=1, view=view), view.ended)\n"
    )
    path = os.pathsep.join(map(str, filter(None, (stub, *PATH))))
    done = subprocess.run(
        [sys.executable, script, root], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("{} [('a', True, 'healthy')]\n", "")


@pytest.mark.slow
def test_trainings_that_were_killed_and_stopped_end_with_the_same_bits(root, tmp_path):
    from vergence.engine.reporter import Reporter
    from vergence.metrics.table import TIMING

    jobs = SETS["trained"]()
    for job in jobs:
        job.execute(tmp_path / "whole" / job.folder, Reporter())
    finished = {}
    short, long = (root / job.folder for job in jobs)
    for number, at_once in ((signal.SIGKILL, 2), (signal.SIGINT, 1), (None, 1)):
        before = lines(long)
        runner = Runner(root, "trained", at_once)
        if number == signal.SIGKILL:
            until(lambda: lines(short) > 1 and lines(long) > 1, patience=120)
            runner.process.kill()
        elif number == signal.SIGINT:
            until(lambda before=before: jobs[0].finished(short) and lines(long) > before, patience=120)
            os.killpg(runner.process.pid, number)
        code, said = runner.end(patience=120)
        assert code == {None: 0, signal.SIGINT: 130}.get(number, -signal.SIGKILL), said
        assert len(said.splitlines()) == (number == signal.SIGINT)
        for name in finished:
            assert prints(root / name) == finished[name]
        for job in jobs:
            folder = root / job.folder
            if job.finished(folder):
                finished[job.name] = prints(folder)
            elif newest := sorted((folder / "checkpoints").glob("step-*")):  # its worker saved its last step
                steps = [line["step"] for line in durable.read_lines(folder / "metrics.jsonl")]
                assert int(newest[-1].name.split("-")[1]) >= steps[-1]
    assert len(finished) == 2
    for job in jobs:
        metrics = [
            [
                {key: value for key, value in line.items() if key not in TIMING}
                for line in durable.read_lines(where / job.folder / "metrics.jsonl")
            ]
            for where in (root, tmp_path / "whole")
        ]
        assert metrics[0] == metrics[1]
        assert len(metrics[0]) == 3 * job.epochs


def lines(folder):
    return len(durable.read_lines(folder / "metrics.jsonl"))


# what a person sees


def standing_of(**changes):
    """12 of 50 jobs settled, 10 of work earned by those and 2 by the running ones in 120 s."""
    standing = GridStatus(50, 50.0, 0.0, finished=11, failed=1, settled=12.0, earned=10.0)
    standing.running = {
        "BYOL [red]x[/]": Running(2.0, 60.0, Progress(0.75, 0.25, 0.1234, "complete collapse")),
        "[/b] a": Running(1.0, 60.0, Progress(1.0)),
    }
    return replace(standing, **changes)


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=120.0)
    clock.monotonic = lambda: clock.now
    from vergence.grid import live as grid_live

    for module in (grid_standing, grid_live):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_where_it_stands(clock):
    standing = standing_of()
    assert standing.waiting == 36
    assert standing.done == 14.5
    assert standing.left() == pytest.approx(120 / 12 * 35.5)
    assert standing_of(earned=0.0, running={}).left() is None


def test_plain_says_a_line_for_each_end_and_one_a_minute(clock):
    from rich.console import Console

    from vergence.grid.live import Plain, open_grid_view

    out = io.StringIO()
    view = open_grid_view(Console(file=out, width=40), "a [title]")
    assert isinstance(view, Plain)
    view.start(standing_of())
    view.done("BYOL-LP, seed 1 [/b]", 34.2, "healthy")
    view.done("b", None, None)
    view.failed("c", Failure("Diverged", "[x] not finite", 3))
    clock.now = 179.0
    view.tick()
    view.say("[/] said")
    clock.now = 181.0
    view.tick()
    view.tick()
    view.stop()
    assert out.getvalue().splitlines() == [
        "11 of 50 jobs were finished before",
        "[12/50] BYOL-LP, seed 1 [/b]: done in 0:34, healthy; 5:55 left",
        "[12/50] b: done by another runner; 5:55 left",
        "[12/50] c: failed: Diverged: [x] not finite; 5:55 left",
        "[/] said",
        "[12/50] running: BYOL [red]x[/] 75%, [/b] a 100%; 8:55 left",
    ]


def test_rich_shows_all_of_it(clock):
    from rich.console import Console

    from vergence.grid.live import Rich, open_grid_view

    out = io.StringIO()
    console = Console(file=out, width=100, height=40, force_terminal=True, color_system="standard")
    view = open_grid_view(console, "a [/title]")
    assert isinstance(view, Rich)
    view.start(standing_of())
    view.failed("f [/b]", Failure("Diverged", "not finite", 3))
    for number in range(6):
        view.done(f"job {number} [/b]", 34.2, "healthy")
    view.say("[/] said")
    clock.now = 121.0
    view.tick()
    view.stop()
    shown = out.getvalue()
    last = shown[shown.rindex("a [/title]") :]
    for text in ("29%; 5:58 left", "11 done", "1 failed", "2 running, 36 waiting", "[/] said", "job 5 [/b]: done in"):
        assert text in last, text
    for text in ("BYOL [red]x[/]", "75%", "loss 0.1234", "[31mcomplete collapse", "[/b] a", "100%"):
        assert text in last, text
    assert "job 2" not in last
    assert "f [/b]: failed: Diverged: not finite" in shown


def test_quiet_says_nothing(root, capfd):
    from vergence.grid.status import GridView

    failures = run_grid([Fake("a"), Fake("b", ends="diverged")], root, at_once=1, threads=1, view=GridView())
    assert list(failures) == ["b"]
    assert capfd.readouterr() == ("", "")
