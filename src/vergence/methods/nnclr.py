"""NNCLR (Dwibedi et al. 2021, arXiv 2104.14548): the nearest neighbour among past pictures as the positive."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.heads import build_predictor
from vergence.networks.queue import Queue


@register.method(config.NNCLR)
@final
class NNCLR(Method):
    """Each view's neighbour among past projections must stand out to the other view's prediction, of the batch's.

    Kept from collapse by the explicit negatives. Without them the cross-entropy loses its denominator; what is left, up
    to a constant, is (1 - cos) / temperature. The queue takes the first view's projections, after the update.
    """

    def __init__(self, c: config.NNCLR, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.temperature, self.neighbours, self.negatives = c.temperature, c.neighbours, c.negatives
        self.predictor = build_predictor(c.predictor, self.online.out)
        self.queue = Queue(c.queue, self.online.out, empty=True)

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        p = self.online.passage(self.predictor, z)
        z_target = self.target(views, self.online, z)
        z, p, z_target = self.all_gather(z), self.all_gather(p), self.all_gather(z_target)
        found = torch.stack([self.queue.nearest(view) for view in z_target]) if self.neighbours else z_target
        if self.negatives:
            loss = losses.nnclr(*found, *p, temperature=self.temperature)
        else:
            loss = losses.byol(*p, *found) / (4 * self.temperature)
        terms = {"neighbour_distance": losses.squared_distance(z_target.flatten(0, 1), found.flatten(0, 1))}
        return Outputs(loss, terms, y, z, p, z_target)

    def after_step(self, outputs: Outputs) -> None:
        assert outputs.z_target is not None
        self.queue.push(outputs.z_target[0])
