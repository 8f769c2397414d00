"""DINO: centre, temperatures, the target's prototypes; and the faults that its other implementations shipped."""

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

from small_runs import VARIANTS, run_of, stepper_of, views_of
from vergence import config as c
from vergence import losses, methods
from vergence.engine.gradients import clip
from vergence.engine.step import update
from vergence.networks.heads import build_projector
from vergence.optim import build_optimizer


def built(**changes):
    prototypes = c.Prototypes(count=6, weights="weight-norm")
    projector = c.Projector(layers=3, hidden=16, out=8, norm="none", activation="gelu")
    return methods.build(run_of(c.DINO(projector=projector, prototypes=prototypes, **changes)))


def scores(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestLoss:
    def test_against_lightly(self):
        lightly = pytest.importorskip("lightly.loss", reason="LIGHTLY IS MISSING: nothing was compared")
        teacher, student, center = scores(2, 5, 6), scores(4, 5, 6, seed=1), scores(6, seed=2)
        theirs = lightly.DINOLoss(output_dim=6).double()
        theirs.center.copy_(center)
        value = theirs(list(teacher), list(student), teacher_temp=0.07)

        def pair(s, t):
            return losses.dino(s, t, center, 0.1, 0.07)

        torch.testing.assert_close(losses.across_crops(pair, [*student], [*teacher]) / 2, value, rtol=1e-6, atol=1e-9)
        expected = 0.9 * center + 0.1 * teacher.mean((0, 1))
        torch.testing.assert_close(theirs.center.data.view(-1), expected)

    def test_it_is_the_equation_on_its_outputs(self):
        method = built()
        with torch.no_grad():
            method.center.copy_(torch.linspace(-0.1, 0.1, 6))
        o = method(views_of())
        s = [normalize(z, dim=1) @ normalize(method.prototypes.weight, dim=1).T for z in o.z]
        t = [normalize(z, dim=1) @ normalize(method.target.follower("prototypes").weight, dim=1).T for z in o.z_target]
        expected = (losses.dino(s[1], t[0], method.center) + losses.dino(s[0], t[1], method.center)) / 2
        torch.testing.assert_close(o.loss, expected)
        torch.testing.assert_close(o.scores, torch.stack(t))

    def test_values_at_both_collapses(self):
        alike, one = torch.zeros(4, 6), torch.eye(6)[:1].expand(4, 6)
        torch.testing.assert_close(losses.dino(alike, alike, torch.zeros(6)), torch.tensor(math.log(6)))
        assert losses.dino(one, one, torch.zeros(6)) < 1e-2
        torch.testing.assert_close(losses.sharpened(one, one[0], 0.04), torch.full((4, 6), 1 / 6))

    def test_local_crops_pass_through_the_online_network_only(self):
        method, seen = built(), []
        method.target.network.encoder.register_forward_hook(lambda *given: seen.append(given[1][0].shape[-1]))
        local = torch.rand(3, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        o, alone = method(views_of(), local), built()(views_of())
        small = [method.prototypes(method.online(crop[None])[1][0]) for crop in local]
        total = sum(losses.dino(s, t, method.center) for s in small for t in o.scores) + 2 * alone.loss
        torch.testing.assert_close(o.loss, total / 8)
        assert seen == [16, 16]


class TestCentre:
    def test_it_moves_after_it_was_used_by_the_mean_over_both_views(self):
        method = built()
        first = method(views_of())
        assert not method.center.any()
        method.after_step(first)
        torch.testing.assert_close(method.center, 0.1 * first.scores.mean((0, 1)))
        held = method.center.clone()
        second = method(views_of(seed=2))
        method.after_step(second)
        torch.testing.assert_close(method.center, 0.9 * held + 0.1 * second.scores.mean((0, 1)))

    def test_it_can_be_switched_off(self):
        method = built(center_momentum=None)
        method.after_step(method(views_of()))
        assert not method.center.any()

    def test_it_is_in_the_checkpoint(self):
        assert {"center", "target.copies.prototypes.weight"} <= built().state_dict().keys()
        assert "epoch" not in built().state_dict()


class TestTemperature:
    def test_it_is_linear_in_epochs_then_constant(self):
        method = built(target_temperature_start=0.04, target_temperature=0.07, temperature_epochs=30.0)
        for epoch, expected in ((0, 0.04), (15, 0.055), (30, 0.07), (99, 0.07)):
            method.epoch.fill_(epoch)
            assert method.target_temperature().item() == pytest.approx(expected)

    def test_without_epochs_it_is_the_last_from_the_start(self):
        assert built(temperature_epochs=0.0).target_temperature().item() == pytest.approx(0.07)

    def test_the_engine_tells_the_epoch(self):
        stepper = stepper_of(run_of(VARIANTS["dino"]))
        for step in (1, 2, 5):
            stepper(step, torch.arange(8), with_layer_stats=False)
            assert stepper.method.epoch.item() == pytest.approx((step - 1) / 3)


class TestTargetsPrototypes:
    @pytest.mark.parametrize("start", ["copy", "independent"])
    def test_they_start_as_a_copy(self, start):
        """lightly's benchmark initializes the teacher's head on its own: its prototypes are then other ones."""
        method = built(target=c.MovingAverage(start=start))
        own, theirs = method.prototypes.weight, method.target.follower("prototypes").weight
        assert torch.equal(own, theirs)
        assert own is not theirs
        assert not theirs.requires_grad

    def test_they_move_with_the_target(self):
        method = built(target=c.MovingAverage(decay=0.9, decay_schedule="constant"))
        optimizer = build_optimizer(c.SGD(lr=0.5), method)
        before = method.prototypes.weight.detach().clone()
        outputs = method(views_of())
        outputs.loss.backward()
        update(method, optimizer, outputs, 0.5)
        after = method.prototypes.weight
        assert not torch.equal(after, before)
        torch.testing.assert_close(method.target.follower("prototypes").weight, 0.9 * before + 0.1 * after)

    def test_of_a_stop_gradient_they_are_the_online_networks(self):
        method = built(target=c.StopGradient())
        assert method.target.follower("prototypes") is method.prototypes
        assert len(method.state_dict()) == len(set(method.state_dict()))
        assert not any(name.startswith("target.") for name in method.state_dict())
        o = method(views_of())
        assert not o.scores.requires_grad

    def test_a_copy_of_the_method_has_its_own(self):
        method = built(target=c.MovingAverage(decay=0.0, decay_schedule="constant"))
        other = copy.deepcopy(method)
        with torch.no_grad():
            other.prototypes.weight.add_(1.0)
        other.move_target(0.5, "after-optimizer")
        assert torch.equal(other.target.follower("prototypes").weight, other.prototypes.weight)
        assert not torch.equal(method.target.follower("prototypes").weight, other.prototypes.weight)


def test_the_heads_activation():
    heads = {a: build_projector(c.Projector(layers=3, activation=a), 8) for a in ("relu", "gelu")}
    kinds = {a: [type(m).__name__ for m in head] for a, head in heads.items()}
    assert kinds["gelu"].count("GELU") == kinds["relu"].count("ReLU") == 2
    assert "ReLU" not in kinds["gelu"]


def test_each_parameters_gradient_is_clipped_alone():
    weights = [torch.zeros(3, requires_grad=True) for _ in range(3)]
    for weight, size in zip(weights, (0.1, 3.0, 40.0), strict=True):
        weight.grad = torch.tensor([0.0, size, 0.0])
    clip([*weights, torch.zeros(1, requires_grad=True)], 3.0, "tensor")
    assert [weight.grad.norm().item() for weight in weights] == pytest.approx([0.1, 3.0, 3.0], rel=1e-5)


def test_clipping_by_tensor_is_another_step_than_by_the_whole():
    found = []
    for of in ("whole", "tensor"):
        stepper = stepper_of(
            run_of(VARIANTS["dino"], optimizer=c.SGD(lr=0.1, momentum=0.0, weight_decay=0.0, clip=1e-3, clip_of=of))
        )
        before = [p.detach().clone() for p in stepper.method.online.parameters()]
        stepper(1, torch.arange(8), with_layer_stats=False)
        after = stepper.method.online.parameters()
        found.append(torch.stack([(a - b).norm() for a, b in zip(after, before, strict=True)]))
    assert found[0].norm() <= 1.01e-4 * 1.5
    assert (found[1] <= 1.5e-4).all()
    assert found[1].norm() > 3 * found[0].norm()


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("local", [0, 2])
def test_compiled_equals_eager(local):
    method, views = methods.build(run_of(VARIANTS["dino"])), views_of()
    crops = (torch.rand(local, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0)),) if local else ()
    eager = copy.deepcopy(method)(views, *crops)
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views, *crops)
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)
