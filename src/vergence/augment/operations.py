"""The operations that make a view, each batched, with one parameter for each picture.

Each is torchvision's (transforms v2, float pictures); its tolerance holds for float32 values in [0, 1], and is tested.
What is linear is a matrix: crop, flip, resize and blur act on rows and on columns separately, so each is two batched
products, and resizing a resized picture is the product of the matrices. On CUDA this counts on torch's default of full
float32 products: with TF32 allowed, three digits remain.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vergence.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Factors, Pixels, Which
from vergence.fast.compiled import can_compile

Pictures = Float[Tensor, "b 3 h w"]
Squares = Float[Tensor, "b 3 s s"]
Colour = tuple[float, float, float]

_BLOCK = 32  # rows at a time in a blur: the rest of the matrix beside the band is zero


def to_float(pixels: UInt8[Tensor, "b 3 h w"]) -> Pictures:
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def change_(x: Pictures, which: Which, operation: Callable[..., Tensor], *values: Tensor) -> None:
    """In place, replace the chosen pictures by what the operation makes of them; the others cost nothing."""
    index = which.nonzero()[:, 0]
    if len(index):
        here = index.to(x.device)
        x.index_copy_(0, here, operation(x.index_select(0, here), *(value[index] for value in values)))


# --- crop, flip, resize -----------------------------------------------------------------------------------------------


def crop_resize(
    x: Pictures,
    top: Pixels,
    left: Pixels,
    height: Pixels,
    width: Pixels,
    size: int,
    flip: Which | None = None,
    antialias: bool = True,
    source: int | None = None,
) -> Squares:
    """Cut a rectangle from each picture, resize it bilinearly to size x size, mirror it where `flip` says so.

    With `source`, the rectangle lies in the picture resized to source x source, which is never made. Equals
    torchvision's (resize,) resized_crop, horizontal_flip within 1e-5 up to 96 pixels a side and 2e-5 up to 512, most
    of which is torch's rounding of positions; within 1e-12 in float64.
    """
    return resample(x, *crop_matrices(x, top, left, height, width, size, flip, antialias, source))


def crop_matrices(
    x: Pictures,
    top: Pixels,
    left: Pixels,
    height: Pixels,
    width: Pixels,
    size: int,
    flip: Which | None,
    antialias: bool = True,
    source: int | None = None,
) -> tuple[Float[Tensor, "b s h"], Float[Tensor, "b s w"]]:
    """What `crop_resize` does to the rows and to the columns of each picture."""
    h, w = x.shape[2:]
    rows = _interval_matrices(top, height, size, source or h, None, antialias, x)
    columns = _interval_matrices(left, width, size, source or w, flip, antialias, x)
    if source and source != h:
        rows = rows @ resize_matrix(h, source, x.dtype, x.device)
    if source and source != w:
        columns = columns @ resize_matrix(w, source, x.dtype, x.device)
    return rows, columns


def resample(x: Pictures, rows: Float[Tensor, "b s h"], columns: Float[Tensor, "b s w"]) -> Squares:
    n, _, h, w = x.shape
    size = rows.shape[1]
    across = torch.bmm(x.reshape(n, 3 * h, w), columns.mT).view(n, 3, h, size)
    result = x.new_empty(n, 3, size, size)
    for colour in range(3):  # at once, broadcasting would copy the matrices
        torch.bmm(rows, across[:, colour], out=result[:, colour])
    return result


def resample_last(x: Pictures, rows: Float[Tensor, "b s h"], columns: Float[Tensor, "b s w"], out: Squares) -> Squares:
    """Return what `resample` does, written channels last: the colours of a pixel are columns of the second product."""
    n, _, h, w = x.shape
    size = rows.shape[1]
    across = torch.bmm(columns, x.permute(0, 3, 2, 1).reshape(n, w, 3 * h))
    across = across.view(n, size, h, 3).transpose(1, 2).reshape(n, h, 3 * size)
    torch.bmm(rows, across, out=out.permute(0, 2, 3, 1).view(n, size, 3 * size))
    return out


def _interval_matrices(
    start: Pixels, length: Pixels, size: int, side: int, flip: Which | None, antialias: bool, like: Tensor
) -> Float[Tensor, "b s side"]:
    """Weights of `side` pixels in each of `size` that resample the interval [start, start + length).

    A triangle about each new pixel's centre; its base is two old pixels or, shrinking with antialias, two new ones.
    Weights outside the interval are cut off and the rest made to sum to 1, which is how torch's resizing treats edges.
    """
    start, length = start.to(like.device)[:, None], length.to(like.device)[:, None]
    scale = length.double() / size
    centre = start + (torch.arange(size, device=like.device) + 0.5) * scale - 0.5  # b, s: in old pixels
    if flip is not None:
        centre = torch.where(flip.to(like.device)[:, None], centre.flip(1), centre)
    reach = scale.clamp_min(1) if antialias else torch.ones_like(scale)
    pixel = torch.arange(side, device=like.device)
    inside = (pixel >= start) & (pixel < start + length)
    # Here is the work. The triangle is upside down; the division puts it right.
    weights = (pixel / reach).to(like)[:, None, :] - (centre / reach).to(like)[:, :, None]
    weights.abs_().sub_(1).clamp_max_(0).mul_(inside[:, None, :])
    return weights.div_(weights.sum(2, keepdim=True))


@lru_cache(maxsize=32)
def resize_matrix(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "s side"]:
    """Weights of `side` pixels in each of `size` that resize them all, antialiased."""
    like = torch.empty(0, dtype=dtype, device=device)
    return _interval_matrices(torch.tensor([0]), torch.tensor([side]), size, side, None, True, like)[0]


# --- colour -----------------------------------------------------------------------------------------------------------


def adjust_brightness(x: Pictures, factor: Factors) -> Pictures:
    """Blend with black; equals torchvision's within 1e-6."""
    return _blend_(x.clone(), torch.full((len(x),), BRIGHTNESS), factor)


