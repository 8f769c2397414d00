"""Maps and tokens to one vector for each picture."""

import torch
from torch import Tensor, nn

from vergence.errors import InputError


class Pooled(nn.Module):
    """A network followed by the mean over what it gives of each place in a picture: maps `[b d h w]`, tokens `[b t d]`.

    Args:
        network: gives either.
        axes: over which the mean is taken.
    """

    def __init__(self, network: nn.Module, axes: tuple[int, ...]):
        super().__init__()
        self.network, self.axes = network, axes

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures).mean(self.axes)


def pooled(network: nn.Module, size: int, name: str) -> tuple[nn.Module, int, str]:
    """Return a network that gives a vector for each picture, the vector's width, and what was done for that, in words.

    Args:
        network: in evaluation mode.
        size: side of its pictures in pixels.
        name: what error lines call it.

    Raises:
        InputError: it cannot take such pictures, or gives neither vectors nor maps nor tokens.
    """
    try:
        with torch.no_grad():
            y = network(torch.zeros(2, 3, size, size))
    except Exception as error:  # networks of others fail in as many ways as there are
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:160]
        raise InputError(f"{name}: cannot take pictures of {size} px: {reason}; choose another --size") from error
    if not isinstance(y, Tensor) or y.ndim not in (2, 3, 4) or len(y) != 2:
        what = f"{tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise InputError(f"{name}: gives {what} for two pictures, not one vector, map or row of tokens for each")
    if y.ndim == 2:
        return network, y.shape[1], ""
    axes, dim = ((2, 3), y.shape[1]) if y.ndim == 4 else ((1,), y.shape[2])
    what = f"maps of {y.shape[2]} x {y.shape[3]}" if y.ndim == 4 else f"{y.shape[1]} tokens a picture"
    return Pooled(network, axes).eval(), dim, f"it gives {what}: their mean is taken"
