"""SwAV: Sinkhorn's equal shares, prototypes, the queue; and the faults that its other implementations shipped."""

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

import references
from small_runs import VARIANTS, run_of, stepper_of, views_of
from vergence import config as c
from vergence import losses, methods
from vergence.engine.step import update
from vergence.networks.queue import Queue
from vergence.optim import build_optimizer


def scores_of(n=12, k=5, seed=0):
    z = normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)
    prototypes = normalize(torch.randn(k, 8, generator=torch.Generator().manual_seed(seed + 1)).double(), dim=1)
    return z @ prototypes.T


def built(**changes):
    method = c.SwAV(projector=c.Projector(hidden=16, out=8), prototypes=c.Prototypes(count=6), **changes)
    return methods.build(run_of(method))


def one_step(method, optimizer, seed):
    outputs = method(views_of(seed=seed))
    outputs.loss.backward()
    update(method, optimizer, outputs, 0.5)
    return outputs


class TestSinkhorn:
    @pytest.mark.parametrize("iterations", [1, 3, 10])
    @pytest.mark.parametrize("epsilon", [0.05, 0.5])
    def test_it_is_the_official_order_of_rows_and_columns(self, epsilon, iterations):
        scores = scores_of()
        expected = torch.tensor(references.sinkhorn(scores, epsilon, iterations), dtype=torch.float64)
        torch.testing.assert_close(losses.sinkhorn(scores, epsilon, iterations), expected, rtol=1e-10, atol=1e-12)

    def test_without_iterations_it_is_a_softmax(self):
        torch.testing.assert_close(losses.sinkhorn(scores_of(), 0.05, 0), (scores_of() / 0.05).softmax(1))

    def test_prototypes_get_equal_shares(self):
        """Even where every picture prefers one prototype, which a softmax would give them all."""
        scores = scores_of() + torch.tensor([0.9, 0, 0, 0, 0])
        shares = losses.sinkhorn(scores, 0.05, 200).sum(0)
        torch.testing.assert_close(shares, torch.full((5,), 12 / 5, dtype=torch.float64), rtol=1e-3, atol=1e-3)
        assert losses.sinkhorn(scores, 0.05, 0).sum(0)[0] > 10

    def test_collapse_is_shared_out_equally(self):
        collapsed = torch.tensor([[0.9, 0.1, -0.3, 0.0]]).expand(6, 4)
        torch.testing.assert_close(losses.sinkhorn(collapsed), torch.full((6, 4), 0.25))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_no_exponent_overflows(self, dtype):
        """exp(score / 0.05) is 5e8 at a score of 1, and more than float16 holds from 0.56 on."""
        for scores in (torch.eye(4), torch.ones(4, 4), 300 * torch.randn(4, 4)):
            assert not torch.exp(scores.half() / 0.05).isfinite().all() or scores.max() < 0.5
            found = losses.sinkhorn(scores.to(dtype))
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.sum(1), torch.ones(4))

    def test_rows_that_do_not_count_change_nothing(self):
        scores, counted = scores_of(), torch.arange(12) < 7
        found = losses.sinkhorn(scores, counted=counted)
        torch.testing.assert_close(found[:7], losses.sinkhorn(scores[:7]), rtol=1e-12, atol=1e-12)
        assert found.isfinite().all()

    def test_of_half_a_batch_it_is_another(self):
        """So each process is given the scores of all."""
        scores = scores_of()
        halves = torch.cat([losses.sinkhorn(scores[:6]), losses.sinkhorn(scores[6:])])
        assert (halves - losses.sinkhorn(scores)).abs().max() > 0.05

    def test_against_lightly(self):
        swav_loss = pytest.importorskip("lightly.loss.swav_loss", reason="LIGHTLY IS MISSING: nothing was compared")
        scores, past = scores_of(), scores_of(seed=5)
        torch.testing.assert_close(losses.sinkhorn(scores), swav_loss.sinkhorn(scores), rtol=1e-9, atol=1e-12)
        crops = [scores_of(seed=seed) for seed in range(4)]
        assignments = [losses.sinkhorn(torch.cat([view, past]))[:12] for view in crops[:2]]
        ours = losses.across_crops(losses.swav, crops, assignments) / 2
        theirs = swav_loss.SwaVLoss()(crops[:2], crops[2:], [past, past])
        torch.testing.assert_close(ours, theirs.squeeze(), rtol=1e-6, atol=1e-6)


