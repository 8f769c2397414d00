"""Sweeps: which rows options make, what is refused before anything runs, and the page; one command for each run."""

import shlex

import pytest

from commands import SMALL, vergence, words_of
from vergence.command.commands import Sweep
from vergence.command.sweeps import name_of, rows_of, values_of


def rows(methods="byol", **options):
    given = [(name.replace("__", ".").replace("_", "-"), value) for name, value in options.items()]
    return rows_of(Sweep(methods=methods), given)


def test_a_row_for_every_combination():
    made = rows(target="moving-average,stop-gradient", optimizer__lr="0.03,0.06", epochs="3")
    assert {name: (run.method.target.kind, run.optimizer.lr) for name, run in made.items()} == {
        "target moving-average, optimizer.lr 0.03": ("moving-average", 0.03),
        "target moving-average, optimizer.lr 0.06": ("moving-average", 0.06),
        "target stop-gradient, optimizer.lr 0.03": ("stop-gradient", 0.03),
        "target stop-gradient, optimizer.lr 0.06": ("stop-gradient", 0.06),
    }
    assert {run.epochs for run in made.values()} == {3}


def test_methods_are_swept_too():
    assert {name: run.method.kind for name, run in rows("byol,simclr").items()} == {"byol": "byol", "simclr": "simclr"}
    assert list(rows()) == ["byol"]


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("optimizer.lr", "0.03, 0.06", ["0.03", "0.06"]),
        ("views.first.crop-scale", "0.2,1", ["0.2,1"]),
        ("views.first.crop-scale", "0.2,1;0.4,1", ["0.2,1", "0.4,1"]),
        ("optimizer.layers", "encoder.layer1,encoder.layer2", ["encoder.layer1,encoder.layer2"]),
        ("encoder.weights", "a,b.pt;", ["a,b.pt"]),
        ("encoder.weights", "a,b.pt;c.pt", ["a,b.pt", "c.pt"]),
        ("encoder.weights", "a.pt,c.pt", ["a.pt", "c.pt"]),
    ],
)
def test_values_with_commas_are_separated_by_semicolons(name, text, values):
    assert values_of(name, text) == values


