"""Runs on pictures of different shapes: the same bits however they are interrupted, held or decoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from small_runs import SHORT
from vergence import config as c
from vergence import register
from vergence.data import whole
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.errors import InputError
from vergence.runs import run_training


class Interrupted(Exception):
    """What ends a run in a test."""


class After(Reporter):
    """Ends a run after some steps."""

    def __init__(self, steps: int):
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            raise Interrupted


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> c.Run:
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for i in range(30):
        folder = tmp_path / "pictures" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shape = (20 + i % 7, 30 - i % 5, 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(folder / f"{i:02}.png")
    data = c.Folder(root=str(tmp_path / "pictures"), size=16)
    return replace(SHORT, data=data, epochs=3, subset=None)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").iterdir())
    return {f"{path.stem}.{k}": v for path in newest.glob("*.safetensors") for k, v in load_file(path).items()}


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


VIEWS = {
    "two views": SHORT.views,
    "local crops": replace(SHORT.views, local=c.Local(count=3)),
    "a transform": replace(SHORT.views, second=c.View(transform="swapped")),
}


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_a_run_that_was_interrupted_ends_with_the_same_bits(
    views: c.Views, run: c.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(register.TRANSFORMS, "swapped", lambda crop: crop[torch.randperm(3)])
    run = replace(run, views=views)
    run_training(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_training(run, tmp_path / "parts", periods=Periods(save_every=2), reporter=After(5))
    run_training(run, tmp_path / "parts", periods=Periods(save_every=2), resume=True)
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_memory_changes_no_bit_of_a_run(run: c.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(run, tmp_path / "held")
    monkeypatch.setattr(whole, "HELD", 0.0)
    run_training(run, tmp_path / "decoded")
    assert same(tmp_path / "held", tmp_path / "decoded")


def test_colours_before_the_crop_are_refused_before_the_first_step(run: c.Run, tmp_path: Path) -> None:
    folded = replace(run, views=replace(run.views, order="folded"))
    with pytest.raises(InputError, match="folded is for pictures of one shape"):
        run_training(folded, tmp_path / "run")


def test_pictures_that_changed_are_named(run: c.Run, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_training(run, tmp_path / "run", periods=Periods(save_every=2), reporter=After(5))
    Image.linear_gradient("L").resize((25, 25)).save(tmp_path / "pictures" / "a" / "00.png")
    with pytest.raises(InputError, match=r"on other pictures: 1 changed \(a/00.png\)"):
        run_training(run, tmp_path / "run", resume=True)
