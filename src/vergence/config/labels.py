"""How many labelled pictures a classifier is given, as it is typed: a share of each class, or a number of its pictures.

`10%` is a tenth of the training pictures of each class; `10` is ten pictures of each class.
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """A number of pictures of each class: a share of them in (0, 1], or so many; the other one is None."""

    share: float | None = None
    each: int | None = None

    def __str__(self) -> str:
        return f"{self.each}" if self.share is None else f"{100 * self.share:g}%"

    @property
    def words(self) -> str:
        """Such as "10 a class" and "10%"."""
        return f"{self} a class" if self.share is None else str(self)

    def count(self, there: int) -> int:
        """Return how many of a class of `there` pictures are meant: 0 where the share is less than one of them."""
        if self.share is None:
            return self.each or 0
        return 0 if self.share * there < 1 - 1e-9 else round(self.share * there)


def amount(text: str) -> Amount:
    """Return the amount that a text such as "10%" or "10" means.

    Raises:
        ValueError: it means none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    number = float(found[1]) if found else math.nan
    if found and found[2] and 0 < number <= 100:
        return Amount(share=number / 100)
    if found and not found[2] and number >= 1 and number.is_integer():
        return Amount(each=int(number))
    raise ValueError(f"must be a share of each class such as 10%, or a number of its pictures such as 10, not {text!r}")


class IsAmount:
    """Marks a text that must mean an `Amount`."""

    def problem(self, value: str) -> str | None:
        try:
            amount(value)
        except ValueError as error:
            return str(error)
        return None
