"""Does a norm in the heads matter to ten steps? An experiment of a few seconds, with all that a real one has."""

import sys
from pathlib import Path

from runs_for_tests import run_of, small
from vergence import config as c
from vergence.experiments.experiment import Scale, accuracy_of, curve, differing, keys_of, over_seeds, value_of
from vergence.experiments.judging import is_above, listed
from vergence.report.content import Column, Figure, Finding, Panel, Panels, Row, Table

TITLE = "A tiny experiment"
LEAD = ("Two heads, two seeds.",)
BASE = "batch"
SCALES = {
    "smoke": Scale(about="seconds", subset=48, epochs=3, long=3, seeds=2),
    "full": Scale(about="minutes", subset=480, epochs=3, long=3, seeds=2),
}


def runs(scale):
    norms: dict[str, c.Norm] = {"batch": "batch", "none": "none"}
    methods = {
        name: small(c.BYOL(projector=c.Projector(norm=norm), predictor=c.MLPPredictor(norm=norm)))
        for name, norm in norms.items()
    }
    return {name: scale.apply(run_of(method, epochs=scale.epochs)) for name, method in methods.items()} | {
        "random": run_of(methods["batch"], epochs=0, subset=scale.subset)
    }


def jobs(scale, place):
    return over_seeds(runs(scale), scale, place, online=("knn",), trace_every=1, log_every=2)


def deviations(scale):
    return differing(runs(SCALES["full"]), runs(scale))


def tables(results):
    rows = tuple(
        Row(
            name,
            {"kNN": accuracy_of(results, name, "knn", "12.3"), "cosine": value_of(results, name, "neg_cos")},
            keys_of(results, name),
        )
        for name in ("batch", "none", "random")
    )
    return [Table("scores", "Scores", (Column("kNN", 2), Column("cosine", 4)), rows)]


def figures(results):
    found = tuple(f for name in ("batch", "none") if (f := curve(results, name, "neg_cos")))
    return [Figure("course", "Course", "Cosines.", Panels((Panel(title="", x="epoch", y="cos", curves=found),), 1))]


def findings(results):
    one, other = (value_of(results, name, "neg_cos") for name in ("none", "batch"))
    numbers = listed([("none", one), ("batch", other)], 3)
    return [Finding("norm", "No norm is closer to one point.", "here", is_above(one, other), numbers, "above")]


if __name__ == "__main__":
    import tiny_experiment
    from vergence.experiments.experiment import Place
    from vergence.experiments.reproduce import reproduce
    from vergence.grid.live import Quiet

    reproduce(
        tiny_experiment,
        SCALES["smoke"],
        Path(sys.argv[1]),
        place=Place(),
        at_once=2,
        threads=1,
        view=Quiet(),
        name="smoke",
        command="python tiny_experiment.py",
    )
