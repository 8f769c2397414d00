"""The command `vergence bench`: its own options; those of a run are as in `vergence train`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vergence.bench import PARTS
from vergence.command.checks import path_of
from vergence.config.checks import names
from vergence.config.schema import said
from vergence.errors import InputError

if TYPE_CHECKING:
    from vergence.bench.order import Order


def add_options(command: argparse.ArgumentParser) -> None:
    """Add them to the command."""
    command.add_argument("method", nargs="?", default="byol", help="as in vergence train [byol]")
    command.add_argument("--what", help=f"which of {','.join(PARTS)} [all but at-once]")
    command.add_argument("--at-once", metavar="COUNTS", help="measure so many runs at the same time too, such as 1,2,4")
    command.add_argument("--steps", type=int, default=10, help="steps of a round [10]")
    command.add_argument("--warmup", type=int, default=4, metavar="STEPS", help="steps before the first round [4]")
    command.add_argument("--rounds", type=int, default=5, help="rounds of each measurement [5]")
    command.add_argument("--pictures", type=int, help="pictures that are evaluated [1200; 60000 on a GPU]")
    command.add_argument("--data", help="digits, cifar10, stl10 or a folder [cifar10]; noise of its shape if not there")
    command.add_argument("--out", type=path_of, metavar="FILE.JSON", help="write every number there")
    command.epilog = (
        "The default is BYOL, ResNet-18, views of 96 px from pictures of 32 px, batch 64 on a CPU and 256 on a GPU.\n"
        "Options of a run, such as --encoder resnet50 --precision bfloat16, are those of vergence train."
    )


def read_order(known: argparse.Namespace, rest: Sequence[str]) -> "Order":
    """What the words of the command ask for.

    Raises:
        InputError: an unknown method, part, option, or a number that makes no sense.
    """
    from vergence import config as c
    from vergence import presets
    from vergence.bench.order import BATCH, SIZE, Order
    from vergence.command import options

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
    from vergence.bench.order import COUNTS

    if text is None:
        return COUNTS
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 64 for word in words):
        raise InputError(f"--at-once: {said(text)} is no list of numbers from 1 to 64, as in 1,2,4")
    return tuple(sorted({1, *map(int, words)}))
