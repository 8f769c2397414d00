"""Crops of pictures: the views and local crops of two-view learning, batched, on the device of the pixels.

Every picture of every crop has a draw of its own, from an explicit generator on the CPU: equal crops on every device.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

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
from vergence.augment.ragged import Boxes, Ragged, shapes_of
from vergence.augment.transforms import transformed
from vergence.config import Local, Views
from vergence.errors import InputError

_CHUNK = 32  # pictures at a time on the CPU: what one operation writes is still in the cache when the next reads it


Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""`map`, or a function like it that makes two crops at the same time."""


def two_views(
    pixels: UInt8[Tensor, "b 3 h w"] | Ragged,
    source: int | None,
    views: Views,
    generator: torch.Generator,
    each: Each = map,
    part: slice = slice(None),
) -> Float[Tensor, "2 _ 3 s s"]:
    """Return two random views of each picture, normalized, each laid out channels_last.

    Args:
        pixels: 0-255, on any device, of any strides; or pictures of different shapes.
        source: side in pixels of the square in which crops are drawn; the pictures are enlarged to it in the same
            operation. None: crops are drawn in each picture as it is.
        views: how they are made; its local crops are left out.
        generator: on the CPU; the second view is drawn after the first.
        each: how the work on the two views is done.
        part: the pictures whose views are made; drawn are those of all, so that each has the same views everywhere.
    """
    alone = replace(views, local=Local()) if views.local.count else views
    return start_crops(pixels, source, alone, generator, part)(each)[0]


def multi_crop(
    pixels: UInt8[Tensor, "b 3 h w"] | Ragged,
    source: int | None,
    views: Views,
    generator: torch.Generator,
    each: Each = map,
    part: slice = slice(None),
) -> tuple[Float[Tensor, "_ _ 3 _ _"], ...]:
    """Return two random views of each picture and, where `views` has them, local crops: a tensor for each.

    The views are those of `two_views`, whose arguments these are; local crops are drawn after them.
    """
    return start_crops(pixels, source, views, generator, part)(each)


def start_crops(
    pixels: UInt8[Tensor, "b 3 h w"] | Ragged,
    source: int | None,
    views: Views,
    generator: torch.Generator,
    part: slice = slice(None),
) -> Callable[[Each], tuple[Float[Tensor, "_ _ 3 _ _"], ...]]:
    """Draw the crops of each picture; the function returned makes them, the arguments are those of `multi_crop`.

    Pictures of different shapes begin to be cut at once, into 8-bit crops, as torchvision's are of 8-bit pictures.

    Raises:
        InputError: colours are to change before the crop, of pictures of different shapes.
    """
    if isinstance(pixels, Ragged) and views.order == "folded":
        raise InputError("--views.order: folded is for pictures of one shape, and these differ; leave it at published")
    within = shapes_of(pixels) if source is None else source
    drawn = [draw(view, len(pixels), within, generator) for view, _ in views.crops]
    drawn, pixels = [Parameters(*(values[part] for values in crop)) for crop in drawn], pixels[part]
    wait = None
    if isinstance(pixels, Ragged):
        boxes = [Boxes(*p[: len(Boxes._fields)]) for p in drawn]
        wait = pixels.start_cutting(boxes, [size for _, size in views.crops])

    def finish(each: Each = map) -> tuple[Float[Tensor, "_ _ 3 _ _"], ...]:
        cut = [] if wait is None else wait()
        made = [_empty(2, len(pixels), views.size, pixels.device)]
        if views.local.count:
            made.append(_empty(views.local.count, len(pixels), views.local_size, pixels.device))
        out = [crop for crops in made for crop in crops]

        def make(i: int) -> None:
            view, size = views.crops[i]
            if isinstance(pixels, Tensor):
                apply(pixels, source, size, drawn[i], views, out[i], view.transform)
                return
            for some, p in _chunks(cut[i], drawn[i]):
                x = to_float(cut[i][some])
                change_(x, p.flip, lambda chosen: chosen.flip(3))
                _coloured(x, p, views, out[i][some], view.transform)

        list(each(make, range(len(out))))
        return tuple(made)

    return finish


