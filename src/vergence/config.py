"""Everything that determines a run and nothing that does not: the whole space of variants on one page.

A slot is a field whose type is a union of small frozen classes; a variant is one more member. How often to log or save,
the device, the number of threads: not here, because they must not change a result's name. Nothing here imports torch.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from vergence.schema import (
    Above,
    Added,
    AtLeast,
    Below,
    Between,
    Named,
    Place,
    canonical,
    configuration,
    fields,
    marked,
)

# --- heads ------------------------------------------------------------------------------------------------------------

Norm = Literal["none", "batch", "layer", "group", "batch-renorm"]
NormAt = Literal["hidden", "every"]
Weight = Literal["plain", "standardized"]


@configuration
class Projector:
    """The multilayer perceptron from representation y to projection z."""

    layers: Annotated[int, AtLeast(1), "linear layers"] = 2
    hidden: Annotated[int, AtLeast(1), "units of each hidden layer"] = 512
    out: Annotated[int, AtLeast(2), "dimensions of the projection z"] = 128
    norm: Annotated[Norm, "normalization"] = "batch"
    norm_at: Annotated[NormAt, "norm after the hidden layers only (BYOL) or after every linear layer (SimCLR)"] = (
        "hidden"
    )
    weight: Annotated[Weight, "weight standardization of the linear layers"] = "plain"


@configuration
class MLPPredictor:
    """A multilayer perceptron from z to p (the paper's MLPP)."""

    kind: ClassVar[str] = "mlp"
    layers: Annotated[int, AtLeast(2), "linear layers"] = 2
    hidden: Annotated[int, AtLeast(1), "units of each hidden layer"] = 512
    norm: Annotated[Norm, "normalization"] = "batch"
    norm_at: Annotated[NormAt, "norm after the hidden layers only or after every linear layer"] = "hidden"
    weight: Annotated[Weight, "weight standardization of the linear layers"] = "plain"


@configuration
class LinearPredictor:
    """One matrix without bias, at random (the paper's LP)."""

    kind: ClassVar[str] = "linear"
    norm: Annotated[Norm, "normalization after the matrix"] = "none"


@configuration
class LinearIdentityPredictor:
    """One matrix without bias that starts as the identity (the paper's LPI)."""

    kind: ClassVar[str] = "linear-identity"
    norm: Annotated[Norm, "normalization after the matrix"] = "none"


@configuration
class NoPredictor:
    """p is z (the paper's NP)."""

    kind: ClassVar[str] = "none"


Predictor = MLPPredictor | LinearPredictor | LinearIdentityPredictor | NoPredictor

# --- target networks --------------------------------------------------------------------------------------------------

Start = Literal["copy", "independent"]
TargetBatchNorm = Literal["batch", "running"]
Moves = Literal["after-optimizer", "before-optimizer"]
_START = "the first target: a copy of the online network, or initialized on its own"
_BATCH_NORM = "its batch norm uses the statistics of the batch, or the online network's running ones"
_MOVES = "whether it moves towards the online weights of after or before the optimizer's update"


@configuration
class MovingAverage:
    """An exponential moving average of the online weights: the mean teacher."""

    kind: ClassVar[str] = "moving-average"
    decay: Annotated[float, Between(0, 1), "weight of the old target"] = 0.996
    decay_schedule: Annotated[Literal["constant", "cosine"], "constant, or by a cosine to 1"] = "cosine"
    start: Annotated[Start, _START] = "copy"
    batch_norm: Annotated[TargetBatchNorm, _BATCH_NORM] = "batch"
    moves: Annotated[Moves, _MOVES] = "after-optimizer"


@configuration
class Copy:
    """The online weights of the step before; moved after the optimizer, the same weights as the online network's."""

    kind: ClassVar[str] = "copy"
    start: Annotated[Start, _START] = "copy"
    batch_norm: Annotated[TargetBatchNorm, _BATCH_NORM] = "batch"
    moves: Annotated[Moves, _MOVES] = "before-optimizer"


@configuration
class Frozen:
    """The first weights, for ever."""

    kind: ClassVar[str] = "frozen"
    start: Annotated[Start, _START] = "independent"
    batch_norm: Annotated[Literal["batch"], "its batch norm uses the statistics of the batch"] = "batch"


@configuration
class StopGradient:
    """The online network itself, without gradient (SimSiam's target)."""

    kind: ClassVar[str] = "stop-gradient"


Target = MovingAverage | Copy | Frozen | StopGradient

# --- methods ----------------------------------------------------------------------------------------------------------

Distance = Literal["cosine", "tangential"]
_DISTANCE = "squared distance of unit vectors, or its tangential form (the paper's Tan- variants)"
_TEMPERATURE = "divisor of the cosines in the cross-entropy"


@configuration
class SimCLR:
    """Tell the two views of a picture from all others of the batch."""

    kind: ClassVar[str] = "simclr"
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.5
    projector: Projector = Projector(norm_at="every")


@configuration
class MoCo:
    """Tell a picture's key from a queue of past keys (MoCo v2)."""

    kind: ClassVar[str] = "moco"
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.2
    queue: Annotated[int, AtLeast(1), "past keys kept as negatives"] = 65536
    projector: Projector = Projector(norm="none")
    target: Target = MovingAverage(decay=0.999, decay_schedule="constant")


@configuration
class Contrastive:
    """BYOL's networks with MoCo's loss in both directions: the blog's control."""

    kind: ClassVar[str] = "contrastive"
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.2
    queue: Annotated[int, AtLeast(1), "past keys kept as negatives"] = 65536
    projector: Projector = Projector(norm="none")
    predictor: Predictor = MLPPredictor(norm="none")
    target: Target = MovingAverage()


@configuration
class BYOL:
    """Predict the target network's projection of the other view."""

    kind: ClassVar[str] = "byol"
    scale: Annotated[float, Above(0), "factor of the loss; 0.5 is the blog's code: 1 - cos for each direction"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()


@configuration
class BYOLPrime:
    """Align the two views and run towards the target network: BYOL's upper bound."""

    kind: ClassVar[str] = "byol-prime"
    alpha: Annotated[float, AtLeast(0), "weight of the alignment"] = 1.0
    beta: Annotated[float, AtLeast(0), "weight of the cross-model distance"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()


@configuration
class RAFT:
    """Align the two views and run away from the target network."""

    kind: ClassVar[str] = "raft"
    alpha: Annotated[float, AtLeast(0), "weight of the alignment"] = 1.0
    beta: Annotated[float, AtLeast(0), "weight of the cross-model distance"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()


@configuration
class Supervised:
    """The same networks told the classes: what self-supervision is measured against."""

    kind: ClassVar[str] = "supervised"
    classes: Annotated[int, AtLeast(2), "classes of the pictures"] = 10
    projector: Projector = Projector()


Method = Supervised | SimCLR | MoCo | Contrastive | BYOL | BYOLPrime | RAFT

# --- encoder ----------------------------------------------------------------------------------------------------------


EncoderNorm = Literal["batch", "group", "group-ws"]


@configuration
class Encoder:
    """A timm backbone, from random weights."""

    name: Annotated[str, "any timm model; `--encoder resnet50` says it too"] = "resnet18"
    stem: Annotated[Literal["imagenet", "cifar"], "7x7 stride 2 and max-pool, or 3x3 stride 1 for small images"] = (
        "imagenet"
    )
    norm: Annotated[EncoderNorm, "batch, group, or group + weight standardization"] = "batch"


# --- pictures and views -----------------------------------------------------------------------------------------------

Positive = Annotated[float, Above(0)]
_SIZE = "side in pixels at which views are cut; smaller pictures are enlarged to it"


@configuration
class Digits:
    """scikit-learn's 1,797 handwritten digits, 8 x 8: ships with the library, no download."""

    kind: ClassVar[str] = "digits"
    size: Annotated[int, AtLeast(8), _SIZE] = 32


@configuration
class CIFAR10:
    """50,000 + 10,000 photos of 10 classes, 32 x 32."""

    kind: ClassVar[str] = "cifar10"
    size: Annotated[int, AtLeast(8), _SIZE] = 32
    scored_on: Annotated[
        Literal["test", "held-out"],
        Added(),
        "what probes are scored on; held-out: a tenth of the training pictures, kept out of training: for tuning",
    ] = "test"


@configuration
class STL10:
    """100,000 unlabelled, 5,000 + 8,000 labelled photos of 10 classes, 96 x 96."""

    kind: ClassVar[str] = "stl10"
    size: Annotated[int, AtLeast(8), _SIZE] = 96
    pretrain: Annotated[Literal["train+unlabeled", "unlabeled", "train"], "what views are cut from"] = "train+unlabeled"
    fold: Annotated[int | None, Between(0, 9), "one of the ten published folds for the probes; none: all 5,000"] = None


@configuration
class Folder:
    """A folder of pictures, labelled by subfolder or not at all."""

    kind: ClassVar[str] = "folder"
    root: Annotated[str, Place(), "the folder"]
    size: Annotated[int, AtLeast(8), "side in pixels at which pictures are kept"] = 96
    bad_images: Annotated[Literal["fail", "skip"], "what a picture that cannot be read does"] = "fail"


Data = Digits | CIFAR10 | STL10 | Folder


def data_name(data: Data) -> str:
    """Return what pictures are called in the name of a file: their kind, or the last part of a folder's path."""
    if not isinstance(data, Folder):
        return data.kind
    name = "".join(c if c.isalnum() or c in "_." else "-" for c in Path(data.root).name)
    return name[:24].strip("-.") or data.kind


def instead(asked: Data, before: Data) -> Data:
    """Return the pictures asked for, in all that was not asked for as those before.

    Of the same kind, that is everything but their place; of another kind, the size.
    """
    if type(asked) is not type(before):
        return replace(asked, size=before.size)
    cls = type(before)
    return replace(before, **{name: getattr(asked, name) for name in fields(cls) if marked(cls, name, Place)})


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

# --- optimizer and schedule -------------------------------------------------------------------------------------------

_BETAS = "decay of the two moments"
Beta = Annotated[float, AtLeast(0), Below(1)]
_LAYERS = "module names the rule applies to, such as encoder.layer1,projector; none: all"


@configuration
class SGD:
    """Stochastic gradient descent with momentum; weight decay on every parameter, as torch's."""

    kind: ClassVar[str] = "sgd"
    lr: Annotated[float, AtLeast(0), "learning rate"] = 0.03
    momentum: Annotated[float, Between(0, 1), "momentum"] = 0.9
    weight_decay: Annotated[float, AtLeast(0), "weight decay"] = 1e-4
    factor: Annotated[float, AtLeast(0), "the rate of `layers` is this many times lr"] = 1.0
    layers: Annotated[tuple[str, ...], _LAYERS] = ()


@configuration
class Adam:
    """Adam; weight decay is added to the gradient."""

    kind: ClassVar[str] = "adam"
    lr: Annotated[float, AtLeast(0), "learning rate"] = 3e-4
    betas: Annotated[tuple[Beta, Beta], _BETAS] = (0.9, 0.999)
    weight_decay: Annotated[float, AtLeast(0), "weight decay"] = 0.0


@configuration
class AdamW:
    """Adam with decoupled weight decay."""

    kind: ClassVar[str] = "adamw"
    lr: Annotated[float, AtLeast(0), "learning rate"] = 1e-3
    betas: Annotated[tuple[Beta, Beta], _BETAS] = (0.9, 0.999)
    weight_decay: Annotated[float, AtLeast(0), "weight decay"] = 0.01


@configuration
class LARS:
    """Layer-wise adaptive rate: lr * trust * |w| / (|gradient| + weight_decay |w|), with momentum.

    Biases and norm parameters are neither decayed nor adapted. With `layers`, every other layer follows plain SGD.
    """

    kind: ClassVar[str] = "lars"
    lr: Annotated[float, AtLeast(0), "learning rate"] = 0.2
    momentum: Annotated[float, Between(0, 1), "momentum"] = 0.9
    weight_decay: Annotated[float, AtLeast(0), "weight decay"] = 1.5e-6
    trust: Annotated[float, Above(0), "trust coefficient"] = 1e-3
    layers: Annotated[tuple[str, ...], _LAYERS] = ()


Optimizer = SGD | Adam | AdamW | LARS


@configuration
class Constant:
    """The same rate throughout, after a linear warm-up."""

    kind: ClassVar[str] = "constant"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0


@configuration
class Cosine:
    """A half cosine to zero at the horizon, after a linear warm-up."""

    kind: ClassVar[str] = "cosine"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0


Schedule = Constant | Cosine

Precision = Literal["float32", "bfloat16"]

# --- the run ----------------------------------------------------------------------------------------------------------


@configuration
class Run:
    """Everything that determines one training run, and nothing that does not."""

    method: Method
    data: Data = Digits()
    views: Annotated[Views, Named(VIEWS, ("first", "second")), "the two views"] = Views()
    encoder: Encoder = Encoder()
    optimizer: Optimizer = SGD()
    schedule: Schedule = Cosine()
    epochs: Annotated[int, AtLeast(0), "passes over the pictures; 0: evaluate the first weights"] = 10
    horizon: Annotated[int | None, AtLeast(1), "epochs the schedules are laid out for; none: as many as are run"] = None
    batch_size: Annotated[int, AtLeast(2), "pictures in a step"] = 256
    subset: Annotated[int | None, AtLeast(2), "train, and fit probes, on this many pictures, drawn once; none: all"] = (
        None
    )
    norm_views: Annotated[
        Literal["separately", "together"], "whether batch norm sees the views one at a time or as one batch"
    ] = "separately"
    precision: Annotated[Precision, "of the networks; losses and averages stay float32"] = "float32"
    seed: Annotated[int, Between(0, 2**32 - 1), "of everything random"] = 0

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < self.epochs:
            raise ValueError(f"--horizon ({self.horizon}) cannot be shorter than --epochs ({self.epochs})")
        if self.epochs and self.schedule.warmup_epochs >= (self.horizon or self.epochs):
            raise ValueError(
                f"--schedule.warmup-epochs ({self.schedule.warmup_epochs:g}) leaves nothing of the {self.epochs} epochs"
            )
        if self.views.size > 2 * self.data.size:
            sizes = f"views of {self.views.size} px from data of {self.data.size} px"
            raise ValueError(f"{sizes}: set --data.size as large")

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of this configuration's hash: names the run's folder."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:12]

    @property
    def former_key(self) -> str:
        """The key in which the place of a folder of pictures had a part; for other pictures the key itself."""
        return hashlib.sha256(canonical(self, places=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The default name of the run's folder."""
        return f"{self.method.kind}-{data_name(self.data)}-{self.key}"
