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

__version__ = "0.1.0"

__all__ = [
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


_FUNCTIONS = {"export": "exports.export", "load_encoder": "runs"}
"""The public functions, each by the module that it is taken from."""


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
