"""Random numbers by counter: seeds from a stream's name, generators, and draws that name no generator."""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def seed_of(seed: int, stream: str, *counters: int) -> int:
    """63 bits that depend on the run's seed, the name of a stream and counters such as epoch or step; on nothing else.

    Whatever is random is drawn from such a seed, so a resumed run, or one with other periods of logging and saving,
    draws the same numbers.
    """
    text = ":".join(map(str, (seed, stream, *counters)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, stream: str, *counters: int) -> torch.Generator:
    """A CPU generator that starts from `seed_of(...)`."""
    return torch.Generator().manual_seed(seed_of(seed, stream, *counters))


@contextmanager
def drawn_from(source: torch.Generator) -> Iterator["Draws"]:
    """Let `source` give whatever this thread draws on the CPU without naming a generator, and leave torch's own alone.

    The numbers are those that torch's own generator would give after the same seed. Other threads, which share torch's
    own, neither notice nor disturb it.
    """
    draws = Draws(source)
    with draws:
        yield draws


class Draws(TorchDispatchMode):
    """What `drawn_from` puts between this thread and torch's operators.

    Attributes:
        any: whether something was drawn.
    """

    def __init__(self, source: torch.Generator):
        super().__init__()
        self.source, self.any = source, False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.any = True
            if named.get("generator") is None and _on_cpu([*args, *named.values()]) and (other := _seeded(func)):
                return other(*args, **named | {"generator": self.source})
        return func(*args, **named)


def _on_cpu(values: Sequence[Any]) -> bool:
    devices = (value if isinstance(value, torch.device) else getattr(value, "device", None) for value in values)
    return all(device is None or torch.device(device).type == "cpu" for device in devices)


@functools.cache
def _seeded(operator: Any) -> Any:
    """The overload of an operator that takes a generator besides its arguments; None where there is none."""
    wanted = _arguments(operator) - {"generator"}
    packet = operator.overloadpacket
    overloads = [operator, *(getattr(packet, name) for name in packet.overloads())]
    having = (other for other in overloads if "generator" in _arguments(other))
    return next((other for other in having if _arguments(other) - {"generator"} == wanted), None)


def _arguments(operator: Any) -> set[str]:
    return {argument.name for argument in operator._schema.arguments}
