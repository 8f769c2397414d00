"""SimCLR (Chen et al. 2020, arXiv 2002.05709): one network, and the rest of the batch as negatives."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch


@register.method(config.SimCLR)
@final
class SimCLR(Method):
    """Cross-entropy among the 2b projections of a batch; no target, no predictor.

    Kept from collapse by the explicit negatives.
    """

    def __init__(self, c: config.SimCLR, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.temperature = c.temperature

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        loss = losses.nt_xent(*z, temperature=self.temperature)
        return Outputs(loss, {}, y, z)
