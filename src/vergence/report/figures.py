"""The picture of a comparison: runs beside each other and beside the untrained encoder, as SVG files."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence.files import durable
from vergence.files.results import read_result
from vergence.metrics.table import COSINES, RANKS
from vergence.report.content import Bars, Curve, Figure, Panel, Panels
from vergence.report.drawing import Drawing, draw, standalone

TITLES = ("Cosine of two views of a picture", "Cosine of different pictures", "Effective rank of projections")
ENDS = ((0.0, 1.02), (0.0, 1.02), (0.0, None))
PANELS = dict(zip((*COSINES.metrics, *RANKS.metrics), zip(TITLES, ENDS, strict=True), strict=True))
"""What is drawn over the epochs, by its name in the log: a title, and from where to where."""

PROBES = {"kNN": "knn", "linear": "linear"}


def draw_comparison(title: str, folders: Mapping[str, Path], untrained: Mapping[str, Any], path: Path) -> None:
    """Write runs side by side as an SVG file: cosines and effective rank over training, accuracies at the end.

    The same in one column, for a telephone, is written beside it, with `-narrow` behind its name.

    Args:
        title: what the picture asks or shows, in one line.
        folders: each run's folder by its name.
        untrained: accuracies of an encoder with random weights.
        path: the file to write.
    """
    runs = {name: read_result(folder) for name, folder in folders.items()}

    def curves(metric: str) -> Iterable[Curve]:
        for name, result in runs.items():
            epochs, values = result.course(metric)
            yield Curve(name=f"{name}: {result.verdict}", x=epochs, y=values)

    panels = tuple(
        Panel(title=what, x="epoch", y="", curves=tuple(curves(metric)), y_range=ends)
        for metric, (what, ends) in PANELS.items()
    )
    scores = {name: _accuracies(result.summary) for name, result in runs.items()}
    marks = dict.fromkeys(scores, _accuracies(untrained))
    bars = Bars("%", tuple(PROBES), scores, 1, marks, "untrained")
    caption = "Three curves of each run over training, and its accuracies beside those of random weights."
    figure = Figure("comparison", title, caption, Panels(panels))
    courses, accuracies = draw(figure), draw(replace(figure, drawing=bars))
    parts = (*courses.parts, *(replace(part, title="Test accuracy") for part in accuracies.parts))
    for file, across in ((path, 2), (path.with_stem(f"{path.stem}-narrow"), 1)):
        durable.write_file(file, standalone(figure, Drawing(parts, courses.keys + accuracies.keys, across)).encode())


def _accuracies(scores: Mapping[str, Any]) -> list[float | None]:
    return [scores[probe]["accuracy"] for probe in PROBES.values()]
