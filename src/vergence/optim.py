"""Optimizers, which parameters they treat how, and the learning rate and weight decay over a run."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatch
from statistics import fmean
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from timm.models import group_parameters
from torch import Tensor, nn
from torch.optim import Optimizer

from vergence import config
from vergence.errors import InputError


class LARS(Optimizer):
    """Momentum SGD whose rate is scaled for each parameter of a group with `adapt`.

    The local rate is trust |w| / (|gradient| + weight_decay |w|), and 1 where either norm is 0: the blog's lambda (You
    et al. 2017, arXiv 1708.03888). Groups without `adapt` are plain SGD: so is LARS given to some layers only.
    All norms of a group are taken in one call and no value is read back from the device.

    Args:
        groups: parameter groups; `adapt`, `lr`, `momentum`, `weight_decay` and `trust` may be set in each; checkpoints
            hold them under these names.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float, weight_decay: float, trust: float):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; parameters without a gradient are left alone. Returns what a closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            updates: list[Tensor] = [w.grad for w in weights]
            decay, trust = group["weight_decay"], None
            if group["adapt"]:
                norms = torch.stack(torch._foreach_norm(weights))
                trust = local_rate(group, norms, torch.stack(torch._foreach_norm(updates)))
            updates = list(torch._foreach_add(updates, weights, alpha=decay))
            if trust is not None:
                torch._foreach_mul_(updates, list(trust.unbind()))
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            torch._foreach_add_(weights, torch._foreach_mul(buffers, -group["lr"]))  # the rate may be a tensor
        return loss


def local_rate(group: Mapping[str, Any], weights: Tensor, gradients: Tensor) -> Tensor:
    """The factor by which LARS scales a group's rate for each of its parameters, from their norms.

    trust |w| / (|gradient| + weight_decay |w|); 1 where a norm is 0, in groups that do not adapt, in other optimizers.
    """
    if not group.get("adapt"):
        return torch.ones_like(weights)
    scale = group["trust"] * weights / (gradients + group["weight_decay"] * weights)
    return torch.where((weights > 0) & (gradients > 0), scale, 1.0)


def layers(
    method: nn.Module, optimizer: Optimizer
) -> tuple[Float[Tensor, "3 n"], Callable[[Tensor], dict[str, dict[str, float]]]]:
    """What the next update finds: norms of the n parameters, of their gradients, and their rates, on the device.

    With them comes the function that turns them into numbers for each layer: `weight` and `gradient` norms, and `rate`.
    A layer is a head, or a child of the encoder such as "encoder.layer1". The rate is the mean over its parameters that
    the optimizer adapts, LARS's local factor included, and over all where it adapts none.
    """
    names = {p: _layer(name.removeprefix("online.")) for name, p in method.named_parameters() if p.grad is not None}
    tensors, kinds = [], []
    for group in optimizer.param_groups:
        if parameters := [p for p in group["params"] if p in names]:
            weights = torch.stack(torch._foreach_norm([p.detach() for p in parameters]))
            gradients = torch.stack(torch._foreach_norm([p.grad for p in parameters]))
            tensors.append(torch.stack([weights, gradients, group["lr"] * local_rate(group, weights, gradients)]))
            kinds += [(names[p], group.get("adapt", True)) for p in parameters]

    def by_layer(numbers: Tensor) -> dict[str, dict[str, float]]:
        found: dict[str, list[tuple[float, float, float, bool]]] = {name: [] for name in dict.fromkeys(names.values())}
        for (name, adapted), column in zip(kinds, numbers.T.tolist(), strict=True):
            found[name].append((*column, adapted))
        return {name: _layer_numbers(of_layer) for name, of_layer in found.items()}

    return torch.cat(tensors, dim=1), by_layer


