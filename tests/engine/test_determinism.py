"""What may not change a bit of a run, what must, and that its streams of random numbers are independent."""

import contextlib
import hashlib
import itertools
from dataclasses import replace

import pytest
import torch

from commands import train
from marks import slow
from small_runs import VARIANTS, pictures, run_of
from soak import times
from step_faults import Fault
from vergence import config as c
from vergence import methods
from vergence.data import Images
from vergence.engine import step
from vergence.engine import train as loop
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files import durable
from vergence.machine import device, randomness
from vergence.metrics.table import TIMING

pytestmark = pytest.mark.wide

RUN = run_of(VARIANTS["moco"], epochs=3)  # 3 steps each; a queue and a moving average are state too
SET = pictures()


def go(folder, log_every=1, save_every=0, run=RUN, images=SET):
    folder.mkdir(parents=True, exist_ok=True)
    return loop.train(
        run,
        images,
        folder,
        where=Where(device=torch.device("cpu")),
        reporter=Reporter(),
        periods=Periods(log_every=log_every, save_every=save_every),
    )


def digest(folder):
    """Of every bit of the newest checkpoint: networks, target, queue, optimizer."""
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    files = durable.read_folder(newest)
    return newest.name, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def log(folder):
    """Lines by step, without what the clock and the lines before decide."""
    return {
        line["step"]: {name: value for name, value in line.items() if name not in (*TIMING, "verdict")}
        for line in durable.read_lines(folder / "metrics.jsonl")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    go(folder)
    assert len(log(folder)) == 9
    return digest(folder), log(folder)


STOPS, LOGS, SAVES = [2, 5, 7, 9], [1, 0, 2, 100], [0, 2, 1]
MATRIX = times(list(itertools.product(STOPS[1:3], LOGS[:2], SAVES[:2])), list(itertools.product(STOPS, LOGS, SAVES)))


@pytest.mark.parametrize(
    ("stop", "log_every", "save_every"), [cell if cell[0] == STOPS[1] else slow(*cell) for cell in MATRIX]
)
def test_neither_where_it_was_cut_off_nor_periods_change_a_bit(
    stop, log_every, save_every, whole, tmp_path, monkeypatch
):
    class CutOffError(Exception):
        pass

    def cut(method, when, seen):
        raise CutOffError

    fault = Fault(monkeypatch, cut, stop)
    with pytest.raises(CutOffError):
        go(tmp_path, log_every, save_every)
    assert fault.done == [stop]
    saved = {int(path.name.split("-")[1]) for path in (tmp_path / "checkpoints").glob("step-*")}
    assert max(saved, default=0) == max(s for s in range(stop) if s % 3 == 0 or (save_every and s % save_every == 0))
    fault.lifted = True
    go(tmp_path, log_every, save_every)
    assert digest(tmp_path) == whole[0]
    lines = log(tmp_path)
    assert lines == {step: whole[1][step] for step in lines}
    assert {3, 6, 9} <= lines.keys()


def test_the_matrix_is_as_large_as_it_says():
    assert len(MATRIX) == times(8, 48)


def test_one_seed_gives_one_run_and_its_neighbours_others(tmp_path):
    seen = {}
    for name, seed in {"once": 7, "again": 7, "before": 6, "after": 8}.items():
        go(tmp_path / name, run=replace(RUN, seed=seed))
        _, files = digest(tmp_path / name)
        seen[name] = files["method.safetensors"], tuple(line["loss"] for line in log(tmp_path / name).values())
    assert seen["once"] == seen["again"]
    assert len(set(seen.values())) == 3
    losses = [loss for name in ("once", "before", "after") for loss in seen[name][1]]
    assert len(set(losses)) == len(losses)


# --- streams ----------------------------------------------------------------------------------------------------------

STREAMS = ("weights", "order", "views", "layers")
PLAIN = c.View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0, blur=0.0)
ALIKE = Images(SET.pixels[:1].repeat(len(SET), 1, 1, 1), SET.labels, SET.classes, SET.size)


