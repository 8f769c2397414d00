"""DINO (Caron et al. 2021, arXiv 2104.14294): self-distillation with no labels."""

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch
from vergence.networks.prototypes import Prototypes, usage


@register.method(config.DINO)
@final
class DINO(Method):
    """Cross-entropy of each crop's softmax against the target's of the views, but for a view's own.

    Kept from collapse by two that hold each other: centring, which forbids that one prototype has all pictures, and a
    target sharper than the online network, which forbids that all have their equal part of each.
    """

    def __init__(self, c: config.DINO, branch: Callable[[], Branch]):
        super().__init__(branch, c.target)
        self.temperature, self.center_momentum = c.temperature, c.center_momentum
        self.from_to, self.temperature_epochs = (c.target_temperature_start, c.target_temperature), c.temperature_epochs
        self.prototypes = Prototypes(c.prototypes, self.online.out)
        self.target.follow(prototypes=self.prototypes)
        self.frozen_epochs = {"prototypes": c.prototypes.frozen_epochs}
        self.register_buffer("center", torch.zeros(c.prototypes.count))

    def forward(self, views: Float[Tensor, "2 b c h w"], local: Float[Tensor, "l b c t t"] | None = None) -> Outputs:
        y, z = self.online(views)
        z, z_target = self.all_gather(z), self.all_gather(self.target(views, self.online, z))
        teacher = self.target.follower("prototypes")(z_target).detach()
        student = [*self.prototypes(z)]
        if local is not None:
            student += [*self.prototypes(self.all_gather(self.online(local)[1]))]
        center, sharpness = self.get_buffer("center"), self.target_temperature()
        distillation = partial(losses.dino, center=center, temperature=self.temperature, teacher_temperature=sharpness)
        loss = losses.across_crops(distillation, student, [*teacher]) / 2
        assignments = torch.stack([losses.sharpened(view, center, sharpness) for view in teacher])
        return Outputs(loss, usage(assignments), y, z, z_target=z_target, scores=teacher)

    def target_temperature(self) -> Float[Tensor, ""]:
        """Return the target's temperature: linear in the epochs done from its first value, then its last."""
        first, last = self.from_to
        share = (self.epoch / self.temperature_epochs).clamp(max=1) if self.temperature_epochs else self.epoch * 0 + 1
        return first + (last - first) * share

    def after_step(self, outputs: Outputs) -> None:
        assert outputs.scores is not None
        if self.center_momentum is not None:
            self.get_buffer("center").lerp_(outputs.scores.mean((0, 1)), 1 - self.center_momentum)
