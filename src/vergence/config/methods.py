"""The methods that the library has, each with its settings."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from vergence.config.heads import MLPPredictor, Predictor, Projector
from vergence.config.marks import Above, AtLeast
from vergence.config.schema import Slot, configuration
from vergence.config.targets import MovingAverage, Target

Distance = Literal["cosine", "tangential"]
_DISTANCE = "squared distance of unit vectors, or its tangential form (the paper's Tan- variants)"
_TEMPERATURE = "divisor of the cosines in the cross-entropy"


@configuration
class Method(Slot):
    """The base of every method's settings; what is trained is the class that `register.method` puts beside them.

    Attributes:
        takes_local_crops: whether its `forward` takes them after the views.
        averages_pictures: whether its loss is a mean over pictures, whatever others are in the batch: then parts of a
            batch give the gradient of the whole, but for batch norm.
    """

    takes_local_crops: ClassVar[bool] = False
    averages_pictures: ClassVar[bool] = False
    if TYPE_CHECKING:  # every method has them
        kind: ClassVar[str]
        projector: Projector

    def require_part(self, pictures: int) -> None:
        """Raise ValueError where a batch, or a part of one under `--accumulate`, cannot have that many pictures."""


@configuration
class Supervised(Method):
    """Learn from the classes, with the networks of the others: what self-supervision is measured against."""

    kind: ClassVar[str] = "supervised"
    averages_pictures: ClassVar[bool] = True
    classes: Annotated[int, AtLeast(2), "classes of the pictures"] = 10
    projector: Projector = Projector()


@configuration
class SimCLR(Method):
    """Tell the two views of a picture from all others of the batch."""

    kind: ClassVar[str] = "simclr"
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.5
    projector: Projector = Projector(norm_at="every")


@configuration
class MoCo(Method):
    """Tell a picture's key from a queue of past keys (MoCo v2)."""

    kind: ClassVar[str] = "moco"
    averages_pictures: ClassVar[bool] = True
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.2
    queue: Annotated[int, AtLeast(1), "past keys kept as negatives"] = 65536
    projector: Projector = Projector(norm="none")
    target: Target = MovingAverage(decay=0.999, decay_schedule="constant")


@configuration
class Contrastive(Method):
    """BYOL's networks with MoCo's loss in both directions: the blog's control."""

    kind: ClassVar[str] = "contrastive"
    averages_pictures: ClassVar[bool] = True
    temperature: Annotated[float, Above(0), _TEMPERATURE] = 0.2
    queue: Annotated[int, AtLeast(1), "past keys kept as negatives"] = 65536
    projector: Projector = Projector(norm="none")
    predictor: Predictor = MLPPredictor(norm="none")
    target: Target = MovingAverage()


@configuration
class BYOL(Method):
    """Predict the target network's projection of the other view."""

    kind: ClassVar[str] = "byol"
    averages_pictures: ClassVar[bool] = True
    takes_local_crops: ClassVar[bool] = True
    scale: Annotated[float, Above(0), "factor of the loss; 0.5 is the blog's code: 1 - cos for each direction"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()


@configuration
class BYOLPrime(Method):
    """Align the two views and run towards the target network: BYOL's upper bound."""

    kind: ClassVar[str] = "byol-prime"
    averages_pictures: ClassVar[bool] = True
    alpha: Annotated[float, AtLeast(0), "weight of the alignment"] = 1.0
    beta: Annotated[float, AtLeast(0), "weight of the cross-model distance"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()


@configuration
class RAFT(Method):
    """Align the two views and run away from the target network."""

    kind: ClassVar[str] = "raft"
    averages_pictures: ClassVar[bool] = True
    alpha: Annotated[float, AtLeast(0), "weight of the alignment"] = 1.0
    beta: Annotated[float, AtLeast(0), "weight of the cross-model distance"] = 1.0
    distance: Annotated[Distance, _DISTANCE] = "cosine"
    projector: Projector = Projector()
    predictor: Predictor = MLPPredictor()
    target: Target = MovingAverage()
