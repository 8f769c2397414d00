"""Does BYOL need batch norm? The post's table, its figures and its claims.

Source: "Understanding self-supervised and contrastive learning with Bootstrap Your Own Latent (BYOL)", Fetterman and
Albrecht, August 2020. Values read off its figures are marked with a tilde.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vergence import config as c
from vergence import presets
from vergence.experiments.blog.claims import findings as findings
from vergence.experiments.experiment import (
    Place,
    Readable,
    Scale,
    accuracy_of,
    curve,
    differing,
    keys_of,
    over_seeds,
    value_of,
)
from vergence.files.results import Results
from vergence.report.content import Bars, Column, Curve, Figure, Panel, Panels, Row, Table, Value

TITLE = "What batch norm does in BYOL"
LEAD = (
    "BYOL learns from two views of a picture without ever being told that two pictures differ. The post found that "
    "without batch norm in its heads it learns no better than a random network, and proposed why: batch norm compares "
    "every picture with the mean of its batch, which is contrastive learning by another way.",
    "Each number here comes from runs that this command made; where the post reports a number, it stands beside ours.",
)
BASE = "BYOL"
PROBE = "logistic"

SCALES: Mapping[str, Scale] = {
    "smoke": Scale(
        about="about ten minutes on two cores: too short for most of the post's claims, every row present",
        data=c.Digits(),
        encoder=c.Encoder(name="test_resnet"),
        subset=1024,
        batch_size=64,
        queue=1024,
        epochs=10,
        long=16,
        seeds=1,
        observe_every=2,
        log_every=4,
    ),
    # 7 rows of 10 epochs and 16 of 30 are 27 million pictures: 18 minutes at 25,000 a second.
    "short": Scale(
        about="one GPU, under 30 minutes", data=c.CIFAR10(size=96), epochs=10, long=30, seeds=1, observe_every=2
    ),
    "full": Scale(about="as published: STL-10, three seeds", epochs=10, long=320, seeds=3, observe_every=5),
}

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

COSINES = {
    "Contrastive Loss": ("~0.90", "~0.53"),
    "BYOL": ("0.88", "0.27"),
    "Projection BN Only": ("~0.87", "~0.27"),
    "Prediction BN Only": ("~0.96", "~0.73"),
    "No Normalization": ("0.9999", "0.9999"),
    "Layer Norm": ("~1.0", "~1.0"),
}
"""Cosine of the projections of one picture, and of different ones, in the tenth epoch (the post's bar chart)."""

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


def byol(projector: c.Norm, predictor: c.Norm) -> c.BYOL:
    """BYOL with these norms in its heads."""
    return c.BYOL(projector=c.Projector(norm=projector), predictor=c.MLPPredictor(norm=predictor))


def runs(scale: Scale) -> dict[str, c.Run]:
    """Every row of the table, ten epochs of a schedule of 320, and every long run, a schedule of its own."""
    return table_runs(scale) | long_runs(scale)


def table_runs(scale: Scale) -> dict[str, c.Run]:
    """The rows of "Performance for each variation"."""
    methods: dict[str, c.Method] = {
        "Contrastive Loss": c.Contrastive(),
        "BYOL": byol("batch", "batch"),
        "Projection BN Only": byol("batch", "none"),
        "Prediction BN Only": byol("none", "batch"),
        "No Normalization": byol("none", "none"),
        "Layer Norm": byol("layer", "layer"),
    }
    rows = {
        name: replace(scale.apply(presets.blog(method, c.STL10())), epochs=scale.epochs, horizon=320)
        for name, method in methods.items()
    }
    return rows | {"Random": replace(rows["BYOL"], epochs=0, horizon=None)}


def long_runs(scale: Scale) -> dict[str, c.Run]:
    """The longer experiments of the post's appendix."""

    def run(norm: c.EncoderNorm, heads: c.Norm, optimizer: c.Optimizer) -> c.Run:
        base = scale.apply(presets.blog(byol(heads, heads), c.STL10()))
        warmup = 1.0 if isinstance(optimizer, c.LARS) else 0.0
        return replace(
            base,
            encoder=replace(base.encoder, norm=norm),
            optimizer=optimizer,
            schedule=c.Cosine(warmup_epochs=warmup),
            epochs=scale.long,
            horizon=None,
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


def jobs(scale: Scale, place: Place) -> dict[str, list[Readable]]:
    """Every run for every seed; the rows of the table are scored after each epoch."""
    watched = {"online": (PROBE,), "log_every": scale.log_every}
    return {
        **over_seeds(table_runs(scale), scale, place, **watched),
        **over_seeds(long_runs(scale), scale, place, online_every=scale.observe_every, **watched),
    }


def deviations(scale: Scale) -> list[str]:
    """How these runs differ from the post's."""
    full = SCALES["full"]
    seeds = [] if scale.seeds == full.seeds else [f"seeds: {full.seeds} -> {scale.seeds}"]
    return seeds + differing(runs(full), runs(scale))


def tables(results: Results) -> list[Table]:
    """The post's table, and one of its longer runs."""
    return [_performance(results), _long(results)]


def _performance(results: Results) -> Table:
    rows = []
    for name, run in table_runs(SCALES["full"]).items():
        method = run.method
        trained = name != "Random"
        norms = [_NORMS[getattr(method, head).norm] if trained else "—" for head in HEADS]
        contrastive = isinstance(method, c.Contrastive)
        implicit = not contrastive and trained and "Batch Norm" in norms
        positive, negative = COSINES.get(name, ("", ""))
        cells: dict[str, Value | str] = {
            "Projection MLP Norm": norms[0],
            "Prediction MLP Norm": norms[1],
            "Loss Function": "—" if not trained else "Cross Entropy" if contrastive else "L2",
            "Contrastive": "Explicit" if contrastive else "Implicit" if implicit else "None",
            "Performance": accuracy_of(results, name, PROBE, PUBLISHED[name]),
            "Positive cosine": value_of(results, name, "pos_cos", published=positive),
            "Negative cosine": value_of(results, name, "neg_cos", published=negative),
        }
        rows.append(Row(name, cells, keys_of(results, name)))
    columns = (
        Column("Projection MLP Norm"),
        Column("Prediction MLP Norm"),
        Column("Loss Function"),
        Column("Contrastive", about="whether and how the loss compares pictures with each other"),
        Column("Performance", 1, "accuracy in percent of a logistic regression, at the end"),
        Column("Positive cosine", 4, "of the projections of one picture, over the last epoch"),
        Column("Negative cosine", 4, "of the projections of different pictures, over the last epoch"),
    )
    note = (
        "Performance: logistic regression on frozen features, fitted on the first half of the test set and scored on "
        "the second, as the post's code. Cosines: means over the last epoch's log lines."
    )
    return Table("performance", "Performance for each variation", columns, tuple(rows), note)


_NORMS = {"none": "None", "batch": "Batch Norm", "layer": "Layer Norm"}


def _long(results: Results) -> Table:
    rows = [
        Row(
            name,
            {
                "Performance": accuracy_of(results, name, PROBE, published),
                "Negative cosine": value_of(results, name, "neg_cos"),
                "Spread": value_of(results, name, "z_std"),
                "Loss": value_of(results, name, "loss"),
                "Verdict": ", ".join(sorted({r.verdict or "" for r in results.get(name, ())})) or "—",
            },
            keys_of(results, name),
        )
        for name, published in LONG.items()
    ]
    columns = (
        Column("Performance", 1, "accuracy in percent of a logistic regression, at the end"),
        Column("Negative cosine", 4, "of the projections of different pictures, over the last epoch"),
        Column("Spread", 4, "of the projections over the last epoch: 1 on the whole sphere, 0 at one point"),
        Column("Loss", 4, "1 - cos of each direction, summed, over the last epoch"),
        Column("Verdict", about="of the collapse rules, at the end"),
    )
    return Table("long-runs", "Longer training, and ways out of collapse", columns, tuple(rows))


def figures(results: Results) -> list[Figure]:
    """The post's figures, in its order."""
    first = ("BYOL", "No Normalization", "Layer Norm", "Projection BN Only", "Prediction BN Only", "Contrastive Loss")
    accuracy = f"online.{PROBE}.accuracy"
    early = [found for name in first if (found := curve(results, name, accuracy))]
    if early and (level := accuracy_of(results, "Random", PROBE).mean) is not None:
        early.append(Curve(name="Random", x=early[0].x, y=[level] * len(early[0].x), dash="dotted"))
    return [
        Figure(
            "accuracy",
            "Accuracy in the first ten epochs",
            "Accuracy of a logistic regression on frozen features after each epoch. The post: without norm in the "
            "heads BYOL stays where a random network is.",
            Panels((Panel(title="", x="epoch", y="accuracy in %", curves=tuple(early)),), 1),
        ),
        Figure(
            "cosines",
            "Cosine of projections",
            "Mean cosine between the projections of two views of one picture, and of different pictures of a batch, "
            "in the last epoch. Both at 1 is collapse.",
            Bars(
                "cosine",
                first,
                {
                    "same picture": [value_of(results, name, "pos_cos").mean for name in first],
                    "different pictures": [value_of(results, name, "neg_cos").mean for name in first],
                },
            ),
        ),
        Figure(
            "long-accuracy",
            "Optimizer and norm of the heads, over longer training",
            "Left: encoders with batch norm. Right: encoders with group norm. The post: with batch norm in the encoder "
            "every run learns in the end; with group norm, SGD without batch norm in the heads never does.",
            Panels(
                (
                    _panel(results, "batch norm in the encoder", accuracy, _of("BN encoder")),
                    _panel(results, "group norm in the encoder", accuracy, _of("GN encoder")[:5]),
                ),
                2,
            ),
        ),
        _distance_and_loss(
            results,
            "weight-decay",
            "Weight decay",
            "Group norm in the encoder, no norm in the heads, SGD at 0.2. The post: a weight decay of 1e-5 lets the "
            "network leave the collapsed state around epoch 100.",
            [name for name in LONG if "weight decay" in name],
        ),
        _distance_and_loss(
            results,
            "weight-standardization",
            "Weight standardization",
            "Group norm and weight standardization in the encoder, no norm in the heads, SGD. The post: the network "
            "collapses and recovers, again and again.",
            ["GN encoder with weight standardization, SGD", "GN encoder, SGD, no MLP BN"],
        ),
        _distance_and_loss(
            results,
            "lars-on-layers",
            "LARS on some layers only",
            "Group norm in the encoder, no norm in the heads. The post: LARS on layers 1 and 2 separates quickly, LARS "
            "on the MLPs for a while, and a higher rate without LARS does not.",
            [name for name in LONG if "layers 1 and 2" in name or "on the MLPs" in name],
        ),
        _layer_traces(results),
    ]


def _of(encoder: str) -> list[str]:
    return [name for name in LONG if name.startswith(encoder + ",")]


def _panel(results: Results, title: str, metric: str | tuple[str, ...], names: Sequence[str], y: str = "") -> Panel:
    found = [curve(results, name, metric) for name in names]
    return Panel(title=title, x="epoch", y=y or "accuracy in %", curves=tuple(f for f in found if f))


def _distance_and_loss(results: Results, slug: str, title: str, caption: str, names: Sequence[str]) -> Figure:
    cosines = _panel(results, "distance of different pictures", "neg_cos", names, "2 - 2 cos")
    distances = [replace(found, y=[2 - 2 * y for y in found.y], low=(), high=()) for found in cosines.curves]
    loss = _panel(results, "loss", "loss", names, "loss")
    return Figure(slug, title, caption, Panels((replace(cosines, curves=tuple(distances)), loss), 2))


def _layer_traces(results: Results) -> Figure:
    layers = ("encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4", "projector", "predictor")
    panels = []
    for name in TRACED:
        for what, y in (("rate", "learning rate"), ("weight", "norm of weights"), ("gradient", "norm of gradient")):
            found = [
                curve(results, name, ("layers", layer, what), name=layer, colour=number)
                for number, layer in enumerate(layers)
            ]
            lines = tuple(f for f in found if f)
            panels.append(Panel(title=name.removeprefix("GN encoder, "), x="epoch", y=y, curves=lines, log=True))
    return Figure(
        "layers",
        "Learning rate, weights and gradient of each layer under LARS",
        "Group norm in the encoder, no norm in the heads. The post: as the network collapses, the gradient of early "
        "layers vanishes and LARS's local rate there explodes, which ends the collapse if it comes early enough.",
        Panels(tuple(panels), 3),
    )
