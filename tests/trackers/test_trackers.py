"""Trackers: the library's three with their real packages, where they are; those that fail, hang or are killed."""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from commands import SMALL, train, words_of
from repository import SOURCE
from surroundings import surroundings
from vergence import trackers
from vergence.engine.reporter import Reporter
from vergence.files.run_folder import METRICS, TRACKED, read_log
from vergence.metrics.table import TIMING
from vergence.metrics.verdict import Verdict
from vergence.trackers import lines, process

OWN = ("tensorboard", "wandb", "mlflow")
VERDICT = Verdict("undecided", "too few lines", {})


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No server, no settings of the user's; time enough on a machine that is busy."""
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(process, "PATIENCE", 300.0)


def require(*names):
    """Skip where a package is missing; importing it here would change this process, which is compared."""
    for name in names:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'vergence[{name}]'")


def numbers_of(line):
    return {n: float(v) for n, v in lines.leaves(line) if isinstance(v, int | float) and n != "step"}


def kept(name, folder):
    """What a tracker's store holds, by step: a list of the values of each name."""
    found: dict[int, dict[str, list[float]]] = {}

    def note(step, name, value):
        found.setdefault(step, {}).setdefault(name, []).append(value)

    if name == "tensorboard" and (folder / "tensorboard").exists():
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]

        there = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
        for tag in there.Tags()["scalars"]:
            for event in there.Scalars(tag):
                note(event.step, tag, event.value)
    elif name == "wandb":
        from vergence.trackers.wandb import rows

        for path in (folder / "wandb").glob("*run-*/*.wandb"):
            for row in rows(path):
                for key, value in row.items():
                    if key[0] != "_" and not isinstance(value, str):
                        note(row["_step"], key, float(value))
    elif (folder / "mlflow.db").exists():  # its client takes seconds; a test below asks it too
        with sqlite3.connect(folder / "mlflow.db") as there:
            for step, key, value in there.execute("select step, key, value from metrics"):
                note(step, key, value)
        there.close()
    return found


def require_once(name, folder, but=()):
    """See that each number of the log is kept once and nothing else is, to its last bit or that of a float32."""
    written, there = read_log(folder / METRICS), kept(name, folder)
    assert [*sorted(there)] == [line["step"] for line in written]
    for line in written:
        expected = numbers_of(line)
        if name == "tensorboard":
            expected = {n: struct.unpack("f", struct.pack("f", v))[0] for n, v in expected.items()}
        assert {n: v for n, v in there[line["step"]].items() if n not in but} == {
            n: [v] for n, v in expected.items() if n not in but
        }


class Listener(Reporter):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def replay(reporter, folder, first=0, last=None):
    """Tell what a run would that goes on after step `first`."""
    written = read_log(folder / METRICS)
    reporter.found([("pictures", "16")])
    reporter.start(100, first, 8, [line for line in written if line["step"] <= first], [])
    for line in written:
        if first < line["step"] <= (last or line["step"]):
            reporter.step()
            reporter.line(line, VERDICT)


@pytest.fixture
def logged(folder):
    """A run's folder with a log of twelve lines."""
    line = read_log(folder / METRICS)[-1]
    many = [line | {"step": n, "loss": 1 / n, "verdict": "undecided" if n < 5 else "healthy"} for n in range(1, 13)]
    (folder / METRICS).write_text("".join(json.dumps(one) + "\n" for one in many))
    return folder


def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


