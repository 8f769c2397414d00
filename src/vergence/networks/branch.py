"""How views pass through networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence.config import Precision
from vergence.machine.device import HALF


@dataclass(frozen=True)
class Passage:
    """How stacked views `[v b ...]` pass through a network that takes batches.

    Attributes:
        norm_views: "separately": one view after the other, so that batch norm sees one view at a time, as both
            documents do; "together": as one batch of v * b.
        precision: of the network's arithmetic; what comes out is float32.
        stacked: take two views in one pass all the same; their batch norms tell them apart (`split_batch_norm`).
    """

    norm_views: Literal["separately", "together"] = "separately"
    precision: Precision = "float32"
    stacked: bool = False

    def __call__(self, network: nn.Module, views: Float[Tensor, "v b *x"]) -> Float[Tensor, "v b d"]:
        half = self.precision in HALF
        with torch.autocast(views.device.type, HALF.get(self.precision), enabled=half):
            if self.norm_views == "together" or (self.stacked and len(views) == 2):
                out = network(views.flatten(0, 1)).unflatten(0, views.shape[:2])
            else:
                out = torch.stack([network(view) for view in views])
        return out.float() if half else out


class Branch(nn.Module):
    """An encoder and its projector: views -> y, z.

    Attributes:
        both: takes the encoder's two views at the same time, while a training on the CPU has set it.
    """

    both: Callable[[Tensor], Tensor] | None = None

    def __init__(self, encoder: nn.Module, projector: nn.Module, out: int, passage: Passage):
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.out, self.passage = out, passage

    def forward(self, views: Float[Tensor, "v b c h w"]) -> tuple[Float[Tensor, "v b dy"], Float[Tensor, "v b dz"]]:
        y = self.passage(self.encoder, views) if self.both is None or len(views) != 2 else self.both(views)
        return y, self.passage(self.projector, y)
