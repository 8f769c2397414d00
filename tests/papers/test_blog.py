"""The post's study: its rows, and what its claims are judged by."""

from pathlib import Path

import pytest
from markupsafe import escape

from vergence import config as c
from vergence.papers import blog
from vergence.papers.blog.claims import EARLY, LONG_ENOUGH
from vergence.report.page import render
from vergence.study import Bars, Panels, Place, Result, differing, page_of

study = blog.study


def synthetic(run, *, accuracy=50.0, neg_cos=0.3, pos_cos=0.9, rates=None, lines=None, step=410, z_std=None):
    """A finished run whose numbers are what they are told to be; `neg_cos` may be a function of the epoch."""
    epochs = range(1, (lines or run.epochs) + 1)
    log = [
        {
            "step": epoch * step,
            "epoch": float(epoch),
            "loss": 0.5,
            "pos_cos": pos_cos,
            "neg_cos": (cosine := neg_cos(epoch) if callable(neg_cos) else neg_cos),
            "z_std": (1 - cosine) ** 0.5 if z_std is None else z_std,
            "online": {"logistic": {"accuracy": accuracy}},
            "layers": {"encoder.layer1": {"weight": 1.0, "gradient": 0.1, "rate": rates(epoch) if rates else 0.1}},
        }
        for epoch in epochs
    ]
    summary = {"logistic": {"accuracy": accuracy}, "verdict": {"state": "healthy"}}
    return Result(run, Path("somewhere"), log if run.epochs else [], summary)


FULL = study.runs(study.full)
GN = "GN encoder, SGD, no MLP BN"


def results_of(**changes):
    """All rows as the post has them, three seeds a little apart; a row's numbers can be changed."""
    collapsed = {"accuracy": 28.0, "neg_cos": 0.9999}
    late = {"accuracy": 60.0, "neg_cos": lambda epoch: 0.999 if epoch < 100 else 0.5}
    story = {name: {"accuracy": 60.0} for name in FULL} | {
        "Contrastive Loss": {"accuracy": 44.1, "neg_cos": 0.53},
        "BYOL": {"accuracy": 57.7, "neg_cos": 0.27, "pos_cos": 0.88},
        "Projection BN Only": {"accuracy": 55.3},
        "Prediction BN Only": {"accuracy": 48.0},
        "No Normalization": collapsed,
        "Layer Norm": collapsed | {"accuracy": 29.4},
        "Random": {"accuracy": 28.8},
        "BN encoder, SGD, no MLP BN": late,
        GN: collapsed,
        "GN encoder, LARS 0.5, no MLP BN": {"rates": lambda epoch: -abs(epoch - 2.0)},
        "GN encoder, LARS 0.2, no MLP BN": late,
        "GN encoder, LARS 0.1, no MLP BN": collapsed | {"rates": lambda epoch: -abs(epoch - 9.0)},
        "GN encoder, LARS on the MLPs": collapsed,
        "GN encoder, SGD, layers 1 and 2 at 10 times the rate": collapsed,
        "GN encoder, SGD 0.2, weight decay 1e-05": late,
        "GN encoder with weight standardization, SGD": late,
    }
    for decay in ("0", "1e-06", "0.0001", "0.001"):
        story[f"GN encoder, SGD 0.2, weight decay {decay}"] = collapsed
    for name, change in changes.items():
        story[name] = story[name] | change
    return {
        name: [
            synthetic(FULL[name], **numbers | {"accuracy": numbers.get("accuracy", 60.0) + d}) for d in (-0.2, 0.0, 0.2)
        ]
        for name, numbers in story.items()
    }


def outcomes(results):
    return {finding.slug: finding.outcome for finding in study.findings(results)}


def test_every_claim_holds_on_the_posts_own_numbers():
    assert set(outcomes(results_of()).values()) == {"holds"}


def test_without_results_nothing_is_decided_and_nothing_breaks():
    assert set(outcomes({}).values()) == {"not decided"}
    assert [table.slug for table in study.tables({})] == ["performance", "long-runs"]
    assert all(row.cells["Performance"].n == 0 for table in study.tables({}) for row in table.rows)
    assert len(study.figures({})) == 7


