"""A linear predictor that is set from its own inputs instead of trained: DirectPred and DirectCopy."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config


class DirectPredictor(nn.Module):
    """The matrix U diag((s / max s)^alpha + eps) U^T, where U diag(s) U^T is the correlation E z z^T, not centred.

    DirectPred (Tian et al. 2021, arXiv 2102.06810, Eqs. 18 and 19) is alpha = 0.5, DirectCopy (Wang et al. 2021, arXiv
    2110.04947) alpha = 1. The correlation is a moving average that begins with that of the first step; the matrix is
    the identity until then. Neither receives a gradient, and both are in checkpoints.
    """

    correlation: Tensor
    matrix: Tensor
    steps: Tensor

    def __init__(self, c: config.Direct, dim: int):
        super().__init__()
        self.config = c
        self.register_buffer("correlation", torch.zeros(dim, dim))
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return F.linear(z, self.matrix)  # symmetric

    @torch.no_grad()
    def follow(self, z: Float[Tensor, "v b d"]) -> None:
        """Take in the projections of a step, and set the matrix if it is time: it serves from the next step on."""
        c, z = self.config, z.flatten(0, 1).to(self.correlation.dtype)
        seen = int(self.steps)  # waits for the device, as eigh does
        self.correlation.lerp_(z.T @ z / len(z), 1 - c.rho if seen else 1.0)
        if seen % c.every == 0:
            s, u = torch.linalg.eigh(self.correlation.nan_to_num())  # which fails where a run's guard is about to speak
            s = s.clamp_min(0) / s.max().clamp_min(torch.finfo(s.dtype).tiny)
            self.matrix.copy_(u * (s.pow(c.alpha) + c.eps) @ u.T)
        self.steps.add_(1)
