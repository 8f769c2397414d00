"""Every fast path against the step as it is written: views side by side, stacked, compiled; kernels interpreted."""

import copy
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from marks import slow
from repository import SOURCE, SUPPORT
from small_runs import VARIANTS, pictures, run_of, small, views_of
from vergence import config as c
from vergence import methods
from vergence.engine import step as engine_step
from vergence.engine.batches import fit, taken
from vergence.engine.gradients import NonFiniteGuard, NotFinite
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.step import Setup, Stepper, build_stepper, stepping, update
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.machine.threads import TwoWorkers, two_workers
from vergence.metrics.measure import measure, read
from vergence.networks.branch import Branch
from vergence.networks.parallel_views import _separable, parallel_views
from vergence.networks.split_batch_norm import split_batch_norm
from vergence.optim import build_optimizer, layers, make_capturable, set_rate
from vergence.runs import run_training

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def built(name, **changes):
    method = methods.build(run_of(VARIANTS[name], **changes))
    return method.to(memory_format=torch.channels_last).train()


def learn(method, views):
    """Loss and embeddings of one pass, and every gradient."""
    method.zero_grad()
    arguments = (views, torch.arange(views.shape[1]) % 4) if isinstance(method, methods.Supervised) else (views,)
    outputs = method(*arguments)
    outputs.loss.backward()
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return outputs, gradients


def assert_same_step(method, other, views, tolerance):
    (ours, gradients), (theirs, expected) = learn(other, views), learn(method, views)
    for name in ("loss", "y", "z", "p", "z_target"):
        value = getattr(theirs, name)
        if value is not None:
            torch.testing.assert_close(getattr(ours, name), value, rtol=tolerance, atol=tolerance)
    assert gradients.keys() == expected.keys()
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= tolerance * whole, name
    state = other.state_dict()
    for name, value in method.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


# --- side by side -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name if name in ("moco", "byol", "supervised") else slow(name) for name in VARIANTS])
def test_side_by_side_is_one_after_the_other(name, two_threads):
    """Bit for bit but for running statistics, in three passes: what one leaves behind, the next finds."""
    method = built(name)
    other = copy.deepcopy(method)
    torch.set_num_threads(1)
    expected = [learn(method, views_of(seed=seed)) for seed in range(3)]
    torch.set_num_threads(2)
    with two_workers(CPU) as both, parallel_views(other, both):
        used = [module.both is not None for module in other.modules() if isinstance(module, Branch)]
        assert all(used)
        got = [learn(other, views_of(seed=seed)) for seed in range(3)]
    for (ours, gradients), (theirs, truth) in zip(got, expected, strict=True):
        assert torch.equal(ours.loss, theirs.loss)
        assert torch.equal(ours.y, theirs.y)
        assert all(torch.equal(gradients[n], truth[n]) for n in truth)
    state = other.state_dict()
    for key, value in method.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)
    assert all(module.both is None for module in other.modules() if isinstance(module, Branch))


def test_both_lanes_work():
    seen = set()
    meet = threading.Barrier(2, timeout=30)

    def work(value):
        meet.wait()
        seen.add(threading.get_ident())
        return value * 10, torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with two_workers(CPU) as both:
            assert both.two
            assert both.map(work, range(4)) == [(0, 2), (10, 2), (20, 2), (30, 2)]
            with two_workers(CPU) as inner:
                assert inner is both
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 2


