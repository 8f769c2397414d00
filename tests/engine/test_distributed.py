"""Several processes do what one does: losses, embeddings, gradients, state."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import soak
from rank_contract import RUNS, STEPS, steps
from small_runs import VARIANTS
from vergence import config as c
from vergence.errors import InputError, MachineError
from vergence.machine.launch import STEP, TORCHRUN, launched
from vergence.machine.processes import SINGLE_PROCESS, joined

pytestmark = pytest.mark.xdist_group("ranks")

METHODS = [name for name in VARIANTS if name in c.Method.members]
EVERYWHERE = [*METHODS, "parts", "parts, SimCLR", "local crops", "slices, W-MSE"]
"""Runs that three ranks do too."""


def seen_by(ranks, folder, size, names, compile="plain"):
    """What each of some ranks computed of runs, by their names and the rank."""
    answers = ranks(folder, "\n".join(names), compile, target="rank_contract.main", size=size, timeout=560)
    said = [line for answer in answers for line in answer["error"].splitlines() if "record function" not in line]
    assert ([answer["code"] for answer in answers], said) == ([0] * size, [])
    files = {name: number for number, name in enumerate(RUNS) if name in names}
    files |= {"apart": "apart"} if "apart" in names else {}
    return {
        (name, rank): load_file(folder / f"{file}-{rank}.safetensors")
        for name, file in files.items()
        for rank in range(size)
    }


@pytest.fixture(scope="module")
def by_two(tmp_path_factory, ranks):
    return seen_by(ranks, tmp_path_factory.mktemp("two"), 2, [*RUNS, "apart"])


@pytest.fixture(scope="module")
def by_three(tmp_path_factory, ranks):
    return seen_by(ranks, tmp_path_factory.mktemp("three"), 3, EVERYWHERE)


def far(one, other):
    """The largest distance of two tensors of a name, as a share of the first's norm, and where."""
    assert one.keys() == other.keys()
    found = {}
    for name in one:
        a, b = one[name].double(), other[name].double()
        assert a.shape == b.shape, name
        found[name] = ((a - b).norm() / a.norm().clamp_min(1e-2)).item()
    return max(found.items(), key=lambda item: item[1])


ROUNDING = 1e-9
"""In float64: what was seen is 1e-11, at the second step of losses that divide by small numbers."""


def equal_one_process(seen, name, size):
    where, distance = far(steps(RUNS[name], SINGLE_PROCESS), seen[name, 0])
    assert distance < ROUNDING, where
    for rank in range(1, size):
        one, other = seen[name, 0], seen[name, rank]
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_compute_what_one_process_does(name, by_two):
    equal_one_process(by_two, name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYWHERE)
def test_three_ranks_compute_what_one_process_does(name, by_three):
    equal_one_process(by_three, name, 3)


@pytest.mark.slow
@pytest.mark.unshaped
def test_compiled_ranks_compute_what_one_process_does(tmp_path, ranks):
    """Without the code of a backend, which takes minutes: that no graph of forward and backward pass is another one."""
    names = METHODS if soak.times(0, 1) else ["byol", "swav"]
    seen = seen_by(ranks, tmp_path, 2, names, "compiled")
    for name in names:
        equal_one_process(seen, name, 2)


@pytest.mark.slow
def test_default_buckets_would_not_resume_to_the_bit(tmp_path, ranks):
    """Torch orders the buckets of three ranks anew after the first step of each start, and sums in another order."""
    answers = ranks(tmp_path, target="rank_contract.buckets", size=3)
    assert [(a["code"], a["error"]) for a in answers] == [(0, "")] * 3
    found = load_file(tmp_path / "0.safetensors")
    assert not torch.equal(found["default 0"], found["default 2"])
    assert torch.equal(found["ours 0"], found["ours 2"])


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_rows_that_ranks_share_are_those_of_one(size, tmp_path, ranks):
    answers = ranks(tmp_path, target="rank_contract.rows", size=size)
    assert [(a["code"], a["error"]) for a in answers] == [(0, "")] * size


@pytest.mark.slow
def test_batch_norms_of_a_part_would_be_noticed(by_two):
    """The comparison above can fail: statistics over each rank's own pictures give other numbers by far."""
    where, distance = far(steps(RUNS["byol"], SINGLE_PROCESS), by_two["apart", 0])
    assert distance > 0.05, where


def test_the_contract_covers_every_step_and_gradient():
    kept = steps(RUNS["byol"], SINGLE_PROCESS)
    assert {f"{step} loss" for step in range(1, STEPS + 1)} <= kept.keys()
    assert sum(name.startswith("1 gradient") for name in kept) > 20


class TestOne:
    """One process: everything is the identity, and nothing is started."""

    def test_nothing_is_done(self):
        x = torch.ones(3, requires_grad=True)
        assert SINGLE_PROCESS.all_gather(x) is x
        assert SINGLE_PROCESS.local_slice(8) == slice(0, 8)
        assert SINGLE_PROCESS.all_reduce_max(3) == 3
        assert SINGLE_PROCESS.broadcast_object(lambda: [1]) == [1]
        SINGLE_PROCESS.assert_equal(lambda: pytest.fail("asked for facts"))

    @pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
    def test_without_others_it_is_alone(self, environment, monkeypatch):
        for name in ("WORLD_SIZE", "RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with joined() as group:
            assert group is SINGLE_PROCESS
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: must be a number"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK: must be a number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK: 2 is not one of 2 ranks"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"RANK": "1"}, "WORLD_SIZE is not set"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "SLURM_STEP_NODELIST is not set"),
        (
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a[1-2]", "SLURM_JOB_ID": "7"},
            "SLURM_PROCID is not set",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "99999"}, "MASTER_PORT: 99999 is no port"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment, said, monkeypatch):
    for name in (*TORCHRUN, *STEP):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said), joined():
        pass


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("one", "one"), ("a1,b2", "a1"), ("node[07-09,12],x", "node07"), ("gpu-[3,5]-ib", "gpu-3-ib"), ("n[1,4]", "n1")],
)
def test_a_task_of_srun_knows_its_place(nodes, first):
    environment = dict(zip(STEP, ("5", "8", "1", nodes, "41234"), strict=True))
    assert launched(environment) == (5, 8, 1, first, 21234)
    assert launched(environment | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    torchrun = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1234"}
    assert launched(environment | torchrun) == (1, 2, 1, "x", 1234)


LEAVES = """
import os, torch, torch.distributed as td
from pathlib import Path
import vergence.machine.processes
td.init_process_group("gloo", store=td.HashStore(), rank=0, world_size=1)
import vergence.engine.train, vergence.engine.evaluate  # as the command does, once the ranks have met
td.all_reduce(torch.ones(1))
names = lambda: {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
assert any("gloo" in name for name in names()), names()
td.destroy_process_group()
assert not any("gloo" in name for name in names()), names()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="a system without /proc")
def test_no_thread_of_the_group_is_left_when_python_ends():
    """One that lets go of a tensor then is killed by Python, and the process with it (SIGABRT)."""
    done = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}: .*in use.* choose another MASTER_PORT"), joined():
            pass
    assert os.environ["MASTER_PORT"] == str(port)
