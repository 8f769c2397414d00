"""MoCo v2 (He et al. 2019, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297): a queue of past keys as negatives."""

from collections.abc import Callable
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.queue import Queue


@register.method(config.MoCo)
@final
class MoCo(Method):
    """The first view asks; the target's key of the second must stand out from the keys of earlier pictures.

    Kept from collapse by the explicit negatives. The queue takes the batch's keys after the update.
    """

    views_in_a_pass: ClassVar[int] = 1

    def __init__(self, c: config.MoCo, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.temperature = c.temperature
        self.queue = Queue(c.queue, self.online.out)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views[:1])
        key = self.target(views[1:], self.online)
        z, key = self.all_gather(z), self.all_gather(key)
        loss = losses.info_nce(z[0], key[0], self.queue.keys, self.temperature)
        return Outputs(loss, {}, y, z, z_target=key)

    def after_step(self, outputs: Outputs) -> None:
        assert outputs.z_target is not None
        self.queue.push(outputs.z_target[0])
