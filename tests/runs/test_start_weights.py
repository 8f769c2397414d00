"""Runs that start from weights: what these decide, what the name holds, and what stands beside the scores."""

import json
import shutil
import warnings

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from small_runs import VARIANTS, run_of
from vergence import config as c
from vergence import methods
from vergence.command.cli import main
from vergence.config import Run
from vergence.errors import InputError
from vergence.files.run_folder import read_log
from vergence.runs import from_weights, load, open_model, run_training


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of the smallest ResNet, with a description of other pictures than ours."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(2)
    network = timm.create_model("test_resnet", num_classes=0)
    safetensors.torch.save_file(network.state_dict(), folder / "net.safetensors")
    about = {"input_size": [3, 24, 24], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "net.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": about}))
    return folder / "net.safetensors"


def started(file, **changes) -> Run:
    return from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(file)), **changes))


def test_weights_decide_size_normalization_and_the_name_of_a_run(file, tmp_path):
    run = started(file)
    assert (run.data.size, run.views.size) == (24, 24)
    assert (run.views.mean, run.views.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert len(run.encoder.weights_hash) == 64
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(file.read_bytes())
    assert (
        from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(moved)))).key != run.key
    )
    kept = from_weights(
        run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(moved))), ("size", "mean", "std")
    )
    again = from_weights(
        run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(file))), ("size", "mean", "std")
    )
    assert kept.key == again.key  # the place is no part of it, the hash is
    assert kept.views == run_of(VARIANTS["byol"]).views


def test_how_an_encoder_is_trained_and_pooled_is_not_for_the_weights_to_say(tmp_path):
    safetensors.torch.save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "vit.json").write_text(json.dumps({"architecture": "test_vit"}))
    asked = c.Encoder(weights=str(tmp_path / "vit.safetensors"), pool="mean", drop_path=0.1)
    run = from_weights(run_of(VARIANTS["byol"], encoder=asked))
    assert (run.encoder.name, run.encoder.pool, run.encoder.drop_path) == ("test_vit", "mean", 0.1)


def test_a_run_without_weights_keeps_its_key():
    run = run_of(VARIANTS["byol"])
    assert from_weights(run) == run
    assert "weights" not in json.dumps(run.key)


def test_other_weights_than_a_run_began_with_are_refused(file, tmp_path):
    run = started(file)
    torch.manual_seed(3)
    other = tmp_path / "net.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), other)
    with pytest.raises(InputError, match=r"--encoder.weights: .* has the SHA-256"):
        from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(**vars(run.encoder) | {"weights": str(other)})))


