"""SimSiam, DirectPred, DirectCopy and IsoLoss, and the parts of them that any method can use."""

import copy
from dataclasses import replace

import pytest
import torch

from small_runs import VARIANTS, run_of, small, views_of
from vergence import config as c
from vergence import losses, methods
from vergence.engine.step import update
from vergence.metrics.traces import predictor_trace
from vergence.networks.batch_renorm import BatchRenorm1d
from vergence.networks.direct import DirectPredictor
from vergence.networks.heads import build_projector
from vergence.networks.split_batch_norm import split_batch_norm
from vergence.optim import build_optimizer, set_rate


def embeddings(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(method, loss):
    names, parameters = zip(*[(n, p) for n, p in method.named_parameters() if p.requires_grad], strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True))


class TestSimSiam:
    def test_its_loss_and_gradient_are_the_equations(self):
        method = methods.build(run_of(VARIANTS["simsiam"])).double()
        o = method(views_of().double())
        expected = losses.simsiam(*o.p, *o.z)
        assert torch.equal(o.loss, expected)
        ours, theirs = (
            gradients(method, o.loss),
            gradients(method, losses.simsiam(*method(views_of().double())[4], *o.z)),
        )
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-12)

    def test_projections_get_no_gradient_from_the_loss(self):
        p1, p2, z1, z2 = (embeddings(5, 4, seed=s).requires_grad_() for s in range(4))
        losses.simsiam(p1, p2, z1, z2).backward()
        assert p1.grad is not None
        assert p2.grad is not None
        assert z1.grad is None
        assert z2.grad is None

    def test_byol_with_its_slots_is_four_times_simsiam(self):
        """BYOL's loss = 4 SimSiam's + 4, its gradient four times as large: the same method at a quarter of the rate."""
        own = VARIANTS["simsiam"]
        slots = {name: getattr(own, name) for name in ("projector", "predictor", "target")}
        simsiam, byol = (methods.build(run_of(kind(**slots))).double() for kind in (c.SimSiam, c.BYOL))
        views = views_of().double()
        one, other = simsiam(views), byol(views)
        torch.testing.assert_close(other.loss, 4 * one.loss + 4, rtol=1e-12, atol=1e-12)
        ours, theirs = gradients(simsiam, one.loss), gradients(byol, other.loss)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(theirs[name], 4 * ours[name], rtol=1e-9, atol=1e-12)

    def test_without_predictor_it_is_the_cosine_of_the_projections(self):
        o = methods.build(run_of(replace(VARIANTS["simsiam"], predictor=c.NoPredictor())))(views_of())
        torch.testing.assert_close(o.loss, losses.alignment(*o.z) / 2 - 1)

    def test_a_norm_without_scale_and_shift_ends_the_projector(self):
        projector = methods.build(run_of(c.SimSiam())).online.projector
        norms = [module for module in projector.children() if isinstance(module, torch.nn.BatchNorm1d)]
        assert [norm.affine for norm in norms] == [True, True, False]
        assert [*projector.children()][-1] is norms[-1]


class TestShared:
    """The stop-gradient taken away, for any method with a target."""

    def losses(self, name, target):
        method = methods.build(run_of(replace(VARIANTS[name], target=target))).double()
        o = method(views_of().double())
        return method, o

    @pytest.mark.parametrize("name", ["simsiam", "byol", "raft", "moco", "contrastive", "directpred"])
    def test_the_value_stays_and_the_gradient_goes_through_both_branches(self, name):
        (stopped, one), (shared, other) = (self.losses(name, target()) for target in (c.StopGradient, c.Shared))
        torch.testing.assert_close(one.loss, other.loss)
        assert not one.z_target.requires_grad
        assert other.z_target.requires_grad
        ours, theirs = gradients(stopped, one.loss), gradients(shared, other.loss)
        where = "online.projector.0.weight"
        assert (ours[where] - theirs[where]).norm() > 1e-3 * ours[where].norm()

    def test_simsiams_gradient_is_that_of_the_whole_expression(self):
        _, o = self.losses("simsiam", c.Shared())
        p, z = o.p, o.z
        cosine = torch.nn.functional.cosine_similarity
        whole = -(cosine(p[0], z[1]).mean() + cosine(p[1], z[0]).mean()) / 2
        ours = torch.autograd.grad(o.loss, z, retain_graph=True)[0]
        torch.testing.assert_close(ours, torch.autograd.grad(whole, z)[0], rtol=1e-9, atol=1e-12)

    def test_no_gradient_is_made_where_none_is_asked_for(self):
        method = methods.build(run_of(VARIANTS["moco, shared"]))
        with torch.no_grad():
            assert not method(views_of()).z_target.requires_grad


