"""The claims of the post, each a check on our runs.

Accuracies are percentages of the logistic regression at the end of a run. A margin of 2 points counts as "no better",
one of 5 as "learns"; the post's own numbers lie 0.5 below to 29 above its random network.
"""

from functools import partial

from vergence import study as s
from vergence.metrics.verdict import COLLAPSED_COSINE, COLLAPSED_STD

NO_BETTER = 2.0
LEARNS = 5.0
EPOCH = 410
"""Steps of the post's epoch: 105,000 pictures in batches of 256."""

EARLY = 1000
"""Steps from which on a run says something of the post's first ten epochs, which are 4,100."""

LONG_ENOUGH = 100 * EPOCH
"""Steps after which the post's networks have left the collapsed state, where they ever do: 100 epochs."""

NO_BN_BN, NO_BN_GN = "BN encoder, SGD, no MLP BN", "GN encoder, SGD, no MLP BN"
BN_LARS = "BN encoder, LARS 0.2, no MLP BN"
HIGH, MIDDLE, LOW = (f"GN encoder, LARS {rate}, no MLP BN" for rate in ("0.5", "0.2", "0.1"))
CHOSEN, ON_HEADS = "GN encoder, LARS on layers 1 and 2", "GN encoder, LARS on the MLPs"
CONTROL = "GN encoder, SGD, layers 1 and 2 at 10 times the rate"
DECAYS = {decay: f"GN encoder, SGD 0.2, weight decay {decay}" for decay in ("0", "1e-06", "1e-05", "0.0001", "0.001")}
STANDARDIZED = "GN encoder with weight standardization, SGD"

ACCURACY = s.accuracy("logistic", label="")
NEGATIVE = s.logged("neg_cos", "negative cosine", digits=4)


def _peak(result: s.Result) -> float | None:
    epochs, rates = result.course(("layers", "encoder.layer1", "rate"))
    return epochs[rates.index(max(rates))] if rates else None


PEAK = s.Measure("layer1's rate peaks in epoch", _peak, digits=1)
learns = partial(s.above, ACCURACY, other="Random", by=LEARNS)
no_better = partial(s.at_most, ACCURACY, other="Random", plus=NO_BETTER)


def stays(row: str) -> s.Check:
    """Return the check that a row is collapsed at the end of a run long enough for the post's networks to recover."""
    return s.undecided(s.collapses(row), "holds", LONG_ENOUGH)


def separates(row: str) -> s.Check:
    """Return the check that a row is not collapsed at the end, and learns."""
    return s.all_of(s.opposite(s.collapses(row)), learns(row))


def learns_late(row: str) -> s.Check:
    """Return the check that a row separates pictures and learns; only a long run can fail."""
    return s.undecided(separates(row), "does not hold", LONG_ENOUGH)


def _byol_separates() -> s.Check:
    positive, negative = s.logged("pos_cos"), s.logged("neg_cos")

    def judge(results: s.Results):
        same, other = positive.of(results, "BYOL"), negative.of(results, "BYOL")
        return s.is_above(same, other, 0.3), s.listed([("positive", same), ("negative", other)], 3)

    return s.Check(judge)


NONE, LAYER, SINGLE = "No Normalization", "Layer Norm", ("Projection BN Only", "Prediction BN Only")
RULE_NONE = f"no more than {NO_BETTER:g} points above the random network"
RULE_LEARNS = f"at least {LEARNS:g} points above the random network"
RULE = (
    f"collapsed: cosine at least {COLLAPSED_COSINE:g}, or spread at most {COLLAPSED_STD:g}, over an epoch; "
    f"for good: still so after {LONG_ENOUGH:,} steps, the post's 100 epochs, or more"
)
SEPARATED = f"not collapsed at the end, accuracy {LEARNS:g} points above the random network"
WITHOUT = "Experiments without batch normalization in the encoder"
LAYERWISE = "Layerwise learning rate adaptation"

