"""The claims of the post, each a check on our runs.

Accuracies are percentages of the logistic regression at the end of a run. A margin of 2 points counts as "no better",
one of 5 as "learns"; the post's own numbers lie 0.5 below to 29 above its random network.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from vergence.experiments.experiment import accuracy_of, value_of
from vergence.experiments.judging import all_of, any_of, holds_if, is_above, is_at_most, listed, opposite
from vergence.files.results import Result, Results
from vergence.metrics.verdict import COLLAPSED_COSINE, COLLAPSED_STD
from vergence.report.content import Finding, Outcome, Value

NO_BETTER = 2.0
LEARNS = 5.0
EPOCH = 410
"""Steps of the post's epoch: 105,000 pictures in batches of 256."""

EARLY = 1000
"""Steps from which on a run says something of the post's first ten epochs, which are 4,100."""

LONG_ENOUGH = 100 * EPOCH
"""Steps after which the post's networks have left the collapsed state, where they ever do: 100 epochs."""

NO_BN_BN, NO_BN_GN = "BN encoder, SGD, no MLP BN", "GN encoder, SGD, no MLP BN"
LARS = "GN encoder, LARS {} no MLP BN"
DECAY = "GN encoder, SGD 0.2, weight decay {}"


def findings(results: Results) -> list[Finding]:
    """Every claim of the post, in its order."""
    found = [
        *_table_findings(results),
        *_cosine_findings(results),
        *_long_findings(results),
        *_lars_findings(results),
    ]
    least = min((_steps(results, row) for row, of_row in results.items() if of_row and row != "Random"), default=EARLY)
    if least >= EARLY:
        return found
    return [
        replace(
            finding,
            outcome="not decided",
            numbers=f"{finding.numbers}. Runs of {least:,} steps; judged from {EARLY:,} on",
        )
        for finding in found
    ]


def _accuracy(results: Results, row: str) -> Value:
    return accuracy_of(results, row, "logistic")


def _learns(results: Results, row: str) -> Outcome:
    return is_above(_accuracy(results, row), _accuracy(results, "Random"), LEARNS)


def _no_better(results: Results, row: str) -> Outcome:
    return is_at_most(_accuracy(results, row), _accuracy(results, "Random"), NO_BETTER)


def _accuracies(results: Results, *rows: str) -> str:
    return listed([(row, _accuracy(results, row)) for row in (*rows, "Random")])


def _table_findings(results: Results) -> list[Finding]:
    none, layer, single = "No Normalization", "Layer Norm", ("Projection BN Only", "Prediction BN Only")
    each_learns: list[Outcome] = [_learns(results, row) for row in single]
    rule_none = f"no more than {NO_BETTER:g} points above the random network"
    rule_learns = f"at least {LEARNS:g} points above the random network"
    return [
        Finding(
            "no-norm-is-random",
            "BYOL generally performs no better than random when batch normalization is removed.",
            "Summary (1); table",
            _no_better(results, none),
            _accuracies(results, none),
            rule_none,
        ),
        Finding(
            "byol-learns",
            "With batch normalization in both MLPs it learns useful representations.",
            "table",
            _learns(results, "BYOL"),
            _accuracies(results, "BYOL"),
            rule_learns,
        ),
        Finding(
            "one-bn-is-enough",
            "A single batch normalization layer in one of the MLPs is sufficient for the network to learn.",
            "Why did this happen?",
            all_of(*each_learns),
            _accuracies(results, *single),
            f"each {rule_learns}",
        ),
        Finding(
            "projection-matters-most",
            "Batch normalization is most useful in the projection MLP.",
            "Why did this happen?",
            is_above(_accuracy(results, single[0]), _accuracy(results, single[1])),
            _accuracies(results, *single),
            "projection BN only above prediction BN only",
        ),
        Finding(
            "layer-norm-does-not-help",
            "Layer norm, which compares no pictures with each other, is no better than no norm.",
            "table; Confirming our suspicions",
            _no_better(results, layer),
            _accuracies(results, layer, none),
            rule_none,
        ),
        Finding(
            "contrast-needs-no-norm",
            "With a contrastive loss the same networks learn without any norm in the MLPs.",
            "Why did this happen?",
            _learns(results, "Contrastive Loss"),
            _accuracies(results, "Contrastive Loss"),
            rule_learns,
        ),
    ]