@pytest.mark.parametrize(
    ("slug", "row", "change"),
    [
        ("no-norm-is-random", "No Normalization", {"accuracy": 35.0}),
        ("byol-learns", "BYOL", {"accuracy": 30.0}),
        ("one-bn-is-enough", "Prediction BN Only", {"accuracy": 29.0}),
        ("projection-matters-most", "Prediction BN Only", {"accuracy": 59.0}),
        ("layer-norm-does-not-help", "Layer Norm", {"accuracy": 40.0}),
        ("contrast-needs-no-norm", "Contrastive Loss", {"accuracy": 30.0}),
        ("no-norm-is-one-point", "Layer Norm", {"neg_cos": 0.6}),
        ("byol-separates", "BYOL", {"neg_cos": 0.8}),
        ("encoder-bn-recovers", "BN encoder, SGD, no MLP BN", {"neg_cos": 0.999}),
        ("encoder-bn-recovers", "BN encoder, SGD, no MLP BN", {"neg_cos": 0.3}),
        ("lars-with-encoder-bn-does-not-collapse", "BN encoder, LARS 0.2, no MLP BN", {"neg_cos": 0.99}),
        ("no-bn-at-all-never-recovers", GN, {"neg_cos": 0.5}),
        ("mlp-bn-prevents-collapse", "GN encoder, SGD, MLP BN", {"neg_cos": 0.99}),
        ("weight-decay-can-recover", "GN encoder, SGD 0.2, weight decay 1e-05", {"neg_cos": 0.99}),
        ("weight-decay-can-recover", "GN encoder, SGD 0.2, weight decay 0.001", {"neg_cos": 0.4}),
        ("weight-standardization-recovers", "GN encoder with weight standardization, SGD", {"neg_cos": 0.99}),
        ("lars-recovers", "GN encoder, LARS 0.1, no MLP BN", {"neg_cos": 0.3}),
        ("lars-recovers", "GN encoder, LARS 0.2, no MLP BN", {"accuracy": 29.0}),
        ("mlp-bn-prevents-collapse", "GN encoder, SGD, MLP BN", {"z_std": 0.02}),  # one point, the target's elsewhere
        ("lars-on-two-layers", "GN encoder, LARS on layers 1 and 2", {"neg_cos": 0.99}),
        ("higher-rate-is-not-enough", "GN encoder, SGD, layers 1 and 2 at 10 times the rate", {"neg_cos": 0.3}),
        ("lars-on-the-mlps-collapses-again", "GN encoder, LARS on the MLPs", {"neg_cos": 0.3}),
        ("timing-of-the-rate", "GN encoder, LARS 0.5, no MLP BN", {"rates": lambda epoch: -abs(epoch - 9.0)}),
    ],
)
def test_each_claim_can_fail(slug, row, change):
    assert outcomes(results_of(**{row: change}))[slug] == "does not hold"


@pytest.mark.parametrize("slug", ["no-bn-at-all-never-recovers", "encoder-bn-recovers", "lars-recovers"])
def test_a_short_run_does_not_decide_what_needs_a_long_one(slug):
    short = {
        name: [synthetic(run, neg_cos=0.999, accuracy=28.0)] for name, run in study.runs(study.scales["smoke"]).items()
    }
    assert outcomes(short)[slug] == "not decided"


def test_a_few_hundred_steps_decide_nothing_and_say_so():
    few = {
        name: [synthetic(run, neg_cos=0.999, accuracy=28.0, step=16)]
        for name, run in study.runs(study.scales["smoke"]).items()
    }
    found = study.findings(few)
    assert {finding.outcome for finding in found} == {"not decided"}
    assert all(finding.numbers.endswith("Runs of 160 steps; judged from 1,000 on") for finding in found)


def test_the_spread_over_seeds_can_leave_a_claim_open():
    results = results_of()
    run = FULL["No Normalization"]
    results["No Normalization"] = [synthetic(run, accuracy=a) for a in (20.0, 30.0, 42.0)]
    assert outcomes(results)["no-norm-is-random"] == "not decided"


