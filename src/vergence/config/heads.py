"""What stands behind an encoder: the projector, and the members of the predictor's slot."""

from typing import Annotated, ClassVar, Literal

from vergence.config.marks import AtLeast
from vergence.config.schema import configuration

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
