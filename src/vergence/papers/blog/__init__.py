"""Does BYOL need batch norm? The post's table, its figures and its claims.

Source: "Understanding self-supervised and contrastive learning with Bootstrap Your Own Latent (BYOL)", Fetterman and
Albrecht, August 2020. Values read off its figures are marked with a tilde.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vergence import config as c
from vergence import presets
from vergence import study as s
from vergence.papers.blog.claims import CLAIMS, EARLY

PROBE = "logistic"

PUBLISHED = {
    "Contrastive Loss": "44.1",
    "BYOL": "57.7",
    "Projection BN Only": "55.3",
    "Prediction BN Only": "48",
    "No Normalization": "28.3",
    "Layer Norm": "29.4",
    "Random": "28.8",
}
"""Accuracy in percent (the post's table "Performance for each variation")."""

POSITIVE = {
    "Contrastive Loss": "~0.90",
    "BYOL": "0.88",
    "Projection BN Only": "~0.87",
    "Prediction BN Only": "~0.96",
    "No Normalization": "0.9999",
    "Layer Norm": "~1.0",
}
"""Cosine of the projections of one picture in the tenth epoch (the post's bar chart)."""

NEGATIVE = {
    "Contrastive Loss": "~0.53",
    "BYOL": "0.27",
    "Projection BN Only": "~0.27",
    "Prediction BN Only": "~0.73",
    "No Normalization": "0.9999",
    "Layer Norm": "~1.0",
}
"""Cosine of the projections of different pictures, as above."""

LAYERS_1_2 = ("encoder.layer1", "encoder.layer2")
HEADS = ("projector", "predictor")
WEIGHT_DECAYS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
TRACED = (
    "GN encoder, LARS 0.5, no MLP BN",
    "GN encoder, LARS 0.2, no MLP BN",
    "GN encoder, LARS 0.1, no MLP BN",
    "GN encoder, LARS on layers 1 and 2",
)
LONG = {
    "BN encoder, SGD, MLP BN": "~81",
    "BN encoder, SGD, no MLP BN": "~72",
    "BN encoder, LARS 0.2, no MLP BN": "~77",
    "GN encoder, SGD, MLP BN": "~75",
    "GN encoder, SGD, no MLP BN": "~17",
    "GN encoder, LARS 0.5, no MLP BN": "",
    "GN encoder, LARS 0.2, no MLP BN": "~70",
    "GN encoder, LARS 0.1, no MLP BN": "~10",
    "GN encoder, LARS on layers 1 and 2": "",
    "GN encoder, LARS on the MLPs": "",
    "GN encoder, SGD, layers 1 and 2 at 10 times the rate": "",
    **{f"GN encoder, SGD 0.2, weight decay {decay:g}": "56" if decay == 1e-5 else "" for decay in WEIGHT_DECAYS},
    "GN encoder with weight standardization, SGD": "51",
}
"""The post's longer runs, and their accuracy in percent at epoch 320."""

SOMETIMES = (
    "GN encoder, LARS on the MLPs",
    "GN encoder, SGD 0.2, weight decay 0.0001",
    "GN encoder with weight standardization, SGD",
)
"""Rows of which the post says what they do usually, or sometimes."""

SCALES = {
    "smoke": s.Scale(
        about="about ten minutes on two cores: too short for most of the post's claims, every row present",
        data=c.Digits(),
        encoder=c.Encoder(name="test_resnet"),
        subset=1024,
        batch_size=64,
        queue=1024,
        epochs=10,
        long=16,
        observe_every=2,
        log_every=4,
    ),
    # 18 runs of 7,810 steps and 29 of 41,393, at 0.095 s a step of one core, are 35 hours of one core.
    "overnight": s.Scale(
        about="two cores, eighteen hours: a small encoder at 32 px and batches of 64, in every row the steps that its "
        "rules ask for",
        data=c.CIFAR10(size=32),
        encoder=c.Encoder(name="test_resnet"),
        batch_size=64,
        queue=32768,  # 0.66 of the pictures, as 65,536 are 0.62 of STL-10's
        epochs=10,
        long=53,
        repeated={**dict.fromkeys(PUBLISHED, 3), **dict.fromkeys(SOMETIMES, 5)},
        observe_every=5,
        log_every=200,
        notes=(
            "Seen before this scale was fixed: the rows Contrastive Loss, BYOL, No Normalization, Layer Norm and "
            "Random at this very scale, once each (accuracies 49.5, 40.3, 9.7, 22.3, 31.2; cosines of different "
            "pictures 0.21, 0.20, 1.00 and 0.70, without the last row); and BYOL with batches of 32 for 4 epochs, "
            "scored on held-out training pictures: its accuracy of 31.2 is why batches are of 64.",
        ),
    ),
    # 7 rows of 10 epochs and 16 of 30 are 27 million pictures: 18 minutes at 25,000 a second.
    "short": s.Scale(about="one GPU, under 30 minutes", data=c.CIFAR10(size=96), epochs=10, long=30, observe_every=2),
    "full": s.Scale(about="as published: STL-10, three seeds", epochs=10, long=320, seeds=3, observe_every=5),
}


# --- runs -------------------------------------------------------------------------------------------------------------


def byol(projector: c.Norm, predictor: c.Norm) -> c.BYOL:
    """Return BYOL with these norms in its heads."""
    return c.BYOL(projector=c.Projector(norm=projector), predictor=c.MLPPredictor(norm=predictor))


def table_runs() -> dict[str, c.Run]:
    """Return the rows of "Performance for each variation", ten epochs of a schedule of 320."""
    methods: dict[str, c.Method] = {
        "Contrastive Loss": c.Contrastive(),
        "BYOL": byol("batch", "batch"),
        "Projection BN Only": byol("batch", "none"),
        "Prediction BN Only": byol("none", "batch"),
        "No Normalization": byol("none", "none"),
        "Layer Norm": byol("layer", "layer"),
    }
    rows = {name: presets.blog(method, c.STL10()) for name, method in methods.items()}
    return rows | {"Random": replace(rows["BYOL"], epochs=0, schedule_epochs=None)}


def long_runs() -> dict[str, c.Run]:
    """Return the longer experiments of the post's appendix, each with a schedule of its own."""

    def run(norm: c.EncoderNorm, heads: c.Norm, optimizer: c.Optimizer) -> c.Run:
        base = presets.blog(byol(heads, heads), c.STL10())
        return replace(
            base,
            encoder=replace(base.encoder, norm=norm),
            optimizer=optimizer,
            schedule=c.Cosine(warmup_epochs=1.0 if isinstance(optimizer, c.LARS) else 0.0),
            epochs=320,
            schedule_epochs=None,
        )

    sgd = c.SGD(lr=0.8)
    made = (
        run("batch", "batch", sgd),
        run("batch", "none", sgd),
        run("batch", "none", c.LARS(lr=0.2)),
        run("group", "batch", sgd),
        run("group", "none", sgd),
        run("group", "none", c.LARS(lr=0.5)),
        run("group", "none", c.LARS(lr=0.2)),
        run("group", "none", c.LARS(lr=0.1)),
        run("group", "none", c.LARS(lr=0.2, layers=LAYERS_1_2)),
        run("group", "none", c.LARS(lr=0.2, layers=HEADS)),
        run("group", "none", c.SGD(lr=0.2, factor=10.0, layers=LAYERS_1_2)),
        *(run("group", "none", c.SGD(lr=0.2, weight_decay=decay)) for decay in WEIGHT_DECAYS),
        run("group-ws", "none", sgd),
    )
    return dict(zip(LONG, made, strict=True))


def watch(row: str, run: c.Run, scale: s.Scale) -> dict[str, int]:
    """Return how often a row is logged, and scored: the rows of the table after each epoch."""
    return {"log_every": scale.log_every, "online_every": scale.observe_every if row in LONG else 1}


TABLE = table_runs()
study = s.Study(
    title="What batch norm does in BYOL",
    lead=(
        "BYOL learns from two views of a picture without ever being told that two pictures differ. The post found that "
        "without batch norm in its heads it learns no better than a random network, and proposed why: batch norm "
        "compares every picture with the mean of its batch, which is contrastive learning by another way.",
        "Each number here comes from runs that this command made; where the post reports a number, it stands beside "
        "ours.",
    ),
    scales=SCALES,
    rows=TABLE | long_runs(),
    base="BYOL",
    long=LONG,
    online=(PROBE,),
    watch=watch,
)

# --- tables -----------------------------------------------------------------------------------------------------------

AT_THE_END = "accuracy in percent of a logistic regression, at the end"
PERFORMANCE = s.accuracy(PROBE, "Performance", about=AT_THE_END, published=PUBLISHED | LONG)
DIFFERENT = "of the projections of different pictures, over the last epoch"


def _norm(head: str) -> s.Cell:
    names = {"none": "None", "batch": "Batch Norm", "layer": "Layer Norm"}
    norms = {row: names[getattr(run.method, head).norm] for row, run in TABLE.items()} | {"Random": "—"}
    return s.Cell("Projection MLP Norm" if head == "projector" else "Prediction MLP Norm", lambda row, _: norms[row])


def _loss(row: str, results: Sequence[s.Result]) -> str:
    return {"Random": "—", "Contrastive Loss": "Cross Entropy"}.get(row, "L2")


def _contrastive(row: str, results: Sequence[s.Result]) -> str:
    implicit = any(getattr(TABLE[row].method, head).norm == "batch" for head in HEADS) and row != "Random"
    return "Explicit" if row == "Contrastive Loss" else "Implicit" if implicit else "None"


study.table(
    "performance",
    "Performance for each variation",
    *map(_norm, HEADS),
    s.Cell("Loss Function", _loss),
    s.Cell("Contrastive", _contrastive, about="whether and how the loss compares pictures with each other"),
    PERFORMANCE,
    s.logged(
        "pos_cos",
        "Positive cosine",
        digits=4,
        about="of the projections of one picture, over the last epoch",
        published=POSITIVE,
    ),
    s.logged("neg_cos", "Negative cosine", digits=4, about=DIFFERENT, published=NEGATIVE),
    rows=tuple(TABLE),
    note="Performance: logistic regression on frozen features, fitted on the first half of the test set and scored on "
    "the second, as the post's code. Cosines: means over the last epoch's log lines.",
)
study.table(
    "long-runs",
    "Longer training, and ways out of collapse",
    PERFORMANCE,
    s.logged("neg_cos", "Negative cosine", digits=4, about=DIFFERENT),
    s.logged(
        "z_std",
        "Spread",
        digits=4,
        about="of the projections over the last epoch: 1 on the whole sphere, 0 at one point",
    ),
    s.logged("loss", "Loss", digits=4, about="1 - cos of each direction, summed, over the last epoch"),
    s.Cell(
        "Verdict",
        lambda _, results: ", ".join(sorted({result.verdict or "" for result in results})) or "—",
        about="of the collapse rules, at the end",
    ),
    rows=tuple(LONG),
)

# --- figures, in the post's order -------------------------------------------------------------------------------------

FIRST = ("BYOL", "No Normalization", "Layer Norm", "Projection BN Only", "Prediction BN Only", "Contrastive Loss")


def _first_epochs(results: s.Results) -> Iterator[s.Figure]:
    """Yield the figures of the table's rows: accuracy in the first ten epochs, and the cosines at the end."""
    (panel,) = s.make_panels(results, s.Lines(PERFORMANCE, FIRST, y="accuracy in %"))
    if panel.curves and (level := PERFORMANCE.of(results, "Random").mean) is not None:
        x = panel.curves[0].x
        random = s.Curve(name="Random", x=x, y=[level] * len(x), colour=len(FIRST), dash="dotted")
        panel = replace(panel, curves=(*panel.curves, random))
    yield s.Figure(
        "accuracy",
        "Accuracy in the first ten epochs",
        "Accuracy of a logistic regression on frozen features after each epoch. The post: without norm in the "
        "heads BYOL stays where a random network is.",
        s.Panels((panel,), 1),
    )
    bars = {"same picture": s.logged("pos_cos"), "different pictures": s.logged("neg_cos")}
    yield s.Figure(
        "cosines",
        "Cosine of projections",
        "Mean cosine between the projections of two views of one picture, and of different pictures of a batch, "
        "in the last epoch. Both at 1 is collapse.",
        s.Bars("cosine", FIRST, {name: [of.of(results, row).mean for row in FIRST] for name, of in bars.items()}),
    )


study.add(figures=_first_epochs)
study.curves(
    "long-accuracy",
    "Optimizer and norm of the heads, over longer training",
    *(
        s.Lines(PERFORMANCE, rows, f"{norm} norm in the encoder", "accuracy in %", points=None)
        for norm, rows in (("batch", tuple(LONG)[:3]), ("group", tuple(LONG)[3:8]))
    ),
    caption="Left: encoders with batch norm. Right: encoders with group norm. The post: with batch norm in the encoder "
    "every run learns in the end; with group norm, SGD without batch norm in the heads never does.",
)


def _distance_and_loss(slug: str, title: str, caption: str, rows: Sequence[str]) -> None:
    lines = (
        s.Lines("neg_cos", rows, "distance of different pictures", "2 - 2 cos", points=None),
        s.Lines("loss", rows, "loss", "loss", points=None),
    )

    def made(results: s.Results) -> Iterator[s.Figure]:
        cosines, loss = s.make_panels(results, *lines)
        distances = tuple(replace(line, y=[2 - 2 * y for y in line.y], low=(), high=()) for line in cosines.curves)
        yield s.Figure(slug, title, caption, s.Panels((replace(cosines, curves=distances), loss), 2))

    study.add(figures=made)


_distance_and_loss(
    "weight-decay",
    "Weight decay",
    "Group norm in the encoder, no norm in the heads, SGD at 0.2. The post: a weight decay of 1e-5 lets the network "
    "leave the collapsed state around epoch 100.",
    [name for name in LONG if "weight decay" in name],
)
_distance_and_loss(
    "weight-standardization",
    "Weight standardization",
    "Group norm and weight standardization in the encoder, no norm in the heads, SGD. The post: the network collapses "
    "and recovers, again and again.",
    ["GN encoder with weight standardization, SGD", "GN encoder, SGD, no MLP BN"],
)
_distance_and_loss(
    "lars-on-layers",
    "LARS on some layers only",
    "Group norm in the encoder, no norm in the heads. The post: LARS on layers 1 and 2 separates quickly, LARS on the "
    "MLPs for a while, and a higher rate without LARS does not.",
    [name for name in LONG if "layers 1 and 2" in name or "on the MLPs" in name],
)


LAYERS = (*(f"encoder.layer{i}" for i in (1, 2, 3, 4)), *HEADS)
AXES = {"rate": "learning rate", "weight": "norm of weights", "gradient": "norm of gradient"}
study.curves(
    "layers",
    "Learning rate, weights and gradient of each layer under LARS",
    *(
        s.Lines(
            {layer: ("layers", layer, what) for layer in LAYERS},
            [row],
            row.removeprefix("GN encoder, "),
            y,
            log=True,
            points=None,
        )
        for row in TRACED
        for what, y in AXES.items()
    ),
    caption="Group norm in the encoder, no norm in the heads. The post: as the network collapses, the gradient of "
    "early layers vanishes and LARS's local rate there explodes, which ends the collapse if it comes early enough.",
    across=3,
)
study.add(claims=[replace(claim, check=s.after(EARLY, claim.check, (*TABLE, *LONG))) for claim in CLAIMS])
