"""The run: everything that determines a result, and the key that names it."""

import hashlib
from typing import Annotated, Literal

from vergence.config.data import Data, Digits, data_name
from vergence.config.encoder import Encoder
from vergence.config.marks import Added, AtLeast, Between, Named, Stored
from vergence.config.methods import Method
from vergence.config.optimizer import SGD, Cosine, Optimizer, Schedule
from vergence.config.schema import canonical, configuration
from vergence.config.views import VIEWS, Views

Precision = Literal["float32", "bfloat16", "float16"]


@configuration
class Run:
    """Everything that determines one training run, and nothing that does not."""

    method: Method
    data: Data = Digits()
    views: Annotated[Views, Named(VIEWS, ("first", "second")), "the two views"] = Views()
    encoder: Encoder = Encoder()
    optimizer: Optimizer = SGD()
    schedule: Schedule = Cosine()
    epochs: Annotated[int, AtLeast(0), "passes over the pictures; 0: evaluate the first weights"] = 10
    schedule_epochs: Annotated[
        int | None, AtLeast(1), Stored("horizon"), "epochs the schedules are laid out for; none: as many as are run"
    ] = None
    batch_size: Annotated[int, AtLeast(2), "pictures in a step"] = 256
    accumulate: Annotated[int, AtLeast(1), Added(), "parts of a step's batch, whose gradients are averaged"] = 1
    subset: Annotated[int | None, AtLeast(2), "train, and fit probes, on this many pictures, drawn once; none: all"] = (
        None
    )
    norm_views: Annotated[
        Literal["separately", "together"], "whether batch norm sees the views one at a time or as one batch"
    ] = "separately"
    precision: Annotated[Precision, "of the networks; losses and averages stay float32"] = "float32"
    seed: Annotated[int, Between(0, 2**32 - 1), "of everything random"] = 0

    def __post_init__(self) -> None:
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            fewer = f"--schedule-epochs ({self.schedule_epochs})"
            raise ValueError(f"{fewer} cannot be fewer than --epochs ({self.epochs})")
        if self.epochs and self.schedule.warmup_epochs >= (self.schedule_epochs or self.epochs):
            raise ValueError(
                f"--schedule.warmup-epochs ({self.schedule.warmup_epochs:g}) leaves nothing of the {self.epochs} epochs"
            )
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            parts = f"--accumulate: a batch of {self.batch_size} is not cut into {self.accumulate} equal parts"
            raise ValueError(f"{parts} of 2 or more pictures; choose a number that divides --batch-size")
        if self.views.size > 2 * self.data.size:
            sizes = f"views of {self.views.size} px from data of {self.data.size} px"
            raise ValueError(f"{sizes}: set --data.size as large")
        if self.views.local.count and not self.method.takes_local_crops:
            raise ValueError(f"--views.local.count: {self.method.kind} takes no local crops; leave it at 0")
        self.method.require_part(self.batch_size // self.accumulate)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of this configuration's hash: names the run's folder."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:12]

    @property
    def former_key(self) -> str:
        """The key in which the place of a folder of pictures had a part; for other pictures the key itself."""
        return hashlib.sha256(canonical(self, places=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The default name of the run's folder."""
        return f"{self.method.kind}-{data_name(self.data)}-{self.key}"
