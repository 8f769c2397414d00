"""A run: from its configuration to its summary, and back to its networks."""

from vergence.runs.diagnosing import Diagnosis, diagnose
from vergence.runs.embedding import Embedded, embed
from vergence.runs.execute import find_finished, run_training
from vergence.runs.models import Model, open_model
from vergence.runs.pictures import subset
from vergence.runs.stored import load, load_encoder, score
from vergence.runs.weights import from_weights

__all__ = [
    "Diagnosis",
    "Embedded",
    "Model",
    "diagnose",
    "embed",
    "find_finished",
    "from_weights",
    "load",
    "load_encoder",
    "open_model",
    "run_training",
    "score",
    "subset",
]
