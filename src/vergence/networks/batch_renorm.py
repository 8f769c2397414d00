"""Batch renormalization: batch norm whose training output no longer depends on the rest of the batch alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BatchRenorm1d(nn.BatchNorm1d):
    """Batch renormalization (Ioffe 2017, arXiv 1702.03275, Algorithm 1) of `[b, features]`.

    In training the batch's statistics are corrected towards the running ones by r and d, which receive no gradient;
    their limits open from (1, 0), plain batch norm, to (3, 5) while `num_batches_tracked` goes from 5,000 to 40,000
    and 25,000, as in the paper. In evaluation it is batch norm.
    """

    def forward(self, input: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        if not self.training:
            return super().forward(input)
        variance, mean, count = self.moments(input)
        if count < 2:
            raise ValueError("Expected more than 1 value per channel when training")
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        deviation, running = (variance + self.eps).sqrt(), (self.running_var + self.eps).sqrt()
        with torch.no_grad():
            seen = self.num_batches_tracked
            r_limit = 1 + 2 * ((seen - 5_000) / 35_000).clamp(0, 1)
            d_limit = 5 * ((seen - 5_000) / 20_000).clamp(0, 1)
            r = (deviation / running).clamp(1 / r_limit, r_limit)
            d = ((mean - self.running_mean) / running).clamp(-d_limit, d_limit)
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum or 0.1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum or 0.1)
            self.num_batches_tracked += 1
        out = (input - mean) / deviation * r + d
        return out * self.weight + self.bias if self.affine else out

    def moments(self, input: Float[Tensor, "b f"]) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"], int]:
        """The batch's variance and mean, and how many it has."""
        return *torch.var_mean(input, 0, correction=0), len(input)
