"""What a command's own options must satisfy; the answer is one line that names the option."""

from collections.abc import Sequence

from vergence.config import suggest
from vergence.config.schema import said
from vergence.errors import InputError


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Raise `InputError` where the value is none of the choices."""
    if value not in choices:
        raise InputError(f"{option}: unknown choice {said(value)}; {suggest.choice(value, choices)}")


def names(option: str, text: str, choices: Sequence[str], what: str) -> tuple[str, ...]:
    """The names of a list such as "knn,linear", in its order; `what` each of them is, for the error."""
    named = tuple(name for name in text.split(",") if name)
    for name in named:
        if name not in choices:
            raise InputError(f"{option}: unknown {what} {said(name)}; {suggest.choice(name, choices)}")
    return named


def at_least(option: str, value: int, low: int) -> None:
    """Raise `InputError` where the value is below the least."""
    if value < low:
        raise InputError(f"{option}: must be at least {low}, not {value}")


def at_most(option: str, value: int, high: int) -> None:
    """Raise `InputError` where the value is above the most."""
    if value > high:
        raise InputError(f"{option}: must be at most {high:,}, not {said(value)}")
