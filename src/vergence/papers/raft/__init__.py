"""Does running away from the teacher do what running towards it does? Run Away From your Teacher, arXiv 2011.10944.

The paper end to end: its three tables, Table 1 once more by the recipe of the published code, Figures 2 to 5, looks
inside the predictor and the gradient, and each of its claims as a check. Its Theorem 5.1 is proved elsewhere: by
running it.
"""

from collections.abc import Callable, Mapping

from vergence import config as c
from vergence import study as s
from vergence.papers.raft import rows
from vergence.papers.raft.claims import BY_PREDICTOR, CLAIMS
from vergence.papers.raft.drawings import FIGURE_3, FIGURE_4, INSIDE, add_figures
from vergence.presets import NAMES

HEADLINE = (*(f"{objective}-{slot}" for objective in ("BYOL", "BYOL'", "RAFT") for slot in BY_PREDICTOR), rows.RANDOM)
"""Rows that most claims are about."""

SCALES = {
    # A run is 8 epochs of 8 steps: every path through the code and no dynamics; claims wait for longer runs.
    "smoke": s.Scale(
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
    # 77 runs of 12,496 steps, at 0.065 s a step of one core, are 17 hours of one core, and their probes 2.
    "overnight": s.Scale(
        about="two cores, ten hours: a small encoder at 32 px and batches of 32, in every row the steps that its rules "
        "ask for",
        data=c.CIFAR10(size=32),
        encoder=c.Encoder(name="test_resnet"),
        batch_size=32,
        epochs=8,
        long=8,
        repeated=dict.fromkeys(HEADLINE, 3),
        observe_every=2,
        notes=(
            "Seen before this scale was fixed: BYOL-MLPP for two epochs, scored on held-out training pictures (linear "
            "accuracy 41.4 after the first), for its speed.",
        ),
    ),
    # 38 rows are trained. At 25,000 pictures a second an epoch takes 2 s, so 12 epochs of all take 912 s; the probes,
    # at some 15 s a row and 24 looks of 8 s while four of them train, take 780 s. Claims are judged from 10 epochs on,
    # those on linear predictors from 30.
    "short": s.Scale(
        about="half an hour on one GPU of 25,000 pictures a second: a twenty-fifth of the published epochs, one seed",
        epochs=12,
        long=12,
        seeds=1,
        observe_every=2,
    ),
    "full": s.Scale(
        about="as published, and once more by the authors' code: some days on one GPU",
        epochs=300,
        long=300,
        seeds=3,
        observe_every=10,
    ),
}
LINES = 4
"""Log lines an epoch, besides that of its last step: 300 epochs of them can still be read at once."""


def rows_of(scale: s.Scale) -> dict[str, c.Run]:
    """Return the rows of a scale; those of the authors' code are left out of the short one, where time is scarce."""
    return {name: run for name, run in rows.document().items() if scale != SHORT or not name.endswith(rows.CODE)}


def watch(row: str, run: c.Run, scale: s.Scale) -> dict[str, object]:
    """Return what is watched in a row: the rows of figures over training are looked into while they train."""
    return {
        "log_every": max(1, (run.subset or rows.PICTURES) // run.batch_size // LINES),
        "online": ("linear-raft",) if row in FIGURE_4 else (),
        "online_every": scale.observe_every,
        "trace_every": scale.observe_every if row in {*FIGURE_3, *FIGURE_4, *INSIDE} else 0,
    }


def deviations(scale: s.Scale) -> list[str]:
    """Return how a scale's runs differ from the paper's and, where they are made, from those of the authors' code."""
    published, ours = rows.document(), study.runs(scale)
    lines = s.seeds_differing(study.full, scale)
    # an untrained row differs as its recipe
    for recipe, marked in (("", False), (f"{rows.CODE.strip(' ()')}: ", True)):
        some = {name: run for name, run in ours.items() if run.epochs and name.endswith(rows.CODE) is marked}
        lines += [recipe + line for line in s.differing(published, some)]
    return lines if len(ours) == len(published) else [*lines, "left out: Table 1 by the authors' code"]


LEAD = (
    "BYOL trains a network to predict its own moving average, the mean teacher, on another view of the picture. "
    "Nothing in its loss keeps all pictures from one representation, and yet they stay apart, unless the predictor is "
    "taken away. The paper bounds BYOL's loss by two terms: alignment of the two views, and the distance between the "
    "network and its teacher (BYOL'). It then turns the sign of the second: RAFT runs away from its teacher. This, "
    "it reports, works as well, and without predictor the two views of a picture at least do not become one.",
    "MLPP, LP, LPI and NP name the predictor: a perceptron, a matrix, a matrix that starts as the identity, and none. "
    "Alignment is of predictions, uniformity of projections, accuracies are of representations.",
)
study = s.Study(
    title="Run Away From your Teacher",
    lead=LEAD,
    scales=SCALES,
    rows=rows_of,
    base="BYOL-MLPP",
    watch=watch,
    deviations=deviations,
)
SHORT = study.scales["short"]

# --- tables -----------------------------------------------------------------------------------------------------------

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


def _averaged(results: s.Results) -> str:
    """Return over how many epochs alignment, uniformity and cosine were averaged, in a sentence."""
    epochs = {rows.window(result.run) for row in results.values() for result in row if result.lines}
    said = " or ".join(f"{n}" for n in sorted(epochs)) or "no"
    theirs = f"the paper's over {rows.WINDOW} of 300"
    return f"Alignment, uniformity and cosines are means over the last {said} epochs; {theirs}."


def _protocol(results: s.Results) -> str:
    """Return how the linear layer was fitted, in the words that its score is stored with."""
    scores = (result.summary.get("linear-raft") for row in results.values() for result in row)
    words = dict.fromkeys(score["protocol"] for score in scores if score)
    return " ".join(f"Linear accuracy: {protocol}." for protocol in words)


def _note_1(results: s.Results) -> str:
    return f"{_averaged(results)} {TANGENTIAL} {_protocol(results)}"


MEASURED = (
    rows.ALIGNMENT,
    rows.UNIFORMITY,
    s.logged(
        "neg_cos",
        "negative cosine",
        digits=3,
        about="mean cosine of projections with the teacher's of other pictures, 1 at collapse",
        epochs=rows.window,
    ),
    rows.LINEAR,
    s.accuracy("knn", digits=2, about="test accuracy of 20 nearest neighbours, percent"),
    s.Cell(
        "verdict",
        lambda _, results: rows.counted([result.verdict for result in results]) or "untrained",
        about="state at the end, as the run's log has it",
    ),
)
TABLE_1 = (*NAMES, rows.RANDOM, rows.SUPERVISED)
study.table(
    "table-1",
    "Table 1: BYOL, BYOL' and RAFT by predictor",
    *MEASURED,
    rows=TABLE_1,
    note=_note_1,
    only_known=True,
)
study.table(
    "table-1-code",
    "Table 1 by the authors' code",
    *MEASURED,
    rows=[name + rows.CODE for name in TABLE_1 if name != rows.SUPERVISED],
    note=lambda results: f"{_averaged(results)} {THEIRS}",
    only_known=True,
)


def objective(method: c.Method) -> str:
    """Return a method's loss in symbols."""
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
    """Return a method's predictor in words."""
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


def _table_2(results: s.Results) -> list[s.Table]:
    methods = {name: run.method for name, run in rows.document().items()}

    def column(name: str, say: Callable[[c.Method], str], about: str) -> s.Cell:
        return s.Cell(name, lambda row, _: say(methods[row]), about=about)

    def gradient(method: c.Method) -> str:
        return "tangential part" if getattr(method, "distance", "cosine") == "tangential" else "whole"

    columns = (
        column("objective", objective, "what is minimized, with weights and signs"),
        column("predictor", predictor, "what stands between z and p"),
        column("gradient", gradient, "of the squared distance: all of it, or its tangential part"),
    )
    note = "Made from the configurations that are run, not written down. p predicts; ' marks the mean teacher's."
    return [s.make_table("table-2", "Table 2: the names of the models", columns, dict.fromkeys(NAMES, ()), note)]


def _settings() -> dict[str, Mapping[str, str]]:
    """Return the rows of Table 3, with the words in which their settings stand there."""
    found: dict[str, Mapping[str, str]] = {rows.RANDOM: {"q_w": "W", "alpha": "—", "beta": "—"}}
    for name in rows.SWEPT:
        for alpha, beta in rows.SWEEP:
            cells = {"q_w": "W" if name.endswith("LP") else "none", "alpha": f"{alpha:g}", "beta": f"{beta:g}"}
            found.setdefault(rows.swept(name, (alpha, beta)), cells)
    return found


SETTINGS = _settings()


def _setting(name: str, about: str) -> s.Cell:
    return s.Cell(name, lambda row, _: SETTINGS[row][name], about=about)


study.add(tables=_table_2)
study.table(
    "table-3",
    "Table 3: weights of alignment and cross-model distance",
    _setting("q_w", "the predictor: a matrix W, or none"),
    _setting("alpha", "weight of alignment"),
    _setting("beta", "weight of the cross-model distance"),
    rows.ALIGNMENT,
    rows.UNIFORMITY,
    rows.LINEAR,
    rows=tuple(SETTINGS),
    note=lambda results: (
        f"{_averaged(results)} The published weights are not in the text we have: these are ours. beta = 0, a control "
        "without teacher, is one objective for both models. alpha = 10, beta = 1 differs from alpha = 1, beta = 0.1 by "
        "the scale of the loss only, which Adam all but ignores: how far the two rows differ is noise, or Adam's "
        "epsilon."
    ),
    only_known=True,
)
study.table(
    "figure-2b",
    "Figure 2b: three classes of objective, as our curves show them",
    s.Measure("uniformity, first epoch", lambda result: s.first_epoch(result, "uniformity")),
    s.Measure("uniformity, end", rows.UNIFORMITY.read),
    s.Measure("alignment, end", rows.ALIGNMENT.read, digits=3),
    s.Cell("class", lambda _, results: rows.counted([rows.class_of(result) for result in results]) or "undecided"),
    rows=[f"{objective}-{slot}" for objective in ("BYOL'", "RAFT") for slot in ("MLPP", "LP", "NP")],
    note=lambda results: (
        f"Rule, for each run: {rows.CLASSES}. {_averaged(results)} "
        "The paper draws this figure as a diagram, without a rule."
    ),
    only_known=True,
)
add_figures(study)
study.add(claims=CLAIMS)
