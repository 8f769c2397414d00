"""Views of pictures: the random crops, colours and blurs of two-view learning, batched, on the device of the pixels.

Every picture of every view has a draw of its own, from an explicit generator on the CPU: the same crops on every device.
Each operation is torchvision's (transforms v2 on float pictures) with one parameter for each picture; its tolerance is
stated and tested, for values in [0, 1]. What is linear is a matrix: crop, flip, resize and blur act on rows and on
columns separately, so that each is two batched products, and resizing a resized picture is the product of the matrices.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vergence.config import View, Views

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The colour operations, as `Parameters.order` names them."""

_TRIES = 10
_CHUNK = 16  # pictures at a time on the CPU: what one operation writes is still in the cache when the next reads it


class Parameters(NamedTuple):
    """What was drawn for the n pictures of one view; on the CPU, where the masks are read without waiting for a device.

    Attributes:
        top: first row of the crop, in pixels of the picture at its source size.
        left: its first column.
        height: its rows.
        width: its columns.
        flip: which pictures are mirrored.
        jitter: which pictures the next five hold for.
        brightness: factor, 1 changes nothing.
        contrast: factor, 1 changes nothing.
        saturation: factor, 1 changes nothing.
        hue: turns of the colour circle, in [-1/2, 1/2].
        order: the four colour operations in order of application: each row a permutation of BRIGHTNESS ... HUE.
        gray: which pictures lose their colour.
        blur: which pictures are blurred.
        sigma: standard deviation of the blur in pixels of the view.
        solarize: which pictures are solarized, at 1/2.
    """

    top: Int64[Tensor, " n"]
    left: Int64[Tensor, " n"]
    height: Int64[Tensor, " n"]
    width: Int64[Tensor, " n"]
    flip: Bool[Tensor, " n"]
    jitter: Bool[Tensor, " n"]
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hue: Float[Tensor, " n"]
    order: Int64[Tensor, "n 4"]
    gray: Bool[Tensor, " n"]
    blur: Bool[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    solarize: Bool[Tensor, " n"]


# --- views ------------------------------------------------------------------------------------------------------------


def two_views(
    pixels: UInt8[Tensor, "b 3 h w"], source: int, views: Views, generator: torch.Generator
) -> Float[Tensor, "2 b 3 s s"]:
    """Two random views of each picture, normalized, each laid out channels_last.

    Args:
        pixels: 0-255, on any device, of any strides.
        source: side in pixels at which crops are drawn; the pictures are enlarged to it in the same operation.
        views: how the two views are made.
        generator: on the CPU; the draws of the second view follow those of the first.
    """
    n, size = len(pixels), views.size
    drawn = [draw(view, n, source, generator) for view in (views.first, views.second)]
    result = torch.empty((2, n, size, size, 3), device=pixels.device).permute(0, 1, 4, 2, 3)
    for view, parameters in zip(result, drawn, strict=True):
        apply(pixels, source, size, parameters, views.mean, views.std, out=view)
    return result


def evaluation_view(pixels: UInt8[Tensor, "b 3 h w"], source: int, views: Views) -> Float[Tensor, "b 3 s s"]:
    """The whole picture, enlarged to `source`, resized (antialiased) to `views.size`, normalized; channels_last.

    Equals torchvision's two resizes and normalization within 2e-5.
    """
    x = _to_float(pixels)
    rows, columns = (
        _resize_matrix(source, views.size, x.dtype, x.device) @ _resize_matrix(side, source, x.dtype, x.device)
        for side in x.shape[-2:]
    )
    x = rows @ (x @ columns.mT)
    return normalize(x, views.mean, views.std).contiguous(memory_format=torch.channels_last)


def draw(view: View, n: int, source: int, generator: torch.Generator) -> Parameters:
    """One draw for each of n pictures, distributed as torchvision's transforms draw theirs.

    A picture takes one row of 36 uniform numbers: 10 areas and 10 ratios (the tries of RandomResizedCrop), top, left,
    the four colour factors, four whose ranks are the order of the colour operations, five coins (flip, jitter, gray,
    blur, solarize) and the blur's sigma. So what one operation draws never depends on whether another was applied.
    """
    uniform = torch.rand(n, 2 * _TRIES + 16, generator=generator, dtype=torch.float64)
    areas, ratios, place, factors, order, coins, sigma = uniform.split([_TRIES, _TRIES, 2, 4, 4, 5, 1], dim=1)
    strengths = (view.brightness, view.contrast, view.saturation)
    low = torch.tensor([max(0.0, 1 - strength) for strength in strengths] + [-view.hue], dtype=torch.float64)
    high = torch.tensor([1 + strength for strength in strengths] + [view.hue], dtype=torch.float64)
    chances = torch.tensor([view.flip, view.jitter, view.gray, view.blur, view.solarize], dtype=torch.float64)
    flip, jitter, gray, blur, solarize = (coins < chances).unbind(1)
    smallest, largest = view.blur_sigma
    return Parameters(
        *_draw_crops(view, source, areas, ratios, place),
        flip,
        jitter,
        *(low + (high - low) * factors).float().unbind(1),
        order.argsort(1),
        gray,
        blur,
        (smallest + (largest - smallest) * sigma[:, 0]).float(),
        solarize,
    )


def _draw_crops(
    view: View,
    source: int,
    areas: Float[Tensor, "n tries"],
    ratios: Float[Tensor, "n tries"],
    place: Float[Tensor, "n 2"],
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Top, left, height and width of torchvision's RandomResizedCrop on a square of side `source`."""
    (least, most), (narrow, wide) = view.crop_scale, view.crop_ratio
    area = source**2 * (least + (most - least) * areas)
    ratio = torch.exp(math.log(narrow) + math.log(wide / narrow) * ratios)
    sides = torch.stack([area / ratio, area * ratio], dim=2).sqrt_().round_()  # n, tries, (height, width)
    fits = ((sides > 0) & (sides <= source)).all(2)
    first = fits.int().argmax(1)  # of the tries that fit; 0 where none does
    sides = sides[torch.arange(len(sides)), first]
    corner = (place * (source - sides + 1)).floor_()

    # Where no try fits: the largest centred crop of the nearest ratio allowed, which is the whole square unless all
    # allowed ratios lie on one side of 1.
    whole = torch.tensor([round(source / max(1, narrow)), round(source * min(1, wide))], dtype=torch.float64)
    found = fits.any(1, keepdim=True)
    sides = torch.where(found, sides, whole)
    corner = torch.where(found, corner, ((source - whole) / 2).floor())
    (top, left), (height, width) = corner.long().unbind(1), sides.long().unbind(1)
    return top, left, height, width


def apply(
    pixels: UInt8[Tensor, "b 3 h w"],
    source: int,
    size: int,
    parameters: Parameters,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    out: Float[Tensor, "b 3 s s"] | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """The view of each picture that its parameters describe, channels_last; written into `out` where one is given.

    Equals torchvision's functions applied one after the other within 2e-4 after normalization with ImageNet's std: the
    rounding of single operations, multiplied by the contrast and by 1 / std. Where solarization is on, a value within
    rounding of 1/2 may fall on either side of it.
    """
    n = len(pixels)
    if out is None:
        out = torch.empty((n, size, size, 3), device=pixels.device).permute(0, 3, 1, 2)
    step = _CHUNK if pixels.device.type == "cpu" else max(n, 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        x = _augment(_to_float(pixels[part]), source, size, Parameters(*(values[part] for values in parameters)))
        out[part] = normalize(x, mean, std)
    return out


def _augment(x: Float[Tensor, "b 3 h w"], source: int, size: int, p: Parameters) -> Float[Tensor, "b 3 s s"]:
    """The operations in order, without the normalization; contiguous."""
    x = crop_resize(x, p.top, p.left, p.height, p.width, size, flip=p.flip, source=source)
    _jitter_(x, p.jitter, p.brightness, p.contrast, p.saturation, p.hue, p.order)
    _change_(x, p.gray, grayscale)
    _change_(x, p.blur, lambda some, sigma: gaussian_blur(some, sigma, kernel_size(size)), p.sigma)
    _change_(x, p.solarize, solarize)
    return x


def _change_(
    x: Float[Tensor, "b c h w"], chosen: Bool[Tensor, " b"], operation: Callable[..., Tensor], *values: Tensor
) -> None:
    """Replace the chosen pictures by what the operation makes of them; the others cost nothing."""
    index = chosen.nonzero()[:, 0]
    if len(index):
        here = index.to(x.device)
        x.index_copy_(0, here, operation(x.index_select(0, here), *(value[index] for value in values)))


def _to_float(pixels: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


# --- crop, flip, resize -----------------------------------------------------------------------------------------------


def crop_resize(
    x: Float[Tensor, "b 3 h w"],
    top: Int64[Tensor, " b"],
    left: Int64[Tensor, " b"],
    height: Int64[Tensor, " b"],
    width: Int64[Tensor, " b"],
    size: int,
    flip: Bool[Tensor, " b"] | None = None,
    antialias: bool = True,
    source: int | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """Cut a rectangle from each picture, resize it bilinearly to size x size, mirror it where `flip` says so.

    With `source`, the rectangle lies on the picture resized to source x source, which is never made. Equals torchvision's
    (resize,) resized_crop and horizontal_flip within 1e-5 in float32, 1e-12 in float64.
    """
    n, _, h, w = x.shape
    rows = _crop_matrices(top.to(x.device), height.to(x.device), size, source or h, None, antialias, x.dtype)
    columns = _crop_matrices(left.to(x.device), width.to(x.device), size, source or w, flip, antialias, x.dtype)
    if source and source != h:
        rows = rows @ _resize_matrix(h, source, x.dtype, x.device)
    if source and source != w:
        columns = columns @ _resize_matrix(w, source, x.dtype, x.device)
    across = torch.bmm(x.reshape(n, 3 * h, w), columns.mT).view(n, 3, h, size)
    return _rows_times(rows, across)


def _rows_times(rows: Float[Tensor, "b s h"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s w"]:
    """The same matrix on each colour of a picture. One call for each colour: broadcasting would copy the matrices."""
    out = x.new_empty(x.shape[0], 3, rows.shape[1], x.shape[3])
    for colour in range(3):
        torch.bmm(rows, x[:, colour], out=out[:, colour])
    return out


def _crop_matrices(
    start: Int64[Tensor, " b"],
    length: Int64[Tensor, " b"],
    size: int,
    side: int,
    flip: Bool[Tensor, " b"] | None,
    antialias: bool,
    dtype: torch.dtype,
) -> Float[Tensor, "b s side"]:
    """Weights of `side` pixels in each of `size` that resample the interval [start, start + length).

    A triangle around each new pixel's centre, as wide as a new pixel when shrinking with antialias, else as an old one.
    Weights outside the interval are cut off and the rest made to sum to 1, which is how torch's resizing treats edges.
    """
    scale = length.double()[:, None] / size
    centre = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * scale - 0.5  # b, s: in old pixels
    if flip is not None:
        centre = torch.where(flip.to(start.device)[:, None], centre.flip(1), centre)
    reach = scale.clamp_min(1) if antialias else torch.ones_like(scale)
    pixel = torch.arange(side, device=start.device)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])  # b, side
    # In float32 from here: these are the tensors that cost time.
    weights = (pixel.to(dtype) - centre.to(dtype)[:, :, None]).abs_()
    weights.mul_(-1 / reach.to(dtype)[:, :, None]).add_(1).clamp_min_(0).mul_(inside[:, None, :])
    return weights.div_(weights.sum(2, keepdim=True))


@lru_cache(maxsize=32)
def _resize_matrix(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "s side"]:
    """Weights of `side` pixels in each of `size` that resize them all, antialiased."""
    start, length = torch.zeros(1, dtype=torch.int64, device=device), torch.full((1,), side, device=device)
    return _crop_matrices(start, length, size, side, None, True, dtype)[0]


# --- colour -----------------------------------------------------------------------------------------------------------


def adjust_brightness(x: Float[Tensor, "b 3 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Blend with black; equals torchvision's within 1e-6."""
    return _blend_(x.clone(), torch.full((len(x),), BRIGHTNESS), factor)


def adjust_contrast(x: Float[Tensor, "b 3 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Blend with the mean of the picture's gray; equals torchvision's within 2e-6."""
    return _blend_(x.clone(), torch.full((len(x),), CONTRAST), factor)


def adjust_saturation(x: Float[Tensor, "b 3 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Blend with the picture in gray; equals torchvision's within 1e-6."""
    return _blend_(x.clone(), torch.full((len(x),), SATURATION), factor)


def _blend_(
    x: Float[Tensor, "b 3 h w"], operation: Int64[Tensor, " b"], factor: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """In place: factor x + (1 - factor) other, clamped. What `other` is, each picture's operation says."""
    factor = _each(factor, x)
    gray = _luminance(x)
    of_mean = (1 - factor) * _each(operation == CONTRAST, x)
    of_gray = (1 - factor) * _each(operation == SATURATION, x)
    other = of_mean * gray.mean((2, 3), keepdim=True) + gray.mul_(of_gray)
    return torch.addcmul(other, x, factor, out=x).clamp_(0, 1)


def adjust_hue(x: Float[Tensor, "b 3 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Turn the colour circle by `factor` turns, in [-1/2, 1/2]; equals torchvision's within 2e-6.

    Value and saturation stay, hence the largest and the smallest of the three colours; each colour is a trapezoid of the
    angle between them. With the angle from red in (-1/2, 1/2], neither HSV nor a choice among six cases is needed.
    """
    red, green, blue = x.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    span = (largest - smallest).mul_(6)  # for one turn of the angle: a slope of the trapezoid is a sixth of a turn wide

    # How far from red, then on which side. In gray pixels the numerator is exactly 0, and the span hides the result.
    angle = (green + blue).sub_(red).sub_(smallest).div_(span.clamp_min(1e-30)).add_(1 / 6)
    angle.copysign_(green - blue).add_(_each(factor, x)[:, 0])
    angle.sub_(angle.round())

    out = torch.empty_like(x)
    above, below = torch.add(largest, span, alpha=1 / 6), smallest.sub_(span, alpha=1 / 6)
    torch.addcmul(above, angle.abs().clamp_(1 / 6, 1 / 3), span, value=-1, out=out[:, 0])
    torch.addcmul(below, (angle + 1 / 6).abs_().clamp_(1 / 6, 1 / 3), span, out=out[:, 1])
    torch.addcmul(below, angle.sub_(1 / 6).abs_().clamp_(1 / 6, 1 / 3), span, out=out[:, 2])
    return out.clamp_(0, 1)


def jitter(
    x: Float[Tensor, "b 3 h w"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
    order: Int64[Tensor, "b 4"],
) -> Float[Tensor, "b 3 h w"]:
    """The four colour operations, in each picture's own order; equals torchvision's within 1e-5."""
    x = x.clone()
    _jitter_(x, torch.ones(len(x), dtype=torch.bool), brightness, contrast, saturation, hue, order)
    return x


def _jitter_(
    x: Float[Tensor, "b 3 h w"],
    chosen: Bool[Tensor, " b"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
    order: Int64[Tensor, "b 4"],
) -> None:
    """`jitter` in place, on the chosen pictures only.

    They are sorted by when their hue has its turn, latest first: then the pictures that blend before it are a prefix in
    each round, those that blend after it a suffix, and the hue, which costs most, is turned once for all.
    """
    turn = (order == HUE).int().argmax(1)
    index = chosen.nonzero()[:, 0]
    index = index[turn[index].argsort(descending=True, stable=True)]
    here, order, turn = index.to(x.device), order[index], turn[index]
    factors = torch.stack([brightness, contrast, saturation, hue], dim=1)[index].gather(1, order)

    some = x.index_select(0, here)
    for time in range(3):
        if before := int((turn > time).sum()):
            _blend_(some[:before], order[:before, time], factors[:before, time])
    some = adjust_hue(some, hue[index])
    for time in range(1, 4):
        if (done := int((turn >= time).sum())) < len(some):
            _blend_(some[done:], order[done:, time], factors[done:, time])
    x.index_copy_(0, here, some)


def grayscale(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Each picture's luminance in all three colours; equals torchvision's within 1e-6."""
    return _luminance(x).repeat(1, 3, 1, 1)


def _luminance(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    # 0.2989, not 0.299: torchvision's rounding of ITU-R BT.601.
    return (x[:, :1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:], alpha=0.114)


def solarize(x: Float[Tensor, "b 3 h w"], threshold: float = 0.5) -> Float[Tensor, "b 3 h w"]:
    """Values of the threshold and more become 1 - value; equals torchvision's exactly."""
    return torch.where(x >= threshold, 1 - x, x)


def normalize(
    x: Float[Tensor, "b 3 h w"], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Float[Tensor, "b 3 h w"]:
    """Subtract each colour's mean, divide by its standard deviation; equals torchvision's exactly."""
    centre, spread = (torch.tensor(values, dtype=x.dtype, device=x.device).view(3, 1, 1) for values in (mean, std))
    return x.sub(centre).div_(spread)


def _each(values: Tensor, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 1 1"]:
    """One value for each picture, to broadcast over it."""
    return values.to(x)[:, None, None, None]


# --- blur -------------------------------------------------------------------------------------------------------------


def kernel_size(size: int) -> int:
    """The odd number nearest to a tenth of a view's side, at least 3: SimCLR's rule (96 -> 9, 224 -> 23)."""
    return max(3, size // 20 * 2 + 1)


def gaussian_blur(
    x: Float[Tensor, "b 3 h w"], sigma: Float[Tensor, " b"], kernel_size: int
) -> Float[Tensor, "b 3 h w"]:
    """Blur with a Gaussian of standard deviation `sigma` pixels, cut off at `kernel_size` (odd) and reflected at edges.

    Equals torchvision's within 2e-6.
    """
    n, _, h, w = x.shape
    rows, columns = (_blur_matrices(sigma.to(x), side, kernel_size) for side in (h, w))
    across = torch.bmm(x.reshape(n, 3 * h, w), columns.mT).view(n, 3, h, w)
    return _rows_times(rows, across)


def _blur_matrices(sigma: Float[Tensor, " b"], side: int, kernel_size: int) -> Float[Tensor, "b side side"]:
    """Weights of the old pixels in each new one."""
    offset = torch.arange(kernel_size // 2 + 1, dtype=sigma.dtype, device=sigma.device)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = kernel / (2 * kernel.sum(1, keepdim=True) - kernel[:, :1])  # all offsets but 0 occur twice
    return (kernel @ _taps(side, kernel_size, sigma.dtype, sigma.device)).view(-1, side, side)


@lru_cache(maxsize=32)
def _taps(side: int, kernel_size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "offsets side*side"]:
    """How often an old pixel lies at each distance 0, 1, ... from each new one, when edges reflect."""
    if kernel_size % 2 == 0 or kernel_size // 2 >= side:
        raise ValueError(f"kernel_size must be odd and less than twice the side ({side}), not {kernel_size}")
    radius = kernel_size // 2
    taps = torch.zeros(radius + 1, side, side, dtype=dtype)
    new = torch.arange(side)
    for offset in range(-radius, radius + 1):
        old = (new + offset).abs()
        old = torch.where(old < side, old, 2 * (side - 1) - old)
        taps[abs(offset), new, old] += 1  # for one offset no pair occurs twice, or this would count it once
    return taps.view(radius + 1, side * side).to(device)
