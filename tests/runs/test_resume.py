"""Kill a run wherever it is, start it again, and compare every bit with a run that was never touched."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

import soak
from checker import check, tree
from small_runs import VARIANTS, run_of
from vergence import config as c
from vergence.config.schema import to_dict
from vergence.files import durable

pytestmark = [pytest.mark.unshaped, pytest.mark.slow]


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


OPTIMIZERS = {
    "adam": c.Adam(),
    "adamw": c.AdamW(),
    "lars": c.LARS(lr=1.0),
    "everything": c.AdamW(weight_decay_end=0.4, decay="matrices", clip=0.5, layer_decay=0.8, frozen_epochs=0.5),
}
CASES = {
    **{name: run_of(method, subset=28) for name, method in VARIANTS.items()},
    **{f"byol, {name}": run_of(VARIANTS["byol"], subset=28, optimizer=o) for name, o in OPTIMIZERS.items()},
    "moco, in parts": run_of(VARIANTS["moco"], subset=28, accumulate=2),
    "byol, drop path": run_of(VARIANTS["byol"], subset=28, encoder=c.Encoder(name="test_vit", drop_path=0.3)),
}
OFTEN = (
    *("moco", "supervised", "RAFT-NP", "BYOL-LPI", "byol, frozen", "byol, independent, running, before"),
    *(
        "moco, in parts",
        "byol, drop path",
        "byol, batch renorm, standardized",
        *(f"byol, {name}" for name in OPTIMIZERS),
    ),
)
"""Each kind of state that a checkpoint holds; the others differ from one of these in what is computed from it."""


@pytest.mark.parametrize("name", soak.times([*OFTEN], [*CASES]))
def test_killed_at_random_it_ends_with_the_same_bits(name, tmp_path, vergence):
    config = write_config(tmp_path, CASES[name])
    whole = tmp_path / "whole"
    reference = vergence(*command(config, whole))
    check(whole, answer=reference)
    chance = random.Random(name)
    wanted, killed = soak.times(1, math.ceil(500 / len(CASES))), 0
    while killed < wanted:
        folder = tmp_path / f"killed-{killed}"
        outside = tree(whole)
        for start in range(4):  # three kills, if it does not end before; then let it end
            limit = chance.uniform(0.1, 1.0) * reference["seconds"] if start < 3 else None
            answer = vergence(*command(config, folder), kill_after=limit)
            if answer["code"] == 0:
                break
            check(folder, answer=answer, code=-signal.SIGKILL, every=3)
            killed += 1
        check(folder, whole, answer, every=3)
        assert tree(whole) == outside
        shutil.rmtree(folder)
    soak.count("kills", killed)


@pytest.fixture(scope="module")
def longer(tmp_path_factory, vergence):
    """A configuration whose run has three checkpoints, of which one is removed, and that run, whole."""
    folder = tmp_path_factory.mktemp("longer")
    config = write_config(folder, run_of(VARIANTS["moco"], subset=28, epochs=3))
    check(folder / "whole", answer=vergence(*command(config, folder / "whole")))
    return config, folder / "whole"


@pytest.mark.parametrize("point", durable.FAILPOINTS)
def test_killed_between_any_two_steps_of_a_write(point, tmp_path, longer, vergence):
    """At each named moment of our one module that writes, at its first, third and later passages."""
    config, whole = longer
    for passage in (1, 3, 8):
        folder = tmp_path / f"killed-{passage}"
        answer = vergence(*command(config, folder), environment={"VERGENCE_FAILPOINT": f"{point}:{passage}"})
        if answer["code"] == 0:
            assert passage > 1, f"{point} was never reached"
            continue
        check(folder, answer=answer, code=-signal.SIGKILL, every=3)
        soak.count("kills")
        check(folder, whole, vergence(*command(config, folder)))


def test_two_processes_on_one_folder(tmp_path):
    with durable.locked(tmp_path):
        script = (
            "from pathlib import Path; from vergence.files import durable\n"
            f"with durable.locked(Path({str(tmp_path)!r})): pass"
        )
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert f"process {os.getpid()}" in other.stderr