def drawn(folder, monkeypatch, run, images):
    """First weights, then the pictures of each step and what a layer that draws would get."""
    seen = {"weights": [], "pictures": [], "layers": []}

    class Watch(Fault):
        def attach(self, method):
            seen["weights"] = [value.detach().clone() for value in method.online.parameters()]
            return super().attach(method)

        def before(self, method, inputs):
            seen["pictures"].append(inputs[0].clone())
            seen["layers"].append(torch.rand(4))

    with monkeypatch.context() as patch:
        Watch(patch, None, -1)
        go(folder, run=run, images=images)
    return {name: hashlib.sha256(b"".join(v.numpy().tobytes() for v in vs)).hexdigest() for name, vs in seen.items()}


def streams(folder, monkeypatch):
    """A digest of what each stream decided: of the order, pictures without change; of the views, pictures all alike."""
    flat = replace(RUN, views=replace(RUN.views, first=PLAIN, second=PLAIN))
    plain = drawn(folder / "plain", monkeypatch, flat, SET)
    alike = drawn(folder / "alike", monkeypatch, RUN, ALIKE)
    assert plain["weights"] == alike["weights"]
    return {
        "weights": plain["weights"],
        "order": plain["pictures"],
        "views": alike["pictures"],
        "layers": plain["layers"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_another_stream_leaves_the_others(stream, tmp_path, monkeypatch):
    before = streams(tmp_path / "before", monkeypatch)
    seed_of, asked = randomness.seed_of, set()

    def other(seed, name, *counters):
        asked.add(name)
        return seed_of(seed + (name == stream), name, *counters)

    for module in (randomness, step, methods):
        monkeypatch.setattr(module, "seed_of", other)
    after = streams(tmp_path / "after", monkeypatch)
    assert stream in asked
    assert {name for name in STREAMS if before[name] != after[name]} == {stream}


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_number_of_threads_is_said_when_a_run_goes_on(tmp_path, monkeypatch):
    class LeftError(Exception):
        pass

    def leave(method, when, seen):
        raise LeftError

    fault = Fault(monkeypatch, leave, 8)
    assert train(tmp_path / "run", threads=1).code == 1
    assert fault.done == [8]
    fault.lifted = True
    answer = train(tmp_path / "run", "--resume", threads=2)
    assert answer.code == 0
    assert "warning: threads was 1, is 2: the result may differ in its last bits" in answer.out


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "gpu", "tpu", "cpu:x", "", "cuda:-1"])
def test_a_device_that_is_not_there_is_never_replaced(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = train(tmp_path / "run", device=name)
    assert answer.code == 2
    (line,) = answer.errors
    assert line.startswith("--device: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "half", "fp16", "16", "bfloat"])
def test_a_precision_that_is_none_of_ours_is_never_replaced(precision, tmp_path):
    answer = train(tmp_path / "run", precision=precision)
    assert answer.code == 2
    (line,) = answer.errors
    assert "precision: unknown choice" in line
    assert "bfloat16" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("precision", "instructions"),
    [
        *(("bfloat16", name) for name in ("avx512_bf16", "amx_bf16", "avx512_fp16", None)),
        *(("float16", name) for name in ("avx512_fp16", "amx_fp16", "avx512_bf16", None)),
    ],
)
def test_16_bits_are_refused_where_the_processor_lacks_them(precision, instructions, monkeypatch):
    """torch imitates them there, with gradients that may come from memory nobody wrote."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False, instructions: True})
    cpu = torch.device("cpu")
    device.refuse_emulation("float32", cpu)
    if instructions and instructions.endswith({"bfloat16": "bf16", "float16": "fp16"}[precision]):
        device.refuse_emulation(precision, cpu)
    else:
        with pytest.raises(InputError, match=f"precision: this CPU has no {precision} instructions"):
            device.refuse_emulation(precision, cpu)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_refused_where_the_gpu_lacks_it(supported, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    with contextlib.nullcontext() if supported else pytest.raises(InputError, match="precision: this GPU has no bf"):
        device.refuse_emulation("bfloat16", torch.device("cuda"))
    device.refuse_emulation("float16", torch.device("cuda"))


def test_a_run_that_would_be_imitated_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    answer = train(tmp_path / "run", precision="bfloat16")
    assert answer.code == 2
    assert answer.errors[0].startswith("--precision: ")
    assert not (tmp_path / "run").exists()
