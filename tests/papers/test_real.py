"""What the documents report, on real pictures, in runs short enough for a test."""

from dataclasses import replace

import pytest
import torch

from vergence import config as c
from vergence.engine.where import Where
from vergence.presets import preset
from vergence.runs import run_training

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def data_dir(real_data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERGENCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield real_data / "cifar10"


def short(name, **changes):
    """The paper's heads and target on 2,000 pictures of CIFAR-10 at 32 px, with a small encoder and a larger rate."""
    run = preset("raft", name, c.CIFAR10())
    return replace(
        run,
        data=c.CIFAR10(),
        views=c.VIEWS["blog"],
        encoder=c.Encoder(name="test_resnet"),
        optimizer=c.Adam(lr=2e-3),
        subset=2000,
        batch_size=64,
        **changes,
    )


def trained(run, folder, data_dir):
    torch.set_num_threads(1)
    return run_training(run, folder, where=Where(data_dir=data_dir))


def test_byol_without_predictor_collapses(tmp_path, data_dir):
    """RAFT, Section 3: alignment is over-optimized and uniformity lost."""
    summary = trained(short("BYOL-NP", epochs=16), tmp_path / "run", data_dir)
    assert summary["verdict"]["state"] in ("complete collapse", "dimensional collapse")
    assert summary["final"]["neg_cos"] > 0.95
    assert summary["final"]["uniformity"] > -0.1
    assert summary["final"]["alignment"] < 0.05


def test_byol_with_batch_norm_does_not(tmp_path, data_dir):
    run = short("byol", epochs=6)
    run = replace(run, method=replace(run.method, predictor=c.MLPPredictor(norm="batch")))
    summary = trained(run, tmp_path / "run", data_dir)
    assert summary["verdict"]["state"] == "healthy"
    assert summary["final"]["neg_cos"] < 0.5
    assert summary["final"]["uniformity"] < -1


@pytest.mark.filterwarnings("default:.*not used")
def test_a_folder_of_photos_in_one_line(tmp_path, real_data, monkeypatch, capsys):
    """Clothing, 96 px: labels are found and scored, views are of the pictures' size, and what is not used is named."""
    from vergence.command import cli

    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = ["train", "simclr", "--data", str(real_data / "clothing96"), "--subset", "256", "--epochs", "1"]
    assert cli.main([*words, "--encoder", "test_resnet", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "summary.json").exists()
    assert capsys.readouterr().err.count("341 pictures in validation/") == 1