def _layer_numbers(of_layer: list[tuple[float, float, float, bool]]) -> dict[str, float]:
    return {
        "weight": math.hypot(*(weight for weight, *_ in of_layer)),
        "gradient": math.hypot(*(gradient for _, gradient, *_ in of_layer)),
        "rate": fmean([rate for *_, rate, adapted in of_layer if adapted] or [rate for *_, rate, _ in of_layer]),
    }


class Treatment(NamedTuple):
    """How an optimizer treats a parameter; those that are treated alike are a group, and groups stand in this order.

    Attributes:
        outside: of what the optimizer's rule for `layers` is for.
        spared: from weight decay.
        frozen: at first; a fused kernel takes parameters that have momentum or those that have none.
        rate: its multiple of the run's learning rate.
        constant: whether its rate stays as it is at the peak, whatever the schedule.
    """

    outside: bool
    spared: bool
    frozen: bool
    rate: float
    constant: bool


def build_optimizer(c: config.Optimizer, method: nn.Module) -> Optimizer:
    """The optimizer of a configuration over the parameters that receive gradients.

    Each group carries `rate`, its multiple of the run's learning rate, which `set_rate` reads, as it reads `peak` where
    the rate is constant; and where weight decay follows a schedule `decay`, its multiple of that, which
    `set_weight_decay` reads.

    Raises:
        InputError: there are no such layers, or the encoder does not say what its layers are.
    """
    named = [(name.removeprefix("online."), p) for name, p in method.named_parameters() if p.requires_grad]
    treated: dict[Treatment, list[nn.Parameter]] = {}
    for (_, parameter), treatment in zip(named, _treatments(c, method, named), strict=True):
        treated.setdefault(treatment, []).append(parameter)
    groups: list[dict[str, Any]] = []
    for treatment in sorted(treated):
        group = {"params": treated[treatment], "rate": treatment.rate}
        group |= {"adapt": False} if isinstance(c, config.LARS) and treatment.outside else {}
        group |= {"weight_decay": 0.0} if treatment.spared else {}
        group |= {} if c.weight_decay_end is None else {"decay": float(not treatment.spared)}
        group |= {"peak": c.lr} if treatment.constant else {}
        groups.append(group)
    settings: dict[str, Any] = {"lr": c.lr, "weight_decay": c.weight_decay}
    fused = {"fused": True}  # one kernel over all parameters, on CPU and CUDA
    match c:
        case config.SGD():
            return torch.optim.SGD(groups, momentum=c.momentum, **settings, **fused)
        case config.Adam():
            return torch.optim.Adam(groups, betas=c.betas, **settings, **fused)
        case config.AdamW():
            return torch.optim.AdamW(groups, betas=c.betas, **settings, **fused)
        case config.LARS():
            return LARS(groups, momentum=c.momentum, trust=c.trust_coefficient, **settings)


def _treatments(c: config.Optimizer, method: nn.Module, named: list[tuple[str, nn.Parameter]]) -> Iterator[Treatment]:
    layers, is_spared = getattr(c, "layers", ()), _spared(c, method)
    depths = _depths(method) if c.layer_decay != 1 else {}
    late = {name for name, epochs in getattr(method, "frozen_epochs", {}).items() if epochs > 0}
    for (name, parameter), inside in zip(named, _chosen(named, layers), strict=True):
        spared = is_spared(name, parameter)
        rate = c.factor if isinstance(c, config.SGD) and layers and inside else 1.0
        in_encoder = name.startswith("encoder.")
        if in_encoder:
            rate *= c.encoder_rate * c.layer_decay ** depths.get(name, 0)
        frozen = (in_encoder and c.frozen_epochs > 0) or any(_inside(name, module) for module in late)
        outside = not inside or (isinstance(c, config.LARS) and spared)
        constant = c.predictor_rate == "constant" and name.startswith("predictor.")
        yield Treatment(outside, spared, frozen, rate, constant)


_NO_MATRIX = re.compile("token|pos_embed|position|rel_pos|gamma|layer_scale")
"""In the last part of the name of a parameter that is no matrix whatever its shape: positions, tokens, scales."""


