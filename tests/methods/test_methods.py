"""The contract that every method, with every member of every slot, keeps."""

import copy

import pytest
import torch

from small_runs import CLASSES, VARIANTS, look, run_of, small, views_of
from soak import times
from vergence import config as c
from vergence import losses, methods
from vergence.config.schema import members
from vergence.engine.step import update
from vergence.metrics.measure import measure
from vergence.networks.heads import build_predictor, build_projector
from vergence.networks.queue import Queue
from vergence.networks.target import decay_at
from vergence.optim import build_optimizer
from vergence.register import METHODS


@pytest.fixture(params=VARIANTS, ids=str)
def run(request):
    return run_of(VARIANTS[request.param])


def one_step(method, optimizer, views, progress=0.5):
    outputs = look(method, views)
    outputs.loss.backward()
    update(method, optimizer, outputs, progress)
    return outputs


def test_every_configured_method_is_built():
    assert set(METHODS) == set(members(c.Method))


def test_slots_are_all_covered():
    """A new member of a slot must join the variants above, or nothing here tests it."""
    chosen = VARIANTS.values()
    assert {type(m) for m in chosen} == set(members(c.Method))
    assert {type(m.target) for m in chosen if hasattr(m, "target")} == set(members(c.Target))
    assert {type(m.predictor) for m in chosen if hasattr(m, "predictor")} >= set(members(c.Predictor)) - {
        c.LinearPredictor
    }


def test_trains(run):
    method = methods.build(run)
    optimizer = build_optimizer(run.optimizer, method)
    before = copy.deepcopy(method.state_dict())
    for seed in range(3):
        outputs = one_step(method, optimizer, views_of(seed=seed))
        assert torch.isfinite(outputs.loss)
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name, _ in method.encoder.named_parameters(prefix="online.encoder")} & changed


def test_gradients_go_to_the_online_network_only(run):
    method = methods.build(run)
    look(method, views_of()).loss.backward()
    for name, parameter in method.named_parameters():
        if name.startswith("target."):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
    trained = {
        name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert {"online"} <= trained <= {"online", "predictor", "classifier", "prototypes"}
    assert ("predictor" in trained) == (len(list(getattr(method, "predictor", torch.nn.Identity()).parameters())) > 0)


def test_order_within_a_batch_changes_nothing(run):
    method = methods.build(run).double()  # in float32 rounding alone moves the Tan- losses, which divide by lambda
    views = views_of().double()
    permutation = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    a, b = look(method, views).loss, look(method, views[:, permutation], CLASSES[permutation]).loss
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_first_weights_depend_on_the_seed_alone(run):
    torch.manual_seed(1)
    one = methods.build(run).state_dict()
    torch.manual_seed(2)
    torch.rand(100)
    again = methods.build(run).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    other = methods.build(run_of(run.method, seed=1)).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_measures(run):
    method = methods.build(run)
    numbers = measure(look(method, views_of()))
    assert 0 <= numbers["alignment"] <= 4
    assert -8 <= numbers["uniformity"] <= 0
    assert -1 <= numbers["neg_cos"] <= numbers["pos_cos"] + 0.5 <= 1.5
    assert 1 <= numbers["effective_rank"] <= 8
    has_two_targets = hasattr(run.method, "target") and not isinstance(run.method, c.MoCo)
    assert (numbers["cross_model"] is not None) == has_two_targets


def test_bfloat16_is_near_float32(run):
    views = views_of()
    exact = look(methods.build(run), views)
    rough = look(methods.build(run_of(run.method, precision="bfloat16")), views)
    assert rough.z.dtype == rough.loss.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(exact.z, rough.z, dim=-1)
    assert cosine.mean() > 0.9


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")  # the compiler's own deprecations are not ours to mend
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", times(["moco", "contrastive", "raft"], ["simclr", "moco", "contrastive", "byol", "byol-prime", "raft"])
)
def test_compiled_equals_eager(name):
    """Per commit one becomes machine code, which takes a minute; of the others the graph and its gradient."""
    to_code = name == "moco" or times(0, 1)
    method = methods.build(run_of(VARIANTS[name]))
    views = views_of()
    eager = copy.deepcopy(method)(views)
    compiled = torch.compile(method, fullgraph=True, backend="inductor" if to_code else "aot_eager")(views)
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(eager.z, compiled.z, rtol=1e-2, atol=1e-3)


