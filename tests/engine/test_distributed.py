"""Several processes do what one does: losses, embeddings, gradients, state."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rank_contract import RUNS, STEPS, steps
from vergence.errors import InputError, MachineError
from vergence.machine.processes import SINGLE_PROCESS, joined
from vergence.machine.watch import Watch

pytestmark = pytest.mark.xdist_group("ranks")
SIZE = 2


@pytest.fixture(scope="module")
def seen(tmp_path_factory, ranks):
    """What two ranks computed of every run, by its name and the rank; and with batch norms of their own."""
    folder = tmp_path_factory.mktemp("contract")
    answers = ranks(folder, target="rank_contract.main", size=SIZE, timeout=200)
    assert [(a["code"], a["error"]) for a in answers] == [(0, "")] * SIZE
    files = {name: number for number, name in enumerate(RUNS)} | {"apart": "apart"}
    return {
        (name, rank): load_file(folder / f"{file}-{rank}.safetensors")
        for name, file in files.items()
        for rank in range(SIZE)
    }


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


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_compute_what_one_process_does(name, seen):
    alone = steps(RUNS[name], SINGLE_PROCESS)
    where, distance = far(alone, seen[name, 0])
    assert distance < ROUNDING, where


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_ranks_agree_to_the_bit(name, seen):
    one, other = (seen[name, rank] for rank in range(SIZE))
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


@pytest.mark.slow
def test_batch_norms_of_a_part_would_be_noticed(seen):
    """The comparison above can fail: statistics over each rank's own pictures give other numbers by far."""
    where, distance = far(steps(RUNS["byol"], SINGLE_PROCESS), seen["apart", 0])
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
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "99999"}, "MASTER_PORT: 99999 is no port"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment, said, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said), joined():
        pass


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


class SlowStore:
    """A store whose answers take a while."""

    def __init__(self):
        self.asked, self.inside = threading.Event(), 0

    def add(self, key, value):
        self.inside += 1
        self.asked.set()
        time.sleep(0.2)
        self.inside -= 1
        return 0

    def check(self, keys):
        return False


@pytest.mark.parametrize("leave", [Watch.stop, Watch.shutdown])
def test_who_leaves_waits_for_its_last_question_to_the_store(leave):
    """Python kills the process (SIGABRT) where it ends before a thread has come back from torch."""
    store = SlowStore()
    watch = Watch(store, rank=1, size=2, launched=True)
    watch.start()
    assert store.asked.wait(10)
    leave(watch)
    assert store.inside == 0
    assert not watch.is_alive()
    assert not watch.beating.is_alive()


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}: .*in use.* choose another MASTER_PORT"), joined():
            pass
    assert os.environ["MASTER_PORT"] == str(port)
