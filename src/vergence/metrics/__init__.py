"""What is measured: on one step's outputs, on a run so far, on a frozen encoder.

Importing this package imports no torch: reports read the names of what is measured without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vergence.metrics.collapse import effective_rank, feature_std, positive_negative_cosine, spectrum

__all__ = ["effective_rank", "feature_std", "positive_negative_cosine", "spectrum"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vergence.metrics import collapse

        return getattr(collapse, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