def test_a_run_whose_name_lacks_the_hash_is_refused(file, tmp_path):
    run = run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(file)))
    with pytest.raises(InputError, match=r"vergence.runs.from_weights\(run\) reads it"):
        run_training(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_starting_weights_stand_beside_the_end(file, tmp_path):
    run = started(file, epochs=1)
    first = methods.build(run)
    published = safetensors.torch.load_file(file)
    assert all(torch.equal(value, published[name]) for name, value in first.encoder.state_dict().items())
    assert all(torch.equal(value, published[name]) for name, value in first.target.network.encoder.state_dict().items())
    summary = run_training(run, tmp_path / "run")
    assert {"starting weights", "untrained", "no picture"} == set(summary["knn"]["baselines"])
    assert any("weights of" in text for label, text in summary["start"] if label == "encoder")
    lines = read_log(tmp_path / "run/metrics.jsonl")
    assert set(lines[0]["untrained"]) >= {"y_neg_cos", "y_rank", "y_agreement"}
    assert lines[0]["untrained"]["y_rank"] != lines[0]["y_rank"]
    assert "untrained" not in lines[-1]
    file_gone = load(tmp_path / "run")  # needs no weights but its own
    assert file_gone[2] > 0


def test_a_run_that_is_killed_goes_on_to_the_same_bits(file, tmp_path):
    run = started(file, epochs=2)
    whole = run_training(run, tmp_path / "whole")
    (folder := tmp_path / "half").mkdir()
    for name in ("run.json", "metrics.jsonl", "pictures.json"):
        if (tmp_path / "whole" / name).exists():
            (folder / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    shutil.copytree(tmp_path / "whole/checkpoints", folder / "checkpoints")
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    assert run_training(run, folder, resume=True)["final"] == whole["final"]


def test_the_command_takes_what_is_known_and_options_come_first(file, tmp_path, capsys):
    words = ["train", "byol", "--data", "digits", "--epochs", "1", "--subset", "64", "--batch-size", "32"]
    assert main([*words, "--encoder.weights", str(file), "--out", str(tmp_path / "a")]) == 0
    run = json.loads((tmp_path / "a/run.json").read_text())["run"]
    assert (run["data"]["size"], run["views"]["mean"]) == (24, [0.5, 0.5, 0.5])
    assert "pictures normalized by mean 0.5, 0.5, 0.5" in capsys.readouterr().out
    more = ["--size", "32", "--views.mean", "0.4,0.4,0.4"]
    assert main([*words, "--encoder.weights", str(file), *more, "--out", str(tmp_path / "b")]) == 0
    run = json.loads((tmp_path / "b/run.json").read_text())["run"]
    assert (run["data"]["size"], run["views"]["mean"]) == (32, [0.4, 0.4, 0.4])
    assert run["views"]["std"] == [0.25, 0.25, 0.25]
    again = ["train", "--config", str(tmp_path / "b/run.json"), "--out", str(tmp_path / "b")]
    assert main(again) == 0
    assert "this run is there, finished" in capsys.readouterr().out
    assert (
        main(["train", "simclr", *words[2:], "--encoder.weights", str(tmp_path / "a"), "--out", str(tmp_path / "c")])
        == 0
    )
    run = json.loads((tmp_path / "c/run.json").read_text())["run"]
    assert (run["encoder"]["name"], run["data"]["size"]) == ("test_resnet", 24)


def test_weights_that_do_not_fit_leave_nothing(file, tmp_path, capsys):
    words = ["train", "byol", "--data", "digits", "--encoder", "test_vit", "--encoder.weights", str(file)]
    assert main([*words, "--size", "32", "--out", str(tmp_path / "out")]) == 2
    assert "does not fit test_vit" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- models by what names them ----------------------------------------------------------------------------------------


def test_a_model_of_each_kind(file, tmp_path):
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(file.read_bytes())
    of_file = open_model(file)
    assert (of_file.dim, of_file.views.size, of_file.views.mean) == (of_file.encoder.dim, 24, (0.5, 0.5, 0.5))
    assert not of_file.remarks
    with pytest.raises(InputError, match=r"name it, as in --encoder resnet18"):
        open_model(plain)
    named = open_model(plain, encoder="test_resnet", size=48)
    assert named.views.size == 48
    assert "ImageNet's mean and std are taken" in named.remarks[0]
    plain_network = timm.create_model("test_resnet", num_classes=0).eval()
    plain_network.load_state_dict(of_file.encoder.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its language is deprecated
        scripted = torch.jit.trace(plain_network, torch.zeros(1, 3, 24, 24))
    scripted.save(str(tmp_path / "net.ts"))
    program = open_model(tmp_path / "net.ts", size=24)
    x = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        assert torch.allclose(program.encoder(x), of_file.encoder(x), atol=1e-5)
    assert program.untrained() is None


def test_maps_and_tokens_are_pooled_and_it_is_said():
    maps = open_model(nn.Conv2d(3, 5, 3, stride=2), size=16)
    assert maps.dim == 5
    assert "it gives maps of 7 x 7: their mean is taken" in maps.remarks
    tokens = open_model(nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.Flatten(2)), size=16)
    assert tokens.dim == 16
    with pytest.raises(InputError, match=r"gives \(2, 16, 16\)|gives .* for two pictures|cannot take"):
        open_model(nn.Sequential(nn.Flatten(0)), size=16)


def test_an_untrained_model_is_a_function_of_its_seed(file):
    model = open_model(file)
    one, same, other = (model.untrained(seed) for seed in (0, 0, 1))
    weight = [next(iter(network.parameters())) for network in (one, same, other, model.encoder)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])
    assert not torch.equal(weight[0], weight[3])
    plain = open_model(nn.Conv2d(3, 5, 3), size=8)
    assert not torch.equal(plain.untrained().network.weight, plain.encoder.network.weight)


def test_what_is_no_model_is_one_line(tmp_path):
    (tmp_path / "x.onnx").write_text("no")
    for what, said in (
        ("torchvision:resnet", "torchvision has no such model of pictures; did you mean 'torchvision:resnet18'"),
        ("torchvision:nothing", "torchvision has no such model of pictures; it has resnet18, for one"),
        ("torchvision:raft_small", "torchvision has no such model of pictures"),
        ("torchvision:resnet18.ZZ", "torchvision has no such weights of resnet18, but IMAGENET1K_V1"),
        (tmp_path / "x.onnx", "x.onnx"),
        ("nothing", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            open_model(what)
        assert len(str(caught.value).splitlines()) == 1
