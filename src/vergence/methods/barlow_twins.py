"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the views' cross-correlation matrix shall be the identity."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch


@register.method(config.BarlowTwins)
@final
class BarlowTwins(Method):
    """Correlation 1 of each dimension with itself in the other view, 0 with every other dimension; no target.

    Kept from collapse by standardization: a constant dimension correlates with nothing, and the off-diagonal term keeps
    dimensions from saying the same.
    """

    def __init__(self, c: config.BarlowTwins, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.scale, self.off_diagonal = c.scale, c.off_diagonal

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        diagonal, others = losses.barlow_twins_terms(*z)
        loss = self.scale * (diagonal + self.off_diagonal * others)
        return Outputs(loss, {"diagonal": diagonal, "off_diagonal": others}, y, z)
