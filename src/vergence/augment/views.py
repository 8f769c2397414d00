"""Views of pictures: the random crops, colours and blurs of two-view learning, batched, on the device of the pixels.

Every picture of every view has a draw of its own, from an explicit generator on the CPU: equal crops on every device.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vergence.augment.operations import (
    Pictures,
    Squares,
    blur_matrices,
    change_,
    crop_matrices,
    gaussian_blur,
    grayscale,
    jitter_,
    kernel_size,
    normalize_,
    resample,
    resample_last,
    resize_matrix,
    solarize,
    to_float,
)
from vergence.augment.parameters import Parameters, draw
from vergence.config import Views

_CHUNK = 32  # pictures at a time on the CPU: what one operation writes is still in the cache when the next reads it


def two_views(
    pixels: UInt8[Tensor, "b 3 h w"],
    source: int,
    views: Views,
    generator: torch.Generator,
    each: Callable[[Callable[[int], None], Iterable[int]], Iterable[None]] = map,
    part: slice = slice(None),
) -> Float[Tensor, "2 b 3 s s"]:
    """Two random views of each picture, normalized, each laid out channels_last.

    Args:
        pixels: 0-255, on any device, of any strides.
        source: side in pixels at which crops are drawn; the pictures are enlarged to it in the same operation.
        views: how the two views are made.
        generator: on the CPU; the second view is drawn after the first.
        each: `map`, or a function like it that makes both views at the same time.
        part: the pictures whose views are made; drawn are those of all, so that each has the same views everywhere.
    """
    drawn = [draw(view, len(pixels), source, generator) for view in (views.first, views.second)]
    drawn, pixels = [Parameters(*(values[part] for values in view)) for view in drawn], pixels[part]
    n, size = len(pixels), views.size
    result = torch.empty((2, n, size, size, 3), device=pixels.device).permute(0, 1, 4, 2, 3)

    def make(view: int) -> None:
        apply(pixels, source, size, drawn[view], views, out=result[view])

    list(each(make, range(2)))
    return result


def evaluation_view(pixels: UInt8[Tensor, "b 3 h w"], source: int, views: Views) -> Squares:
    """The whole picture, enlarged to `source`, resized (antialiased) to `views.size`, normalized; channels_last.

    Equals torchvision's two resizes and normalization within 5e-5 with ImageNet's std.
    """
    x = to_float(pixels)
    rows, columns = (
        resize_matrix(source, views.size, x.dtype, x.device) @ resize_matrix(side, source, x.dtype, x.device)
        for side in x.shape[-2:]
    )
    x = rows @ (x @ columns.mT)
    return normalize_(x, views.mean, views.std).contiguous(memory_format=torch.channels_last)


def apply(
    pixels: UInt8[Tensor, "b 3 h w"],
    source: int,
    size: int,
    parameters: Parameters,
    views: Views,
    out: Squares | None = None,
) -> Squares:
    """The view of each picture that its parameters describe, channels_last; written into `out` where one is given.

    With `views.order` "published", equals torchvision's functions, one after the other, within 2e-4 up to 96 pixels a
    side and 1e-3 up to 224: the rounding of the resize, multiplied by the jitter and by 1 / std (ImageNet's here).
    Where solarization is on, a value within rounding of 1/2 may fall on either side of it.

    With "folded", colours change on the source's pixels, of which there are often fewer, and crop, mirror, resize and
    blur are one pair of matrices for each picture. Without jitter it is the same view; with it, values are clamped and
    hues turned before the resize takes its averages instead of after.
    """
    n, device = len(pixels), pixels.device
    view = torch.empty((n, size, size, 3), device=device).permute(0, 3, 1, 2) if out is None else out
    step = _CHUNK if device.type == "cpu" else max(n, 1)
    make = _folded if views.order == "folded" else _published
    for start in range(0, n, step):
        part = slice(start, start + step)
        p = Parameters(*(values[part] for values in parameters))
        make(to_float(pixels[part]), source, p, views, view[part])
    return view


def _published(x: Pictures, source: int, p: Parameters, views: Views, out: Squares) -> None:
    size = out.shape[-1]
    x = resample(x, *crop_matrices(x, p.top, p.left, p.height, p.width, size, p.flip, source=source))
    jitter_(x, p.jitter, _factors(p), p.order)
    change_(x, p.gray, grayscale)
    change_(x, p.blur, lambda some, sigma: gaussian_blur(some, sigma, kernel_size(size)), p.sigma)
    change_(x, p.solarize, solarize)
    out.copy_(normalize_(x, views.mean, views.std))


def _folded(x: Pictures, source: int, p: Parameters, views: Views, out: Squares) -> None:
    size = out.shape[-1]
    rows, columns = crop_matrices(x, p.top, p.left, p.height, p.width, size, p.flip, source=source)
    jitter_(x, p.jitter, _factors(p), p.order, (rows.mean(1), columns.mean(1)))
    change_(x, p.gray, grayscale)
    blurred = p.blur.nonzero()[:, 0].to(x.device)
    if len(blurred):
        both = torch.cat([rows.index_select(0, blurred), columns.index_select(0, blurred)], dim=2)
        both = torch.bmm(blur_matrices(p.sigma[p.blur].to(x), size, kernel_size(size)), both)
        for matrices, some in zip((rows, columns), both.split([rows.shape[2], columns.shape[2]], dim=2), strict=True):
            matrices.index_copy_(0, blurred, some)
    # What follows is linear and leaves a single colour as it is: pixels may be normalized before, while there are few.
    resample_last(normalize_(x, views.mean, views.std), rows, columns, out)
    if p.solarize.any():
        mean, std = x.new_tensor([views.mean, views.std])[:, :, None, None]
        half, white = (0.5 - mean) / std, (1 - 2 * mean) / std
        change_(out, p.solarize, lambda some: torch.where(some >= half, white - some, some))


def _factors(p: Parameters) -> Float[Tensor, "b 4"]:
    return torch.stack([p.brightness, p.contrast, p.saturation, p.hue], dim=1)
