"""Convolutions that are fast on the CPU, written in matrix products: Winograd's, products of patches, of whole maps.

A 3 x 3 kernel over a tile of m x m outputs reads n x n inputs, n = m + 2. Evaluated as polynomials at n points in each
direction, the convolution becomes n^2 products for each pair of channels instead of 9 m^2 (Winograd 1980; Lavin & Gray
2016, arXiv 1509.09308): 36 instead of 144 for m = 4. What remains are products of matrices, over tiles, which libraries
do at the speed of the machine, and the change of basis, which is compiled (`tiles.py`).

On a map of 1 x 1 or 2 x 2, as late layers have of pictures of 32 px, most of a tile is padding; there the whole
convolution is one matrix, of all inputs to all outputs, with no entry that is padding's.

What each gains in a training step, and where it loses, is in docs/performance.md.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vergence.fast.compiled import can_compile

if TYPE_CHECKING:
    from vergence.fast.tiles import Tiles

REVISION = 2
"""Which of the orders of summation that were here one after the other this is: bits depend on it. 1: small maps in
tiles, too."""

_TILES = (4, 3)
_TILES_AT_ONCE = 144  # what is made of them stays in the cache, and the products are still large enough to be fast
_WINOGRAD_CHANNELS = 64  # with fewer, changing the basis costs more than the products save
_PATCH_CHANNELS = 256  # from here on, in the small maps of late layers, a product of patches beats torch's own
_PATCH_CHANNELS_TO_SMALL = 128  # the same where the outputs are of 2 x 2
_WHOLE = 2  # the side of the largest map that is taken whole: from 3 x 3 on, the matrix is of zeros for a great part


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, in another order of summation where that is faster: 3 x 3 kernels in float32 on the CPU.

    Maps of 1 x 1 and 2 x 2: one matrix for the whole map. Larger ones, stride 1 and at least 64 channels: Winograd's
    algorithm, where numba is installed; stride 2 and at least 256 channels, or 128 with outputs of 2 x 2: a product of
    patches. A gradient of a gradient is refused: `use_plain_convolutions` has it. Shapes alone decide, never a timing,
    for bits depend on it. All agree with the direct sum within 1e-5 of the output's norm.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        function = self._faster(input, weight)
        if function is None:
            return super()._conv_forward(input, weight, bias)
        out: Tensor = function.apply(input, weight, self.stride[0])  # type: ignore[assignment]
        return out if bias is None else out + bias[:, None, None]

    def _faster(self, input: Tensor, weight: Tensor) -> type[torch.autograd.Function] | None:
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        if torch.compiler.is_compiling() or (self.kernel_size, self.padding) != ((3, 3), (1, 1)):
            return None
        if (self.dilation, self.groups, self.padding_mode) != ((1, 1), 1, "zeros"):
            return None
        if self.stride not in ((1, 1), (2, 2)):
            return None
        side, channels = max(input.shape[2:]), min(weight.shape[:2])
        if side <= _WHOLE:
            return _Whole
        if self.stride == (1, 1):
            return _Winograd if channels >= _WINOGRAD_CHANNELS and can_compile() else None
        return _Patches if channels >= (_PATCH_CHANNELS_TO_SMALL if side <= 4 else _PATCH_CHANNELS) else None


def use_fast_convolutions(module: nn.Module) -> nn.Module:
    """Let each plain convolution inside be ours: same parameters, same state, another forward. Returns the module."""
    return _exchange(module, nn.Conv2d, Conv2d)


def use_plain_convolutions(module: nn.Module) -> nn.Module:
    """The reverse, for what must see torch's own class."""
    return _exchange(module, Conv2d, nn.Conv2d)


def _exchange(module: nn.Module, old: type, new: type) -> nn.Module:
    for child in module.modules():
        if type(child) is old:
            child.__class__ = new
    return module


# --- Winograd ---------------------------------------------------------------------------------------------------------


def _compiled() -> "Tiles":
    from vergence.fast.tiles import load

    return load()


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, _transform(weight, _tile(x), turned=False).mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            of_input = _convolve(gradient, _transform(weight, _tile(x), turned=True))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient)
        return of_input, of_weight, None


def _tile(x: Tensor) -> int:
    """The side of tile that needs the fewest products for maps of this size."""
    return min(_TILES, key=lambda m: _tiles_of(x, m) * (m + 2) ** 2)