@pytest.mark.unshaped
@pytest.mark.filterwarnings("default")
def test_compiled_equals_eager_with_local_crops():
    method, views = methods.build(run_of(VARIANTS["byol"])), views_of()
    local = torch.rand(3, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    eager = copy.deepcopy(method)(views, local)
    compiled = torch.compile(method, fullgraph=True, backend="aot_eager")(views, local)
    torch.testing.assert_close(eager.loss, compiled.loss, rtol=1e-3, atol=1e-4)


class TestLossesOfMethods:
    """Each method's loss is its equation on its own outputs."""

    def outputs(self, name):
        return VARIANTS[name], methods.build(run_of(VARIANTS[name]))(views_of())

    def test_byol(self):
        _, o = self.outputs("byol")
        assert torch.equal(o.loss, losses.byol(*o.p, *o.z_target))

    def test_byol_compares_local_crops_with_both_targets(self):
        """Each crop passes alone, as batch norm asks; without them nothing is another number."""
        method, same = (methods.build(run_of(VARIANTS["byol"])) for _ in range(2))
        views, local = views_of(), torch.rand(3, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        o, alone = method(views, local), same(views)
        p_local = torch.stack([same.predictor(same.online(crop[None])[1][0]) for crop in local])
        expected = losses.byol(*o.p, *o.z_target)
        expected = expected + sum(losses.squared_distance(p, z) for p in p_local for z in o.z_target)
        torch.testing.assert_close(o.loss, expected / 4)
        assert all(torch.equal(getattr(o, name), getattr(alone, name)) for name in ("y", "z", "p", "z_target"))
        permutation = torch.randperm(8, generator=torch.Generator().manual_seed(3))
        moved = methods.build(run_of(VARIANTS["byol"]))(views[:, permutation], local[:, permutation])
        torch.testing.assert_close(moved.loss, o.loss, rtol=1e-4, atol=1e-4)
        o.loss.backward()
        assert all(p.grad is not None for p in method.online.parameters())
        assert all(p.grad is None for p in method.target.parameters())

    def test_every_other_method_refuses_local_crops_where_a_run_is_made(self):
        local = c.Views(size=16, local=c.Local(count=2))
        for name, kind in c.Method.members.items():
            if kind.takes_local_crops:
                assert run_of(small(kind()), views=local).views.local.count == 2
            else:
                with pytest.raises(
                    ValueError, match=f"^--views.local.count: {name} takes no local crops; leave it at 0"
                ):
                    run_of(small(kind()), views=local)
        assert c.BYOL.takes_local_crops

    def test_raft_and_byol_prime_differ_in_a_sign(self):
        c_raft, o = self.outputs("raft")
        assert torch.equal(o.loss, losses.raft(*o.p, *o.z_target, c_raft.alpha, c_raft.beta))
        c_prime, o = self.outputs("byol-prime")
        assert torch.equal(o.loss, losses.byol_prime(*o.p, *o.z_target, c_prime.alpha, c_prime.beta))

    def test_supervised_is_told_the_classes_and_uses_both_views(self):
        method = methods.build(run_of(VARIANTS["supervised"]))
        o = look(method, views_of())
        logits = [method.classifier(z.relu()) for z in o.z]
        losses_of_views = [torch.nn.functional.cross_entropy(of_view, CLASSES) for of_view in logits]
        torch.testing.assert_close(o.loss, sum(losses_of_views) / 2)
        assert look(method, views_of(), CLASSES.roll(1)).loss != o.loss

    def test_simclr(self):
        configuration, o = self.outputs("simclr")
        assert torch.equal(o.loss, losses.nt_xent(*o.z, configuration.temperature))

    def test_moco_takes_negatives_from_the_queue(self):
        configuration, _ = self.outputs("moco")
        method = methods.build(run_of(configuration))
        o = method(views_of())
        assert o.z.shape[0] == o.z_target.shape[0] == 1
        assert torch.equal(o.loss, losses.info_nce(o.z[0], o.z_target[0], method.queue.keys, 0.2))
        method.after_step(o)
        torch.testing.assert_close(method.queue.keys[:8], torch.nn.functional.normalize(o.z_target[0], dim=1))

    def test_contrastive_sums_both_directions(self):
        configuration, _ = self.outputs("contrastive")
        method = methods.build(run_of(configuration))
        o = method(views_of())
        one = losses.info_nce(o.p[0], o.z_target[1], method.queue.keys, 0.2)
        other = losses.info_nce(o.p[1], o.z_target[0], method.queue.keys, 0.2)
        assert torch.equal(o.loss, one + other)

    def test_without_a_predictor_p_is_z(self):
        _, o = self.outputs("BYOL-NP")
        assert torch.equal(o.p, o.z)


class TestNormViews:
    def test_separately_means_one_view_at_a_time(self):
        """A view's projections must not depend on the other view."""
        method = methods.build(run_of(VARIANTS["byol"]))
        views = views_of()
        other = views.clone()
        other[1] = views_of(seed=9)[1]
        assert torch.equal(method(views).z[0], method(other).z[0])

    def test_together_means_one_batch(self):
        method = methods.build(run_of(VARIANTS["byol"], norm_views="together"))
        views = views_of()
        other = views.clone()
        other[1] = views_of(seed=9)[1]
        assert not torch.allclose(method(views).z[0], method(other).z[0])


OPTIMIZERS = {
    "sgd": c.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": c.Adam(lr=1e-3, weight_decay=1e-3),
    "lars": c.LARS(lr=1.0, weight_decay=1e-3),
}


class TestTheorem51:
    """BYOL' from (theta, W) and RAFT from (theta, -W) have the same encoder at every step, W = -W, to the last bit."""

    def trained(self, predictor, optimizer, steps=4):
        pair = [
            methods.build(run_of(kind(projector=method_projector(), predictor=predictor)))
            for kind in (c.BYOLPrime, c.RAFT)
        ]
        if not isinstance(predictor, c.NoPredictor):
            with torch.no_grad():
                pair[1].predictor[0].weight.neg_()
        optimizers = [build_optimizer(optimizer, method) for method in pair]
        for step in range(steps):
            for method, its_optimizer in zip(pair, optimizers, strict=True):
                one_step(method, its_optimizer, views_of(seed=step))
        return pair

    def differences(self, prime, raft):
        theirs = raft.online.state_dict()
        return [name for name, value in prime.online.state_dict().items() if not torch.equal(value, theirs[name])]

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_with_a_linear_predictor(self, optimizer):
        prime, raft = self.trained(c.LinearPredictor(), OPTIMIZERS[optimizer])
        assert self.differences(prime, raft) == []
        assert torch.equal(prime.predictor[0].weight, -raft.predictor[0].weight)

    def test_fails_without_a_predictor(self):
        prime, raft = self.trained(c.NoPredictor(), OPTIMIZERS["sgd"])
        assert self.differences(prime, raft)


class TestTargets:
    def moved(self, target, moment="after-optimizer", progress=0.25):
        method = methods.build(run_of(c.BYOL(projector=method_projector(), target=target)))
        with torch.no_grad():
            for parameter in method.online.parameters():
                parameter.add_(1.0)
        name, parameter = next(iter(method.target.network.named_parameters()))
        before, online = parameter.clone(), dict(method.online.named_parameters())[name]
        method.move_target(progress, moment)
        return before, online, parameter

    def test_moving_average_is_the_slow_formula(self):
        before, online, after = self.moved(c.MovingAverage(decay=0.9, decay_schedule="constant"))
        torch.testing.assert_close(after, 0.9 * before + 0.1 * online)

    def test_cosine_rises_to_one(self):
        rule = c.MovingAverage(decay=0.9, decay_schedule="cosine")
        assert decay_at(rule, 0.0) == pytest.approx(0.9)
        assert decay_at(rule, 0.5) == pytest.approx(0.95)
        assert decay_at(rule, 1.0) == pytest.approx(1.0)

    def test_copy(self):
        _, online, after = self.moved(c.Copy(), "before-optimizer")
        assert torch.equal(after, online)

    def test_moves_at_its_moment_only(self):
        before, _, after = self.moved(c.MovingAverage(update_when="before-optimizer", decay=0.5))
        assert torch.equal(before, after)
        before, _, after = self.moved(c.MovingAverage(update_when="before-optimizer", decay=0.5), "before-optimizer")
        assert not torch.equal(before, after)

    def test_frozen_stays(self):
        before, _, after = self.moved(c.Frozen())
        assert torch.equal(before, after)

    def test_starts(self):
        for start, same in (("copy", True), ("independent", False)):
            method = methods.build(run_of(c.BYOL(projector=method_projector(), target=c.MovingAverage(start=start))))
            name, weight = next(iter(method.target.network.named_parameters()))
            assert torch.equal(weight, dict(method.online.named_parameters())[name]) is same

    def test_batch_norm_modes(self):
        views = views_of()
        for mode, follows in (("batch", False), ("running", True)):
            rule = c.MovingAverage(batch_norm=mode, decay=0.5, decay_schedule="constant")
            method = methods.build(run_of(c.BYOL(projector=method_projector(), target=rule))).train()
            bn = next(m for m in method.target.network.modules() if isinstance(m, torch.nn.BatchNorm2d))
            assert bn.training is not follows
            start = bn.running_mean.clone()
            with torch.no_grad():
                method.target(views, method.online)
            assert torch.equal(bn.running_mean, start) is follows
            method.online(views)
            held = bn.running_mean.clone()
            method.move_target(0.5, "after-optimizer")
            assert torch.equal(bn.running_mean, held) is not follows

    @pytest.mark.parametrize("start", ["copy", "independent"])
    def test_a_target_drops_no_paths(self, start):
        encoder = c.Encoder(name="test_vit", drop_path=0.5)
        rule = c.MovingAverage(start=start)
        method = methods.build(run_of(c.BYOL(projector=method_projector(), target=rule), encoder=encoder)).train()
        views = views_of()
        assert torch.equal(method.target(views, method.online), method.target(views, method.online))
        assert not torch.equal(method.online(views)[0], method.online(views)[0])


def method_projector():
    return c.Projector(hidden=16, out=8)


class TestHeads:
    @pytest.mark.parametrize("norm", ["none", "batch", "layer", "group", "batch-renorm"])
    @pytest.mark.parametrize("weight", ["plain", "standardized"])
    def test_norms(self, norm, weight):
        kinds = {"batch": "BatchNorm1d", "layer": "LayerNorm", "group": "GroupNorm", "batch-renorm": "BatchRenorm1d"}
        for norm_at, count in (("hidden", 1), ("every", 2)):
            head = build_projector(c.Projector(hidden=32, out=16, norm=norm, norm_at=norm_at, weight=weight), 8)
            names = [type(m).__name__ for m in head]
            assert names.count(kinds.get(norm, "nothing")) == (count if norm != "none" else 0)
            assert head(torch.randn(4, 8)).shape == (4, 16)

    def test_linear_identity_starts_as_the_identity(self):
        z = torch.randn(4, 6)
        assert torch.equal(build_predictor(c.LinearIdentityPredictor(), 6)(z), z)

    def test_standardized_weights(self):
        head = build_projector(c.Projector(layers=1, out=5, weight="standardized", norm="none"), 400)
        x = torch.eye(400)
        w = (head(x) - head(torch.zeros(1, 400))).detach().T
        torch.testing.assert_close(w.mean(1), torch.zeros(5), atol=1e-6, rtol=0)
        torch.testing.assert_close(w.square().sum(1), torch.ones(5), atol=1e-3, rtol=0)

    def test_batch_renorm_is_batch_norm_at_first_and_in_evaluation(self):
        from vergence.networks.batch_renorm import BatchRenorm1d

        x = 3 + 2 * torch.randn(16, 5)
        renorm, norm = BatchRenorm1d(5), torch.nn.BatchNorm1d(5)
        torch.testing.assert_close(renorm(x), norm(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(renorm.running_var, norm.running_var)
        torch.testing.assert_close(renorm.eval()(x), norm.eval()(x))

    def test_batch_renorm_later_uses_the_running_statistics(self):
        from vergence.networks.batch_renorm import BatchRenorm1d

        x = 1 + 1.5 * torch.randn(64, 5)
        renorm = BatchRenorm1d(5)
        renorm.num_batches_tracked.fill_(40_000)  # limits r <= 3, d <= 5: nothing is clipped here
        expected = (x - 0.0) / (1 + renorm.eps) ** 0.5  # running mean 0 and variance 1
        torch.testing.assert_close(renorm(x), expected, rtol=1e-4, atol=1e-4)


def test_queue_is_a_ring():
    queue = Queue(5, 2)
    keys = torch.nn.functional.normalize(torch.arange(1.0, 17.0).view(8, 2), dim=1)
    queue.push(keys[:3])
    queue.push(keys[3:6])
    torch.testing.assert_close(queue.keys, keys[[5, 1, 2, 3, 4]])
    queue.push(keys)  # more than it holds: the last five
    assert {tuple(row.tolist()) for row in queue.keys} == {tuple(row.tolist()) for row in keys[3:]}
