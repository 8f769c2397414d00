"""SwAV (Caron et al. 2020, arXiv 2006.09882): predict the other view's assignment to prototypes."""

from collections.abc import Callable
from functools import partial
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.prototypes import Prototypes, usage
from vergence.networks.queue import Queue


@register.method(config.SwAV)
@final
class SwAV(Method):
    """Cross-entropy of each crop's scores against the assignments of the views, but for a view's own.

    Kept from collapse by the equal partition: Sinkhorn's algorithm gives every prototype its share of the batch.
    """

    def __init__(self, c: config.SwAV, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.temperature, self.epsilon, self.queue_from_epoch = c.temperature, c.epsilon, c.queue_from_epoch
        self.iterations = c.sinkhorn_iterations if c.assignment == "sinkhorn" else 0
        self.prototypes = Prototypes(c.prototypes, self.online.out)
        self.frozen_epochs = {"prototypes": c.prototypes.frozen_epochs}
        queues = [] if c.queue is None else [Queue(c.queue, self.online.out, empty=True) for _ in range(2)]
        self.queues = nn.ModuleList(queues)

    def forward(self, views: Float[Tensor, "2 b c h w"], local: Float[Tensor, "l b c t t"] | None = None) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        scores = [*self.prototypes(z)]
        assignments = torch.stack([self._assignment(view, of_view.detach()) for view, of_view in enumerate(scores)])
        if local is not None:
            scores += [*self.prototypes(self.all_gather(self.online(local)[1]))]
        cross_entropy = partial(losses.swav, temperature=self.temperature)
        loss = losses.across_crops(cross_entropy, scores, [*assignments]) / 2
        return Outputs(loss, usage(assignments), y, z)

    def _assignment(self, view: int, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        if not self.queues:
            return losses.sinkhorn(scores, self.epsilon, self.iterations)
        queue = cast(Queue, self.queues[view])
        joins = queue.filled.all() & (self.epoch >= self.queue_from_epoch)
        both = torch.cat([scores, self.prototypes(queue.keys).detach()])
        counted = torch.cat([joins.new_ones(len(scores)), joins.expand(len(queue.keys))])
        return losses.sinkhorn(both, self.epsilon, self.iterations, counted)[: len(scores)]

    def after_step(self, outputs: Outputs) -> None:
        self.prototypes.renormalize()
        for queue, z in zip(self.queues, outputs.z, strict=False):
            cast(Queue, queue).push(z)
