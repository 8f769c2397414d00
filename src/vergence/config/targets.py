"""The members of the target's slot: what a method's second network is, and when it moves."""

from typing import Annotated, ClassVar, Literal

from vergence.config.marks import Between, Stored
from vergence.config.schema import configuration

Start = Literal["copy", "independent"]
TargetBatchNorm = Literal["batch", "running"]
UpdateWhen = Literal["after-optimizer", "before-optimizer"]
_START = "the first target: a copy of the online network, or initialized on its own"
_BATCH_NORM = "its batch norm uses the statistics of the batch, or the online network's running ones"
_UPDATE_WHEN = "whether it moves towards the online weights of after or before the optimizer's update"


@configuration
class MovingAverage:
    """An exponential moving average of the online weights: the mean teacher."""

    kind: ClassVar[str] = "moving-average"
    decay: Annotated[float, Between(0, 1), "weight of the old target"] = 0.996
    decay_schedule: Annotated[Literal["constant", "cosine"], "constant, or by a cosine to 1"] = "cosine"
    start: Annotated[Start, _START] = "copy"
    batch_norm: Annotated[TargetBatchNorm, _BATCH_NORM] = "batch"
    update_when: Annotated[UpdateWhen, Stored("moves"), _UPDATE_WHEN] = "after-optimizer"


@configuration
class Copy:
    """The online weights of the step before; moved after the optimizer, the same weights as the online network's."""

    kind: ClassVar[str] = "copy"
    start: Annotated[Start, _START] = "copy"
    batch_norm: Annotated[TargetBatchNorm, _BATCH_NORM] = "batch"
    update_when: Annotated[UpdateWhen, Stored("moves"), _UPDATE_WHEN] = "before-optimizer"


@configuration
class Frozen:
    """The first weights, for ever."""

    kind: ClassVar[str] = "frozen"
    start: Annotated[Start, _START] = "independent"
    batch_norm: Annotated[Literal["batch"], "its batch norm uses the statistics of the batch"] = "batch"


@configuration
class StopGradient:
    """The online network itself, without gradient (SimSiam's target)."""

    kind: ClassVar[str] = "stop-gradient"


@configuration
class Shared:
    """The online network itself, with gradient: the stop-gradient taken away."""

    kind: ClassVar[str] = "shared"


Target = MovingAverage | Copy | Frozen | StopGradient | Shared
