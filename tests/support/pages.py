"""A page with everything on it, of made-up runs; its names are given, so that a test can make them hostile."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from vergence import config as c
from vergence.config.schema import to_dict
from vergence.files.results import Result
from vergence.report.content import (
    Bars,
    Circle,
    Circles,
    Column,
    Curve,
    Figure,
    Finding,
    Page,
    Panel,
    Panels,
    Row,
    Section,
    Table,
    Value,
)

PLAIN = ("BYOL", "BYOL, no norm", "a word")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>\"'` onload=alert(3) ",
    "_x $\\frac{1}{2}$ &lt; \u202eback\nnew\tline \x00\x1b[31m </svg></style><!-- ]]> \ud800 {{ 7 * 7 }} {% raise %}",
)
"""Names that are markup, close what they stand in, or are no text at all."""

RUN = c.Run(method=c.BYOL(), data=c.CIFAR10(), epochs=10)
COLLAPSED = replace(
    RUN, method=c.BYOL(projector=c.Projector(norm="none"), predictor=c.MLPPredictor(norm="none")), epochs=10
)
ENVIRONMENT = {"vergence": "0.1.0", "torch": "2.14.1", "device_name": "a device", "threads": 8}
FINAL = ("loss", "pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank")


def lines(collapsed=False, seed=0, epochs=10.0):
    """A log with four lines an epoch."""
    made = []
    for i in range(1, int(4 * epochs) + 1):
        t = 1 - math.exp(-i / 8)
        neg = 0.3 + 0.69 * t if collapsed else 0.4 - 0.2 * t + 0.01 * math.sin(i + seed)
        pos = 0.5 + 0.495 * t if collapsed else 0.5 + 0.35 * t
        state = "undecided" if i < 3 else "complete collapse" if neg >= 0.97 else "healthy"
        line = {"step": 10 * i, "epoch": i / 4, "loss": 4 - 4 * pos, "pos_cos": pos, "neg_cos": neg, "z_std": 0.5}
        line |= {"alignment": 2 - 2 * pos, "uniformity": -2 * (1 - neg), "effective_rank": 1 + 40 * (1 - neg)}
        line |= {"cross_model": None, "terms": {}, "verdict": state, "seconds": 1.5, "images_per_second": 600.0}
        line["layers"] = {
            name: {"weight": 10.0 + k, "gradient": 0.1 / i * (k + 1), "rate": None if k else 1e-3}
            for k, name in enumerate(("encoder.conv1", "encoder.layer1", "projector"))
        }
        if i % 4 == 0:
            line["online"] = {"knn": {"accuracy": 40 + 10 * t + seed, "protocol": "20 nearest"}}
        made.append(line)
    return made


def summary(run, log, knn):
    return {
        "key": run.key,
        "method": run.method.kind,
        "knn": {"accuracy": knn, "protocol": "20 nearest of 50000 training pictures"},
        "linear": {"accuracy": knn + 4, "protocol": "linear layer, 100 epochs"},
        "logistic": None,
        "verdict": {"state": log[-1]["verdict"], "rule": "the rule that fired", "numbers": {}},
        "encoder": "of the last checkpoint",
        "final": {name: log[-1][name] for name in FINAL},
        "seconds": 612.0,
        "images_per_second": 600.0,
        "environment": ENVIRONMENT,
    }


def scored(accuracy, interval=None, untrained=None, **others):
    """A probe's entry as runs write it that know what an accuracy must beat."""
    baselines = {
        name: value for name, value in {"untrained": untrained, "no picture": 16.7}.items() if value is not None
    }
    return {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 1,
        "interval": interval,
        "baselines": baselines,
        "converged": None,
        "protocol": "20 nearest of 50000 training pictures",
    } | others


START = [["pictures", "144"], ["classes", "6: a, b, c, d, e, f"], ["views", "32 px, enlarged <4> times"]]
ADVICE = "put batch norm into the heads: --projector.norm batch"


