"""Training that goes wrong: numbers that are none, losses that explode, collapse that nobody asked for, no memory."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import SMALL, train, vergence, words_of
from marks import slow
from soak import times
from step_faults import Fault
from vergence.files import durable
from vergence.metrics.table import TIMING

pytestmark = pytest.mark.wide

STEPS = 10  # 2 epochs of 5
BYOL = {"log_every": 2, "save_every": 2}


def tensors(folder):
    """Of the newest checkpoint, the networks' and the optimizer's."""
    from safetensors.torch import load

    files = durable.read_folder(sorted((folder / "checkpoints").glob("step-*"))[-1])
    return {name: load(data) for name, data in files.items() if name.endswith(".safetensors")}


def same_end(one, other):
    """Whether two finished runs have the same bits, in weights, moments and log."""
    logs = [
        [{k: v for k, v in line.items() if k not in TIMING} for line in durable.read_lines(folder / "metrics.jsonl")]
        for folder in (one, other)
    ]
    ours, theirs = tensors(one), tensors(other)
    return logs[0] == logs[1] and all(
        torch.equal(value, theirs[name][key]) for name, part in ours.items() for key, value in part.items()
    )


def is_finite(folder):
    parts = tensors(folder).values()
    return all(torch.isfinite(v).all() for part in parts for v in part.values() if v.is_floating_point())


def step_of(folder):
    return max((int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("step-*")), default=0)


def in_loss(value):
    return lambda method, when, seen: seen._replace(loss=seen.loss * value) if when == "after" else None


def in_gradient(value):
    def spoil(method, when, seen):
        if when == "before":
            weight = next(method.encoder.parameters())
            handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * value)[1])

    return spoil


def in_parameter(value):
    def spoil(method, when, seen):
        if when == "before":
            with torch.no_grad():
                next(method.encoder.parameters())[1, 0, 0, 0] = value

    return spoil


def in_statistic(value):
    def spoil(method, when, seen):
        if when == "after":
            method.encoder.bn1.running_var.data[1] = value  # behind the back of what counts changes

    return spoil


def in_picture(value):
    def spoil(method, when, seen):
        if when == "before":
            views = seen[0].clone()
            views[1, 2, 0, 3, 3] = value
            return (views, *seen[1:])
        return None

    return spoil


PLACES = {
    "loss": in_loss,
    "gradient": in_gradient,
    "parameter": in_parameter,
    "statistic": in_statistic,
    "picture": in_picture,
}


CROSSED = list(itertools.product(("nan", "inf"), (7, 8)))
"""What is put there, and when: at a step without a line in the log, and at one with a line."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(folder, **BYOL).code == 0
    return folder


CELLS = [(place, float(value), step) for place in PLACES for value, step in times(CROSSED[::3], CROSSED)]


@pytest.mark.parametrize(
    ("place", "value", "step"), [cell if cell[::2] == ("loss", 7) else slow(*cell) for cell in CELLS]
)
def test_a_number_that_is_none_stops_the_run_before_it_is_saved(place, value, step, whole, tmp_path, monkeypatch):
    fault = Fault(monkeypatch, PLACES[place](value), step)
    folder = tmp_path / "run"
    answer = train(folder, **BYOL)
    assert fault.done == [step]
    assert answer.code == 3
    (line,) = answer.errors
    assert line.startswith(f"{folder}: ")
    assert "is not finite" in line
    assert "try a lower --optimizer.lr" in line

    assert is_finite(folder)
    assert 0 < step_of(folder) < step + (place == "statistic")
    assert not (folder / "summary.json").exists()
    bundle = json.loads((folder / "diverged.json").read_text())
    assert bundle["step"] >= step
    assert bundle["step"] == step or place == "statistic"  # it takes part in nothing until it is saved
    assert len(bundle["pictures"]) == 8
    assert bundle["not_finite"]

    assert train(folder, **BYOL).code == 2  # it does not start again unasked
    fault.lifted = True
    assert train(folder, "--resume", **BYOL).code == 0
    assert same_end(folder, whole)
    assert not (folder / "diverged.json").exists()


def test_a_divergence_can_be_replayed(tmp_path):
    """What lies in the folder is enough: the run, the newest checkpoint and the step lead to it again."""
    folder = tmp_path / "run"
    options = {"optimizer__lr": 1e7, "optimizer__weight_decay": 1.0, "save_every": 1}
    first = train(folder, **options)
    assert first.code == 3
    bundle = json.loads((folder / "diverged.json").read_text())
    assert json.loads((folder / "run.json").read_text())["run"]["seed"] == 0
    begun = step_of(folder)
    again = train(folder, *(["--resume"] if begun else []), **options)
    assert (again.code, again.err) == (3, first.err)
    assert json.loads((folder / "diverged.json").read_text()) == bundle
    assert begun < bundle["step"]


