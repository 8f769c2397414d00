"""What a step gives a `Watch`: checked at each call, which costs microseconds, and stacked where it is measured."""

import numbers
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vergence.errors import InputError

Views = Tensor | Sequence[Tensor]
"""Embeddings of two views: each `[b d]`, in a tuple, or both as `[2 b d]`."""


class Given(NamedTuple):
    """A step's embeddings, views by "z", "y", "p" and "z_target", and its loss; what was not given is left out."""

    views: dict[str, Tensor | tuple[Tensor, ...]]
    loss: Tensor | float | None

    @property
    def device(self) -> torch.device:
        """Where the embeddings are measured: on their own device, or the CPU, where that is neither a GPU of CUDA's."""
        own = self.views["z"][0].device
        return own if own.type == "cuda" else torch.device("cpu")

    @property
    def pictures(self) -> int:
        """The pictures in the batch."""
        return len(self.views["z"][0])

    @property
    def dimensions(self) -> int:
        """The dimensions of the projections."""
        return self.views["z"][0].shape[1]

    def stacked(self, name: str) -> Float[Tensor, "v b d"] | None:
        """Return the embeddings of a name, detached; None where they were not given."""
        views = self.views.get(name)
        if isinstance(views, Tensor):
            return views.detach().to(self.device)
        return None if views is None else torch.stack([view.detach().to(self.device) for view in views])

    def scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return the loss by its name, detached, beside the embeddings; empty where it was not given."""
        if self.loss is None:
            return {}
        if isinstance(self.loss, Tensor):
            return {"loss": self.loss.detach().float().reshape(()).to(self.device)}
        return {"loss": torch.full((), float(self.loss), dtype=torch.float32, device=self.device)}


def given(views: dict[str, Views | None], loss: Tensor | float | None) -> Given:
    """Return a step's embeddings and loss as they are measured.

    Raises:
        InputError: one is no tensor, or does not fit the others; names it and its shape.
    """
    found = {name: _views(name, value) for name, value in views.items() if value is not None}
    if "z" not in found:
        raise InputError("watch: z is missing: give the projections of both views, z=(z1, z2)")
    z = found["z"]
    for name, other in found.items():
        wanted = z[0].shape[:1] if name == "y" else z[0].shape
        if len(other) != len(z) or other[0].shape[: len(wanted)] != wanted:
            raise InputError(f"watch: {name} is {_said(other)}, which does not fit z, {_said(z)}")
    if len(z) == 1 and "z_target" not in found:
        raise InputError(f"watch: z is {_said(z)}; give both views, z=(z1, z2), or the other's key as z_target")
    if len(z[0]) < 2:
        raise InputError(f"watch: z is {_said(z)}: different pictures are compared, so a batch needs two")
    if not (loss is None or isinstance(loss, numbers.Real) or (isinstance(loss, Tensor) and loss.numel() == 1)):
        about = f"of the shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"watch: loss: expected one number, not {about}")
    return Given(found, loss)


def _views(name: str, value: Views) -> Tensor | tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        parts = value if value.dim() == 3 else (value,)
    else:
        parts = tuple(value) if isinstance(value, Sequence) else ()
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            wanted = f"tensors of two views, ({name}1, {name}2)"
            raise InputError(f"watch: {name}: expected {wanted}, not {type(value).__name__}")
    if len(parts) not in (1, 2):
        raise InputError(f"watch: {name}: expected two views, not {len(parts)}; of many crops give the two global ones")
    if any(part.dim() != 2 or part.shape != parts[0].shape or not part.is_floating_point() for part in parts):
        raise InputError(f"watch: {name} is {_said(parts)}; expected views of one shape, [b d], one row a picture")
    return parts


def _said(parts: Tensor | tuple[Tensor, ...]) -> str:
    shapes = " and ".join(f"{list(part.shape)}" for part in parts)
    kind = "" if all(part.is_floating_point() for part in parts) else f" of {parts[0].dtype}"
    return f"{len(parts)} view{'' if len(parts) == 1 else 's'} {shapes}{kind}"
