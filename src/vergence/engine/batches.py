"""Which pictures each step takes, and their crops cut ahead of it."""

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.augment import Each, Ragged
from vergence.augment.views import start_crops
from vergence.config import Run
from vergence.machine.randomness import generator

Pixels = UInt8[Tensor, "n 3 h w"]

AHEAD = 2
"""Steps whose pictures are decoded before their turn."""


def order_of(run: Run, pictures: int, epoch: int) -> Int64[Tensor, " n"]:
    """Return the order in which an epoch, counted from 0, takes the pictures."""
    return _order(run.seed, pictures, epoch)


@lru_cache(maxsize=2)  # this epoch's and, where pictures are decoded ahead, the next one's
def _order(seed: int, pictures: int, epoch: int) -> Int64[Tensor, " n"]:
    return torch.randperm(pictures, generator=generator(seed, "order", epoch))


def batch_of(run: Run, pictures: int, step: int) -> Int64[Tensor, " b"]:
    """Return the places of the pictures that a step, counted from 1, takes."""
    epoch, position = divmod(step - 1, pictures // run.batch_size)
    return order_of(run, pictures, epoch)[position * run.batch_size : (position + 1) * run.batch_size]


ON_DEVICE = 1 / 2
"""The share of a device's free memory that pictures may take; more stay in the host's, or mapped."""


def fit(pixels: Pixels, device: torch.device) -> bool:
    """Return whether pictures are kept on the device; else those of each batch are copied to it."""
    return device.type != "cuda" or pixels.nbytes < ON_DEVICE * torch.cuda.mem_get_info(device)[0]


def taken(pixels: Pixels, batch: Int64[Tensor, " b"], device: torch.device) -> Pixels:
    """Return the pictures of a batch on the device; a copy to it runs beside what the device does."""
    some = pixels[batch.to(pixels.device)]
    return some if some.device.type == device.type else some.pin_memory().to(device, non_blocking=True)


class Ahead:
    """Crops of pictures of different shapes: those of the next steps are cut while a step is done.

    Args:
        run: what is trained; seed and step decide the draws.
        pixels: its pictures.
        last: the number of its last step.
        part_of: gives, for the number of pictures in a batch, those of which this process makes the crops.
    """

    def __init__(self, run: Run, pixels: Ragged, last: int, part_of: Callable[[int], slice]):
        self.run, self.pixels, self.last, self.part_of = run, pixels, last, part_of
        self.started: dict[int, tuple[Tensor, Callable[[Each], tuple[Tensor, ...]]]] = {}

    def crops(self, step: int, batch: Int64[Tensor, " b"], each: Each) -> tuple[Tensor, ...]:
        """Return the crops of this step; begin to cut those of the next ones."""
        begun, finish = self.started.pop(step, (None, None))
        if finish is None or begun is None or not begun.equal(batch):  # the first, or not as the run takes them
            finish = self._start(step, batch)
        for later in range(step + 1, min(step + AHEAD, self.last) + 1):
            if later not in self.started:
                its = batch_of(self.run, len(self.pixels), later)
                self.started[later] = its, self._start(later, its)
        return finish(each)

    def _start(self, step: int, batch: Int64[Tensor, " b"]) -> Callable[[Each], tuple[Tensor, ...]]:
        drawn = generator(self.run.seed, "views", step)
        return start_crops(self.pixels[batch], None, self.run.views, drawn, self.part_of(len(batch)))