def adjust_contrast(x: Pictures, factor: Factors) -> Pictures:
    """Blend with the mean of the picture's gray; equals torchvision's within 1e-6."""
    return _blend_(x.clone(), torch.full((len(x),), CONTRAST), factor)


def adjust_saturation(x: Pictures, factor: Factors) -> Pictures:
    """Blend with the picture in gray; equals torchvision's within 1e-6."""
    return _blend_(x.clone(), torch.full((len(x),), SATURATION), factor)


def _blend_(
    x: Pictures, operation: Int64[Tensor, " b"], factor: Factors, shares: tuple[Tensor, Tensor] | None = None
) -> Pictures:
    """In place: factor x + (1 - factor) other, clamped; what `other` is, each picture's operation says.

    With `shares` of each row `[b h]` and column `[b w]` in the view, the mean gray is that of the view to be cut out.
    """
    of_mean, of_gray = (1 - factor) * (operation == CONTRAST), (1 - factor) * (operation == SATURATION)
    gray = _luminance(x)
    if shares is None:
        mean = gray.mean((2, 3), keepdim=True)
    else:
        mean = shares[0][:, None, None, :] @ gray @ shares[1][:, None, :, None]
    other = _each(of_mean, x) * mean + gray.mul_(_each(of_gray, x))
    return torch.addcmul(other, x, _each(factor, x), out=x).clamp_(0, 1)


def adjust_hue(x: Pictures, factor: Factors) -> Pictures:
    """Turn the colour circle by `factor` turns, in [-1/2, 1/2]; equals torchvision's within 2e-6.

    The largest and the smallest of the three colours stay; between them, each colour is a trapezoid of the angle on the
    circle. With the angle from red in [-1/2, 1/2], this needs neither HSV nor a choice among six cases.
    """
    red, green, blue = x.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    slope = (largest - smallest).mul_(6)  # a colour rises from smallest to largest within a sixth of a turn

    # How far from red, then on which side. In gray pixels the numerator is exactly 0, and the slope hides the result.
    angle = (green + blue).sub_(red).sub_(smallest).div_(slope.clamp_min(1e-30)).add_(1 / 6)
    angle.copysign_(green - blue).add_(_each(factor, x)[:, 0])
    angle.sub_(angle.round())

    out = torch.empty_like(x, memory_format=torch.contiguous_format)  # how far from each colour's opposite
    torch.sub(0.5, angle.abs(), out=out[:, 0])
    torch.add(angle, 1 / 6, out=out[:, 1])
    torch.sub(angle, 1 / 6, out=out[:, 2])
    smallest.sub_(slope, alpha=1 / 6)
    out.abs_().clamp_(1 / 6, 1 / 3).mul_(slope[:, None]).add_(smallest[:, None])
    return out.clamp_(0, 1)


def jitter(
    x: Pictures, brightness: Factors, contrast: Factors, saturation: Factors, hue: Factors, order: Int64[Tensor, "b 4"]
) -> Pictures:
    """The four colour operations, in each picture's own order; equals torchvision's within 1e-5."""
    x = x.clone()
    everyone = torch.ones(len(x), dtype=torch.bool)
    jitter_(x, everyone, torch.stack([brightness, contrast, saturation, hue], dim=1), order)
    return x


