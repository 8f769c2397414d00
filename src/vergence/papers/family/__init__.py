"""What keeps a method of two views from collapse? Every method of the family, and each without what protects it."""

from collections.abc import Iterator, Mapping

from vergence import config as c
from vergence import study as s
from vergence.papers.family import force, rows
from vergence.papers.family.claims import CLAIMS, KNN

LEAD = (
    "Two views of a picture shall have one representation. A network that gives all pictures the same one does that "
    "perfectly, so each method of the family has something that keeps it from there: negatives, a predictor and a "
    "target that has no gradient, a term for the spread of each dimension, an equal partition over prototypes.",
    "Here each method is trained with all its protections, and once more without each of them, and the collapse that "
    "its paper predicts stands beside the one that came. Methods have their default settings for these pictures; what "
    "is taken away is the only difference within a method.",
)

SCALES = {
    "smoke": s.Scale(
        about="two cores, some seven minutes: every row once, too short for most claims",
        data=c.Digits(),
        subset=512,
        epochs=4,
        observe_every=2,
    ),
    "digits": s.Scale(
        about="two cores, some three hours: digits, three seeds",
        data=c.Digits(),
        epochs=30,
        seeds=3,
        observe_every=5,
    ),
    "overnight": s.Scale(
        about="two cores, a night: CIFAR-10, a small encoder, three seeds",
        data=c.CIFAR10(size=32),
        encoder=c.Encoder(name="test_resnet"),
        subset=10_000,
        epochs=20,
        seeds=3,
        observe_every=5,
        log_every=20,
    ),
    "full": s.Scale(
        about="one GPU, some days: CIFAR-10, ResNet-18, three seeds", epochs=200, seeds=3, observe_every=10
    ),
}

INSIDE = ("BYOL", "RAFT", "SimSiam", "DirectPred")
"""Rows whose predictor is looked into."""


def watch(row: str, run: c.Run, scale: s.Scale) -> Mapping[str, object]:
    """Return what is watched in a row: the spectrum in all, nearest neighbours while it trains."""
    return {"log_every": scale.log_every, "online_every": scale.observe_every, "trace_every": scale.observe_every}


study = s.Study(
    title="What keeps a method of two views from collapse",
    lead=LEAD,
    scales=SCALES,
    rows=lambda scale: rows.runs(scale.data or c.CIFAR10(size=32)),
    base=rows.RANDOM,
    online=("knn",),
    watch=watch,
    jobs=force.jobs,
)

# --- tables -----------------------------------------------------------------------------------------------------------

PREDICTED = {removal.row: removal.predicted for removal in rows.REMOVALS}
VERDICT = s.Cell(
    "verdict",
    lambda _, results: counted([result.verdict for result in results]) or "untrained",
    about="on the projections at the end, of how many runs",
)
MEASURES = (
    s.logged("neg_cos", "negative cosine", digits=3, about="of different pictures' projections; 1: a point"),
    s.logged("z_std", "spread", digits=3, about="of the projections; 1: over the whole sphere, 0: a point"),
    s.logged("effective_rank", "rank", digits=1, about="of the projections; 1: a point or a line"),
    s.logged("y_rank", "rank of y", digits=1, about="of the centred representations"),
    KNN,
    s.accuracy("linear", about="accuracy in percent, at the end"),
)


def counted(words: list[str | None]) -> str:
    """Return the words of several runs in one cell, each with how often it was said where they differ."""
    kinds = dict.fromkeys(word for word in words if word)
    return next(iter(kinds), "") if len(kinds) < 2 else ", ".join(f"{words.count(kind)} {kind}" for kind in kinds)


study.table(
    "protections",
    "Each method, and each without one of its protections",
    s.Cell("predicted", lambda row, _: PREDICTED.get(row, "healthy" if row in rows.METHODS else "untrained")),
    VERDICT,
    *MEASURES,
    rows=(
        rows.RANDOM,
        *(
            row
            for method in rows.METHODS
            for row in (method, *(removal.row for removal in rows.REMOVALS if removal.method == method))
        ),
    ),
    only_known=True,
)
study.table(
    "to-simsiam",
    "From BYOL without a moving average to SimSiam, one slot at a time",
    VERDICT,
    *MEASURES,
    rows=("SimSiam", *rows.bridge(c.SimSiam())),
    note="SimSiam's optimizer and schedule in every row. Asked and left open in SimSiam's issue tracker: why BYOL "
    "without a moving average collapses and SimSiam does not.",
    only_known=True,
)

# --- figures ----------------------------------------------------------------------------------------------------------

study.add(figures=force.figures)


def _spectra(results: s.Results) -> Iterator[s.Figure]:
    panels = []
    for method in rows.METHODS:
        names = [method, *(removal.row for removal in rows.REMOVALS if removal.method == method)]
        curves = []
        for colour, (name, result) in enumerate(s.firsts(results, names).items()):
            epochs, spectra = result.course("spectrum.z")
            moments = {0: "dotted", len(epochs) - 1: "solid"} if epochs else {}
            for moment, dash in moments.items():
                values = [value for value in spectra[moment] if value > 0]
                label = name.removeprefix(f"{method}, ") if name != method else "whole"
                curves.append(
                    s.Curve(name=label, x=range(1, 1 + len(values)), y=values, colour=colour, dash=dash)  # type: ignore[arg-type]
                )
        if curves:
            panels.append(
                s.Panel(title=method, x="index", y="share", curves=tuple(curves), log=True, y_range=(1e-6, 1))
            )
    if panels:
        yield s.Figure(
            "spectrum",
            "The spectrum of the projections over training",
            "Singular values of the projections, as unit vectors about the origin, largest first, scaled to sum to 1: "
            "dotted at the first look, solid at the end. A point has one, a line two, a healthy method many. First "
            "seed.",
            s.Panels(tuple(panels), 3),
        )


study.add(figures=_spectra)
study.curves(
    "neighbours",
    "Nearest neighbours over training",
    *(
        s.Lines(
            KNN,
            {
                row: row.removeprefix(f"{method}, ") if row != method else "whole"
                for row in (method, *(removal.row for removal in rows.REMOVALS if removal.method == method))
            },
            method,
            "percent",
        )
        for method in rows.METHODS
    ),
    caption="Accuracy of 20 nearest neighbours among the training pictures, for each method and without each of its "
    "protections.",
    across=3,
    only_known=True,
)
study.curves(
    "eigenspaces",
    "The predictor and the correlation of projections",
    *(
        s.Lines(f"predictor.{name}", INSIDE, title, y)
        for name, title, y in (
            ("eigen_alignment", "eigenvectors it keeps", "mean |cos(J u, u)|"),
            ("commutator", "commutator", "|J F - F J| / (|J F| + |F J|)"),
        )
    ),
    caption="The predictor's mean Jacobian J beside F, the correlation matrix of the projections. Left: how far J "
    "keeps the direction of F's eigenvectors u, weighted by their eigenvalues. Right: 0 where J and F have the same "
    "eigenspaces, as DirectPred sets them (arXiv 2102.06810, Theorem 3).",
    only_known=True,
)
study.add(claims=CLAIMS)
