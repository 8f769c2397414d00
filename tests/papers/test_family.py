"""The family's study: its rows, its force, and what its claims are judged by."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from small_runs import VARIANTS, pictures, run_of
from vergence import config as c
from vergence import losses, methods
from vergence.engine.observe import observer
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.files.results import read_course
from vergence.papers import family
from vergence.papers.family import claims, force, rows
from vergence.report.page import render
from vergence.study import Place, Result, page_of

study = family.study
RUNS = rows.runs(c.Digits())


def result(run, state, *, knn=90.0, neg_cos=0.1, rank=20.0):
    """A finished run with this verdict."""
    line = {"step": 1000, "epoch": 1.0, "loss": 1.0, "neg_cos": neg_cos, "z_std": 0.9, "effective_rank": rank}
    line |= {"y_rank": rank, "online": {"knn": {"accuracy": knn}}, "spectrum": {"z": [0.6, 0.4]}}
    summary = {"knn": {"accuracy": knn}, "verdict": {"state": state}}
    return Result(run, Path("somewhere"), [line] if run.epochs else [], summary)


def as_predicted():
    predicted = {removal.row: removal.predicted for removal in rows.REMOVALS}
    return {row: [result(run, predicted.get(row, "healthy")) for _ in range(3)] for row, run in RUNS.items()}


def test_each_removal_changes_its_method_and_nothing_else():
    for removal in rows.REMOVALS:
        whole, without = RUNS[removal.method], RUNS[removal.row]
        assert without.method != whole.method, removal.row
        assert replace(without, method=whole.method) == whole, removal.row


def test_every_method_that_learns_without_labels_and_protects_itself_has_a_row():
    kinds = {type(method) for method in rows.METHODS.values()}
    assert kinds >= {cls for cls in c.Method.members.values() if cls.__module__ == "vergence.config.family"}


def test_the_steps_lead_from_byol_to_simsiam():
    simsiam, method = RUNS["SimSiam"].method, c.BYOL(target=c.StopGradient())
    for step in rows.STEPS.values():
        method = step(method, simsiam)
    assert (method.projector, method.predictor, method.target) == (
        simsiam.projector,
        simsiam.predictor,
        simsiam.target,
    )


def test_claims_hold_where_it_came_as_predicted_and_fail_where_not():
    results = as_predicted()
    assert {finding.outcome for finding in study.findings(results)} == {"holds"}
    results["VICReg, no variance"] = [result(RUNS["VICReg, no variance"], "healthy")] * 3
    outcomes = {finding.slug: finding.outcome for finding in study.findings(results)}
    assert outcomes["vicreg-no-variance"] == "does not hold"
    results["SimSiam"] = [result(RUNS["SimSiam"], state) for state in ("healthy", "complete collapse", "healthy")]
    outcomes = {finding.slug: finding.outcome for finding in study.findings(results)}
    assert outcomes["simsiam-healthy"] == "not decided"


def test_short_runs_decide_nothing():
    short = {
        row: [replace(r, lines=[{**line, "step": claims.STEPS - 1} for line in r.lines]) for r in found]
        for row, found in as_predicted().items()
    }
    assert {finding.outcome for finding in study.findings(short)} == {"not decided"}


def test_the_page_is_made():
    measured = {"spread": [1.0, 0.1, 0.01], "point": [-1.0, 2.0, 3.0], "line": [1.0, 1.0, 0.0]}
    results = as_predicted() | {f"{force.ROW}: {row}": [measured] for row in force.measured()}
    page = render(page_of(study, study.scales["smoke"], results, {}))
    for words in ("VICReg, no variance", "dimensional collapse", "The force near a line", "spectrum"):
        assert words in page


def test_the_spectrum_of_a_trained_run_is_read(tmp_path):
    images, run = pictures(), run_of(VARIANTS["byol"], subset=None)
    where = Where(device=torch.device("cpu"))
    look = observer(run, images, (pictures(12), pictures(12)), where, Periods(trace_every=1))
    (tmp_path / "run.json").write_text("{}")
    train(run, images, tmp_path, where=where, reporter=Reporter(), periods=Periods(), observe=look)
    result = read_course(tmp_path, run, {})
    assert result.gaps == ()
    assert all(sum(values) == pytest.approx(1, abs=1e-3) for values in result.course("spectrum.z")[1])
    assert len(result.course("spectrum.z")[0]) == run.epochs


def test_every_row_is_in_the_plan(tmp_path):
    plan = study.plan(study.scales["digits"], Place(data_dir=tmp_path))
    assert {*RUNS, *(f"{force.ROW}: {row}" for row in force.measured())} == set(plan)
    assert len(plan["SwAV"]) == 3


class TestForce:
    def at(self, row, spread, shape="point"):
        return force.force(force.measured()[row], shape, spread)

    @pytest.mark.parametrize("row", ["SimCLR", "VICReg", "Barlow Twins", "SwAV", "DirectPred"])
    def test_a_protected_loss_pushes_apart_near_a_point(self, row):
        assert self.at(row, 0.1) > 0

    @pytest.mark.parametrize("row", ["SimCLR, no negatives", "VICReg, no variance", "SwAV, no equal partition"])
    def test_without_its_protection_it_pulls_together(self, row):
        assert self.at(row, 0.1) < 0

    def test_vicregs_hinge_has_the_force_of_its_formula(self):
        """25 mean_j s_j of 1 - s sqrt(1.09): -d/ds of the hinge is 25 times the spread of a unit s, sqrt(1 + 0.09)."""
        method = c.VICReg(invariance=0.0, covariance=0.0, eps=1e-12)
        assert force.force(method, "point", 0.01) == pytest.approx(25 * 1.09**0.5, rel=0.02)

    def test_a_method_on_embeddings_gives_the_loss_of_a_step(self):
        built = methods.on_embeddings(c.SimCLR(), force.DIMENSIONS).double()
        views = force.embeddings("line", 0.1, 0)
        assert built(views).z.equal(views.flatten(2))
        assert built(views).loss.equal(losses.nt_xent(*views.flatten(2), 0.5))
