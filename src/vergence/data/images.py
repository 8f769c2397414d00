"""Pictures in memory: one uint8 tensor, and labels that only evaluation ever reads."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Decoded pictures.

    Attributes:
        pixels: red, green, blue in 0-255; may be memory-mapped from a file.
        labels: class of each picture, or None where there are none.
        classes: the classes' names, in the order of the labels.
        size: side in pixels at which views are cut. Pixels may be fewer: views enlarge them in the same operation.
        called: the kind of pictures that a protocol says a probe was scored on, where it is scored on these.
    """

    pixels: UInt8[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]
    size: int
    called: str = "test"

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Int64[Tensor, " k"]) -> "Images":
        """These pictures only, in this order."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, pixels=self.pixels[indices], labels=labels)

    def digest(self) -> str:
        """Sixteen hexadecimal digits of the pixels' and labels' SHA-256: the same pictures, the same digest."""
        hasher = hashlib.sha256(repr((tuple(self.pixels.shape), self.size)).encode())
        for part in self.pixels.split(4096):
            hasher.update(part.contiguous().numpy().data)
        if self.labels is not None:
            hasher.update(self.labels.to(torch.int64).contiguous().numpy().data)
        return hasher.hexdigest()[:16]