# --- exploding and collapsing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, slow(1)])
def test_a_thousand_times_the_rate_explodes_and_is_named(seed, tmp_path):
    """Cross-entropy has no bound, so the baseline shows it; the distances of unit vectors have one, see below."""
    words = words_of({**SMALL, "optimizer.lr": 100.0, "seed": seed, "epochs": 8}, without=("predictor.hidden",))
    answer = vergence("train", "supervised", "--out", tmp_path / "run", *words)
    assert answer.code == 3
    (line,) = answer.errors
    assert "is not finite at step" in line
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["step"] <= 20
    assert not (tmp_path / "run" / "summary.json").exists()


def collapsed(folder, answer):
    summary = json.loads((folder / "summary.json").read_text())
    lines = durable.read_lines(folder / "metrics.jsonl")
    first = next(line["step"] for line in lines if "collapse" in line["verdict"])
    return (
        answer.code == 0
        and summary["verdict"]["state"] == "complete collapse"
        and "verdict   complete collapse: all pictures give one projection" in answer.out
        and "healthy" not in answer.out
        and first <= 10
    )


NORMLESS = {"projector__norm": "none", "predictor__norm": "none", "epochs": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {**NORMLESS, "optimizer__lr": 100.0},
        {"projector__norm": "none", "predictor": "none", "target": "stop-gradient", "epochs": 8},
    ],
    ids=["a thousand times the rate", "nothing that prevents it"],
)
def test_a_collapse_is_said_and_never_looks_like_success(options, tmp_path):
    settings = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    without = ("predictor.hidden",) if options.get("predictor") == "none" else ()
    words = words_of(SMALL | settings, without=without)
    answer = vergence("train", "byol", "--out", tmp_path / "run", *words)
    assert collapsed(tmp_path / "run", answer)


@pytest.mark.slow
def test_an_encoder_that_sees_nothing_is_called_collapsed_though_its_loss_falls(tmp_path, monkeypatch):
    def constant(method, when, seen):
        return None

    class Blind(Fault):
        def attach(self, method):
            method.encoder.register_forward_hook(lambda _, __, y: y * 0 + 1)
            return super().attach(method)

    Blind(monkeypatch, constant, -1)
    folder = tmp_path / "run"
    answer = train(folder, **NORMLESS)
    assert collapsed(folder, answer)
    losses = [line["loss"] for line in durable.read_lines(folder / "metrics.jsonl")]
    assert losses[-1] < losses[0]


# --- memory -----------------------------------------------------------------------------------------------------------


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.mark.parametrize(
    "error", [OUT_OF_MEMORY[0], *map(slow, OUT_OF_MEMORY[1:])], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("step", [slow(1), 8])
def test_out_of_memory_at_a_step_keeps_what_was_saved(error, step, whole, tmp_path, monkeypatch):
    def full(method, when, seen):
        raise error

    fault = Fault(monkeypatch, full, step)
    folder = tmp_path / "run"
    answer = train(folder, **BYOL)
    assert fault.done == [step]
    assert answer.code == 4
    (line,) = answer.errors
    assert f"{folder}: out of memory, " in line
    assert "with batches of 8 at 16 px; try a smaller one, such as --batch-size 4" in line
    assert step_of(folder) == (0 if step == 1 else 6)
    fault.lifted = True
    assert train(folder, "--resume", **BYOL).code == 0
    assert same_end(folder, whole)


LIMITED = """
import resource, sys
import torch
from vergence.command import cli
cli.main(["train", "byol", *sys.argv[2:]])  # what is loaded once is loaded
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (32 << 20), resource.RLIM_INFINITY))
large = "--batch-size 1400 --subset none --data.size 64 --views.size 64 --out".split()
sys.exit(cli.main(["train", "byol", *sys.argv[2:], *large, sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_limit_on_memory_is_explained(tmp_path):
    words = [str(word) for word in words_of({**SMALL, "epochs": 1}, without=("device",))]
    words += ["--out", str(tmp_path / "small")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert (tmp_path / "small" / "summary.json").exists()
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert "out of memory" in line
    assert "--batch-size" in line
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_training_has_no_process_but_its_own(tmp_path, monkeypatch):
    """No worker can die, hang or fill /dev/shm, for there is none: pictures lie in memory."""
    seen = []

    def processes():
        return {
            child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
        }

    def look(method, when, _):
        seen.extend([processes()] if when == "after" else [])

    before = processes()
    fault = Fault(monkeypatch, look, 4)
    assert train(tmp_path / "run").code == 0
    assert fault.done == [4]
    assert seen == [before]
