"""SIGReg (LeJEPA, Balestriero and LeCun 2025, arXiv 2511.08544): views agree, and projections are normal."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.machine.randomness import StepDraws
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch

REGULARIZERS = {"sigreg": losses.sigreg, "visreg": losses.visreg}


@register.method(config.SIGReg)
@final
class SIGReg(Method):
    """(1 - lambda) * distance from the views' centre + lambda * regularizer, the mean over all crops.

    Kept from collapse by the regularizer, whose least value needs projections that are spread like a normal
    distribution in every direction. All crops are looked at along the same directions.
    """

    def __init__(self, c: config.SIGReg, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.weight, self.slices, self.scale = c.weight, c.slices, c.scale
        self.regularizer = REGULARIZERS[c.regularizer]
        self.draws = StepDraws()

    def forward(self, views: Float[Tensor, "2 b c h w"], local: Float[Tensor, "l b c t t"] | None = None) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        crops = z if local is None else torch.cat([z, self.all_gather(self.online(local)[1])])
        directions = self.draws.normals(self.slices, self.online.out)
        invariance = losses.centre_distance(crops, len(z))
        regularizer = torch.stack([self.regularizer(crop, directions) for crop in crops]).mean()
        scale = torch.stack([losses.visreg_scale(crop) for crop in crops]).mean()
        loss = (1 - self.weight) * invariance + self.weight * regularizer + self.scale * scale
        return Outputs(loss, {"invariance": invariance, "regularizer": regularizer, "scale": scale}, y, z)

    def after_step(self, outputs: Outputs) -> None:
        self.draws.advance()
