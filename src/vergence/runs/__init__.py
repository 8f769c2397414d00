"""A run: from its configuration to its summary, and back to its networks."""

from vergence.runs.execute import find_finished, run_training
from vergence.runs.pictures import subset
from vergence.runs.stored import load, load_encoder, score

__all__ = ["find_finished", "load", "load_encoder", "run_training", "score", "subset"]
