"""Does running away from the teacher do what running towards it does? Run Away From your Teacher, arXiv 2011.10944.

The paper end to end: its three tables, Table 1 once more by the recipe of the published code, Figures 2 to 5, looks
inside the predictor and the gradient, and each of its claims as a check. Its Theorem 5.1 is proved elsewhere: by
running it.
"""

from collections.abc import Callable
from dataclasses import replace

from vergence import config as c
from vergence.experiments.experiment import Place, Readable, Scale, differing, over_seeds
from vergence.experiments.raft.claims import findings
from vergence.experiments.raft.drawings import FIGURE_3, FIGURE_4, INSIDE, figures
from vergence.experiments.raft.rows import (
    CLASSES,
    CODE,
    PICTURES,
    RANDOM,
    SUPERVISED,
    SWEEP,
    SWEPT,
    WINDOW,
    begun,
    class_of,
    counted,
    document,
    present,
    scored,
    settled,
    swept,
    window,
)
from vergence.files.results import Results
from vergence.presets import NAMES
from vergence.report.content import Column, Row, Table, Value

__all__ = ["BASE", "LEAD", "SCALES", "TITLE", "deviations", "figures", "findings", "jobs", "runs", "tables"]

TITLE = "Run Away From your Teacher"
LEAD = (
    "BYOL trains a network to predict its own moving average, the mean teacher, on another view of the picture. "
    "Nothing in its loss keeps all pictures from one representation, and yet they stay apart, unless the predictor is "
    "taken away. The paper bounds BYOL's loss by two terms: alignment of the two views, and the distance between the "
    "network and its teacher (BYOL'). It then turns the sign of the second: RAFT runs away from its teacher. This, "
    "it reports, works as well, and without predictor the two views of a picture at least do not become one.",
    "MLPP, LP, LPI and NP name the predictor: a perceptron, a matrix, a matrix that starts as the identity, and none. "
    "Alignment is of predictions, uniformity of projections, accuracies are of representations.",
)
BASE = "BYOL-MLPP"
SCALES = {
    # A run is 8 epochs of 8 steps: every path through the code and no dynamics; claims wait for longer runs.
    "smoke": Scale(
        about="5 minutes on 2 CPU cores: digits at 32 px and a small encoder, to see that everything works",
        data=c.Digits(size=32),
        encoder=c.Encoder(name="test_resnet"),
        subset=512,
        batch_size=64,
        epochs=8,
        long=8,
        seeds=1,
        observe_every=2,
    ),
    # 38 rows are trained. At 25,000 pictures a second an epoch takes 2 s, so 12 epochs of all take 912 s; the probes,
    # at some 15 s a row and 24 looks of 8 s while four of them train, take 780 s. Claims are judged from 10 epochs on,
    # those on linear predictors from 30.
    "short": Scale(
        about="half an hour on one GPU of 25,000 pictures a second: a twenty-fifth of the published epochs, one seed",
        epochs=12,
        long=12,
        seeds=1,
        observe_every=2,
    ),
    "full": Scale(
        about="as published, and once more by the authors' code: some days on one GPU",
        epochs=300,
        long=300,
        seeds=3,
        observe_every=10,
    ),
}
LINES = 4
"""Log lines an epoch, besides that of its last step: 300 epochs of them can still be read at once."""


def runs(scale: Scale) -> dict[str, c.Run]:
    """Each row's run at a scale; the rows of the authors' code are left out of the short one, where time is scarce."""
    return {
        name: replace(scale.apply(run), epochs=scale.epochs if run.epochs else 0)
        for name, run in document().items()
        if scale != SCALES["short"] or not name.endswith(CODE)
    }