def _cosine_findings(results: Results) -> list[Finding]:
    collapsed = ("No Normalization", "Layer Norm")
    level = Value(mean=COLLAPSED_COSINE)
    negative = {row: value_of(results, row, "neg_cos") for row in (*collapsed, "BYOL")}
    one_point: list[Outcome] = [is_above(negative[row], level) for row in collapsed]
    positive = value_of(results, "BYOL", "pos_cos")
    return [
        Finding(
            "no-norm-is-one-point",
            "With no batch normalization, and with layer norm, projections of positive and negative examples are "
            "aligned (0.9999): mode collapse.",
            "Confirming our suspicions",
            all_of(*one_point),
            "negative cosine: " + listed([(row, negative[row]) for row in collapsed], 4),
            f"mean cosine of different pictures at least {COLLAPSED_COSINE:g} in the last epoch",
        ),
        Finding(
            "byol-separates",
            "With batch normalization projections are more similar between positive examples (0.88) than between "
            "negative examples (0.27).",
            "Confirming our suspicions",
            is_above(positive, negative["BYOL"], 0.3),
            listed([("positive", positive), ("negative", negative["BYOL"])], 3),
            "positive cosine above the negative by 0.3 or more, half of the post's difference",
        ),
    ]


def _end(results: Results, row: str) -> Value:
    return value_of(results, row, "neg_cos")


def _collapsed(results: Results, row: str) -> Outcome:
    """Whether different pictures give one projection in the last epoch; the target's may lie elsewhere."""
    spread = value_of(results, row, "z_std")
    return any_of(
        is_above(_end(results, row), Value(mean=COLLAPSED_COSINE)), is_at_most(spread, Value(mean=COLLAPSED_STD))
    )


def _ever_collapsed(results: Results, row: str) -> Outcome:
    """Whether a whole epoch was spent collapsed, in every seed."""
    each_seed: list[Outcome] = [holds_if(bool(_collapsed_epochs(result))) for result in results.get(row, ())]
    return all_of(*each_seed)


def _collapsed_epochs(result: Result) -> list[int]:
    epochs: dict[int, list[Mapping[str, float]]] = {}
    for line in result.lines:
        epochs.setdefault(math.ceil(line["epoch"]), []).append(line)
    return [
        epoch
        for epoch, lines in epochs.items()
        if fmean(line["neg_cos"] for line in lines) >= COLLAPSED_COSINE
        or fmean(line["z_std"] for line in lines) <= COLLAPSED_STD
    ]


def _for_good(results: Results, row: str) -> Outcome:
    """Collapsed at the end of a run long enough for the post's networks to recover."""
    outcome = _collapsed(results, row)
    return "not decided" if outcome == "holds" and _steps(results, row) < LONG_ENOUGH else outcome


def _recovers(results: Results, row: str) -> Outcome:
    """Collapsed for a while and not at the end; undecided while there is still time to recover."""
    outcome = all_of(_ever_collapsed(results, row), opposite(_collapsed(results, row)))
    waits = _collapsed(results, row) == "holds" and _steps(results, row) < LONG_ENOUGH
    return "not decided" if waits else outcome


def _steps(results: Results, row: str) -> int:
    return min((result.lines[-1]["step"] for result in results.get(row, ()) if result.lines), default=0)


def _course(results: Results, *rows: str) -> str:
    parts = []
    for row in rows:
        spent = ", ".join(f"{len(_collapsed_epochs(r))} of {r.run.epochs} epochs" for r in results.get(row, ()))
        spread = value_of(results, row, "z_std")
        end = listed([("negative cosine at the end", _end(results, row)), ("spread", spread)], 3)
        parts.append(f"{row}: collapsed in {spent}, {end}" if spent else f"{row}: not run")
    return "; ".join(parts)


def _long_findings(results: Results) -> list[Finding]:
    decays = {name: DECAY.format(name) for name in ("0", "1e-06", "1e-05", "0.0001", "0.001")}
    never: list[Outcome] = [_for_good(results, decays[name]) for name in ("0", "1e-06", "0.001")]
    standardized = "GN encoder with weight standardization, SGD"
    rule = (
        f"collapsed: cosine at least {COLLAPSED_COSINE:g}, or spread at most {COLLAPSED_STD:g}, over an epoch; "
        f"for good: still so after {LONG_ENOUGH:,} steps, the post's 100 epochs, or more"
    )
    return [
        Finding(
            "encoder-bn-recovers",
            "With batch normalization in the encoder and not in the MLPs, the network first collapses and then "
            "gradually separates negative examples from positive ones.",
            "Additional experiments; appendix",
            _recovers(results, NO_BN_BN),
            _course(results, NO_BN_BN),
            rule,
        ),
        Finding(
            "lars-with-encoder-bn-does-not-collapse",
            "With LARS and the authors' settings there is no mode collapse, without batch norm in the MLPs.",
            "Experiments without batch normalization in the MLPs",
            all_of(
                opposite(_collapsed(results, "BN encoder, LARS 0.2, no MLP BN")),
                _learns(results, "BN encoder, LARS 0.2, no MLP BN"),
            ),
            _course(results, "BN encoder, LARS 0.2, no MLP BN")
            + "; "
            + _accuracies(results, "BN encoder, LARS 0.2, no MLP BN"),
            f"not collapsed at the end, accuracy {LEARNS:g} points above the random network",
        ),
        Finding(
            "no-bn-at-all-never-recovers",
            "Without any batch normalization, SGD collapses almost immediately and never recovers.",
            "Experiments without batch normalization in the encoder",
            _for_good(results, NO_BN_GN),
            _course(results, NO_BN_GN),
            rule,
        ),
        Finding(
            "mlp-bn-prevents-collapse",
            "The two batch normalization layers in the MLPs alone prevent this collapse.",
            "Experiments without batch normalization in the encoder",
            all_of(
                opposite(_collapsed(results, "GN encoder, SGD, MLP BN")), _learns(results, "GN encoder, SGD, MLP BN")
            ),
            _course(results, "GN encoder, SGD, MLP BN") + "; " + _accuracies(results, "GN encoder, SGD, MLP BN"),
            f"not collapsed at the end, accuracy {LEARNS:g} points above the random network",
        ),
        Finding(
            "weight-decay-can-recover",
            "SGD at 0.2 with weight decay 1e-5 leaves the collapse around epoch 100; 1e-4 sometimes does; lower or "
            "higher values never.",
            "Weight Decay",
            all_of(
                _recovers(results, decays["1e-05"]),
                *never,
            ),
            _course(results, *decays.values()),
            rule + "; 1e-4 decides nothing",
        ),
        Finding(
            "weight-standardization-recovers",
            "A network with weight standardization and group normalization usually achieves some separated "
            "representation within 100 epochs.",
            "Weight Standardization",
            any_of(opposite(_for_good(results, standardized)), _recovers(results, standardized)),
            _course(results, standardized),
            rule,
        ),
    ]