def test_the_table_is_the_posts():
    table, _ = study.tables(results_of())
    rows = {row.name: row.cells for row in table.rows}
    assert list(rows) == list(blog.PUBLISHED)
    assert [rows["Projection BN Only"][f"{head} MLP Norm"] for head in ("Projection", "Prediction")] == [
        "Batch Norm",
        "None",
    ]
    assert [cells["Contrastive"] for cells in rows.values()] == ["Explicit", *["Implicit"] * 3, *["None"] * 3]
    assert [cells["Loss Function"] for cells in rows.values()] == ["Cross Entropy", *["L2"] * 5, "—"]
    value = rows["BYOL"]["Performance"]
    assert (value.n, value.published) == (3, "57.7")
    assert value.mean == pytest.approx(57.7)
    assert value.spread == pytest.approx(0.2)


def test_the_page_is_made():
    page = page_of(study, study.full, results_of(), {}, "vergence reproduce blog")
    assert escape(study.title) in render(page)


def test_figures_hold_the_results():
    figures = {figure.slug: figure.drawing for figure in study.figures(results_of())}
    assert isinstance(figures["cosines"], Bars)
    assert figures["cosines"].series["different pictures"][0] == pytest.approx(0.27)
    accuracy = figures["accuracy"]
    assert isinstance(accuracy, Panels)
    assert [curve.name for curve in accuracy.panels[0].curves][-1] == "Random"
    assert len(figures["layers"].panels) == 3 * len(blog.TRACED)
    distance = figures["weight-decay"].panels[0].curves[0]
    assert distance.y[0] == pytest.approx(2 - 2 * 0.9999)
    assert len(figures["weight-decay"].panels[0].curves) == len(blog.WEIGHT_DECAYS)


@pytest.mark.parametrize("scale", study.scales)
def test_every_scale_has_every_row(scale):
    runs = study.runs(study.scales[scale])
    assert set(runs) == {*blog.PUBLISHED, *blog.LONG}
    assert len({run.key for run in runs.values()}) == len(runs)
    jobs = study.plan(study.scales[scale], Place())
    names = [job.name for of_row in jobs.values() for job in of_row]
    assert len(set(names)) == len(names) == sum(study.scales[scale].seeds_of(row) for row in runs)


def test_overnight_can_decide_every_claim():
    """Its rows are as long as the rules ask for, and those of which the post says usually or sometimes are repeated."""
    scale = study.scales["overnight"]
    runs = study.runs(scale)
    steps = {row: run.epochs * (50_000 // run.batch_size) for row, run in runs.items()}
    assert all(steps[row] >= EARLY for row in blog.TABLE if row != "Random")
    assert all(steps[row] >= LONG_ENOUGH for row in blog.LONG)
    assert [scale.seeds_of(row) for row in (*blog.TABLE, *blog.SOMETIMES)] == [3] * 7 + [5] * 3
    assert set(blog.SOMETIMES) < set(blog.LONG)
    (seeds,) = (line for line in study.differences(scale) if line.startswith("seeds"))
    assert seeds.startswith("seeds: 3 -> 1; 3 of Contrastive Loss, BYOL, ")
    assert study.plan(scale, Place())["BYOL"][2].run.seed == 2


def test_published_settings():
    byol = FULL["BYOL"]
    assert (byol.data.kind, byol.views.size, byol.batch_size) == ("stl10", 96, 256)
    assert (byol.epochs, byol.schedule_epochs) == (10, 320)
    assert byol.optimizer == c.SGD(lr=0.8, momentum=0.9, weight_decay=1e-4)
    assert FULL["Contrastive Loss"].optimizer.lr == 0.02
    assert FULL["Random"].epochs == 0
    assert FULL["GN encoder, LARS 0.2, no MLP BN"].epochs == 320
    assert study.full.seeds == 3


def test_deviations_are_computed_from_the_runs():
    assert study.differences(study.full) == []
    said = study.differences(study.scales["smoke"])
    assert 'encoder.name: "resnet18" -> "test_resnet"' in said
    assert "seeds: 3 -> 1" in said
    assert f"epochs: 320 -> {study.scales['smoke'].long} (in 17 of 24 rows)" in said
    one = {"a": c.Run(method=c.BYOL())}
    assert differing(one, {"a": c.Run(method=c.BYOL(), epochs=3)}) == ["epochs: 10 -> 3"]
