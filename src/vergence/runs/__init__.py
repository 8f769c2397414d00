"""A run: from its configuration to its summary, and back to its networks."""

from vergence.runs.execute import carry_out, recognise
from vergence.runs.pictures import subset
from vergence.runs.stored import load, load_encoder, score

__all__ = ["carry_out", "load", "load_encoder", "recognise", "score", "subset"]
