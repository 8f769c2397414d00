"""The members of the optimizer's and the schedule's slots."""

from typing import Annotated, ClassVar, Literal

from vergence.config.marks import Above, Added, AtLeast, Below, Between, Stored
from vergence.config.schema import configuration

_BETAS = "decay of the two moments"
Beta = Annotated[float, AtLeast(0), Below(1)]
Rate = Annotated[float, AtLeast(0), "learning rate"]
WeightDecay = Annotated[float, AtLeast(0), "weight decay"]
WeightDecayEnd = Annotated[
    float | None, AtLeast(0), Added(), "weight decay at the horizon, reached by a half cosine; none: constant"
]
Decay = Annotated[
    Literal["all", "matrices"],
    Added(),
    "what weight decay is for: all, or matrices and kernels only: no norms, biases, positions, tokens, layer scales",
]
Clip = Annotated[float | None, Above(0), Added(), "largest norm of the gradient; none: not clipped"]
ClipOf = Annotated[
    Literal["whole", "tensor"], Added(), "what clip is the largest norm of: the whole gradient, or each parameter's"
]
EncoderRate = Annotated[float, AtLeast(0), Added(), "the encoder's rate is this many times lr"]
LayerDecay = Annotated[
    float, Above(0), Between(0, 1), Added(), "factor of the rate from each layer of the encoder to the one before"
]
FrozenEpochs = Annotated[float, AtLeast(0), Added(), "first epochs, in which the encoder is not updated"]
PredictorRate = Annotated[
    Literal["schedule", "constant"],
    Added(),
    "whether the predictor's rate follows the schedule or stays at lr (SimSiam)",
]
_LAYERS = "module names the rule applies to, such as encoder.layer1,projector; none: all"


@configuration
class SGD:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient, as torch's."""

    kind: ClassVar[str] = "sgd"
    lr: Rate = 0.03
    momentum: Annotated[float, Between(0, 1), "momentum"] = 0.9
    weight_decay: WeightDecay = 1e-4
    factor: Annotated[float, AtLeast(0), "the rate of `layers` is this many times lr"] = 1.0
    layers: Annotated[tuple[str, ...], _LAYERS] = ()
    weight_decay_end: WeightDecayEnd = None
    decay: Decay = "all"
    clip: Clip = None
    clip_of: ClipOf = "whole"
    encoder_rate: EncoderRate = 1.0
    layer_decay: LayerDecay = 1.0
    frozen_epochs: FrozenEpochs = 0.0
    predictor_rate: PredictorRate = "schedule"


@configuration
class Adam:
    """Adam; weight decay is added to the gradient."""

    kind: ClassVar[str] = "adam"
    lr: Rate = 3e-4
    betas: Annotated[tuple[Beta, Beta], _BETAS] = (0.9, 0.999)
    weight_decay: WeightDecay = 0.0
    weight_decay_end: WeightDecayEnd = None
    decay: Decay = "all"
    clip: Clip = None
    clip_of: ClipOf = "whole"
    encoder_rate: EncoderRate = 1.0
    layer_decay: LayerDecay = 1.0
    frozen_epochs: FrozenEpochs = 0.0
    predictor_rate: PredictorRate = "schedule"


@configuration
class AdamW:
    """Adam with decoupled weight decay."""

    kind: ClassVar[str] = "adamw"
    lr: Rate = 1e-3
    betas: Annotated[tuple[Beta, Beta], _BETAS] = (0.9, 0.999)
    weight_decay: WeightDecay = 0.01
    weight_decay_end: WeightDecayEnd = None
    decay: Decay = "all"
    clip: Clip = None
    clip_of: ClipOf = "whole"
    encoder_rate: EncoderRate = 1.0
    layer_decay: LayerDecay = 1.0
    frozen_epochs: FrozenEpochs = 0.0
    predictor_rate: PredictorRate = "schedule"


@configuration
class LARS:
    """Layer-wise adaptive rate: lr * trust * |w| / (|gradient| + weight_decay |w|), with momentum.

    Biases and norm parameters are neither decayed nor adapted. With `layers`, every other layer follows plain SGD.
    """

    kind: ClassVar[str] = "lars"
    lr: Rate = 0.2
    momentum: Annotated[float, Between(0, 1), "momentum"] = 0.9
    weight_decay: WeightDecay = 1.5e-6
    trust_coefficient: Annotated[float, Above(0), Stored("trust"), "trust coefficient"] = 1e-3
    layers: Annotated[tuple[str, ...], _LAYERS] = ()
    weight_decay_end: WeightDecayEnd = None
    clip: Clip = None
    clip_of: ClipOf = "whole"
    encoder_rate: EncoderRate = 1.0
    layer_decay: LayerDecay = 1.0
    frozen_epochs: FrozenEpochs = 0.0
    predictor_rate: PredictorRate = "schedule"


Optimizer = SGD | Adam | AdamW | LARS

_WARMUP_FROM = "the rate of the first step: 0, or the first of its equal shares"
WarmupFrom = Annotated[Literal["zero", "first-share"], Added(), _WARMUP_FROM]


@configuration
class Constant:
    """A constant rate, after a linear warm-up."""

    kind: ClassVar[str] = "constant"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0
    warmup_from: WarmupFrom = "zero"


@configuration
class Cosine:
    """A half cosine to zero at the horizon, after a linear warm-up."""

    kind: ClassVar[str] = "cosine"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0
    warmup_from: WarmupFrom = "zero"


Schedule = Constant | Cosine
