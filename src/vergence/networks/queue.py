"""The last k keys of past pictures."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Queue(nn.Module):
    """A ring of the k newest keys `[k d]`; it starts with random directions, as MoCo's does, or empty: with zeros."""

    keys: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int, *, empty: bool = False):
        super().__init__()
        keys = torch.zeros(size, dim) if empty else nn.functional.normalize(torch.randn(size, dim), dim=1)
        self.register_buffer("keys", keys)
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    @property
    def filled(self) -> Bool[Tensor, " k"]:
        """Whether each place holds a key: in a ring that started empty, whether one has been pushed there."""
        return self.keys.any(1)

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "b d"]) -> None:
        """Put in the newest keys, in place of the oldest. Of more keys than the ring holds, the last stay."""
        size = len(self.keys)
        keys = nn.functional.normalize(keys.detach().to(self.keys.dtype), dim=1)[-size:]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, places, keys)
        self.position.add_(len(keys)).remainder_(size)

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return the key of the largest cosine with each row, among those put in; before any was, the rows themselves.

        Places that hold no key yet are left out: a random direction there would be a neighbour that no picture has.
        Nothing waits for the ring to be full either, which takes longer than a short run. No value is read back from
        the device.
        """
        filled = self.filled
        cosines = nn.functional.normalize(z.to(self.keys.dtype), dim=1) @ self.keys.T
        found = self.keys[cosines.masked_fill(~filled, -torch.inf).argmax(1)]
        return torch.where(filled.any(), found, z)
