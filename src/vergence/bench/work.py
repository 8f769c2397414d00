"""What is measured: a run, its pictures, its step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from vergence import config as c
from vergence import methods
from vergence.bench.order import Order
from vergence.data import Images, load
from vergence.engine.batches import batch_of
from vergence.engine.step import Setup, Stepper, stepping
from vergence.errors import InputError
from vergence.machine.randomness import generator
from vergence.optim import build_optimizer

NOISE = {"cifar10": 32, "stl10": 96}
"""Side of the data sets that noise may stand for; both have ten classes."""


@dataclass(frozen=True)
class Work:
    """A run with its pictures, on a device.

    Attributes:
        order: what is measured, complete for the kind of device.
        device: where.
        given: pictures to work on; None: those of the run's data set.
    """

    order: Order
    device: torch.device
    given: Images | None = None

    @property
    def run(self) -> c.Run:
        """What is trained."""
        return self.order.run

    @property
    def _noise(self) -> int | None:
        """The side of the noise that stands for the pictures: without a folder these would be downloaded."""
        return None if self.order.data_dir is not None else NOISE.get(self.run.data.kind)

    @cached_property
    def images(self) -> Images:
        """Pictures of the data set where they are at hand, else as many of noise as are needed; always labelled.

        Raises:
            InputError: the pictures are there and cannot be used, or are fewer than a batch.
        """
        if self.given is not None:
            return self.given
        if (side := self._noise) is not None:
            shape = (max(4 * self.run.batch_size, self.order.pictures or 0), 3, side, side)
            pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
            return Images(pixels, torch.arange(len(pixels)) % 10, tuple(map(str, range(10))), self.run.data.size)
        images = load(self.run.data, "pretrain", data_dir=self.order.data_dir)
        if len(images) < (batch := self.run.batch_size):
            raise InputError(f"--batch-size: {batch} is more than the {len(images)} pictures; choose a smaller one")
        if images.labels is None or int(images.labels.min()) < 0:  # no accuracy is looked at
            images = replace(images, labels=torch.arange(len(images)) % 10)
        return images

    @property
    def pictures(self) -> str:
        """Where the pictures come from, in words."""
        count, kind, side = len(self.images), self.run.data.kind, self._noise
        if side is not None:
            return f"{count} of noise, {side} px, in the place of {kind}'s"
        pixels = self.images.pixels
        sides = "x".join(map(str, pixels.shape[2:])) if isinstance(pixels, Tensor) else "different"
        return f"{count} of {kind}, {sides.replace('x', ' x ')} px"

    def batch(self, step: int) -> Int64[Tensor, " b"]:
        """The pictures of a step, counted from 1, as the loop takes them."""
        return batch_of(self.run, len(self.images), step)

    @contextmanager
    def stepping(self) -> Iterator[Stepper]:
        """The loop's own step, on a method with its first weights."""
        run, device = self.run, self.device
        method = methods.build(run).to(device).to(memory_format=torch.channels_last).train()
        optimizer = build_optimizer(run.optimizer, method)
        setup = Setup(run, method, optimizer, self.images, device, len(self.images) // run.batch_size)
        with stepping(setup, self.order.compile) as stepper:
            yield stepper


def steps(work: Work, stepper: Stepper, begin: int, count: int) -> Callable[[], None]:
    """Do so many steps after `begin`; the pictures of each are chosen before the clock starts."""
    batches = [(step, work.batch(step)) for step in range(begin + 1, begin + count + 1)]

    def go() -> None:
        for step, batch in batches:
            stepper(step, batch, with_layer_stats=False)

    return go
