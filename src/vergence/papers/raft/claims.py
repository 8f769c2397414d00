"""The RAFT paper's claims, each as a check on our runs.

A claim is judged only where all its rows were run, long enough: what a few hundred steps show says nothing of 300
epochs, whether it agrees or not.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from vergence import study as s
from vergence.metrics.verdict import COLLAPSED_COSINE
from vergence.papers.raft import rows
from vergence.papers.raft.rows import BETAS, DEVELOPED, FLAT, GAIN, LONG_ENOUGH, POINT, RANDOM

EARLY = 20 * rows.EPOCH
"""Steps in which the paper has LPI nearly collapse."""

MARGIN = 1.0
"""Percent points that count as a difference: two standard errors of an accuracy of 50 on 10,000 pictures."""

CLOSE = 5.0
"""Percent points that the paper would call close: it leaves differences between predictors unremarked."""

NEAR_ZERO = 0.4
"""A tenth of BYOL's loss, summed over both directions, for directions that know nothing of each other."""

BY_PREDICTOR = ("MLPP", "LP", "LPI", "NP")
TANGENTIAL = ("TanBYOL-LP", "TanBYOL'-LP", "TanRAFT-LP")
NP_OF_BOUND = [rows.swept("BYOL'-NP", (1, beta)) for beta in BETAS]
NP_OF_RAFT = [rows.swept("RAFT-NP", (1, beta)) for beta in BETAS]
LP_OF_RAFT = [rows.swept("RAFT-LP", (1, beta)) for beta in BETAS]

ALIGNMENT, UNIFORMITY = rows.ALIGNMENT, replace(rows.UNIFORMITY, digits=3)
ACCURACY = replace(rows.LINEAR, label="linear accuracy", digits=1)

# --- checks -----------------------------------------------------------------------------------------------------------


def _close(pairs: Sequence[tuple[str, str]], within: float) -> s.Check:
    names = dict.fromkeys(name for pair in pairs for name in pair)
    return s.all_of(*(s.close(ACCURACY, pair, within) for pair in pairs)).telling(ACCURACY.tells(*names))


def _no_better(names: Sequence[str]) -> s.Check:
    return s.at_most(ACCURACY, names, RANDOM, MARGIN)


def _collapses(name: str) -> s.Check:
    return s.all_of(s.at_most(ALIGNMENT, name, POINT), s.at_least(UNIFORMITY, name, FLAT))


def _aligned(kept: Sequence[str], lost: Sequence[str]) -> s.Check:
    """Return the check that alignment stays above a point in some rows and falls to one in others."""
    checks = [
        *(s.above(ALIGNMENT, name, POINT) for name in kept),
        *(s.at_most(ALIGNMENT, name, POINT) for name in lost),
    ]
    return s.all_of(*checks).telling(ALIGNMENT.tells(*kept, *lost))


def _never_falls(names: Sequence[str]) -> s.Check:
    none = s.all_of(*(s.opposite(s.falls(rows.UNIFORMITY, name, GAIN)) for name in names))
    return none.telling(s.falls(rows.UNIFORMITY, names, GAIN).numbers)


def _weight_helps() -> s.Check:
    least, most = NP_OF_RAFT[0], NP_OF_RAFT[-1]
    check = s.all_of(s.at_most(ALIGNMENT, least, POINT), s.above(ALIGNMENT, most, least, POINT))
    return replace(check.telling(ALIGNMENT.tells(*NP_OF_RAFT)), rows=tuple(NP_OF_RAFT))


def _same_encoders() -> s.Check:
    names = ("BYOL'-LP", "RAFT-LP")
    return s.all_of(s.close(ACCURACY, names, 2), s.close(ALIGNMENT, names, 0.1), s.close(UNIFORMITY, names, GAIN))