def test_lists_are_swept():
    made = rows(views__first__crop_scale="0.2,1;0.4,1")
    assert [run.views.first.crop_scale for run in made.values()] == [(0.2, 1.0), (0.4, 1.0)]
    assert list(made) == ["views.first.crop-scale 0.2,1", "views.first.crop-scale 0.4,1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("byol --optimizer.lr 0.03,fast", ["--optimizer.lr: expected a number, not 'fast'"]),
        (
            "byol --target shared,stopgradient",
            ["--target: unknown choice 'stopgradient'; did you mean 'stop-gradient'?"],
        ),
        ("byol,byool", ["unknown method 'byool'; did you mean 'byol'?"]),
        (
            "byol --optimizer.lr 0.03,,0.06",
            ["--optimizer.lr: '0.03,,0.06' has an empty value; values are separated by ','"],
        ),
        ("byol --optimizer.lr 0.03,0.03", ["--optimizer.lr: '0.03' stands there twice"]),
        (
            "byol --optimizer.lr 0.03,0.030",
            ["'optimizer.lr 0.03' and 'optimizer.lr 0.030' are one run; leave one of them out"],
        ),
        ("byol --seed 1,2", ["--seed: a sweep counts seeds from 0 on; say how many: --seeds 3"]),
        ("byol --epoch 1,2", ["--epoch: unknown option; did you mean '--epochs'?"]),
        ("byol --target.decay", ["--target.decay: a value is missing, as in --target.decay VALUE"]),
        (
            "byol --target shared,moving-average --target.decay 0.9,0.99",
            ["--target.decay: shared has no such option; moving-average has"],
        ),
        ("byol --cluster c.toml", ["--cluster: says what to ask of a cluster; give --on slurm or --on ray too"]),
        ("byol --on slurm --job byol", ["--job and --on: give one of them"]),
        ("byol --on slrm", ["--on: unknown choice 'slrm'; did you mean 'slurm'?"]),
        ("byol --job raft", ["--job: no job 'raft'; known: byol"]),
    ],
)
def test_what_cannot_be_is_named_before_anything_runs(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = vergence("sweep", *words.split(" "))
    assert (answer.code, answer.errors) == (2, said)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_named_by_what_is_swept():
    one = rows(optimizer__lr="0.03,0.06")
    assert name_of(Sweep(methods="byol"), one) == name_of(Sweep(methods="byol", seeds=3), dict(reversed(one.items())))
    assert name_of(Sweep(methods="byol"), one) != name_of(Sweep(methods="byol"), rows(optimizer__lr="0.03,0.09"))
    assert name_of(Sweep(methods="byol"), one).startswith("sweep-byol-digits-")


def test_a_runner_without_the_pictures_takes_no_run(tmp_path):
    out = tmp_path / "out"
    words = ["sweep", "byol", "--data", "cifar10", "--data-dir", tmp_path / "nowhere", "--out", out, "--runner"]
    answer = vergence(*words)
    assert (answer.code, len(answer.errors)) == (2, 1)
    assert "there is no data folder" in answer.errors[0]
    assert not out.exists()


def test_help_says_how_values_are_separated():
    answer = vergence("sweep", "--help")
    assert answer.code == 0
    assert "--optimizer.lr 0.03,0.06" in answer.out


WORDS = ["sweep", "byol", "--optimizer.lr", "0.05,0.1", *words_of(SMALL, without=("optimizer.lr",))]


@pytest.mark.slow
@pytest.mark.xdist_group("grid")
def test_a_sweep_makes_its_page_and_one_command_does_one_run(tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    answer = vergence(*WORDS, "--out", whole, "--jobs", 2)
    assert answer.code == 0, answer.err
    page = (whole / "index.html").read_text()
    assert "optimizer.lr 0.05" in page
    assert "<h2>Findings</h2>" not in page, "a sweep claims nothing"
    assert "vergence sweep byol --log-every 2 --optimizer.lr 0.05,0.1" in page.replace("&#39;", "'")
    assert {"comparison.csv", "numbers.csv", "courses.svg", "accuracies.svg"} <= {path.name for path in whole.iterdir()}

    printed = vergence(*WORDS, "--out", pieces, "--print-commands")
    commands = [shlex.split(line) for line in printed.out.splitlines()]
    assert [words[-2:] for words in commands] == [["--job", "optimizer.lr 0.05"], ["--job", "optimizer.lr 0.1"]]
    assert not pieces.exists()
    assert vergence(*commands[0][1:]).code == 0
    assert len(list(pieces.glob("runs/*/summary.json"))) == 1
    assert not (pieces / "index.html").exists()
    left = vergence(*WORDS, "--out", pieces, "--print-commands").out.splitlines()
    assert left == printed.out.splitlines()[1:]
    assert vergence(*commands[1][1:]).code == 0
    done = vergence(*WORDS, "--out", pieces, "--print-commands")
    assert (done.out, "every run is done" in done.err) == ("", True)
    before = {path: path.stat().st_mtime_ns for path in pieces.glob("runs/*/summary.json")}
    assert vergence(*WORDS, "--out", pieces).code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    tables = [path.name for path in whole.glob("*.csv")] + ["results.md"]
    assert {name: (pieces / name).read_bytes() for name in tables} == {n: (whole / n).read_bytes() for n in tables}
    again = tmp_path / "again.html"
    answer = vergence("report", "--from", whole / "runs.tar.gz", "--out", again)
    assert (answer.code, answer.out) == (0, f"{again}: A sweep of byol, 2 runs\n")
    assert "optimizer.lr 0.05" in again.read_text()
