"""What every loss asks of embeddings: that they fit together, in float32 or more; and unit length."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def of_embeddings(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function see only embeddings that fit its signature, in float32 or float64, outside of any autocast.

    The letters of the signature's shapes say what fits: each stands for one size, of at least 1, in one call.

    Raises:
        ValueError: naming the argument, its shape, and the argument that it does not fit.
    """
    shapes = {
        name: tuple(parameter.annotation.dim_str.split())
        for name, parameter in inspect.signature(function).parameters.items()
        if hasattr(parameter.annotation, "dim_str")
    }
    names, title = tuple(shapes), function.__name__

    @functools.wraps(function)
    def checked(*arguments: P.args, **named: P.kwargs) -> R:
        embeddings: dict[str, Any] = dict(zip(names, arguments, strict=False))  # these come first in every signature
        embeddings |= {name: named[name] for name in names if name in named}
        _require_fit(title, shapes, embeddings)
        dtype, device = torch.float32, "cpu"
        for z in embeddings.values():
            dtype, device = torch.promote_types(dtype, z.dtype), z.device.type
        if any(z.dtype != dtype for z in embeddings.values()):
            arguments = tuple(z.to(dtype) if i < len(names) else z for i, z in enumerate(arguments))  # type: ignore[assignment, attr-defined]
            named |= {name: z.to(dtype) for name, z in embeddings.items() if name in named}  # type: ignore[assignment]
        if device in _AUTOCASTS and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return function(*arguments, **named)
        return function(*arguments, **named)

    return checked


_AUTOCASTS = ("cpu", "cuda", "mps", "xpu")
"""Devices that torch can be asked about."""


def _require_fit(title: str, shapes: dict[str, tuple[str, ...]], embeddings: dict[str, Any]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, z in embeddings.items():
        letters, shape = shapes[name], tuple(z.shape)
        if len(shape) != len(letters) or 0 in shape:
            raise ValueError(f"{title}: {name} has the shape {shape}; it must be [{' '.join(letters)}], and not empty")
        for letter, size in zip(letters, shape, strict=True):
            other, first = sizes.setdefault(letter, (size, name))
            if size != other and first == name:
                raise ValueError(f"{title}: {name} has the shape {shape}; it must be square")
            if size != other:
                theirs = tuple(embeddings[first].shape)
                raise ValueError(f"{title}: {name} has the shape {shape}, but {first} has {theirs}; {_MEANT[letter]}")


_MEANT = {
    "b": "row i of each belongs to picture i, so both need as many rows",
    "d": "both need as many dimensions",
    "k": "both are scores with the same prototypes, so both need as many",
}
"""What follows from a letter of two arguments."""


@of_embeddings
def normalize(z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Return the rows scaled to unit length; a row of zeros stays zero.

    >>> normalize(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return unit(z)


def unit(z: Tensor) -> Tensor:
    """Return the rows scaled to unit length, of what another loss has checked."""
    return F.normalize(z, dim=1)