def jitter_(
    x: Pictures,
    which: Which,
    factors: Float[Tensor, "b 4"],
    order: Int64[Tensor, "b 4"],
    shares: tuple[Tensor, Tensor] | None = None,
) -> None:
    """`jitter` in place, on the chosen pictures only; `shares` as in `_blend_`. Compiled on a CPU, where it can be.

    Else the pictures are sorted by when their hue has its turn, latest first: then those that blend before it are a
    prefix in each round, those that blend after it a suffix, and the hue, which costs most, is turned once for all.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() and can_compile():
        from vergence.augment.colours import load

        rows, columns = shares or (x.new_full((len(x), side), 1 / side) for side in x.shape[2:])
        arrays = (which, factors.to(x), order, rows, columns)
        load()(x.numpy(), *(values.contiguous().numpy() for values in arrays))
        return
    turn = (order == HUE).int().argmax(1)
    index = which.nonzero()[:, 0]
    index = index[turn[index].argsort(descending=True, stable=True)]
    here, turn, order = index.to(x.device), turn[index], order[index]
    hue, factors = factors[index, HUE], factors[index].gather(1, order)

    some = x.index_select(0, here)
    mine = None if shares is None else tuple(share.index_select(0, here) for share in shares)

    def blend(part: slice, now: int) -> None:
        few = None if mine is None else (mine[0][part], mine[1][part])
        _blend_(some[part], order[part, now], factors[part, now], few)

    for now in range(3):
        if before := int((turn > now).sum()):
            blend(slice(before), now)
    some = adjust_hue(some, hue)
    for now in range(1, 4):
        if (after := int((turn >= now).sum())) < len(some):
            blend(slice(after, None), now)
    x.index_copy_(0, here, some)


def grayscale(x: Pictures) -> Pictures:
    """Each picture's luminance in all three colours; equals torchvision's within 1e-6."""
    return _luminance(x).repeat(1, 3, 1, 1)


def _luminance(x: Pictures) -> Float[Tensor, "b 1 h w"]:
    # torchvision has 0.2989 where ITU-R BT.601 has 0.299
    return (x[:, :1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:], alpha=0.114)


def solarize(x: Pictures, threshold: float = 0.5) -> Pictures:
    """Values of the threshold and more become 1 - value; equals torchvision's exactly."""
    return torch.where(x >= threshold, 1 - x, x)


def normalize(x: Pictures, mean: Colour, std: Colour) -> Pictures:
    """Subtract each colour's mean and divide by its standard deviation; equals torchvision's exactly."""
    return normalize_(x.clone(), mean, std)


def normalize_(x: Pictures, mean: Colour, std: Colour) -> Pictures:
    centre, spread = x.new_tensor([mean, std])[:, :, None, None]
    return x.sub_(centre).div_(spread)


def _each(values: Tensor, x: Pictures) -> Float[Tensor, "b 1 1 1"]:
    """One value for each picture, to broadcast over it."""
    return values.to(x)[:, None, None, None]


# --- blur -------------------------------------------------------------------------------------------------------------


def kernel_size(size: int) -> int:
    """The odd number nearest to a tenth of a view's side, at least 3: SimCLR's rule (96 -> 9, 224 -> 23)."""
    return max(3, size // 20 * 2 + 1)


def gaussian_blur(x: Squares, sigma: Factors, kernel_size: int) -> Squares:
    """Blur with a Gaussian of standard deviation `sigma` pixels, cut off at `kernel_size` (odd), reflected at edges.

    Equals torchvision's within 2e-6.
    """
    n, _, side, _ = x.shape
    matrices = blur_matrices(sigma.to(x), side, kernel_size)
    flat, across, result = x.reshape(n, 3 * side, side), x.new_empty(n, 3 * side, side), x.new_empty(x.shape)
    bands = [
        (slice(new, new + _BLOCK), slice(max(0, new - kernel_size // 2), new + _BLOCK + kernel_size // 2))
        for new in range(0, side, _BLOCK)
    ]
    for new, old in bands:
        torch.bmm(flat[:, :, old], matrices[:, new, old].mT, out=across[:, :, new])
    for new, old in bands:
        for colour, picture in enumerate(across.view(x.shape).unbind(1)):
            torch.bmm(matrices[:, new, old], picture[:, old], out=result[:, colour, new])
    return result


def blur_matrices(sigma: Factors, side: int, kernel_size: int) -> Float[Tensor, "b side side"]:
    """Weights of the old pixels in each new one."""
    offset = torch.arange(kernel_size // 2 + 1, dtype=sigma.dtype, device=sigma.device)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = kernel / (2 * kernel.sum(1, keepdim=True) - 1)  # all offsets but 0 occur twice
    return (kernel @ _taps(side, kernel_size, sigma.dtype, sigma.device)).view(-1, side, side)


@lru_cache(maxsize=32)
def _taps(side: int, kernel_size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "offsets _"]:
    """How often an old pixel lies at the distance 0, 1, ... from each new one, when edges reflect."""
    radius = kernel_size // 2
    if kernel_size % 2 == 0 or radius >= side:
        raise ValueError(f"kernel_size must be odd and less than twice the side ({side}), not {kernel_size}")
    taps, new = torch.zeros(radius + 1, side, side), torch.arange(side)
    for offset in range(-radius, radius + 1):
        old = side - 1 - (side - 1 - (new + offset).abs()).abs()
        taps[abs(offset), new, old] += 1  # no pair occurs twice for one offset, or this would count it once
    return taps.view(radius + 1, side * side).to(device, dtype)
