"""The last k keys, as negatives for a contrastive loss."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """A ring of the k newest keys `[k d]`; it starts with random directions, as MoCo's does."""

    keys: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("keys", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "b d"]) -> None:
        """Put in the newest keys, in place of the oldest. Of more keys than the ring holds, the last stay."""
        size = len(self.keys)
        keys = nn.functional.normalize(keys.detach().to(self.keys.dtype), dim=1)[-size:]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, places, keys)
        self.position.add_(len(keys)).remainder_(size)