def slow_matrix(zs, alpha, eps, rho):
    """The predictor's matrix after some steps, as loops."""
    correlation = None
    for z in zs:
        rows = z.flatten(0, 1)
        d = rows.shape[1]
        now = torch.zeros(d, d, dtype=torch.float64)
        for row in rows:
            for i in range(d):
                for j in range(d):
                    now[i, j] += row[i] * row[j] / len(rows)
        correlation = now if correlation is None else rho * correlation + (1 - rho) * now
    values, vectors = torch.linalg.eig(correlation)
    values, vectors = values.real, vectors.real
    matrix = torch.zeros_like(correlation)
    for s, u in zip(values, vectors.T, strict=True):
        matrix += ((max(0, s.item()) / values.max().item()) ** alpha + eps) * torch.outer(u, u)
    return matrix


class TestDirectPredictor:
    def followed(self, zs, **settings):
        predictor = DirectPredictor(c.Direct(**settings), zs[0].shape[-1]).double()
        for z in zs:
            predictor.follow(z)
        return predictor

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    @pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 1.0])
    def test_is_its_definition(self, alpha, rho):
        zs = [embeddings(2, 9, 4, seed=s) + 0.5 for s in range(3)]  # not centred
        settings = {"alpha": alpha, "eps": 0.1, "rho": rho}
        torch.testing.assert_close(self.followed(zs, **settings).matrix, slow_matrix(zs, **settings))

    def test_direct_copy_is_the_correlation_over_its_spectral_norm(self):
        zs = [embeddings(2, 9, 4)]
        predictor = self.followed(zs, alpha=1.0, eps=0.25)
        f = predictor.correlation
        torch.testing.assert_close(predictor.matrix, f / torch.linalg.matrix_norm(f, 2) + 0.25 * torch.eye(4).double())

    def test_begins_as_the_identity(self):
        z = embeddings(5, 4)
        assert torch.equal(DirectPredictor(c.Direct(), 4).double()(z), z)

    def test_rho_1_keeps_the_first_spectrum(self):
        zs = [embeddings(2, 9, 4, seed=s) for s in range(3)]
        assert torch.equal(self.followed(zs, rho=1.0).matrix, self.followed(zs[:1], rho=1.0).matrix)

    def test_every_sets_the_matrix_at_the_first_step_and_each_so_many_later(self):
        zs = [embeddings(2, 9, 4, seed=s) for s in range(4)]
        after = [self.followed(zs[:n], every=3).matrix for n in range(1, 5)]
        assert torch.equal(after[0], after[1])
        assert torch.equal(after[1], after[2])
        assert torch.equal(after[3], self.followed(zs).matrix)
        assert not torch.equal(after[3], after[2])

    @pytest.mark.parametrize("size", [0.0, 1e-20, 1e15])
    def test_projections_of_any_size_give_a_finite_matrix(self, size):
        predictor = DirectPredictor(c.Direct(), 4)
        predictor.follow(torch.full((2, 5, 4), size))
        assert predictor.matrix.isfinite().all()
        z = torch.full((5, 4), size, requires_grad=True)
        losses.squared_distance(predictor(z), torch.ones(5, 4)).backward()
        assert z.grad.isfinite().all()

    def test_numbers_that_are_none_are_left_to_the_guard(self):
        """An eigendecomposition of them is an error of the library's, before the run could say what happened."""
        predictor = DirectPredictor(c.Direct(), 4)
        predictor.follow(torch.full((2, 5, 4), torch.nan))
        assert predictor.correlation.isnan().all()

    @pytest.mark.parametrize("name", ["directpred", "contrastive, direct"])
    def test_a_step_predicts_with_what_earlier_steps_left(self, name):
        """DirectPred's code: statistics are those of the step, the matrix is set after the optimizer's update."""
        method = methods.build(run_of(VARIANTS[name]))
        optimizer = build_optimizer(c.SGD(lr=0.05), method)
        for step in range(2):
            before = method.predictor.matrix.clone()
            o = method(views_of(seed=step))
            torch.testing.assert_close(o.p, o.z @ before)
            o.loss.backward()
            update(method, optimizer, o, 0.5)
            assert not torch.equal(method.predictor.matrix, before)
        assert method.predictor.steps == 2
        assert {"predictor.correlation", "predictor.matrix", "predictor.steps"} <= method.state_dict().keys()
        assert not list(method.predictor.parameters())

    def test_its_eigenspaces_are_those_of_the_projections(self):
        z = embeddings(2, 9, 4)
        predictor = self.followed([z])
        trace = predictor_trace(predictor, z.flatten(0, 1))
        assert trace["commutator"] < 1e-9
        assert trace["eigen_alignment"] == pytest.approx(1)
        assert max(trace["singular"]) == pytest.approx(1.1)

    def test_directpred_is_byol_with_this_predictor(self):
        own = VARIANTS["directpred"]
        slots = {name: getattr(own, name) for name in ("projector", "predictor", "target")}
        one, other = (methods.build(run_of(kind(**slots)))(views_of()) for kind in (c.DirectPred, c.BYOL))
        assert torch.equal(one.loss, other.loss)


