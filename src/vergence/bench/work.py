"""What is measured: a run, its pictures, its step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from vergence import config as c
from vergence import methods
from vergence.bench.order import Order
from vergence.data import Images, load
from vergence.engine.step import Setup, Stepper, order_of, stepping
from vergence.errors import InputError
from vergence.fast import Compile
from vergence.machine.randomness import generator
from vergence.optim import build_optimizer

NOISE = {"cifar10": (32, 10), "stl10": (96, 10)}
"""Side and number of classes of the data sets that noise may stand for."""


@dataclass(frozen=True)
class Work:
    """A run with its pictures, on a device.

    Attributes:
        run: what is trained.
        images: what views are cut from; always labelled.
        pictures: where those come from, in words.
        device: where.
        compile: as in training.
    """

    run: c.Run
    images: Images
    pictures: str
    device: torch.device
    compile: Compile

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return len(self.images) // self.run.batch_size

    def batch(self, step: int) -> Int64[Tensor, " b"]:
        """The pictures of a step, counted from 1, as the loop takes them."""
        epoch, position = divmod(step - 1, self.per_epoch)
        order = order_of(self.run, len(self.images), epoch)
        return order[position * self.run.batch_size :][: self.run.batch_size]

    @contextmanager
    def stepping(self) -> Iterator[Stepper]:
        """The loop's own step, on a method with its first weights."""
        run, device = self.run, self.device
        method = methods.build(run).to(device).to(memory_format=torch.channels_last).train()
        optimizer = build_optimizer(run.optimizer, method)
        with stepping(Setup(run, method, optimizer, self.images, device, self.per_epoch), self.compile) as stepper:
            yield stepper


def prepare(order: Order, device: torch.device) -> Work:
    """The pictures of the data set where they are at hand, else as many of noise as the measurements need.

    Raises:
        InputError: the pictures are there and cannot be used, or are fewer than a batch.
    """
    run = order.run
    if run.data.kind in NOISE and order.data_dir is None:  # without a folder they would be downloaded
        side, classes = NOISE[run.data.kind]
        count = max(4 * run.batch_size, order.pictures or 0)
        images = _noise(count, side, classes, run.data.size)
        pictures = f"{count} of noise, {side} px, in the place of {run.data.kind}'s"
    else:
        images = load(run.data, "pretrain", data_dir=order.data_dir)
        images = replace(images, labels=_labels(images))
        pictures = f"{len(images)} of {run.data.kind}, {' x '.join(map(str, images.pixels.shape[2:]))} px"
    if len(images) < run.batch_size:
        raise InputError(
            f"--batch-size: {run.batch_size} is more than the {len(images)} pictures; choose a smaller one"
        )
    return Work(run, images, pictures, device, order.compile)


def _noise(count: int, side: int, classes: int, size: int) -> Images:
    chance = generator(0, "noise")
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=chance)
    labels = torch.arange(count) % classes
    return Images(pixels, labels, tuple(map(str, range(classes))), size)


def _labels(images: Images) -> Int64[Tensor, " n"]:
    """The pictures' own, where each has one; else any: no accuracy is looked at."""
    own = images.labels
    return torch.arange(len(images)) % 10 if own is None or int(own.min()) < 0 else own


def steps(work: Work, stepper: Stepper, begin: int, count: int) -> Callable[[], None]:
    """Do so many steps after `begin`; the pictures of each are chosen before the clock starts."""
    batches = [(step, work.batch(step)) for step in range(begin + 1, begin + count + 1)]

    def go() -> None:
        for step, batch in batches:
            stepper(step, batch, with_layer_stats=False)

    return go
