"""Inside another program: threads, forks and other processes give the same bits, and what is the caller's stays so."""

import json
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.linear_model  # noqa: F401, here, for its first import changes the filters of warnings
import torch
from torch import nn

from public_calls import MODULES, calls, public
from repository import SOURCE, SUPPORT
from small_runs import SHORT
from soak import times
from surroundings import surroundings
from vergence import config as c
from vergence import methods
from vergence.command import cli
from vergence.data import load as load_images
from vergence.engine.periods import Periods
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.errors import InputError, MachineError
from vergence.machine import randomness, threads
from vergence.machine.randomness import drawn_from
from vergence.runs import load, run_training, score

pytestmark = pytest.mark.unshaped
"""The check of shapes draws from Python's generator, and takes numpy's numbers for no numbers."""


def run_of(seed, **changes):
    return replace(SHORT, seed=seed, **changes)


def bits(folder):
    """All that a run has learnt and said, but for what the clock decides."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    said = [{n: v for n, v in line.items() if n not in ("seconds", "images_per_second")} for line in lines]
    return json.dumps(said), weights(load(folder)[1])


def weights(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


# --- threads ----------------------------------------------------------------------------------------------------------


def trained(folder, seed, threads):
    torch.get_num_threads()
    torch.set_num_threads(threads)
    run_training(run_of(seed), folder, periods=Periods(log_every=1))
    return bits(folder)


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_at_the_same_time_are_the_runs_one_after_the_other(threads, tmp_path):
    alone = [trained(tmp_path / f"alone-{seed}", seed, threads) for seed in range(3)]
    done = threading.Event()

    def disturb():
        """What a caller may do meanwhile."""
        while not done.is_set():
            torch.manual_seed(1)
            torch.randn(10)
            nn.Linear(4, 4)(torch.zeros(4))

    other = threading.Thread(target=disturb)
    other.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            at_once = pool.map(lambda seed: trained(tmp_path / f"at-once-{seed}", seed, threads), range(3))
            assert list(at_once) == alone
    finally:
        done.set()
        other.join()


class Dropping(nn.Module):
    """An encoder that draws in each pass of training."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.dim, self.drop = encoder, encoder.dim, nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.encoder(x))


def test_layers_that_draw_draw_the_same_whatever_others_do(tmp_path, monkeypatch):
    build = methods.build_encoder
    monkeypatch.setattr(methods, "build_encoder", lambda *given: Dropping(build(*given)))
    run_training(run_of(0), tmp_path / "alone", periods=Periods(log_every=1))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: run_training(run_of(0), tmp_path / f"{i}", periods=Periods(log_every=1)), range(3)))
    expected, _ = bits(tmp_path / "alone")
    assert [bits(tmp_path / f"{i}")[0] for i in range(3)] == [expected] * 3
    method = methods.build(run_of(0)).train()
    views = torch.rand(2, 4, 3, 32, 32)
    assert not torch.equal(method(views).y, method(views).y)


def test_what_layers_draw_is_of_the_step(tmp_path, monkeypatch):
    """As torch's own generator would give it, set to the step's seed."""
    seen = []

    class Seen(Dropping):
        def forward(self, x):
            if self.training:
                seen.append(torch.rand(3))
            return super().forward(x)

    build = methods.build_encoder
    monkeypatch.setattr(methods, "build_encoder", lambda *given: Seen(build(*given)))
    run_training(run_of(5), tmp_path / "run", periods=Periods(log_every=1))
    steps = torch.Generator().manual_seed(randomness.seed_of(5, "layers", 1))
    assert torch.equal(seen[0], torch.rand(3, generator=steps))


