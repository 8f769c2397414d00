"""Pictures of lines and words as SVG: a few shapes, in the colours of the page that holds them, in its font.

Written directly and not by a plotting library: a page has hundreds of small axes, and their text is to stay text of the
page. There are no ids, so that pictures on one page cannot clash. Units are pixels; y points down.
"""

import copy
import math
import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

INK, MUTED, GRID, GROUND = "ink", "muted", "grid", "ground"
SERIES = tuple(f"series-{i}" for i in range(6))
"""Names of colours. `written` puts in what they are."""

ON_PAGE = {INK: "currentColor"} | {name: f"var(--{name})" for name in (MUTED, GRID, GROUND, *SERIES)}
IN_FILE = {INK: "#1a1d21", MUTED: "#5a626b", GRID: "#e3e6ea", GROUND: "#ffffff"} | dict(
    zip(SERIES, ("#0072B2", "#D55E00", "#00815E", "#B25A8C", "#A87400", "#2F86BD"), strict=True)
)
"""Okabe and Ito's colours, told apart with any colour vision, as dark as lines on white must be (3 to 1); without black
and yellow, which need one background."""

DASHES = {"solid": "", "dashed": "6 3", "dotted": "1.5 2.5", "dashdot": "7 2.5 1.5 2.5"}
MARKERS = (
    "M3.2 0A3.2 3.2 0 1 1-3.2 0A3.2 3.2 0 1 1 3.2 0Z",
    "M-2.9-2.9H2.9V2.9H-2.9Z",
    "M0-3.4L3.4 2.8H-3.4Z",
    "M0-3.9L3.9 0L0 3.9L-3.9 0Z",
    "M0 3.4L3.4-2.8H-3.4Z",
    "M-3-3L3 3M-3 3L3-3",
    "M0-3.6V3.6M-3.6 0H3.6",
)
"""A shape for each colour, and one more, so that the two repeat out of step; the last two are drawn, not filled."""

Point = tuple[float, float]


def picture(width: float, height: float, label: str = "") -> Element:
    """Return an empty picture; the label says what is seen, without one it is decoration."""
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return Element("svg", size | ({"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}))


def window(parent: Element, x: float, y: float, width: float, height: float) -> Element:
    """Return a part of the picture with coordinates of its own, beyond whose edges nothing shows."""
    return SubElement(parent, "svg", {k: f"{v:g}" for k, v in zip("xy", (x, y), strict=True)} | _size(width, height))


def line(parent: Element, points: Iterable[Point], colour: str, *, width: float = 1.8, dash: str = "solid") -> None:
    """Join the points; one that is not finite is a gap, one between two gaps a dot."""
    style = {"fill": "none", "stroke": colour, "stroke-width": f"{width:g}", "stroke-linejoin": "round"}
    style |= {"stroke-dasharray": DASHES[dash]} if DASHES[dash] else {"stroke-linecap": "round"}
    SubElement(parent, "path", {"d": path(points)} | style)


def area(parent: Element, points: Iterable[Point], colour: str, opacity: float = 1) -> None:
    """Fill what the points enclose."""
    SubElement(
        parent, "path", {"d": f"{path(points)}z", "fill": colour} | ({"opacity": f"{opacity:g}"} if opacity < 1 else {})
    )


def bar(parent: Element, x: float, y: float, width: float, height: float, colour: str) -> None:
    """Fill a rectangle."""
    SubElement(parent, "rect", {"x": f"{x:.4g}", "y": f"{y:.4g}", "fill": colour} | _size(width, height))


def marker(parent: Element, x: float, y: float, look: int) -> None:
    """Draw the shape of a look, in its colour."""
    number, colour = look % len(MARKERS), SERIES[look % len(SERIES)]
    paint = {"fill": colour} if number < 5 else {"fill": "none", "stroke": colour, "stroke-width": "1.6"}
    SubElement(parent, "path", {"d": MARKERS[number], "transform": f"translate({x:.4g} {y:.4g})"} | paint)


def dot(parent: Element, x: float, y: float, colour: str, *, hollow: bool = False) -> None:
    """Draw a small disc or ring."""
    paint = {"fill": GROUND, "stroke": colour, "stroke-width": "1.3"} if hollow else {"fill": colour}
    SubElement(parent, "circle", {"cx": f"{x:.4g}", "cy": f"{y:.4g}", "r": "2" if hollow else "2.4"} | paint)


def text(
    parent: Element, x: float, y: float, words: str, *, colour: str = INK, at: str = "start", heading: int = 0
) -> None:
    """Write words on the baseline y, beginning, centred ("middle") or ending ("end") at x; a heading is bold."""
    style = {"font-size": str(heading or 12), "fill": colour} | ({"text-anchor": at} if at != "start" else {})
    style |= {"font-weight": "600"} if heading else {}
    SubElement(parent, "text", {"x": f"{x:.4g}", "y": f"{y:.4g}"} | style).text = words


def path(points: Iterable[Point]) -> str:
    """Return straight lines from point to point, to a tenth of a pixel, as steps: they take half the room."""
    steps: list[str] = []
    here: tuple[int, int] | None = None
    for point in points:
        if not all(map(math.isfinite, point)):
            here = None
            continue
        there = round(10 * point[0]), round(10 * point[1])
        step = there if here is None else (there[0] - here[0], there[1] - here[1])
        # a step of nothing after each start, so that a point on its own is a dot
        steps.append(f"M{step[0] / 10:g} {step[1] / 10:g}h0" if here is None else f"l{step[0] / 10:g} {step[1] / 10:g}")
        here = there
    return re.sub(r"(?<!\d)0\.", ".", "".join(steps).replace(" -", "-"))


def _size(width: float, height: float) -> dict[str, str]:
    return {"width": f"{width:.4g}", "height": f"{height:.4g}"}


def written(root: Element, colours: Mapping[str, str]) -> str:
    """Return the text of a picture, in `ON_PAGE` or `IN_FILE` colours."""
    root = copy.deepcopy(root)
    for element in root.iter():
        for name in ("fill", "stroke", "color"):
            if (value := element.get(name)) is not None:
                element.set(name, colours.get(value, value))
    return ElementTree.tostring(root, encoding="unicode")
