"""Which probes score frozen features, and how. Nothing here imports torch."""

from typing import Annotated

from vergence.config.marks import Above, AtLeast
from vergence.config.schema import configuration
from vergence.metrics.table import PROBES, Probe


@configuration
class Probing:
    """Which probes are scored, and how. The command has an option for each field."""

    probes: Annotated[tuple[Probe, ...], f"which of {', '.join(PROBES)}"] = PROBES
    k: Annotated[int, AtLeast(1), "neighbours of the kNN probe"] = 20
    temperature: Annotated[float, Above(0), "of the kNN probe's votes"] = 0.07