CLAIMS = (
    s.Claim(
        "no-norm-is-random",
        "BYOL generally performs no better than random when batch normalization is removed.",
        no_better(NONE),
        "Summary (1); table",
        RULE_NONE,
    ),
    s.Claim(
        "byol-learns",
        "With batch normalization in both MLPs it learns useful representations.",
        learns("BYOL"),
        "table",
        RULE_LEARNS,
    ),
    s.Claim(
        "one-bn-is-enough",
        "A single batch normalization layer in one of the MLPs is sufficient for the network to learn.",
        learns(SINGLE),
        "Why did this happen?",
        f"each {RULE_LEARNS}",
    ),
    s.Claim(
        "projection-matters-most",
        "Batch normalization is most useful in the projection MLP.",
        s.above(ACCURACY, *SINGLE).telling(ACCURACY.tells(*SINGLE, "Random")),
        "Why did this happen?",
        "projection BN only above prediction BN only",
    ),
    s.Claim(
        "layer-norm-does-not-help",
        "Layer norm, which compares no pictures with each other, is no better than no norm.",
        no_better(LAYER).telling(ACCURACY.tells(LAYER, NONE, "Random")),
        "table; Confirming our suspicions",
        RULE_NONE,
    ),
    s.Claim(
        "contrast-needs-no-norm",
        "With a contrastive loss the same networks learn without any norm in the MLPs.",
        learns("Contrastive Loss"),
        "Why did this happen?",
        RULE_LEARNS,
    ),
    s.Claim(
        "no-norm-is-one-point",
        "With no batch normalization, and with layer norm, projections of positive and negative examples are "
        "aligned (0.9999): mode collapse.",
        s.above(NEGATIVE, (NONE, LAYER), COLLAPSED_COSINE),
        "Confirming our suspicions",
        f"mean cosine of different pictures at least {COLLAPSED_COSINE:g} in the last epoch",
    ),
    s.Claim(
        "byol-separates",
        "With batch normalization projections are more similar between positive examples (0.88) than between "
        "negative examples (0.27).",
        _byol_separates(),
        "Confirming our suspicions",
        "positive cosine above the negative by 0.3 or more, half of the post's difference",
    ),
    s.Claim(
        "encoder-bn-recovers",
        "With batch normalization in the encoder and not in the MLPs, the network first collapses and then "
        "gradually separates negative examples from positive ones.",
        s.recovers(NO_BN_BN, LONG_ENOUGH),
        "Additional experiments; appendix",
        RULE,
    ),
    s.Claim(
        "lars-with-encoder-bn-does-not-collapse",
        "With LARS and the authors' settings there is no mode collapse, without batch norm in the MLPs.",
        separates(BN_LARS),
        "Experiments without batch normalization in the MLPs",
        SEPARATED,
    ),
    s.Claim(
        "no-bn-at-all-never-recovers",
        "Without any batch normalization, SGD collapses almost immediately and never recovers.",
        stays(NO_BN_GN),
        WITHOUT,
        RULE,
    ),
    s.Claim(
        "mlp-bn-prevents-collapse",
        "The two batch normalization layers in the MLPs alone prevent this collapse.",
        separates("GN encoder, SGD, MLP BN"),
        WITHOUT,
        SEPARATED,
    ),
    s.Claim(
        "weight-decay-can-recover",
        "SGD at 0.2 with weight decay 1e-5 leaves the collapse around epoch 100; 1e-4 sometimes does; lower or "
        "higher values never.",
        s.all_of(
            s.recovers(DECAYS["1e-05"], LONG_ENOUGH), *(stays(DECAYS[decay]) for decay in ("0", "1e-06", "0.001"))
        ).telling(s.tells_collapse(*DECAYS.values())),
        "Weight Decay",
        RULE + "; 1e-4 decides nothing",
    ),
    s.Claim(
        "weight-standardization-recovers",
        "A network with weight standardization and group normalization usually achieves some separated "
        "representation within 100 epochs.",
        s.any_of(s.opposite(stays(STANDARDIZED)), s.recovers(STANDARDIZED, LONG_ENOUGH)),
        "Weight Standardization",
        RULE,
    ),
    s.Claim(
        "lars-recovers",
        "Without batch normalization, LARS at 0.2 recovers from collapse and learns; at 0.1 it never does.",
        s.all_of(learns_late(MIDDLE), stays(LOW)).telling(
            s.tells_collapse(MIDDLE, LOW), ACCURACY.tells(MIDDLE, LOW, "Random")
        ),
        WITHOUT,
        f"recovers: {SEPARATED}",
    ),
    s.Claim(
        "lars-on-two-layers",
        "LARS applied to layer1 and layer2 alone separates representations.",
        learns_late(CHOSEN),
        LAYERWISE,
        f"recovers: {SEPARATED}",
    ),
    s.Claim(
        "higher-rate-is-not-enough",
        "SGD with a higher learning rate on layers 1 and 2 does not recover: the rate must depend on the gradient.",
        stays(CONTROL),
        LAYERWISE,
        f"collapsed after {LONG_ENOUGH:,} steps, the post's 100 epochs, or more",
    ),
    s.Claim(
        "lars-on-the-mlps-collapses-again",
        "LARS on the MLPs alone disrupts the collapse, but the representation usually collapses again.",
        s.undecided(s.collapses(ON_HEADS), "does not hold", LONG_ENOUGH),
        LAYERWISE,
        "collapsed at the end",
    ),
    s.Claim(
        "timing-of-the-rate",
        "With a base rate of 0.5 the learning rate of layer1 peaks early (epoch 2) and learning starts; with 0.1 "
        "it peaks late (epoch 9) and does not.",
        s.all_of(s.above(PEAK, LOW, HIGH, 1.0), learns_late(HIGH), stays(LOW)).telling(PEAK.tells(HIGH, LOW)),
        LAYERWISE,
        "the peak at 0.1 at least one epoch after that at 0.5, which learns, while 0.1 does not",
    ),
)
"""The claims of the post, in its order."""
