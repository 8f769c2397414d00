"""What is done besides the steps while a run trains, and when; none of it changes a bit of the run."""

from typing import Annotated

from vergence.config.marks import AtLeast, Metavar
from vergence.config.schema import configuration
from vergence.metrics.table import Probe

_Steps = Annotated[int, AtLeast(0), Metavar("STEPS")]
_Epochs = Annotated[int, AtLeast(0), Metavar("EPOCHS")]


@configuration
class Periods:
    """How often a run logs, saves and looks at itself. The command has an option for each field."""

    log_every: Annotated[_Steps | None, "steps between log lines; none: 10, or fewer in a short run"] = None
    save_every: Annotated[_Steps, "steps between checkpoints, besides one at each epoch's end"] = 0
    online: Annotated[tuple[Probe, ...], "probes scored during training, such as knn,logistic"] = ()
    online_every: Annotated[_Epochs, "epochs between them; 0: never"] = 1
    trace_every: Annotated[_Epochs, "epochs between looks at gradients, predictor and directions; 0: never"] = 0


def due(step: int, every: int, total: int) -> bool:
    """Return whether periodic work is to be done after step `step` of `total`, counted from 1.

    It is due at each multiple of `every` and at the end; never where `every` is 0.
    """
    return every > 0 and (step % every == 0 or step == total)
