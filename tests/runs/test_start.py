"""What a run says before its first step, and the log of short runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from marks import slow
from small_runs import SHORT, pictures
from vergence import config as c
from vergence import methods, presets
from vergence.engine.reporter import Reporter
from vergence.engine.where import Where
from vergence.files import durable
from vergence.runs import run_training
from vergence.runs.start import cautions, describe

pytestmark = pytest.mark.wide

CPU = torch.device("cpu")
RUN = replace(SHORT, subset=None)


def block(run=RUN, images=None, unscored=None, **facts):
    images = images or pictures(10)
    images = replace(images, facts={**images.facts, **facts})
    return dict(describe(run, images, (images, pictures(5, seed=1)), methods.build(run), CPU, unscored))


def test_says_how_many_pictures_of_how_many_classes():
    said = block(images=replace(pictures(10, classes=3), classes=("cat", "dog", "owl")))
    assert said["pictures"] == "10 to train on (digits)"
    assert said["classes"] == "3, of 3 to 4 training pictures: cat, dog, owl"
    assert said["scored on"] == "5 test pictures; fitted on 10"


def test_says_why_nothing_is_scored():
    images = replace(pictures(10), labels=None)
    said = block(images=images, unscored="these pictures have no labels")
    assert said["classes"] == "none: these pictures have no labels"
    assert said["scored on"] == "not scored: these pictures have no labels"


def test_says_where_a_folder_lies_and_what_was_left_out_of_it():
    said = block(
        replace(RUN, data=c.Folder(root="./birds", size=16)),
        left_out={"truncated": 2},
        unread={".heic": 1200},
        unused={"validation/": 30},
        repeated=63,
        constant=0,
        cache="/somewhere/entry",
    )
    assert said["pictures"] == "10 to train on (folder ./birds)"
    assert said["left out"] == "2 truncated; 1,200 .heic not read; 30 in validation/ not used"
    assert said["alike"] == "63 repeat another"
    assert said["cache"] == "/somewhere/entry"


@pytest.mark.parametrize("label", ["left out", "alike", "cache", "queue"])
def test_says_nothing_of_what_is_not_there(label):
    assert label not in block()


def test_says_how_far_crops_are_enlarged():
    """A crop of a share s of a picture of 16 px has a side of 16 sqrt(s), and a view of it is 32 px."""
    view = c.View(crop_scale=(0.25, 1.0))
    run = replace(RUN, data=c.Digits(size=32), views=c.Views(size=32, first=view, second=view))
    small = pictures(10)
    small = replace(small, pixels=small.pixels[:, :, :16, :16])
    said = block(run, small, side={"smallest": 200, "median": 320, "largest": 400})["views"]
    assert said.startswith("two of 32 px, cut from pictures kept at 16 px, reduced from 320 px (median")
    assert said.endswith("the largest crop is enlarged 2 times, the smallest enlarged 4 times")
    assert block(run, small, side={"median": 8})["views"].startswith(
        "two of 32 px, cut from pictures kept at 16 px, enlarged from 8 px"
    )


def test_counts_parameters_and_steps():
    said = block(replace(RUN, epochs=3, batch_size=4))
    assert said["steps"] == "6: 3 epochs of 2 batches of 4, 2 pictures left over in each epoch"
    assert said["encoder"].startswith("test_resnet (stem imagenet, batch norm): ")
    assert said["encoder"].endswith("representation of 96; random weights")
    assert int(said["encoder"].split(": ")[1].split()[0].replace(",", "")) > 100_000


@pytest.mark.parametrize(("queue", "warned"), [(9, False), (10, True), (40, True)])
def test_a_queue_that_holds_a_pictures_own_keys_is_warned_of(queue, warned):
    run = replace(RUN, method=c.MoCo(queue=queue))
    assert block(run)["queue"] == f"{queue} keys: {queue / 10:.3g} times the pictures"
    said = cautions(run, pictures(10))
    assert len(said) == warned
    assert not said or "each picture's own past keys are among its negatives" in said[0]


def test_no_path_of_the_machine_stays_with_a_run(tmp_path):
    """A summary is shared and shown on pages; where pixels are cached concerns the terminal only."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(4):
            pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    told = []

    class Listener(Reporter):
        def found(self, block):
            told.extend(block)

    run = replace(RUN, data=c.Folder(root="pets", size=16), batch_size=4)
    where = Where(data_dir=tmp_path)
    summary = run_training(run, tmp_path / "run", where=where, reporter=Listener())
    assert "cache" in dict(told)
    assert summary["start"] == [pair for pair in told if pair[0] != "cache"]
    assert str(tmp_path) not in (tmp_path / "run" / "summary.json").read_text()


def test_the_block_is_told_and_stays_in_the_summary(tmp_path, capsys):
    from vergence.command.cli import main

    words = ["train", "moco", "--encoder", "test_resnet", "--subset", "40", "--batch-size", "4", "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run"), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [label for label, _ in summary["start"]][:3] == ["pictures", "classes", "scored on"]
    for label, text in summary["start"]:
        assert f"  {label:9} {text}\n" in out
    assert out.count("warning: the queue's 1,024 keys are 25.6 times the 40 pictures") == 1


@pytest.mark.parametrize(("epochs", "steps"), [(1, list(range(1, 11))), slow(2, [1, *range(2, 21, 2)])])
def test_a_short_run_has_lines_enough_to_be_judged(tmp_path, epochs, steps):
    """Ten steps are ten lines: more than the verdict asks for."""
    run = replace(presets.default(c.BYOL(), c.Digits()), subset=40, batch_size=4, epochs=epochs)
    summary = run_training(run, tmp_path)
    assert [line["step"] for line in durable.read_lines(tmp_path / "metrics.jsonl")] == steps
    assert summary["verdict"]["numbers"]["lines"] == len(steps)
    assert summary["representation"]["numbers"]["lines"] == 1


def test_warns_where_parts_of_a_batch_are_another_objective():
    run = replace(RUN, method=c.SimCLR(), accumulate=2)
    (line,) = cautions(run, pictures(20))
    assert line == (
        "with --accumulate 2 the loss of simclr compares pictures within parts of 4, not within the batch: another "
        "objective; leave it at 1 where memory allows"
    )
    assert not cautions(replace(run, accumulate=1), pictures(20))
    assert not cautions(replace(run, method=c.BYOL()), pictures(20))
    assert block(replace(RUN, accumulate=2))["steps"].startswith("1: 1 epoch of 1 batch of 8, each in 2 parts")
