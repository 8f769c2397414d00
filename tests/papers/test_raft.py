"""The RAFT paper as a study: every row a valid run, every claim judged on numbers that can change its outcome."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from markupsafe import escape

from small_runs import small
from vergence import config as c
from vergence.config.schema import canonical, from_dict, to_dict
from vergence.engine.reporter import Reporter
from vergence.papers import raft
from vergence.papers.raft import HEADLINE, claims, drawings
from vergence.papers.raft.rows import (
    CODE,
    DEVELOPED,
    EPOCH,
    NEITHER,
    OPTIMIZER,
    PICTURES,
    RANDOM,
    REGULARIZER,
    SUPERVISED,
    SWEEP,
    SWEPT,
    class_of,
    document,
    straightness,
    swept,
    window,
)
from vergence.presets import NAMES
from vergence.report.page import render
from vergence.report.tables import markdown, plain, show
from vergence.runs.training import Training
from vergence.study import Bars, Circles, Lines, Panels, Place, Result, Scale, Value, make_panels, page_of

study = raft.study
FULL, SHORT, SMOKE = (study.scales[name] for name in ("full", "short", "smoke"))

# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", study.scales.values(), ids=study.scales)
def test_every_row_is_a_valid_run_of_its_own(scale):
    runs = study.runs(scale)
    for name, run in runs.items():
        assert from_dict(c.Run, to_dict(run)) == run, name
    assert len({canonical(run) for run in runs.values()}) == len(runs)
    assert {*NAMES, RANDOM, SUPERVISED} <= set(runs)
    assert {swept(name, weights) for name in SWEPT for weights in SWEEP} <= set(runs)
    assert study.base in runs
    assert all(run.epochs == (0 if name.startswith(RANDOM) else scale.epochs) for name, run in runs.items())
    code = {name + CODE for name in (*NAMES, RANDOM)}
    assert not code & set(runs) if scale is SHORT else code <= set(runs)


def test_the_full_scale_is_what_was_published():
    runs = study.runs(FULL)
    assert runs == document()
    assert FULL.seeds == 3
    run = runs["BYOL-MLPP"]
    assert (run.data, run.views.size, run.epochs, run.batch_size) == (c.CIFAR10(size=96), 96, 300, 128)
    assert run.optimizer == c.Adam(lr=3e-4)
    assert run.method.predictor == c.MLPPredictor(norm="none")
    assert run.method.target == c.MovingAverage(decay=0.996, decay_schedule="constant")
    assert replace(runs[RANDOM], epochs=300) == run
    theirs = runs["BYOL-MLPP" + CODE]
    assert (theirs.encoder.stem, theirs.views.size, theirs.batch_size) == ("cifar", 32, 1024)
    assert theirs.method.predictor == c.MLPPredictor(hidden=512)
    assert theirs.method.projector.out == 256
    assert theirs.method.target.start == "independent"
    assert runs["RAFT-LPI" + CODE].method.predictor == c.LinearIdentityPredictor()


def test_overnight_can_decide_every_claim():
    scale = study.scales["overnight"]
    runs = study.runs(scale)
    assert set(runs) == set(document())
    assert all(run.epochs * (PICTURES // run.batch_size) >= DEVELOPED for run in runs.values() if run.epochs)
    assert {scale.seeds_of(row) for row in HEADLINE} == {3}
    assert {scale.seeds_of(row) for row in {*runs} - {*HEADLINE}} == {1}


def test_rows_of_the_sweep_differ_in_their_weights_only():
    runs = study.runs(FULL)
    for name in SWEPT:
        for alpha, beta in SWEEP:
            run = runs[swept(name, (alpha, beta))]
            assert (run.method.alpha, run.method.beta) == (alpha, beta)
            base = runs[name if beta else name.replace("RAFT", "BYOL'")]
            assert replace(run, method=replace(run.method, alpha=1.0, beta=1.0)) == base
    assert swept("RAFT-LP", (1, 1)) == "RAFT-LP"
    assert swept("RAFT-NP", (1, 0)) == swept("BYOL'-NP", (1, 0))  # without the term its sign decides nothing


def test_jobs_look_into_the_rows_of_figures_and_repeat_each_over_seeds():
    jobs = study.plan(FULL, Place(device="cuda"))
    assert list(jobs) == list(study.runs(FULL))
    assert all([job.run.seed for job in row] == [0, 1, 2] for row in jobs.values())
    assert len({job.name for row in jobs.values() for job in row}) == 3 * len(jobs)
    for name, row in jobs.items():
        shown = {*drawings.FIGURE_3, *drawings.FIGURE_4, *drawings.INSIDE}
        assert (row[0].periods.trace_every > 0) == (name in shown)
        assert row[0].periods.online == (("linear-raft",) if name in drawings.FIGURE_4 else ())
        assert row[0].periods.log_every == (12 if name.endswith(CODE) else 97)
    assert {name.removesuffix(CODE) for name in study.plan(SMOKE, Place())} == {n.removesuffix(CODE) for n in jobs}


def test_deviations_are_computed_and_name_the_recipe():
    assert study.differences(FULL) == []
    assert study.differences(SHORT) == [
        "seeds: 3 -> 1",
        "epochs: 300 -> 12",
        "left out: Table 1 by the authors' code",
    ]
    lines = study.differences(SMOKE)
    assert 'encoder.name: "resnet18" -> "test_resnet"' in lines
    assert "authors' code: batch_size: 1024 -> 64" in lines
    assert not any("(in " in line for line in lines)  # each holds of all rows of its recipe


# --- made-up results --------------------------------------------------------------------------------------------------

EPOCHS = 60
DOCUMENT = document()


def made(name, *, accuracy=60.0, alignment=0.3, uniformity=(-0.5, -2.0), loss=1.0, epochs=EPOCHS, steps=EPOCH, seed=0):
    """A result whose curves go straight from one value to another, or through all values of a list, an epoch each."""
    run = replace(DOCUMENT[name], epochs=epochs, seed=seed)

    def course(values):
        values = list(values) if isinstance(values, list | tuple) else [values, values]
        if len(values) == epochs:
            return values
        first, last = values
        return [first + (last - first) * i / max(1, epochs - 1) for i in range(epochs)]

    courses = {"alignment": course(alignment), "uniformity": course(uniformity), "loss": course(loss)}
    lines = [
        {"step": steps * (i + 1), "epoch": i + 1.0, "neg_cos": 0.5}
        | {key: values[i] for key, values in courses.items()}
        for i in range(epochs)
    ]
    summary = {"linear-raft": {"accuracy": accuracy, "protocol": "a layer"}, "knn": {"accuracy": 50.0, "protocol": ""}}
    return Result(run, Path(), lines, summary | ({"verdict": {"state": "healthy"}} if lines else {}))


POINT = {"alignment": (0.5, 0.001), "uniformity": (-0.5, -0.001)}
LPI = [-0.5, -0.3, -0.1, -0.05, *[-0.05 - 0.03 * i for i in range(EPOCHS - 4)]]
AS_PUBLISHED = {
    **{name: {"accuracy": 67.0} for name in NAMES},
    "BYOL-LPI": {"accuracy": 66.0, "uniformity": LPI, "loss": [1.0, *[0.1] * (EPOCHS - 1)]},
    "BYOL-NP": {"accuracy": 21.0, **POINT},
    RANDOM: {"accuracy": 42.7, "epochs": 0},
    **{swept("RAFT-LP", (1, beta)): {"accuracy": 67.0} for beta in drawings.BETAS},
    **{swept("BYOL'-NP", (1, beta)): {"accuracy": 21.0, **POINT} for beta in drawings.BETAS},
    **{
        swept("RAFT-NP", (1, beta)): {"accuracy": 40.0, "alignment": 0.02 + 0.1 * beta, "uniformity": (-0.4, -0.3)}
        for beta in drawings.BETAS
    },
    swept("RAFT-NP", (1, 0.1)): {"accuracy": 21.0, **POINT},
}


def results_of(**changes):
    rows = {name: fields | changes.get(name, {}) for name, fields in AS_PUBLISHED.items()}
    return {name: [made(name, **fields, seed=seed) for seed in range(2)] for name, fields in rows.items()}


def outcomes(results):
    return {finding.slug: finding.outcome for finding in study.findings(results)}


def test_all_claims_hold_where_all_is_as_published():
    assert set(outcomes(results_of()).values()) == {"holds"}


FLIPS = {
    "np-below-random": {"BYOL-NP": {"accuracy": 45.0}},
    "mlpp-above-random": {"BYOL-MLPP": {"accuracy": 50.0}},
    "np-collapses": {"BYOL-NP": {"uniformity": (-0.5, -0.5)}},
    "predictors-close": {"BYOL-LPI": {"accuracy": 55.0}},
    "lpi-recovers": {"BYOL-LPI": {"uniformity": (-0.5, -0.01)}},
    "uniformity-constant-rate": {"BYOL-LP": {"uniformity": (-0.5, -0.5)}},
    "bound-close": {"BYOL'-NP": {"accuracy": 40.0}},
    "bound-subtle-when-linear": {"BYOL'-LP": {"accuracy": 64.0}},
    "bound-np-collapses": {"BYOL'-NP": {"alignment": 0.4}},
    "raft-works": {"RAFT-MLPP": {"accuracy": 50.0}},
    "raft-np-no-better-than-random": {"RAFT-NP": {"accuracy": 50.0}},
    "raft-np-regularizes": {"RAFT-NP": {"alignment": (0.5, 0.001)}},
    "bound-np-whatever-beta": {swept("BYOL'-NP", (1, 10)): {"alignment": 0.4}},
    "raft-np-beta-helps": {swept("RAFT-NP", (1, 10)): {"alignment": 0.03}},
    "raft-np-uniformity": {swept("RAFT-NP", (1, 10)): {"uniformity": (-0.4, -1.4)}},
    "raft-lp-uniformity": {swept("RAFT-LP", (1, 0.1)): {"uniformity": (-0.5, -0.5)}},
    "raft-np-hard-to-balance": {swept("RAFT-NP", (1, 2)): {"accuracy": 50.0}},
    "tangential-no-collapse": {"TanRAFT-LP": {"uniformity": (-0.5, -0.01)}},
    "one-encoder": {"RAFT-LP": {"uniformity": (-0.5, -2.9)}},
    "three-classes": {"RAFT-MLPP": {"uniformity": (-0.5, -0.4)}},
}


@pytest.mark.parametrize("slug", FLIPS)
def test_each_claim_falls_with_its_numbers(slug):
    assert outcomes(results_of(**FLIPS[slug]))[slug] == "does not hold"


def test_every_claim_has_a_test_that_turns_it():
    slugs = [claim.slug for claim in claims.CLAIMS]
    assert slugs == list(FLIPS)
    for claim in claims.CLAIMS:
        assert set(claim.check.rows) <= set(DOCUMENT)
        assert claim.check.rows
        assert claim.source.startswith(("Section", "Figure"))


def test_short_runs_decide_nothing_and_say_so():
    found = study.findings({n: [made(n, **f, steps=10) for _ in range(2)] for n, f in AS_PUBLISHED.items()})
    assert {finding.outcome for finding in found} == {"not decided"}
    assert all("Runs of 600 steps; judged from" in finding.numbers for finding in found)


def test_what_is_missing_leaves_claims_open_and_breaks_nothing():
    found = study.findings({})
    assert {finding.outcome for finding in found} == {"not decided"}
    assert "not run: Random, BYOL-NP" in found[0].numbers
    assert [table.slug for table in study.tables({})] == ["table-2"]
    assert [figure.slug for figure in study.figures({})] == ["figure-2a"]
    whole = results_of()
    for name in ("BYOL-LPI", "BYOL-NP", "RAFT-LP", swept("RAFT-NP", (1, 10)), RANDOM):
        for partial in ({name: whole[name][:1]}, whole | {name: []}):
            study.tables(partial)
            study.figures(partial)
            study.findings(partial)
    one_seed = whole | {RANDOM: whole[RANDOM][:1]}
    assert "Random 42.7 (n = 1); BYOL-NP 21.0 ± 0.0 (n = 2)" in study.findings(one_seed)[0].numbers


def test_a_seed_that_recovers_and_one_that_does_not_leave_the_claim_open():
    results = results_of()
    results["BYOL-LPI"][1] = made("BYOL-LPI", **AS_PUBLISHED["BYOL-LPI"] | {"uniformity": (-0.5, -0.01)}, seed=1)
    assert outcomes(results)["lpi-recovers"] == "not decided"


def test_classes_follow_their_rule():
    assert class_of(made("RAFT-LP")) == OPTIMIZER
    assert class_of(made("RAFT-NP", uniformity=-0.4)) == REGULARIZER
    assert class_of(made("BYOL'-NP", **POINT)) == NEITHER
    assert class_of(made("RAFT-LP", steps=DEVELOPED // EPOCHS - 1)) is None
    assert class_of(made(RANDOM, epochs=0)) is None


def test_ends_are_the_last_ten_epochs_or_a_quarter():
    assert [window(replace(DOCUMENT["RAFT-LP"], epochs=n)) for n in (300, 40, 12, 8, 1)] == [10, 10, 3, 2, 1]


def test_a_straight_line_is_straight_and_a_step_is_not():
    fit, fall = straightness([5, 5, 5, 5, 4, 3, 2, 1])
    assert (fit, fall) == (pytest.approx(1), pytest.approx(3))
    assert straightness([0] * 9 + [0, 0, 0, 0, 0, -9, -9, -9])[0] < 0.9
    assert straightness([1, 1]) == (0, 0)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_tables_hold_every_row_with_spread_and_published_values():
    found = {table.slug: table for table in study.tables(results_of())}
    assert list(found) == ["table-1", "table-2", "table-3", "figure-2b"]
    one = {row.name: row for row in found["table-1"].rows}
    assert set(one) == {*NAMES, RANDOM}
    assert one["BYOL-MLPP"].cells["linear"] == Value(mean=67.0, spread=0.0, n=2, published="68.08 ± 0.84")
    assert one["BYOL-MLPP"].cells["verdict"] == "healthy"
    assert one[RANDOM].cells["verdict"] == "untrained"
    assert one[RANDOM].cells["alignment"] == Value(mean=None)
    assert len(one["RAFT-LP"].runs) == len(set(one["RAFT-LP"].runs)) == 2
    assert "means over the last 10 epochs" in found["table-1"].note
    three = {row.name: row.cells for row in found["table-3"].rows}
    assert (three["RAFT-LP"]["q_w"], three["RAFT-NP"]["q_w"], three[RANDOM]["alpha"]) == ("W", "none", "—")
    assert three[swept("RAFT-NP", (1, 10))]["beta"] == "10"
    classes = {row.name: row.cells["class"] for row in found["figure-2b"].rows}
    assert classes["RAFT-NP"] == REGULARIZER
    assert "lower than in the first epoch" in found["figure-2b"].note


def test_the_table_by_the_authors_code_says_what_differs():
    name = "BYOL-LP" + CODE
    table = next(t for t in study.tables({name: [made(name)]}) if t.slug == "table-1-code")
    assert [row.name for row in table.rows] == [name]
    for word in ("CIFAR stem", "32 px", "1/256", "last ten epochs", "no blur", "1,024"):
        assert word in table.note


def test_table_2_is_made_from_the_configurations():
    table = next(table for table in study.tables({}) if table.slug == "table-2")
    cells = {row.name: row.cells for row in table.rows}
    assert list(cells) == list(NAMES)
    for name, method in NAMES.items():
        assert ("tangential" in cells[name]["gradient"]) == name.startswith("Tan")
        sign = {"byol": "d²(p₁, z'₂)", "byol-prime": "+ 1 cross-model", "raft": "- 1 cross-model"}[method.kind]
        assert sign in cells[name]["objective"]
        word = {"MLPP": "perceptron of 2 layers", "LP": "random matrix", "LPI": "identity", "NP": "none"}
        assert word[name.split("-")[1]] in cells[name]["predictor"]
    assert "2 alignment(p₁, p₂) - 0.5 cross-model" in raft.objective(c.RAFT(alpha=2, beta=0.5))
    assert "batch norm" in raft.predictor(c.RAFT(predictor=c.LinearPredictor(norm="batch")))
    assert "RAFT-LP" in markdown(table)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_running_away_separates_and_running_towards_does_not():
    figure = drawings.figure_2a()
    angle, away, towards = figure.drawing.panels
    opposite, alike, back = (list(curve.y) for curve in angle.curves)
    assert opposite[0] == alike[0] == back[0] == pytest.approx(2)
    assert opposite[1] == back[1] == pytest.approx(4)
    assert all(b > a for a, b in pairwise(opposite))  # ever further apart
    assert 170 < opposite[-1] <= 180
    assert all(b <= a for a, b in pairwise(back[1:]))
    assert 2 <= back[-1] < 2.5
    assert max(abs(degrees - 2) for degrees in alike) < 1e-6  # side by side
    assert f"{opposite[-1]:.0f}° after {drawings.STEPS} steps" in figure.caption
    assert f"takes the update back: {back[-1]:.1f}°" in figure.caption
    assert away.equal
    assert towards.equal
    for curve in away.curves:
        assert all(x * x + y * y < 1 + 1e-9 for x, y in zip(curve.x, curve.y, strict=True))


def test_long_logs_are_thinned_and_spread_is_over_seeds():
    results = {"RAFT-NP": [made("RAFT-NP", epochs=900, alignment=(a, a), seed=s) for s, a in enumerate((0.2, 0.4))]}
    (panel,) = make_panels(results, Lines("alignment", {"RAFT-NP": "label"}))
    (found,) = panel.curves
    assert len(found.x) == len(found.y) == len(found.low) == 300
    assert found.x[0] == 2
    assert found.y[0] == pytest.approx(0.3)
    assert found.high[0] - found.y[0] == pytest.approx(0.1 * 2**0.5)
    whole, none = make_panels(
        results, Lines("alignment", ["RAFT-NP"], points=None), Lines("online.linear.accuracy", ["RAFT-NP"])
    )
    assert len(whole.curves[0].x) == 900
    assert none.curves == ()


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tiny_runs_fill_tables_and_figures(tmp_path):
    scale = Scale(
        about="",
        data=c.Digits(size=16),
        encoder=c.Encoder(name="test_resnet"),
        subset=64,
        batch_size=32,
        epochs=2,
        long=2,
        seeds=1,
    )
    jobs = study.plan(scale, Place())
    results = {}
    for name in ("BYOL-LP", "RAFT-LP", RANDOM, SUPERVISED):
        [job] = jobs[name]
        assert isinstance(job, Training)
        job = replace(job, run=replace(job.run, method=small(job.run.method)))
        job.execute(tmp_path / job.folder, Reporter())
        results[name] = [job.read(tmp_path / job.folder)]
    found = {table.slug: table for table in study.tables(results)}
    assert escape(study.title) in render(page_of(study, scale, results, {}))
    assert list(found) == ["table-1", "table-2", "table-3", "figure-2b"]
    for row in found["table-1"].rows:
        for column in found["table-1"].columns:
            untrained = row.name == RANDOM and column.name in ("alignment", "uniformity", "negative cosine")
            assert (plain(show(row.cells[column.name], 2)) == "—") == untrained
    figures = {figure.slug: figure.drawing for figure in study.figures(results)}
    assert list(figures) == [
        *("figure-2a", "figure-3", "figure-3-origin", "figure-4", "figure-5"),
        *("figure-gradients", "figure-predictor-spectrum", "figure-predictor"),
    ]
    for drawing in figures.values():
        assert not isinstance(drawing, Bars)
        if isinstance(drawing, Panels):
            assert drawing.panels
            assert all(curve.x and len(curve.x) == len(curve.y) for panel in drawing.panels for curve in panel.curves)
        if isinstance(drawing, Circles):
            assert drawing.columns == ("epoch 1", "epoch 2")
            assert all(sum(circle.density) == pytest.approx(1, abs=1e-3) for circle in drawing.circles.values())
    assert len(figures["figure-4"].panels) == 3
    explained = figures["figure-gradients"].panels[-1].curves
    assert next(curve for curve in explained if curve.name == "RAFT-LP").y == pytest.approx([1, 1])
    assert {finding.outcome for finding in study.findings(results)} == {"not decided"}
