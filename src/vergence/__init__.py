"""Vergence: self-supervised learning from two views of a picture, with a verdict on collapse.

The public parts are the names in `__all__`; what they export is public too. Importing this package imports none of
them, so that `vergence --help` does not wait for torch: each is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vergence import (
        augment,
        config,
        data,
        losses,
        methods,
        metrics,
        presets,
        register,
        runs,
        study,
    )
    from vergence.exports.export import export
    from vergence.runs import load_encoder
    from vergence.watching import Watch

__version__ = "0.1.0"

__all__ = [
    "Watch",
    "augment",
    "config",
    "data",
    "export",
    "load_encoder",
    "losses",
    "methods",
    "metrics",
    "presets",
    "register",
    "runs",
    "study",
]


_HOMES = {"Watch": "watching", "export": "exports.export", "load_encoder": "runs"}
"""The modules of those names that are no modules."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
