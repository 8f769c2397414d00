"""What the commands about a trained encoder do with their options. torch is imported only once there is work."""

from collections.abc import Callable, Sequence
from typing import Any

from vergence.command.commands import Described, Export
from vergence.command.options import Override
from vergence.exports.suffixes import format_of


def opened(name: str, described: Described) -> Any:  # a Model, whose type would import torch
    """Return the model that a command names, with what its options say of it."""
    from vergence.runs import open_model

    encoder, size, mean, std = described.encoder, described.size, described.mean, described.std
    return open_model(name, encoder=encoder, size=size, mean=mean, std=std)


def _export(asked: Export, overrides: Sequence[Override]) -> int:
    format_of(asked.out, asked.format)  # before torch is imported
    from vergence.exports.export import export

    model = opened(asked.model, asked.described)
    done = export(model, asked.out, format=asked.format, data_dir=asked.data_dir)
    file, description, card = done.files
    for remark in model.remarks:
        print(f"{model.name}: {remark}")
    size = f"{file.stat().st_size / 1e6:,.1f} MB"
    print(f"{asked.out}: {done.format}, {size}, within {done.difference:.1e} of {model.name} on {done.compared}")
    print(f"{description}: what its pictures must be like; {card}: its card")
    return 0


HANDLERS: dict[str, Callable[[Any, Sequence[Override]], int]] = {"export": _export}
"""What each of these commands does, by its name."""
