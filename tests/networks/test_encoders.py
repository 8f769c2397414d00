"""Backbones: the ones both documents used, with other stems and norms, and others that timm knows."""

import copy
import dataclasses
import threading

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from marks import slow
from small_runs import SHORT
from vergence import config as c
from vergence import register, runs
from vergence.config import suggest
from vergence.engine.probing import Probing
from vergence.errors import InputError
from vergence.networks import encoders
from vergence.networks.encoders import StandardizedConv2d, build_encoder, fold_batch_norm, require_known
from vergence.networks.heads import groups_for


def pictures(n=2, size=32, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def shaken(module, seed=0):
    """The module with norm statistics and scales that are not those of the first day."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, _BatchNorm | nn.GroupNorm):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


def kinds(module):
    return {type(part) for part in module.modules()}


# --- the documents' ResNet --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", slow("resnet50")])
def test_resnet_is_torchvisions(name):
    """Same parameters by name and shape; with its weights, the same representations (in float64: no order of summation
    shows).
    """
    ours = build_encoder(c.Encoder(name=name), 64).eval().double()
    theirs = shaken(getattr(torchvision.models, name)(weights=None)).eval().double()
    theirs.fc = nn.Identity()
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        x = pictures(size=64).double()
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


def test_resnet18_starts_as_torchvisions():
    """A residual branch's last scale is 1, not timm's 0; weights are drawn from the same distributions."""
    torch.manual_seed(0)
    ours, theirs = build_encoder(c.Encoder(), 64).state_dict(), torchvision.models.resnet18(weights=None).state_dict()
    scales = [name for name in ours if name.endswith("bn2.weight")]
    assert len(scales) == 8
    assert all((ours[name] == 1).all() for name in scales)
    for name in (name for name in ours if name.endswith(("conv1.weight", "conv2.weight"))):
        torch.testing.assert_close(ours[name].std(), theirs[name].std(), rtol=0.05, atol=0)


def test_the_cifar_stem_keeps_the_picture():
    encoder = build_encoder(c.Encoder(stem="cifar"), 32).eval()
    assert encoder.conv1.kernel_size == (3, 3)
    assert encoder.conv1.stride == (1, 1)
    assert not any(isinstance(part, nn.MaxPool2d) for part in encoder.modules())
    with torch.no_grad():
        assert encoder.forward_features(pictures()).shape == (2, 512, 4, 4)
        assert build_encoder(c.Encoder(), 32).forward_features(pictures()).shape == (2, 512, 1, 1)


# --- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "test_resnet", "test_efficientnet", "test_byobnet"])
@pytest.mark.parametrize("norm", ["group", "group-ws"])
def test_another_norm_leaves_no_batch_norm(name, norm):
    torch.manual_seed(0)
    encoder = build_encoder(c.Encoder(name=name, norm=norm), 32)
    plain = build_encoder(c.Encoder(name=name), 32)
    assert not any(isinstance(part, _BatchNorm) for part in encoder.modules())
    replaced = sum(isinstance(part, nn.GroupNorm) for part in encoder.modules())
    assert replaced == sum(isinstance(part, _BatchNorm) for part in plain.modules()) > 0
    assert (StandardizedConv2d in kinds(encoder)) == (norm == "group-ws")
    counts = [sum(p.numel() for p in net.parameters()) for net in (encoder, plain)]
    assert counts[0] == counts[1]
    alone, together = encoder.eval()(pictures(1)), encoder(torch.cat([pictures(1), 9 * pictures(3, seed=1)]))[:1]
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_byobnet"])
def test_a_norm_keeps_the_activation_it_carries(name):
    """timm's norm layers with an activation inside: without it two convolutions would follow each other."""
    encoder = build_encoder(c.Encoder(name=name, norm="group"), 32)
    plain = build_encoder(c.Encoder(name=name), 32)
    parts = dict(encoder.named_modules())
    carried = [
        (key, part) for key, part in plain.named_modules() if isinstance(part, _BatchNorm) and hasattr(part, "act")
    ]
    assert any(not isinstance(part.act, nn.Identity) for _, part in carried)
    for key, part in carried:
        assert type(parts[key].act) is type(part.act)


@pytest.mark.parametrize(("width", "groups"), [(64, 32), (512, 32), (24, 24), (40, 20), (33, 11), (37, 1), (8, 8)])
def test_groups(width, groups):
    assert groups_for(width) == groups


def test_a_standardized_convolution_is_its_definition():
    torch.manual_seed(0)
    convolution = StandardizedConv2d(3, 5, 3, padding=1)
    convolution.weight.data.mul_(7).add_(2)
    weight = convolution.weight.detach().double()
    slow = torch.zeros_like(weight)
    for channel in range(len(weight)):
        values = weight[channel].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        slow[channel] = (weight[channel] - mean) / (variance + 1e-10) ** 0.5
    x = pictures(size=8)
    expected = nn.functional.conv2d(x.double(), slow, convolution.bias.detach().double(), padding=1)
    torch.testing.assert_close(convolution(x).detach().double(), expected, rtol=1e-4, atol=1e-4)


# --- other backbones --------------------------------------------------------------------------------------------------

FAMILIES = [
    "test_resnet",
    "test_vit",
    "test_efficientnet",
    "test_convnext",
    "test_byobnet",
    "resnet18",
    "resnext50_32x4d",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_width_is_what_comes_out(name):
    encoder = build_encoder(c.Encoder(name=name), 32)
    assert encoder.training
    assert encoder.eval()(pictures()).shape == (2, encoder.dim)
    assert 8 < encoder.dim <= 2048


@pytest.mark.parametrize("size", [32, 64, 160])
def test_a_transformer_is_built_for_its_size(size):
    encoder = build_encoder(c.Encoder(name="test_vit"), size).eval()
    assert encoder.patch_embed.img_size == (size, size)
    assert encoder(pictures(size=size)).shape == (2, encoder.dim)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_with_local_crops_it_takes_both_sizes_and_has_the_weights_it_has_without(name):
    torch.manual_seed(0)
    encoder = build_encoder(c.Encoder(name=name), 64, 32).eval()
    torch.manual_seed(0)
    alone = build_encoder(c.Encoder(name=name), 64).eval()
    assert torch.equal(encoder(pictures(size=64)), alone(pictures(size=64)))
    assert encoder(pictures(size=32)).shape == (2, encoder.dim)
    alone.load_state_dict(encoder.state_dict())


def test_a_size_of_local_crops_that_does_not_fit_is_one_line():
    with pytest.raises(InputError, match=r"^--views\.local\.size: 'test_vit' cannot take pictures of 24 px") as caught:
        build_encoder(c.Encoder(name="test_vit"), 64, 24)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (c.Encoder(name="resnet19"), "unknown model 'resnet19'; did you mean 'resnet1"),
        (c.Encoder(name="zzzzzzzz"), "unknown model 'zzzzzzzz'; timm has resnet18"),
        (c.Encoder(name="../../etc/passwd"), "--encoder: '../../etc/passwd' is no model of timm's but a place"),
        (
            c.Encoder(name="resnet18.a1_in1k"),
            "names pretrained weights; write --encoder.weights timm:resnet18.a1_in1k, or resnet18 for random ones",
        ),
        (c.Encoder(name="test_resnet."), "or test_resnet for random ones"),
        (c.Encoder(name=""), "--encoder: unknown model ''"),
        (c.Encoder(name="test_vit", stem="cifar"), "--encoder.stem: 'test_vit' has no ResNet stem to replace"),
        (c.Encoder(name="test_efficientnet", stem="cifar"), "has no ResNet stem"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_built(config, said):
    with pytest.raises(InputError) as caught:
        build_encoder(config, 32)
    (line,) = str(caught.value).splitlines()
    assert said in line
    assert len(line) < 300


def test_a_size_that_does_not_fit_is_one_line():
    with pytest.raises(InputError, match="cannot take pictures of 8 px") as caught:
        build_encoder(c.Encoder(name="test_vit"), 8)
    assert len(str(caught.value).splitlines()) == 1


MEANT = {
    "resnet-50": "resnet50",
    "ResNet50": "resnet50",
    "resnet 18": "resnet18",
    "RN50": "resnet50",
    "resnet": "resnet18",
    "vit": "vit_small_patch16_224",
    "ViT-B/16": "vit_base_patch16_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit-base-patch16-224": "vit_base_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
    "dinov2_vitb14": "vit_base_patch14_dinov2",
    "dino_vits16": "vit_small_patch16_224",
    "convnext": "convnext_tiny",
    "ConvNeXt-Base": "convnext_base",
    "efficientnet": "efficientnet_b0",
    "EfficientNet-B3": "efficientnet_b3",
    "clip": "vit_base_patch16_clip_224",
    "mae": "vit_base_patch16_224",
    "densenet-121": "densenet121",
    "wide-resnet-50-2": "wide_resnet50_2",
    "torchvision/resnet18": "resnet18",
    "torchvision.models.resnet34": "resnet34",
    "timm/resnet18": "resnet18",
    "timm/resnet18.a1_in1k": "resnet18",
    "hf-hub:timm/resnet50.a1_in1k": "resnet50",
    "microsoft/resnet-50": "resnet50",
    "facebook/dinov2-small": "vit_small_patch14_dinov2",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_name_that_people_type_is_answered_with_what_was_meant(name):
    with pytest.raises(InputError) as caught:
        require_known(name)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"--encoder: unknown model '{name}'; did you mean '{MEANT[name]}'")
    require_known(MEANT[name])


def test_every_family_has_a_member_that_timm_has():
    assert {*suggest.ENCODERS.values()} <= {*timm.list_models()}


@pytest.mark.parametrize("name", ["./weights.pth", "runs/x", "weights.safetensors", "/", "~/byol", "../x"])
def test_a_place_is_no_encoder(name):
    with pytest.raises(InputError, match="is no model of timm's but a place; name a model"):
        require_known(name)


# --- for evaluation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [c.Encoder(), c.Encoder(stem="cifar"), c.Encoder(name="test_resnet"), c.Encoder(name="test_vit")], ids=str
)
def test_folded_batch_norms_give_the_same_features(config):
    encoder = shaken(build_encoder(config, 32)).eval()
    before = copy.deepcopy(encoder.state_dict())
    folded = fold_batch_norm(encoder)
    with torch.no_grad():
        expected, got = encoder(pictures(4)), folded(pictures(4))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    if "resnet" in config.name:
        assert folded is not encoder
        assert not any(isinstance(part, _BatchNorm) for part in folded.modules())


class Joined(nn.Module):
    """A batch norm that can be folded but for what else its convolution's output is used for."""

    def __init__(self, also):
        super().__init__()
        self.conv, self.norm, self.also = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), also

    def forward(self, x):
        y = self.conv(x)
        z = self.norm(y)
        return (z + y if self.also == "added" else self.norm(z) if self.also == "twice" else z).mean((2, 3))


@pytest.mark.parametrize(("also", "folds"), [("", True), ("added", False), ("twice", False)])
def test_what_cannot_be_folded_is_used_as_it_is(also, folds):
    encoder = shaken(Joined(also)).eval()
    folded = fold_batch_norm(encoder)
    assert (folded is not encoder) == folds
    torch.testing.assert_close(folded(pictures(4)), encoder(pictures(4)))


def test_a_fold_changes_no_call_of_another_thread():
    """torch.fx would: it traces by replacing every module's call in the process."""
    encoder, other, x = shaken(build_encoder(c.Encoder(name="test_resnet"), 32)).eval(), nn.Linear(3, 2), torch.ones(3)
    expected, wrong, done = other(x), [], threading.Event()

    def call():
        while not done.is_set():
            if not torch.equal(other(x), expected):
                wrong.append(1)

    thread = threading.Thread(target=call)
    thread.start()
    for _ in range(5):
        assert fold_batch_norm(encoder) is not encoder
    done.set()
    thread.join()
    assert not wrong


def test_folding_leaves_the_global_random_numbers_alone():
    encoder = build_encoder(c.Encoder(name="test_resnet"), 32)
    state = torch.get_rng_state()
    fold_batch_norm(encoder)
    assert torch.equal(torch.get_rng_state(), state)


def test_names_of_timm_do_not_download():
    """Weights are random: a name with a published tag would promise others."""
    assert timm.is_model("resnet18")
    one, other = (build_encoder(c.Encoder(name="test_resnet"), 32).state_dict() for _ in range(2))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_run_that_was_trained_under_a_tag_is_still_read(tmp_path, monkeypatch):
    """The tag chose nothing: its weights were as random as those of the name without."""
    tagged = dataclasses.replace(SHORT, encoder=c.Encoder(name="test_resnet.r160_in1k"))
    with monkeypatch.context() as before:
        for module in (encoders, runs.execute):
            before.setattr(module, "require_known", lambda name: None)
        runs.run_training(tagged, tmp_path / "tagged")
    plain = runs.run_training(dataclasses.replace(SHORT, encoder=c.Encoder(name="test_resnet")), tmp_path / "plain")
    for folder in ("tagged", "plain"):
        assert runs.score(tmp_path / folder, probing=Probing(probes=("knn",)))["knn"] == plain["knn"]
        assert runs.score(tmp_path / folder, probing=Probing(probes=("knn",)), random=True)["knn"]
    with pytest.raises(InputError, match=r"or test_resnet for random ones$"):
        runs.run_training(tagged, tmp_path / "again")
    assert not (tmp_path / "again").exists()


# --- pooling and drop path --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "eva02_tiny_patch14_224", "cait_xxs24_224"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_pooling_takes_the_class_token_or_the_mean_of_the_patches(pool, name):
    """With the weights of timm's own, whose names do not depend on it."""
    size = 224 if name.startswith("cait") else 28 if name.startswith("eva") else 32
    theirs = build_encoder(c.Encoder(name=name), size).eval()
    if pool == "cls" and theirs.cls_token is None:
        pytest.skip("has no class token")
    ours = build_encoder(c.Encoder(name=name, pool=pool), size).eval()
    kept = {key: value for key, value in theirs.state_dict().items() if not key.startswith("attn_pool.")}
    ours.load_state_dict(kept)
    with torch.no_grad():
        x = pictures(1, size)
        first = 0 if getattr(ours, "pool_include_prefix", False) else getattr(ours, "num_prefix_tokens", 1)
        tokens = ours.forward_features(x)
        pooled = tokens[:, 0] if pool == "cls" else tokens[:, first:].mean(1)
        assert torch.allclose(ours(x), getattr(ours, "fc_norm", nn.Identity())(pooled), atol=1e-6)


def test_the_default_pooling_and_no_drop_path_ask_nothing_of_timm(monkeypatch):
    asked, create = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **named: (asked.append(named), create(*a, **named))[1])
    build_encoder(c.Encoder(name="test_vit"), 32)
    assert asked == [{"num_classes": 0}]


