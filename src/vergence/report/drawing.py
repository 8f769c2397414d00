"""Panels, bars and circles to SVG.

A figure is drawn in parts, one for each set of axes, which a page lays out as its width allows; a file holds them side
by side. No two things are told apart by colour alone.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from vergence.report import cloud, svg
from vergence.report.content import Bars, Circle, Circles, Cloud, Curve, Figure, Panel, Panels, one_line
from vergence.report.tables import number, typeset

MOST_POINTS = 200
WIDTHS = {1: 760, 2: 440, 3: 320, 4: 260}
"""Width of a part by how many stand side by side."""
BARS = 500
"""Width of bars: what a telephone can still show whole."""
LETTER = 7.2
"""Room for a character; most fonts need less."""


@dataclass(frozen=True)
class Part:
    """One set of axes. `above` names its vertical axis; both are empty where the drawing says it itself."""

    root: Element
    title: str = ""
    above: str = ""

    @property
    def size(self) -> tuple[float, float]:
        return float(self.root.get("width", 0)), float(self.root.get("height", 0))


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a sample, 30 x 14, and its name."""

    sample: Element
    name: str


@dataclass(frozen=True)
class Drawing:
    """Parts, `across` in a row, and their legend."""

    parts: tuple[Part, ...]
    keys: tuple[Key, ...] = ()
    across: int = 1


def draw(figure: Figure) -> Drawing:
    """Draw a figure, in named colours, for `svg.written`."""
    match figure.drawing:
        case Panels() as panels:
            return _panels(panels, figure.title)
        case Bars() as bars:
            return Drawing((Part(_bars(bars, one_line(figure.title))),), _bar_keys(bars))
        case Cloud(groups):
            return Drawing((Part(cloud.points(groups, figure.title)),), tuple(Key(*one) for one in cloud.keys(groups)))
        case circles:
            return Drawing((Part(_circles(circles, one_line(figure.title))),), _circle_keys())


def standalone(figure: Figure, drawing: Drawing | None = None) -> str:
    """Return the whole figure as an SVG file, on a light ground; in it the figure's drawing, or another one."""
    drawing = drawing or draw(figure)
    gap, head = 28, 44 if any(part.title or part.above for part in drawing.parts) else 8
    rows = [drawing.parts[i : i + drawing.across] for i in range(0, len(drawing.parts), drawing.across)]
    entry = 44 + LETTER * max((len(key.name) for key in drawing.keys), default=0)
    width = gap + max([400.0, entry, *(sum(part.size[0] + gap for part in row) for row in rows)])
    columns = int((width - gap) // entry)
    y = 46.0 + math.ceil(len(drawing.keys) / columns) * 20
    height = y + sum(head + max(part.size[1] for part in row) + 12 for row in rows)
    root = svg.picture(width, height, one_line(figure.title))
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "font-family": "system-ui, sans-serif", "color": svg.INK}
    SubElement(root, "title").text = one_line(figure.title)
    SubElement(root, "desc").text = one_line(figure.caption)
    svg.bar(root, 0, 0, width, height, svg.GROUND)
    svg.text(root, gap, 30, one_line(figure.title), heading=16)
    for i, key in enumerate(drawing.keys):
        x, beside = gap + i % columns * entry, 46 + i // columns * 20
        _put(root, key.sample, x, beside)
        svg.text(root, x + 36, beside + 11, key.name)
    for row in rows:
        x = float(gap)
        for part in row:
            svg.text(root, x, y + 20, part.title, heading=13)
            svg.text(root, x, y + 37, part.above, colour=svg.MUTED)
            _put(root, part.root, x, y + head)
            x += part.size[0] + gap
        y += head + max(part.size[1] for part in row) + 12
    return svg.written(root, svg.IN_FILE) + "\n"


def _put(root: Element, inner: Element, x: float, y: float) -> None:
    """Put one picture into another, which has the name of both."""
    kept = {name: inner.get(name, "") for name in ("viewBox", "width", "height")}
    inner.attrib = kept | {"x": f"{x:g}", "y": f"{y:g}"}
    root.append(inner)


# --- panels -----------------------------------------------------------------------------------------------------------


def _panels(panels: Panels, title: str) -> Drawing:
    looks: dict[str, int] = {}
    for curve in (curve for panel in panels.panels for curve in panel.curves):
        looks.setdefault(curve.name, len(looks) if curve.colour is None else curve.colour)
    marked = len(set(looks.values())) > 1
    across = max(1, min(panels.across, len(panels.panels), max(WIDTHS)))
    parts = []
    for panel in panels.panels:
        label = one_line(f"{title}: {panel.title}; {panel.y} over {panel.x}")
        parts.append(
            Part(_panel(panel, looks, WIDTHS[across], marked, label), one_line(panel.title), one_line(panel.y))
        )
    first = {curve.name: curve for panel in reversed(panels.panels) for curve in reversed(panel.curves)}
    named = [Key(_sample(first[name], look, marked), one_line(name)) for name, look in looks.items()]
    return Drawing(tuple(parts), tuple(named) if len(named) > 1 else (), across)


