"""The target network: what the online network predicts, runs towards or runs from.

It never receives a gradient, unless the rule takes the stop-gradient away (`config.Shared`).
"""

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vergence import config
from vergence.networks.branch import Branch


class Target(nn.Module):
    """A second branch of the online one's shape, moved by the rule of its configuration.

    Args:
        c: the rule.
        online: the branch to follow.
        branch: builds another with weights of its own, for an independent start.
    """

    def __init__(self, c: config.Target, online: Branch, branch: Callable[[], Branch]):
        super().__init__()
        self.config = c
        self.network: Branch | None = None  # with StopGradient and Shared the online branch serves as its own target
        if not isinstance(c, config.StopGradient | config.Shared):
            self.network = copy.deepcopy(online) if c.start == "copy" else branch()
            self.network.requires_grad_(False)
        self.followed: dict[str, nn.Module] = {}
        self.copies = nn.ModuleDict()

    def follow(self, **modules: nn.Module) -> None:
        """Let the target have its own copies of further modules, which start as they are and move by its rule.

        A copy whatever `start` says: with prototypes of its own initialization its scores would name other prototypes.
        """
        self.followed |= modules
        if self.network is not None:
            self.copies.update({name: copy.deepcopy(m).requires_grad_(False) for name, m in modules.items()})

    def follower(self, name: str) -> nn.Module:
        """Return the target's copy of a module that it follows; the module itself with `StopGradient`."""
        return self.followed[name] if self.network is None else self.copies[name]

    def train(self, mode: bool = True) -> "Target":
        """Set training or evaluation; a batch norm that shall use running statistics stays in evaluation."""
        super().train(mode)
        if getattr(self.config, "batch_norm", None) == "running":
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(
        self, views: Float[Tensor, "v b c h w"], online: Branch, z: Float[Tensor, "v b dz"] | None = None
    ) -> Float[Tensor, "v b dz"]:
        """The target's projections of the views; `z` are the online branch's, where the caller has them already.

        They have a gradient where the rule is `Shared`.
        """
        shared = isinstance(self.config, config.Shared)
        with torch.set_grad_enabled(shared and torch.is_grad_enabled()):
            if self.network is not None:
                return self.network(views)[1]
            own = online(views)[1] if z is None else z
            return own if shared else own.detach()

    @torch.no_grad()
    def move(self, online: Branch, progress: float | Tensor, moment: config.UpdateWhen) -> None:
        """One step of the rule if this is its moment; `progress` is the share of the horizon done, in (0, 1]."""
        match self.config:
            case config.MovingAverage(update_when=own) | config.Copy(update_when=own) if own == moment:
                assert self.network is not None
                own, theirs = [self.network, self.copies], [online, *self.followed.values()]
                weights: list[Tensor] = [p.detach() for module in own for p in module.parameters()]
                followed: list[Tensor] = [p.detach() for module in theirs for p in module.parameters()]
                if self.config.batch_norm == "running":  # its statistics follow like weights
                    weights += [b for module in own for b in module.buffers() if b.is_floating_point()]
                    followed += [b for module in theirs for b in module.buffers() if b.is_floating_point()]
                pull = 1 - decay_at(self.config, progress)
                if isinstance(pull, Tensor):  # lerp takes a number only
                    torch._foreach_add_(weights, torch._foreach_mul(torch._foreach_sub(followed, weights), pull))
                else:
                    torch._foreach_lerp_(weights, followed, pull)


def decay_at(c: config.MovingAverage | config.Copy, progress: float | Tensor) -> float | Tensor:
    """Weight of the old target: constant, or 1 - (1 - decay) (cos(pi progress) + 1) / 2 (BYOL, Section 3.3)."""
    if isinstance(c, config.Copy):
        return 0.0
    if c.decay_schedule == "constant":
        return c.decay
    cosine = torch.cos(math.pi * progress) if isinstance(progress, Tensor) else math.cos(math.pi * progress)
    return 1 - (1 - c.decay) * (cosine + 1) / 2
