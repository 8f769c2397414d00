"""The examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["losses_only.py", "train_in_python.py", "in_lightning.py", "experiment.py"])
def test_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # tests run several at a time: more threads wait for each other
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_all_examples_are_listed():
    """own_encoder_features.py needs a trained run and a folder: it is compiled only."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "losses_only.py",
        "train_in_python.py",
        "in_lightning.py",
        "own_encoder_features.py",
        "experiment.py",
    }
    for path in EXAMPLES.glob("*.py"):
        compile(path.read_text(), str(path), "exec")
