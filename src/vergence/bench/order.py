"""What is to be measured. Nothing here imports torch."""

import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from vergence import config as c
from vergence.config.marks import AtLeast, Metavar
from vergence.config.schema import configuration
from vergence.fast import Compile

Part = Literal["views", "step", "train", "evaluate", "import", "at-once"]
PARTS: tuple[Part, ...] = typing.get_args(Part)
"""What can be measured."""
COUNTS = (1, 2, 4)
BATCH = {"cpu": 64, "cuda": 256}
PICTURES = {"cpu": 1_200, "cuda": 60_000}
CAPTURED = 5
"""Steps after which a step on a GPU is compiled and captured for certain, and the first replay is over."""

SIZE = 96
"""Side of the views, where the options do not say another: small pictures are enlarged to it, as the papers do."""


@configuration
class Amounts:
    """How much is measured. The command has an option for each field."""

    steps: Annotated[int, AtLeast(1), "steps of a round"] = 10
    warmup: Annotated[int, AtLeast(1), Metavar("STEPS"), "steps before the first round"] = 4
    rounds: Annotated[int, AtLeast(1), "rounds of each measurement; all are written down, the median is shown"] = 5
    pictures: Annotated[int | None, AtLeast(12), "pictures that are evaluated [1200; 60000 on a GPU]"] = None


@dataclass(frozen=True, kw_only=True)
class Order(Amounts):
    """What is to be measured.

    Attributes:
        run: what is trained. Its epochs play no part.
        batch_given: whether the batch size was asked for; else it is that of the device.
        parts: which of `PARTS`.
        counts: numbers of runs at once, 1 first: what the others are compared with.
        data_dir: where the pictures are; without it, noise of their shape is used.
        compile: as in training.
    """

    run: c.Run
    batch_given: bool = True
    parts: tuple[Part, ...] = PARTS[:-1]
    counts: tuple[int, ...] = COUNTS
    data_dir: Path | None = None
    compile: Compile = "auto"

    def on(self, kind: str) -> "Order":
        """Return the order with what depends on the kind of device, "cpu" or "cuda", filled in."""
        run = self.run if self.batch_given else replace(self.run, batch_size=BATCH[kind])
        warmup = max(self.warmup, CAPTURED) if kind == "cuda" else self.warmup
        return replace(self, run=run, pictures=self.pictures or PICTURES[kind], warmup=warmup)
