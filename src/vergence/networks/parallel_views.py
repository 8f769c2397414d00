"""Both views through one encoder at the same time, one on each half of a CPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vergence.machine.threads import TwoWorkers
from vergence.networks.branch import Branch


@contextmanager
def parallel_views(method: nn.Module, workers: TwoWorkers | None) -> Iterator[None]:
    """Within, the encoders of a method take their two views side by side, where they allow it; without a second worker,
    one after the other in the same way, so that one thread and two give the same bits.

    Losses, representations and gradients are those of views passed in turn. Running statistics differ by rounding.
    """
    branches = [module for module in method.modules() if isinstance(module, Branch)]
    for branch in branches:
        plain = branch.passage.norm_views == "separately" and branch.passage.precision == "float32"
        if workers is not None and plain and _separable(branch.encoder):
            branch.both = ParallelViews(branch.encoder, workers)
    try:
        yield
    finally:
        for branch in branches:
            branch.both = None


def _separable(encoder: nn.Module) -> bool:
    """Whether a view leaves nothing behind for the next but batch norm's statistics, and nothing is drawn at random:
    two threads would take turns at the generator as it happens.
    """
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    owned = {id(buffer) for norm in norms for buffer in norm.buffers()}
    random = any(getattr(module, name, 0) for module in encoder.modules() for name in ("p", "drop_prob", "drop_rate"))
    return (
        not random
        and all(id(buffer) in owned for buffer in encoder.buffers())
        and all(norm.momentum is not None and norm.track_running_stats for norm in norms)
    )


class ParallelViews:
    """An encoder and a shadow of it: the same parameters, batch norms with statistics of their own.

    The shadow's statistics are those of the last batch alone; the encoder's follow the first view, then these, as if
    the views had come one after the other.
    """

    def __init__(self, encoder: nn.Module, workers: TwoWorkers):
        self.workers, self.parameters = workers, list(encoder.parameters())
        shadow = copy.deepcopy(encoder, {id(p): p for p in self.parameters})
        self.networks = (encoder, shadow)
        modules = zip(encoder.modules(), shadow.modules(), strict=True)
        self.norms = [(ours, theirs) for ours, theirs in modules if isinstance(theirs, _BatchNorm)]
        self.momenta = [float(theirs.momentum or 0) for _, theirs in self.norms]
        for _, theirs in self.norms:
            theirs.momentum = 1.0

    def __deepcopy__(self, memo: object) -> None:
        """A copy of a method is for looking into: it takes its views one after the other."""

    def __call__(self, views: Float[Tensor, "2 b c h w"]) -> Float[Tensor, "2 b d"]:
        encoder, shadow = self.networks
        if shadow.training != encoder.training:
            shadow.train(encoder.training)
        for ours, theirs in self.norms:  # a target's may stay in evaluation while the rest trains
            theirs.training = ours.training
            if not ours.training:
                theirs.load_state_dict(ours.state_dict())
        y: Tensor = _Both.apply(self, views, *self.parameters)  # type: ignore[assignment]
        self._follow()
        return y

    def forward(self, views: Tensor, grad: bool) -> list[Tensor]:
        """The representations of each view; with `grad`, each the end of a graph of its own."""

        def one(view: int) -> Tensor:
            with torch.set_grad_enabled(grad):
                return self.networks[view](views[view])

        return self.workers.map(one, range(2))

    @torch.no_grad()
    def _follow(self) -> None:
        for (ours, theirs), momentum in zip(self.norms, self.momenta, strict=True):
            if ours.training:
                for name in ("running_mean", "running_var"):
                    # By .data, as batch norm itself: the graph holds them, but no gradient depends on them.
                    ours.get_buffer(name).data.lerp_(theirs.get_buffer(name), momentum)
                ours.get_buffer("num_batches_tracked").data.add_(1)


class _Both(torch.autograd.Function):
    """The two views' graphs as one operation: its backward pass runs theirs side by side, and adds up."""

    @staticmethod
    def forward(ctx: Any, both: ParallelViews, views: Tensor, *parameters: Tensor) -> Tensor:
        ends = both.forward(views, grad=any(ctx.needs_input_grad))
        ctx.both, ctx.ends = both, ends
        return torch.stack([end.detach() for end in ends])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        both, ends = ctx.both, ctx.ends

        def one(view: int) -> tuple[Tensor, ...]:
            return torch.autograd.grad(ends[view], both.parameters, gradient[view], materialize_grads=True)

        first, second = both.workers.map(one, range(2))
        with both.workers.joined():
            return None, None, *torch._foreach_add(first, second)
