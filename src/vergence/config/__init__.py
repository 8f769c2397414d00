"""Everything that determines a run and nothing that does not: the whole space of variants, a file for each slot.

A slot is a field whose type is a union of small frozen classes, or the base of such classes, `Method` and `Data`, which
a user's own class may join (`vergence.register`); a variant is one more member. How often to log or save, the device,
the number of threads: not here, because they must not change a result's name. Nothing here imports torch.
"""

from vergence.config.data import (
    CIFAR10,
    CIFAR100,
    STL10,
    Data,
    Digits,
    Folder,
    ImageNet,
    Imagenette,
    TinyImageNet,
    data_name,
    instead,
)
from vergence.config.encoder import Encoder, EncoderNorm
from vergence.config.family import DirectPred, SimSiam
from vergence.config.heads import (
    Affine,
    Direct,
    LinearIdentityPredictor,
    LinearPredictor,
    MLPPredictor,
    NoPredictor,
    Norm,
    NormAt,
    Predictor,
    Projector,
    Weight,
)
from vergence.config.marks import Above, AtLeast, Below, Between
from vergence.config.methods import BYOL, RAFT, BYOLPrime, Contrastive, Distance, Method, MoCo, SimCLR, Supervised
from vergence.config.optimizer import LARS, SGD, Adam, AdamW, Beta, Constant, Cosine, Optimizer, Schedule
from vergence.config.run import Precision, Run
from vergence.config.schema import configuration
from vergence.config.targets import (
    Copy,
    Frozen,
    MovingAverage,
    Shared,
    Start,
    StopGradient,
    Target,
    TargetBatchNorm,
    UpdateWhen,
)
from vergence.config.views import VIEWS, Local, LocalView, Positive, View, Views
from vergence.config.watched import Watched

__all__ = [
    "BYOL",
    "CIFAR10",
    "CIFAR100",
    "LARS",
    "RAFT",
    "SGD",
    "STL10",
    "VIEWS",
    "Above",
    "Adam",
    "AdamW",
    "Affine",
    "AtLeast",
    "BYOLPrime",
    "Below",
    "Beta",
    "Between",
    "Constant",
    "Contrastive",
    "Copy",
    "Cosine",
    "Data",
    "Digits",
    "Direct",
    "DirectPred",
    "Distance",
    "Encoder",
    "EncoderNorm",
    "Folder",
    "Frozen",
    "ImageNet",
    "Imagenette",
    "LinearIdentityPredictor",
    "LinearPredictor",
    "Local",
    "LocalView",
    "MLPPredictor",
    "Method",
    "MoCo",
    "MovingAverage",
    "NoPredictor",
    "Norm",
    "NormAt",
    "Optimizer",
    "Positive",
    "Precision",
    "Predictor",
    "Projector",
    "Run",
    "Schedule",
    "Shared",
    "SimCLR",
    "SimSiam",
    "Start",
    "StopGradient",
    "Supervised",
    "Target",
    "TargetBatchNorm",
    "TinyImageNet",
    "UpdateWhen",
    "View",
    "Views",
    "Watched",
    "Weight",
    "configuration",
    "data_name",
    "instead",
]