DRAWS = {
    "rand": lambda x: torch.rand(9),
    "randn": lambda x: torch.randn(4, 5),
    "randint": lambda x: torch.randint(9, (30,)),
    "randint between": lambda x: torch.randint(2, 9, (30,)),
    "randperm": lambda x: torch.randperm(50),
    "like": lambda x: torch.rand_like(x) + torch.randn_like(x),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "multinomial": lambda x: torch.multinomial(x.sigmoid(), 3),
    "normal": lambda x: torch.normal(x, x.abs()),
    "in place": lambda x: x.clone().uniform_() + x.clone().normal_() + x.clone().exponential_(),
    "dropout": lambda x: nn.functional.dropout(x, 0.3),
    "dropout of channels": lambda x: nn.functional.dropout2d(x[None, None], 0.3),
    "attention": lambda x: nn.functional.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.3),
    "rrelu": lambda x: nn.functional.rrelu(x, training=True),
    "init": lambda x: nn.init.trunc_normal_(nn.init.orthogonal_(torch.empty(9, 9))),
    "layer": lambda x: nn.Conv2d(3, 4, 3).weight.detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_torchs_own_generator_and_leave_it_alone(name):
    x = torch.linspace(-1, 1, 400).view(20, 20)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = DRAWS[name](x), torch.rand(2)
    before = torch.get_rng_state()
    with drawn_from(torch.Generator().manual_seed(3)) as draws:
        assert not draws.any
        got = DRAWS[name](x), torch.rand(2)
        assert draws.any
    assert all(map(torch.equal, got, expected))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_named_is_used():
    with drawn_from(torch.Generator().manual_seed(3)):
        named = torch.rand(4, generator=torch.Generator().manual_seed(7))
        inner = torch.Generator().manual_seed(8)
        with drawn_from(inner):
            within = torch.rand(4)
    assert torch.equal(named, torch.rand(4, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(within, torch.rand(4, generator=torch.Generator().manual_seed(8)))


def test_lanes_leave_other_threads_their_number():
    """torch gives a thread that begins the number that was set last, in whichever thread."""
    torch.set_num_threads(4)
    cpu = torch.device("cpu")

    def begun():
        with ThreadPoolExecutor(1) as new:
            return new.submit(torch.get_num_threads).result()

    try:
        with threads.two_workers(cpu) as ours, ThreadPoolExecutor(1) as other:
            assert (torch.get_num_threads(), begun()) == (2, 4)
            with ours.joined():
                assert (torch.get_num_threads(), begun()) == (4, 4)
            assert (torch.get_num_threads(), begun()) == (2, 4)

            def theirs():
                with threads.two_workers(cpu) as workers:
                    return workers is not ours and workers.two

            assert other.submit(theirs).result()
            assert torch.get_num_threads() == 2
        assert (torch.get_num_threads(), begun()) == (4, 4)
    finally:
        torch.set_num_threads(1)


# --- other processes --------------------------------------------------------------------------------------------------

PROGRAM = """
import multiprocessing, sys, threading
from dataclasses import replace
import torch
from small_runs import SHORT
from vergence.machine import threads
from vergence.engine.periods import Periods
from vergence.runs import run_training

def work(folder):
    torch.set_num_threads(2)
    run_training(SHORT, folder, periods=Periods(log_every=1))

def refused(folder):
    try:
        run_training(SHORT, folder)
    except Exception as error:
        print(type(error).__name__, error, flush=True)

def own(folder):
    torch.set_num_threads(2)
    x = torch.randn(500, 500)
    for _ in range(3):
        x = (x @ x).sin()

def child(target, folder, method):
    process = multiprocessing.get_context(method).Process(target=target, args=(folder,))
    process.start()
    process.join(100)
    print("child", process.exitcode, flush=True)
    process.kill()

if __name__ == "__main__":
    how, folder = sys.argv[1:]
    if how in ("fork", "spawn", "forkserver"):
        work(folder + "-parent")
        child(work, folder, how)
    elif how == "torch":
        own(folder)
        child(work, folder, "fork")
    elif how == "at work":
        with threads.two_workers(torch.device("cpu")):
            child(refused, folder, "fork")
    elif how == "unknown":
        threads._openmp = lambda: None
        work(folder + "-parent")
        child(refused, folder, "fork")
    elif how == "unused":
        threads._openmp = lambda: None
        child(work, folder, "fork")
"""


def program(how, folder):
    script = folder.parent / "program.py"
    script.write_text(PROGRAM)
    return python(script, how, folder).stdout.splitlines()


def python(*words, **environment):
    """A Python process that imports this package and what tests share."""
    path = os.pathsep.join([str(SOURCE), str(SUPPORT)])
    environment = os.environ | {"PYTHONPATH": path} | environment
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "how", times(["fork", "spawn", "torch", "unused"], ["fork", "spawn", "forkserver", "torch", "unused"])
)
def test_a_process_that_is_begun_in_any_way_gives_the_same_bits(how, tmp_path, whole_with_two_threads):
    assert program(how, tmp_path / "run") == ["child 0"]
    assert bits(tmp_path / "run") == whole_with_two_threads


@pytest.fixture(scope="module")
def whole_with_two_threads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inside") / "run"
    return trained(folder, SHORT.seed, 2)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("at work", "MachineError this process was forked while a run was at work in it: "),
        ("unknown", "MachineError this process was forked after torch had used threads, which do not live on in it: "),
    ],
)
def test_a_fork_that_cannot_go_on_is_refused_in_one_line(how, said, tmp_path):
    line, child = program(how, tmp_path / "run")
    assert line.startswith(said)
    assert line.endswith("start it with multiprocessing's spawn or forkserver, not with fork")
    assert child == "child 0"
    assert not (tmp_path / "run").exists()


