"""The blog's control: BYOL's networks, trained to tell pictures apart instead of only to agree."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor
from vergence.networks.queue import Queue


@register.method(config.Contrastive)
@final
class Contrastive(Method):
    """Each view's prediction against the other's key and a queue of past keys; both directions summed.

    Kept from collapse by the explicit negatives. The queue takes the second view's keys, one for each picture.
    """

    def __init__(self, c: config.Contrastive, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.temperature = c.temperature
        self.predictor = build_predictor(c.predictor, self.online.out)
        self.queue = Queue(c.queue, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        negatives = self.queue.keys
        loss = losses.info_nce(p[0], z_target[1], negatives, self.temperature)
        loss = loss + losses.info_nce(p[1], z_target[0], negatives, self.temperature)
        return Outputs(loss, {}, y, z, p, z_target)

    def after_step(self, outputs: Outputs) -> None:
        assert outputs.z_target is not None
        self.queue.push(outputs.z_target[1])
