"""What is to be measured, read from the command line. Nothing here imports torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vergence import config as c
from vergence.bench.options import PARTS
from vergence.checks import names
from vergence.errors import InputError
from vergence.schema import said

if TYPE_CHECKING:
    from vergence.runtime import Compile

COUNTS = (1, 2, 4)
BATCH = {"cpu": 64, "cuda": 256}
PICTURES = {"cpu": 1_200, "cuda": 60_000}
CAPTURED = 5
"""Steps after which a step on a GPU is compiled and captured for certain, and the first replay is over."""

SIZE = 96
"""Side of the views, where the options do not say another: small pictures are enlarged to it, as the papers do."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be measured.

    Attributes:
        run: what is trained. Its epochs play no part.
        batch_given: whether the batch size was asked for; else it is that of the device.
        parts: which of `PARTS`.
        steps: in a round.
        warmup: steps before the first round.
        rounds: of each part; all are written down, the median is shown.
        pictures: that the evaluation takes features of; None: as the device.
        counts: numbers of runs at once.
        data_dir: where the pictures are; without it, noise of their shape is used.
        compile: as in training.
    """

    run: c.Run
    batch_given: bool
    parts: tuple[str, ...]
    steps: int
    warmup: int
    rounds: int
    pictures: int | None
    counts: tuple[int, ...]
    data_dir: Path | None
    compile: "Compile"

    def on(self, kind: str) -> "Order":
        """The same with what depends on the kind of device, "cpu" or "cuda", filled in."""
        run = self.run if self.batch_given else replace(self.run, batch_size=BATCH[kind])
        warmup = max(self.warmup, CAPTURED) if kind == "cuda" else self.warmup
        return replace(self, run=run, pictures=self.pictures or PICTURES[kind], warmup=warmup)


def read_order(known: argparse.Namespace, rest: Sequence[str]) -> Order:
    """What the words of the command ask for.

    Raises:
        InputError: an unknown method, part, option, or a number that makes no sense.
    """
    from vergence import options, presets

    counts = _counts(known.at_once)
    parts = _parts(known.what, at_once=known.at_once is not None)
    overrides = options.parse(rest)
    data = options.data_named(known.data or "cifar10", known.data_dir)
    if isinstance(data, c.CIFAR10):
        data = replace(data, size=SIZE)
    method, predictor = presets.method_named(known.method)
    if predictor is not None:
        method = replace(method, predictor=predictor)  # type: ignore[call-arg]
    views = replace(c.VIEWS["blog"], size=data.size)
    run = c.Run(method=method, data=data, views=views, schedule=c.Constant(), batch_size=BATCH["cpu"])
    return Order(
        run=options.apply(run, overrides),
        batch_given=any(name.replace("_", "-") == "batch-size" for name, _ in overrides),
        parts=parts,
        steps=known.steps,
        warmup=known.warmup,
        rounds=known.rounds,
        pictures=known.pictures,
        counts=counts,
        data_dir=known.data_dir,
        compile=known.compile,
    )


def _parts(text: str | None, at_once: bool) -> tuple[str, ...]:
    named = PARTS[:-1] if text is None else names("--what", text, PARTS, "part")
    if not named:
        raise InputError(f"--what: name one or more of {','.join(PARTS)}")
    return tuple(part for part in PARTS if part in named or (part == "at-once" and at_once))


def _counts(text: str | None) -> tuple[int, ...]:
    """Numbers of runs, 1 first: what the others are compared with."""
    if text is None:
        return COUNTS
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 64 for word in words):
        raise InputError(f"--at-once: {said(text)} is no list of numbers from 1 to 64, as in 1,2,4")
    return tuple(sorted({1, *map(int, words)}))
