"""What is measured: on one step's outputs, on a run so far, on a frozen encoder."""

from typing import Any

from vergence.metrics import verdict
from vergence.metrics.table import Metric, register, unregister

__all__ = ["Metric", "register", "unregister", "verdict"]


def __getattr__(name: str) -> Any:
    """Return a function of `collapse`, which needs torch, when it is asked for: a label needs none."""
    if name.startswith("_"):
        raise AttributeError(name)
    import vergence.metrics.collapse

    return getattr(vergence.metrics.collapse, name)
