"""Encoders on few labels: which pictures are labelled, what is fitted on them, what is said of it, and what stays."""

import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from commands import SMALL, vergence, words_of
from vergence import config as c
from vergence.config.labels import Amount, amount
from vergence.data import Images, load
from vergence.data.splits import few
from vergence.engine.evaluate import features
from vergence.few_labels import fits
from vergence.few_labels.finetune import Classifier, finetune
from vergence.few_labels.fits import Fit, FitJob, Named, Pictures
from vergence.few_labels.results import Outcome, accuracy_of, gain, mean_of, outcomes, t_95
from vergence.metrics.probe import interval
from vergence.metrics.softmax_regression import PENALTIES, SoftmaxRegression, choose_penalty
from vergence.networks.weights import weights_digest
from vergence.runs import open_model, subset
from vergence.study.work import RESULT

LABELS = ("--labels", "1,2", "--seeds", "2", "--threads", "1", "--jobs", "1", "--device", "cpu")
STEPS = ("--steps", "3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run that started from another run's weights, and what `vergence finetune` found of it."""
    root = tmp_path_factory.mktemp("few")
    small = words_of(SMALL | {"epochs": 1, "subset": 200}, without=("log-every",))
    assert vergence("train", "byol", "--out", root / "first", *small).code == 0
    weights = ("--encoder.weights", root / "first")
    settled = words_of(SMALL | {"epochs": 1, "subset": 200}, without=("log-every", "encoder"))
    answer = vergence("train", "simclr", "--out", root / "second", *weights, *_no_predictor(settled))
    assert answer.code == 0, answer
    answer = vergence("finetune", root / "second", *LABELS, "--out", root / "few", *STEPS)
    assert answer.code == 0, answer
    return root, answer


def _no_predictor(words):
    at = words.index("--predictor.hidden")
    return words[:at] + words[at + 2 :]


def found_in(folder):
    return {(one.row, one.protocol, one.labels, one.seed): one for one in outcomes(folder / "fits")}


# --- which pictures are labelled --------------------------------------------------------------------------------------


def test_an_amount_is_a_share_or_a_number():
    assert amount("10%") == Amount(share=0.1)
    assert amount("10") == Amount(each=10)
    assert (str(amount("0.5%")), amount("12.50%").words, amount("3").words) == ("0.5%", "12.5%", "3 a class")
    assert [amount("10%").count(there) for there in (9, 10, 14, 16)] == [0, 1, 1, 2]
    for text in ("0", "0%", "101%", "1.5", "-1", "ten", "", "1e2"):
        with pytest.raises(ValueError, match="must be a share"):
            amount(text)


def test_the_labelled_few_are_nested_and_a_function_of_seed_and_pictures():
    labels = [i % 3 for i in range(90)]
    keys = [hashlib.sha256(bytes([i])).digest() for i in range(90)]
    chosen = [set(few(keys, labels, amount(text).count, 1)) for text in ("1", "10%", "5", "50%", "100%")]
    assert [len(some) for some in chosen] == [3, 9, 15, 45, 90]
    assert all(smaller < larger for smaller, larger in pairwise(chosen))
    assert chosen[2] != set(few(keys, labels, amount("5").count, 2))
    for some in chosen[:-1]:
        assert len({labels.count(label) for label in some}) >= 1
        assert {sum(labels[i] == label for i in some) for label in range(3)} == {len(some) // 3}

    order = torch.randperm(90, generator=torch.Generator().manual_seed(3)).tolist()
    mixed = few([keys[i] for i in order], [labels[i] for i in order], amount("5").count, 1)
    assert [order[i] for i in mixed] == few(keys, labels, amount("5").count, 1)


# --- what is fitted ---------------------------------------------------------------------------------------------------


def test_the_probe_is_the_softmax_regression_on_features_of_the_labelled_few(folders):
    root, _ = folders
    model = open_model(root / "second")
    train, test = subset(load(model.run.data, "train"), 200), load(model.run.data, "test")
    chosen = few(train.keys, train.labels.tolist(), lambda there: 2, 1)
    y, labels = features(model.encoder, train, model.views, device="cpu")[chosen], train.labels[chosen]
    regression = SoftmaxRegression(y, labels, 10)
    keys = [train.keys[i] for i in chosen]
    order = [
        i
        for c in range(10)
        for i in sorted(range(20), key=lambda i: hashlib.sha256(keys[i]).digest())
        if labels[i] == c
    ]
    fold = torch.empty(20, dtype=torch.long)
    fold[order] = torch.arange(20) % 5
    penalties = [share * regression.curvature for share in PENALTIES]
    penalty = choose_penalty(y, labels, 10, penalties, [(fold != i, fold == i) for i in range(5)])
    answers = regression.fit(penalty).logits(features(model.encoder, test, model.views, device="cpu")).argmax(1)
    right = int((answers == test.labels).sum())
    score = found_in(root / "few")[f"{model.name}", "linear probe", "2", 1].score
    assert score["accuracy"] == round(100 * right / len(test), 2)
    assert score["interval"] == [round(end, 2) for end in interval(right, len(test))]
    assert "fitted on 20 training, scored on 359 test pictures" in score["protocol"]


def pictures_of(colour, seed=0, count=40):
    """Pictures of two classes that differ in how much of one colour they have; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pixels = torch.randint(90, 160, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    pixels[:, colour] += (labels * 60).to(torch.uint8)[:, None, None]
    return Images(pixels=pixels, labels=labels, classes=("less", "more"), size=16)


class Blind(nn.Module):
    """An encoder that has learned to leave red out."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 1)
        nn.init.constant_(self.mix.bias, 0.1)
        self.mix.weight.data[:] = torch.linspace(-1, 1, 24).view(8, 3, 1, 1)
        self.mix.weight.data[:, 0] = 0

    def forward(self, x):
        return self.mix(x).relu().mean((2, 3))


PLAIN = c.View(jitter=0.0, gray=0.0, blur=0.0)
VIEWS = c.Views(size=16, first=PLAIN, second=PLAIN)


def accuracy(encoder, pictures):
    logits = features(encoder, pictures, VIEWS, device="cpu")
    return (logits.argmax(1) == pictures.labels).double().mean().item()


def tuned(count=40, **options):
    start = Classifier(Blind(), 8, 2)
    return finetune(start, pictures_of(0, 0, count), VIEWS, seed=0, device=torch.device("cpu"), **options)


def test_fine_tuning_learns_what_frozen_features_lack():
    train, test = pictures_of(0, 0), pictures_of(0, 1, 200)
    y = features(Blind(), train, VIEWS, device="cpu")
    frozen = SoftmaxRegression(y, train.labels, 2).fit(1e-3)
    found = frozen.logits(features(Blind(), test, VIEWS, device="cpu")).argmax(1)
    assert (found == test.labels).double().mean() < 0.65
    classifier, how = tuned(steps=300)
    assert accuracy(classifier, test) > 0.95
    assert "chosen on 8 held-out labelled pictures, 300 steps" in how


def test_fine_tuning_is_a_function_of_its_seed_and_leaves_torch_and_its_start_alone():
    start = Classifier(Blind(), 8, 2)
    before = torch.get_rng_state()
    kept = {name: value.clone() for name, value in start.state_dict().items()}
    states = [
        finetune(start, pictures_of(0), VIEWS, seed=seed, device=torch.device("cpu"), steps=5)[0].state_dict()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, kept[name]) for name, value in start.state_dict().items())
    assert all(torch.equal(states[0][name], states[1][name]) for name in kept)
    assert not all(torch.equal(states[0][name], states[2][name]) for name in kept)


def test_without_pictures_to_hold_out_the_middle_rate_is_taken():
    _, how = tuned(count=4)
    assert how == "all weights, AdamW 0.001 the middle one, for none of so few can be held out, 100 steps"


@pytest.fixture
def job(folders):
    """The fine-tuning of the run's encoder on six pictures of each class, in this process."""
    root, _ = folders
    model = open_model(root / "second")
    crops = replace(PLAIN, flip=0.0)
    task = Fit(
        encoder=weights_digest(model.encoder, model.views.size),
        weights="trained",
        pictures="any",
        views=replace(model.views, first=crops, second=crops),
        labels="6",
        seed=0,
        protocol="fine-tuned",
        steps=3,
    )
    pictures = Pictures(data=model.run.data, subset=200)
    named = Named(what=str(root / "second"))
    return FitJob(name="x", task=task, row="x", beside=(), model=named, pictures=pictures, keep=True)


class Watched(fits.Reporter):
    def __init__(self, told):
        self.told = told

    def step(self):
        self.told.append("step")


def test_test_pictures_are_looked_at_once_and_after_the_last_step(job, monkeypatch, tmp_path):
    told = []
    real, scored = fits.load, fits.features
    monkeypatch.setattr(fits, "load", lambda data, split, **more: told.append(split) or real(data, split, **more))
    monkeypatch.setattr(fits, "features", lambda *a, **more: told.append("scored") or scored(*a, **more))
    job.solve(tmp_path, torch.device("cpu"), Watched(told))
    assert told == ["train", *["step"] * 12, "test", "scored"]


def test_other_test_pictures_leave_a_classifier_as_it_is(job, monkeypatch, tmp_path):
    real, states, accuracies = fits.load, [], []

    def other(data, split, **more):
        images = real(data, split, **more)
        return images if split == "train" else replace(images, labels=(images.labels + 1) % 10)

    for name, read in (("own", real), ("other", other)):
        monkeypatch.setattr(fits, "load", read)
        (tmp_path / name).mkdir()
        found = job.solve(tmp_path / name, torch.device("cpu"), fits.Reporter())
        accuracies.append(found["score"]["accuracy"])
        states.append((tmp_path / name / "model.safetensors").read_bytes())
    assert states[0] == states[1]
    assert accuracies[0] != accuracies[1]


# --- rows, gains and the page -----------------------------------------------------------------------------------------


def test_each_encoder_is_scored_with_each_amount_protocol_and_seed(folders):
    root, answer = folders
    found = found_in(root / "few")
    rows = {row for row, *_ in found}
    assert rows == {
        "second (step 25)",
        "starting weights (first)",
        "random weights (test_resnet, 16 px)",
    }
    assert len(found) == 3 * 2 * 2 * 2
    by_row = {row: {one.encoder for one in found.values() if one.row == row} for row in rows}
    assert sorted(map(len, by_row.values())) == [1, 1, 2]  # random weights are others for each seed
    first = open_model(root / "first").encoder
    assert by_row["starting weights (first)"] == {weights_digest(first, 16)}
    assert "second (step 25), fine-tuned, against random weights" in answer.out
    assert "(supervised training from scratch)" in answer.out
    assert answer.err == ""
    page = (root / "few" / "index.html").read_text()
    assert "Few labels on digits" in page
    assert "they choose nothing" in page
    with open(root / "few" / "results.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24
    assert {line["seed"] for line in lines} == {"0", "1"}
    assert {line["pictures"] for line in lines} == {"10", "20"}
    assert (root / "few" / "labels.svg").exists()
    assert "supervised from scratch" in (root / "few" / "results.md").read_text()


def test_the_same_command_does_nothing_again_and_another_model_adds_rows(folders, tmp_path):
    root, _ = folders
    few = shutil.copytree(root / "few", tmp_path / "few")
    before = {path: path.stat().st_mtime_ns for path in (few / "fits").glob(f"*/{RESULT}")}
    answer = vergence("probe", root / "first", *LABELS, "--out", few)
    assert answer.code == 0, answer
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    now = set((few / "fits").glob(f"*/{RESULT}"))
    # Random weights are there: of each amount and seed its own are new.
    assert len(now) - len(before) == 4
    assert "first (step 25), linear probe, against random weights (test_resnet, 16 px): " in answer.out


def test_killed_and_started_again_it_goes_on_to_the_same_numbers(folders, tmp_path):
    root, _ = folders
    small = ("--labels", "1", "--seeds", "1", *LABELS[4:], *STEPS)
    words = ["finetune", str(root / "second"), *small, "--out", str(tmp_path / "few")]
    process = subprocess.Popen([sys.executable, "-m", "vergence", *words], stdout=subprocess.DEVNULL)
    results = tmp_path / "few" / "fits"
    until = time.monotonic() + 240
    while not list(results.glob(f"*/{RESULT}")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in results.glob(f"*/{RESULT}")}
    assert 0 < len(before) < 6
    assert vergence(*words).code == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    ours, theirs = found_in(tmp_path / "few"), found_in(root / "few")
    assert all(ours[which].score == theirs[which].score for which in ours)
    assert len(ours) == 6


def outcome(accuracy, seed=0, whole=False, n=200):
    ends = list(interval(round(accuracy * n / 100), n))
    score = {"accuracy": accuracy, "interval": ends}
    return Outcome(
        row="x", beside=(), digest="", key="", encoder="", protocol="linear probe", labels="1", count=10, seed=seed,
        whole=whole, crops={},
        steps=None, score=score, folder=None,
    )  # fmt: skip


def test_gains_are_of_equal_seeds_by_students_t():
    own, other = [outcome(a, s) for s, a in enumerate((60.0, 64.0, 68.0))], [outcome(50.0, s) for s in range(3)]
    found = gain(own, other)
    half = 4.303 * 4 / 3**0.5
    assert (found.points, found.word) == (14.0, "helps")
    assert found.interval == pytest.approx((14 - half, 14 + half))
    assert gain(other, own).word == "hurts"
    assert gain(own[:2], other[:2]).word == "not decided"  # 10 and 14, with one degree of freedom
    assert gain([], other) is None
    assert gain(own, [outcome(50.0, 0, whole=True)]).interval == found.interval
    assert gain(own, [outcome(50.0, 0)]).own == 60.0  # the seed in common


def test_a_lone_seed_has_newcombes_interval():
    found = gain([outcome(70.0)], [outcome(50.0)])
    (low, high), (low2, high2) = interval(140, 200), interval(100, 200)
    down, up = ((70 - low) ** 2 + (high2 - 50) ** 2) ** 0.5, ((high - 70) ** 2 + (50 - low2) ** 2) ** 0.5
    assert found.interval == pytest.approx((20 - down, 20 + up))
    assert accuracy_of([outcome(70.0)]).interval == (low, high)


def test_seeds_that_agree_say_no_more_than_a_lone_one():
    own, other = ([outcome(accuracy, seed) for seed in (0, 1)] for accuracy in (70.0, 68.0))
    assert gain(own, other).interval == pytest.approx(gain(own[:1], other[:1]).interval)
    assert gain(own, other).word == "not decided"
    assert accuracy_of(own).interval == accuracy_of(own[:1]).interval


def test_students_quantiles():
    assert [round(t_95(df), 2) for df in (1, 2, 10, 11, 20, 1000)] == [12.71, 4.3, 2.23, 2.2, 2.09, 1.96]
    assert mean_of([1.0]) == (1.0, None)


# --- the classifier that stays ----------------------------------------------------------------------------------------


def test_timm_loads_the_classifier_that_stays(folders):
    root, answer = folders
    kept = sorted((root / "few" / "fits").glob("*/model.safetensors"))
    assert len(kept) == 2, "one for each amount, of the trained encoder and the first seed"
    folder = answer.out.split("classifier: ")[1].split(" ")[0]
    about = json.loads((root / "few" / "fits" / folder.rsplit("/", 1)[1] / "config.json").read_text())
    assert about["label_names"] == [str(digit) for digit in range(10)]
    model = timm.create_model(about["architecture"], num_classes=10)
    model.load_state_dict(safetensors.torch.load_file(f"{folder}/model.safetensors"))
    run = open_model(root / "second").run
    test = load(run.data, "test")
    logits = features(model, test, run.views, device="cpu")
    score = json.loads((root / "few" / "fits" / folder.rsplit("/", 1)[1] / RESULT).read_text())["score"]
    assert score["accuracy"] == round(100 * (logits.argmax(1) == test.labels).double().mean().item(), 2)
    again = open_model(folder)
    assert again.views.size == 16
    assert again.architecture.name == "test_resnet"


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "--labels 1000": "has only",
    "--labels 1%": "the least share is",
    "--labels ten": "must be a share",
    "--labels 0": "must be a share",
    "--seeds 0": "must be at least 1",
    "nowhere/": "nowhere",
}


@pytest.mark.parametrize("words", BAD)
@pytest.mark.parametrize("command", ["probe", "finetune"])
def test_bad_input_is_answered_in_a_line_and_nothing_is_written(folders, command, words, tmp_path):
    root, _ = folders
    answer = vergence(command, root / "second", *words.split(), "--out", tmp_path / "out", "--device", "cpu")
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert BAD[words] in answer.errors[0]
    assert not (tmp_path / "out").exists()


def test_pictures_without_labels_are_refused(folders, tmp_path):
    from PIL import Image

    root, _ = folders
    (tmp_path / "plain").mkdir()
    for i in range(8):
        pixels = torch.randint(0, 256, (20, 20, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "plain" / f"{i}.png")
    answer = vergence("probe", root / "second", tmp_path / "plain", "--out", tmp_path / "out")
    assert answer.code == 2
    assert answer.errors[0].startswith("plain: these pictures have no labels")
    assert not (tmp_path / "out").exists()


def test_one_folder_holds_results_on_the_same_pictures_by_the_same_crops(folders):
    root, _ = folders
    words = ("--out", root / "few", "--device", "cpu", "--jobs", "1")
    answer = vergence("probe", root / "second", "digits", *LABELS[:4], "--out", root / "few")
    assert (answer.code, len(answer.errors)) == (0, 0)  # its own pictures, named
    answer = vergence("finetune", root / "second", *LABELS[:4], "--flip", "0.25", *STEPS, *words)
    assert answer.code == 2
    assert "by other crops or steps; choose another --out" in answer.errors[0]


def test_a_model_that_is_no_run_needs_pictures(folders, tmp_path):
    root, _ = folders
    kept = next((root / "few" / "fits").glob("*/model.safetensors")).parent
    answer = vergence("probe", kept, "--out", tmp_path / "out")
    assert answer.code == 2
    assert "on which labelled pictures? Name them, as in ./pictures" in answer.errors[0]
