"""Backbones from timm, with a slot for the stem, one for the norm and one for the weights that they start from."""

import copy
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import GroupNormAct, StdConv2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from vergence import config, register
from vergence.config import suggest
from vergence.errors import InputError
from vergence.fast.convolution import Conv2d, use_fast_convolutions, use_plain_convolutions
from vergence.networks.heads import groups_for
from vergence.networks.weights import find, load

_RESNETS = ("resnet", "resnext", "wide_resnet")


def build_encoder(c: config.Encoder, size: int, local_size: int | None = None) -> nn.Module:
    """Build a backbone with its first weights that maps `[b 3 size size]` to representations `[b dim]`.

    It is timm's, or one that was added by `register.backbone`. Its attribute `dim` is the width of a representation,
    `start` says in words where its weights are from. With `local_size` it takes pictures of that side too: a
    transformer's positions are then interpolated, its weights are the same.

    Raises:
        InputError: the name is unknown, or a stem, a norm, a size or the weights do not fit.
    """
    require_known(c.name)
    encoder: Any = _own(c, size) if c.name in register.BACKBONES else _timms(c, size, local_size is not None)
    encoder.start = "random weights" if c.weights is None else _load(encoder, c.name, c.weights)
    if local_size is not None:
        _width(encoder, c.name, local_size, "--views.local.size")
    return encoder


def _timms(c: config.Encoder, size: int, of_two_sizes: bool) -> nn.Module:
    # timm starts a residual branch at zero; torchvision, which both documents used, does not.
    arguments: dict[str, Any] = {"zero_init_last": False} if c.name.startswith(_RESNETS) else {}
    arguments |= {} if c.drop_path == 0 else {"drop_path_rate": c.drop_path}
    encoder: Any = None
    if of_two_sizes:
        with suppress(TypeError):  # of models without a grid of patches, which take any size
            encoder = timm.create_model(c.name, num_classes=0, dynamic_img_size=True, **arguments)
    if encoder is None:
        with suppress(TypeError) if c.drop_path else nullcontext():  # of models without drop path
            encoder = timm.create_model(c.name, num_classes=0, **arguments)
    if c.drop_path and not (encoder and any(getattr(module, "drop_prob", 0) for module in encoder.modules())):
        raise InputError(f"--encoder.drop-path: '{c.name}' has no drop path; leave it out")
    if c.pool != "default":
        _pool(encoder, c)
    if c.stem == "cifar":
        _use_cifar_stem(encoder, c.name)
    use_fast_convolutions(encoder)
    if c.norm != "batch":
        _use_group_norm(encoder, standardized=c.norm == "group-ws")
    encoder.dim = _fit(encoder, c.name, size)
    return encoder


def _load(encoder: nn.Module, name: str, weights: str) -> str:
    try:
        return load(encoder, name, find(weights))
    except InputError as error:
        raise InputError(f"--encoder.weights: {error}") from error


def _pool(encoder: Any, c: config.Encoder) -> None:
    """Let a transformer give its class token or the mean of its patches; its weights are the same with either."""
    if c.pool == "cls" and getattr(encoder, "cls_token", None) is None:
        raise InputError(f"--encoder.pool: '{c.name}' has no class token; leave it out")
    if not isinstance(getattr(encoder, "global_pool", None), str):  # a convolutional network has a layer there
        raise InputError(f"--encoder.pool: '{c.name}' has no patches whose mean could be taken; leave it out")
    encoder.reset_classifier(0, {"cls": "token", "mean": "avg"}[c.pool])


def require_known(name: str) -> None:
    """See that an encoder is called by the name of one of timm's architectures, or of one that was registered.

    Raises:
        InputError: it is not; says which was probably meant. A tag behind the name stands for pretrained weights, which
            an encoder has not.
    """
    if name not in register.BACKBONES and ("." in name or not timm.is_model(name)):
        raise InputError(f"--encoder: {suggest.encoder(name, [*timm.list_models(), *register.BACKBONES])}")


def _own(c: config.Encoder, size: int) -> nn.Module:
    """Build a backbone that is not timm's: its stem and norm are its own business."""
    slots = {"stem": "imagenet", "norm": "batch", "pool": "default", "drop_path": 0.0}
    for slot, usual in slots.items():
        if getattr(c, slot) != usual:
            option = slot.replace("_", "-")
            raise InputError(f"--encoder.{option}: {c.name} is no model of timm, and has no such slot; leave it out")
    encoder: Any = register.BACKBONES[c.name](size)
    if not isinstance(encoder, nn.Module):
        raise InputError(f"--encoder: {c.name} gives a {type(encoder).__name__}, not a torch.nn.Module")
    width: Any = _fit(encoder, c.name, size)
    encoder.dim = width
    return encoder


def from_random(run: config.Run) -> config.Run:
    """Return a run whose encoder starts from random weights.

    A tag behind the encoder's name is left out: where an early version trained with one, it chose nothing.
    """
    name = run.encoder.name.partition(".")[0]
    return replace(run, encoder=replace(run.encoder, name=name, weights=None, weights_hash=None))


