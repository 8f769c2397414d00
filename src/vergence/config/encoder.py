"""The encoder: a timm backbone and its variants."""

from typing import Annotated, Literal

from vergence.config.marks import Added, AtLeast, Below, Place
from vergence.config.schema import configuration

EncoderNorm = Literal["batch", "group", "group-ws"]


@configuration
class Encoder:
    """A timm backbone, from random weights or from those of a file."""

    name: Annotated[str, "any timm model; `--encoder resnet50` says it too"] = "resnet18"
    stem: Annotated[Literal["imagenet", "cifar"], "7x7 stride 2 and max-pool, or 3x3 stride 1 for small images"] = (
        "imagenet"
    )
    norm: Annotated[EncoderNorm, "batch, group, or group + weight standardization"] = "batch"
    weights: Annotated[
        str | None, Place(), Added(), "start from these: a .safetensors or .pth file, a run's folder, timm:NAME.TAG"
    ] = None
    weights_hash: Annotated[
        str | None, Added(), "SHA-256 of the file of weights, which it must have; read from it where none is given"
    ] = None
    pool: Annotated[
        Literal["default", "cls", "mean"],
        Added(),
        "a transformer's representation: timm's choice, the class token, or the mean of the patches",
    ] = "default"
    drop_path: Annotated[
        float, AtLeast(0), Below(1), Added(), "chance that a picture skips the last block; it falls to 0 at the first"
    ] = 0.0
