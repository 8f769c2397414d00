# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportCallIssue=false
# Triton reads these functions; as Python they have other types.
"""`augment.two_views` for a GPU: the same views in a handful of kernels, with nothing decided on the host.

Crops are the same two products of matrices. Colours are one kernel, a picture to each program: it goes over the picture
once to find the mean that contrast needs, then once to change it. A blur is two passes over its taps; the second also
solarizes, normalizes, and writes channels last in the precision asked for. Agrees with `augment.two_views` within 1e-4
(float32), as the tests hold on the CPU by Triton's interpreter.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, UInt8
from torch import Tensor

from vergence.augment.operations import crop_resize, kernel_size, to_float
from vergence.augment.parameters import Parameters
from vergence.config import Views

_BLOCK = 1024  # pixels of a program at a time


def pack(p: Parameters) -> Float[Tensor, "b 18"]:
    """Parameters as one small matrix, a row a picture: one copy takes them to the device.

    Columns: top, left, height, width, flip, jitter (5), factors of the four operations (6-9), operations in order
    (10-13), gray (14), blur (15), sigma (16), solarize (17). Kernels read them by these numbers.
    """
    columns = (p.top, p.left, p.height, p.width, p.flip, p.jitter, p.brightness, p.contrast, p.saturation, p.hue)
    rest = (p.gray, p.blur, p.sigma, p.solarize)
    return torch.cat([torch.stack([v.float() for v in part], dim=1) for part in (columns, p.order.T, rest)], dim=1)


def two_views(
    pixels: UInt8[Tensor, "b 3 h w"],
    source: int,
    views: Views,
    drawn: Float[Tensor, "2 b 18"],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "2 b 3 s s"]:
    """Return what `augment.two_views` does, from parameters drawn before and packed, on the device of the pixels.

    Only in the published order: here colours are not what costs.
    """
    b, size = len(pixels), views.size
    p = drawn.flatten(0, 1).contiguous()
    x = to_float(pixels).repeat(2, 1, 1, 1)
    crops = (p[:, field].long() for field in range(4))
    x = crop_resize(x, *crops, size, p[:, 4] > 0, source=source)
    out = torch.empty((2, b, size, size, 3), dtype=dtype, device=x.device)
    scratch = torch.empty_like(x)
    n, area = 2 * b, size * size
    radius = kernel_size(size) // 2
    blocks = triton.cdiv(area, _BLOCK)
    _colours[(n,)](x, p, area, _BLOCK)
    _blur_rows[(3 * n, blocks)](x, scratch, p, size, radius, _BLOCK)
    _finish[(3 * n, blocks)](x, scratch, out, p, size, radius, *views.mean, *views.std, _BLOCK)
    return out.permute(0, 1, 4, 2, 3)


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _luminance(red, green, blue):
    return red * 0.2989 + green * 0.587 + blue * 0.114


@triton.jit
def _turn(red, green, blue, turn):
    """The hue: `augment.adjust_hue`, step by step."""
    largest = tl.maximum(tl.maximum(red, green), blue)
    smallest = tl.minimum(tl.minimum(red, green), blue)
    slope = (largest - smallest) * 6
    angle = (green + blue - red - smallest) / tl.maximum(slope, 1e-30) + 1 / 6
    angle = tl.where(green < blue, -tl.abs(angle), tl.abs(angle)) + turn
    angle = angle - tl.floor(angle + 0.5)
    base = smallest - slope / 6
    new_red = tl.minimum(tl.maximum(tl.abs(0.5 - tl.abs(angle)), 1 / 6), 1 / 3) * slope + base
    new_green = tl.minimum(tl.maximum(tl.abs(angle + 1 / 6), 1 / 6), 1 / 3) * slope + base
    new_blue = tl.minimum(tl.maximum(tl.abs(angle - 1 / 6), 1 / 6), 1 / 3) * slope + base
    return _clamp(new_red), _clamp(new_green), _clamp(new_blue)


@triton.jit
def _colour(red, green, blue, operation, factor, mean):
    """One of the four operations of the jitter, by its number in `augment`."""
    if operation == 3:
        red, green, blue = _turn(red, green, blue, factor)
    else:
        other = tl.where(operation == 2, _luminance(red, green, blue), tl.where(operation == 1, mean, 0.0))
        other = other * (1 - factor)
        red, green, blue = _clamp(red * factor + other), _clamp(green * factor + other), _clamp(blue * factor + other)
    return red, green, blue


@triton.jit
def _colours(x, p, area, block: tl.constexpr):
    """Jitter and gray, in place, of the picture of this program."""
    picture = tl.program_id(0).to(tl.int64)
    row = p + picture * 18
    reds = x + picture * 3 * area
    jitters = tl.load(row + 5) > 0
    gray = tl.load(row + 14) > 0
    places = tl.arange(0, block)
    if jitters or gray:
        mean = 0.0
        if jitters:  # the mean gray at contrast's turn
            total = tl.zeros([block], tl.float32)
            for start in range(0, area, block):
                inside = start + places < area
                red = tl.load(reds + start + places, mask=inside, other=0.0)
                green = tl.load(reds + area + start + places, mask=inside, other=0.0)
                blue = tl.load(reds + 2 * area + start + places, mask=inside, other=0.0)
                before = 1
                for turn in tl.static_range(4):
                    operation = tl.load(row + 10 + turn).to(tl.int32)
                    before = tl.where(operation == 1, 0, before)
                    if before > 0:
                        factor = tl.load(row + 6 + operation)
                        red, green, blue = _colour(red, green, blue, operation, factor, 0.0)
                total += tl.where(inside, _luminance(red, green, blue), 0.0)
            mean = tl.sum(total, 0) / area
        for start in range(0, area, block):
            inside = start + places < area
            red = tl.load(reds + start + places, mask=inside, other=0.0)
            green = tl.load(reds + area + start + places, mask=inside, other=0.0)
            blue = tl.load(reds + 2 * area + start + places, mask=inside, other=0.0)
            if jitters:
                for turn in tl.static_range(4):
                    operation = tl.load(row + 10 + turn).to(tl.int32)
                    factor = tl.load(row + 6 + operation)
                    red, green, blue = _colour(red, green, blue, operation, factor, mean)
            if gray:
                red = _luminance(red, green, blue)
                green = red
                blue = red
            tl.store(reds + start + places, red, mask=inside)
            tl.store(reds + area + start + places, green, mask=inside)
            tl.store(reds + 2 * area + start + places, blue, mask=inside)


@triton.jit
def _reflected(place, size):
    place = tl.abs(place)
    return size - 1 - tl.abs(size - 1 - place)


@triton.jit
def _blurred(plane, y, x, size, along_rows: tl.constexpr, sigma, radius: tl.constexpr, inside):
    """The weighted sum of the taps of each pixel along one direction."""
    total = x * 0.0
    weights = 0.0
    for offset in tl.static_range(-radius, radius + 1):
        weight = tl.exp(-0.5 * (offset / sigma) * (offset / sigma))
        place = y * size + _reflected(x + offset, size) if along_rows else _reflected(y + offset, size) * size + x
        total += weight * tl.load(plane + place, mask=inside, other=0.0)
        weights += weight
    return total / weights


@triton.jit
def _blur_rows(x, out, p, size, radius: tl.constexpr, block: tl.constexpr):
    """The first pass of the blur, of one colour of a picture; others are left for `_finish` to read as they are."""
    plane = tl.program_id(0).to(tl.int64)
    row = p + plane // 3 * 18
    if tl.load(row + 15) > 0:
        place = tl.program_id(1) * block + tl.arange(0, block)
        inside = place < size * size
        value = _blurred(
            x + plane * size * size, place // size, place % size, size, True, tl.load(row + 16), radius, inside
        )
        tl.store(out + plane * size * size + place, value, mask=inside)


@triton.jit
def _finish(
    x, rows, out, p, size, radius: tl.constexpr, red_mean, green_mean, blue_mean, red_std, green_std, blue_std,
    block: tl.constexpr,
):  # fmt: skip
    """The second pass of the blur, solarization, normalization, channels last."""
    plane = tl.program_id(0).to(tl.int64)
    picture, colour = plane // 3, plane % 3
    row = p + picture * 18
    place = tl.program_id(1) * block + tl.arange(0, block)
    inside = place < size * size
    start = plane * size * size
    if tl.load(row + 15) > 0:
        value = _blurred(rows + start, place // size, place % size, size, False, tl.load(row + 16), radius, inside)
    else:
        value = tl.load(x + start + place, mask=inside, other=0.0)
    if tl.load(row + 17) > 0:
        value = tl.where(value >= 0.5, 1 - value, value)
    mean = tl.where(colour == 0, red_mean, tl.where(colour == 1, green_mean, blue_mean))
    std = tl.where(colour == 0, red_std, tl.where(colour == 1, green_std, blue_std))
    value = (value - mean) / std
    tl.store(out + picture * 3 * size * size + place * 3 + colour, value.to(out.dtype.element_ty), mask=inside)
