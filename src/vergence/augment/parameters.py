"""What is random about a view, drawn for each picture."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vergence.config import View

Factors = Float[Tensor, " b"]
Pixels = Int64[Tensor, " b"]
Which = Bool[Tensor, " b"]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The colour operations, as `Parameters.order` names them."""

Shapes = Int64[Tensor, "b 2"]
"""Height and width of each picture."""

_TRIES = 10  # of RandomResizedCrop


class Parameters(NamedTuple):
    """What was drawn for the b pictures of a view. On the CPU, so that no mask is ever waited for."""

    top: Pixels  # of the crop, in the picture at its source size, or as it is
    left: Pixels
    height: Pixels
    width: Pixels
    flip: Which  # pictures that are mirrored
    jitter: Which  # pictures that the next five hold for
    brightness: Factors  # of these three, 1 changes nothing
    contrast: Factors
    saturation: Factors
    hue: Factors  # turns of the colour circle, in [-1/2, 1/2]
    order: Int64[Tensor, "b 4"]  # each row BRIGHTNESS ... HUE in order of application
    gray: Which  # pictures that lose their colour
    blur: Which  # pictures that the next holds for
    sigma: Factors  # standard deviation in pixels of the view
    solarize: Which  # pictures that are solarized at 1/2
    seed: Int64[Tensor, " b"]  # of what a transform draws


def draw(view: View, n: int, source: int | Shapes, generator: torch.Generator) -> Parameters:
    """One draw for each of n pictures, distributed as torchvision's transforms draw theirs.

    Crops lie in a square of side `source`, or in each picture's own height and width.

    A picture takes one row of 36 uniform numbers: 10 areas and 10 ratios (the tries of RandomResizedCrop), top, left,
    the four colour factors, four whose ranks are the order of the colour operations, five coins (flip, jitter, gray,
    blur, solarize) and the blur's sigma, whose 53 bits also seed what a transform draws. So what one operation draws
    never depends on whether another is applied.
    """
    uniform = torch.rand(n, 2 * _TRIES + 16, generator=generator, dtype=torch.float64)
    areas, ratios, place, factors, order, coins, sigma = uniform.split([_TRIES, _TRIES, 2, 4, 4, 5, 1], dim=1)
    crops = _draw_crops(view, source, areas, ratios, place)
    ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in (view.brightness, view.contrast, view.saturation)]
    low, high = torch.tensor([*ranges, (-view.hue, view.hue)], dtype=torch.float64).unbind(1)
    brightness, contrast, saturation, hue = torch.lerp(low, high, factors).float().unbind(1)
    chances = torch.tensor([view.flip, view.jitter, view.gray, view.blur, view.solarize], dtype=torch.float64)
    flip, jitter, gray, blur, solarize = (coins < chances).unbind(1)
    least, most = view.blur_sigma
    seed = (sigma[:, 0] * 2.0**53).long()
    sigma = (least + (most - least) * sigma[:, 0]).float()
    colours = (jitter, brightness, contrast, saturation, hue, order.argsort(1))
    return Parameters(*crops, flip, *colours, gray, blur, sigma, solarize, seed)


def _draw_crops(
    view: View,
    source: int | Shapes,
    areas: Float[Tensor, "b t"],
    ratios: Float[Tensor, "b t"],
    place: Float[Tensor, "b 2"],
) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Top, left, height and width of torchvision's RandomResizedCrop."""
    (least, most), (narrow, wide) = view.crop_scale, view.crop_ratio
    shapes = torch.full((1, 2), source) if isinstance(source, int) else source
    whole = shapes.double()  # b or 1, (height, width)
    area = whole.prod(1, keepdim=True) * (least + (most - least) * areas)
    ratio = narrow * (wide / narrow) ** ratios
    tries = torch.stack([area / ratio, area * ratio], dim=2).sqrt_().round_()  # b, t, (height, width)
    fits = ((tries > 0) & (tries <= whole[:, None])).all(2)
    sides = tries[torch.arange(len(tries)), fits.int().argmax(1)]  # the first that fits
    corner = (place * (whole - sides + 1)).floor_()

    # If none fits: the largest centred crop of the nearest ratio allowed, which is the whole picture if its own is.
    height, width = whole.unbind(1)
    rest = torch.stack([torch.minimum(height, width / narrow), torch.minimum(width, height * wide)], dim=1).round_()
    found = fits.any(1, keepdim=True)
    top, left = torch.where(found, corner, ((whole - rest) / 2).floor()).long().unbind(1)
    height, width = torch.where(found, sides, rest).long().unbind(1)
    return top, left, height, width
