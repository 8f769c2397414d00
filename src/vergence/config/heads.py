"""What stands behind an encoder: the projector, and the members of the predictor's slot."""

from typing import Annotated, ClassVar, Literal

from vergence.config.marks import Above, Added, AtLeast, Between
from vergence.config.schema import configuration

Norm = Literal["none", "batch", "layer", "group", "batch-renorm"]
NormAt = Literal["hidden", "every"]
Affine = Literal["every", "hidden", "none"]
Weight = Literal["plain", "standardized"]
Activation = Literal["relu", "gelu"]


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
    affine: Annotated[
        Affine, Added(), "norms with a scale and shift of their own: each, those of hidden layers (SimSiam), or no norm"
    ] = "every"
    activation: Annotated[Activation, Added(), "after each hidden layer"] = "relu"


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


@configuration
class Direct:
    """A matrix with the eigenvectors of the projections' correlation, set and not trained: DirectPred, DirectCopy."""

    kind: ClassVar[str] = "direct"
    alpha: Annotated[float, Above(0), "power of the eigenvalues: 0.5 is DirectPred, 1 DirectCopy"] = 0.5
    eps: Annotated[
        float, AtLeast(0), "added to the eigenvalues of the matrix, the largest of which is 1 without it"
    ] = 0.1
    rho: Annotated[
        float, Between(0, 1), "weight of the old correlation in its moving average; 1: that of the first step"
    ] = 0.3
    every: Annotated[int, AtLeast(1), "steps from one setting of the matrix to the next"] = 1


Predictor = MLPPredictor | LinearPredictor | LinearIdentityPredictor | NoPredictor | Direct


@configuration
class Prototypes:
    """Learned directions in the space of z, with which projections are compared."""

    count: Annotated[int, AtLeast(2), "prototypes"] = 512
    weights: Annotated[
        Literal["renormalized", "weight-norm"],
        "unit length: given back after each update (SwAV), or weight norm of gain 1, with its gradient (DINO)",
    ] = "renormalized"
    frozen_epochs: Annotated[float, AtLeast(0), "first epochs, in which they are not updated"] = 1.0