@pytest.mark.parametrize("local_size", [None, 16])
def test_drop_path_falls_to_the_first_block_and_is_of_training_only(local_size):
    encoder = build_encoder(c.Encoder(name="test_vit", drop_path=0.5, pool="mean"), 32, local_size)
    chances = [getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.get_submodule("blocks").children()]
    assert chances == pytest.approx(torch.linspace(0, 0.5, len(chances)).tolist())
    x = pictures()
    assert not torch.equal(encoder(x), encoder(x))
    assert torch.equal(encoder.eval()(x), encoder(x))


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ({"name": "resnet18", "pool": "cls"}, "--encoder.pool: 'resnet18' has no class token; leave it out"),
        ({"name": "resnet18", "pool": "mean"}, "--encoder.pool: 'resnet18' has no patches whose mean could be taken"),
        ({"name": "test_vit2", "pool": "cls"}, "--encoder.pool: 'test_vit2' has no class token; leave it out"),
        ({"name": "vgg11", "drop_path": 0.1}, "--encoder.drop-path: 'vgg11' has no drop path; leave it out"),
        ({"name": "vgg11", "pool": "cls", "drop_path": 0.1}, "--encoder.drop-path: 'vgg11' has no drop path"),
        ({"name": "alexnet_of_mine", "pool": "mean"}, "--encoder.pool: alexnet_of_mine is no model of timm"),
        ({"name": "alexnet_of_mine", "drop_path": 0.1}, "--encoder.drop-path: alexnet_of_mine is no model of timm"),
    ],
    ids=str,
)
def test_a_model_without_such_a_slot_is_refused(slots, said, monkeypatch):
    monkeypatch.setitem(register.BACKBONES, "alexnet_of_mine", lambda size: nn.Flatten())
    with pytest.raises(InputError) as caught:
        build_encoder(c.Encoder(**slots), 32)
    assert str(caught.value).startswith(said)