class TestIsoLoss:
    def test_the_gradient_is_that_of_the_authors_expression(self):
        z, target = embeddings(6, 5).requires_grad_(), embeddings(6, 5, seed=1)
        root = embeddings(5, 5, seed=2)
        w, size = root @ root.T, torch.linalg.norm
        p = z @ w
        (ours,) = torch.autograd.grad(losses.isoloss(z, p, target), z)
        values, vectors = torch.linalg.eigh(w)
        half = z @ (vectors * values.sqrt()) @ vectors.T
        first = (size(p, dim=1) * size(target, dim=1)).detach()
        second = ((p * target).sum(1) / (size(p, dim=1) ** 3 * size(target, dim=1))).detach()
        theirs = -2 * ((z * target).sum(1) / first - second * half.square().sum(1) / 2).mean()
        torch.testing.assert_close(ours, torch.autograd.grad(theirs, z)[0], rtol=1e-9, atol=1e-12)

    def test_the_predictors_matrix_times_it_is_byols_gradient(self):
        z, target = embeddings(6, 5).requires_grad_(), embeddings(6, 5, seed=1)
        root = embeddings(5, 5, seed=2)
        w = root @ root.T
        (isotropic,) = torch.autograd.grad(losses.isoloss(z, z @ w, target), z)
        (ordinary,) = torch.autograd.grad(losses.squared_distance(z @ w, target), z)
        torch.testing.assert_close(isotropic @ w, ordinary, rtol=1e-9, atol=1e-12)

    def test_its_method_sums_both_directions(self):
        method = methods.build(run_of(VARIANTS["directpred, isotropic"]))
        o = method(views_of())
        torch.testing.assert_close(o.loss, losses.byol(*o.p, *o.z_target))
        expected = losses.isoloss(o.z[0], o.p[0], o.z_target[1]) + losses.isoloss(o.z[1], o.p[1], o.z_target[0])
        ours = torch.autograd.grad(o.loss, o.z, retain_graph=True)[0]
        assert torch.equal(ours, torch.autograd.grad(expected, o.z)[0])

    def test_a_predictor_that_is_trained_is_refused(self):
        with pytest.raises(ValueError, match="loss isotropic trains no predictor; use --predictor direct or none"):
            c.DirectPred(loss="isotropic", predictor=c.MLPPredictor())


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")  # the compiler's own deprecations
@pytest.mark.parametrize("name", ["simsiam", "simsiam, shared", "directpred", "directpred, isotropic"])
def test_compiled_as_one_graph_equals_eager(name):
    method, views = methods.build(run_of(VARIANTS[name])), views_of()
    eager = copy.deepcopy(method)(views)
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views)
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(eager.z, compiled.z, rtol=1e-2, atol=1e-3)


class TestAffine:
    @pytest.mark.parametrize("norm", ["batch", "layer", "group", "batch-renorm"])
    @pytest.mark.parametrize(("affine", "scaled"), [("every", 2), ("hidden", 1), ("none", 0)])
    def test_says_which_norms_have_a_scale_and_shift(self, norm, affine, scaled):
        head = build_projector(c.Projector(hidden=32, out=16, norm=norm, norm_at="every", affine=affine), 8)
        norms = [module for module in head if "Norm" in type(module).__name__ or isinstance(module, BatchRenorm1d)]
        assert [bool(list(module.parameters())) for module in norms] == [scaled > 0, scaled > 1]
        assert head(torch.randn(4, 8)).shape == (4, 16)

    def test_two_views_in_one_pass_are_those_of_two(self):
        """As a step on a GPU takes them."""
        run = run_of(VARIANTS["simsiam"])
        apart, at_once, views = methods.build(run), methods.build(run), views_of()
        assert split_batch_norm(at_once)
        torch.testing.assert_close(at_once(views).z, apart(views).z, rtol=1e-3, atol=1e-3)


class TestPredictorRate:
    @pytest.mark.parametrize("optimizer", [c.SGD(lr=0.4), c.Adam(), c.AdamW(), c.LARS()], ids=lambda o: o.kind)
    def test_a_constant_rate_does_not_follow_the_schedule(self, optimizer):
        method = methods.build(run_of(VARIANTS["simsiam"]))
        built = build_optimizer(replace(optimizer, predictor_rate="constant"), method)
        set_rate(built, 0.25 * optimizer.lr)
        rates = {p: group["lr"] for group in built.param_groups for p in group["params"]}
        for name, parameter in method.named_parameters():
            share = 1 if name.startswith("predictor.") else 0.25
            assert rates[parameter] == pytest.approx(share * optimizer.lr), name

    def test_by_default_groups_are_as_they_were(self):
        method = methods.build(run_of(VARIANTS["byol"]))
        (group,) = build_optimizer(c.SGD(), method).param_groups
        assert "peak" not in group

    def test_it_is_no_matter_where_nothing_is_trained_in_a_predictor(self):
        method = methods.build(run_of(VARIANTS["directpred"]))
        optimizer = build_optimizer(c.SGD(predictor_rate="constant"), method)
        assert all("peak" not in group for group in optimizer.param_groups)


def test_small_keeps_what_makes_them():
    """The runs that every test of training shares are of these methods, in miniature."""
    assert small(c.SimSiam()).projector.layers == 3
    assert isinstance(small(c.DirectPred()).predictor, c.Direct)