def looked_at(found, **probes):
    """A summary with all that newer runs write."""
    numbers = {"pos_cos": 0.981, "neg_cos": 0.9804, "lines": 40.0}
    return found | {
        "verdict": found["verdict"] | {"numbers": numbers, "advice": ADVICE},
        "representation": {"state": "healthy", "rule": "as far apart as at the start", "numbers": {"y_rank": 31.5}},
        "start": START,
        **probes,
    }


def result(run, seed, collapsed=False):
    run, log = replace(run, seed=seed), lines(collapsed, seed)
    return Result(run, Path("nowhere"), log, summary(run, log, 60.0 + seed - 25 * collapsed))


def runs_named(one, other):
    return {one: [result(RUN, seed) for seed in range(3)], other: [result(COLLAPSED, seed, True) for seed in range(2)]}


def table_of(runs, word):
    columns = (
        Column(f"set {word}", about=f"about {word}"),
        Column("kNN", 1, "accuracy in percent"),
        *(Column(f"column {i}", 3) for i in range(7)),
        Column("verdict"),
    )
    rows = []
    for name, results in runs.items():
        cells = {f"set {word}": word, "kNN": Value.over([r.accuracy("knn") for r in results], f"57.7 {word}")}
        cells |= {f"column {i}": Value.over([r.mean("neg_cos") for r in results]) for i in range(7)}
        rows.append(Row(name, cells | {"verdict": word}, tuple(r.run.key for r in results)))
    rows.append(Row(f"random {word}", {"kNN": Value(mean=40.1, n=1)}))
    return Table("norms", f"Table {word}", columns, tuple(rows), f"Note {word}")


def figures_of(names, word):
    x = [i / 10 for i in range(400)]
    waves = tuple(Curve(name=name, x=x, y=[math.sin(v + k) for v in x]) for k, name in enumerate(names))
    band = Curve(name=names[0], x=x, y=x, low=[v - 1 for v in x], high=[v + 1 for v in x], dash="dashed")
    panels = Panels(
        (Panel(title=word, x=word, y=word, curves=waves), Panel(title="b", x="x", y="y", curves=(band,))), 2
    )
    bars = Bars(f"percent {word}", (*names, word), {word: (1.0, -2.0, None), "other": (3.0, float("nan"), 1e9)})
    circle = Circle([1 / 16] * 16, [(0.1, 0.3), (2.0, 2.5)])
    circles = Circles((names[0], names[1]), (word, "end"), {(names[0], word): circle, (names[1], "end"): circle})
    return tuple(
        Figure(slug, f"Figure {word}", f"Caption {word}", drawing)
        for slug, drawing in (("courses", panels), ("bars", bars), ("circles", circles))
    )


def picture():
    out = io.BytesIO()
    Image.new("RGB", (14, 16), (90, 120, 150)).save(out, "PNG")
    return out.getvalue()


def page_of(names=PLAIN):
    """A page in which every text is one of three names, or holds one."""
    one, other, word = names
    runs = runs_named(one, other)
    findings = tuple(
        Finding(f"finding-{i}", f"claim {word}", word, outcome, f"numbers {word}", f"rule {word}")
        for i, outcome in enumerate(("holds", "does not hold", "not decided"))
    )
    return Page(
        title=f"A page {word}",
        lead=("What was done.", word),
        deviations=("Fewer epochs.", word),
        sections=(
            Section("Findings", (word,), findings),
            Section(f"Tables {word}", (), (table_of(runs, word), *figures_of((one, other), word))),
        ),
        runs=runs,
        base=one,
        failures={f"{one}, seed 9": f"error: {word}"},
        views=picture(),
        command=f"vergence reproduce {word}",
    )


def folder_of(path, run, log, final=True):
    """A run's folder with this log; without a summary it is unfinished."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"run": to_dict(run)}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    if final:
        (path / "summary.json").write_text(json.dumps(summary(run, log, 60.0)))
    return path


def change(folder, **values):
    """Put other values into the summary of a run."""
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def printed(thing, width=120):
    """The lines that a terminal of this width shows."""
    console = Console(width=width, file=io.StringIO(), highlight=False)
    thing(console) if callable(thing) else console.print(thing)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
