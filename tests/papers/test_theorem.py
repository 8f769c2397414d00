"""RAFT's theorems: the mathematics against slow definitions, pairs of networks, and findings that can fail."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from markupsafe import escape

from marks import slow
from small_runs import TINY, pictures, run_of, small
from vergence import config as c
from vergence import losses, methods
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.train import train
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.grid import Job
from vergence.methods.byol import DISTANCES
from vergence.papers import theorem
from vergence.papers.theorem import bound, linear_model, linear_page, lockstep, lockstep_page, tangent
from vergence.papers.theorem import sylvester as s
from vergence.report.page import render
from vergence.study import Place, Result, Scale, Value, Work, page_of
from vergence.study.work import RESULT

CPU = torch.device("cpu")
study = theorem.study
DOUBLE = torch.double


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix(n, m=None, seed=0):
    return torch.randn(n, m or n, generator=seeded(seed), dtype=DOUBLE)


def findings(part, results):
    """What a part of the study says of its claims."""
    return [claim.judge(results) for claim in part.CLAIMS]


# --- Theorem 4.1 ------------------------------------------------------------------------------------------------------


class TestBound:
    def test_holds_for_any_vectors_and_weights(self):
        for seed in range(20):
            p1, p2, z1, z2 = torch.randn(4, 16, 8, generator=seeded(seed), dtype=DOUBLE).unbind()
            p2, z2 = p1 + 0.1 * seed * p2, p2 + 0.3 * z2
            a, cross = losses.alignment(p1, p2).item(), losses.cross_model(p1, p2, z1, z2).item()
            left = losses.byol(p1, p2, z1, z2).item() / 2
            for alpha, beta in [*bound.WEIGHTS, (0.01, 3.0)]:
                above = bound.bound(a, cross, alpha, beta)
                prime = losses.byol_prime(p1, p2, z1, z2, alpha, beta).item()
                assert above == pytest.approx((1 / alpha + 1 / beta) * prime)
                assert left <= above + 1e-12
                assert bound.tightest(a, cross) <= above + 1e-12
            assert left <= bound.tightest(a, cross) + 1e-12

    def test_the_best_ratio_is_the_best(self):
        a, cross = 0.7, 0.2
        best = bound.best_ratio(a, cross)
        assert best is not None
        values = [bound.bound(a, cross, 1.0, r) for r in torch.linspace(0.1, 10, 2000, dtype=DOUBLE).tolist()]
        assert bound.bound(a, cross, 1.0, best) == pytest.approx(bound.tightest(a, cross))
        assert min(values) == pytest.approx(bound.tightest(a, cross), rel=1e-4)
        assert bound.best_ratio(0.5, 0.0) is None

    def test_equality_is_reached(self):
        """Two equal steps in one direction, which unit vectors make in the limit of small ones."""
        angle = 1e-2
        p1, p2, z = (torch.tensor([[math.cos(t), math.sin(t)]], dtype=DOUBLE) for t in (0.0, angle, 2 * angle))
        a, cross = losses.squared_distance(p1, p2).item(), losses.squared_distance(p2, z).item()
        assert losses.squared_distance(p1, z).item() == pytest.approx(bound.tightest(a, cross), rel=1e-3)

    def test_rounding_is_as_large_as_it_gets(self):
        worst = 0.0
        for seed, near in enumerate([0.0, 1e-4, 1e-2, 1.0, 10.0] * 4):
            p = torch.randn(128, 128, generator=seeded(seed))
            q = p + near * torch.randn(128, 128, generator=seeded(seed + 100))
            exact = losses.squared_distance(p.double(), q.double())
            worst = max(worst, (losses.squared_distance(p, q) - exact).abs().item())
        assert 1e-8 < worst < bound.ROUNDING / 2

    def results(self, spoil=1.0, rows=bound.ROWS):
        found = {}
        for seed, name in enumerate(rows):
            lines = []
            for step in range(1, 31):
                p1, p2, z1, z2 = torch.randn(4, 16, 8, generator=seeded(100 * seed + step)).unbind()
                p2 = p1 + p2 / step
                a, cross = losses.alignment(p1, p2).item(), losses.cross_model(p1, p2, z1, z2).item()
                loss = losses.byol(p1, p2, z1, z2).item() * (spoil if step == 17 else 1.0)
                lines.append({"epoch": step / 10, "loss": loss, "alignment": a, "cross_model": cross})
            found[name] = [Result(run_of(small(c.BYOL())), None, lines, {})]
        return found

    def test_finding(self):
        good = self.results()
        assert findings(bound, good)[0].outcome == "holds"
        assert findings(bound, self.results(spoil=4.0))[0].outcome == "does not hold"
        assert findings(bound, self.results(rows=bound.ROWS[:2]))[0].outcome == "not decided"
        assert findings(bound, {})[0].outcome == "not decided"

    def test_table_counts_violations(self):
        (table,) = bound.tables(self.results(spoil=4.0))
        assert len(table.rows) == len(bound.ROWS) * (len(bound.WEIGHTS) + 1)
        best = table.rows[len(bound.WEIGHTS)].cells
        assert (best["steps"].mean, best["left > right"].mean, best["beyond rounding"].mean) == (30, 1, 1)
        (figure,) = bound.figures(self.results())
        assert [len(p.curves) for p in figure.drawing.panels] == [3, 3, 3]

    def test_the_scale_of_a_loss_does_not_matter(self):
        lines = [{"epoch": 1, "loss": 1.0, "alignment": 0.5, "cross_model": 0.5}, {"epoch": 2, "cross_model": None}]
        whole, half = (Result(run_of(small(c.BYOL(scale=scale))), None, lines, {}) for scale in (1.0, 0.5))
        assert [b.byol for b in bound.batches(whole)] == [0.5]
        assert [b.byol for b in bound.batches(half)] == [1.0]


# --- Theorem 5.1 ------------------------------------------------------------------------------------------------------


def pair_run(predictor, optimizer="SGD", distance="cosine", **changes):
    if isinstance(predictor, c.MLPPredictor):
        predictor = replace(predictor, hidden=16)
    method = c.BYOLPrime(projector=c.Projector(hidden=16, out=8), predictor=predictor, distance=distance)
    return run_of(method, optimizer=lockstep.OPTIMIZERS[optimizer], schedule=c.Constant(), **changes)


def walked(*arguments, negated="last-layer", **options):
    steps = list(lockstep.walk(pair_run(*arguments, epochs=1, **options), pictures(), CPU, negated))
    assert len(steps) == 3
    return steps


class TestLockstep:
    @pytest.mark.parametrize("optimizer", [name if name == "SGD" else slow(name) for name in lockstep.OPTIMIZERS])
    @pytest.mark.parametrize("predictor", lockstep.PREDICTORS)
    def test_bit_for_bit(self, predictor, optimizer):
        for step in walked(lockstep.PREDICTORS[predictor], optimizer):
            assert step.gap == lockstep.Gap({"online": 0.0, "target": 0.0, "predictor": 0.0}, 0)
            assert abs(step.raft - step.prime + 4) <= lockstep.LOSS_ROUNDING
            assert step.moved > 1e-5

    @pytest.mark.parametrize("optimizer", lockstep.OPTIMIZERS)
    def test_tan_has_equal_losses(self, optimizer):
        steps = walked(c.LinearPredictor(), optimizer, "tangential")
        assert all(step.gap.differing == 0 and step.raft == step.prime for step in steps)

    @pytest.mark.parametrize("optimizer", lockstep.OPTIMIZERS)
    def test_the_sign_may_stand_in_the_matrix_before_a_batch_norm(self, optimizer):
        steps = walked(c.LinearPredictor(norm="batch"), optimizer, negated="first-layer")
        assert [step.gap.differing for step in steps] == [0, 0, 0]

    def test_not_if_the_shift_of_the_norm_keeps_its_sign(self, monkeypatch):
        names = lockstep.odd_names
        monkeypatch.setattr(lockstep, "odd_names", lambda *a: {n for n in names(*a) if not n.endswith("bias")})
        steps = walked(c.LinearPredictor(norm="batch"), negated="first-layer")
        assert steps[-1].gap.largest["predictor"] > 0

    def test_not_to_the_bit_if_distances_are_sums_of_squares(self, monkeypatch):
        """Where one adds the other subtracts: equal gradients, rounded apart."""
        unit = losses.normalize
        monkeypatch.setitem(DISTANCES, "cosine", lambda p, z: (unit(p) - unit(z)).square().sum(1).mean())
        last = walked(c.LinearPredictor())[-1]
        assert last.gap.differing > 0
        assert last.gap.largest["online"] < 1e-4

    @pytest.mark.parametrize("optimizer", lockstep.OPTIMIZERS)
    def test_parts_without_predictor(self, optimizer):
        steps = walked(c.NoPredictor(), optimizer)
        assert steps[-1].gap.largest["online"] > 1e-5
        assert "predictor" not in steps[-1].gap.largest

    @pytest.mark.parametrize(
        ("predictor", "negated"),
        [("linear", "nothing"), ("MLP", "nothing"), ("MLP", "first-layer"), ("MLP + batch norm", "first-layer")],
    )
    def test_a_sign_in_the_wrong_place_is_seen(self, predictor, negated):
        last = walked(lockstep.PREDICTORS[predictor], negated=negated)[-1]
        assert last.gap.largest["online"] > 1e-6
        assert last.gap.differing > 1000

    def test_one_value_of_the_target_is_seen(self):
        one = methods.build(pair_run(c.LinearPredictor()))
        other = copy.deepcopy(one)
        assert lockstep.compare(one, other, set()).differing == 0
        with torch.no_grad():
            next(other.target.network.parameters()).view(-1)[3].mul_(1 + 2**-23)
        gap = lockstep.compare(one, other, set())
        assert gap.differing == 1
        assert 0 < gap.largest["target"] < 1e-6
        assert gap.largest["online"] == 0
        for buffer in (b for name, b in other.named_buffers() if name.endswith("running_var")):
            buffer[0] += 1
        assert lockstep.compare(one, other, set()).differing > 1

    def test_names_of_what_is_negated(self):
        def names(predictor, negated):
            built = methods.build(pair_run(predictor)).predictor
            state = built.state_dict()
            found = lockstep.odd_names(built, negated)
            assert found <= set(state)
            return found

        assert names(c.LinearPredictor(), "last-layer") == {"0.weight"}
        assert names(c.LinearPredictor(norm="batch"), "last-layer") == {"1.weight", "1.bias"}
        assert names(c.LinearPredictor(norm="batch"), "first-layer") == {"0.weight", "1.bias", "1.running_mean"}
        assert names(c.MLPPredictor(), "last-layer") == {"3.weight", "3.bias"}
        assert names(c.MLPPredictor(), "nothing") == names(c.NoPredictor(), "last-layer") == set()

    def test_predictions_change_their_sign_to_the_bit(self):
        for predictor in lockstep.PREDICTORS.values():
            built = methods.build(pair_run(predictor)).predictor
            z = torch.randn(8, 8, generator=seeded())
            before = built(z)
            lockstep.negate_(built, lockstep.odd_names(built, "last-layer"))
            assert torch.equal(built(z), -before)

    def test_steps_are_those_of_training(self, tmp_path):
        run = pair_run(c.MLPPredictor(norm="none"), "Adam")
        train(run, pictures(), tmp_path, where=Where(device=CPU), reporter=Reporter(), periods=Periods(log_every=1))
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        walk = list(lockstep.walk(run, pictures(), CPU))
        assert len(walk) == 6
        assert [step.prime for step in walk] == [line["loss"] for line in lines]

    def test_raft_is_the_same_but_for_the_method(self):
        run = pair_run(c.LinearPredictor())
        raft = lockstep.mirrored(run)
        assert raft.method == replace(c.RAFT(), projector=run.method.projector, predictor=run.method.predictor)
        assert replace(raft, method=run.method) == run
        with pytest.raises(ValueError, match="byol-prime"):
            lockstep.Lockstep(run=raft)

    def test_summary(self):
        steps = [
            lockstep.Step(n, 1.0, -3.0 + (1e-7 if n == 3 else 0), lockstep.Gap({"online": x, "target": 0.0}, k), 0.1)
            for n, x, k in [(1, 0.0, 0), (2, 0.5, 7), (3, 0.2, 9)]
        ]
        found = lockstep.summarize(steps, -4.0)
        assert (found["online"], found["differing"], found["first"], found["bit_for_bit"]) == (0.5, 9, 2, False)
        assert found["loss_bits"] == 1
        assert found["loss_gap"] == pytest.approx(1e-7)
        assert found["course"]["online"] == [0.0, 0.5, 0.2]
        long = lockstep.summarize([steps[0]._replace(step=n) for n in range(1, 1001)], -4.0)
        assert long["bit_for_bit"]
        assert long["course"]["step"][0] == 1
        assert long["course"]["step"][-1] == 1000
        assert len(long["course"]["step"]) <= lockstep.POINTS + 2


def walks(**changed):
    """Synthetic results that agree with every claim, but for the rows in `changed`."""
    course = {name: [1.0, 1.0] for name in ("online", "differing", "prime", "raft")} | {"step": [1, 2]}
    equal = {"steps": 2, "online": 0.0, "predictor": 0.0, "target": 0.0, "differing": 0, "first": None, "moved": 0.1}
    equal |= {"loss_gap": 1e-7, "loss_bits": 1, "bit_for_bit": True, "course": course}
    apart = equal | {"online": 0.1, "differing": 99, "first": 1, "bit_for_bit": False, "loss_gap": 0.1}
    rows = {name: apart if name in lockstep_page.PARTING else equal for name in lockstep_page.EVERY}
    return {name: [found | changed.get(name, {})] for name, found in rows.items()}


class TestLockstepPage:
    def outcomes(self, results):
        return {finding.slug: finding.outcome for finding in findings(lockstep_page, results)}

    def test_all_hold(self):
        assert set(self.outcomes(walks()).values()) == {"holds"}

    @pytest.mark.parametrize(
        ("row", "wrong", "slug"),
        [
            ("linear, LARS", {"differing": 1}, "lockstep-linear"),
            ("MLP + batch norm, Adam", {"differing": 1}, "lockstep-mlp-batch-norm"),
            ("linear, Tan, Adam", {"differing": 5}, "lockstep-tan"),
            ("linear + batch norm, sign in W, Adam", {"differing": 5}, "lockstep-matrix"),
            ("no predictor, SGD", {"online": 0.0}, "parts-without-predictor"),
            ("MLP, nothing negated, SGD", {"online": 0.0}, "parts-without-sign"),
            ("MLP, SGD", {"loss_gap": 1e-5}, "loss-constant"),
        ],
    )
    def test_one_wrong_number_turns_its_finding(self, row, wrong, slug):
        outcomes = self.outcomes(walks(**{row: wrong}))
        assert outcomes.pop(slug) == "does not hold"
        assert set(outcomes.values()) == {"holds"}

    def test_an_encoder_that_never_moved_decides_nothing(self):
        assert self.outcomes(walks(**{"MLP, Adam": {"moved": 0.0}}))["lockstep-mlp"] == "not decided"

    def test_missing_rows_decide_nothing(self):
        some = {name: found for name, found in walks().items() if name != "MLP, SGD"}
        assert self.outcomes(some)["lockstep-mlp"] == self.outcomes(some)["loss-constant"] == "not decided"
        assert self.outcomes(some)["lockstep-linear"] == "holds"

    def test_table_and_figure(self):
        (table,) = lockstep_page.tables(walks())
        assert [row.name for row in table.rows] == list(lockstep_page.EVERY)
        assert all(set(row.cells) == {column.name for column in table.columns} for row in table.rows)
        (figure,) = lockstep_page.figures(walks())
        assert len(figure.drawing.panels) == 3
        assert min(figure.drawing.panels[0].curves[0].y) > 0


# --- the Tan- loss ----------------------------------------------------------------------------------------------------


class TestTangent:
    def vectors(self):
        return [losses.normalize(torch.randn(16, 8, generator=seeded(n), dtype=DOUBLE)) for n in (1, 2)]

    def test_free_gradients_are_those_of_the_formulas(self):
        p, z = self.vectors()
        scale = (p * z).sum(1, keepdim=True)
        ordinary = tangent.gradient_at(tangent.free_distance, p, z)
        tan = tangent.gradient_at(tangent.free_tangential, p, z)
        torch.testing.assert_close(ordinary, 2 * (p - z) / len(p))
        torch.testing.assert_close(tan, 2 * (scale * p - z) / len(p))
        torch.testing.assert_close(tan, ordinary - (ordinary * p).sum(1, keepdim=True) * p)  # its tangential part
        assert tangent.free_tangential(p, z).item() == pytest.approx(losses.tangential(p, z).item())

    def test_on_the_sphere(self):
        free, tan, normalized = tangent.on_the_sphere(*self.vectors()).values()
        assert free["radial"] > 0.1
        assert free["mirrored"] > 0.1
        for quiet in (tan, normalized):
            assert max(quiet.values()) < 1e-12

    def test_radial_share(self):
        p, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        assert tangent.radial_share(p, p) == 1
        assert tangent.radial_share(other, p) == 0

    def found(self, **wrong):
        rows = [f"{name}, {precision}" for name in tangent.OBJECTIVES for precision in tangent.DTYPES]
        of = {"norm": 1.0, "apart": 1e-13, "factor": 1.0, "loss": 1.0, "tan_loss": 2.0}
        sphere = {
            "|p - z'|², p free": {"radial": 0.7, "mirrored": 1.4},
            "Tan, p free": {"radial": 1e-17, "mirrored": 0.0},
        }
        gradients = {row: of | wrong.get(row, {}) for row in rows}
        return {tangent.ROW: [{"gradients": gradients, "sphere": sphere, "cosines": [-0.1, 0.1]}]}

    def test_findings(self):
        assert [f.outcome for f in findings(tangent, self.found())] == ["holds", "holds"]
        wrong = self.found(**{"RAFT, float64": {"apart": 1e-9}})
        assert [f.outcome for f in findings(tangent, wrong)] == ["does not hold", "holds"]
        assert [f.outcome for f in findings(tangent, {})] == ["not decided", "not decided"]
        assert len(list(tangent.tables(self.found()))) == 2


# --- Appendix I -------------------------------------------------------------------------------------------------------


class TestSylvester:
    def correlated(self, n=6, k=400):
        x1 = matrix(k, n, 1) @ matrix(n, n, 2)
        return s.correlations(x1, x1 @ matrix(n, n, 3) / n + matrix(k, n, 4))

    def test_correlations(self):
        x1, x2 = matrix(50, 3, 1), matrix(50, 3, 2)
        A, B = s.correlations(x1, x2)
        torch.testing.assert_close(A, sum(torch.outer(a, a) for a in x1) / 50)
        torch.testing.assert_close(B, sum(torch.outer(b, a) for a, b in zip(x1, x2, strict=True)) / 50)
        torch.testing.assert_close(s.backward_map(A, B) @ A, B)

    def test_operator_is_the_equation(self):
        A, B = self.correlated()
        W, theta = matrix(4, seed=5), matrix(4, 6, 6)  # W need not be of theta's width
        stacked = s.sylvester_operator(W, A, B) @ theta.T.flatten()
        expected = (W @ theta @ A - theta @ B) @ torch.linalg.inv(A)
        torch.testing.assert_close(stacked, expected.T.flatten())

    def test_gradients_vanish_at_a_solution(self):
        """Of the loss over pairs itself, by autograd, with xi = theta held fixed."""
        x = torch.stack([matrix(40, 4, 1), matrix(40, 4, 2)])
        A, B = s.correlations(*x)
        M = s.backward_map(A, B)
        theta = matrix(4, seed=7)
        W = theta @ M @ torch.linalg.inv(theta)
        assert s.residual(W, theta, A, B) < 1e-12
        W, free = W.requires_grad_(), theta.clone().requires_grad_()
        loss = (x[0] @ free.T @ W.T - x[1] @ theta.T).square().sum(1).mean()
        assert max(g.abs().max() for g in torch.autograd.grad(loss, [W, free])) < 1e-12

    def test_gradients_of_the_descent(self):
        x = torch.stack([matrix(40, 4, 1), matrix(40, 4, 2)])
        theta, W, xi = (matrix(4, seed=n).requires_grad_() for n in (3, 4, 5))
        loss = (x[0] @ theta.T @ W.T - x[1] @ xi.T).square().sum(1).mean()
        expected = torch.autograd.grad(loss, [theta, W])
        task = linear_model.Descent(pairs=PAIRS)
        found = task.gradients(theta.detach(), W.detach(), xi.detach(), *s.correlations(*x), x)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_known_null_spaces(self):
        A = torch.eye(3, dtype=DOUBLE)
        B = torch.diag(torch.tensor([0.5, 0.3, 0.1], dtype=DOUBLE))
        for diagonal, dimensions in (([0.5, 2, 3], 1), ([0.5, 0.3, 3], 2), ([0.5, 0.5, 3], 2), ([2, 3, 4], 0)):
            W = torch.diag(torch.tensor(diagonal, dtype=DOUBLE))
            basis, values = s.null_space(s.sylvester_operator(W, A, B))
            assert basis.shape == (9, dimensions)
            assert len(values) == 9
            assert len(s.shared_eigenvalues(W, B)) == dimensions
            for theta in s.solutions(basis, 3):
                assert s.residual(W, theta, A, B) < 1e-12
                assert theta.norm().item() == pytest.approx(1)
        theta = s.solutions(s.null_space(s.sylvester_operator(torch.diag(B.diagonal().flip(0)), A, B))[0], 3)
        assert theta.shape == (3, 3, 3)
        assert (theta * (1 - torch.eye(3).flip(0))).abs().max() < 1e-12  # eigenvector to eigenvector

    def test_made_eigenvalues(self):
        wanted = [0.5, -0.2, 0.1 + 0.3j, 2.0]
        found = torch.linalg.eigvals(s.with_eigenvalues(wanted, seeded())).tolist()
        for value in [*wanted, 0.1 - 0.3j]:
            assert min(abs(value - other) for other in found) < 1e-10
        W = s.with_eigenvalues(wanted, seeded())
        assert (W @ W.T - W.T @ W).norm() > 1e-3  # not normal

    def test_as_many_solutions_as_shared_eigenvalues(self):
        A, B = self.correlated()
        M = s.backward_map(A, B)
        names = linear_model.cases(M)
        for name, shared in names.items():
            found = linear_model.look(linear_model.sharing(shared, 6, seeded(1)), A, B, seeded(2))
            count = sum(2 if v.imag else 1 for v in shared)
            assert (found["shared"], found["nullity"], found["rank"]) == (count, count, count), name
            assert found["residual"] < 1e-10
        assert len(names["all"]) > 1

    def test_scan_finds_the_real_eigenvalues(self):
        A, B = self.correlated(3)
        scan = linear_model.scan(A, B, seeded())
        for w, least in zip(scan["w"], scan["least"], strict=True):
            assert (least < 1e-12) == (w in scan["real"])

    def test_effective_rank(self):
        assert s.effective_rank(torch.eye(5, dtype=DOUBLE)) == pytest.approx(5)
        assert s.effective_rank(torch.outer(torch.arange(1.0, 4), torch.ones(3))) == pytest.approx(1, abs=1e-3)

    def test_principal_directions_are_white(self):
        views = torch.randn(2, 200, 30, generator=seeded()) @ torch.randn(30, 30, generator=seeded(1)) + 5
        x = s.principal(views, 4)
        assert x.shape == (2, 200, 4)
        covariance = x.flatten(0, 1).T @ x.flatten(0, 1) / 400
        torch.testing.assert_close(covariance, torch.eye(4, dtype=DOUBLE), atol=1e-2, rtol=0)


PAIRS = linear_model.Pairs(data=c.Digits(size=16), views=c.Views(size=16), subset=200, n=4)


def test_too_few_pictures_for_the_linear_model_are_named():
    assert replace(PAIRS, subset=2).load(None).shape == (2, 2, 4)
    with pytest.raises(InputError, match="two views of 1 pictures span fewer than the 4 dimensions here"):
        replace(PAIRS, subset=1).load(None)


class TestDescent:
    def states(self, **options):
        task = linear_model.Descent(pairs=PAIRS, steps=3000, **options)
        return [state for state, _ in task.descend(PAIRS.load(None))]

    def test_a_small_predictor_reaches_a_full_solution(self):
        first, *_, last = self.states(start="orthogonal", encoder_size=1.5, predictor_size=0.5)
        assert last.residual < 1e-4 * first.residual
        assert last.unmatched < 1e-4
        assert last.encoder > 0.5 * first.encoder
        assert last.rank > 3.5

    def test_a_large_one_does_not(self):
        first, *_, last = self.states(start="orthogonal", encoder_size=0.5, predictor_size=1.5)
        assert last.encoder < 1e-2 * first.encoder
        assert last.balance < 0.05

    def test_balance_is_kept_in_the_limit_of_small_steps(self):
        drifts = []
        for lr in (0.05, 0.005):
            task = linear_model.Descent(pairs=PAIRS, lr=lr, steps=int(20 / lr))
            drifts.append([state for state, _ in task.descend(PAIRS.load(None))][-1].balance)
        assert drifts[1] < 0.2 * drifts[0]

    def test_without_predictor_the_encoder_shrinks(self):
        for predictor in ("identity", "apart"):
            first, *_, last = self.states(predictor=predictor)
            assert last.encoder < 1e-2 * first.encoder

    def test_a_shared_eigenvalue_keeps_one_direction_or_two(self):
        first, *_, last = self.states(predictor="sharing")
        assert last.nearest < 1e-10
        assert last.encoder > 1e-2 * first.encoder
        assert last.rank < 2.5

    def test_the_sphere_s_loss_has_no_radial_part(self):
        task = linear_model.Descent(pairs=PAIRS, loss="cosine")
        x = PAIRS.load(None)
        theta, W = task.first(torch.eye(4, dtype=DOUBLE))
        to_theta, to_W = task.gradients(theta, W, theta, *s.correlations(*x), x)
        assert abs((to_theta * theta).sum()) < 1e-12
        assert abs((to_W * W).sum()) < 1e-12
        assert to_theta.norm() > 1e-3


def algebra(**changed):
    look = {"shared": 1, "nullity": 1, "zero": 1e-17, "least": 0.1, "residual": 1e-15, "rank": 1, "nearest": 0.0}
    none = look | {"shared": 0, "nullity": 0, "zero": 0.0, "residual": 0.0, "rank": 0, "nearest": 0.1}
    cases = {"Gaussian": [none] * 3, "no eigenvalue": [none], "1 real": [look, look]}
    for name, wrong in changed.items():
        cases[name] = [*cases[name], cases[name][0] | wrong]
    scan = {"w": [0.0, 1.0], "least": [0.1, 1e-17], "real": [1.0]}
    return {"cases": cases, "scan": scan, "eigenvalues": [[1.0, 0.0]] * 4, "pairs": 10}


def matrices(**changed):
    flat = {name: [1.0, 1.0] for name in linear_model.State._fields} | {"step": [0, 100], "rank": [12.0, 10.0]}
    solved, gone = flat | {"residual": [1.0, 1e-9]}, flat | {"encoder": [1.0, 1e-12], "rank": [12.0, 1.0]}
    rows = dict.fromkeys((linear_model.SMALL, linear_model.EVEN, linear_model.LARGE), solved)
    rows |= dict.fromkeys((linear_model.IDENTITY, linear_model.APART, linear_model.UNIT_IDENTITY), gone)
    rows |= {linear_model.SHARING: solved | {"rank": [12.0, 1.0]}, linear_model.UNIT: flat}
    found = {name: [{"course": course | changed.get(name, {})}] for name, course in rows.items()}
    return found | {linear_model.ALGEBRA: [changed.get(linear_model.ALGEBRA, algebra())]}


class TestLinearPage:
    def outcomes(self, results):
        return {finding.slug: finding.outcome for finding in findings(linear_page, results)}

    def test_all_hold(self):
        assert set(self.outcomes(matrices()).values()) == {"holds"}

    @pytest.mark.parametrize(
        ("row", "wrong", "slug"),
        [
            (linear_model.ALGEBRA, algebra(**{"1 real": {"nullity": 0}}), "sylvester-if"),
            (linear_model.ALGEBRA, algebra(**{"1 real": {"residual": 1e-3}}), "sylvester-if"),
            (linear_model.ALGEBRA, algebra(Gaussian={"nullity": 1}), "sylvester-only-if"),
            (linear_model.EVEN, {"residual": [1.0, 0.5]}, "linear-reaches-solution"),
            (linear_model.LARGE, {"encoder": [1.0, 1e-9]}, "linear-any-start"),
            (linear_model.APART, {"encoder": [1.0, 0.5]}, "linear-collapses-without"),
            (linear_model.SHARING, {"rank": [12.0, 5.0]}, "linear-one-eigenvalue"),
            (linear_model.UNIT, {"rank": [12.0, 1.5]}, "linear-sphere"),
        ],
    )
    def test_one_wrong_number_turns_its_finding(self, row, wrong, slug):
        outcomes = self.outcomes(matrices(**{row: wrong}))
        assert outcomes.pop(slug) == "does not hold"
        assert set(outcomes.values()) == {"holds"}

    def test_tables_and_figures(self):
        tables = list(linear_page.tables(matrices()))
        assert [table.slug for table in tables] == ["sylvester", "linear-model"]
        for table in tables:
            assert all(set(row.cells) == {column.name for column in table.columns} for row in table.rows)
        assert [figure.slug for figure in linear_page.figures(matrices())] == [
            "sylvester-values",
            "linear-model-course",
        ]


# --- the experiment ---------------------------------------------------------------------------------------------------

SCALE = Scale(
    about="", data=c.Digits(size=16), encoder=TINY, subset=64, batch_size=32, epochs=1, long=1, seeds=1, observe_every=1
)


class TestExperiment:
    def test_scales(self):
        assert set(study.scales) == {"smoke", "short", "full"}
        for scale in study.scales.values():
            rows = study.plan(scale, Place())
            jobs = [job for of_row in rows.values() for job in of_row]
            assert all(isinstance(job, Job) for job in jobs)
            assert len({job.folder for job in jobs}) == len({job.name for job in jobs}) == len(jobs)
            assert study.base in rows
            assert study.differences(scale)

    def test_keys_are_of_the_work_alone(self):
        one, other = (study.plan(SCALE, place) for place in (Place(), Place(device="cuda")))
        assert {n: j[0].folder for n, j in one.items()} == {n: j[0].folder for n, j in other.items()}
        longer = study.plan(replace(SCALE, epochs=2, long=2), Place())
        same = {name for name in one if one[name][0].folder == longer[name][0].folder}
        assert same == {tangent.ROW, linear_model.ALGEBRA, *linear_model.DESCENTS}

    @pytest.mark.slow
    def test_jobs_are_done_once_and_read(self, tmp_path):
        rows = study.plan(SCALE, Place())
        cheap = replace(linear_model.tasks(SCALE)[linear_model.EVEN], steps=100)
        algebra = replace(linear_model.tasks(SCALE)[linear_model.ALGEBRA], draws=1, random=1)
        chosen = {name: rows[name][0] for name in ("linear, Adam", "no predictor, SGD", tangent.ROW, "BYOL-LP")}
        chosen[linear_model.EVEN] = Work(name=linear_model.EVEN, task=cheap)
        chosen[linear_model.ALGEBRA] = Work(name=linear_model.ALGEBRA, task=algebra)
        results = {}
        for name, job in chosen.items():
            folder = tmp_path / job.folder
            assert not job.finished(folder)
            job.execute(folder, Reporter())
            assert job.finished(folder)
            results[name] = [job.read(folder)]
        folder = tmp_path / chosen["linear, Adam"].folder
        before = (folder / RESULT).stat().st_mtime_ns
        chosen["linear, Adam"].execute(folder, Reporter())
        assert (folder / RESULT).stat().st_mtime_ns == before
        assert results["linear, Adam"][0]["bit_for_bit"]
        assert not results["no predictor, SGD"][0]["bit_for_bit"]
        assert len(study.tables(results)) == 6
        assert len(study.figures(results)) == 4
        assert escape(study.title) in render(page_of(study, SCALE, results, {}))
        outcomes = {f.slug: f.outcome for f in study.findings(results)}
        assert outcomes["tan-gradient"] == outcomes["tan-needed-when-free"] == outcomes["sylvester-if"] == "holds"

    def test_nothing_decides_nothing(self):
        empty = {name: [] for name in study.plan(SCALE, Place())}
        for results in ({}, empty):
            assert study.tables(results) == study.figures(results) == []
            findings = study.findings(results)
            assert {finding.outcome for finding in findings} == {"not decided"}
            assert len({finding.slug for finding in findings}) == len(findings)

    def test_condition_three(self):
        results = walks() | TestTangent().found()
        slug = theorem.CONDITION.slug

        def outcome(results):
            return next(f.outcome for f in study.findings(results) if f.slug == slug)

        assert outcome(results) == "holds"
        assert outcome(results | walks(**{"linear, SGD": {"differing": 3}})) == "does not hold"
        assert outcome(walks()) == "not decided"

    def test_every_finding_says_its_numbers_and_rule(self):
        results = walks() | TestTangent().found() | TestBound().results() | matrices()
        for finding in study.findings(results):
            assert finding.outcome == "holds", finding.slug
            assert finding.numbers.endswith(".")
            assert finding.rule.endswith(".")
        for table in study.tables(results):
            for row in table.rows:
                assert all(isinstance(cell, Value | str) for cell in row.cells.values())