class TestPrototypes:
    def test_they_are_unit_vectors_before_each_forward_pass(self):
        method = built()
        optimizer = build_optimizer(c.SGD(lr=1.0), method)
        before = method.prototypes.weight.detach().clone()
        for seed in range(3):
            torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(6))
            one_step(method, optimizer, seed)
        assert not torch.equal(method.prototypes.weight, before)

    def test_no_gradient_passes_the_length(self):
        """The gradient is that of z @ c, whose part along c is not taken out; with weight norm it is."""
        parts = []
        for weights in ("renormalized", "weight-norm"):
            prototypes = methods.swav.Prototypes(c.Prototypes(count=6, weights=weights), 8)
            losses.swav(prototypes(torch.randn(4, 8)), torch.full((4, 6), 1 / 6)).backward()
            parts.append((prototypes.weight.grad * prototypes.weight).sum(1).abs().max())
        assert parts[0] > 1e-3
        assert parts[1] < 1e-6

    @pytest.mark.parametrize("optimizer", [c.SGD(weight_decay=0.1), c.Adam(weight_decay=0.1), c.LARS()], ids=str)
    def test_frozen_ones_do_not_move_at_all(self, optimizer):
        """Not by weight decay either, which Adam would turn into steps of its rate."""
        stepper = stepper_of(run_of(VARIANTS["swav"], optimizer=optimizer))
        weight = stepper.method.prototypes.weight
        before = weight.detach().clone()
        stepper(1, torch.arange(8), with_layer_stats=False)
        torch.testing.assert_close(weight, before, rtol=0, atol=1e-6)
        assert stepper.frozen
        stepper(2, torch.arange(8, 16), with_layer_stats=False)
        assert not stepper.frozen
        assert (weight - before).abs().max() > 1e-5


class TestQueue:
    def test_it_joins_when_it_is_full_and_its_epoch_has_come(self):
        method, plain = built(queue=16, queue_from_epoch=1.0), built()
        first = method(views_of())
        assert torch.equal(first.loss, plain(views_of()).loss), "an empty queue changes nothing"
        method.after_step(first)
        full = copy.deepcopy(method)
        full.after_step(full(views_of(seed=2)))
        for early in (method, full):  # half full; full, but before its epoch
            torch.testing.assert_close(early(views_of(seed=3)).loss, plain(views_of(seed=3)).loss)
        full.epoch.fill_(1.0)
        assert (full(views_of(seed=3)).loss - plain(views_of(seed=3)).loss).abs() > 1e-5
        method.epoch.fill_(1.0)
        torch.testing.assert_close(method(views_of(seed=3)).loss, plain(views_of(seed=3)).loss)

    def test_it_holds_the_past_of_its_own_view(self):
        method = built(queue=8)
        outputs = method(views_of())
        method.after_step(outputs)
        for queue, z in zip(method.queues.children(), outputs.z, strict=True):
            torch.testing.assert_close(queue.keys, normalize(z.detach(), dim=1))

    def test_an_empty_one_is_filled(self):
        queue = Queue(5, 3, empty=True)
        assert not queue.filled.any()
        queue.push(torch.randn(3, 3))
        assert queue.filled.tolist() == [True, True, True, False, False]
        queue.push(torch.randn(3, 3))
        assert queue.filled.all()
        assert Queue(5, 3).filled.all()

    def test_its_assignment_is_sinkhorns_of_both(self):
        method = built(queue=8, queue_from_epoch=0.0)
        method.after_step(method(views_of()))
        keys = [queue.keys.clone() for queue in method.queues.children()]
        o = method(views_of(seed=2))
        scores = [method.prototypes(z) for z in o.z]
        both = [torch.cat([s, method.prototypes(past)]) for s, past in zip(scores, keys, strict=True)]
        one, other = (losses.sinkhorn(each)[:8] for each in both)
        expected = (losses.swav(scores[1], one) + losses.swav(scores[0], other)) / 2
        torch.testing.assert_close(o.loss, expected)


class TestLoss:
    def test_it_is_the_equation_on_its_outputs(self):
        method = built()
        o = method(views_of())
        scores = [normalize(z, dim=1) @ method.prototypes.weight.T for z in o.z]
        one, other = (losses.sinkhorn(s, 0.05, 3) for s in scores)
        torch.testing.assert_close(o.loss, (losses.swav(scores[1], one) + losses.swav(scores[0], other)) / 2)
        assert 0 <= o.terms["entropy"] <= math.log(6)
        assert 1 <= o.terms["used"] <= 6.001

    def test_both_views_receive_a_gradient(self):
        method = built()
        views = views_of().requires_grad_()
        method(views).loss.backward()
        assert (views.grad.flatten(1).norm(dim=1) > 0).all()

    def test_local_crops_are_compared_with_both_assignments_and_assign_nothing(self):
        method = built()
        views, local = views_of(), torch.rand(3, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        o, alone = method(views, local), built()(views)
        scores = [method.prototypes(z) for z in o.z]
        small = [method.prototypes(method.online(crop[None])[1][0]) for crop in local]
        assignments = [losses.sinkhorn(s) for s in scores]
        total = sum(losses.swav(s, q) for s in small for q in assignments) + 2 * alone.loss
        torch.testing.assert_close(o.loss, total / 8)
        assert torch.equal(o.terms["used"], alone.terms["used"])

    @pytest.mark.parametrize("assignment", ["sinkhorn", "softmax"])
    def test_only_sinkhorn_lets_a_collapsed_batch_use_all_prototypes(self, assignment):
        method = built(assignment=assignment)
        scores = method.prototypes(torch.randn(1, 8).expand(8, 8)).detach()
        used = torch.special.entr(method._assignment(0, scores).mean(0)).sum().exp()
        assert used > 5.9 if assignment == "sinkhorn" else used < 5.5


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("local", [0, 2])
def test_compiled_equals_eager(local):
    method, views = methods.build(run_of(VARIANTS["swav"])), views_of()
    crops = (torch.rand(local, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0)),) if local else ()
    eager = copy.deepcopy(method)(views, *crops)
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views, *crops)
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)
