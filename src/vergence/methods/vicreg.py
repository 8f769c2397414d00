"""VICReg (Bardes et al. 2021, arXiv 2105.04906): invariance, variance and covariance, each a term of its own."""

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch


@register.method(config.VICReg)
@final
class VICReg(Method):
    """The views' distance, a hinge on each dimension's spread, squared covariances; no target, no unit length.

    Kept from complete collapse by the variance term, from dimensional collapse by the covariance term.
    """

    def __init__(self, c: config.VICReg, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.weights, self.eps = {"invariance": c.invariance, "variance": c.variance, "covariance": c.covariance}, c.eps

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        terms = {
            "invariance": F.mse_loss(z[0], z[1]),
            "variance": (losses.variance_hinge(z[0], self.eps) + losses.variance_hinge(z[1], self.eps)) / 2,
            "covariance": losses.covariance_penalty(z[0]) + losses.covariance_penalty(z[1]),
        }
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return Outputs(loss, terms, y, z)