def test_a_gpu_does_not_live_on_in_a_fork(monkeypatch):
    monkeypatch.setattr(threads, "_threads", threads._Threads(gpu_lost=True))
    threads.require_usable(torch.device("cpu"))
    with pytest.raises(MachineError, match="was forked after torch had used the GPU"):
        threads.require_usable(torch.device("cuda"))


# --- what is the caller's ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_each_public_function_is_called_here(name, folder):
    assert {call.partition(",")[0] for call in calls(name, folder)} == public(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_leaves_the_process_as_it_was(name, threads, folder):
    made = calls(name, folder)
    torch.set_num_threads(threads)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002, a state of their own
    for call, function in made.items():
        before = surroundings()
        function()
        assert surroundings() == before, call


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc is asked for what glibc and Linux have")
def test_a_call_leaves_freed_memory_to_be_returned(folder):
    """Only `keep_freed_memory` itself keeps it; that it does shows that the test would see another."""
    done = python(SUPPORT / "public_calls.py", folder, OMP_NUM_THREADS="1")
    *calls, (last, *_) = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert len(calls) > 70
    assert not [(kept, call) for kept, call in calls if int(kept) > 20]
    assert int(last) > 40  # of 80: some lie in what the heap had free


COMPUTING = """
import sys
from vergence.command import cli
import torch
from public_calls import kept
sys.argv[1:] = {words!r}
print(getattr(cli, {entry!r})(*{arguments!r}), kept(), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc is asked for what glibc and Linux have")
@pytest.mark.parametrize(("entry", "keeps"), [("command", True), ("main", False)])
def test_a_command_keeps_freed_memory_in_a_process_of_its_own(entry, keeps, folder):
    words = ["evaluate", str(folder), "--probes", "knn"]
    arguments = [] if entry == "command" else [words]
    done = python("-c", COMPUTING.format(words=words, entry=entry, arguments=arguments), OMP_NUM_THREADS="1")
    code, kept = map(int, done.stderr.split())
    assert code == 0
    assert (kept > 60) is keeps


COMMANDS = {
    "train": ("train", "simclr", "--epochs", "1", "--subset", "64", "--batch-size", "32", "--encoder", "test_resnet"),
    "threads": ("evaluate", "RUN", "--threads", "2", "--probes", "knn"),
    "evaluate": ("evaluate", "RUN"),
    "views": ("views",),
    "report": ("report", "RUN"),
    "version": ("--bad",),
    "no run": ("evaluate", "nowhere"),
    "no command": ("nope",),
    "help": (),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_called_as_a_function_leaves_the_process_as_it_was(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    before = surroundings()
    cli.main([str(folder) if word == "RUN" else word for word in COMMANDS[name]])
    assert surroundings() == before


def test_warnings_of_the_caller_are_shown_after_a_command(capsys):
    assert cli.main(["evaluate", "nowhere"]) == 2
    with pytest.warns(DeprecationWarning, match="mine"):
        warnings.warn("mine", DeprecationWarning, stacklevel=1)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.log(np.zeros(1))


def test_commands_in_several_threads_put_all_back(capsys):
    before = surroundings()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: cli.main(["evaluate", f"nowhere-{i}"]), range(40))) == [2] * 40
    assert surroundings() == before


def test_variables_that_a_command_sets_for_several_processes_are_put_back(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)
    before = surroundings()
    assert cli.main(["train", "byol"]) == 2
    assert surroundings() == before


# --- words for numbers and places -------------------------------------------------------------------------------------


def test_text_and_other_numbers_are_taken_for_paths_devices_and_periods(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = run_training(
        SHORT,
        "run",
        where=Where(device="cpu", data_dir="."),
        periods=Periods(log_every=np.int64(1), save_every=np.int32(2)),
    )
    assert summary["key"] == SHORT.key
    assert score(
        "run", where=Where(device="cpu"), probing=Probing(k=np.int64(3), temperature=np.float32(0.07), probes=("knn",))
    )["knn"]
    assert load("run")[2] == load(Path("run"))[2]
    assert len(load_images(c.Digits(), "test", data_dir=".", cache_dir="cache"))
    with pytest.raises(InputError, match=r"Periods: log_every: expected a whole number, not 2\.5"):
        run_training(SHORT, "other", periods=Periods(log_every=2.5))
