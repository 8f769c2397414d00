"""What a page holds, as data: tables, figures, findings. How they look is decided where they are drawn."""

import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vergence.files.results import Results

# --- text -------------------------------------------------------------------------------------------------------------

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff")
"""Marks that reverse what stands beside them, and two that no document may hold."""


def one_line(text: str) -> str:
    """Return the text on one line, with a visible mark for each character that hides, or turns what is beside it."""
    return "".join(
        "\ufffd" if c in _TURNING or unicodedata.category(c) in ("Cc", "Cs") else c for c in " ".join(text.split())
    )


def identifier(text: str) -> str:
    """Return a name for files and links: small Latin letters, digits and dashes, at least one."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "x"


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number measured n times.

    Attributes:
        mean: of the n; None where nothing was measured.
        spread: their sample standard deviation; None for fewer than two.
        n: how many.
        published: what the document reports in this place, as it writes it; empty where it reports nothing.
        interval: of an accuracy, the ends of its 95% interval.
        balanced: of an accuracy, its mean over classes.
        baselines: what an accuracy must beat, by name.
    """

    mean: float | None
    spread: float | None = None
    n: int = 0
    published: str = ""
    interval: tuple[float, float] | None = None
    balanced: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def over(cls, values: Sequence[float | None], published: str = "") -> "Value":
        """Return mean and spread of the values; those that are None were not measured and do not count.

        The mean is NaN where one of them is not finite.
        """
        known = [value for value in values if value is not None]
        if not all(map(math.isfinite, known)):
            return cls(mean=math.nan, n=len(known), published=published)
        return cls(
            mean=statistics.fmean(known) if known else None,
            spread=statistics.stdev(known) if len(known) > 1 else None,
            n=len(known),
            published=published,
        )

    @classmethod
    def deviation(cls, values: Sequence[float]) -> tuple[float, float] | None:
        """Return the ends of a band of one standard deviation about the mean; None for fewer than two values."""
        value = cls.over(values)
        if value.mean is None or value.spread is None:
            return None
        return value.mean - value.spread, value.mean + value.spread

    def is_below(self, baseline: str) -> bool:
        """Return whether the mean is less than a baseline."""
        return self.mean is not None and self.mean < self.baselines.get(baseline, self.mean)


@dataclass(frozen=True)
class Column:
    """A column: its heading, the digits shown after the point, and what it means in one line."""

    name: str
    digits: int = 2
    about: str = ""


