"""Not self-supervised: the baseline that is told the classes."""

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vergence import config, register
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch


@register.method(config.Supervised)
@final
class Supervised(Method):
    """Cross-entropy of a linear layer on the projections of both views; no target, no predictor."""

    def __init__(self, c: config.Supervised, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.classifier = nn.Linear(self.online.out, c.classes)

    def forward(self, views: Float[Tensor, "2 b c h w"], labels: Int64[Tensor, " b"]) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        logits = torch.stack([self.classifier(F.relu(view)) for view in z])
        loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(2))
        return Outputs(loss, {}, y, z)
