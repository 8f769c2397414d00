"""How the two views of a picture are made, and the published pipelines by name."""

from typing import Annotated, Literal

from vergence.config.marks import Above, Added, AtLeast, Between
from vergence.config.schema import configuration

Positive = Annotated[float, Above(0)]


@configuration
class View:
    """The random operations that make one view, each drawn for each picture.

    In order: crop, flip, jitter, gray, blur, solarize, normalize. Defaults are the blog's (B10); strengths are
    torchvision's `ColorJitter` arguments.
    """

    crop_scale: Annotated[tuple[float, float], "share of the area that a crop keeps, smallest and largest"] = (0.2, 1.0)
    crop_ratio: Annotated[tuple[float, float], "width over height of a crop, smallest and largest"] = (3 / 4, 4 / 3)
    flip: Annotated[float, Between(0, 1), "probability of a mirror image"] = 0.5
    jitter: Annotated[float, Between(0, 1), "probability of colour jitter"] = 0.8
    brightness: Annotated[float, AtLeast(0), "strength"] = 0.4
    contrast: Annotated[float, AtLeast(0), "strength"] = 0.4
    saturation: Annotated[float, AtLeast(0), "strength"] = 0.4
    hue: Annotated[float, Between(0, 0.5), "strength, in turns of the colour circle"] = 0.1
    gray: Annotated[float, Between(0, 1), "probability of grayscale"] = 0.2
    blur: Annotated[float, Between(0, 1), "probability of a Gaussian blur"] = 0.5
    blur_sigma: Annotated[tuple[float, float], "its standard deviation in pixels, smallest and largest"] = (0.1, 2.0)
    solarize: Annotated[float, Between(0, 1), "probability of solarization at 0.5"] = 0.0

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name.replace('_', '-')} needs 0 < smallest <= largest, not {low:g}, {high:g}")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop-scale cannot exceed 1, not {self.crop_scale[1]:g}")


@configuration
class Views:
    """How the two views of a picture are made."""

    size: Annotated[int, AtLeast(8), "side of a view in pixels"] = 32
    first: View = View()
    second: View = View()
    mean: Annotated[tuple[float, float, float], "subtracted from red, green, blue in [0, 1]"] = (0.485, 0.456, 0.406)
    std: Annotated[tuple[Positive, Positive, Positive], "and divided by"] = (0.229, 0.224, 0.225)
    order: Annotated[
        Literal["published", "folded"],
        Added(),
        "crop first, as published; or colours on the source's pixels, then crop, resize and blur at once: faster",
    ] = "published"


_BYOL_JITTER = {"crop_scale": (0.08, 1.0), "saturation": 0.2}
VIEWS = {
    "blog": Views(),
    "simclr": Views(
        first=View(crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
        second=View(crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    ),
    "byol": Views(
        first=View(blur=1.0, **_BYOL_JITTER),
        second=View(blur=0.1, solarize=0.2, **_BYOL_JITTER),
    ),
    "raft-code": Views(
        first=View(crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.0),
        second=View(crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.0),
    ),
}
"""Published pipelines: the blog's appendix; SimCLR's at full strength; BYOL's two; the RAFT authors' code."""
