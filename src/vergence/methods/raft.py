"""RAFT and BYOL' (Run Away From your Teacher, arXiv 2011.10944): alignment, and a term from or towards the target."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.methods.byol import DISTANCES
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor


@register.method(config.RAFT)
@final
class RAFT(Method):
    """alpha * alignment - beta * cross-model (Def. 4.3, Algorithm 1): run away from the teacher.

    Kept from collapse by the distance from its own past, which it is paid to keep.
    """

    def __init__(self, c: config.RAFT, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.alpha, self.beta, self.distance = c.alpha, c.beta, DISTANCES[c.distance]
        self.predictor = build_predictor(c.predictor, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        align = losses.alignment(*p, distance=self.distance)
        cross = losses.cross_model(*p, *z_target, distance=self.distance)
        loss = self.alpha * align - self.beta * cross
        return Outputs(loss, {"alignment": align, "cross_model": cross}, y, z, p, z_target)


@register.method(config.BYOLPrime)
@final
class BYOLPrime(Method):
    """alpha * alignment + beta * cross-model (Def. 4.2): BYOL's upper bound, and RAFT with the other sign.

    Kept from collapse by what keeps BYOL.
    """

    def __init__(self, c: config.BYOLPrime, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.alpha, self.beta, self.distance = c.alpha, c.beta, DISTANCES[c.distance]
        self.predictor = build_predictor(c.predictor, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        align = losses.alignment(*p, distance=self.distance)
        cross = losses.cross_model(*p, *z_target, distance=self.distance)
        loss = self.alpha * align + self.beta * cross
        return Outputs(loss, {"alignment": align, "cross_model": cross}, y, z, p, z_target)
