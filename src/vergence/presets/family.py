"""What each method of the family asks of a run: its share of the default preset, and its paper's small-data setting."""

from collections.abc import Callable

from vergence import config as c

SUITED: dict[type[c.Method], Callable[[c.Run], c.Run]] = {}
"""What changes in the default run for a method whose authors ask for something else."""

PAPERS: dict[str, Callable[[c.Method, c.Data], c.Run]] = {}
"""Presets named METHOD-paper: each paper's setting for small pictures."""


def suited(run: c.Run) -> c.Run:
    """Return a default run with what its method asks for."""
    suit = SUITED.get(type(run.method))
    return run if suit is None else suit(run)
