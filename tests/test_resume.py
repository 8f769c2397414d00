"""Kill a run wherever it is, start it again, and compare every bit with a run that was never touched."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs_for_tests import VARIANTS, run_of
from vergence import config as c
from vergence import durable
from vergence.runs import TIMES
from vergence.schema import to_dict

KILLS = {"random": 0, "failpoint": 0}


class Server:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, *arguments, environment=None, kill_after=None, number=int(signal.SIGKILL)):
        call = {
            "arguments": [str(a) for a in arguments],
            "environment": environment or {},
            "kill_after": kill_after,
            "signal": number,
        }
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def vergence():
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.wait(timeout=30)
    server.process.stdout.close()


def write_config(tmp_path, run):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(run)))
    return path


def command(config, folder):
    return [
        "train",
        "--config",
        config,
        "--out",
        folder,
        "--resume",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--log-every",
        2,
        "--save-every",
        3,
    ]


def digest(folder):
    """Of every bit of the newest checkpoint's tensors, and of the log without what the clock decides."""
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    files = durable.read_folder(checkpoints[-1])
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in durable.read_lines(folder / "metrics.jsonl")]
    parts = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name.endswith("safetensors")}
    return {**parts, "log": lines, "scores": json.loads((folder / "summary.json").read_text())["linear"]}


OPTIMIZERS = {"adam": c.Adam(), "adamw": c.AdamW(), "lars": c.LARS(lr=1.0)}
CASES = {
    **{name: run_of(method, subset=28) for name, method in VARIANTS.items()},
    **{f"byol, {name}": run_of(VARIANTS["byol"], subset=28, optimizer=o) for name, o in OPTIMIZERS.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_random_it_ends_with_the_same_bits(name, tmp_path, vergence):
    config = write_config(tmp_path, CASES[name])
    reference = vergence(*command(config, tmp_path / "whole"))
    assert reference["code"] == 0, reference["error"]
    chance = random.Random(name)
    for attempt in range(40):
        limit = chance.uniform(0.1, 1.0) * reference["seconds"]
        if attempt >= 3:  # three kills each; then let it end
            limit = None
        answer = vergence(*command(config, tmp_path / "killed"), kill_after=limit)
        if answer["code"] == 0:
            break
        assert answer["code"] == -signal.SIGKILL, answer["error"]
        KILLS["random"] += 1
    assert answer["code"] == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("**/.writing-*"))


@pytest.mark.parametrize("point", durable.FAILPOINTS)
def test_killed_between_any_two_steps_of_a_write(point, tmp_path, vergence):
    """At each named moment of our one module that writes, at its first, third and later passages."""
    config = write_config(tmp_path, run_of(VARIANTS["moco"], subset=28, epochs=3))  # three checkpoints: one is removed
    assert vergence(*command(config, tmp_path / "whole"))["code"] == 0
    for passage in (1, 3, 8):
        folder = tmp_path / f"killed-{passage}"
        answer = vergence(*command(config, folder), environment={"VERGENCE_FAILPOINT": f"{point}:{passage}"})
        if answer["code"] == 0:
            assert passage > 1, f"{point} was never reached"
            continue
        assert answer["code"] == -signal.SIGKILL
        KILLS["failpoint"] += 1
        for checkpoint in (folder / "checkpoints").glob("step-*"):
            durable.read_folder(checkpoint)  # whole, or not there: never a part
        answer = vergence(*command(config, folder))
        assert answer["code"] == 0, answer["error"]
        assert digest(folder) == digest(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(number, code, tmp_path, vergence):
    config = write_config(tmp_path, run_of(VARIANTS["byol"], subset=28, epochs=400))
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), kill_after=4.0, number=int(number))
    assert answer["code"] == code, answer["error"]
    assert "Traceback" not in answer["error"]
    assert "--resume" in answer["error"]
    assert len(answer["error"].splitlines()) == 1
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    durable.read_folder(newest)
    assert int(newest.name.split("-")[1]) >= durable.read_lines(folder / "metrics.jsonl")[-1]["step"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path, vergence):
    config = write_config(tmp_path, run_of(VARIANTS["byol"], subset=28, epochs=3))
    assert vergence(*command(config, tmp_path / "whole"))["code"] == 0
    folder = tmp_path / "run"
    answer = vergence(*command(config, folder), environment={"VERGENCE_FAILPOINT": "append.before:6"})
    assert answer["code"] == -signal.SIGKILL
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    tensors = newest / "method.safetensors"
    data = bytearray(tensors.read_bytes())
    data[len(data) // 2] ^= 1
    tensors.write_bytes(data)
    answer = vergence(*command(config, folder))
    assert answer["code"] == 0, answer["error"]
    assert digest(folder) == digest(tmp_path / "whole")


def test_two_processes_on_one_folder(tmp_path):
    with durable.locked(tmp_path):
        script = (
            "from pathlib import Path; from vergence import durable\n"
            f"with durable.locked(Path({str(tmp_path)!r})): pass"
        )
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert f"process {os.getpid()}" in other.stderr


def test_zz_the_tally():
    """Enough kills happened: a kill test in which nothing dies proves nothing."""
    print(f"\n{KILLS['random']} random kills, {KILLS['failpoint']} kills at failpoints, all ended with the same bits")
    assert KILLS["random"] >= 20
    assert KILLS["failpoint"] >= 20