def _recovers(results: s.Results) -> s.Judged:
    said: list[str] = []
    held: list[bool] = []
    for result in results["BYOL-LPI"]:
        loss, uniform = (list(result.by_epoch(metric).values()) for metric in ("loss", "uniformity"))
        early = max(1, EARLY * len(loss) // max(1, s.steps(result)))  # our epochs in the paper's first 20
        worst = max(range(len(uniform)), key=uniform.__getitem__)
        last = fmean(uniform[-rows.window(result.run) :])
        held.append(min(loss[:early]) <= NEAR_ZERO and 0 < worst < early and uniform[worst] - last >= GAIN)
        said.append(
            f"loss falls to {min(loss[:early]):.2f}; uniformity {uniform[0]:.2f} in epoch 1, highest in epoch "
            f"{worst + 1} of {len(uniform)} with {uniform[worst]:.2f}, {last:.2f} at the end"
        )
    return "holds" if all(held) else "not decided" if any(held) else "does not hold", "; ".join(said)


def _constant_rate(results: s.Results) -> s.Judged:
    outcomes, said = list[str](), list[str]()
    for name in ("BYOL-LP", "BYOL-LPI"):
        found = [rows.straightness([*result.by_epoch("uniformity").values()]) for result in results[name]]
        fit, fall = (s.Value.over(numbers) for numbers in zip(*found, strict=True))
        outcomes += [s.is_above(fit, 0.9), s.is_above(fall, 0.1)]
        said.append(f"{name} " + s.listed([("R²", fit), ("fall", fall)], 2))
    return s.all_hold(outcomes), "; ".join(said)


def _three_classes(results: s.Results) -> s.Judged:
    found = {name: [rows.class_of(result) for result in results[name]] for name in rows.CLASS_OF}
    if any(None in words for words in found.values()):
        return "not decided", "a log lacks a number"
    agree = all(word == rows.CLASS_OF[name] for name, words in found.items() for word in words)
    said = "; ".join(f"{name}: {rows.counted(words)}" for name, words in found.items())
    return "holds" if agree else "does not hold", said


# --- the claims -------------------------------------------------------------------------------------------------------

IN_ALIGNMENT, IN_UNIFORMITY = (f"{name} {rows.AT_END}," for name in ("Alignment", "Uniformity"))
IS_POINT = (
    f"{IN_ALIGNMENT} is at most {POINT:g} and uniformity at least {FLAT:g}, as of cosines of {COLLAPSED_COSINE:g}."
)


def _claim(slug: str, text: str, source: str, check: s.Check, rule: str, least: int = LONG_ENOUGH) -> s.Claim:
    """Return a claim that is not decided where a row is missing or was trained for fewer steps than `least`."""
    return s.Claim(slug, text, s.where_run(s.after(least, check)), source, rule)


CLAIMS = (
    _claim(
        "np-below-random",
        "Without predictor BYOL's encoder is worse than an untrained one: 20.92 ± 1.29 against 42.74 ± 0.41.",
        "Section 3, Table 1",
        s.above(ACCURACY, RANDOM, "BYOL-NP", MARGIN),
        f"Linear accuracy of {RANDOM} exceeds that of BYOL-NP by {MARGIN:g} point or more.",
    ),
    _claim(
        "mlpp-above-random",
        "With its predictor it is far better than an untrained one: 68.08 ± 0.84.",
        "Section 3, Table 1",
        s.above(ACCURACY, "BYOL-MLPP", RANDOM, 10),
        f"Linear accuracy of BYOL-MLPP exceeds that of {RANDOM} by 10 points or more; the paper has 25.",
    ),
    _claim(
        "np-collapses",
        "Without predictor alignment is optimized too far and uniformity deteriorates: representations collapse.",
        "Section 3, Table 1, Figure 4",
        _collapses("BYOL-NP"),
        IS_POINT,
    ),
    _claim(
        "predictors-close",
        "Predictors of different structure give close accuracies.",
        "Section 3, Figure 4c",
        s.close(ACCURACY, ("BYOL-MLPP", "BYOL-LP", "BYOL-LPI"), CLOSE),
        f"Linear accuracy of BYOL-MLPP, -LP and -LPI differs by {CLOSE:g} points or less in each pair.",
        DEVELOPED,
    ),
    _claim(
        "lpi-recovers",
        "From the identity the loss nears 0 and uniformity deteriorates for 10-20 epochs; then BYOL recovers.",
        "Section 3, Figure 4",
        s.Check(_recovers, rows=("BYOL-LPI",)),
        (
            f"In the first {EARLY:,} steps, the paper's 20 epochs, the loss of BYOL-LPI falls to {NEAR_ZERO:g} "
            f"or below, and uniformity is at its highest, after the first epoch; at the end it is lower by {GAIN:g} or "
            f"more. In means over epochs; not decided where only some seeds do so."
        ),
        DEVELOPED,
    ),
    _claim(
        "uniformity-constant-rate",
        "With a linear predictor uniformity is optimized at a constant rate after a certain phase of training.",
        "Figure 4b",
        s.Check(_constant_rate, rows=("BYOL-LP", "BYOL-LPI")),
        (
            "Uniformity of BYOL-LP and BYOL-LPI over the second half of training follows a straight line, R² 0.9 or "
            "more, that falls by 0.1 or more."
        ),
        DEVELOPED,
    ),
    _claim(
        "bound-close",
        "BYOL' performs close to BYOL, whatever the predictor.",
        "Section 4.1, Table 1",
        _close([(f"BYOL-{slot}", f"BYOL'-{slot}") for slot in BY_PREDICTOR], CLOSE),
        f"Linear accuracy of BYOL and BYOL' differs by {CLOSE:g} points or less for each of {', '.join(BY_PREDICTOR)}.",
        DEVELOPED,
    ),
    _claim(
        "bound-subtle-when-linear",
        "With a linear predictor the differences between BYOL and BYOL' are subtle.",
        "Section 4.1, Table 1",
        s.close(ACCURACY, ("BYOL-LP", "BYOL'-LP"), 2),
        "Linear accuracy of BYOL-LP and BYOL'-LP differs by 2 points or less.",
        DEVELOPED,
    ),
    _claim(
        "bound-np-collapses",
        "Without predictor BYOL' collapses too.",
        "Section 4.1, Table 1",
        _collapses("BYOL'-NP"),
        IS_POINT,
    ),
    _claim(
        "raft-works",
        "Running away from the teacher works as well as running towards it.",
        "Section 4.2",
        _close([(f"BYOL'-{slot}", f"RAFT-{slot}") for slot in BY_PREDICTOR[:3]], CLOSE),
        f"Linear accuracy of RAFT and BYOL' differs by {CLOSE:g} points or less for each of MLPP, LP, LPI.",
        DEVELOPED,
    ),
    _claim(
        "raft-np-no-better-than-random",
        "Without predictor RAFT gives no better representation than an untrained encoder.",
        "Section 4.2",
        _no_better(["RAFT-NP"]),
        f"Linear accuracy of RAFT-NP exceeds that of {RANDOM} by no more than {MARGIN:g} point.",
    ),
    _claim(
        "raft-np-regularizes",
        "Yet it prevents alignment from being optimized too far, which BYOL' without predictor does not.",
        "Section 4.2",
        _aligned(["RAFT-NP"], ["BYOL'-NP"]),
        f"{IN_ALIGNMENT} is above {POINT:g} for RAFT-NP and not for BYOL'-NP.",
    ),
    _claim(
        "bound-np-whatever-beta",
        "No weight of the cross-model distance prevents it: alignment of BYOL'-NP goes to 0 quickly.",
        "Figure 5a",
        _aligned([], NP_OF_BOUND),
        f"{IN_ALIGNMENT} is at most {POINT:g} for each beta in {', '.join(f'{b:g}' for b in BETAS)}.",
    ),
    _claim(
        "raft-np-beta-helps",
        "A small beta does not effectively regularize alignment of RAFT-NP; a larger one helps.",
        "Figure 5b",
        _weight_helps(),
        f"{IN_ALIGNMENT} is at most {POINT:g} for beta = {BETAS[0]:g}, and for beta = {BETAS[-1]:g} higher than that "
        f"by {POINT:g} or more.",
    ),
    _claim(
        "raft-np-uniformity",
        "RAFT-NP does not optimize uniformity.",
        "Section 4.2, Figure 5b",
        _never_falls(NP_OF_RAFT),
        f"{IN_UNIFORMITY} is for no beta lower than in the first epoch by {GAIN:g} or more.",
    ),
    _claim(
        "raft-lp-uniformity",
        "RAFT-LP does, consistently.",
        "Figure 5c",
        s.falls(rows.UNIFORMITY, LP_OF_RAFT, GAIN),
        f"{IN_UNIFORMITY} is for each beta lower than in the first epoch by {GAIN:g} or more.",
        DEVELOPED,
    ),
    _claim(
        "raft-np-hard-to-balance",
        "Without predictor alignment and cross-model distance are hard to balance.",
        "Section 4.2, Table 3",
        _no_better(NP_OF_RAFT),
        f"Linear accuracy of RAFT-NP exceeds that of {RANDOM} by no more than {MARGIN:g} point for each beta.",
    ),
    _claim(
        "tangential-no-collapse",
        "Keeping only the tangential gradient turns none of BYOL, BYOL' and RAFT into a collapsed one.",
        "Section 5, Remark; Table 1",
        s.at_most(UNIFORMITY, TANGENTIAL, FLAT),
        f"{IN_UNIFORMITY} is below {FLAT:g} for each, as it is not of cosines of {COLLAPSED_COSINE:g} and more.",
        DEVELOPED,
    ),
    _claim(
        "one-encoder",
        "With a linear predictor running towards the teacher and away from it give the same kind of encoder.",
        "Section 5; Theorem 5.1 for paired first weights",
        _same_encoders(),
        f"BYOL'-LP and RAFT-LP differ by at most 2 points, 0.1 in alignment and {GAIN:g} in uniformity.",
        DEVELOPED,
    ),
    _claim(
        "three-classes",
        "BYOL' and RAFT optimize uniformity; without predictor RAFT still regularizes alignment, BYOL' does not.",
        "Section 4.2, Figure 2b",
        s.Check(_three_classes, rows=tuple(rows.CLASS_OF)),
        f"Every run falls into the class the paper gives it. {rows.CLASSES}.",
        DEVELOPED,
    ),
)
"""The claims of the paper, in its order."""