@dataclass(frozen=True)
class Row:
    """A row: its name, a cell by each column's name, and the keys of the runs it was made from."""

    name: str
    cells: Mapping[str, Value | str]
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table. `slug` names its file."""

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


# --- figures ----------------------------------------------------------------------------------------------------------


Dash = Literal["solid", "dashed", "dotted", "dashdot"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (x, y) joined by a line; `low` and `high` bound a band around it.

    Attributes:
        colour: number of its colour; curves of one number look alike in all panels of a figure. None: by position.
        dash: a second way, besides colour, to tell curves apart.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    colour: int | None = None
    dash: Dash = "solid"

    @classmethod
    def through(cls, name: str, points: Sequence[tuple[float, float]], colour: int, dash: Dash = "solid") -> "Curve":
        """Return the curve through these points (x, y)."""
        return cls(name=name, x=[x for x, _ in points], y=[y for _, y in points], colour=colour, dash=dash)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes. `log`, `log_x`: y, x by the logarithm; `equal`: both in one scale, as for points of a circle."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    y_range: tuple[float | None, float | None] = (None, None)
    log: bool = False
    log_x: bool = False
    equal: bool = False


@dataclass(frozen=True)
class Panels:
    """Axes side by side, `across` in a row, with one legend for all curves of the same name."""

    panels: tuple[Panel, ...]
    across: int = 2


@dataclass(frozen=True)
class Bars:
    """Groups of bars: one group for each name in `groups`, in it one bar for each series. None: no bar.

    Attributes:
        marks: by the name of a series, what its bars are read beside, each drawn as a tick. None: no tick.
        mark: what the ticks are.
    """

    y: str
    groups: tuple[str, ...]
    series: Mapping[str, Sequence[float | None]]
    digits: int = 2
    marks: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    mark: str = ""


@dataclass(frozen=True)
class Circle:
    """Directions of points projected to a plane (the paper's Figure 3).

    Attributes:
        density: share of the points in each of equal arcs, counter-clockwise, the first about the direction (1, 0).
        pairs: for some pictures, the directions of their two views, in radians.
    """

    density: Sequence[float]
    pairs: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Circles:
    """Circles in rows and columns; a place without a circle stays empty."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    circles: Mapping[tuple[str, str], Circle]


@dataclass(frozen=True)
class Cloud:
    """Points (x, y) of a plane in groups, by their names. Its axes have one scale and no meaning of their own."""

    groups: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Figure:
    """A figure. `slug` names its file; the caption says what is seen, for those who cannot see it too."""

    slug: str
    title: str
    caption: str
    drawing: Panels | Bars | Circles | Cloud


# --- findings ---------------------------------------------------------------------------------------------------------

Outcome = Literal["holds", "does not hold", "not decided"]


@dataclass(frozen=True)
class Finding:
    """A claim of a document, judged on our runs.

    Attributes:
        slug: its name.
        claim: what the document says.
        source: where it says so.
        outcome: whether our runs agree.
        numbers: what was compared, in one sentence with the numbers and n.
        rule: how the outcome follows from the numbers.
    """

    slug: str
    claim: str
    source: str
    outcome: Outcome
    numbers: str
    rule: str


# --- pictures and facts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, as a WebP file, and its name."""

    webp: bytes
    name: str


@dataclass(frozen=True)
class Gallery:
    """Small pictures in groups, each with its heading, which may be empty."""

    slug: str
    caption: str
    groups: tuple[tuple[str, tuple[Thumbnail, ...]], ...]


@dataclass(frozen=True)
class Facts:
    """Labels and what stands beside them."""

    slug: str
    rows: tuple[tuple[str, str], ...]


# --- the page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A verdict at the end of training.

    Attributes:
        of: what was judged, "projections" or "representation".
        state: the word for it.
        rule: the rule that fired.
        numbers: what it was decided on, in words.
        advice: what to try; empty where nothing is said.
        who: which runs of the row it holds for; empty where it is all of them.
    """

    of: str
    state: str
    rule: str
    numbers: str = ""
    advice: str = ""
    who: str = ""


@dataclass(frozen=True)
class Card:
    """Verdicts on one thing, what must be known of it, and its accuracies."""

    slug: str
    name: str
    about: str
    looks: tuple[Look, ...]
    warnings: tuple[str, ...] = ()
    accuracies: tuple[tuple[str, Value], ...] = ()


Item = Table | Figure | Finding | Gallery | Facts | Card


@dataclass(frozen=True)
class Section:
    """A part of a page: paragraphs, then items in order."""

    title: str
    text: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    slug: str = field(default="", kw_only=True)


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that a page holds.

    Attributes:
        title: its heading.
        lead: paragraphs that say what was done.
        deviations: what differs from the document.
        sections: its parts, in order. A slug names one table or figure, and one finding.
        runs: finished runs by the name of their row; each row has a section at the end.
        base: the row of `runs` that others are compared with.
        failures: what went wrong, by the name of the run.
        about: the pictures and the length of each row of `runs`, in words; where they are given, a card for each row,
            with its verdicts, warnings and accuracies, comes first.
        alerts: what must be known of the rows together, in sentences.
        views: a picture of the views, as PNG.
        command: what makes the page.

    Raises:
        ValueError: a slug cannot name a file, or stands there twice.
    """

    title: str
    lead: tuple[str, ...]
    deviations: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    runs: Results = field(default_factory=dict)
    base: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    views: bytes | None = None
    command: str = ""

    def __post_init__(self) -> None:
        items = [item for section in self.sections for item in section.items]
        for (_, slug), count in Counter((isinstance(item, Finding), item.slug) for item in items).items():
            if count > 1 or identifier(slug) != slug or slug == "results":
                raise ValueError(
                    f"slug {slug!r} must be letters, digits and dashes, not 'results', and stand there once"
                )