# --- the three --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.unshaped
def test_all_three_keep_the_log_and_change_nothing(tmp_path):
    require(*OWN)
    train(tmp_path / "without")
    before = surroundings()
    answer = train(tmp_path / "run", "--track", ",".join(OWN))
    after = surroundings()
    assert answer.code == 0
    assert answer.err == ""
    assert "--track" not in answer.out
    assert before == after
    for name in OWN:
        require_once(name, tmp_path / "run")
    files = sorted(path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*.safetensors"))
    assert files
    assert all((tmp_path / "run" / file).read_bytes() == (tmp_path / "without" / file).read_bytes() for file in files)
    ours, theirs = (read_log(tmp_path / name / METRICS) for name in ("run", "without"))
    assert [{k: v for k, v in line.items() if k not in TIMING} for line in ours] == [
        {k: v for k, v in line.items() if k not in TIMING} for line in theirs
    ]


@pytest.mark.slow
@pytest.mark.unshaped
def test_a_run_that_is_killed_and_resumed_is_kept_once(tmp_path, vergence):
    """Killed itself, its trackers keep what they were told; the lines after its checkpoint are written twice."""
    require(*OWN)
    words = ["train", "byol", "--out", tmp_path / "run", *words_of(SMALL), "--track", ",".join(OWN)]
    answer = vergence(*words, environment={"VERGENCE_FAILPOINT": "append.after:5"})
    assert answer["code"] == -signal.SIGKILL
    answer = train(tmp_path / "run", "--resume", "--track", ",".join(OWN))
    assert answer.code == 0
    assert "--track" not in answer.out
    for name in OWN:
        require_once(name, tmp_path / "run", but=TIMING)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_tracker_that_is_killed_lacks_nothing_after_a_resume(logged, name):
    require(name)
    tracker = process.ProcessTracker(name, logged, pytest.fail)
    replay(tracker, logged, last=7)
    until(lambda: 7 in kept(name, logged))
    tracker.process.kill()
    tracker.process.wait()
    tracker.process.stdin.close()
    tracker.printed.close()
    listener = Listener()
    with trackers.tracked([name], logged, listener) as reporter:
        replay(reporter, logged, first=5)
        reporter.stop()
    assert not listener.said
    require_once(name, logged)


@pytest.mark.slow
def test_settings_and_verdicts_are_kept_too(logged):
    require(*OWN)
    listener = Listener()
    with trackers.tracked(OWN, logged, listener) as reporter:
        replay(reporter, logged)
        reporter.stop()
    assert not listener.said
    for name in OWN:
        require_once(name, logged)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]

    there = EventAccumulator(str(logged / "tensorboard")).Reload()
    said = [(event.step, event.tensor_proto.string_val[0].decode()) for event in there.Tensors("verdict")]
    assert said == [(1, "undecided"), (5, "healthy")]
    assert "_hparams_/session_start_info" in there.Tags()["tensors"]

    from vergence.trackers.wandb import rows

    (path,) = (logged / "wandb").glob("*run-*/*.wandb")
    assert {row["_step"]: row["verdict"] for row in rows(path) if "verdict" in row} == {1: "undecided", 5: "healthy"}
    assert path.stem == "run-" + json.loads((logged / TRACKED).read_text())["id"]

    script = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow.db")
(experiment,) = client.search_experiments(filter_string="name = 'vergence'")
(run,) = client.search_runs([experiment.experiment_id])
losses = [(value.step, value.value) for value in client.get_metric_history(run.info.run_id, "loss")]
print(json.dumps([run.info.status, run.info.run_name, run.data.tags["verdict"], run.data.params, losses]))
"""
    done = subprocess.run([sys.executable, "-c", script, logged], capture_output=True, text=True, check=True)
    status, title, verdict, params, losses = json.loads(done.stdout)
    assert (status, title, verdict) == ("FINISHED", "run", "healthy")
    assert params["method/kind"] == "byol"
    assert params["key"] == json.loads((logged / "run.json").read_text())["key"]
    assert losses == [[n, 1 / n] for n in range(1, 13)]


def test_the_server_of_wandb_says_what_it_has(logged, monkeypatch):
    """What is on a server is not in the files of another machine."""
    from vergence.files.run_folder import run_in
    from vergence.trackers.wandb import WandB

    (logged / TRACKED).write_text('{"id": "a"}')
    rows, asked = [], []
    theirs = SimpleNamespace(
        offline=False, step=8, log=lambda row, step, commit: rows.append(step), finish=lambda: rows.append("finished")
    )
    fake = SimpleNamespace(init=lambda **words: asked.append(words) or theirs, Settings=lambda **words: words)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # as the tracker sets it where it is not set, in its process
    tracker = WandB(run_in(logged), logged)
    replay(tracker, logged, first=5)
    tracker.stop()
    assert rows == [8, 9, 10, 11, 12, "finished"]
    (words,) = asked
    assert (words["id"], words["resume"], words["project"], words["name"]) == ("a", "allow", "mine", "run")


# --- those that fail --------------------------------------------------------------------------------------------------

PLUGIN = """
import os, signal, sys, threading
from pathlib import Path
from vergence import register
from vergence.engine.reporter import Reporter

def never():
    threading.Event().wait()

class Writes(Reporter):
    def __init__(self, run, folder):
        self.path = folder / "told"
    def found(self, block):
        self.note("found", *block[0])
    def start(self, total, done, per_epoch, lines, warnings):
        self.note("start", total, done, per_epoch, len(lines), *warnings)
    def line(self, line, verdict):
        self.note("line", line["step"], line["loss"], verdict.state)
    def say(self, text):
        self.note("say", text)
    def stop(self):
        self.note("stop")
    def note(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)

class Bad(Reporter):
    when, how = "", None
    def __init__(self, run, folder):
        self.at("build")
    def line(self, line, verdict):
        self.at("line")
    def stop(self):
        self.at("stop")
    def at(self, moment):
        if moment == self.when:
            type(self).how()

def raises():
    raise ValueError("it is broken\\nin two lines")

def crashes():
    os.kill(os.getpid(), signal.SIGKILL)

