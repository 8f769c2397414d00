"""From pixels to views: what is drawn, the operations, the views, and the same in kernels for a GPU."""

from vergence.augment.operations import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop_resize,
    gaussian_blur,
    grayscale,
    jitter,
    kernel_size,
    normalize,
    solarize,
)
from vergence.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters, draw
from vergence.augment.ragged import Boxes, Ragged
from vergence.augment.views import Each, apply, evaluation_view, multi_crop, two_views

__all__ = [
    "BRIGHTNESS",
    "CONTRAST",
    "HUE",
    "SATURATION",
    "Boxes",
    "Each",
    "Parameters",
    "Ragged",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "apply",
    "crop_resize",
    "draw",
    "evaluation_view",
    "gaussian_blur",
    "grayscale",
    "jitter",
    "kernel_size",
    "multi_crop",
    "normalize",
    "solarize",
    "two_views",
]
