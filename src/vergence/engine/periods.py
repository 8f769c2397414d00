"""What is done besides the steps while a run trains, and when; none of it changes a bit of the run."""

from typing import Annotated

from vergence.config.schema import AtLeast, configuration
from vergence.metrics.table import Probe


@configuration
class Periods:
    """How often a run logs, saves and looks at itself. The command has an option for each field."""

    log_every: Annotated[int | None, AtLeast(0), "steps between log lines; none: 10, or fewer in a short run"] = None
    save_every: Annotated[int, AtLeast(0), "steps between checkpoints, besides one at each epoch's end"] = 0
    online: Annotated[tuple[Probe, ...], "probes scored during training, such as knn,logistic"] = ()
    online_every: Annotated[int, AtLeast(0), "epochs between them; 0: never"] = 1
    trace_every: Annotated[int, AtLeast(0), "epochs between looks at gradients, predictor and directions; 0: never"] = 0


def due(step: int, every: int, total: int) -> bool:
    """Return whether periodic work is to be done after step `step` of `total`, counted from 1.

    It is due at each multiple of `every` and at the end; never where `every` is 0.
    """
    return every > 0 and (step % every == 0 or step == total)
