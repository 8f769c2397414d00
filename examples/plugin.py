"""Parts of one's own in one file: a method (VICReg, arXiv 2105.04906), a backbone and a metric.

vergence --plugin examples/plugin.py train example-vicreg --encoder example-net --data digits --epochs 2
"""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from vergence import config, register
from vergence.config import AtLeast, configuration
from vergence.methods import Method, Outputs


@configuration
class VICReg(config.Method):
    """Bring the two views together, keep each dimension's spread, and let no two dimensions say the same."""

    kind: ClassVar[str] = "example-vicreg"
    invariance: Annotated[float, AtLeast(0), "weight of the distance between the views"] = 1.0
    variance: Annotated[float, AtLeast(0), "weight of the hinge on each dimension's standard deviation"] = 1.0
    covariance: Annotated[float, AtLeast(0), "weight of the squared covariances of different dimensions"] = 0.04
    projector: config.Projector = config.Projector(layers=3, out=128)


@register.method(VICReg)
class VICRegMethod(Method):
    """Equation 6 of the paper; kept from collapse by the variance term."""

    def __init__(self, c: VICReg, branch):
        super().__init__(branch, config.StopGradient())
        self.c = c

    def forward(self, views: torch.Tensor) -> Outputs:
        y, z = self.online(views)
        z = self.all_gather(z)
        terms = {
            "invariance": F.mse_loss(z[0], z[1]),
            "variance": sum(F.relu(1 - (v.var(0) + 1e-4).sqrt()).mean() for v in z),
            "covariance": sum((torch.cov(v.T) ** 2).fill_diagonal_(0).sum() / v.shape[1] for v in z),
        }
        loss = sum(getattr(self.c, name) * term for name, term in terms.items())
        return Outputs(loss, terms, y, z)


@register.backbone("example-net")
def net(size: int) -> nn.Module:
    """Three convolutions and the mean of the last map."""
    layers = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@register.metric(
    "example_hub",
    label="hubness",
    digits=2,
    range=(1, float("inf")),
    at_collapse=None,
    views=1,
    reading="Pictures that share one nearest neighbour, at most: few in a healthy run.",
)
def hubness(z: torch.Tensor) -> torch.Tensor:
    """Return how many pictures of a batch have one and the same picture nearest to them."""
    cosines = F.normalize(z) @ F.normalize(z).T
    nearest = cosines.fill_diagonal_(-2).argmax(1)
    return nearest.bincount().max().float()
