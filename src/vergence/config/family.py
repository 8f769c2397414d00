"""The methods of the family beyond the two documents', each with its settings."""

from typing import Annotated, ClassVar, Literal

from vergence.config.heads import Direct, MLPPredictor, NoPredictor, Predictor, Projector, Prototypes
from vergence.config.marks import Above, AtLeast, Below, Between
from vergence.config.methods import Method
from vergence.config.schema import configuration
from vergence.config.targets import MovingAverage, StopGradient, Target


@configuration
class SimSiam(Method):
    """Predict the online network's own projection of the other view, which gets no gradient."""

    kind: ClassVar[str] = "simsiam"
    averages_pictures: ClassVar[bool] = True
    projector: Projector = Projector(layers=3, hidden=2048, out=2048, norm_at="every", affine="hidden")
    predictor: Predictor = MLPPredictor(hidden=512)
    target: Target = StopGradient()


@configuration
class DirectPred(Method):
    """Predict by a matrix that is set from the correlation of the projections and not trained."""

    kind: ClassVar[str] = "directpred"
    averages_pictures: ClassVar[bool] = True
    loss: Annotated[
        Literal["byol", "isotropic"], "BYOL's, or IsoLoss: the same gradient without the predictor's matrix in it"
    ] = "byol"
    projector: Projector = Projector(affine="none")
    predictor: Predictor = Direct()
    target: Target = MovingAverage(decay_schedule="constant")

    def __post_init__(self) -> None:
        if self.loss == "isotropic" and not isinstance(self.predictor, Direct | NoPredictor):
            raise ValueError("loss isotropic trains no predictor; use --predictor direct or none with it")


@configuration
class BarlowTwins(Method):
    """Make the cross-correlation matrix of the two views the identity."""

    kind: ClassVar[str] = "barlow-twins"
    scale: Annotated[float, Above(0), "factor of the loss; with weight decay it matters"] = 1.0
    off_diagonal: Annotated[
        float, AtLeast(0), "weight of the squared correlations of different dimensions (the paper's lambda)"
    ] = 0.0051
    projector: Projector = Projector(layers=3, hidden=2048, out=2048)


@configuration
class VICReg(Method):
    """Bring the two views together, keep each dimension's spread, and let no two dimensions vary together."""

    kind: ClassVar[str] = "vicreg"
    invariance: Annotated[float, AtLeast(0), "weight of the views' distance, a mean over pictures and dimensions"] = (
        25.0
    )
    variance: Annotated[float, AtLeast(0), "weight of the hinge on standard deviations, a mean over the views"] = 25.0
    covariance: Annotated[float, AtLeast(0), "weight of the squared covariances, a sum over the views"] = 1.0
    eps: Annotated[float, Above(0), "added to variances: near a point, the hinge's force ends at its square root"] = (
        1e-4
    )
    projector: Projector = Projector(layers=3, hidden=2048, out=2048)


@configuration
class NNCLR(Method):
    """Tell the prediction of a picture from the others' by the nearest neighbour of its other view."""

    kind: ClassVar[str] = "nnclr"
    temperature: Annotated[float, Above(0), "divisor of the cosines in the cross-entropy"] = 0.1
    queue: Annotated[int, AtLeast(1), "past projections among which neighbours are sought"] = 65536
    neighbours: Annotated[bool, "whether a projection gives way to its nearest neighbour; false: it stays"] = True
    negatives: Annotated[bool, "whether other pictures repel; false: a prediction is only drawn to its neighbour"] = (
        True
    )
    projector: Projector = Projector(layers=3, hidden=2048, out=256, norm_at="every")
    predictor: Predictor = MLPPredictor(hidden=4096)
    target: Target = StopGradient()


