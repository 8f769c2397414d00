"""Pictures in memory: one uint8 tensor, and labels that only evaluation ever reads."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.augment import Ragged


@dataclass(frozen=True)
class Images:
    """Decoded pictures.

    Attributes:
        pixels: red, green, blue in 0-255; may be memory-mapped from a file. Of different shapes, they are decoded when
            they are asked for.
        labels: class of each picture, or None where there are none.
        classes: the classes' names, in the order of the labels.
        size: side in pixels of the square in which crops are drawn. Pixels may be fewer: views enlarge them in the
            same operation. None: crops are drawn in each picture as it is.
        split_name: what a protocol calls these pictures where a probe is scored on them, such as "held-out training".
        names: the path of each picture's file below the data set's folder; None where pictures have no files.
        published_order: whether the order is a publisher's own, in which each half holds every class; a protocol may
            then go by it. False for any other order, such as that of the files of a folder.
        digests: 16 bytes of a hash of each picture's pixels, where they are known without reading the pixels.
        facts: what was found while these pictures were read, as JSON values; `docs/data.md` lists them.
    """

    pixels: UInt8[Tensor, "n 3 h w"] | Ragged
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]
    size: int | None
    split_name: str = "test"
    names: Sequence[str] | None = None
    published_order: bool = False
    digests: UInt8[np.ndarray, "n 16"] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Int64[Tensor, " k"]) -> "Images":
        """These pictures only, in this order."""
        labels = None if self.labels is None else self.labels[indices]
        names = None if self.names is None else tuple(self.names[index] for index in indices.tolist())
        digests = None if self.digests is None else self.digests[indices.numpy()]
        new = {"pixels": self.pixels[indices], "labels": labels, "names": names, "digests": digests}
        return replace(self, **new, published_order=False)

    @cached_property
    def keys(self) -> list[bytes]:
        """A hash of each picture's pixels: what a split goes by, so that it does not depend on the pictures' order."""
        if isinstance(self.pixels, Ragged):
            return [] if self.digests is None else [row.tobytes() for row in self.digests]
        return [hashlib.sha256(part.contiguous().numpy().data).digest() for part in self.pixels]

    def digest(self) -> str:
        """Sixteen hexadecimal digits of the pixels' and labels' SHA-256: the same pictures, the same digest."""
        return self._digest

    @cached_property
    def _digest(self) -> str:  # a run asks for it at its start, for each checkpoint's record and its pictures' listing
        if isinstance(self.pixels, Ragged):
            hasher = hashlib.sha256(b"" if self.digests is None else self.digests.tobytes())
        else:
            hasher = hashlib.sha256(repr((tuple(self.pixels.shape), self.size)).encode())
            for part in self.pixels.split(4096):
                hasher.update(part.contiguous().numpy().data)
        if self.labels is not None:
            hasher.update(self.labels.to(torch.int64).contiguous().numpy().data)
        return hasher.hexdigest()[:16]


def unscored(train_images: Images, test_images: Images) -> str | None:
    """Return why no probe can be scored on these pictures; None where it can."""
    if train_images.labels is None or test_images.labels is None:
        if train_images.facts.get("classes"):
            return "no class has three pictures, of which one could be held out"
        return "these pictures have no labels"
    if len(test_images.classes) < 2:
        return f"all pictures are of one class, {', '.join(test_images.classes)}"
    return f"there is only one {test_images.split_name} picture" if len(test_images) < 2 else None
