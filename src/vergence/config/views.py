"""How the views and the local crops of a picture are made, and the published pipelines by name."""

from typing import Annotated, Literal

from vergence.config.marks import Above, Added, AtLeast, Between
from vergence.config.schema import configuration

Positive = Annotated[float, Above(0)]
_CROP_SCALE = "share of the area that a crop keeps, smallest and largest"


@configuration
class View:
    """The random operations that make one view, each drawn for each picture.

    In order: crop, flip, a transform of one's own, jitter, gray, blur, solarize, normalize. Defaults are the blog's
    (B10); strengths are torchvision's `ColorJitter` arguments.
    """

    crop_scale: Annotated[tuple[float, float], _CROP_SCALE] = (0.2, 1.0)
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
    transform: Annotated[str | None, Added(), "a plugin's transform of the 8-bit crop, by its name; none: no other"] = (
        None
    )

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name.replace('_', '-')} needs 0 < smallest <= largest, not {low:g}, {high:g}")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop-scale cannot exceed 1, not {self.crop_scale[1]:g}")


@configuration
class LocalView(View):
    """The random operations that make a local crop; defaults are those of DINO's code."""

    crop_scale: Annotated[tuple[float, float], _CROP_SCALE] = (0.05, 0.4)
    saturation: Annotated[float, AtLeast(0), "strength"] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()


@configuration
class Local:
    """Small crops of each picture beside its two views: multi-crop (SwAV, Section 3.3; DINO, Section 3.1).

    DINO's authors take 6 to 10 crops of 96 px beside views of 224 px whose crop scale
    begins where that of the local crops ends; SwAV's divide the scales at 0.14.
    """

    count: Annotated[int, AtLeast(0), "local crops of each picture; 0: the two views alone"] = 0
    size: Annotated[
        int | None, AtLeast(8), "side in pixels; none: 96/224 of a view's, at the nearest multiple of 8"
    ] = None
    view: LocalView = LocalView()


@configuration
class Views:
    """How the two views of a picture are made, and local crops beside them."""

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
    local: Annotated[Local, Added()] = Local()

    def __post_init__(self) -> None:
        if self.local_size > self.size:
            raise ValueError(f"local.size ({self.local_size}) cannot exceed the size of a view ({self.size})")
        if self.order == "folded" and self.transforms:
            takes = f"the transform {self.transforms[0]} takes crops"
            raise ValueError(f"order folded changes colours before the crop, and {takes}; leave it at published")

    @property
    def local_size(self) -> int:
        """The side of a local crop in pixels."""
        return self.local.size or max(8, 8 * round(self.size * 96 / 224 / 8))

    @property
    def crops(self) -> tuple[tuple[View, int], ...]:
        """How each crop of a picture is made, and its side in pixels: the two views, then the local crops."""
        local = [(self.local.view, self.local_size)] * self.local.count
        return ((self.first, self.size), (self.second, self.size), *local)

    @property
    def transforms(self) -> tuple[str, ...]:
        """The names of the transforms that crops pass through, each once."""
        return tuple(dict.fromkeys(view.transform for view, _ in self.crops if view.transform is not None))


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