def _empty(count: int, n: int, size: int, device: torch.device) -> Float[Tensor, "count n 3 s s"]:
    return torch.empty((count, n, size, size, 3), device=device).permute(0, 1, 4, 2, 3)


def evaluation_view(pixels: UInt8[Tensor, "b 3 h w"] | Ragged, source: int | None, views: Views) -> Squares:
    """The whole picture, enlarged to `source`, resized (antialiased) to `views.size`, normalized; channels_last.

    Equals torchvision's two resizes and normalization within 5e-5 with ImageNet's std. Where `source` is None, the
    middle square of the picture as it is.
    """
    if isinstance(pixels, Ragged):
        return normalized(to_float(pixels.start_cutting([pixels.middle()], [views.size])()[0]), views)
    if source is None:
        source = min(pixels.shape[2:])
        top, left = ((side - source) // 2 for side in pixels.shape[2:])
        pixels = pixels[:, :, top : top + source, left : left + source]
    x = to_float(pixels)
    rows, columns = (
        resize_matrix(source, views.size, x.dtype, x.device) @ resize_matrix(side, source, x.dtype, x.device)
        for side in x.shape[-2:]
    )
    return normalized(rows @ (x @ columns.mT), views)


def normalized(x: Float[Tensor, "b 3 h w"], views: Views) -> Squares:
    """Return pictures in 0-1 normalized, channels_last; `x` itself may be changed."""
    return normalize_(x, views.mean, views.std).contiguous(memory_format=torch.channels_last)


def apply(
    pixels: UInt8[Tensor, "b 3 h w"],
    source: int | None,
    size: int,
    parameters: Parameters,
    views: Views,
    out: Squares | None = None,
    transform: str | None = None,
) -> Squares:
    """Return the view of each picture that its parameters describe, channels_last; in `out` where one is given.

    A plugin's `transform`, by its name, is given the crop, mirrored, in 8 bits, before its colours change.

    With `views.order` "published", equals torchvision's functions, one after the other, within 2e-4 up to 96 pixels a
    side and 1e-3 up to 224: the rounding of the resize, multiplied by the jitter and by 1 / std (ImageNet's here).
    Where solarization is on, a value within rounding of 1/2 may fall on either side of it.

    With "folded", colours change on the source's pixels, of which there are often fewer, and crop, mirror, resize and
    blur are one pair of matrices for each picture. Without jitter it is the same view; with it, values are clamped and
    hues turned before the resize takes its averages instead of after.
    """
    view = _empty(1, len(pixels), size, pixels.device)[0] if out is None else out
    for some, p in _chunks(pixels, parameters):
        x = to_float(pixels[some])
        if views.order == "folded":
            _folded(x, source, p, views, view[some])
        else:
            x = resample(x, *crop_matrices(x, p.top, p.left, p.height, p.width, size, p.flip, source=source))
            _coloured(x, p, views, view[some], transform)
    return view


def _chunks(pixels: UInt8[Tensor, "b 3 h w"], parameters: Parameters) -> Iterator[tuple[slice, Parameters]]:
    """Give some pictures at a time on the CPU, all of them elsewhere, and what was drawn for them."""
    step = _CHUNK if pixels.device.type == "cpu" else max(len(pixels), 1)
    for start in range(0, len(pixels), step):
        some = slice(start, start + step)
        yield some, Parameters(*(values[some] for values in parameters))


def _coloured(x: Squares, p: Parameters, views: Views, out: Squares, transform: str | None) -> None:
    """Do to crops what follows the crop, in the order published; `x` is overwritten."""
    size = out.shape[-1]
    if transform is not None:
        crops = x.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
        x = to_float(transformed(crops, transform, p.seed))
    jitter_(x, p.jitter, _factors(p), p.order)
    change_(x, p.gray, grayscale)
    change_(x, p.blur, lambda some, sigma: gaussian_blur(some, sigma, kernel_size(size)), p.sigma)
    change_(x, p.solarize, solarize)
    out.copy_(normalize_(x, views.mean, views.std))


def _folded(x: Pictures, source: int | None, p: Parameters, views: Views, out: Squares) -> None:
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
