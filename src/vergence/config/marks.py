"""What may stand in the annotation of a configuration's field beside its type and its help.

`Annotated[int, AtLeast(1), "images in a step"]`: bounds say which values may be, the other marks how the field is
written in files, in keys and on the command line.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT = object()
"""What stands for the default of a field."""


@dataclass(frozen=True)
class AtLeast:
    """The value must be `low` or more."""

    low: float

    def problem(self, value: float) -> str | None:
        return None if value >= self.low else f"must be at least {self.low}, not {value}"


@dataclass(frozen=True)
class Above:
    """The value must be more than `low`."""

    low: float

    def problem(self, value: float) -> str | None:
        return None if value > self.low else f"must be above {self.low}, not {value}"


@dataclass(frozen=True)
class Below:
    """The value must be less than `high`."""

    high: float

    def problem(self, value: float) -> str | None:
        return None if value < self.high else f"must be below {self.high}, not {value}"


@dataclass(frozen=True)
class Between:
    """The value must lie in [low, high]."""

    low: float
    high: float

    def problem(self, value: float) -> str | None:
        inside = self.low <= value <= self.high
        return None if inside else f"must lie between {self.low} and {self.high}, not {value}"


@dataclass(frozen=True)
class WordOrNumbers:
    """The value must be one of some words, or as many numbers as `counts` has, with commas between.

    Attributes:
        words: that it may be.
        counts: how many numbers there may be.
        whole: whether they are whole numbers from 1 on.
        rising: whether each must be above the one before.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    whole: bool = False
    rising: bool = False

    def problem(self, value: str) -> str | None:
        if value in self.words:
            return None
        try:
            numbers = self.numbers(value)
        except ValueError:
            numbers = ()
        good = len(numbers) in self.counts and all(math.isfinite(number) for number in numbers)
        if good and (not self.whole or min(numbers) >= 1) and (not self.rising or [*numbers] == sorted({*numbers})):
            return None
        kind = "whole numbers from 1 on" if self.whole else "rising numbers" if self.rising else "numbers"
        counts = " or ".join(map(str, self.counts))
        return f"must be {', '.join(self.words)}, or {counts} {kind} with commas between, not {value!r}"

    def numbers(self, value: str) -> tuple[float, ...]:
        """Return the numbers that a value holds; none for a word."""
        kind = int if self.whole else float
        return () if value in self.words else tuple(kind(part) for part in value.split(","))


@dataclass(frozen=True)
class Metavar:
    """What stands for the value of an option in the usage of a command, such as STEPS."""

    name: str


@dataclass(frozen=True, eq=False)
class Named:
    """Values of a field that have a name of their own on the command line, and the fields within that they decide."""

    values: Mapping[str, Any]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Added:
    """The field came after the first release: at the value that runs had before, it is left out of a key.

    Attributes:
        before: that value, and what a file means that does not state the field; `DEFAULT`: the field's default.
    """

    before: Any = DEFAULT


class Place:
    """The field says where something lies, not what it is: it is left out of a configuration's key."""


@dataclass(frozen=True)
class Stored:
    """The field was renamed: files and keys keep its former name, which may also be read and typed as an option."""

    name: str