class _Axes(NamedTuple):
    """A box in pixels, and what lies along its two sides, each from `low` to `high`."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: np.ndarray, y: np.ndarray) -> list[svg.Point]:
        """Return points in pixels from the corner of the box."""
        xs = (x - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        ys = (self.y[1] - y) / (self.y[1] - self.y[0]) * self.height
        return list(zip(xs.clip(-1e4, 1e4).tolist(), ys.clip(-1e4, 1e4).tolist(), strict=True))


def _panel(panel: Panel, looks: dict[str, int], width: float, marked: bool, label: str) -> Element:
    height = width if panel.equal else width * (0.4 if width > WIDTHS[2] else 0.62)
    curves = [_numbers(curve, panel.log, panel.log_x) for curve in panel.curves]
    spans = _spans(panel, curves)
    y_ticks = _ticks(*spans[1], height / 45, panel.log)
    left = 10 + LETTER * max((len(name) for _, name in y_ticks), default=0)
    axes = _Axes(left, 8, width - left - 12, height - 48, *spans)
    root = svg.picture(width, round(height), label)
    floor = axes.top + axes.height
    for place, name in y_ticks:
        ((_, y),) = axes.at(np.array([0.0]), np.array([place]))
        svg.line(root, [(left, axes.top + y), (left + axes.width, axes.top + y)], svg.GRID, width=1)
        svg.text(root, left - 6, axes.top + y + 4, name, colour=svg.MUTED, at="end")
    svg.line(root, [(left, floor), (left + axes.width, floor)], svg.MUTED, width=1)
    for place, name in _ticks(*spans[0], width / 75, panel.log_x):
        ((x, _),) = axes.at(np.array([place]), np.array([0.0]))
        svg.text(root, left + x, floor + 17, name, colour=svg.MUTED, at="middle")
    svg.text(root, left + axes.width / 2, floor + 34, one_line(panel.x), colour=svg.MUTED, at="middle")
    inside = svg.window(root, left, axes.top, axes.width, axes.height)
    for i, (curve, numbers) in enumerate(zip(panel.curves, curves, strict=True)):
        look = looks[curve.name] if curve.colour is None else curve.colour
        _curve(inside, axes, numbers, look, curve.dash, i / len(curves) if marked else None)
    if not any(np.isfinite(y).any() for _, y, *_ in curves):
        svg.text(inside, axes.width / 2, axes.height / 2, "no data", colour=svg.MUTED, at="middle")
    return root


def _curve(
    inside: Element, axes: _Axes, numbers: Sequence[np.ndarray], look: int, dash: str, shift: float | None
) -> None:
    """Draw a band and a line; with `shift`, in [0, 1), a few markers, each curve's at other places."""
    x, y, low, high = numbers
    colour = svg.SERIES[look % len(svg.SERIES)]
    kept = thinned(y)
    if len(low) == len(high) == len(x) > 0:
        known = kept[np.isfinite(low[kept]) & np.isfinite(high[kept]) & np.isfinite(x[kept])]
        svg.area(inside, axes.at(x[known], low[known]) + axes.at(x[known], high[known])[::-1], colour, 0.16)
    points = axes.at(x[kept], y[kept])
    svg.line(inside, points, colour, dash=dash)
    if shift is not None:
        every = 1 if len(points) < 9 else len(points) // 6 + 1
        for place in points[int(shift * every) :: every]:
            if all(map(math.isfinite, place)):
                svg.marker(inside, *place, look)


def _numbers(curve: Curve, log: bool, log_x: bool) -> tuple[np.ndarray, ...]:
    """Return x, y, low, high, NaN where one cannot be drawn; on a log scale their logarithms."""
    length = min(len(curve.x), len(curve.y))
    arrays = [np.asarray(v, dtype=float)[:length] for v in (curve.x, curve.y, curve.low, curve.high)]
    with np.errstate(all="ignore"):
        arrays = [np.where(np.abs(a) < 1e150, a, np.nan) for a in arrays]
        scales = (log_x, log, log, log)
        return tuple(np.log10(np.where(a > 0, a, np.nan)) if by else a for a, by in zip(arrays, scales, strict=True))