def _peak(results: Results, row: str, layer: str) -> Value:
    """The epoch in which a layer's learning rate is highest."""
    peaks = []
    for result in results.get(row, ()):
        epochs, rates = result.course(("layers", layer, "rate"))
        peaks.append(epochs[rates.index(max(rates))] if rates else None)
    return Value.over(peaks)


def _lars_findings(results: Results) -> list[Finding]:
    high, middle, low = (LARS.format(rate) for rate in ("0.5,", "0.2,", "0.1,"))
    chosen, heads = "GN encoder, LARS on layers 1 and 2", "GN encoder, LARS on the MLPs"
    control = "GN encoder, SGD, layers 1 and 2 at 10 times the rate"
    peaks = {row: _peak(results, row, "encoder.layer1") for row in (high, low)}
    not_collapsed = "recovers: not collapsed at the end"

    def learnt(row: str) -> Outcome:
        return _undecided_if_short(results, row, all_of(opposite(_collapsed(results, row)), _learns(results, row)))

    return [
        Finding(
            "lars-recovers",
            "Without batch normalization, LARS at 0.2 recovers from collapse and learns; at 0.1 it never does.",
            "Experiments without batch normalization in the encoder",
            all_of(learnt(middle), _for_good(results, low)),
            _course(results, middle, low) + "; " + _accuracies(results, middle, low),
            f"{not_collapsed}, accuracy {LEARNS:g} points above the random network",
        ),
        Finding(
            "lars-on-two-layers",
            "LARS applied to layer1 and layer2 alone separates representations.",
            "Layerwise learning rate adaptation",
            learnt(chosen),
            _course(results, chosen) + "; " + _accuracies(results, chosen),
            f"{not_collapsed}, accuracy {LEARNS:g} points above the random network",
        ),
        Finding(
            "higher-rate-is-not-enough",
            "SGD with a higher learning rate on layers 1 and 2 does not recover: the rate must depend on the gradient.",
            "Layerwise learning rate adaptation",
            _for_good(results, control),
            _course(results, control),
            f"collapsed after {LONG_ENOUGH:,} steps, the post's 100 epochs, or more",
        ),
        Finding(
            "lars-on-the-mlps-collapses-again",
            "LARS on the MLPs alone disrupts the collapse, but the representation usually collapses again.",
            "Layerwise learning rate adaptation",
            _undecided_if_short(results, heads, _collapsed(results, heads)),
            _course(results, heads),
            "collapsed at the end",
        ),
        Finding(
            "timing-of-the-rate",
            "With a base rate of 0.5 the learning rate of layer1 peaks early (epoch 2) and learning starts; with 0.1 "
            "it peaks late (epoch 9) and does not.",
            "Layerwise learning rate adaptation",
            all_of(is_above(peaks[low], peaks[high], 1.0), learnt(high), _for_good(results, low)),
            "layer1's rate peaks in epoch: " + listed(list(peaks.items())),
            "the peak at 0.1 at least one epoch after that at 0.5, which learns, while 0.1 does not",
        ),
    ]


def _undecided_if_short(results: Results, row: str, outcome: Outcome) -> Outcome:
    """A run that has not learnt yet may still do so; only long ones can fail."""
    return "not decided" if outcome == "does not hold" and _steps(results, row) < LONG_ENOUGH else outcome
