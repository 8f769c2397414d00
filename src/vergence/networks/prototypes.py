"""Prototypes: learned directions with which projections are compared."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config


class Prototypes(nn.Module):
    """Unit vectors in the space of projections, random at first; a score is a projection's cosine with one of them."""

    def __init__(self, c: config.Prototypes, dim: int):
        super().__init__()
        self.renormalized = c.weights == "renormalized"
        self.weight = nn.Parameter(F.normalize(torch.randn(c.count, dim), dim=1))

    def forward(self, z: Float[Tensor, "*v b d"]) -> Float[Tensor, "*v b k"]:
        weight = self.weight if self.renormalized else F.normalize(self.weight, dim=1)
        return F.linear(F.normalize(z, dim=-1), weight)

    @torch.no_grad()
    def renormalize(self) -> None:
        """Give them back their length after an update, unless weight norm keeps it within `forward`."""
        if self.renormalized:
            self.weight.copy_(F.normalize(self.weight, dim=1))


@torch.no_grad()
def usage(assignments: Float[Tensor, "v b k"]) -> dict[str, Float[Tensor, ""]]:
    """Return how decided assignments to prototypes are, and how many prototypes they use.

    `entropy` is the mean over pictures, in [0, ln k]: ln k where every picture belongs to all alike. `used` is e to the
    entropy of the mean over pictures, in [1, k]: 1 where one prototype has them all.
    """
    entropy = torch.special.entr(assignments).sum(-1).mean()
    used = torch.special.entr(assignments.mean((0, 1))).sum().exp()
    return {"entropy": entropy, "used": used}
