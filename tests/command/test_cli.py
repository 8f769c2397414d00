"""The command as a user meets it: what it refuses and how, what a run leaves behind, and that nothing is done twice."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as load_tensors

from commands import SMALL, train, vergence, words_of
from repository import ROOT
from vergence import config as c
from vergence import presets
from vergence.command import handlers
from vergence.command.commands import Train
from vergence.command.parser import COMMANDS
from vergence.config import Run
from vergence.config.schema import from_dict
from vergence.files import durable
from vergence.metrics.table import PROBES


def read(path):
    return json.loads(path.read_text())


def newest(folder):
    files = durable.read_folder(sorted((folder / "checkpoints").glob("step-*"))[-1])
    return {name: load_tensors(data) for name, data in files.items() if name.endswith(".safetensors")}


def same_bits(one, other):
    one, other = newest(one), newest(other)
    return all(torch.equal(value, other[name][key]) for name, tensors in one.items() for key, value in tensors.items())


def contents(folder):
    """Every file with its bytes and the time it was changed."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def draw(folder, count):
    folder.mkdir(parents=True)
    chance = np.random.default_rng(count)
    for i in range(count):
        Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    answer = train(folder)
    assert answer.code == 0, answer.err
    return folder, answer


@pytest.fixture
def a_copy(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = [
    (
        "tidy byol",
        2,
        [
            "unknown command 'tidy'; known: bench, data, demo, diagnose, embed, evaluate, export, finetune, probe, "
            "report, reproduce, similar, sweep, train, views"
        ],
    ),
    (
        "embed runs/x --data digits",
        2,
        ["--data: pictures are named without it here, as in: vergence embed MODEL ./pictures"],
    ),
    ("similar x.npz --data p", 2, ["as in: vergence similar EMBEDDINGS ./pictures"]),
    ("trian byol", 2, ["unknown command 'trian'; did you mean 'train'?"]),
    ("byol", 2, ["unknown command 'byol'; to train it: vergence train byol"]),
    ("reproduce", 2, ["required: experiment"]),
    ("reproduce blgo", 2, ["experiment: unknown choice 'blgo'; did you mean 'blog'?"]),
    ("reproduce blog --scale tiny", 2, ["--scale: unknown choice 'tiny'; known: full, overnight, short, smoke"]),
    ("reproduce raft --jobs 0", 2, ["--jobs: must be at least 1, not 0"]),
    ("reproduce raft --subset -3 --epochs 1", 2, ["--subset: must be at least 1, not -3"]),
    ("reproduce blog --data cifar", 2, ["--data: 'cifar' is no data set and no folder; did you mean 'cifar10'?"]),
    ("reproduce blog --rows BYLO", 2, ["--rows: no row 'BYLO'; did you mean 'BYOL'?"]),
    ("reproduce blog --seed 3", 2, ["unexpected argument '--seed'; did you mean '--seeds'?"]),
    ("report", 2, ["give the folders of runs, or --from FILE; as in: vergence report runs/a runs/b"]),
    ("report nowhere", 2, ["nowhere: no run there (no run.json)"]),
    ("--epochs 3 train byol", 2, ["see vergence --help"]),
    ("train", 2, ["which method? As in: vergence train byol; one of simclr, moco, contrastive, byol"]),
    ("train byool", 2, ["unknown method 'byool'; did you mean 'byol'?"]),
    ("train RATF-LPI", 2, ["unknown method 'RATF-LPI'; did you mean 'RAFT-LPI'?"]),
    ("train byol raft", 2, ["unexpected argument 'raft'"]),
    ("train byol --epoch 3", 2, ["--epoch: unknown option; did you mean '--epochs'?"]),
    ("train --epochs -1 byol", 2, ["epochs: must be at least 0, not -1"]),
    ("train byol --epochs ten", 2, ["epochs: expected a whole number, not 'ten'"]),
    ("train byol --epochs", 2, ["--epochs: a value is missing"]),
    ("train byol --optimizer rmsprop", 2, ["--optimizer: unknown choice 'rmsprop'; known: adam, adamw, lars, sgd"]),
    ("train byol --optimizer.lr 1e400", 2, ["optimizer.lr: expected a finite number"]),
    ("train byol --optimizer.layers encodr.layer1", 2, ["no parameter in 'encodr.layer1'; known:"]),
    ("train byol --encoder resnet19", 2, ["--encoder: unknown model 'resnet19'; did you mean 'resnet1"]),
    ("train byol --encoder.stem cifar --encoder test_vit", 2, ["--encoder.stem: 'test_vit' has no ResNet stem"]),
    ("train byol --epoch 3 --sede 1 --batch-size 1", 2, ["--epoch: unknown", "--sede: unknown"]),
    ("train byol --epochs -1 --batch-size 1", 2, ["--epochs: must", "--batch-size: must be at least 2"]),
    ("train byol --schedule-epochs 2 --epochs 3", 2, ["--schedule-epochs (2) cannot be fewer than --epochs (3)"]),
    ("train byol --data cifar", 2, ["--data: 'cifar' is no data set and no folder; did you mean 'cifar10'?"]),
    ("train byol --data ./no/such/folder", 2, ["no/such/folder"]),
    ("train byol --data-dir no/such/folder --data cifar10", 2, ["there is no data folder"]),
    ("train byol --preset blogg", 2, ["--preset: unknown preset 'blogg'; did you mean 'blog'?"]),
    ("train byol --config run.json", 2, ["--config says what to run: leave out the method and --preset"]),
    ("train --config no.json", 2, ["no.json: cannot be read: No such file or directory"]),
    ("train byol --subset 2000", 2, ["--subset: 2000 is more than the 1438 pictures there are"]),
    (
        "train byol --subset 40 --batch-size 41",
        2,
        ["--batch-size: 41 is more than the 40 pictures; choose a smaller one"],
    ),
    ("train byol --log-every -1", 2, ["--log-every: must be at least 0, not -1"]),
    ("train byol --log-every often", 2, ["--log-every: expected a whole number, not 'often'"]),
    ("train byol --online knn,logistics", 2, ["--online: unknown choice 'logistics'; did you mean 'logistic'?"]),
    ("train byol --device cuda", 2, ["--device: no CUDA device here; use --device cpu"]),
    ("train byol --device cuda:7", 2, ["--device: no CUDA device here"]),
    ("train byol --device gpu", 2, ["--device: unknown device 'gpu'; use auto, cpu, cuda or cuda:N"]),
    ("train byol --device mps", 2, ["--device: unknown device 'mps'"]),
    ("train byol --threads 0", 2, ["--threads: must lie between 1 and 1024, not 0"]),
    ("train byol --out file", 4, ["cannot write file: ", "choose another folder with --out"]),
    (
        "train byol --projector.hidden 20000000000",
        4,
        ["out of memory, ", "in use at most, with batches of 64 at 32 px; try a smaller one, such as --batch-size 32"],
    ),
    ("evaluate", 2, ["the following arguments are required: run; see vergence evaluate --help"]),
    ("evaluate nowhere", 2, ["nowhere: no run there (no run.json)"]),
    ("evaluate nowhere --epochs 3", 2, ["unexpected argument '--epochs'; see vergence evaluate --help"]),
    ("evaluate nowhere --gpus 0", 2, ["unexpected argument '--gpus'; did you mean '--device'?"]),
    ("evaluate nowhere --k 0", 2, ["--k: must be at least 1, not 0"]),
    ("evaluate nowhere --temperature nan", 2, ["--temperature: expected a finite number, not nan"]),
    ("evaluate nowhere --probes knm", 2, ["--probes: unknown choice 'knm'; did you mean 'knn'?"]),
    ("views --count 0", 2, ["--count: must lie between 1 and 1000, not 0"]),
    ("views --size 3", 2, ["--data.size: must be at least 8, not 3", "--views.size: must be at least 8, not 3"]),
    ("views --out file/views.png", 4, ["file: ", "a part of the path is a file"]),
    ("demo --device cuda", 2, ["--device: no CUDA device here"]),
    ("demo now", 2, ["unexpected argument 'now'"]),
]


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES, ids=[words for words, _, _ in MISTAKES])
def test_mistakes_get_one_line_each(words, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("file").touch()
    answer = vergence(*words.split())
    assert answer.code == code
    assert "Traceback" not in answer.err
    text = "\n".join(answer.errors)
    for part in said:
        assert part in text
    one_line_holds_all = code == 4
    assert len(answer.errors) == (1 if one_line_holds_all else len(said))
    assert not list(tmp_path.glob("**/checkpoints"))


def test_an_error_in_a_file_names_the_file_and_every_problem(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"method": {"kind": "byol", "alpha": 1}, "epochs": -1, "batch": 3}')
    answer = vergence("train", "--config", path)
    assert answer.code == 2
    assert len(answer.errors) == 3
    assert all(line.startswith(f"{path}: ") for line in answer.errors)


def test_options_and_method_in_any_order(tmp_path):
    """What follows an option of a run is its value, never the method."""
    for words in (
        "byol --epochs -1 --seed 1",
        "--epochs -1 byol --seed 1",
        "--epochs=-1 --seed 1 byol",
        "--seed -1 byol --epochs -1",
    ):
        assert "epochs: must be at least 0, not -1" in vergence("train", *words.split()).err


def test_a_bug_leaves_one_line_and_a_trace(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr(handlers, "_views", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer = vergence("views")
    assert answer.code == 1
    (line,) = answer.errors
    (trace,) = tmp_path.glob("vergence-*.log")
    assert line == f"a bug in vergence: RuntimeError: the first line (trace in {trace})"
    assert "Traceback" in trace.read_text()
    assert "in broken" in trace.read_text()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_says_what_to_try(error, monkeypatch):
    def greedy(*_):
        raise error

    monkeypatch.setattr(handlers, "_views", greedy)
    answer = vergence("views")
    assert answer.code == 4
    assert answer.errors == ["out of memory; try a smaller --batch-size, and --resume: what was saved stands"]


def test_interrupted(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(handlers, "_demo", interrupted)
    assert vergence("demo") == (130, "", "error: interrupted\n")


def test_our_warnings_are_one_line_and_other_peoples_are_not_shown(monkeypatch):
    import warnings

    def warned(*_):
        warnings.simplefilter("always")
        warnings.warn("two pictures are alike", stacklevel=1)
        warnings.warn("this API goes away", FutureWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(handlers, "_demo", warned)
    with warnings.catch_warnings():
        assert vergence("demo").err == "warning: two pictures are alike\n"


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command):
    answer = vergence(*command.split(), "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.startswith(f"usage: vergence {command}".strip())


def test_help_names_every_command_and_a_bare_call_is_a_call_for_help():
    answer = vergence()
    assert answer.code == 0
    assert answer.out == vergence("--help").out
    for command, does in COMMANDS.items():
        assert command in answer.out
        assert does in " ".join(answer.out.split())


def test_version():
    from vergence import __version__

    assert vergence("--version") == (0, f"vergence {__version__}\n", "")


def test_help_and_errors_do_not_wait_for_torch(tmp_path):
    (tmp_path / "bad.json").write_text('{"epochs": -1}')
    calls = [
        ["--help"],
        ["train", "--help"],
        ["trian"],
        ["train", "byool"],
        ["train", "byol", "--epochs", "-1"],
        ["train", "byol", "--data", "cifar"],
        ["train", "--config", str(tmp_path / "bad.json")],
        ["evaluate", "run", "--probes", "knm"],
        ["views", "--epoch", "3"],
    ]
    script = (
        "import contextlib, sys\nfrom vergence.command.cli import main\n"
        f"for words in {calls!r}:\n"
        "    with contextlib.suppress(SystemExit): main(words)\n"
        "    heavy = {'torch', 'numpy', 'timm', 'PIL', 'sklearn', 'rich'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: vergence train" in done.stdout
    assert len(done.stderr.splitlines()) >= 7


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_a_reader_that_is_gone_gets_no_traceback(words):
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "vergence", *words]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode in (0, 141)


# --- a run from end to end --------------------------------------------------------------------------------------------


def test_run_json_says_all_that_decides_the_result(finished):
    folder, _ = finished
    record = read(folder / "run.json")
    run = from_dict(Run, record["run"])
    assert record["key"] == run.key
    assert record["pictures"] == 40
    assert len(record["data"]) == 16
    assert record["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert {"vergence", "python", "timm", "numpy", "device", "device_name", "threads", "cores"} <= set(
        record["environment"]
    )
    assert run.encoder.name == "test_resnet"
    assert run.views.size == 16


def test_every_line_of_the_log_has_every_number(finished):
    folder, _ = finished
    lines = durable.read_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 4, 5, 6, 8, 10]
    assert [line["epoch"] for line in lines] == [0.2, 0.4, 0.8, 1.0, 1.2, 1.6, 2.0]
    numbers = (
        *("loss", "alignment", "uniformity", "cross_model", "pos_cos", "neg_cos", "z_std", "effective_rank"),
        *("y_neg_cos", "y_rank", "y_agreement", "images_per_second", "seconds"),
    )
    for line in lines:
        assert set(line) == {"step", "epoch", "terms", "verdict", "representation", "layers", *numbers}
        assert {"encoder.conv1", "encoder.layer4", "projector", "predictor"} <= set(line["layers"])
        assert all(v > 0 for layer in line["layers"].values() for v in layer.values())
        assert all(isinstance(line[name], float) for name in numbers)


def test_the_summary_has_scores_with_protocols_and_a_verdict_with_its_rule(finished):
    folder, _ = finished
    summary = read(folder / "summary.json")
    said = {
        "knn": "20 nearest of 40",
        "linear": "chosen by 5-fold cross-validation; fitted on 40",
        "logistic": "liblinear, 100 iterations) fitted on 180, half of each class",
        "linear-raft": "100 epochs",
    }
    for probe, protocol in said.items():
        assert list(summary[probe]["baselines"]) == ["untrained", "no picture"]
        assert 0 <= summary[probe]["accuracy"] <= 100
        assert protocol in summary[probe]["protocol"]
    lines = durable.read_lines(folder / "metrics.jsonl")
    assert summary["final"]["step"] == 10
    assert summary["final"]["loss"] == lines[-1]["loss"]
    assert summary["last_epoch"]["lines"] == 3
    assert summary["last_epoch"]["loss"] == pytest.approx(sum(line["loss"] for line in lines[-3:]) / 3)
    assert set(summary["verdict"]) == set(summary["representation"]) == {"state", "rule", "numbers", "advice"}
    assert summary["verdict"]["state"] == lines[-1]["verdict"]
    assert {"pos_cos", "neg_cos", "effective_rank", "lines"} <= set(summary["verdict"]["numbers"])
    assert summary["seconds"] == pytest.approx(sum(line["seconds"] for line in lines), abs=0.06)
    assert summary["environment"]["device"] == "cpu"
    assert summary["key"] == read(folder / "run.json")["key"]


def test_two_checkpoints_are_kept_and_nothing_half_written(finished):
    folder, _ = finished
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step-000000005", "step-000000010"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "metrics.jsonl", "summary.json", "checkpoints", ".lock"}


def test_without_a_terminal_an_epoch_is_one_line(finished):
    _, answer = finished
    lines = [line for line in answer.out.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in answer.out
    assert "verdict" in answer.out
    assert answer.err == ""


def test_a_finished_run_is_recognised_and_left_alone(finished):
    folder, _ = finished
    before = contents(folder)
    for more in ((), ("--resume",)):
        answer = train(folder, *more)
        assert answer.code == 0
        assert "this run is there, finished" in answer.out
        assert contents(folder) == before


def test_a_run_by_former_names_is_recognised_by_the_new_ones(tmp_path):
    small = {"epochs": 1, "optimizer": "lars", "target": "copy"}
    former = {"horizon": 4, "optimizer__trust": 0.01, "target__moves": "after-optimizer"}
    renamed = {"schedule_epochs": 4, "optimizer__trust_coefficient": 0.01, "target__update_when": "after-optimizer"}
    assert train(tmp_path / "run", **small, **former).code == 0
    stored = read(tmp_path / "run" / "run.json")["run"]
    assert (stored["horizon"], stored["optimizer"]["trust"]) == (4, 0.01)
    assert stored["method"]["target"]["moves"] == "after-optimizer"
    before = contents(tmp_path / "run")
    assert "this run is there, finished" in train(tmp_path / "run", **small, **renamed).out
    assert contents(tmp_path / "run") == before
    answer = train(tmp_path / "run", **small, **renamed | {"schedule_epochs": 5})
    assert answer.errors[0].endswith("It differs in: schedule_epochs: 4 -> 5")


def test_periods_do_not_decide_who_a_run_is(finished):
    folder, _ = finished
    assert "finished" in train(folder, log_every=1, save_every=3).out


def test_an_unfinished_run_goes_on_only_when_asked(a_copy, finished):
    (a_copy / "summary.json").unlink()
    before = contents(a_copy)
    answer = train(a_copy)
    assert answer.code == 2
    assert answer.errors == [f"{a_copy}: this run is there, unfinished; add --resume to go on"]
    assert contents(a_copy) == before
    assert train(a_copy, "--resume").code == 0
    assert same_bits(a_copy, finished[0])
    assert read(a_copy / "summary.json")["knn"] == read(finished[0] / "summary.json")["knn"]


def test_a_folder_that_holds_another_run_is_not_touched(finished):
    folder, _ = finished
    before = contents(folder)
    answer = train(folder, epochs=3, optimizer__lr=0.5)
    assert answer.code == 2
    (line,) = answer.errors
    assert "holds another run; choose another --out. It differs in: optimizer.lr: 0.1 -> 0.5; epochs: 2 -> 3" in line
    assert contents(folder) == before


def test_run_json_is_enough_to_repeat_a_run(finished, tmp_path):
    folder, _ = finished
    answer = vergence("train", "--config", folder / "run.json", "--out", tmp_path / "again", "--threads", 1)
    assert answer.code == 0
    assert read(tmp_path / "again" / "run.json")["key"] == read(folder / "run.json")["key"]
    assert same_bits(folder, tmp_path / "again")


def test_options_change_what_a_config_says(finished, tmp_path):
    words = ("train", "--config", finished[0] / "run.json", "--out", tmp_path / "other")
    answer = vergence(*words, "--epochs", 1, "--online", "knn", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert read(tmp_path / "other" / "run.json")["run"]["epochs"] == 1
    assert "online knn" in answer.out
    assert durable.read_lines(tmp_path / "other" / "metrics.jsonl")[-1]["online"]["knn"]["protocol"]


def test_evaluate(a_copy):
    answer = vergence("evaluate", a_copy, "--device", "cpu")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("  encoder   test_resnet, checkpoint after step 10")
    scores, summary = read(a_copy / "evaluation.json"), read(a_copy / "summary.json")
    assert {name: scores[name] for name in PROBES} == {name: summary[name] for name in PROBES}


def test_evaluate_random_weights_with_one_probe(a_copy):
    answer = vergence("evaluate", a_copy, "--random", "--probes", "knn", "--k", 5, "--device", "cpu")
    assert answer.code == 0, answer.err
    scores = read(a_copy / "evaluation-random.json")
    assert scores["encoder"] == "test_resnet, random weights"
    assert set(scores) == {"encoder", "scored_on", "knn"}
    assert scores["knn"]["protocol"].startswith("5 nearest of 40")
    assert not (a_copy / "evaluation.json").exists()


def test_evaluate_without_a_checkpoint(a_copy):
    shutil.rmtree(a_copy / "checkpoints")
    gone = "this run is finished, but its checkpoints are gone; train it again elsewhere"
    assert vergence("evaluate", a_copy, "--device", "cpu").errors == [f"{a_copy}: {gone}"]
    (a_copy / "summary.json").unlink()
    assert vergence("evaluate", a_copy, "--device", "cpu").errors == [f"{a_copy}: no checkpoint yet; train it first"]
    assert vergence("evaluate", a_copy, "--random", "--probes", "knn", "--device", "cpu").code == 0


def test_views_draws_local_crops_too(tmp_path):
    path = tmp_path / "views.png"
    answer = vergence("views", "--out", path, "--count", 2, "--size", 32, "--views.local.count", 3)
    assert answer.code == 0, answer.err
    assert "2 pictures, three draws of both views and 3 local crops each" in answer.out
    with Image.open(path) as sheet:
        assert sheet.size == (16 * 36 * 3, 2 * 36 * 3)
        crop = sheet.crop((3 * 36 * 3, 0, 4 * 36 * 3, 36 * 3)).convert("L")
        white = np.asarray(crop.resize((36, 36), Image.Resampling.NEAREST)) == 255
    assert white[:10].all()  # 2 of the gap, 8 of the frame about 16 px
    assert not white.all()


def test_a_file_gives_each_view_a_pipeline_of_its_own(tmp_path):
    """As docs/methods.md has it."""
    page = (ROOT / "docs" / "methods.md").read_text()
    (tmp_path / "pipelines.json").write_text(page.split("```json\n", 1)[1].split("```", 1)[0])
    few = ("--subset", 64, "--batch-size", 32, "--epochs", 1, "--device", "cpu")
    answer = vergence("train", "--config", tmp_path / "pipelines.json", "--out", tmp_path / "run", *few)
    assert answer.code == 0, answer.err
    assert "two of 32 px and 2 of 16 px, cut from pictures kept at 8 px" in " ".join(answer.out.split())
    views = from_dict(Run, read(tmp_path / "run" / "run.json")["run"]).views
    assert views.first == c.View(crop_scale=(0.2, 1.0), blur=1.0)
    assert views.second == c.View(crop_scale=(0.08, 0.6), jitter=0.0, gray=0.0, blur=0.1, solarize=0.2)
    assert views.local == c.Local(count=2, view=c.LocalView(crop_scale=(0.05, 0.4), saturation=0.2, flip=0.0))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("simclr --views.local.count 2", "--views.local.count: simclr takes no local crops; leave it at 0"),
        ("byol --views.local 2", "--views.local: set its parts: --views.local.count, --views.local.size, --views.loc"),
        ("byol --views.local.size 48", "--views: local.size (48) cannot exceed the size of a view (32)"),
        ("byol --views.local.cuont 2", "did you mean '--views.local.count'?"),
        (
            "byol --views.first.transform x --views.order folded",
            "--views: order folded changes colours before the crop",
        ),
    ],
)
def test_local_crops_and_transforms_that_cannot_be_are_one_line(words, said, tmp_path):
    answer = vergence("train", *words.split(), "--data", "digits", "--out", tmp_path / "run")
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert said in line


@pytest.mark.parametrize(("side", "scale"), [(16, 6), (48, 2), (100, 1)])
def test_views_draws_a_picture(tmp_path, side, scale):
    path = tmp_path / "deep" / "views.png"
    answer = vergence("views", "--out", path, "--count", 3, "--views.size", side, "--data.size", 64)
    assert answer.code == 0, answer.err
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (7 * (side + 4) * scale, 3 * (side + 4) * scale)
        assert len(set(picture.convert("L").tobytes())) > 10


@pytest.mark.parametrize("lr", [1e7, 1e30])
def test_a_run_that_explodes_stops_with_finite_weights(tmp_path, lr):
    """At the lower rate a few checkpoints come first; at the higher one the first weights are already refused."""
    answer = train(tmp_path / "run", optimizer__lr=lr, optimizer__weight_decay=1.0, save_every=1)
    assert answer.code == 3
    (line,) = answer.errors
    assert "not finite at step" in line
    assert "try a lower --optimizer.lr" in line
    report = read(tmp_path / "run" / "diverged.json")
    assert f"step {report['step']}" in line
    assert len(report["pictures"]) == 8
    if list((tmp_path / "run" / "checkpoints").glob("step-*")):
        assert all(torch.isfinite(value).all() for value in newest(tmp_path / "run")["method.safetensors"].values())
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("classes", [0, 1])
def test_pictures_without_classes_train_and_have_no_accuracy(tmp_path, monkeypatch, classes):
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    draw(tmp_path / "pictures" / ("only" if classes else ""), 24)
    words = ("--data", tmp_path / "pictures")
    answer = train(tmp_path / "run", *words, subset=16, epochs=1)
    assert answer.code == 0, answer.err
    summary = read(tmp_path / "run" / "summary.json")
    assert all(summary[probe] is None for probe in PROBES)
    assert summary["verdict"]["state"]
    assert not any(f"  {probe} " in answer.out for probe in PROBES)


def test_evaluate_pictures_without_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    draw(tmp_path / "pictures", 16)
    assert train(tmp_path / "run", "--data", tmp_path / "pictures", subset="none", epochs=1).code == 0
    answer = vergence("evaluate", tmp_path / "run", "--device", "cpu")
    assert answer.code == 2
    assert answer.errors == ["folder: these pictures have no labels; there is nothing to score against"]


def test_without_out_the_folder_is_named_after_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = vergence("train", "simclr", *words_of({**SMALL, "epochs": 1}, without="predictor.hidden"))
    assert answer.code == 0, answer.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == f"simclr-digits-{read(folder / 'run.json')['key']}"
    assert f"runs/{folder.name}" in answer.out


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("method", ["raft", "BYOL-LPI"])
def test_a_preset_typed_is_the_preset_of_python(preset, method):
    """What a preset sets in the data, such as the size that CIFAR-10 is enlarged to, must outlast `--data`."""
    typed = Train(method=method, preset=preset, data=("cifar10",))
    assert handlers._run_of(typed, []) == presets.preset(preset, method, c.CIFAR10())
