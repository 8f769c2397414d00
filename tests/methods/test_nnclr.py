"""NNCLR: whose neighbours are found, what enters the queue, and what is left without negatives or neighbours."""

from dataclasses import replace

import pytest
import torch

from references import dot, unit
from small_runs import VARIANTS, run_of, views_of
from vergence import losses, methods
from vergence.engine.step import update
from vergence.networks.queue import Queue
from vergence.optim import build_optimizer

NNCLR = VARIANTS["nnclr"]


def drawn(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def normalized(z):
    return torch.nn.functional.normalize(z, dim=-1)


class TestNearest:
    def test_is_the_key_of_the_largest_cosine(self):
        queue, keys, z = Queue(9, 4, empty=True), drawn(9, 4), drawn(5, 4, seed=1)
        queue.push(keys)
        expected = [max(keys, key=lambda key: dot(unit(key), unit(row))) for row in z]
        torch.testing.assert_close(queue.nearest(z), normalized(torch.stack(expected)))

    def test_before_any_key_it_is_the_row_itself(self):
        z = drawn(5, 4)
        assert torch.equal(Queue(9, 4, empty=True).nearest(z), z)

    def test_places_that_hold_no_key_are_nobodys_neighbours(self):
        """A cosine of -1 with the only key there is: a place of zeros, or a random direction, would be nearer."""
        queue = Queue(9, 4, empty=True)
        queue.push(torch.ones(1, 4))
        assert torch.equal(queue.nearest(-torch.ones(2, 4)), torch.full((2, 4), 0.5))
        assert queue.filled.sum() == 1

    def test_gives_no_gradient(self):
        queue, z = Queue(9, 4, empty=True), drawn(5, 4).requires_grad_()
        queue.push(drawn(3, 4, seed=1))
        assert not queue.nearest(z).requires_grad

    @pytest.mark.parametrize("sizes", [(3, 5), (9, 9), (7, 7, 7), (20,)], ids=str)
    def test_no_batch_needs_to_divide_the_queue(self, sizes):
        queue, pushed = Queue(9, 4, empty=True), [drawn(n, 4, seed=n + i) for i, n in enumerate(sizes)]
        for keys in pushed:
            queue.push(keys)
        newest = normalized(torch.cat(pushed))[-9:]
        assert queue.filled.sum() == len(newest)
        torch.testing.assert_close(queue.nearest(newest), newest)

    def test_against_lightly(self):
        pytest.importorskip("lightly", reason="LIGHTLY IS MISSING: the comparison did not run")
        from lightly.models.modules import NNMemoryBankModule

        queue, theirs, z = Queue(12, 4, empty=True), NNMemoryBankModule(size=(12, 4)), drawn(6, 4)
        for seed in (1, 2):
            keys = normalized(drawn(6, 4, seed=seed))
            queue.push(keys)
            theirs(keys, update=True)
        torch.testing.assert_close(queue.nearest(z), theirs(z, update=False))


def trained(settings, steps=4):
    """The method after some steps, what it saw at each, and in which queue it looked for neighbours."""
    run = run_of(settings)
    method = methods.build(run)
    optimizer = build_optimizer(run.optimizer, method)
    seen = []
    for seed in range(steps):
        queue = method.queue.keys.clone()
        outputs = method(views_of(seed=seed))
        outputs.loss.backward()
        update(method, optimizer, outputs, 0.5)
        seen.append((outputs, queue))
    return method, seen


def test_the_queue_is_filled_with_first_views_only():
    """A queue that is never filled hides well: the loss falls all the same, and neighbours are random directions."""
    method, seen = trained(replace(NNCLR, queue=20))
    firsts = normalized(torch.cat([outputs.z[0] for outputs, _ in seen]).detach())
    assert not seen[0][1].any()
    assert torch.equal(seen[1][1].any(1), torch.arange(20) < 8)
    torch.testing.assert_close(method.queue.keys, firsts[-20:].roll(12, 0))


def test_neighbours_are_projections_of_other_pictures():
    """From the second step on, as near as the nearest picture of the steps before."""
    _, seen = trained(NNCLR)
    assert seen[0][0].terms["neighbour_distance"] == pytest.approx(0, abs=1e-6)
    for outputs, queue in seen[1:]:
        held = queue[queue.any(1)]
        cosines = normalized(outputs.z.detach()) @ held.T
        torch.testing.assert_close(outputs.terms["neighbour_distance"], (2 - 2 * cosines.amax(-1)).mean())
        neighbours = held[cosines.argmax(-1)]
        torch.testing.assert_close(outputs.loss, losses.nnclr(*neighbours, *outputs.p, temperature=NNCLR.temperature))


class TestSwitches:
    def test_without_negatives_the_denominator_is_gone(self):
        o, alone = (
            methods.build(run_of(settings))(views_of()) for settings in (NNCLR, replace(NNCLR, negatives=False))
        )
        t, (z1, z2), (p1, p2) = NNCLR.temperature, normalized(o.z), normalized(o.p)
        denominators = torch.cat([(z1 @ p2.T / t).logsumexp(1), (z2 @ p1.T / t).logsumexp(1)])
        torch.testing.assert_close(o.loss - alone.loss, denominators.mean() - 1 / t)
        torch.testing.assert_close(alone.loss, (2 - (z1 * p2).sum(1).mean() - (z2 * p1).sum(1).mean()) / (2 * t))

    def test_without_neighbours_a_projection_stands_for_itself(self):
        _, seen = trained(replace(NNCLR, neighbours=False))
        for o, _ in seen:
            torch.testing.assert_close(o.loss, losses.nnclr(*o.z, *o.p, temperature=NNCLR.temperature))
            assert o.terms["neighbour_distance"] < 1e-5

    @pytest.mark.parametrize("neighbours", [True, False])
    def test_only_predictions_are_learnt_from(self, neighbours):
        """The gradient of z goes through p alone, whether a neighbour or z itself is the other side."""
        method, _ = trained(replace(NNCLR, neighbours=neighbours), steps=2)
        o = method(views_of(seed=9))
        (whole,) = torch.autograd.grad(o.loss, o.z, retain_graph=True, allow_unused=True)
        assert o.p.requires_grad
        assert not o.z_target.requires_grad
        through = torch.autograd.grad(o.loss, o.p, retain_graph=True)[0]
        (again,) = torch.autograd.grad(o.p, o.z, through, retain_graph=True)
        torch.testing.assert_close(whole, again)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_is_finite_in_half_precision(dtype, scale):
    z = (scale * drawn(8, 4)).to(dtype).requires_grad_()
    for p in (z, torch.full((8, 4), scale, dtype=dtype, requires_grad=True)):  # and where all predictions are one
        value = losses.nnclr(z.detach(), z.detach(), p, p, temperature=0.05)
        (gradient,) = torch.autograd.grad(value, p)
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")  # the compiler's own deprecations are not ours to mend
@pytest.mark.parametrize("steps", [0, 2], ids=["an empty queue", "a queue with keys"])
def test_compiled_as_one_graph(steps):
    """The same graph whatever the queue holds: how many keys there are is no number of the host's."""
    method, same = (trained(NNCLR, steps)[0] for _ in range(2))
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views_of(seed=9))
    eager = same(views_of(seed=9))
    torch.testing.assert_close(compiled.loss, eager.loss, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(compiled.z, eager.z, rtol=1e-2, atol=1e-3)
