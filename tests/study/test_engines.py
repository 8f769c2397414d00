"""A study done by runners of submitit and by a Ray cluster, disturbed, gives the files that one process gives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import soak
from repository import SUPPORT
from vergence.study import KEPT, PAGE

pytestmark = [pytest.mark.slow, pytest.mark.unshaped, pytest.mark.xdist_group("grid")]

TINY = SUPPORT / "tiny_experiment.py"


def start(out, *more, **variables):
    words = [sys.executable, "-m", "vergence", "reproduce", TINY, "--out", out, "--device", "cpu", *more]
    return subprocess.Popen(
        list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | variables
    )


def end(process):
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said


def files(out):
    """Everything but the page and what it can be made of again, which say how long it took."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name not in (PAGE, KEPT)}


def processes(out, option):
    """The processes of the command at this folder with this option, with their parents, the oldest first."""
    found = []
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if {str(out).encode(), option.encode()} <= set(words) and b"vergence" in words:
            found.append((int(entry.name), parent))
    return found


def until(holds, process):
    while not holds():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def training(out):
    """How many runs have begun and are not done."""
    return len(list(out.glob("runs/*/metrics.jsonl"))) - len(list(out.glob("runs/*/summary.json")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("engines") / "whole"
    end(start(out, "--jobs", "2"))
    return files(out)


def test_runners_of_submitit_one_killed_and_one_preempted(whole, tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vergence[slurm]'")
    file, out = tmp_path / "cluster.toml", tmp_path / "out"
    file.write_text('executor = "local"\nrunners = 2\nminutes = 15\ngrace = 60\n')
    process = start(out, "--on", "slurm", "--cluster", file)
    until(lambda: len(processes(out, "--runner")) == 2 and training(out), process)
    (killed, _), (_, submitit) = processes(out, "--runner")
    os.kill(killed, signal.SIGKILL)
    os.kill(submitit, signal.SIGUSR2)  # as SLURM does to make room
    end(process)
    assert files(out) == whole
    assert "Requeued job" in "".join(log.read_text() for log in (out / "cluster").glob("*_log.*"))
    assert not processes(out, "--runner")
    soak.count("grid kills", 2)
    again = start(out, "--on", "slurm", "--cluster", file)  # all is there: the page is made, and nothing submitted
    end(again)
    assert files(out) == whole


@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_that_loses_a_node(whole, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'vergence[ray]'")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    node, out = {"num_cpus": 1, "object_store_memory": 100 * 2**20}, tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        process = start(out, "--on", "ray", RAY_ADDRESS=cluster.address)
        until(lambda: len(processes(out, "--job")) == 2 and training(out), process)
        before = {child for child, _ in processes(out, "--job")}
        cluster.remove_node(second)
        until(lambda: before - {child for child, _ in processes(out, "--job")}, process)
        end(process)
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
    assert files(out) == whole
    assert not processes(out, "--job")
    soak.count("grid kills")
