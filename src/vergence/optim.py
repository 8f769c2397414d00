"""Optimizers, which parameters they treat how, and the learning rate over a run."""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
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


def build_optimizer(c: config.Optimizer, method: nn.Module) -> Optimizer:
    """The optimizer of a configuration over the parameters that receive gradients.

    Each group carries `rate`, its multiple of the run's learning rate, which `set_rate` reads.
    """
    named = [(name.removeprefix("online."), p) for name, p in method.named_parameters() if p.requires_grad]
    layers = c.layers if isinstance(c, config.SGD | config.LARS) else ()
    chosen = _chosen(named, layers)
    fused = {"fused": True}  # one kernel over all parameters, on CPU and CUDA
    match c:
        case config.SGD():
            groups = _groups(("rate", {True: c.factor if layers else 1.0, False: 1.0}), named, chosen)
            optimizer = torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay, **fused)
        case config.Adam():
            optimizer = torch.optim.Adam(
                [p for _, p in named], lr=c.lr, betas=c.betas, weight_decay=c.weight_decay, **fused
            )
        case config.AdamW():
            optimizer = torch.optim.AdamW(
                [p for _, p in named], lr=c.lr, betas=c.betas, weight_decay=c.weight_decay, **fused
            )
        case config.LARS():
            # A bias or a norm's scale is a vector: as BYOL's authors, neither decayed nor adapted.
            adapted = [p for (_, p), inside in zip(named, chosen, strict=True) if inside and p.ndim > 1]
            plain = [p for (_, p), inside in zip(named, chosen, strict=True) if not inside and p.ndim > 1]
            vectors = [p for _, p in named if p.ndim <= 1]
            groups = [
                {"params": adapted},
                {"params": plain, "adapt": False},
                {"params": vectors, "adapt": False, "weight_decay": 0.0},
            ]
            groups = [group for group in groups if group["params"]]
            decay, trust = c.weight_decay, c.trust_coefficient
            optimizer = LARS(groups, lr=c.lr, momentum=c.momentum, weight_decay=decay, trust=trust)
    for group in optimizer.param_groups:
        group.setdefault("rate", 1.0)
    return optimizer


def _groups(
    field: tuple[str, dict[bool, float]], named: list[tuple[str, nn.Parameter]], chosen: list[bool]
) -> list[dict[str, Any]]:
    """One group for the chosen layers and one for the rest, each with its own value of a field; empty ones left out."""
    name, values = field
    groups = [
        {"params": [p for (_, p), inside in zip(named, chosen, strict=True) if inside is which], name: values[which]}
        for which in (True, False)
    ]
    return [group for group in groups if group["params"]]


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


def rate_at(c: config.Schedule, progress: float, epochs: float) -> float:
    """The learning rate as a share of its peak, in [0, 1].

    Args:
        c: the schedule.
        progress: share of the horizon that is done before this step, in [0, 1).
        epochs: length of the horizon.
    """
    warmup = c.warmup_epochs / epochs
    if progress < warmup:
        return progress / warmup
    if isinstance(c, config.Constant):
        return 1.0
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group the learning rate, times its own `rate`."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["rate"])
        else:
            group["lr"] = lr * group["rate"]


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Let a CUDA graph read the rates, which change, from tensors, and count steps on the device."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True
