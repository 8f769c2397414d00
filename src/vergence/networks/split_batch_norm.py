"""Both views through a network in one pass, with batch norm's statistics kept for each: fewer kernels, and fuller."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vergence.networks.branch import Branch


def split_batch_norm(method: nn.Module) -> bool:
    """Let a method's networks take their views in one pass, where each batch norm in them can tell two views apart.

    Returns whether they do: not with batch norms of another kind (batch renorm, a backbone's own), nor where views pass
    as one batch anyway, or one at a time as in MoCo. Parameters, state and results stay, but for the order of sums.
    """
    if getattr(method, "views_in_a_pass", 1) != 2:
        return False
    branches = [module for module in method.modules() if isinstance(module, Branch)]
    norms = [module for module in method.modules() if isinstance(module, _BatchNorm)]
    plain = all(type(norm) in _PER_VIEW and norm.momentum is not None for norm in norms)
    if not plain or any(branch.passage.norm_views == "together" for branch in branches):
        return False
    for norm in norms:
        norm.__class__ = _PER_VIEW[type(norm)]
    for branch in branches:
        branch.passage = replace(branch.passage, stacked=True)
    return True


class _PerView(_BatchNorm):
    """Batch norm of two views `[2 b ...]` stacked in the batch, each with its own mean and variance.

    Written out, so that a compiler joins it with what comes before and after. Only a `Passage` with `stacked` may call
    it in training: a single view would be taken for two.
    """

    def forward(self, input: Float[Tensor, "vb c *s"]) -> Float[Tensor, "vb c *s"]:
        if not self.training:
            return super().forward(input)
        views = input.unflatten(0, (2, -1)).to(torch.promote_types(input.dtype, torch.float32))
        over = (1, *range(3, views.ndim))
        variance, mean = torch.var_mean(views, over, correction=0, keepdim=True)
        shape = (1, 1, -1, *[1] * (views.ndim - 3))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = self.weight.view(shape) * scale
        out = views * scale + ((self.bias.view(shape) if self.affine else 0) - mean * scale)
        self._follow(mean, variance, views[0].numel() // views.shape[2])
        return out.flatten(0, 1).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """The running statistics, as after one view and then the other."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        momentum = float(self.momentum or 0)
        for view in range(2):
            self.running_mean.lerp_(mean[view].flatten(), momentum)
            self.running_var.lerp_(variance[view].flatten() * (count / max(1, count - 1)), momentum)
        self.num_batches_tracked += 2


class _PerView1d(_PerView, nn.BatchNorm1d):
    pass


class _PerView2d(_PerView, nn.BatchNorm2d):
    pass


_PER_VIEW: dict[type, type] = {nn.BatchNorm1d: _PerView1d, nn.BatchNorm2d: _PerView2d}
