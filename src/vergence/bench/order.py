"""What is to be measured. Nothing here imports torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vergence import config as c

if TYPE_CHECKING:
    from vergence.engine.where import Compile

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
        parts: which of `bench.PARTS`.
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
        """Return the order with what depends on the kind of device, "cpu" or "cuda", filled in."""
        run = self.run if self.batch_given else replace(self.run, batch_size=BATCH[kind])
        warmup = max(self.warmup, CAPTURED) if kind == "cuda" else self.warmup
        return replace(self, run=run, pictures=self.pictures or PICTURES[kind], warmup=warmup)
