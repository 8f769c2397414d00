"""`benchmarks/on_gpu.py`: what waits for a GPU, at its smallest size on the CPU; cut off, killed, and started again."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet
import pytest
import torch

from benchmark_scripts import script
from data_files import write_parquet
from repository import ROOT
from vergence import config as c
from vergence.command import handlers, studies
from vergence.command.bench import read_order
from vergence.data import load
from vergence.errors import InputError
from vergence.study import Place, open_study

pytestmark = [pytest.mark.unshaped, pytest.mark.xdist_group("bench")]

NAMES = ("tests", "bench", "ours", "lightly", "blog", "raft", "tuned", "final")


@pytest.fixture(scope="module")
def on_gpu():
    return script("on_gpu")


@pytest.fixture(scope="module")
def small_cifar10():
    return script("small_cifar10")


def asked(out, **changes):
    given = {"minutes": 12.0, "out": out, "data_dir": None, "parts": [], "dry_run": True}
    return argparse.Namespace(**(given | changes))


def state(out, name):
    return json.loads((out / f"{name}.json").read_bytes())


def called(out, *words):
    return [sys.executable, str(ROOT / "benchmarks" / "on_gpu.py"), "--dry-run", "--out", str(out), *words]


def wait_until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


def alive(number):
    """Whether a process is there that is no zombie."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- all parts --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_does_every_part_and_does_none_twice(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(called(out, "--minutes", "60"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'reproduce blog --rows "Contrastive Loss;BYOL;Projection BN Only;' in done.stdout, "what it would do"
    found = {name: state(out, name) for name in NAMES}
    assert {one["state"] for one in found.values()} == {"done"}
    assert found["tests"]["result"] in ({"skipped": 1}, {"passed": 1})
    assert found["bench"]["result"]["views"]
    assert found["bench"]["result"]["step"]["samples_per_s"]
    assert [line["peer"] for name in ("ours", "lightly") for line in found[name]["result"]] == ["vergence", "lightly"]
    assert [one["row"] for one in found["blog"]["result"]] == ["BYOL", "Random"]
    assert all(one["logistic"] is not None for one in found["blog"]["result"])
    assert found["raft"]["result"][0]["verdict"] == "undecided", "of two steps"
    assert found["final"]["result"]["runs"][0]["whole_s"] > 0
    assert found["final"]["result"]["seconds_to"] == {"85": "not reached", "90": "not reached"}
    again = subprocess.run(called(out), capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert {name: state(out, name) for name in NAMES} == found


@pytest.mark.slow
def test_what_is_killed_goes_on_where_it_was(tmp_path):
    out, words = tmp_path / "out", ["--parts", "tests,blog,final"]
    first = subprocess.Popen(called(out, *words), stdout=subprocess.DEVNULL)
    log = out / "blog.log"
    while not (log.exists() and b"[1/2]" in log.read_bytes()):  # one of its two runs is finished
        assert first.poll() is None, "it ended by itself"
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert [state(out, name)["state"] for name in ("tests", "blog", "final")] == ["done", "running", "not reached"]
    tests = state(out, "tests")
    finished = {path: path.stat().st_mtime_ns for path in out.glob("blog/runs/*/summary.json")}
    done = subprocess.run(called(out, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(out, "tests") == tests
    assert state(out, "blog")["state"] == "done"
    assert state(out, "blog")["calls"] == 2
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "the finished run is not done again"
    assert state(out, "final")["why"] == "no run of the part `tuned` is finished, of which the best is timed"


def test_every_command_for_a_gpu_is_one_that_is_understood(on_gpu, tmp_path, monkeypatch):
    heard = {}
    monkeypatch.setattr(handlers, "_bench", lambda given, overrides: heard.update(bench=(given, overrides)))
    monkeypatch.setattr(studies, "reproduce", lambda given, overrides: heard.update({given.experiment: given}))
    names = []
    for part in on_gpu.parts(asked(tmp_path, dry_run=False, data_dir=tmp_path)):
        program, *words = part.words
        names.append(part.name)
        assert program == sys.executable
        assert words.count("cuda") == (part.name != "tests")
        if words[:2] == ["-m", "vergence"]:
            handlers.dispatch(words[2:])
        elif words[0].endswith("recipe.py"):
            assert on_gpu.recipe.read(words[1:]).device == "cuda"
    assert tuple(names) == NAMES
    assert read_order(*heard["bench"]).run.precision == "bfloat16"
    for name in ("blog", "raft"):
        with open_study(f"vergence.papers.{name}") as study:
            plan = study.plan(study.scales[heard[name].scale], Place())
        assert on_gpu.ROWS[name] == tuple(heard[name].rows.split(";"))
        assert set(on_gpu.ROWS[name]) <= set(plan)
        assert {plan[row][0].run.data.kind for row in on_gpu.ROWS[name]} == {"cifar10"}
    assert len(on_gpu.ROWS["blog"]) == 7
    with open_study("vergence.papers.blog") as study:
        assert study.runs(study.scales["short"])["BYOL"].views.size == 96


# --- one part ---------------------------------------------------------------------------------------------------------


def doing(on_gpu, code, name="a part", read=lambda: "measured"):
    return on_gpu.Part(name, 1, [sys.executable, "-c", code], read)


@pytest.fixture
def carried_out(on_gpu, tmp_path):
    def carry_out(part, limit=60.0):
        known = {"state": "not reached", "seconds": 1.0, "calls": 0}
        on_gpu.carry_out(part, tmp_path, limit, known)
        assert known == state(tmp_path, part.name)
        return known

    return carry_out


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path({path!r}).write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
time.sleep(600)
"""


def test_a_part_that_takes_longer_saves_itself_and_is_cut_off(on_gpu, tmp_path, carried_out, monkeypatch):
    monkeypatch.setattr(on_gpu, "OFTEN", 0.05)
    saved = tmp_path / "saved"
    known = carried_out(doing(on_gpu, SAVES.format(path=str(saved))), limit=2.0)
    assert known["state"] == "cut off"
    assert known["says"] == ["begun"]
    assert known["seconds"] >= 3.0, "with what an earlier call took"
    assert saved.read_text() == "saved"


def test_a_signal_to_the_script_ends_the_part_and_writes_what_it_has(on_gpu, tmp_path, carried_out):
    saved = tmp_path / "saved"
    log = tmp_path / "a part.log"

    def terminate():
        wait_until(lambda: log.exists() and b"begun" in log.read_bytes())
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=terminate)
    sender.start()
    with pytest.raises(KeyboardInterrupt), on_gpu.terminated_like_interrupted():
        carried_out(doing(on_gpu, SAVES.format(path=str(saved))))
    sender.join()
    assert saved.read_text() == "saved"
    assert (state(tmp_path, "a part")["state"], state(tmp_path, "a part")["result"]) == ("cut off", "measured")


def test_a_part_that_does_not_end_is_killed_with_all_it_started(on_gpu, tmp_path, carried_out, monkeypatch):
    monkeypatch.setattr(on_gpu, "GRACE", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); "
    child = "import os; os.fork(); print(os.getpid(), flush=True); time.sleep(600)"
    known = carried_out(doing(on_gpu, stubborn + child), limit=2.0)
    assert (known["state"], known["exit_code"]) == ("cut off", -signal.SIGKILL)
    for line in known["says"][1:]:
        wait_until(lambda line=line: not alive(int(line)))


def test_a_part_that_fails_says_its_last_lines(on_gpu, carried_out):
    known = carried_out(doing(on_gpu, "print('one'); raise SystemExit('no memory')"))
    assert (known["state"], known["exit_code"], known["says"]) == ("failed", 1, ["one", "no memory"])
    assert "no memory" in on_gpu.told({"part": "a part", **known})


def test_a_file_that_is_half_written_leaves_what_was_read_before(on_gpu, carried_out):
    read = iter(["measured", ValueError("half a line")])

    def reading():
        found = next(read)
        if isinstance(found, Exception):
            raise found
        return found

    known = carried_out(doing(on_gpu, "", read=reading))
    assert (known["state"], known["result"]) == ("done", "measured")


def test_a_command_waits_for_that_of_an_earlier_call(on_gpu, tmp_path):
    begun = "import time; print('first', flush=True); time.sleep(1.0); print('ended', flush=True)"
    first = on_gpu.begin(doing(on_gpu, begun), tmp_path)
    while b"first" not in (tmp_path / "a part.log").read_bytes():
        time.sleep(0.02)
    on_gpu.begin(doing(on_gpu, "print('second')"), tmp_path).wait()
    first.wait()
    assert (tmp_path / "a part.log").read_text().split() == ["first", "ended", "second"]


def test_a_command_saves_itself_where_the_script_dies(on_gpu, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("the kernel says it on Linux only")
    saved, held = tmp_path / "saved", tmp_path / ".held.lock"
    code = SAVES.format(path=str(saved))
    middle = f"import subprocess, sys, time; subprocess.Popen({[sys.executable, '-c', on_gpu.BEGIN, str(held)]!r} + "
    middle += f"[sys.executable, '-c', {code!r}]); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"begun\n"
    parent.kill()
    parent.communicate()
    wait_until(lambda: saved.exists() and saved.read_text() == "saved")


# --- the time, and mistakes -------------------------------------------------------------------------------------------


def test_what_the_time_does_not_reach_is_written_as_not_reached(on_gpu, tmp_path):
    assert on_gpu.run_all(asked(tmp_path, minutes=-1.0), on_gpu.parts(asked(tmp_path))) == 0
    assert {state(tmp_path, name)["state"] for name in NAMES} == {"not reached"}


def test_a_part_has_its_share_of_what_is_left(on_gpu, tmp_path, monkeypatch):
    limits = []
    monkeypatch.setattr(on_gpu, "carry_out", lambda part, out, limit, state: limits.append(limit))
    parts = [on_gpu.Part(name, share, [], dict) for name, share in (("a", 1), ("b", 2), ("c", 1))]
    on_gpu.run_all(asked(tmp_path, minutes=4.0), parts)
    assert limits == pytest.approx([60, 160, 240 - on_gpu.GRACE], rel=0.05), "the first two took no time"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry-run", "--minutes", "0"], "error: --minutes: must be above 0, not 0\n"),
        (["--dry-run", "--parts", "test"], f"error: --parts: unknown test; known: {', '.join(NAMES)}\n"),
        ([], "error: no CUDA device here; --dry-run does every part at its smallest size on the CPU\n"),
    ],
    ids=["minutes", "parts", "no GPU"],
)
def test_what_cannot_be_done_is_said_in_one_line(on_gpu, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_gpu.main([*words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == said
    assert not (tmp_path / "out").exists()


def test_a_dry_run_and_another_do_not_share_a_folder(on_gpu, tmp_path):
    on_gpu.run_all(asked(tmp_path, minutes=-1.0), on_gpu.parts(asked(tmp_path))[:1])
    before = (tmp_path / "tests.json").read_bytes()
    with pytest.raises(InputError, match=r"tests.json: of a call with --dry-run; choose another --out"):
        on_gpu.states(asked(tmp_path, dry_run=False), on_gpu.parts(asked(tmp_path))[:1])
    assert (tmp_path / "tests.json").read_bytes() == before


def test_a_run_that_was_cut_off_is_not_timed_from_its_middle(on_gpu, tmp_path):
    for name, file in (("whole", on_gpu.recipe.TIMING), ("half", "metrics.jsonl")):
        (tmp_path / "scored" / name).mkdir(parents=True)
        for one in (file, "run.json"):
            (tmp_path / "scored" / name / one).write_text("{}")
    on_gpu.forget_untimed(tmp_path / "scored")
    assert [path.name for path in (tmp_path / "scored").iterdir()] == ["whole"]
    assert (tmp_path / "cut-off-0-half" / "metrics.jsonl").exists()


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_cifar10_is_packed_into_so_many_bytes(small_cifar10, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    small_cifar10.write_noise(tmp_path / "noise")
    rows = pyarrow.parquet.read_table(tmp_path / "noise" / "train-00000-of-00001.parquet").to_pylist()
    pictures, labels = zip(*((row["image"]["bytes"], row["label"]) for row in rows), strict=True)
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(tmp_path / "noise" / "test-00000-of-00001.parquet", whole)
    for i, half in enumerate((slice(60), slice(60, 120))):
        write_parquet(whole / f"train-0000{i}-of-00002.parquet", list(pictures[half]), list(labels[half]))
    mib = (120 * 3200 + 2**16) / 2**20
    assert small_cifar10.main([str(whole), str(tmp_path / "packed"), "--mib", str(mib)]) == 0
    assert sum(path.stat().st_size for path in (tmp_path / "packed").iterdir()) <= mib * 2**20
    train, test = (load(c.CIFAR10(), split, data_dir=tmp_path / "packed") for split in ("train", "test"))
    assert (len(test), 60 < len(train) < 120) == (40, True)
    assert f"train: {len(train)} of 120 pictures" in capsys.readouterr().out
    assert small_cifar10.main([str(whole), str(tmp_path / "none"), "--mib", "0.1"]) == 2
    assert capsys.readouterr().err == "error: --mib 0.1: the test pictures alone are more\n"
    assert small_cifar10.main([str(tmp_path), str(tmp_path / "none")]) == 2
    assert "no test-*.parquet" in capsys.readouterr().err
