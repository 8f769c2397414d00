"""SimSiam (Chen and He 2020, arXiv 2011.10566): predict the online network's own projection of the other view."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor


@register.method(config.SimSiam)
@final
class SimSiam(Method):
    """-cos(p, z') of each view with the other's projection, the mean of both directions.

    Kept from collapse by the stop-gradient, which is its target, together with the predictor: it needs both.
    """

    def __init__(self, c: config.SimSiam, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.predictor = build_predictor(c.predictor, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        loss = losses.byol(*p, *z_target) / 4 - 1  # `losses.simsiam`, but that the target says what gets no gradient
        return Outputs(loss, {}, y, z, p, z_target)
