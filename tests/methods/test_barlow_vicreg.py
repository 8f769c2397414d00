"""Barlow Twins and VICReg: what their terms do near a point, in half precision, and what their peers got wrong."""

import math
from dataclasses import replace

import pytest
import torch

from small_runs import VARIANTS, run_of, views_of
from vergence import losses, methods


def drawn(n, d, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def force(loss, size, views_differ=0.0):
    """-dL/ds for z_i = c + s e_i at s = size: what pushes apart embeddings that lie around a point."""
    s = torch.tensor(size, dtype=torch.float64, requires_grad=True)
    point, one = drawn(1, 128, seed=1), drawn(256, 128, seed=2)
    one = (one - one.mean(0)) / one.std(0)
    other = one + views_differ * drawn(256, 128, seed=3)
    (slope,) = torch.autograd.grad(loss(point + s * one, point + s * other), s)
    return -slope.item()


class TestForceNearAPoint:
    """Which distances from complete collapse a loss can leave again."""

    @pytest.mark.parametrize("size", [0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4])
    def test_eps_sets_where_the_variance_term_gives_up(self, size):
        """The weight times s / sqrt(s^2 + eps): the same at every distance, but for eps, which takes it all away."""
        expected = 25 * size / math.sqrt(size**2 + 1e-4)
        assert force(lambda a, b: losses.vicreg(a, b, 0, 25, 0), size) == pytest.approx(expected)
        assert force(lambda a, b: losses.vicreg(a, b, 0, 25, 0, eps=1e-14), size) == pytest.approx(25, rel=1e-5)

    def test_without_the_variance_term_nothing_pushes(self):
        assert force(lambda a, b: losses.vicreg(a, b, 25, 0, 1), 0.01, views_differ=0.3) < 0

    def test_standardization_pushes_until_its_own_eps(self):
        """The force grows as embeddings come near each other, down to a spread of sqrt(1e-5)."""
        forces = [force(losses.barlow_twins, size, views_differ=0.3) for size in (0.1, 0.03, 0.01, 0.003)]
        assert 0 < forces[0] < forces[1] < forces[2] < forces[3]


class TestCollapsed:
    """At one point for all pictures: values are those that the docstrings name, no gradient is NaN."""

    @pytest.mark.parametrize("loss", [losses.barlow_twins, losses.vicreg])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("value", [0.0, 1.0, -256.0])
    def test_is_finite(self, loss, dtype, value):
        z = torch.full((64, 8), value, dtype=dtype, requires_grad=True)
        collapsed = loss(z, z)
        collapsed.backward()
        assert collapsed.item() == pytest.approx({losses.barlow_twins: 8.0, losses.vicreg: 24.75}[loss])
        assert torch.equal(z.grad, torch.zeros_like(z))

    @pytest.mark.parametrize("loss", [losses.barlow_twins, losses.vicreg])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_variances_beyond_half_precision_are_finite(self, loss, dtype):
        """1,000 squared is none of float16's numbers: a variance taken in it would be infinite."""
        z1, z2 = ((1000 * drawn(32, 8, seed=s)).to(dtype) for s in range(2))
        expected = loss(z1.double(), z2.double())
        torch.testing.assert_close(loss(z1, z2), expected.float(), rtol=1e-4, atol=1e-4)
        z = z1.float().requires_grad_()
        loss(z, z2).backward()
        assert z.grad.isfinite().all()


class TestFaultsOfPeers:
    def test_the_diagonal_can_reach_one(self):
        """With the unbiased variance C_ii is (n - 1) / n at most, and the term of four equal pictures is d / 16."""
        z = 100 * drawn(4, 16)
        assert losses.barlow_twins_terms(z, z)[0] < 1e-12

    @pytest.mark.parametrize("loss", [losses.barlow_twins, losses.vicreg])
    def test_is_of_the_whole_batch(self, loss):
        """Parts that are standardized alone have other losses: each process is given the embeddings of all."""
        z1, z2 = drawn(16, 8, seed=1), drawn(16, 8, seed=2)
        parts = (loss(z1[:8], z2[:8]) + loss(z1[8:], z2[8:])) / 2
        assert abs(loss(z1, z2) - parts) > 0.01 * parts

    @pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
    def test_gradients_are_those_of_one_process(self, name):
        """Two ranks that each hold half a batch: the mean of their gradients, which a raw all-reduce would halve."""

        class Half:
            """A rank whose gather has gradients for its own part from both ranks, as `processes.Ranks` has."""

            def __init__(self, rank):
                self.rank, self.others = rank, None

            def all_gather(self, part, dim):
                parts = [self.others, self.others]
                parts[self.rank] = part * 2 - part.detach()  # the sum of two ranks' equal gradients
                return torch.cat(parts, dim)

        views = views_of()
        run = run_of(replace(VARIANTS[name], projector=replace(VARIANTS[name].projector, norm="layer")))
        run = replace(run, encoder=replace(run.encoder, norm="group"))  # no batch norm: its own matter
        whole = methods.build(run).double()
        expected = torch.autograd.grad(whole(views.double()).loss, whole.online.projector.parameters())
        found = []
        for rank in range(2):
            method = methods.build(run).double()
            method.group = Half(rank)
            with torch.no_grad():
                method.group.others = method.online(views[:, 4 * (1 - rank) :][:, :4].double())[1]
            loss = method(views[:, 4 * rank :][:, :4].double()).loss
            found.append(torch.autograd.grad(loss, method.online.projector.parameters()))
        for one, two, all_of_it in zip(*found, expected, strict=True):
            torch.testing.assert_close((one + two) / 2, all_of_it, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("loss", [losses.barlow_twins_terms, losses.variance_hinge, losses.covariance_penalty])
    def test_one_picture_has_no_variance(self, loss):
        z = torch.ones(1, 4)
        with pytest.raises(ValueError, match="needs at least 2 embeddings, not 1"):
            loss(z, z) if loss is losses.barlow_twins_terms else loss(z)


class TestMethods:
    """Each loss is its equation on the method's own embeddings, whatever is switched off."""

    @pytest.mark.parametrize("changes", [{}, {"off_diagonal": 0.0}, {"scale": 0.1}], ids=str)
    def test_barlow_twins(self, changes):
        settings = replace(VARIANTS["barlow-twins"], **changes)
        o = methods.build(run_of(settings))(views_of())
        torch.testing.assert_close(o.loss, settings.scale * losses.barlow_twins(*o.z, settings.off_diagonal))
        assert torch.equal(
            o.loss, settings.scale * (o.terms["diagonal"] + settings.off_diagonal * o.terms["off_diagonal"])
        )

    @pytest.mark.parametrize(
        "changes", [{}, {"variance": 0.0}, {"covariance": 0.0}, {"invariance": 0.0}, {"eps": 0.5}], ids=str
    )
    def test_vicreg(self, changes):
        settings = replace(VARIANTS["vicreg"], **changes)
        o = methods.build(run_of(settings))(views_of())
        weights = (settings.invariance, settings.variance, settings.covariance)
        torch.testing.assert_close(o.loss, losses.vicreg(*o.z, *weights, settings.eps))
        torch.testing.assert_close(o.loss, sum(w * t for w, t in zip(weights, o.terms.values(), strict=True)))
        assert math.isfinite(o.loss.item())

    @pytest.mark.unshaped
    @pytest.mark.filterwarnings("default")  # the compiler's own deprecations are not ours to mend
    @pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
    def test_compiled_as_one_graph(self, name):
        method, same = (methods.build(run_of(VARIANTS[name])) for _ in range(2))
        compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views_of())
        torch.testing.assert_close(compiled.loss, same(views_of()).loss, rtol=1e-3, atol=1e-3)
