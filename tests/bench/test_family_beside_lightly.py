"""The family beside lightly's: equal heads and optimizers, work that is left, and the table."""

import argparse
import copy
import json

import pytest
import torch

from benchmark_scripts import fill, script
from vergence import config as c
from vergence import methods

ASKED = {"encoder": "test_resnet", "pictures": 1000, "epochs": 2, "seeds": 2, "side": "both"}


@pytest.fixture(scope="module")
def family():
    return script("family")


@pytest.fixture
def lightly_methods():
    pytest.importorskip("lightly", reason="LIGHTLY IS MISSING: nothing was compared")
    return script("lightly_methods")


def asked(**changes):
    return argparse.Namespace(**(ASKED | {"methods": ["simsiam", "directpred"]} | changes))


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")  # by lightly's head of DINO
@pytest.mark.parametrize(
    "name",
    ["simclr", "moco", "byol", "simsiam", "barlow-twins", "vicreg", "nnclr", "swav", "dino", "sigreg", "w-mse"],
)
def test_lightlys_method_has_our_matrices_and_the_runs_rate(family, lightly_methods, name):
    run = family.run_of(asked(), name, 0)
    ours = methods.build(run)
    dim = ours.encoder.dim
    given = lightly_methods.Given(ours.encoder, copy.deepcopy(ours.encoder), dim, run.batch_size, 7, 14)
    shapes = family._matrices(ours)
    peer = lightly_methods.PEERS[name](run.method, given).train()
    assert family._matrices(peer) == shapes
    optimizer, scheduler = lightly_methods.optimizer_of(run, peer, 14)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in peer.parameters() if p.requires_grad}
    assert scheduler.base_lrs == [run.optimizer.lr] * len(optimizer.param_groups)
    peer(*torch.rand(2, run.batch_size, 3, 32, 32), 0).sum().backward()
    assert any(p.grad is not None for p in peer.encoder.parameters())


def test_the_methods_are_those_of_lightly_and_those_that_are_alone(family, lightly_methods):
    assert {*lightly_methods.PEERS, *family.ALONE} == {*family.METHODS}


def test_a_setting_of_the_optimizer_that_is_not_imitated_is_refused(family, lightly_methods):
    run = c.Run(method=c.SimSiam(), optimizer=c.SGD(clip=1.0))
    with pytest.raises(ValueError, match="simsiam: the settings of its optimizer are not imitated"):
        lightly_methods.optimizer_of(run, torch.nn.Linear(2, 2), 10)


def test_the_predictor_of_simsiam_keeps_its_rate(family, lightly_methods):
    run = family.run_of(asked(), "simsiam", 0)
    encoder = methods.build(run).encoder
    peer = lightly_methods.SimSiam(run.method, lightly_methods.Given(encoder, encoder, encoder.dim, 128, 5, 10))
    optimizer, scheduler = lightly_methods.optimizer_of(run, peer, 10)
    assert {id(p) for p in optimizer.param_groups[1]["params"]} == {id(p) for p in peer.predictor.parameters()}
    assert [rate(5) for rate in scheduler.lr_lambdas] == [pytest.approx(0.5), 1.0]


def test_what_is_done_is_not_done_again(family):
    done = [{"method": "simsiam", "side": "ours", "seed": 0}, {"method": "directpred", "side": "ours", "seed": 1}]
    left = family.work_of(asked(), done)
    assert left == [
        ("simsiam", "lightly", 0),
        ("directpred", "ours", 0),
        ("simsiam", "ours", 1),
        ("simsiam", "lightly", 1),
    ]
    assert family.work_of(asked(side="lightly", methods=["directpred"]), []) == []


def test_a_file_of_other_settings_is_refused(family, tmp_path):
    out = tmp_path / "family.json"
    out.write_text(json.dumps({"settings": {"epochs": 3}, "results": []}))
    with pytest.raises(SystemExit, match="choose another --out"):
        family.begun(asked(out=out, threads=1))


def test_the_median_is_over_spans_without_the_first_steps(family):
    clock = family.Clock()
    clock.times = [0, 50, *(100 + t for t in (0, 0, 4, 4, 8, 8, 12, 12))]
    assert clock.median(2) == 2


def result(method, side, seed, knn, **more):
    scores = {"knn": knn, "linear": knn + 1, "step_s": 0.5, "core_s": 1.0}
    verdict = {"verdict": "healthy"} if side == "ours" else {}
    return {"method": method, "side": side, "seed": seed, **scores, **verdict, **more}


def test_the_table_has_means_differences_and_faults(tmp_path):
    tables = script("tables")
    results = [
        *(result("vicreg", "ours", seed, 50 + 2 * seed) for seed in range(2)),
        *(result("vicreg", "lightly", seed, 49 + 2 * seed) for seed in range(2)),
        result("directpred", "ours", 0, 40.0),
        result("w-mse", "ours", 0, 30.0),
        {"method": "w-mse", "side": "lightly", "seed": 0, "steps": 3, "error": "not positive-definite"},
    ]
    record = {"format": 1, "what": "family", "date": "2026-01-02", "commit": "abcdef0", "results": results}
    record |= {"settings": {"epochs": 2}, "versions": {"lightly": "1.6.0"}}
    record |= {"environment": {"device": "cpu", "device_name": "a CPU", "cores": 2, "torch": "2", "python": "3"}}
    (tmp_path / "family.json").write_text(json.dumps(record))
    page = fill(tables, "family", tmp_path)
    vicreg = "51.00 ± 1.41 | 50.00 ± 1.41 | +1.00 | 52.00 ± 1.41 | 51.00 ± 1.41 | +1.00"
    assert f"| vicreg | {vicreg} | 0.5000 (1.0000) | 0.5000 (1.0000) | healthy |" in page
    assert "| directpred | 40.00 |  |  | 41.00 |  |  | 0.5000 (1.0000) |  | healthy |" in page
    assert "| w-mse | 30.00 | 1 ended by a fault |  |" in page
    assert "abcdef0; torch 2, python 3. epochs 2, lightly 1.6.0." in page
