"""Random numbers by counter: seeds from a stream's name, generators, draws without one, and those of a step's loss."""

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
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


class StepDraws(nn.Module):
    """Random numbers for the loss of a step, made on the device: the same on every rank and after a resume.

    They are a function of a seed, the number of steps done and an index, all integers, so that a captured or compiled
    step draws new ones each time without a generator. The seed is drawn when the object is made, for a method so from
    the run's seed; it and the count are buffers, which checkpoints hold.

    Attributes:
        seed: two words of 32 bits `[2]`.
        step: of how many steps numbers were drawn.
    """

    seed: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**32, (2,)))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def normals(self, *shape: int) -> Float[Tensor, "*shape"]:
        """Return independent standard normal numbers in float32, by Box and Muller's rule; none exceeds 6 in size."""
        n = math.prod(shape)
        first, second = self._words((n + 1) // 2)
        uniform = (((first >> 8) + 0.5) * 2.0**-24).float()  # in (0, 1]
        angle = ((second >> 8) * (2 * math.pi * 2.0**-24)).float()
        pairs = torch.stack([angle.cos(), angle.sin()], dim=1) * (-2 * uniform.log()).sqrt()[:, None]
        return pairs.flatten()[:n].view(shape)

    def permutations(self, count: int, n: int) -> Int64[Tensor, "count n"]:
        """Return so many permutations of the numbers below n, each order as likely as any other."""
        return self._words(count * n)[0].view(count, n).argsort(dim=1, stable=True)

    def advance(self) -> None:
        """Let the next numbers be those of the next step."""
        self.step.add_(1)

    def _words(self, n: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
        index = torch.arange(n, device=self.step.device)
        return threefry(self.seed, torch.stack([self.step.expand(n), index]))


_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_WORD = 2**32 - 1


def threefry(key: Int64[Tensor, "2"], counter: Int64[Tensor, "2 n"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return two words of 32 bits for each counter: Threefry-2x32 of 20 rounds (Salmon et al. 2011), JAX's generator.

    It is a cipher: other counters under one key never give the same words. Words are held in 64 bits, where no
    operation overflows.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    one, two = (counter[0] + keys[0]) & _WORD, (counter[1] + keys[1]) & _WORD
    for turn in range(5):
        for by in _ROTATIONS[turn % 2]:
            one = (one + two) & _WORD
            two = ((two << by) & _WORD | (two >> (32 - by))) ^ one
        one = (one + keys[(turn + 1) % 3]) & _WORD
        two = (two + keys[(turn + 2) % 3] + turn + 1) & _WORD
    return one, two