@configuration
class SwAV(Method):
    """Predict the other view's assignment to prototypes, which are shared out equally in a batch."""

    kind: ClassVar[str] = "swav"
    takes_local_crops: ClassVar[bool] = True
    temperature: Annotated[float, Above(0), "divisor of the scores that predict an assignment"] = 0.1
    assignment: Annotated[
        Literal["sinkhorn", "softmax"], "equal shares of a batch for all prototypes, or each picture for itself"
    ] = "sinkhorn"
    epsilon: Annotated[float, Above(0), "divisor of the scores that are assigned"] = 0.05
    sinkhorn_iterations: Annotated[int, AtLeast(1), "iterations of Sinkhorn and Knopp's algorithm"] = 3
    queue: Annotated[int | None, AtLeast(1), "past projections of a view that share its assignment; none: none"] = None
    queue_from_epoch: Annotated[float, AtLeast(0), "epochs done before a full queue joins"] = 15.0
    prototypes: Prototypes = Prototypes()
    projector: Projector = Projector()


@configuration
class DINO(Method):
    """Give a picture's other crops the softmax that the target gives a view, centred and sharpened."""

    kind: ClassVar[str] = "dino"
    averages_pictures: ClassVar[bool] = True
    takes_local_crops: ClassVar[bool] = True
    temperature: Annotated[float, Above(0), "divisor of the online network's scores"] = 0.1
    target_temperature: Annotated[
        float, Above(0), "divisor of the target's scores; as large as temperature: no sharpening"
    ] = 0.07
    target_temperature_start: Annotated[float, Above(0), "the same at the first step"] = 0.04
    temperature_epochs: Annotated[float, AtLeast(0), "epochs in which it goes from the first to the last"] = 30.0
    center_momentum: Annotated[
        float | None, Between(0, 1), "weight of the old centre of the target's scores; none: no centring"
    ] = 0.9
    prototypes: Prototypes = Prototypes(count=4096, weights="weight-norm")
    projector: Projector = Projector(layers=3, out=256, norm="none", activation="gelu")
    target: Target = MovingAverage()


@configuration
class SIGReg(Method):
    """Bring the views of a picture together, and all projections to a Gaussian (LeJEPA)."""

    kind: ClassVar[str] = "sigreg"
    takes_local_crops: ClassVar[bool] = True
    regularizer: Annotated[
        Literal["sigreg", "visreg"], "Epps and Pulley's statistic of the slices, or VISReg's scale, shape and mean"
    ] = "sigreg"
    weight: Annotated[float, Between(0, 1), "lambda: share of the regularizer; 0 leaves the invariance alone"] = 0.05
    slices: Annotated[int, AtLeast(1), "directions that the projections are looked at along, new ones each step"] = 1024
    scale: Annotated[float, AtLeast(0), "weight of VISReg's scale term, added to the loss"] = 0.0
    projector: Projector = Projector(layers=3, hidden=2048)


@configuration
class WMSE(Method):
    """Bring the whitened views of a picture together (W-MSE)."""

    kind: ClassVar[str] = "w-mse"
    whitening: Annotated[
        Literal["cholesky", "standardize"],
        "the covariance becomes the identity, or only its diagonal 1",
    ] = "cholesky"
    slice: Annotated[int | None, AtLeast(2), "pictures that are whitened together; none: all of a batch"] = None
    shuffles: Annotated[int, AtLeast(1), "times that the batch is cut into slices anew for one step"] = 1
    epsilon: Annotated[float, AtLeast(0), Below(1), "share of the identity in the covariance"] = 0.0
    projector: Projector = Projector(hidden=1024, out=32)

    def require_part(self, pictures: int) -> None:
        """Raise ValueError where slices do not divide a part of a batch, or are too small to be whitened."""
        size = pictures if self.slice is None else self.slice
        if pictures % size:
            raise ValueError(f"--slice: {pictures} pictures are not cut into slices of {size}; give a divisor, or none")
        if self.whitening == "cholesky" and self.epsilon == 0 and size <= self.projector.out:
            few = f"--slice: {size} pictures cannot whiten {self.projector.out} dimensions"
            raise ValueError(f"{few}; make --projector.out at most {size // 2}, or slices and batch larger")
