"""Which known name was meant by one that is unknown."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line: the known name that `name` is closest to, or all of them where none is close."""
    known = sorted(known)
    close = closest(name, known)
    return f"did you mean '{close}'?" if close else f"known: {', '.join(known)}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant, whatever its case; None where none is near.

    First by typing errors, up to a third of the letters and at most 3; then a name that begins so; then by what the two
    have in common.
    """
    text = _folded(name[:80])
    folded = {_folded(other): other for other in sorted(known, reverse=True)}
    most = min(3, max(1, len(text) // 3))
    near = [
        (errors, -difflib.SequenceMatcher(None, text, other).ratio(), other)
        for other in folded
        if abs(len(other) - len(text)) <= most and (errors := typing_errors(text, other)) <= most
    ]
    if near:
        return folded[min(near)[2]]
    longer = [other for other in sorted(folded) if len(text) > 1 and other.startswith(text)]
    similar = longer or difflib.get_close_matches(text, folded, n=1, cutoff=0.6)
    return folded[similar[0]] if similar else None


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")


def typing_errors(a: str, b: str) -> int:
    """How many letters must be put in, left out, changed, or swapped with the next, to make one word of the other."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        earlier, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            least = min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                least = min(least, earlier[j - 2] + 1)
            row.append(least)
    return row[-1]