def _use_cifar_stem(encoder: Any, name: str) -> None:
    """A first convolution of 3x3 without stride and no max-pool: at 32 px the usual stem throws 15/16 away."""
    first, pool = getattr(encoder, "conv1", None), getattr(encoder, "maxpool", None)
    if not isinstance(first, nn.Conv2d) or pool is None:
        raise InputError(f"--encoder.stem: '{name}' has no ResNet stem to replace; use --encoder.stem imagenet")
    encoder.conv1 = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    encoder.maxpool = nn.Identity()


_LEAST_VARIANCE = 1e-10


class StandardizedConv2d(Conv2d):
    """A convolution whose weights have mean 0 and variance 1 for each output channel (arXiv 1903.10520)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(variance + _LEAST_VARIANCE)
        return self._conv_forward(input, weight, self.bias)


def use_plain_layers(encoder: nn.Module) -> nn.Module:
    """Let each layer of an encoder that is our own be torch's or timm's; return the encoder.

    Parameters and state stay the same, and so does what it gives, within rounding; every exporter can read it.
    """
    for module in use_plain_convolutions(encoder).modules():
        if type(module) is StandardizedConv2d:
            plain: Any = module
            plain.__class__, plain.eps = StdConv2d, _LEAST_VARIANCE
    return encoder


def _use_group_norm(module: nn.Module, standardized: bool) -> None:
    """Replace each batch norm, keeping its activation if it carries one, and each convolution's weight rule."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            width = child.num_features
            if hasattr(child, "act"):  # timm's norm and activation in one
                norm: Any = GroupNormAct(width, num_groups=groups_for(width))
                norm.drop, norm.act = child.drop, child.act
            else:
                norm = nn.GroupNorm(groups_for(width), width)
            setattr(module, name, norm)
        elif standardized and type(child) is Conv2d:
            child.__class__ = StandardizedConv2d  # same parameters, same initialization, another forward
        else:
            _use_group_norm(child, standardized)


def _fit(encoder: Any, name: str, size: int) -> int:
    """Set the encoder to pictures of this size, and return its width."""
    if hasattr(encoder, "set_input_size"):  # transformers fix their grid of patches
        try:
            encoder.set_input_size(img_size=(size, size))
        except (RuntimeError, AssertionError) as error:
            raise InputError(_cannot_take("--encoder", name, size, error)) from error
    return _width(encoder, name, size)


def _width(encoder: nn.Module, name: str, size: int, option: str = "--encoder") -> int:
    """Return the encoder's width for pictures of a size, by asking: timm's attributes do not always agree."""
    training = encoder.training
    try:
        with torch.no_grad():
            y = encoder.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:
        raise InputError(_cannot_take(option, name, size, error)) from error
    finally:
        encoder.train(training)
    if y.ndim != 2:
        raise InputError(f"--encoder: '{name}' gives {tuple(y.shape)}, not one vector for each picture")
    return y.shape[1]


def _cannot_take(option: str, name: str, size: int, error: Exception) -> str:
    return f"{option}: '{name}' cannot take pictures of {size} px: {error}"


def fold_batch_norm(encoder: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode with each batch norm folded into the convolution before it; the encoder as it is
    where there is none to fold, or the copy does not give the same answer.

    Which comes before which is seen in one pass: torch.fx would trace it, by changing every module's call for all
    threads of the process while it does.
    """
    try:
        folded = copy.deepcopy(encoder).eval()
        probe = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
        with torch.no_grad():
            expected = folded(probe)
            if not (pairs := _pairs(folded, probe)):
                return encoder
            for before, norm in pairs:
                fuse: Any = fuse_linear_bn_eval if isinstance(before, nn.Linear) else fuse_conv_bn_eval
                before.weight, before.bias = (fused := fuse(before, norm)).weight, fused.bias
                parent, _, name = _name_of(norm, folded).rpartition(".")
                setattr(folded.get_submodule(parent), name, nn.Identity())
            same = F.mse_loss(folded(probe), expected) <= 1e-8 * expected.square().mean()
    except Exception:  # backbones fail on such pictures in as many ways as there are; none of them matters here
        return encoder
    return folded if same else encoder


_FOLDED = {
    nn.BatchNorm1d: (nn.Conv1d, nn.Linear),
    nn.BatchNorm2d: (nn.Conv2d, Conv2d),
    nn.BatchNorm3d: (nn.Conv3d,),
}
"""What each batch norm can be folded into."""


def _pairs(network: nn.Module, probe: torch.Tensor) -> list[tuple[Any, Any]]:
    """Convolutions or linear layers with the batch norm that takes what they give; each runs once in a pass."""
    made: list[tuple[torch.Tensor, nn.Module]] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []
    runs: Counter[nn.Module] = Counter()

    def note(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        runs[module] += 1
        made.append((output, module))
        if (kinds := _FOLDED.get(type(module))) is not None and getattr(module, "track_running_stats", False):
            pairs.extend((before, module) for given, before in made if given is inputs[0] and type(before) in kinds)

    watched = {*_FOLDED, *(kind for kinds in _FOLDED.values() for kind in kinds)}
    hooks = [module.register_forward_hook(note) for module in network.modules() if type(module) in watched]
    try:
        network(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(runs[module] == 1 for module in pair)]


def _name_of(module: nn.Module, network: nn.Module) -> str:
    return next(name for name, other in network.named_modules() if other is module)