def jobs(scale: Scale, place: Place) -> dict[str, list[Readable]]:
    """Every row once for each seed; those of figures over training are looked into while they train."""
    rows: dict[str, list[Readable]] = {}
    for name, run in runs(scale).items():
        per_epoch = (run.subset or PICTURES) // run.batch_size
        watched = name in {*FIGURE_3, *FIGURE_4, *INSIDE}
        rows |= over_seeds(
            {name: run},
            scale,
            place,
            log_every=max(1, per_epoch // LINES),
            online=("linear-raft",) if name in FIGURE_4 else (),
            online_every=scale.observe_every,
            trace_every=scale.observe_every if watched else 0,
        )
    return rows


def deviations(scale: Scale) -> list[str]:
    """How this scale's runs differ from the paper's and, where they are made, from those of the authors' code."""
    published, ours = document(), runs(scale)
    lines = [] if scale.seeds == (seeds := SCALES["full"].seeds) else [f"seeds of each row: {seeds} -> {scale.seeds}"]
    for recipe, marked in (("", False), (f"{CODE.strip(' ()')}: ", True)):  # an untrained row differs as its recipe
        some = {name: run for name, run in ours.items() if run.epochs and name.endswith(CODE) is marked}
        lines += [recipe + line for line in differing(published, some)]
    return lines if len(ours) == len(published) else [*lines, "left out: Table 1 by the authors' code"]


# --- tables -----------------------------------------------------------------------------------------------------------

PUBLISHED = {"BYOL-MLPP": "68.08 ± 0.84", "BYOL-NP": "20.92 ± 1.29", RANDOM: "42.74 ± 0.41"}
"""Linear accuracy, percent (Section 3); the other cells of the paper's tables are not in the text we have."""

ALIGNMENT = Column("alignment", 3, "mean squared distance of the two views' predictions, 0 to 4")
UNIFORMITY = Column("uniformity", 2, "log mean exp(-2 d²) of different pictures' projections, -8 to 0, 0 at collapse")
LINEAR = Column("linear", 2, "test accuracy of a linear layer on the frozen encoder, percent")
MEASURED = (
    ALIGNMENT,
    UNIFORMITY,
    Column("negative cosine", 3, "mean cosine of projections with the teacher's of other pictures, 1 at collapse"),
    LINEAR,
    Column("kNN", 2, "test accuracy of 20 nearest neighbours, percent"),
    Column("verdict", about="state at the end, as the run's log has it"),
)
THEIRS = (
    "The published code differs from the paper's text: ResNet-18 with the CIFAR stem at 32 px, heads of 512 and 256 "
    "units with batch norm in the MLP predictor too, a target initialized on its own, no blur, batch 1,024. It logs "
    "alignment as a mean over the 256 dimensions, 1/256 of what is here. Its ± is the spread over the last ten epochs "
    "of one linear classifier, ours that over seeds. It has no BYOL' and no Tan- variant; those rows are ours. Its "
    "linear predictor comes with and without batch norm: without, as in the text. Not imitated: its one coin of colour "
    "jitter for a whole batch. Which of the two recipes made the published numbers is not known."
)

TANGENTIAL = (
    "Predictions are normalized inside the graph, so the whole gradient is tangential already: a Tan- row differs from "
    "its plain one by rounding, and by what training makes of that."
)


def tables(results: Results) -> list[Table]:
    """Tables 1 to 3 of the paper, Table 1 by the authors' code, and the classes of Figure 2b, of the rows there are."""
    averaged = _averaged(results)
    names = [*NAMES, RANDOM, SUPERVISED]
    code = [name + CODE for name in names if name != SUPERVISED]
    text = f"{averaged} {TANGENTIAL} {_protocol(results)}"
    found = [
        _table_1(results, names, "table-1", "Table 1: BYOL, BYOL' and RAFT by predictor", text),
        _table_1(results, code, "table-1-code", "Table 1 by the authors' code", f"{averaged} {THEIRS}"),
        _table_2(),
        _table_3(results, averaged),
        _figure_2b(results, averaged),
    ]
    return [table for table in found if table.rows]


def _averaged(results: Results) -> str:
    """Over how many epochs alignment, uniformity and cosine were averaged, in a sentence."""
    epochs = {window(result.run) for row in results.values() for result in row if result.lines}
    said = " or ".join(f"{n}" for n in sorted(epochs)) or "no"
    return f"Alignment, uniformity and cosines are means over the last {said} epochs; the paper's over {WINDOW} of 300."


def _protocol(results: Results) -> str:
    """How the linear layer was fitted, in the words that its score is stored with."""
    scores = (result.summary.get("linear-raft") for row in results.values() for result in row)
    words = dict.fromkeys(score["protocol"] for score in scores if score)
    return " ".join(f"Linear accuracy: {protocol}." for protocol in words)


def _table_1(results: Results, names: list[str], slug: str, title: str, note: str) -> Table:
    rows = []
    for name in present(results, names):
        published = PUBLISHED.get(name.removesuffix(CODE), "")
        cells = {
            "alignment": settled(results, name, "alignment"),
            "uniformity": settled(results, name, "uniformity"),
            "negative cosine": settled(results, name, "neg_cos"),
            "linear": scored(results, name, published=published),
            "kNN": scored(results, name, "knn"),
            "verdict": counted([result.verdict for result in results[name]]) or "untrained",
        }
        rows.append(_row(results, name, cells))
    return Table(slug, title, MEASURED, tuple(rows), note)


def _row(results: Results, name: str, cells: dict[str, Value | str]) -> Row:
    return Row(name, cells, tuple(result.run.key for result in results.get(name, ())))


def _table_2() -> Table:
    columns = (
        Column("objective", about="what is minimized, with weights and signs"),
        Column("predictor", about="what stands between z and p"),
        Column("gradient", about="of the squared distance: all of it, or its tangential part"),
    )
    published = document()
    rows = [
        Row(
            name,
            {
                "objective": objective(published[name].method),
                "predictor": predictor(published[name].method),
                "gradient": "tangential part" if _is_tangential(published[name].method) else "whole",
            },
        )
        for name in NAMES
    ]
    note = "Made from the configurations that are run, not written down. p predicts; ' marks the mean teacher's."
    return Table("table-2", "Table 2: the names of the models", columns, tuple(rows), note)


def objective(method: c.Method) -> str:
    """A method's loss in symbols."""
    match method:
        case c.BYOL():
            scale = "" if method.scale == 1 else f"{method.scale:g} "
            return f"{scale}[d²(p₁, z'₂) + d²(p₂, z'₁)]"
        case c.BYOLPrime():
            return f"{method.alpha:g} alignment(p₁, p₂) + {method.beta:g} cross-model(p, z')"
        case c.RAFT():
            return f"{method.alpha:g} alignment(p₁, p₂) - {method.beta:g} cross-model(p, z')"
        case c.Supervised():
            return "cross-entropy"
        case _:
            return method.kind


def predictor(method: c.Method) -> str:
    """A method's predictor in words."""
    slot = getattr(method, "predictor", None)
    match slot:
        case c.MLPPredictor():
            norm = "no norm" if slot.norm == "none" else f"{slot.norm} norm"
            return f"perceptron of {slot.layers} layers, {slot.hidden} hidden units, {norm}"
        case c.LinearPredictor() | c.LinearIdentityPredictor():
            start = "random matrix" if isinstance(slot, c.LinearPredictor) else "matrix, the identity at first"
            return start + ("" if slot.norm == "none" else f", {slot.norm} norm")
        case _:
            return "none"


def _is_tangential(method: c.Method) -> bool:
    return getattr(method, "distance", "cosine") == "tangential"


def _table_3(results: Results, averaged: str) -> Table:
    columns = (
        Column("q_w", about="the predictor: a matrix W, or none"),
        Column("alpha", about="weight of alignment"),
        Column("beta", about="weight of the cross-model distance"),
        ALIGNMENT,
        UNIFORMITY,
        LINEAR,
    )
    settings = {RANDOM: {"q_w": "W", "alpha": "—", "beta": "—"}}
    for name in SWEPT:
        for alpha, beta in SWEEP:
            cells = {"q_w": "W" if name.endswith("LP") else "none", "alpha": f"{alpha:g}", "beta": f"{beta:g}"}
            settings.setdefault(swept(name, (alpha, beta)), cells)
    rows = [
        _row(
            results,
            name,
            settings[name]
            | {
                "alignment": settled(results, name, "alignment"),
                "uniformity": settled(results, name, "uniformity"),
                "linear": scored(results, name, published=PUBLISHED.get(name, "")),
            },
        )
        for name in present(results, settings)
    ]
    note = (
        f"{averaged} The published weights are not in the text we have: these are ours. beta = 0, a control without "
        "teacher, is one objective for both models. alpha = 10, beta = 1 differs from alpha = 1, beta = 0.1 by the "
        "scale of the loss only, which Adam all but ignores: how far the two rows differ is noise, or Adam's epsilon."
    )
    return Table("table-3", "Table 3: weights of alignment and cross-model distance", columns, tuple(rows), note)


def _figure_2b(results: Results, averaged: str) -> Table:
    read: dict[str, Callable[[str], Value | str]] = {
        "uniformity, first epoch": lambda name: begun(results, name, "uniformity"),
        "uniformity, end": lambda name: settled(results, name, "uniformity"),
        "alignment, end": lambda name: settled(results, name, "alignment"),
        "class": lambda name: counted([class_of(result) for result in results[name]]) or "undecided",
    }
    names = [f"{objective}-{slot}" for objective in ("BYOL'", "RAFT") for slot in ("MLPP", "LP", "NP")]
    columns = tuple(Column(name, 3 if name.startswith("align") else 2) for name in read)
    rows = tuple(_row(results, n, {k: of(n) for k, of in read.items()}) for n in present(results, names))
    note = f"Rule, for each run: {CLASSES}. {averaged} The paper draws this figure as a diagram, without a rule."
    return Table("figure-2b", "Figure 2b: three classes of objective, as our curves show them", columns, rows, note)