def _tiles_of(x: Tensor, m: int) -> int:
    """How many tiles of m x m cover a map."""
    height, width = x.shape[2:]
    return -(-height // m) * -(-width // m)


def _transform(weight: Float[Tensor, "o i 3 3"], m: int, turned: bool) -> Float[Tensor, "nn o i"]:
    """The kernels at their points; by half a turn, which is what takes the gradient back, if asked for."""
    points = torch.empty(m + 2, m + 2, *weight.shape[:2])
    _compiled().kernel_to(_last(weight), m, turned, points.numpy())
    return points.flatten(0, 1)


def _convolve(x: Float[Tensor, "b i h w"], kernel: Float[Tensor, "nn i o"]) -> Float[Tensor, "b o h w"]:
    m, pixels = _tile(x), _last(x)
    out = x.new_empty(len(x), *x.shape[2:], kernel.shape[2])
    for first, count in _parts(x, m):
        products = torch.bmm(_points(pixels, first, count, m, overlap=True), kernel)
        _compiled().map_from(products.view(m + 2, m + 2, count, -1).numpy(), m, out.numpy(), first)
    return out.permute(0, 3, 1, 2)


def _weight_gradient(x: Float[Tensor, "b i h w"], gradient: Float[Tensor, "b o h w"]) -> Float[Tensor, "o i 3 3"]:
    m, inputs, outputs = _tile(x), _last(x), _last(gradient)
    total: Tensor | None = None
    for first, count in _parts(x, m):
        left = _points(outputs, first, count, m, overlap=False).mT
        right = _points(inputs, first, count, m, overlap=True)
        total = torch.bmm(left, right) if total is None else total.baddbmm_(left, right)
    if total is None:  # no pictures
        return x.new_zeros(outputs.shape[3], inputs.shape[3], 3, 3)
    weight = total.new_empty(total.shape[1], 3, 3, total.shape[2])
    _compiled().kernel_from(total.view(m + 2, m + 2, *total.shape[1:]).numpy(), m, weight.numpy())
    return weight.permute(0, 3, 1, 2)


def _last(x: Float[Tensor, "b c h w"]) -> np.ndarray:
    """Return maps or kernels as the compiled functions take them: channels last, `[b h w c]`, without gaps."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def _parts(x: Float[Tensor, "b c h w"], m: int) -> Iterator[tuple[int, int]]:
    """Some pictures at a time: the first of them, and how many tiles they have."""
    each = _tiles_of(x, m)
    pictures = max(1, _TILES_AT_ONCE // each)
    for first in range(0, len(x), pictures):
        yield first, min(pictures, len(x) - first) * each


def _points(pixels: np.ndarray, first: int, count: int, m: int, overlap: bool) -> Float[Tensor, "nn t c"]:
    """Return room for a number of tiles at their points."""
    points = torch.empty(m + 2, m + 2, count, pixels.shape[3])
    _compiled().map_to(pixels, first, m, overlap, points.numpy())
    return points.flatten(0, 1)


# --- patches ----------------------------------------------------------------------------------------------------------


class _Patches(torch.autograd.Function):
    """Stride 2: each output is the product of a 3 x 3 patch of all channels, one row, with the kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        patches = _patches(x)
        out = patches.flatten(0, 2).flatten(1) @ _as_rows(weight).T
        return out.view(*patches.shape[:3], -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        b, channels, height, width = x.shape
        gradient = gradient.permute(0, 2, 3, 1)
        rows, columns = gradient.shape[1:3]
        flat = gradient.reshape(-1, gradient.shape[3])
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            patches = (flat @ _as_rows(weight)).view(b, rows, columns, 3, 3, channels)
            padded = x.new_zeros(b, height + 2, width + 2, channels)
            for i in range(3):
                for j in range(3):
                    padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] += patches[:, :, :, i, j]
            of_input = padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_rows = flat.T @ _patches(x).flatten(0, 2).flatten(1)
            of_weight = of_rows.view(-1, 3, 3, channels).permute(0, 3, 1, 2)
        return of_input, of_weight, None


def _patches(x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b hh ww 3 3 i"]:
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    rows, columns = ((side - 1) // 2 + 1 for side in x.shape[2:])
    return _windows(padded, 3, 2, rows, columns).contiguous()


def _windows(x: Float[Tensor, "b h w c"], side: int, stride: int, rows: int, columns: int) -> Float[Tensor, "..."]:
    """Overlapping windows `[b rows columns side side c]`, without a copy."""
    (picture, row, column, channel), (b, _, _, channels) = x.stride(), x.shape
    strides = (picture, stride * row, stride * column, row, column, channel)
    return x.as_strided((b, rows, columns, side, side, channels), strides, x.storage_offset())


def _as_rows(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o _"]:
    return weight.permute(0, 2, 3, 1).flatten(1)


# --- whole maps -------------------------------------------------------------------------------------------------------


class _Whole(torch.autograd.Function):
    """Maps of at most 2 x 2: all outputs of a picture are one product of all its inputs, with a matrix of kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        rows, columns = ((side - 1) // stride + 1 for side in x.shape[2:])
        out = _flat(x) @ _matrix(weight, x, stride).T
        return out.view(len(x), rows, columns, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        b, channels, height, width = x.shape
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            pixels = _flat(gradient) @ _matrix(weight, x, ctx.stride)
            of_input = pixels.view(b, height, width, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_matrix = _flat(gradient).T @ _flat(x)
            of_weight = torch.zeros_like(weight)
            for part, seen in zip(of_matrix.split(len(weight)), _seen(of_weight, x, ctx.stride), strict=True):
                seen += part.view(len(weight), height, width, channels)
        return of_input, of_weight, None


def _flat(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _"]:
    return x.permute(0, 2, 3, 1).flatten(1)


def _seen(weight: Float[Tensor, "o i 3 3"], x: Float[Tensor, "b i h w"], stride: int) -> list[Tensor]:
    """Return for each output of the map the part `[o h w i]` of the kernels that does not fall on padding, as views."""
    height, width = x.shape[2:]
    kernels = weight.permute(0, 2, 3, 1)
    return [
        kernels[:, 1 - row : 1 - row + height, 1 - column : 1 - column + width]
        for row in range(0, height, stride)
        for column in range(0, width, stride)
    ]


def _matrix(weight: Float[Tensor, "o i 3 3"], x: Float[Tensor, "b i h w"], stride: int) -> Float[Tensor, "outs ins"]:
    """Return the convolution as a matrix, outputs by inputs, channels last in both."""
    return torch.cat([part.flatten(1) for part in _seen(weight, x, stride)])
