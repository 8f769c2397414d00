"""Convolutions that are fast on the CPU, written in matrix products: Winograd's algorithm, and products of patches.

A 3 x 3 kernel over a tile of m x m outputs reads n x n inputs, n = m + 2. Evaluated as polynomials at n points in each
direction, the convolution becomes n^2 products for each pair of channels instead of 9 m^2 (Winograd 1980; Lavin & Gray
2016, arXiv 1509.09308): 36 instead of 144 for m = 4. What remains are products of matrices, over tiles, which libraries
do at the speed of the machine, and the change of basis, which is one small matrix product more.

What each gains in a training step, and where it loses, is in docs/performance.md.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

_POINTS = (0, 1, -1, 2, -2)  # where polynomials are evaluated, besides infinity: small, so that little is lost
_TILES = (4, 3)
_TILES_AT_ONCE = 192  # what is made of them stays in the cache, and the products are still large enough to be fast
_WINOGRAD_CHANNELS = 64  # with fewer, changing the basis costs more than the products save
_PATCH_CHANNELS = 256  # from here on, in the small maps of late layers, a product of patches beats torch's own


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, in another order of summation where that is faster: 3 x 3 kernels in float32 on the CPU.

    Stride 1 and at least 64 channels: Winograd's algorithm; stride 2 and at least 256 channels: a product of patches.
    Shapes alone decide, never a timing, for bits depend on it. Both agree with the direct sum within 1e-5 of the
    output's norm.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        function = self._faster(input, weight)
        if function is None:
            return super()._conv_forward(input, weight, bias)
        out: Tensor = function.apply(input, weight)  # type: ignore[assignment]
        return out if bias is None else out + bias[:, None, None]

    def _faster(self, input: Tensor, weight: Tensor) -> type[torch.autograd.Function] | None:
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        if torch.compiler.is_compiling() or (self.kernel_size, self.padding) != ((3, 3), (1, 1)):
            return None
        if (self.dilation, self.groups, self.padding_mode) != ((1, 1), 1, "zeros"):
            return None
        if self.stride == (1, 1) and min(weight.shape[:2]) >= _WINOGRAD_CHANNELS:
            return _Winograd
        return _Patches if self.stride == (2, 2) and min(weight.shape[:2]) >= _PATCH_CHANNELS else None


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


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, _transform(weight, _basis(_tile(x)).kernel).mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            turned = _basis(_tile(x)).kernel.flip(1)  # by half a turn: the nine weights in reverse
            of_input = _convolve(gradient, _transform(weight, turned))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient)
        return of_input, of_weight


class _Basis(NamedTuple):
    """Matrices of F(m x m, 3 x 3), each for both directions at once (a Kronecker square)."""

    size: int  # n^2 points
    inputs: Float[Tensor, "nn nn"]  # B^T
    kernel: Float[Tensor, "nn 9"]  # G
    outputs: Float[Tensor, "mm nn"]  # A^T


@lru_cache
def _basis(m: int) -> _Basis:
    """Toom-Cook at n - 1 points and infinity: row i of B^T is the polynomial that is 0 at all points but the i-th."""
    points, n = [float(p) for p in _POINTS[: m + 1]], m + 2
    inputs, kernel, outputs = np.zeros((n, n)), np.zeros((n, 3)), np.zeros((n, m))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs[i, :-1] = np.polynomial.polynomial.polyfromroots(others)
        kernel[i] = np.power(point, range(3)) / np.prod([point - other for other in others])
        outputs[i] = np.power(point, range(m))
    inputs[-1] = np.polynomial.polynomial.polyfromroots(points)
    kernel[-1, -1] = outputs[-1, -1] = 1
    return _Basis(n * n, *(torch.from_numpy(np.kron(x, x)).float() for x in (inputs, kernel, outputs.T)))


def _tile(x: Tensor) -> int:
    """The side of tile that needs the fewest products for maps of this size."""
    height, width = x.shape[2:]
    return min(_TILES, key=lambda m: -(-height // m) * -(-width // m) * (m + 2) ** 2)


def _transform(weight: Float[Tensor, "o i 3 3"], kernel: Float[Tensor, "nn 9"]) -> Float[Tensor, "nn o i"]:
    """The weights in the new basis: one small product for each output channel, for weights lie that way."""
    rows = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], 9, -1)
    return torch.bmm(kernel.expand(len(rows), -1, -1), rows).transpose(0, 1)


def _convolve(x: Float[Tensor, "b i h w"], kernel: Float[Tensor, "nn i o"]) -> Float[Tensor, "b o h w"]:
    b, channels, height, width = x.shape
    m = _tile(x)
    basis, out_channels = _basis(m), kernel.shape[2]
    out = x.new_empty(b, height, width, out_channels)
    parts = out.split(_pictures_at_once(x, m))
    for tiles, into in zip(_tiles(x, m, m + 2), parts, strict=True):
        products = torch.bmm(torch.mm(basis.inputs, tiles).view(basis.size, -1, channels), kernel)
        outputs = torch.mm(basis.outputs, products.view(basis.size, -1)).view(-1, out_channels)
        torch.index_select(outputs, 0, _origins(len(into), height, width, m), out=into.view(-1, out_channels))
    return out.permute(0, 3, 1, 2)


def _weight_gradient(x: Float[Tensor, "b i h w"], gradient: Float[Tensor, "b o h w"]) -> Float[Tensor, "o i 3 3"]:
    m, in_channels, out_channels = _tile(x), x.shape[1], gradient.shape[1]
    basis = _basis(m)
    total: Tensor | None = None
    for inputs, outputs in zip(_tiles(x, m, m + 2), _tiles(gradient, m, m), strict=True):
        left = torch.mm(basis.outputs.mT, outputs).view(basis.size, -1, out_channels).mT
        right = torch.mm(basis.inputs, inputs).view(basis.size, -1, in_channels)
        total = torch.bmm(left, right) if total is None else total.baddbmm_(left, right)
    assert total is not None
    weight = torch.bmm(basis.kernel.mT.expand(out_channels, -1, -1), total.transpose(0, 1))
    return weight.view(out_channels, 3, 3, in_channels).permute(0, 3, 1, 2)


def _pictures_at_once(x: Float[Tensor, "b c h w"], m: int) -> int:
    height, width = x.shape[2:]
    return max(1, _TILES_AT_ONCE // (-(-height // m) * -(-width // m)))


def _tiles(x: Float[Tensor, "b c h w"], m: int, side: int) -> Iterator[Float[Tensor, "ss _"]]:
    """Tiles of `side`, m apart, of some pictures at a time: each point of all tiles is a row, `tiles x channels` long.

    Where tiles are wider than m they begin before the map; what lies outside is 0.
    """
    channels, height, width = x.shape[1:]
    before, (high, wide) = (side - m) // 2, (-(-n // m) * m + side - m for n in (height, width))
    edged = inside = None
    for pictures in x.permute(0, 2, 3, 1).split(_pictures_at_once(x, m)):
        if (high, wide) != (height, width):
            if edged is None or inside is None or len(edged) != len(pictures):
                edged = pictures.new_zeros(len(pictures), high, wide, channels)  # its edge stays 0
                inside = edged[:, before : before + height, before : before + width]
            inside.copy_(pictures)
            pictures = edged
        places = _places(len(pictures), high, wide, m, side)
        yield pictures.reshape(-1, channels).index_select(0, places).view(side * side, -1)


@lru_cache
def _places(pictures: int, height: int, width: int, m: int, side: int) -> Int64[Tensor, " _"]:
    """Which pixel each point of each tile is: for all pictures, rows and columns of tiles, point by point."""
    pixels = torch.arange(pictures * height * width).view(pictures, height, width, 1)
    rows, columns = (height - side) // m + 1, (width - side) // m + 1
    return _windows(pixels, side, m, rows, columns).permute(3, 4, 0, 1, 2, 5).flatten()


@lru_cache
def _origins(pictures: int, height: int, width: int, m: int) -> Int64[Tensor, " _"]:
    """Which point of a tile each pixel of a map is: `_places` of tiles side by side, the other way round."""
    rows, columns = -(-height // m), -(-width // m)
    points = torch.arange(pictures * rows * columns * m * m).view(m, m, pictures, rows, columns)
    pixels = points.permute(2, 3, 0, 4, 1).reshape(pictures, rows * m, columns * m)
    return pixels[:, :height, :width].flatten()


def _windows(x: Shaped[Tensor, "b h w c"], side: int, stride: int, rows: int, columns: int) -> Shaped[Tensor, "..."]:
    """Overlapping windows `[b rows columns side side c]`, without a copy."""
    (picture, row, column, channel), (b, _, _, channels) = x.stride(), x.shape
    strides = (picture, stride * row, stride * column, row, column, channel)
    return x.as_strided((b, rows, columns, side, side, channels), strides, x.storage_offset())


# --- patches ----------------------------------------------------------------------------------------------------------


class _Patches(torch.autograd.Function):
    """Stride 2: each output is the product of a 3 x 3 patch of all channels, one row, with the kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        patches = _patches(x)
        out = patches.flatten(0, 2).flatten(1) @ _as_rows(weight).T
        return out.view(*patches.shape[:3], -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
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
        return of_input, of_weight


def _patches(x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b hh ww 3 3 i"]:
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    rows, columns = ((side - 1) // 2 + 1 for side in x.shape[2:])
    return _windows(padded, 3, 2, rows, columns).contiguous()


def _as_rows(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o _"]:
    return weight.permute(0, 2, 3, 1).flatten(1)
