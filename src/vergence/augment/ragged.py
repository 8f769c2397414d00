"""Pictures of different shapes: decoded when their crops are cut, by threads of their own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.augment.parameters import Pixels, Shapes

_AT_ONCE = 4
"""Pictures that a thread takes before it asks for more."""

REDUCED = (2, 4, 8)
"""Factors by which a picture may be reduced while it is decoded."""


class Boxes(NamedTuple):
    """One rectangle of each picture, in its own pixels."""

    top: Pixels
    left: Pixels
    height: Pixels
    width: Pixels


Decode = Callable[[int, int], UInt8[Tensor, "3 h w"]]
"""Give the picture of an index, reduced by a factor of 1, 2, 4 or 8, or by less."""


class Ragged:
    """Pictures of different shapes. They are indexed, split and sent to a device as a tensor of pictures is.

    Args:
        decode: gives the pixels of a picture, 0-255; called in several threads at once.
        shapes: height and width of each picture.
        indices: the pictures that are meant, in this order, by their index for `decode`; None: all.
        device: where crops go.
        held: whether `decode` keeps what it has decoded.
    """

    def __init__(
        self,
        decode: Decode,
        shapes: Shapes,
        indices: Int64[Tensor, " b"] | None = None,
        device: torch.device | str = "cpu",
        held: bool = False,
    ):
        self.decode, self.shapes, self.device, self.held = decode, shapes, torch.device(device), held
        self.indices = torch.arange(len(shapes)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, chosen: int) -> UInt8[Tensor, "3 h w"]: ...

    @overload
    def __getitem__(self, chosen: slice | Tensor) -> "Ragged": ...

    def __getitem__(self, chosen: int | slice | Tensor) -> "Ragged | UInt8[Tensor, '3 h w']":
        if isinstance(chosen, int):
            return self.decode(int(self.indices[chosen]), 1).to(self.device)
        chosen = chosen if isinstance(chosen, slice) else chosen.cpu()
        return Ragged(self.decode, self.shapes[chosen], self.indices[chosen], self.device, self.held)

    def split(self, size: int) -> "Iterator[Ragged]":
        """Give these pictures `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> "Ragged":
        """Return these pictures with their crops on another device."""
        return Ragged(self.decode, self.shapes, self.indices, device, self.held)

    def middle(self) -> Boxes:
        """Return the largest square in the middle of each picture, at whole pixels."""
        side = self.shapes.amin(1)
        top, left = ((self.shapes - side[:, None]) // 2).unbind(1)
        return Boxes(top, left, side, side)

    def start_cutting(
        self, boxes: Sequence[Boxes], sizes: Sequence[int]
    ) -> Callable[[], list[UInt8[Tensor, "b 3 _ _"]]]:
        """Begin to cut rectangles from each picture, which is decoded once; the function returned waits for them.

        Each is resized to a square of its side in `sizes`, as torchvision's `resized_crop` does it for 8-bit pictures:
        bilinear, antialiased, rounded. A picture may be decoded at a fraction where each of its rectangles keeps twice
        the side of its crop. Neither the number of threads nor the other pictures change a bit.
        """
        on_gpu = self.device.type == "cuda"
        n = len(self)
        crops = [torch.empty((n, size, size, 3), dtype=torch.uint8, pin_memory=on_gpu) for size in sizes]
        written = [each.numpy() for each in crops]
        corners = torch.stack([torch.stack([*box], dim=1) for box in boxes], dim=1).tolist()  # b, v, 4
        indices, shapes = self.indices.tolist(), self.shapes.tolist()

        def cut(start: int) -> None:
            for place in range(start, min(start + _AT_ONCE, len(indices))):
                picture = self.decode(indices[place], _factor(corners[place], sizes))
                for those, corner, size in zip(written, corners[place], sizes, strict=True):
                    # numpy's copy stays in this thread, torch's would wake others
                    those[place] = _resized(picture, shapes[place], corner, size)

        pool = ThreadPoolExecutor(torch.get_num_threads(), "decode")
        futures = [pool.submit(cut, start) for start in range(0, len(indices), _AT_ONCE)]

        def wait() -> list[UInt8[Tensor, "b 3 _ _"]]:
            try:
                for future in futures:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
            return [each.to(self.device, non_blocking=True).permute(0, 3, 1, 2) for each in crops]

        return wait


def middle_square(decode: Decode, index: int, shape: list[int], size: int) -> UInt8[Tensor, "3 s s"]:
    """Return the middle square of one picture, resized to a side of `size`, as `Ragged.start_cutting` cuts it.

    Args:
        decode: gives the picture, as that of `Ragged`.
        index: of the picture.
        shape: its height and width.
        size: side in pixels.
    """
    side = min(shape)
    corner = [(shape[0] - side) // 2, (shape[1] - side) // 2, side, side]
    square = _resized(decode(index, _factor([corner], [size])), shape, corner, size)
    return torch.from_numpy(square).permute(2, 0, 1)


def shapes_of(pixels: UInt8[Tensor, "n 3 h w"] | Ragged) -> Int64[Tensor, "n 2"]:
    """Return height and width of each picture in pixels."""
    return pixels.shapes if isinstance(pixels, Ragged) else torch.tensor(pixels.shape[2:]).expand(len(pixels), 2)


def _factor(corners: list[list[int]], sizes: Sequence[int]) -> int:
    """Return the greatest reduction that leaves twice the side of its crop in each rectangle."""
    each = zip(corners, sizes, strict=True)
    least = min(min(height, width) / (2 * size) for (_, _, height, width), size in each)
    return max((factor for factor in REDUCED if least >= factor), default=1)


def _resized(
    picture: UInt8[Tensor, "3 h w"], shape: list[int], corner: list[int], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    top, left, height, width = corner
    if [*picture.shape[1:]] != shape:  # decoded at a fraction
        down, across = (there / whole for there, whole in zip(picture.shape[1:], shape, strict=True))
        top, left = round(top * down), round(left * across)
        height, width = max(1, round(height * down)), max(1, round(width * across))
    region = picture[None, :, top : top + height, left : left + width]
    crop = torch.nn.functional.interpolate(region, (size, size), mode="bilinear", antialias=True)
    return crop[0].permute(1, 2, 0).numpy()