def test_joined_lanes_have_all_threads(two_threads):
    with two_workers(CPU) as both:
        with both.joined():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    with TwoWorkers(None).joined():
        assert torch.get_num_threads() == 2


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [c.SGD(momentum=0.9), c.Adam(), c.LARS()], ids=lambda o: type(o).__name__)
def test_one_thread_and_two_take_the_same_steps(optimizer, two_threads):
    """Bit for bit, the update included: on an encoder whose tensors are large enough to be split among threads."""
    run = run_of(VARIANTS["byol"], optimizer=optimizer, encoder=c.Encoder(name="resnet18"))
    images = pictures()
    states = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        method = methods.build(run).to(memory_format=torch.channels_last)
        with stepping(Setup(run, method, build_optimizer(optimizer, method), images, CPU, 1), "none") as stepper:
            for step in (1, 2):
                stepper(step, torch.arange(4), with_layer_stats=False)
        states.append(method.state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_one_thread_has_one_lane():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with two_workers(CPU) as one:
            assert not one.two
            assert one.map(lambda v: v + 1, range(3)) == [1, 2, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [0, 1])
def test_what_fails_in_a_lane_is_raised(bad, two_threads):
    def work(value):
        if value == bad:
            raise ValueError("here")

    with two_workers(CPU) as both, pytest.raises(ValueError, match="here"):
        both.map(work, range(2))


@pytest.mark.parametrize(
    ("encoder", "separable"),
    [
        (nn.BatchNorm2d(4), True),
        (nn.GroupNorm(2, 4), True),
        (nn.Dropout(0.0), True),
        (nn.Dropout(0.1), False),
        (nn.BatchNorm2d(4, momentum=None), False),
    ],
    ids=str,
)
def test_what_leaves_something_behind_or_draws_goes_one_after_the_other(encoder, separable):
    assert _separable(nn.Sequential(encoder)) is separable


def test_a_buffer_of_another_kind_is_not_separable():
    encoder = nn.Sequential(nn.ReLU())
    encoder.register_buffer("seen", torch.zeros(3))
    assert not _separable(encoder)


def test_one_thread_and_two_give_the_same_bits(tmp_path, two_threads):
    run, images = run_of(VARIANTS["byol"], epochs=3), pictures()

    def trained(threads):
        torch.set_num_threads(threads)
        folder = tmp_path / str(threads)
        folder.mkdir()
        return train(run, images, folder, where=Where(device=CPU), reporter=Reporter()).state_dict()

    one, two = trained(1), trained(2)
    assert all(torch.equal(two[name], value) for name, value in one.items())


# --- stacked ----------------------------------------------------------------------------------------------------------

ONE_UNIT_GROUPS = "byol, layer norm"  # its predictor's group norm gives exact zeros but for rounding, and ReLU a coin
STACKABLE = [name for name in VARIANTS if "renorm" not in name and "moco" not in name and name != ONE_UNIT_GROUPS]


@pytest.mark.parametrize("name", STACKABLE)
def test_stacked_views_are_one_after_the_other(name):
    method = built(name).double()
    other = copy.deepcopy(method)
    assert split_batch_norm(other)
    views = views_of().double()
    for branch in (module for module in other.modules() if isinstance(module, Branch)):
        assert branch.passage.stacked
    assert_same_step(method, other, views, 1e-9)
    assert method.state_dict().keys() == other.state_dict().keys()
    method.eval()
    other.eval()
    with torch.no_grad():
        torch.testing.assert_close(method.encoder(views[0]), other.encoder(views[0]))


def test_each_view_has_its_own_statistics():
    """Views of different means: together they would be normalized by the mean of both."""
    method = built("byol")
    split_batch_norm(method)
    views = views_of()
    views[1] += 3
    plain = built("byol")
    torch.testing.assert_close(method(views).z, plain(views).z, rtol=1e-3, atol=1e-4)
    together = built("byol", norm_views="together")
    assert (together(views).z - plain(views).z).abs().max() > 0.05


@pytest.mark.parametrize(
    ("name", "changes"),
    [("byol", {"norm_views": "together"}), ("byol, batch renorm, standardized", {}), ("moco", {})],
    ids=["together", "batch renorm", "one view at a time"],
)
def test_what_cannot_be_stacked_is_left_alone(name, changes):
    method = built(name, **changes)
    before = [type(module) for module in method.modules()]
    assert not split_batch_norm(method)
    assert [type(module) for module in method.modules()] == before


# --- what a graph needs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [c.SGD(lr=0.1, factor=2.0, layers=("encoder",)), c.LARS(lr=0.1)], ids=["sgd", "lars"]
)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_rates_and_progress_may_be_tensors(optimizer, schedule):
    """As a captured step reads them: the same update as with numbers, within rounding."""
    target = c.MovingAverage(decay=0.9, decay_schedule=schedule)
    run = run_of(small(c.BYOL(target=target)), optimizer=optimizer)
    method = methods.build(run).train()
    other = copy.deepcopy(method)
    for progress in (0.25, 0.5):
        for one, wrap in ((method, float), (other, torch.tensor)):
            built_one = build_optimizer(run.optimizer, one)
            if wrap is torch.tensor:
                make_capturable(built_one, CPU)
                assert all(isinstance(group["lr"], torch.Tensor) for group in built_one.param_groups)
            set_rate(built_one, 0.05)
            outputs = one(views_of())
            outputs.loss.backward()
            update(one, built_one, outputs, wrap(progress))
    for (name, value), theirs in zip(method.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(theirs, value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_the_first_fault_is_remembered():
    finite = NonFiniteGuard(CPU)
    finite.record("loss", [torch.ones(3)], 1)
    finite.check()
    finite.record("gradient", [torch.ones(2), torch.tensor([1.0, float("nan")])], torch.tensor(7))
    finite.record("loss", [torch.tensor(float("inf"))], 8)
    with pytest.raises(NotFinite, match="the gradient is not finite at step 7") as caught:
        finite.check()
    assert (caught.value.part, caught.value.step) == ("gradient", 7)


def test_a_fault_that_is_heard_of_later_is_that_of_its_step(tmp_path, monkeypatch):
    """As on a GPU, where asking waits for a log line: step, part and pictures are those of the fault."""
    from vergence.errors import Diverged

    monkeypatch.setattr(Stepper, "_note", lambda self, part, values, step: self.finite.record(part, values, step))
    run = run_of(VARIANTS["byol"], epochs=2, optimizer=c.SGD(lr=1e30))
    with pytest.raises(Diverged, match=r"is not finite at step [23];"):
        train(run, pictures(), tmp_path, where=Where(device=CPU), reporter=Reporter(), periods=Periods(log_every=0))
    assert not list((tmp_path / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("name", ["byol", "moco", "TanRAFT-LP"])
def test_numbers_begun_before_the_next_step_are_those_of_their_step(name):
    """A captured step writes over its outputs: what was begun to be read must not change with them."""
    method = built(name)
    outputs, _ = learn(method, views_of())
    layered = layers(method, build_optimizer(c.SGD(), method))
    expected = measure(outputs)
    numbers = read(outputs, layered)
    with torch.no_grad():
        for value in (*outputs, *outputs.terms.values(), *method.parameters()):
            if isinstance(value, torch.Tensor):
                value.fill_(float("nan"))
    got = numbers()
    assert got.pop("layers")["projector"]["gradient"] > 0
    assert got == expected


def test_a_graph_needs_a_gpu(tmp_path):
    with pytest.raises(InputError, match="--compile: a graph needs a CUDA device"):
        run_training(run_of(VARIANTS["byol"]), tmp_path / "run", where=Where(compile="graph"))


@pytest.mark.unshaped
@pytest.mark.slow
def test_a_compiled_run_is_the_run(tmp_path):
    run, images = run_of(VARIANTS["byol"], epochs=1), pictures()
    results = []
    for compile in ("none", "full"):
        folder = tmp_path / compile
        folder.mkdir()
        results.append(
            train(run, images, folder, where=Where(device=CPU, compile=compile), reporter=Reporter()).state_dict()
        )
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


# --- kernels ----------------------------------------------------------------------------------------------------------

INTERPRETED = """
import torch
from dataclasses import replace
from vergence import augment, config as c
from vergence.augment import kernels
for name, side, source, size in (("byol", 16, 24, 24), ("simclr", 20, 20, 15), ("blog", 16, 16, 40)):
    views = replace(c.VIEWS[name], size=size)
    pixels = torch.randint(0, 256, (6, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = augment.two_views(pixels, source, views, torch.Generator().manual_seed(5))
    drawing = torch.Generator().manual_seed(5)
    drawn = torch.stack([kernels.pack(augment.draw(v, 6, source, drawing)) for v in (views.first, views.second)])
    got = kernels.two_views(pixels, source, views, drawn)
    assert got.stride() == expected.stride()
    assert (got - expected).abs().max() < 1e-4, (name, (got - expected).abs().max())
    half = kernels.two_views(pixels, source, views, drawn, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert (half - expected).abs().max() < 0.02
print("interpreted")
"""

CAPTURED = """
import contextlib
import sys
from types import SimpleNamespace
from unittest import mock
import torch
from small_runs import VARIANTS, pictures, run_of
from vergence import config as c, methods
from vergence.engine import step as steps
from vergence.augment import kernels
from vergence.networks.split_batch_norm import split_batch_norm
from vergence.optim import build_optimizer
from vergence.machine.threads import TwoWorkers
from vergence.engine.step import CapturedStepper, NotFinite, Setup, Stepper

class Graph:  # what is captured has been done once; a replay does it again, into the same tensors
    replays = 0
    def replay(self):
        if self.replays:
            again = self.stepper._whole()
            for mine, other in zip(self.stepper.seen.outputs, again.outputs, strict=True):
                if isinstance(mine, torch.Tensor):
                    mine.data.copy_(other)
        Graph.replays += 1
        self.replays = Graph.replays

@contextlib.contextmanager
def capture(graph, stream):
    graph.stepper = steppers[-1]
    if broken:
        raise RuntimeError("operation not permitted when stream is capturing")
    yield

fake = dict(Stream=lambda device: SimpleNamespace(wait_stream=lambda other: None), CUDAGraph=Graph, graph=capture,
            stream=lambda stream: contextlib.nullcontext(),
            current_stream=lambda: SimpleNamespace(wait_stream=lambda other: None))
cpu, images, cut = torch.device("cpu"), pictures(48), steps.multi_crop

def remember(*arguments):  # in float64, where nothing small grows; the kernels' own views are another test's
    views.append(cut(*arguments)[0].double())
    return (views[-1],)

steps.multi_crop = remember
kernels.two_views = lambda *arguments: views[int(steppers[-1].step) - 1]
sgd, lars = c.SGD(lr=0.05), c.LARS(lr=0.5)
thawed = c.SGD(lr=0.05, clip=0.5, frozen_epochs=0.5)  # 3 of 12 steps
cases = (
    *(("byol", sgd, 9), ("moco", lars, 9), ("supervised", sgd, 9), ("RAFT-NP", lars, 9), ("moco", thawed, 6)),
    ("byol", lars, 0),
)
for name, optimizer, replays in cases:
    broken, parts = not replays, 2 if optimizer is thawed else 1
    run = run_of(VARIANTS[name], optimizer=optimizer, accumulate=parts)
    steppers, losses, views = [], [], []
    with mock.patch.multiple(torch.cuda, **fake), mock.patch("warnings.warn") as warned:
        for kind in (Stepper, CapturedStepper):
            Graph.replays = 0
            method = methods.build(run).train().double()
            if kind is CapturedStepper:
                split_batch_norm(method)
            built = build_optimizer(run.optimizer, method)
            steppers.append(kind(Setup(run, method, built, images, cpu, 6), TwoWorkers(None)))
            order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
            losses.append([])
            for step in range(1, 13):
                seen = steppers[-1](step, order[(step - 1) % 6 * 8 :][:8], with_layer_stats=True)
                losses[-1].append(seen.outputs.loss.item())
    assert Graph.replays == replays, (name, Graph.replays)
    assert warned.called == broken
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-5, atol=1e-5)
    assert len(set(losses[1])) == 12, losses[1]
    seen.outputs.loss.data.fill_(float("nan"))
    steppers[1].finite.record("loss", [seen.outputs.loss.detach()], steppers[1].step)
    try:
        steppers[1].finite.check()
    except NotFinite as error:
        assert error.step == 12
    else:
        sys.exit("nothing was noticed")
print("captured")
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vergence.augment import kernels
floats, shared = "*fp32", {"radius": 4, "block": 1024}
numbers = {f"{colour}_{part}": "fp32" for part in ("mean", "std") for colour in ("red", "green", "blue")}
constant = dict.fromkeys(("radius", "block"), "constexpr")
sources = (
    (kernels._colours, {"x": floats, "p": floats, "area": "i32", "block": "constexpr"}, {"block": 1024}),
    (kernels._blur_rows, {"x": floats, "out": floats, "p": floats, "size": "i32", **constant}, shared),
    (
        kernels._finish,
        {"x": floats, "rows": floats, "out": "*bf16", "p": floats, "size": "i32", **numbers, **constant},
        shared,
    ),
)
for capability in (80, 90):
    for function, signature, constants in sources:
        signature = {name: signature[name] for name in function.arg_names}
        made = triton.compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"]
        assert "ld.local" not in made.asm["ptx"]  # nothing is spilled
print("compiled")
"""


@pytest.mark.slow
@pytest.mark.parametrize("said", ["interpreted", "captured", "compiled"])
def test_kernels(said, tmp_path):
    """The GPU's code without one: Triton's interpreter gives the CPU's views, and a captured step the CPU's losses,
    where graph and streams are stand-ins; Triton's compiler makes code for two GPUs.
    """
    pytest.importorskip("triton")
    script = {"interpreted": INTERPRETED, "captured": CAPTURED, "compiled": COMPILED}[said]
    paths = [str(SOURCE), str(SUPPORT)]
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)}
    if said != "compiled":
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == said, done.stderr[-2000:]


# --- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", ["graph", "full"])
@pytest.mark.parametrize("name", ["byol", "moco", "simclr", "contrastive", "RAFT-NP", "supervised"])
def test_a_captured_run_is_the_run(name, compile, tmp_path):
    device = torch.device("cuda")
    run, images = run_of(VARIANTS[name], epochs=4), pictures()
    results = []
    for how in ("none", compile):
        folder = tmp_path / how
        folder.mkdir()
        results.append(
            train(run, images, folder, where=Where(device=device, compile=how), reporter=Reporter()).state_dict()
        )
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-2, atol=1e-3, msg=lambda m, n=key: f"{n}: {m}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", ["none", "graph"])
def test_pictures_in_the_hosts_memory_change_no_bit(compile, tmp_path, monkeypatch):
    run, images = run_of(VARIANTS["byol"], epochs=2), pictures()
    where, results = Where(device=torch.device("cuda"), compile=compile), []
    for on_device in (True, False):
        monkeypatch.setattr(engine_step, "fit", lambda *_, on_device=on_device: on_device)
        folder = tmp_path / str(on_device)
        folder.mkdir()
        results.append(train(run, images, folder, where=where, reporter=Reporter()).state_dict())
    assert all(torch.equal(results[1][key], value) for key, value in results[0].items())


def test_pictures_are_kept_on_a_device_that_has_twice_their_room(monkeypatch):
    pixels = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
    assert fit(pixels, CPU)
    for free, fits in ((2 * pixels.nbytes + 1, True), (2 * pixels.nbytes, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1 << 40))
        assert fit(pixels, torch.device("cuda")) is fits


def test_the_pictures_of_a_batch_are_copied_beside_what_a_device_does(monkeypatch):
    pixels, batch, asked = torch.arange(10 * 3 * 64, dtype=torch.uint8).reshape(10, 3, 8, 8), torch.tensor([7, 2]), []
    assert taken(pixels, batch, CPU).equal(pixels[batch])

    def copied(tensor, device, non_blocking):
        asked.append((tensor, device, non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # another tensor, so that it is seen
    plain = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a, **k: copied(x, *a, **k) if k else plain(x, *a))
    assert taken(pixels, batch, torch.device("cuda")).equal(pixels[batch] + 1)
    assert [(device.type, non_blocking) for _, device, non_blocking in asked] == [("cuda", True)]


def test_every_step_is_built_by_one_function():
    run, images = run_of(VARIANTS["byol"]), pictures()
    method = methods.build(run)
    optimizer = build_optimizer(run.optimizer, method)
    stepper = build_stepper(Setup(run, method, optimizer, images, CPU, 3), TwoWorkers(None), "auto")
    assert type(stepper) is Stepper
    assert stepper.forward is method
    seen = stepper(1, torch.arange(8), with_layer_stats=True)
    assert seen.views.shape == (2, 8, 3, 16, 16)
    assert seen.layers is not None
    numbers, readable = seen.layers
    assert readable(numbers)["predictor"]["gradient"] > 0
    assert stepper(2, torch.arange(8), with_layer_stats=False).layers is None


OWN = c.Views(size=16, first=c.View(transform="mine"))
LOCAL = c.Views(size=16, local=c.Local(count=3))


@pytest.mark.parametrize(
    ("views", "kind", "split"),
    [(c.Views(size=16), "CapturedStepper", True), (LOCAL, "Stepper", False), (OWN, "Stepper", True)],
    ids=["two views", "local crops", "a transform"],
)
def test_on_a_gpu_what_no_kernel_makes_is_not_captured(views, kind, split, monkeypatch):
    """A batch norm that tells two stacked views apart would take one local crop for two."""
    run, split_for = run_of(VARIANTS["byol"], views=views), []
    for name in ("CapturedStepper", "Stepper"):
        monkeypatch.setattr(engine_step, name, lambda *arguments, name=name: name)
    monkeypatch.setattr(engine_step, "split_batch_norm", split_for.append)
    method = methods.build(run)
    setup = Setup(run, method, build_optimizer(run.optimizer, method), pictures(), torch.device("cuda"), 3)
    assert build_stepper(setup, TwoWorkers(None), "graph") == kind
    assert bool(split_for) is split
