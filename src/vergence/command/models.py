"""What the commands about a trained encoder do with their options. torch is imported only once there is work."""

from collections.abc import Callable, Sequence
from typing import Any

from vergence.command.commands import Described
from vergence.command.options import Override


def opened(name: str, described: Described) -> Any:  # a Model, whose type would import torch
    """Return the model that a command names, with what its options say of it."""
    from vergence.runs import open_model

    encoder, size, mean, std = described.encoder, described.size, described.mean, described.std
    return open_model(name, encoder=encoder, size=size, mean=mean, std=std)


HANDLERS: dict[str, Callable[[Any, Sequence[Override]], int]] = {}
"""What each of these commands does, by its name."""
