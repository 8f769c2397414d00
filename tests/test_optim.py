"""Optimizers against a slow loop, timm and torch; which layers they treat how; rate and weight decay over a run."""

import math

import pytest
import timm.optim
import torch
from torch import nn

from small_runs import VARIANTS, run_of
from vergence import config as c
from vergence import methods
from vergence.errors import InputError
from vergence.optim import LARS, build_optimizer, rate_at, set_rate, set_weight_decay, weight_decay_at

STEPS = 6


class Net(nn.Module):
    """What a method looks like to an optimizer: an online network, a predictor, a target without gradients."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.online = nn.ModuleDict({"encoder": nn.ModuleDict(), "projector": nn.Linear(6, 4)})
        self.online["encoder"]["layer1"] = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.online["encoder"]["layer2"] = nn.Conv2d(6, 6, 3, bias=False)
        self.predictor = nn.Linear(4, 4)
        self.target = nn.Linear(6, 4).requires_grad_(False)

    def named(self):
        return [(name.removeprefix("online."), p) for name, p in self.named_parameters() if p.requires_grad]


def with_gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    for _, parameter in net.named():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return net


def after_steps(net, optimizer, rate=None):
    """The weights after a few steps on gradients that are the same every time."""
    for step in range(STEPS):
        with_gradients(net, step)
        if rate is not None:
            set_rate(optimizer, rate(step))
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach().clone() for name, parameter in net.named()}


def slow_lars(lr, momentum, weight_decay, trust, adapts, decays):
    """The formula, one number at a time."""
    net = Net()
    weights = {name: p.detach().double().flatten().tolist() for name, p in net.named()}
    velocity = {name: [0.0] * len(values) for name, values in weights.items()}
    for step in range(STEPS):
        with_gradients(net, step)
        for name, parameter in net.named():
            w, g = weights[name], parameter.grad.double().flatten().tolist()
            decay = weight_decay if decays(name, parameter) else 0.0
            local = 1.0
            if adapts(name, parameter):
                norm, slope = math.hypot(*w), math.hypot(*g)
                if norm > 0 and slope > 0:
                    local = trust * norm / (slope + decay * norm)
            for i in range(len(w)):
                velocity[name][i] = momentum * velocity[name][i] + local * (g[i] + decay * w[i])
                w[i] -= lr * velocity[name][i]
    return {name: torch.tensor(weights[name]).view_as(p) for name, p in net.named()}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def is_matrix(_name, parameter):
    return parameter.ndim > 1


def lars(*, trust, **settings):
    return c.LARS(trust_coefficient=trust, **settings)


SETTINGS = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2, "trust": 0.02}


@pytest.mark.parametrize("change", [{}, {"momentum": 0.0}, {"weight_decay": 0.0}, {"trust": 1.0}], ids=str)
def test_lars_is_its_formula(change):
    settings = SETTINGS | change
    net = Net()
    got = after_steps(net, build_optimizer(lars(**settings), net))
    assert_same(got, slow_lars(**settings, adapts=is_matrix, decays=is_matrix), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("change", [{}, {"momentum": 0.0}, {"weight_decay": 1e-6}, {"trust": 1.0}], ids=str)
def test_lars_is_timms_where_every_weight_adapts(change):
    settings = SETTINGS | change
    ours, theirs = Net(), Net()
    optimizer = LARS([{"params": [p for _, p in ours.named()]}], **settings)
    names = {"lr": settings["lr"], "momentum": settings["momentum"], "weight_decay": settings["weight_decay"]}
    reference = timm.optim.Lars([p for _, p in theirs.named()], **names, trust_coeff=settings["trust"])
    assert_same(after_steps(ours, optimizer), after_steps(theirs, reference), rtol=1e-5, atol=1e-6)


def test_lars_on_some_layers_is_plain_sgd_on_the_others():
    layers = ("encoder.layer1", "projector")
    net = Net()
    got = after_steps(net, build_optimizer(lars(**SETTINGS, layers=layers), net))

    def chosen(name, parameter):
        return parameter.ndim > 1 and name.startswith(layers)

    assert_same(got, slow_lars(**SETTINGS, adapts=chosen, decays=is_matrix), rtol=1e-4, atol=1e-6)
    plain = Net()
    sgd = torch.optim.SGD([p for _, p in plain.named()], lr=0.3, momentum=0.9, weight_decay=1e-2)
    expected = after_steps(plain, sgd)
    for name in ("encoder.layer2.weight", "predictor.weight"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-6)


def test_biases_and_norms_are_neither_decayed_nor_adapted():
    net, plain = Net(), Net()
    got = after_steps(net, build_optimizer(lars(**SETTINGS), net))
    expected = after_steps(plain, torch.optim.SGD([p for _, p in plain.named()], lr=0.3, momentum=0.9))
    vectors = [name for name, parameter in net.named() if parameter.ndim == 1]
    assert len(vectors) == 5
    for name in vectors:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_of_nothing_is_finite(weight, gradient, decay):
    """Where a norm is 0 the local rate is 1, not 0/0."""
    parameter = nn.Parameter(torch.full((2, 3), weight))
    parameter.grad = torch.full((2, 3), gradient)
    LARS([{"params": [parameter]}], lr=0.5, momentum=0.9, weight_decay=decay, trust=1e-3).step()
    torch.testing.assert_close(parameter.detach(), torch.full((2, 3), weight - 0.5 * (gradient + decay * weight)))


def test_groups_of_lars_have_the_names_that_checkpoints_hold():
    groups = build_optimizer(c.LARS(trust_coefficient=0.02), Net()).param_groups
    assert all(
        group.keys() - {"params"} == {"lr", "momentum", "weight_decay", "trust", "adapt", "rate"} for group in groups
    )
    assert {group["trust"] for group in groups} == {0.02}


def test_lars_leaves_what_has_no_gradient():
    kept, moved = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    moved.grad = torch.ones(2, 2)
    alone = nn.Parameter(torch.ones(2, 2))
    LARS([{"params": [alone]}, {"params": [kept, moved]}], lr=1.0, momentum=0.9, weight_decay=0.1, trust=1.0).step()
    assert torch.equal(alone, torch.ones(2, 2))
    assert torch.equal(kept, torch.ones(2, 2))
    assert not torch.equal(moved, torch.ones(2, 2))


def test_a_closure_gives_the_gradients_and_its_loss():
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([{"params": [parameter], "adapt": False}], lr=0.5, momentum=0.0, weight_decay=0.0, trust=1.0)

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert torch.equal(parameter, torch.zeros(2, 2))


def test_a_factor_multiplies_the_rate_of_the_chosen_layers():
    net = Net()
    optimizer = build_optimizer(
        c.SGD(lr=0.1, momentum=0.0, weight_decay=0.0, factor=10.0, layers=("encoder.layer1",)), net
    )
    before = {name: parameter.detach().clone() for name, parameter in net.named()}
    set_rate(optimizer, 0.01)
    with_gradients(net, 0)
    optimizer.step()
    for name, parameter in net.named():
        rate = 0.1 if name.startswith("encoder.layer1.") else 0.01
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


def test_a_factor_without_layers_changes_nothing():
    one, other = Net(), Net()
    plain = after_steps(one, build_optimizer(c.SGD(lr=0.1), one), rate=lambda step: 0.1)
    assert_same(
        after_steps(other, build_optimizer(c.SGD(lr=0.1, factor=7.0), other), rate=lambda step: 0.1),
        plain,
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (c.SGD(lr=0.1, momentum=0.8, weight_decay=0.01), lambda ps: torch.optim.SGD(ps, 0.1, 0.8, weight_decay=0.01)),
        (
            c.Adam(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1),
            lambda ps: torch.optim.Adam(ps, 0.01, (0.8, 0.9), weight_decay=0.1),
        ),
        (c.AdamW(lr=0.01, weight_decay=0.1), lambda ps: torch.optim.AdamW(ps, 0.01, weight_decay=0.1)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_others_are_torchs(ours, theirs):
    one, other = Net(), Net()
    got = after_steps(one, build_optimizer(ours, one))
    assert_same(got, after_steps(other, theirs([p for _, p in other.named()])), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config", [c.SGD(), c.SGD(layers=("projector",)), c.Adam(), c.AdamW(), c.LARS(), c.LARS(layers=("predictor",))]
)
def test_every_parameter_with_a_gradient_is_in_exactly_one_group(config):
    net = Net()
    optimizer = build_optimizer(config, net)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for _, p in net.named())
    assert all("rate" in group for group in optimizer.param_groups)


@pytest.mark.parametrize("layer", ["encodr", "encoder.layer", "encoder.layer1.0.weigh", "target", "layer1", "none", ""])
@pytest.mark.parametrize("cls", [c.SGD, c.LARS])
def test_unknown_layers_are_refused_with_the_known_ones(cls, layer):
    with pytest.raises(InputError) as caught:
        build_optimizer(cls(layers=("projector", layer)), Net())
    assert f"no parameter in '{layer}'; known: encoder.layer1, encoder.layer2, predictor, projector" in str(
        caught.value
    )


# --- which parameters are treated how ---------------------------------------------------------------------------------

ADAM = {
    "amsgrad": False,
    "betas": (0.9, 0.999),
    "capturable": False,
    "differentiable": False,
    "eps": 1e-8,
    "foreach": None,
    "fused": True,
    "maximize": False,
}
SGD = {
    "momentum": 0.9,
    "dampening": 0,
    "nesterov": False,
    "foreach": None,
    "differentiable": False,
    "fused": True,
    "maximize": False,
}
LAYER1 = [f"encoder.layer1.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")]
REST = ["encoder.layer2.weight", "projector.weight", "projector.bias", "predictor.weight", "predictor.bias"]
MATRICES = ["encoder.layer1.0.weight", "encoder.layer2.weight", "projector.weight", "predictor.weight"]
VECTORS = ["encoder.layer1.0.bias", "encoder.layer1.1.weight", "encoder.layer1.1.bias"]
VECTORS += ["projector.bias", "predictor.bias"]
PLAIN_LARS = {"lr": 0.2, "momentum": 0.9, "weight_decay": 1.5e-6, "trust": 1e-3, "rate": 1.0}
FORMER = {
    c.SGD(): [(LAYER1 + REST, {"lr": 0.03, "weight_decay": 1e-4, "rate": 1.0} | SGD)],
    c.SGD(factor=3.0, layers=("encoder.layer1",)): [
        (LAYER1, {"lr": 0.03, "weight_decay": 1e-4, "rate": 3.0} | SGD),
        (REST, {"lr": 0.03, "weight_decay": 1e-4, "rate": 1.0} | SGD),
    ],
    c.Adam(): [(LAYER1 + REST, {"lr": 3e-4, "weight_decay": 0.0, "decoupled_weight_decay": False, "rate": 1.0} | ADAM)],
    c.AdamW(): [
        (LAYER1 + REST, {"lr": 1e-3, "weight_decay": 0.01, "decoupled_weight_decay": True, "rate": 1.0} | ADAM)
    ],
    c.LARS(): [
        (MATRICES, PLAIN_LARS | {"adapt": True}),
        (VECTORS, PLAIN_LARS | {"adapt": False, "weight_decay": 0.0}),
    ],
    c.LARS(layers=("projector",)): [
        (["projector.weight"], PLAIN_LARS | {"adapt": True}),
        ([name for name in MATRICES if name != "projector.weight"], PLAIN_LARS | {"adapt": False}),
        (VECTORS, PLAIN_LARS | {"adapt": False, "weight_decay": 0.0}),
    ],
}
"""The groups that checkpoints of runs without newer options hold."""


@pytest.mark.parametrize("config", FORMER, ids=str)
def test_groups_are_those_that_checkpoints_hold(config):
    net = Net()
    names = {id(p): name for name, p in net.named()}
    groups = build_optimizer(config, net).param_groups
    assert [
        ([names[id(p)] for p in group["params"]], {k: v for k, v in group.items() if k != "params"}) for group in groups
    ] == FORMER[config]


@pytest.fixture(scope="module")
def transformer():
    """A method with a ViT that has positions, a register token and layer scales."""
    return methods.build(run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_vit2")))


def of_each(optimizer, method, field):
    """The value that each trained parameter's group has of a field."""
    names = {id(p): name.removeprefix("online.") for name, p in method.named_parameters()}
    return {names[id(p)]: group[field] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("cls", [c.SGD, c.Adam, c.AdamW])
def test_weight_decay_of_matrices_is_timms(cls, transformer):
    """Of the encoder's parameters timm leaves the same ones alone, but for layer scales and register tokens, which we
    know by their names; of the heads' all vectors.
    """
    decays = of_each(build_optimizer(cls(weight_decay=0.1, decay="matrices"), transformer), transformer, "weight_decay")
    encoder = transformer.encoder
    left_alone, decayed = timm.optim.param_groups_weight_decay(
        encoder, 0.1, no_weight_decay_list=encoder.no_weight_decay()
    )
    theirs = {id(p): 0.0 for p in left_alone["params"]} | {id(p): 0.1 for p in decayed["params"]}
    ours = {id(p): decays[f"encoder.{name}"] for name, p in encoder.named_parameters()}
    assert ours == theirs
    assert [name for name, p in encoder.named_parameters() if p.ndim > 1 and not ours[id(p)]] == [
        "reg_token",
        "pos_embed",
    ]
    heads = {name: decay for name, decay in decays.items() if not name.startswith("encoder.")}
    assert heads == {name: 0.0 if p.ndim == 1 else 0.1 for name, p in named_heads(transformer)}


def named_heads(method):
    named = [(name.removeprefix("online."), p) for name, p in method.named_parameters() if p.requires_grad]
    return [(name, p) for name, p in named if not name.startswith("encoder.")]


def test_what_is_no_matrix_by_its_name_is_not_decayed():
    net = Net()
    for name in ("mask_token", "gamma", "relative_position_bias_table", "kernel"):
        net.online["encoder"].register_parameter(name, nn.Parameter(torch.ones(2, 3)))
    decays = of_each(build_optimizer(c.AdamW(decay="matrices"), net), net, "weight_decay")
    assert {name for name, p in net.named() if p.ndim > 1 and not decays[name]} == {
        "encoder.mask_token",
        "encoder.gamma",
        "encoder.relative_position_bias_table",
    }


@pytest.mark.parametrize("name", ["test_vit2", "test_resnet"])
def test_rates_fall_from_layer_to_layer_as_timms(name):
    """timm's last layer has the full rate where a model has no classifier; ours the factor, as with one: the heads of a
    method stand in its place (MAE, BEiT).
    """
    method = methods.build(run_of(VARIANTS["byol"], encoder=c.Encoder(name=name)))
    rates = of_each(build_optimizer(c.AdamW(layer_decay=0.5, encoder_rate=0.1), method), method, "rate")
    for group in timm.optim.param_groups_layer_decay(method.encoder, layer_decay=0.5):
        for parameter in group["params"]:
            (own,) = (n for n, p in method.encoder.named_parameters() if p is parameter)
            assert rates[f"encoder.{own}"] == pytest.approx(0.1 * 0.5 * group["lr_scale"]), own
    assert {rates[name] for name, _ in named_heads(method)} == {1.0}
    assert len({rate for name, rate in rates.items() if name.startswith("encoder.")}) > 3


def test_rates_of_layers_and_of_the_encoder_multiply():
    net = Net()
    rates = of_each(build_optimizer(c.SGD(factor=3.0, layers=("encoder.layer1",), encoder_rate=0.1), net), net, "rate")
    assert rates == pytest.approx(
        dict.fromkeys(LAYER1, 0.3) | dict.fromkeys(REST, 1.0) | {"encoder.layer2.weight": 0.1}
    )


def test_an_encoder_that_does_not_name_its_layers_has_no_layer_decay():
    with pytest.raises(InputError, match=r"--optimizer\.layer-decay: ModuleDict does not say what its layers are"):
        build_optimizer(c.AdamW(layer_decay=0.9), Net())


@pytest.mark.parametrize("config", [c.SGD(), c.Adam(), c.AdamW(), c.LARS()], ids=lambda config: config.kind)
def test_weight_decay_follows_its_schedule_where_there_is_any(config):
    decay = {} if isinstance(config, c.LARS) else {"decay": "matrices"}
    config = type(config)(weight_decay=0.0, weight_decay_end=0.4, **decay)
    net = Net()
    optimizer = build_optimizer(config, net)
    set_weight_decay(optimizer, weight_decay_at(config, 0.5))
    decays = of_each(optimizer, net, "weight_decay")
    assert decays == pytest.approx(dict.fromkeys(MATRICES, 0.2) | dict.fromkeys(VECTORS, 0.0))
    constant = build_optimizer(type(config)(), net)
    set_weight_decay(constant, 0.3)
    assert 0.3 not in of_each(constant, net, "weight_decay").values()


@pytest.mark.parametrize(("progress", "decay"), [(0.0, 0.04), (0.25, 0.0927208), (0.5, 0.22), (1.0, 0.4)])
def test_weight_decay_over_a_run_is_dinos(progress, decay):
    """Their `cosine_scheduler(0.04, 0.4, ...)`."""
    assert weight_decay_at(c.AdamW(weight_decay=0.04, weight_decay_end=0.4), progress) == pytest.approx(decay, abs=1e-6)
    assert weight_decay_at(c.AdamW(weight_decay=0.04), progress) == 0.04


HORIZON = 20.0


@pytest.mark.parametrize(
    ("schedule", "epoch", "rate"),
    [
        (c.Constant(), 0, 1.0),
        (c.Constant(), 19.9, 1.0),
        (c.Constant(warmup_epochs=4), 0, 0.0),
        (c.Constant(warmup_epochs=4), 2, 0.5),
        (c.Constant(warmup_epochs=4), 4, 1.0),
        (c.Constant(warmup_epochs=4), 20, 1.0),
        (c.Cosine(), 0, 1.0),
        (c.Cosine(), 5, (1 + math.sqrt(0.5)) / 2),
        (c.Cosine(), 10, 0.5),
        (c.Cosine(), 20, 0.0),
        (c.Cosine(warmup_epochs=4), 0, 0.0),
        (c.Cosine(warmup_epochs=4), 1, 0.25),
        (c.Cosine(warmup_epochs=4), 4, 1.0),
        (c.Cosine(warmup_epochs=4), 12, 0.5),
        (c.Cosine(warmup_epochs=4), 20, 0.0),
        (c.Cosine(warmup_epochs=0.5), 0.25, 0.5),
        (c.Constant(warmup_epochs=4, warmup_from="first-share"), 0, 0.25),
        (c.Constant(warmup_epochs=4, warmup_from="first-share"), 2, 0.75),
        (c.Constant(warmup_epochs=4, warmup_from="first-share"), 3, 1.0),
        (c.Constant(warmup_epochs=4, warmup_from="first-share"), 4, 1.0),
        (c.Cosine(warmup_epochs=4, warmup_from="first-share"), 3, 1.0),
        (c.Cosine(warmup_epochs=4, warmup_from="first-share"), 12, 0.5),
        (c.Cosine(warmup_epochs=2.5, warmup_from="first-share"), 2, 1.0),
        (c.Cosine(warmup_from="first-share"), 0, 1.0),
    ],
)
def test_the_rate_over_a_run(schedule, epoch, rate):
    assert rate_at(schedule, epoch / HORIZON, HORIZON, 1 / HORIZON) == pytest.approx(rate, abs=1e-9)


def test_ten_epochs_of_a_long_horizon_are_nearly_constant():
    """The blog's schedule: 10 of 320 epochs."""
    rates = [rate_at(c.Cosine(), epoch / 320, 320, 1 / 320) for epoch in range(11)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.997
