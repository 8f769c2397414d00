"""Marks put on single cases of a test."""

import pytest


def slow(*values, **named):
    """One case, left out of what is run by habit: its neighbours look at the same thing."""
    return pytest.param(*values, marks=pytest.mark.slow, **named)
