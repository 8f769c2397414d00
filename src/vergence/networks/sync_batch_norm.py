"""Batch norm over the whole batch where each of several processes holds a part of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vergence.errors import InputError
from vergence.machine.processes import SINGLE_PROCESS, Group
from vergence.networks.batch_renorm import BatchRenorm1d


@contextmanager
def sync_batch_norm(method: nn.Module, group: Group) -> Iterator[None]:
    """Within, the batch norms of a method take their statistics over all ranks' pictures: as one process with the whole
    batch would, up to rounding. Nothing changes in a group of one.

    Raises:
        InputError: a backbone has a batch norm of another kind.
    """
    norms: list[Any] = [module for module in method.modules() if isinstance(module, _BatchNorm)]
    kinds = [type(norm) for norm in norms]
    if group.size > 1:
        for kind in kinds:
            if kind not in _WHOLE:
                raise InputError(f"--encoder: its {kind.__name__} cannot be shared by processes; use one, or no norm")
        for norm in norms:
            norm.__class__, norm.group = _WHOLE[type(norm)], group
    try:
        yield
    finally:
        if group.size > 1:
            for norm, kind in zip(norms, kinds, strict=True):
                norm.__class__ = kind
                del norm.group


def moments(input: Float[Tensor, "b c *s"], group: Group) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"], int]:
    """Variance (of the sample, biased) and mean of each channel over the pictures of all ranks, and over how many
    values. From each rank's own: no difference of large numbers.
    """
    input = input.to(torch.promote_types(input.dtype, torch.float32))
    own = torch.stack(torch.var_mean(input, [0, *range(2, input.ndim)], correction=0))
    variances, means = group.all_gather(own[None]).unbind(1)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    return variance, mean, input.numel() // input.shape[1] * group.size


class _Sync(_BatchNorm):
    group: Group = SINGLE_PROCESS

    def forward(self, input: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        if not (self.training or self.running_mean is None):
            return super().forward(input)
        variance, mean, count = moments(input, self.group)
        shape = (1, -1, *[1] * (input.ndim - 2))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        out = (input - mean.view(shape)) * scale.view(shape)  # float32, whatever came in
        self._follow(mean, variance * (count / max(1, count - 1)))
        return (out + self.bias.view(shape) if self.affine else out).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _Sync1d(_Sync, nn.BatchNorm1d):
    pass


class _Sync2d(_Sync, nn.BatchNorm2d):
    pass


class _SyncRenorm1d(BatchRenorm1d):
    group: Group = SINGLE_PROCESS

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor, int]:
        return moments(input, self.group)


class _SyncAct2d(_Sync, BatchNormAct2d):
    """timm's, with an activation."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not self.training:
            return BatchNormAct2d.forward(self, input)
        drop, act = self.get_submodule("drop"), self.get_submodule("act")
        return act(drop(_Sync.forward(self, input)))


_WHOLE: dict[type, type] = {
    nn.BatchNorm1d: _Sync1d,
    nn.BatchNorm2d: _Sync2d,
    BatchRenorm1d: _SyncRenorm1d,
    BatchNormAct2d: _SyncAct2d,
}