def _spans(panel: Panel, curves: Sequence[Sequence[np.ndarray]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return from where to where the two axes go."""
    x, y = _span([c[0] for c in curves], 0.02), _span([values for c in curves for values in c[1:]], 0.06)
    bounds = panel.y_range
    if panel.log:
        bounds = [math.log10(bound) if bound is not None and bound > 0 else None for bound in bounds]
    low, high = (found if given is None else given for given, found in zip(bounds, y, strict=True))
    y = (low, high if high > low else low + 1)
    if not panel.equal:
        return x, y
    half = max(high - low for low, high in (x, y)) / 2
    x, y = (((low + high) / 2 - half, (low + high) / 2 + half) for low, high in (x, y))
    return x, y


def thinned(y: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return the places of at most `most` values that show the course of all: the lowest and highest of each stretch.

    A gap (a value that is not finite) stays one.
    """
    if len(y) <= most:
        return np.arange(len(y))
    kept = {0, len(y) - 1}
    for stretch in np.array_split(np.arange(1, len(y) - 1), (most - 2) // (2 if np.isfinite(y).all() else 3)):
        known = stretch[np.isfinite(y[stretch])]
        kept |= {*known[[np.argmin(y[known]), np.argmax(y[known])]]} if len(known) else set()
        kept |= set(stretch[~np.isfinite(y[stretch])][:1])
    return np.array(sorted(int(place) for place in kept))


def _span(arrays: Iterable[np.ndarray], margin: float) -> tuple[float, float]:
    values = np.concatenate([np.empty(0), *arrays])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    flat = high - low < max(1e-9 * size, 1e-100)  # or so nearly that ticks could not be told apart
    room = max(0.1 * size, 1e-3) if flat else margin * (high - low)
    return low - room, high + room


def _ticks(low: float, high: float, most: float, log: bool = False) -> list[tuple[float, str]]:
    """Return round numbers in [low, high], about `most`, and how they read; with `log` the ends are powers of ten."""
    if log:
        decades = list(range(math.ceil(low), math.floor(high) + 1))
        if len(decades) > 1:
            return [(float(decade), _power(decade)) for decade in decades[:: math.ceil(len(decades) / max(1, most))]]
        for leads in ((1, 2, 5), range(1, 10)):
            near = [m * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for m in leads]
            if len(inside := [value for value in near if low <= math.log10(value) <= high]) > 1:
                return [(math.log10(value), f"{value:.3g}") for value in inside]
        linear = _ticks(10.0**low, 10.0**high, most)  # less than between two round numbers
        return [(math.log10(place), said) for place, said in linear if place > 0]
    rough = (high - low) / max(2, most)
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= rough)
    places = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)][:50]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    long = digits > 4 or max(map(abs, places), default=0) >= 1e6
    return [(place, typeset(f"{place:.3g}" if long else number(place, digits))) for place in places]


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -3 <= decade <= 4 else "10" + str(decade).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _sample(curve: Curve, look: int, marked: bool) -> Element:
    root = svg.picture(30, 14)
    svg.line(root, [(1, 7), (29, 7)], svg.SERIES[look % len(svg.SERIES)], dash=curve.dash)
    if marked:
        svg.marker(root, 15, 7, look)
    return root


# --- bars -------------------------------------------------------------------------------------------------------------


def _bars(bars: Bars, label: str) -> Element:
    """Draw lying bars, each with its name before it and its value after it: nothing is left to a colour or a legend."""
    several = len(bars.series) > 1
    names = [_short(name, 26) for name in (bars.series if several else bars.groups)]
    left = 14 + LETTER * max(map(len, names), default=0)
    across, head = BARS - left - (150 if bars.marks else 60), 24 if several else 0
    drawn = [*bars.series.values(), *bars.marks.values()]
    known = [v for values in drawn for v in values if v is not None and math.isfinite(v)]
    low, high = min([0.0, *known]), max([0.0, *known])
    high = high if high > low else low + 1
    tall = head + 20 * len(bars.series)
    down = len(bars.groups) * (tall + (8 if several else 0))
    root = svg.picture(BARS, down + 42, label)

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * across

    ticks = _ticks(low, high, across / 70)
    for value, name in ticks:
        svg.text(root, place(value), down + 14, name, colour=svg.MUTED, at="middle")
    svg.text(root, left + across / 2, down + 32, one_line(bars.y), colour=svg.MUTED, at="middle")
    for i, group in enumerate(bars.groups):
        y = i * (tall + (8 if several else 0)) + head
        for value, _ in ticks:
            svg.line(root, [(place(value), y), (place(value), y + tall - head)], svg.GRID, width=1)
        if several:
            svg.text(root, 0, y - 6, _short(group, 60), heading=12)
        for j, (name, values) in enumerate(bars.series.items()):
            value, middle = values[i] if i < len(values) else None, y + 20 * j + 10
            said, end = "—" if value is None else typeset(number(value, bars.digits)), place(0)
            if value is not None and math.isfinite(value):
                start, end = sorted((place(0), place(value)))
                svg.bar(root, start, middle - 7, end - start, 14, svg.SERIES[j % len(svg.SERIES)])
            of_series = bars.marks.get(name, ())
            if i < len(of_series) and (mark := of_series[i]) is not None and math.isfinite(mark):
                svg.bar(
                    root, place(mark) - 2.5, middle - 9, 5, 18, svg.GROUND
                )  # a mark is seen on its bar and beside it
                svg.bar(root, place(mark) - 1.25, middle - 9, 2.5, 18, svg.INK)
                said, end = f"{said}, {bars.mark} {typeset(number(mark, bars.digits))}", max(end, place(mark))
            svg.text(root, left - 6, middle + 4, _short(name if several else group, 26), colour=svg.MUTED, at="end")
            svg.text(root, end + 5, middle + 4, said)
        svg.line(root, [(place(0), y), (place(0), y + tall - head)], svg.MUTED, width=1)
    return root


