"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict the target network's projection of the other view."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor

DISTANCES = {"cosine": losses.squared_distance, "tangential": losses.tangential}


@register.method(config.BYOL)
@final
class BYOL(Method):
    """2 - 2 cos(p, z') of each view with the other's target, both directions summed.

    The prediction of a local crop is compared with both targets (`losses.across_crops`). No negatives: what keeps it
    from collapse, batch norm, the predictor or neither, is what both documents ask.
    """

    def __init__(self, c: config.BYOL, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.scale, self.distance = c.scale, DISTANCES[c.distance]
        self.predictor = build_predictor(c.predictor, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"], local: Float[Tensor, "l b c t t"] | None = None) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        predictions = [*p]
        if local is not None:
            p_local = self.online.passage(self.predictor, self.online(local)[1])
            predictions = [*predictions, *self.all_gather(p_local)]
        loss = self.scale * losses.across_crops(self.distance, predictions, [*z_target])
        return Outputs(loss, {}, y, z, p, z_target)