def _spared(c: config.Optimizer, method: nn.Module) -> Callable[[str, nn.Parameter], bool]:
    """Return what says, by its name, whether weight decay leaves a parameter alone."""
    if isinstance(
        c, config.LARS
    ):  # a bias or a norm's scale is a vector: as BYOL's authors, neither decayed nor adapted
        return lambda _, parameter: parameter.ndim <= 1
    if c.decay == "all":
        return lambda *_: False
    encoder = method.get_submodule("online.encoder")
    own = [f"encoder.{pattern}" for pattern in getattr(encoder, "no_weight_decay", tuple)()]  # what timm's models name

    def spared(name: str, parameter: nn.Parameter) -> bool:
        by_name = _NO_MATRIX.search(name.rpartition(".")[2]) or any(fnmatch(name, pattern) for pattern in own)
        return parameter.ndim <= 1 or bool(by_name)

    return spared


def _depths(method: nn.Module) -> dict[str, int]:
    """How deep each parameter of the encoder lies below the heads: 1 in the last of its layers, as timm divides it."""
    encoder = method.get_submodule("online.encoder")
    matcher: Any = getattr(encoder, "group_matcher", None)
    if matcher is None:
        raise InputError(
            f"--optimizer.layer-decay: {type(encoder).__name__} does not say what its layers are (it has no "
            "group_matcher, as timm's models have); leave it at 1"
        )
    found: Any = group_parameters(encoder, matcher(coarse=False), reverse=True)
    last = max(found.values())
    return {f"encoder.{name}": last + 1 - layer for name, layer in found.items()}


def _chosen(named: list[tuple[str, nn.Parameter]], layers: tuple[str, ...]) -> list[bool]:
    for layer in layers:
        if not any(_inside(name, layer) for name, _ in named):
            tops = sorted({_layer(name) for name, _ in named})
            raise InputError(f"--optimizer.layers: no parameter in '{layer}'; known: {', '.join(tops)}")
    return [not layers or any(_inside(name, layer) for layer in layers) for name, _ in named]


def _layer(name: str) -> str:
    """The layer that a parameter belongs to: a head, or a child of the encoder."""
    return ".".join(name.split(".")[: 2 if name.startswith("encoder.") else 1])


def _inside(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def rate_at(c: config.Schedule, progress: float, epochs: float, step: float) -> float:
    """The learning rate as a share of its peak, in [0, 1].

    Args:
        c: the schedule.
        progress: share of the horizon that is done before this step, in [0, 1).
        epochs: length of the horizon.
        step: share of the horizon that is this step.
    """
    warmup = c.warmup_epochs / epochs
    if progress < warmup:
        return progress / warmup if c.warmup_from == "zero" else min(1.0, (progress + step) / warmup)
    if isinstance(c, config.Constant):
        return 1.0
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group the learning rate, or the peak that it stays at, times its own `rate`."""
    for group in optimizer.param_groups:
        own = group.get("peak", lr) * group["rate"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def weight_decay_at(c: config.Optimizer, progress: float) -> float:
    """The weight decay: constant, or by a half cosine from its first value to its last (DINO, arXiv 2104.14294).

    Args:
        c: the optimizer.
        progress: share of the horizon that is done before this step, in [0, 1).
    """
    if c.weight_decay_end is None:
        return c.weight_decay
    return c.weight_decay_end + (c.weight_decay - c.weight_decay_end) * (1 + math.cos(math.pi * progress)) / 2


def set_weight_decay(optimizer: Optimizer, weight_decay: float) -> None:
    """Give every group whose weight decay follows a schedule this one, times its own `decay`."""
    for group in optimizer.param_groups:
        if "decay" in group:
            group["weight_decay"] = weight_decay * group["decay"]


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Let a CUDA graph read the rates, which change, from tensors, and count steps on the device."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True