def _bar_keys(bars: Bars) -> tuple[Key, ...]:
    if not bars.marks:
        return ()
    sample = svg.picture(30, 14)
    svg.bar(sample, 13.75, 0, 2.5, 14, svg.INK)
    return (Key(sample, one_line(bars.mark)),)


def _short(name: str, most: int) -> str:
    name = one_line(name)
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


# --- circles ----------------------------------------------------------------------------------------------------------

RING = 0.035
"""Half the width of a ring with all directions alike, in radii. It grows with the square root of the share, so that
a point, where one arc has everything, still fits beside it."""
INSIDE, OUTSIDE = 0.62, 1.38
"""Radii at which the two views of a picture stand."""


def _circles(circles: Circles, label: str) -> Element:
    names = [textwrap.wrap(one_line(name), 18)[:3] for name in circles.rows]
    heads = [textwrap.wrap(one_line(name), 16)[:3] for name in circles.columns]
    left = 16 + LETTER * max((len(line) for lines in names for line in lines), default=0)
    cell = min(190.0, max(110.0, (WIDTHS[1] - left) / max(1, len(heads))))
    top = 8 + 15 * max(map(len, heads), default=0)
    root = svg.picture(round(left + cell * len(heads)), round(top + cell * len(names)), label)
    for i, lines in enumerate(names):
        for k, words in enumerate(lines):
            svg.text(root, 0, top + cell * (i + 0.5) + 4 + 15 * (k - (len(lines) - 1) / 2), words)
    for j, lines in enumerate(heads):
        for k, words in enumerate(lines):
            svg.text(root, left + cell * (j + 0.5), top - 4 - 15 * (len(lines) - 1 - k), words, at="middle")
    for (row, column), circle in circles.circles.items():
        if row in circles.rows and column in circles.columns:
            middle = cell * (circles.columns.index(column) + 0.5), cell * (circles.rows.index(row) + 0.5)
            _circle(root, circle, left + middle[0], top + middle[1], cell / 3.1)
    return root


def _circle(root: Element, circle: Circle, x: float, y: float, radius: float) -> None:
    def at(r: float, angle: float) -> svg.Point:
        return x + radius * r * math.cos(angle), y - radius * r * math.sin(angle)

    svg.line(root, [at(1, 2 * math.pi * i / 90) for i in range(91)], svg.MUTED, width=0.8)
    count = len(circle.density)
    halves = [RING * math.sqrt(min(1.0, share) * count) if share > 0 else 0.0 for share in circle.density]  # nan: none
    arcs = [(half, 2 * math.pi * (i + k) / count) for i, half in enumerate(halves) for k in (0, 1)]
    if arcs:
        ring = [at(1 + half, angle) for half, angle in arcs]
        svg.area(root, ring + [at(1 - half, angle) for half, angle in reversed(arcs)], svg.SERIES[0])
    for i, pair in enumerate(pair for pair in circle.pairs if all(map(math.isfinite, pair))):
        colour = svg.SERIES[1 + i % (len(svg.SERIES) - 1)]
        ends = at(INSIDE, pair[0]), at(OUTSIDE, pair[1])
        svg.line(root, ends, colour, width=1)
        svg.dot(root, *ends[0], colour)
        svg.dot(root, *ends[1], colour, hollow=True)


def _circle_keys() -> tuple[Key, ...]:
    ring, pair = svg.picture(30, 14), svg.picture(30, 14)
    svg.area(ring, [(2, 7), (28, 3), (28, 11)], svg.SERIES[0])
    svg.line(pair, [(6, 7), (22, 7)], svg.SERIES[1], width=1)
    svg.dot(pair, 5, 7, svg.SERIES[1])
    svg.dot(pair, 24, 7, svg.SERIES[1], hollow=True)
    share = "width of the ring: square root of the share of pictures in that direction"
    return Key(ring, share), Key(pair, "the two views of a picture, the first inside and the second outside")
