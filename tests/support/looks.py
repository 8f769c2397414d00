"""Figures with everything that a drawing may have to show, and all that is said of runs; how they look is kept.

python tests/support/looks.py    # keeps how they look now; look at what has changed
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

from pages import COLLAPSED, ENVIRONMENT, RUN, change, folder_of, lines
from repository import GOLDEN
from vergence.report import drawing, rows, tables
from vergence.report.content import Bars, Circle, Circles, Curve, Figure, Panel, Panels
from vergence.report.page import runs_page, to_markdown

LOOKS = GOLDEN / "figures"


def looks():
    """Figures with everything that a drawing may have to show."""
    x = [i / 4 for i in range(20)]
    rising, falling = [v * v for v in x], [math.exp(-2 * v) for v in x]
    gap = [math.nan if i in (3, 7, 8) else v - 2 for i, v in enumerate(x)]
    band = Curve(name="band", x=x, y=rising, low=[v - 1 for v in rising], high=[v + 2 for v in rising], colour=1)
    long = [math.sin(i / 9) + (i % 37 == 0) for i in range(500)]
    angles = [2 * math.pi * i / 12 for i in range(13)]
    ring = Curve(name="ring", x=[math.cos(a) for a in angles], y=[math.sin(a) for a in angles], dash="dotted")

    def panel(*curves, y="y", **options):
        return Panel(title="a panel", x="epoch", y=y, curves=curves, **options)

    def curve(y, name="one", **options):
        return Curve(name=name, x=range(len(y)), y=y, **options)

    return {
        "panels": Panels(
            (
                panel(band, Curve(name="gap", x=x, y=gap, dash="dashed"), y_range=(0.0, None)),
                panel(Curve(name="falling", x=x, y=falling, dash="dashdot"), log=True),
                panel(ring, equal=True),
            ),
            2,
        ),
        "scales": Panels(
            tuple(
                panel(curve(values), log=log)
                for values, log in (
                    ([3.0, 3.5, 4.5], True),
                    ([3.30, 3.31, 3.32], True),
                    ([1e-7, 1.0, 1e9], True),
                    ([2e6, 9e6, 4e6], False),
                    ([1e-6, 3e-6, 2e-6], False),
                    ([-7.0, -7.0, -7.0], False),
                    ([math.nan], False),
                    ([0.0, -1.0], True),
                )
            ),
            4,
        ),
        "many": Panels((panel(*(curve([0.0, i], f"curve {i}") for i in range(9))),)),
        "one": Panels((panel(curve(long), y_range=(-0.5, 1.5)),)),
        "bars": Bars("percent", ("a", "a group " * 12), {"one": (1.0, -2.5, 3.0), "two": (None, math.nan)}, 1),
        "marked": Bars(
            "percent",
            ("a", "b"),
            {"one": (60.0, 46.2), "two": (None, 80.0)},
            1,
            {"one": (50.0, 56.9), "two": (12.0, None)},
            "untrained",
        ),
        "bar": Bars("percent", ("a name that is far too long to stand there", "b"), {"one": (60.0, 0.25)}),
        "untitled": Panels((Panel(title="", x="epoch", y="no title", curves=(curve([0.0, 1.0]),)),)),
        "nameless": Panels((Panel(title="no name of the axis", x="epoch", y="", curves=(curve([0.0, 1.0]),)),)),
        "nothing": Circles((), (), {}),
        "circles": Circles(
            ("a row whose name takes more than one line", "b"),
            ("x", "a column of several words, too"),
            {
                ("b", "x"): Circle([0.4, 0.1, 0.0, math.nan, 0.5], [(0.1, 0.3), (math.nan, 1.0), (2.0, 2.5)]),
                ("a row whose name takes more than one line", "x"): Circle([1.0, 0.0], []),
            },
        ),
    }


def drawn(name):
    text = drawing.standalone(Figure(name, f"Figure {name}", "A caption.", looks()[name]))
    return text.replace("><", ">\n<")  # a line for each shape, so that a difference can be read


def told(root):
    """All that is said of four runs, two of which differ in the seed and one of which is not finished, as text."""
    short = [lines(seed=seed, epochs=1.5) for seed in range(2)]
    folders = [
        folder_of(root / "a", replace(RUN, seed=0), short[0]),
        folder_of(root / "b", replace(RUN, seed=1), short[1][:-1]),
        folder_of(root / "c", COLLAPSED, lines(True, epochs=1.5)),
        folder_of(root / "d", replace(COLLAPSED, seed=1), lines(True, 1, 0.75), final=False),
    ]
    change(folders[1], environment=ENVIRONMENT | {"threads": 4}, seconds=90.0)
    page, problems = runs_page(folders)
    assert not problems
    parts = [to_markdown(page)]
    parts += [tables.figure_csv(item) for item in page.sections[0].items if isinstance(item, Figure)]
    base = page.base, page.runs[page.base][0]
    for name, results in page.runs.items():
        about = rows.details(name, "run", results, base)
        parts += [tables.markdown(about.scores), *map(tables.figure_csv, about.figures)]
        parts += [f"{field}: {getattr(about, field)}\n" for field in ("states", "score", "differences", "protocols")]
        parts += [f"{story}\n" for story in about.stories]
    parts.append(f"{rows.environments(page.runs)} {rows.minutes(page.runs)}\n")
    return "\n".join(parts).replace(tables.escaped(str(root)), "ROOT")


if __name__ == "__main__":
    LOOKS.mkdir(exist_ok=True)
    for name in looks():
        (LOOKS / f"{name}.svg").write_text(drawn(name))
    with tempfile.TemporaryDirectory() as folder:
        (GOLDEN / "runs.txt").write_text(told(Path(folder)))
