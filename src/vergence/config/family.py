"""The methods of the family beyond the two documents', each with its settings."""

from typing import Annotated, ClassVar, Literal

from vergence.config.heads import Direct, MLPPredictor, NoPredictor, Predictor, Projector
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
            raise ValueError("--loss isotropic trains no predictor; use --predictor direct or none with it")
