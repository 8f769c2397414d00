"""Points of a plane to SVG, each group with a shape and a colour of its own."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from vergence.report import svg
from vergence.report.content import one_line

WIDTH, _EDGE = 640, 10


def points(groups: Mapping[str, Sequence[tuple[float, float]]], title: str) -> Element:
    """Draw groups of points, both axes in one scale; points that are not finite are left out."""
    clouds = [np.asarray([*some], dtype=float).reshape(-1, 2) for some in groups.values()]
    clouds = [cloud[np.isfinite(cloud).all(1)] for cloud in clouds]
    known = np.concatenate([np.zeros((0, 2)), *clouds])
    low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.ones(2))
    wide, tall = np.maximum(high - low, 1e-9 + 0.2 * float((high - low).max(initial=0)))
    scale = (WIDTH - 2 * _EDGE) / wide
    scale, height = scale * min(1.0, 1.2 * wide / tall), min(tall * scale, 1.2 * (WIDTH - 2 * _EDGE))
    left = (WIDTH - 2 * _EDGE - (high - low)[0] * scale) / 2
    above = (height - (high - low)[1] * scale) / 2
    root = svg.picture(WIDTH, round(height + 2 * _EDGE), one_line(title))
    for look, cloud in enumerate(clouds):
        for x, y in cloud.tolist():
            down = (high[1] - y) * scale
            svg.marker(root, _EDGE + left + (x - low[0]) * scale, _EDGE + above + down, look)
    return root


def keys(groups: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[Element, str]]:
    """Return a sample of each group's shape, 30 x 14, and its name."""
    found = []
    for look, name in enumerate(groups):
        sample = svg.picture(30, 14)
        svg.marker(sample, 15, 7, look)
        found.append((sample, one_line(name)))
    return found