register.tracker("writes")(Writes)
for how in (raises, never, crashes, sys.exit):
    for when in ("build", "line", "stop"):
        name = f"{how.__name__}-{when}"
        register.tracker(name)(type(name, (Bad,), {"when": when, "how": staticmethod(how)}))
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A file of trackers that the trackers' processes load."""
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    monkeypatch.setenv("VERGENCE_PLUGINS", str(path))
    return path


def test_a_tracker_of_a_user_is_told_what_the_terminal_is_told(logged, plugin):
    listener = Listener()
    with trackers.tracked(["writes", "writes"], logged, listener) as reporter:
        replay(reporter, logged, first=10)
        reporter.stop()
        reporter.say("not scored")
    assert listener.said == ["not scored"]
    assert (logged / "told").read_text().splitlines() == [
        "found pictures 16",
        "start 100 10 8 10",
        f"line 11 {1 / 11} undecided",
        f"line 12 {1 / 12} undecided",
        "stop",
        "say not scored",
    ]


WHY = {
    "raises": "ValueError: it is broken",
    "never": "it has not finished 3 s after the run",
    "crashes": "its process has ended",
    "exit": "SystemExit: ",
}


@pytest.mark.parametrize("when", ["build", "line", "stop"])
@pytest.mark.parametrize("how", WHY)
def test_a_tracker_that_fails_is_dropped_with_one_warning(logged, plugin, monkeypatch, how, when):
    """The other one is told all."""
    if how == "never":
        monkeypatch.setattr(process, "PATIENCE", 3.0)
    listener = Listener()
    with trackers.tracked(["writes", f"{how}-{when}"], logged, listener) as reporter:
        replay(reporter, logged)
        reporter.stop()
        until(lambda: (logged / "told").exists() and "stop" in (logged / "told").read_text())
    assert listener.said == [f"warning: --track {how}-{when}: {WHY[how]}; the run goes on without it"]
    assert len((logged / "told").read_text().splitlines()) == 2 + 12 + 1


def test_a_tracker_that_does_not_read_is_never_waited_for(logged, plugin, monkeypatch):
    """A pipe takes 64 KiB: many times as much is told, and the run would wait for ever if it waited."""
    monkeypatch.setattr(process, "MOST", 1 << 20)
    listener = Listener()
    with trackers.tracked(["never-build"], logged, listener) as reporter:
        for _ in range(300):
            replay(reporter, logged)
    assert listener.said == ["warning: --track never-build: it does not keep up; the run goes on without it"]


def test_a_tracker_whose_process_cannot_begin_is_dropped(logged, plugin, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(logged / "nothing"))
    listener = Listener()
    with trackers.tracked(["writes"], logged, listener) as reporter:
        replay(reporter, logged)
    (said,) = listener.said
    assert said.startswith("warning: --track writes: FileNotFoundError")


def test_a_tracker_that_stands_in_no_file_is_dropped(logged):
    listener = Listener()
    with trackers.tracked(["of-a-notebook"], logged, listener) as reporter:
        replay(reporter, logged)
    (said,) = listener.said
    assert said.startswith("warning: --track of-a-notebook: it is in no file that --plugin loads")


def test_a_run_that_fails_ends_its_trackers(logged, plugin):
    listener = Listener()

    def run():
        with trackers.tracked(["writes"], logged, listener) as reporter:
            replay(reporter, logged)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert (logged / "told").read_text().splitlines()[-1] == "stop"


def command(*words):
    """Call the command in a process of its own: what a plugin registers stays in it."""
    return subprocess.run(
        [sys.executable, "-m", "vergence", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )


@pytest.mark.slow
def test_a_run_with_trackers_that_fail_is_the_same_run(tmp_path, plugin):
    words = ["train", "byol", *words_of(SMALL)]
    done = command(*words, "--out", tmp_path / "run", "--track", "raises-line,crashes-build,exit-stop")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if "--track" in line]
    assert sorted(line.split()[2] for line in warnings) == ["crashes-build:", "exit-stop:", "raises-line:"]
    command(*words, "--out", tmp_path / "without")
    files = list((tmp_path / "without").rglob("*.safetensors"))
    assert files
    for path in files:
        assert (tmp_path / "run" / path.relative_to(tmp_path / "without")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of the name"])
def test_a_package_that_is_missing_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, name, found):
    monkeypatch.setattr(trackers, "find_spec", lambda package: found)
    answer = train(tmp_path / "run", "--track", name)
    assert answer.code == 2
    assert answer.errors == [f"--track {name}: {name} is not installed: pip install 'vergence[{name}]'"]
    assert not (tmp_path / "run").exists()


def test_a_plugin_that_takes_a_name_of_the_library_is_one_line(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from vergence import register\n\n@register.tracker('wandb')\ndef mine(run, folder):\n    pass\n"
    )
    done = command("--plugin", tmp_path / "theirs.py", "train", "byol", "--track", "wandb")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "wandb: registered already, by vergence.trackers.wandb" in line
