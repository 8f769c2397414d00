"""An experiment of one's own: does the moving average matter on digits? Runs, a table, a figure, a claim, one page.

python examples/experiment.py    # about a minute; again, and nothing is trained twice
"""

import sys
from dataclasses import replace
from pathlib import Path

from vergence import config as c
from vergence import presets
from vergence.experiments.experiment import Scale, accuracy_of, curve, differing, keys_of, over_seeds, value_of
from vergence.experiments.judging import is_above, listed
from vergence.report.content import Column, Figure, Finding, Panel, Panels, Row, Table

TITLE = "Does BYOL need its moving average?"
LEAD = ("BYOL with a slowly moving target, and with the online network itself as target (as SimSiam).",)
BASE = "moving average"
SCALES = {
    "smoke": Scale(about="about a minute on two cores", subset=512, epochs=3, long=3, seeds=2),
    "full": Scale(about="the whole data set", epochs=30, long=30, seeds=3),
}
ROWS: dict[str, c.Target] = {"moving average": c.MovingAverage(decay=0.99), "stop-gradient": c.StopGradient()}


def runs(scale):
    """One run for each target."""
    return {
        name: replace(scale.apply(presets.default(c.BYOL(target=target), c.Digits())), epochs=scale.epochs)
        for name, target in ROWS.items()
    }


def jobs(scale, place):
    """Each run for every seed."""
    return over_seeds(runs(scale), scale, place, online=("knn",))


def deviations(scale):
    """What the scale changes."""
    return differing(runs(SCALES["full"]), runs(scale))


def tables(results):
    """Accuracy and collapse by target."""
    columns = (Column("kNN", 1, "in percent"), Column("Negative cosine", 3, "of different pictures, last epoch"))
    rows = tuple(
        Row(
            name,
            {"kNN": accuracy_of(results, name, "knn"), "Negative cosine": value_of(results, name, "neg_cos")},
            keys_of(results, name),
        )
        for name in ROWS
    )
    return [Table("targets", "Targets", columns, rows)]


def figures(results):
    """The cosine over training."""
    curves = tuple(found for name in ROWS if (found := curve(results, name, "neg_cos")))
    panel = Panel(title="", x="epoch", y="cosine", curves=curves)
    caption = "Mean cosine between the projections of different pictures of a batch."
    return [Figure("cosine", "Different pictures", caption, Panels((panel,), 1))]


def findings(results):
    """What we expect, as a check."""
    one, other = (value_of(results, name, "neg_cos") for name in ("stop-gradient", "moving average"))
    return [
        Finding(
            "stop-gradient-is-closer",
            "Without a moving average different pictures lie closer together.",
            "our expectation",
            is_above(one, other),
            listed([("stop-gradient", one), ("moving average", other)], 3),
            "negative cosine higher in the last epoch",
        )
    ]


if __name__ == "__main__":
    import experiment

    from vergence.experiments.experiment import Place
    from vergence.experiments.reproduce import reproduce
    from vergence.grid.live import open_grid_view
    from vergence.report import tables as printed
    from vergence.report import text

    console = text.console()
    page, failures = reproduce(
        experiment,
        SCALES["smoke"],
        Path("runs/moving-average"),
        place=Place(),
        at_once=2,
        threads=1,
        view=open_grid_view(console, TITLE),
        name="smoke",
        command="python examples/experiment.py",
    )
    printed.print_page(console, page)
    sys.exit(1 if failures else 0)
