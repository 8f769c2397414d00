"""Tuning on held-out pictures and the end on the test pictures: `benchmarks/recipe.py` and the table it fills."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark_scripts import fill, script
from commands import vergence
from data_files import webp, write_parquet
from vergence import config as c
from vergence import presets
from vergence.config.schema import to_dict
from vergence.data import load
from vergence.engine.periods import Periods
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.run_folder import read_json, read_run


@pytest.fixture(scope="module")
def recipe():
    return script("recipe")


@pytest.fixture(scope="module")
def tables():
    return script("tables")


# --- both commands ----------------------------------------------------------------------------------------------------


def written(path, count, seed):
    """Pictures of ten classes, each of one colour and some noise."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    colours = np.random.default_rng(0).integers(30, 226, (10, 3, 1, 1))
    pixels = (colours[labels] + chance.integers(-30, 30, (count, 3, 32, 32))).astype(np.uint8)
    write_parquet(path, [webp(picture) for picture in pixels], labels.tolist())


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of training pictures; what lies there as test pictures is none."""
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cifar10"
    folder.mkdir()
    written(folder / "train-00000-of-00001.parquet", 100, seed=1)
    (folder / "test-00000-of-00001.parquet").write_bytes(b"no pictures")
    with pytest.raises(InputError, match=r"test-00000-of-00001.parquet: expected columns"):
        load(c.CIFAR10(), "test", data_dir=folder)
    return folder


def changed(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}


@pytest.mark.slow
def test_a_recipe_is_tuned_on_held_out_pictures_and_scored_once_on_the_test_pictures(
    recipe, tables, data, tmp_path, capsys
):
    tuned, ended, out = tmp_path / "tuned", tmp_path / "ended", tmp_path / "results" / "recipe.json"
    place = ["--data-dir", str(data), "--device", "cpu", "--threads", "1"]
    words = ["--encoder", "test_resnet", "--stem", "imagenet", "--decay", "0.9", "--epochs", "1", "--batch-size", "16"]
    tune = ["tune", *place, "--folder", str(tuned), *words, "--subset", "48", "--lr", "0.05,0.1"]
    first = recipe.combinations(recipe.read(tune), "float32")[0]
    recipe.run_training(first, tuned / first.name, where=Where(data_dir=data), periods=Periods(online=("knn",)))
    *_, line = durable.read_lines(tuned / first.name / "metrics.jsonl")
    assert line["online"]["knn"]["protocol"].endswith("; 10 held-out training pictures")
    before = changed(tuned)
    assert recipe.main(tune) == 0
    table = json.loads((tuned / "tuned.json").read_bytes())
    assert sorted(row["name"] for row in table["rows"]) == [
        f"byol test_resnet lr {lr} decay 0.9 epochs 1 batch 16 views raft-code subset 48 float32" for lr in (0.05, 0.1)
    ]
    accuracies = [row["linear"] for row in table["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(
        row["protocol"].endswith("fitted on 48 training, scored on 10 held-out training pictures")
        for row in table["rows"]
    )
    assert before.items() < changed(tuned).items(), "what was finished is not trained again"
    chosen = tuned / table["rows"][0]["folder"]
    answer = vergence("evaluate", chosen, "--probes", "knn", "--device", "cpu", "--data-dir", data)
    assert "10 held-out training pictures" in answer.out

    (data / "test-00000-of-00001.parquet").unlink()
    written(data / "test-00000-of-00001.parquet", 40, seed=2)
    out.parent.mkdir()
    final = ["final", str(chosen / "run.json"), *place, "--epochs", "1,2", "--folder", str(ended), "--out", str(out)]
    assert recipe.main([*final, "--seeds", "1"]) == 0
    before = changed(ended)
    assert recipe.main([*final, "--seeds", "2"]) == 0
    record = json.loads(out.read_bytes())
    assert [(row["run"]["epochs"], [run["seed"] for run in row["runs"]]) for row in record["rows"]] == [
        (1, [0, 1]),
        (2, [0, 1]),
    ]
    assert before.items() < changed(ended).items(), "what was scored on the test pictures is not scored again"
    for run in (run for row in record["rows"] for run in row["runs"]):
        assert run["protocol"].endswith("fitted on 100 training, scored on 40 test pictures")
        parts = [run[f"{name}_s"] for name in ("loading", "training", "evaluation")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(run["whole_s"], abs=0.05)
    runs = [read_run(folder.parent / "run.json") for folder in changed(ended)]
    assert {(run.data.scored_on, run.subset, run.seed, run.epochs) for run in runs} == {
        ("test", None, seed, epochs) for seed in (0, 1) for epochs in (1, 2)
    }
    tuned_on = read_run(chosen / "run.json")
    assert {run.optimizer for run in runs} == {tuned_on.optimizer}
    assert {run.method for run in runs} == {tuned_on.method}
    page = fill(tables, "recipe", out.parent)
    assert "| CPU, 1 thread [a] | BYOL, test_resnet, 32 px, batch 16, float32 | 2, 2 |" in page
    assert "| GPU | not run |" in page
    assert "scored on 40 test pictures." in page
    assert "not reached by every seed" in capsys.readouterr().out or record["seconds_to"]["85"]


# --- its parts --------------------------------------------------------------------------------------------------------


def test_every_combination_is_one_run_on_held_out_pictures(recipe):
    words = ["tune", "--method", "byol,simclr", "--lr", "0.1,0.2", "--decay", "0.98,0.99,0.996", "--epochs", "20,40"]
    runs = recipe.combinations(recipe.read(words), "bfloat16")
    assert len(runs) == 2 * 3 * 2 + 2 * 2, "SimCLR has no decay"
    assert len({recipe.named(run) for run in runs}) == len(runs)
    assert {run.data for run in runs} == {c.CIFAR10(scored_on="held-out")}
    decays = sorted(run.method.target.decay for run in runs if run.method.kind == "byol")
    assert decays == sorted([0.98, 0.99, 0.996] * 4)
    assert {(run.encoder.stem, run.views.size, run.precision) for run in runs} == {("cifar", 32, "bfloat16")}


def test_only_what_was_tuned_on_held_out_pictures_is_scored_on_the_test_pictures(recipe, tmp_path, capsys):
    path = tmp_path / "run.json"
    durable.write_json(path, to_dict(presets.preset("default", "byol", c.CIFAR10())))
    assert recipe.main(["final", str(path), "--out", str(tmp_path / "out.json"), "--device", "cpu"]) == 2
    assert f"error: {path}: was not scored on held-out pictures" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_run_that_was_not_timed_to_its_end_is_not_taken_for_one_that_was(recipe, tmp_path):
    run = recipe.lengths(presets.preset("default", "byol", c.CIFAR10(scored_on="held-out")))[0]
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="begun before, and not timed to its end"):
        recipe.timed(run, tmp_path, None, None)
    assert read_json(tmp_path / "run.json") == {}


def test_lengths_keep_the_share_of_the_warm_up_and_take_all_pictures(recipe):
    chosen = recipe.recipe("byol", lr=0.1, decay=0.99, epochs=60, batch_size=256, views="simclr")
    tuned = replace(chosen, subset=1000, schedule_epochs=60)
    short, long = recipe.lengths(tuned, [20, 200])
    assert [run.schedule.warmup_epochs for run in (tuned, short, long)] == pytest.approx([3, 1, 10])
    assert [run.epochs for run in (short, long)] == [20, 200]
    assert {(run.schedule_epochs, run.subset) for run in (short, long)} == {(None, None)}
    assert short.data == c.CIFAR10()
    assert recipe.lengths(tuned)[0].epochs == 60


def scored(*runs):
    return {"runs": [{"linear": linear, "whole_s": seconds} for linear, seconds in runs]}


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        ([], None),
        ([scored((89.9, 10.0), (95.0, 10.0))], None),
        ([scored((90.0, 10.0), (91.0, 12.0))], 12.0),
        ([scored((91.0, 100.0)), scored((90.0, 30.0)), scored((60.0, 3.0))], 30.0),
    ],
    ids=["none", "one seed short", "slowest seed", "fastest row"],
)
def test_the_time_to_an_accuracy_is_that_of_the_slowest_seed_of_the_fastest_row_that_reaches_it(recipe, rows, seconds):
    assert recipe.seconds_to(90, rows) == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "--method", "moco"], "--method: unknown choice 'moco'; known: byol, simclr"),
        (["tune", "--views", "raft-cod"], "--views: unknown choice 'raft-cod'; did you mean 'raft-code'?"),
        (["tune", "--jobs", "0"], "--jobs: must be at least 1, not 0"),
        (["tune", "--epochs", "0,5"], "--epochs: must be at least 1, not 0"),
        (["final", "nowhere/run.json", "--out", "x.json"], "nowhere/run.json: cannot be read"),
        (["tune", "--lr", "-1"], "--lr: must be at least 0, not -1.0"),
        (["tune", "--precision", "bfloat"], "--precision: unknown choice 'bfloat'; did you mean 'bfloat16'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_line(recipe, words, said, capsys):
    assert recipe.main([*words, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
