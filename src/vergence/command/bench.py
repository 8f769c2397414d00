"""The command `vergence bench`: what its words ask to be measured."""

from collections.abc import Sequence
from dataclasses import replace

from vergence import config as c
from vergence import presets
from vergence.bench.order import BATCH, COUNTS, PARTS, SIZE, Order, Part
from vergence.command import options
from vergence.command.commands import Bench
from vergence.errors import InputError

EPILOG = (
    "The default is BYOL, ResNet-18, views of 96 px from pictures of 32 px, batch 64 on a CPU and 256 on a GPU.\n"
    "Options of a run, such as --encoder resnet50 --precision bfloat16, are those of vergence train."
)


def read_order(asked: Bench, overrides: Sequence[options.Override]) -> Order:
    """Return what is to be measured.

    Raises:
        InputError: an unknown method, data set or option of a run, or no part to measure.
    """
    what = {*asked.what, *(["at-once"] if asked.at_once else [])}
    parts: tuple[Part, ...] = tuple(part for part in PARTS if part in what)
    if not parts:
        raise InputError(f"--what: name one or more of {','.join(PARTS)}")
    data = options.data_named((asked.data,), asked.data_dir)
    if isinstance(data, c.CIFAR10 | c.CIFAR100):
        data = replace(data, size=SIZE)
    method, predictor = presets.method_named(asked.method)
    if predictor is not None:
        method = replace(method, predictor=predictor)  # type: ignore[call-arg]
    views = replace(c.VIEWS["blog"], size=data.size)
    run = c.Run(method=method, data=data, views=views, schedule=c.Constant(), batch_size=BATCH["cpu"])
    return Order(
        **vars(asked.amounts),
        run=options.apply(run, overrides),
        batch_given=any(name.replace("_", "-") == "batch-size" for name, _ in overrides),
        parts=parts,
        counts=tuple(sorted({1, *asked.at_once})) if asked.at_once else COUNTS,
        data_dir=asked.data_dir,
        compile=asked.compile,
    )
