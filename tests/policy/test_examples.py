"""The examples run as they stand."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image

from commands import train
from repository import ROOT
from vergence.data import Images
from vergence.engine.evaluate import features
from vergence.files.results import read_result
from vergence.runs import load

EXAMPLES = ROOT / "examples"
WATCHED = {
    "watch_loop.py": {"with-negatives": "healthy", "without-negatives": "complete collapse"},
    "watch_lightly.py": {"lightly-byol": "healthy"},
    "watch_lightning.py": {"lightning-simclr": "healthy"},
}
"""The verdicts at the end of loops that are watched, by their folders."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*("losses_only.py", "train_in_python.py", "in_lightning.py", "experiment.py"), *WATCHED]
)
def test_runs(name, tmp_path):
    study = ["-m", "vergence", "reproduce"] if name == "experiment.py" else []
    done = subprocess.run(
        [sys.executable, *study, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # tests run several at a time: more threads wait for each other
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if study:
        page = tmp_path / "runs" / "experiment-smoke"
        assert {"index.html", "results.md", "targets.csv", "cosine.svg"} <= {path.name for path in page.iterdir()}
        assert "Without a moving average" in (page / "results.md").read_text()
    for folder, state in WATCHED.get(name, {}).items():
        assert read_result(tmp_path / "runs" / folder).verdict == state


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, True])
def test_features_have_the_names_of_their_pictures(labelled, tmp_path, monkeypatch):
    """A bad picture has no row, and pictures that are held out come last: only names can tell the rows."""
    chance = np.random.default_rng(0)
    names = [f"{'ab'[i % 2]}/{i:02}.png" if labelled else f"{i:02}.png" for i in range(20)]
    for name in names:
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / names[0]).write_bytes(b"cut off")
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    assert train(tmp_path / "run", epochs=0).code == 0
    words = [sys.executable, EXAMPLES / "own_encoder_features.py", tmp_path / "run", tmp_path / "pictures"]
    words += [tmp_path / "out.safetensors", "--device", "cpu"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 pictures that cannot be used were left out" in done.stderr
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as file:
        y, rows, metadata = file.get_tensor("y"), json.loads(file.metadata()["names"]), file.metadata()
        labels = file.get_tensor("labels").tolist() if labelled else None
    assert sorted(rows) == sorted(names[1:])
    assert (rows == sorted(names[1:])) != labelled
    if labels is not None:
        assert [json.loads(metadata["classes"])[label] for label in labels] == [name[0] for name in rows]
    run, method, _ = load(tmp_path / "run")
    row = rows.index(names[7])
    alone = np.asarray(Image.open(tmp_path / "pictures" / names[7])).transpose(2, 0, 1)
    images = Images(torch.from_numpy(alone.copy())[None], None, (), 16)
    assert torch.allclose(features(method.encoder, images, run.views, device=torch.device("cpu"))[0], y[row], atol=1e-5)


def test_all_examples_are_listed():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "losses_only.py",
        "train_in_python.py",
        "in_lightning.py",
        "own_encoder_features.py",
        "experiment.py",
        "plugin.py",
        *WATCHED,
    }
    for path in EXAMPLES.glob("*.py"):
        compile(path.read_text(), str(path), "exec")
