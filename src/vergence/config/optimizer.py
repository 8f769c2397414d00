"""The members of the optimizer's and the schedule's slots."""

from typing import Annotated, ClassVar

from vergence.config.marks import Above, AtLeast, Below, Between, Stored
from vergence.config.schema import configuration

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
    trust_coefficient: Annotated[float, Above(0), Stored("trust"), "trust coefficient"] = 1e-3
    layers: Annotated[tuple[str, ...], _LAYERS] = ()


Optimizer = SGD | Adam | AdamW | LARS


@configuration
class Constant:
    """A constant rate, after a linear warm-up."""

    kind: ClassVar[str] = "constant"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0


@configuration
class Cosine:
    """A half cosine to zero at the horizon, after a linear warm-up."""

    kind: ClassVar[str] = "cosine"
    warmup_epochs: Annotated[float, AtLeast(0), "epochs of linear warm-up"] = 0.0


Schedule = Constant | Cosine
