"""DirectPred (arXiv 2102.06810), DirectCopy (arXiv 2110.04947) and IsoLoss (arXiv 2212.04858): no trained predictor."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor


@register.method(config.DirectPred)
@final
class DirectPred(Method):
    """BYOL with a predictor that is set from the correlation of its inputs; both directions summed.

    Kept from collapse by the predictor's spectrum, which follows that of the projections, and by the stop-gradient.
    """

    def __init__(self, c: config.DirectPred, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.isotropic = c.loss == "isotropic"
        self.predictor = build_predictor(c.predictor, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        if self.isotropic:
            loss = losses.isoloss(z[0], p[0], z_target[1]) + losses.isoloss(z[1], p[1], z_target[0])
        else:
            loss = losses.byol(*p, *z_target)
        return Outputs(loss, {}, y, z, p, z_target)
