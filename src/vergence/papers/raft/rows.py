"""The rows of the RAFT paper's tables and figures: their runs, and what is read of their results."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, linear_regression

from vergence import config as c
from vergence import study as s
from vergence.metrics.verdict import COLLAPSED_COSINE
from vergence.presets import NAMES, preset, raft_code

DATA = c.CIFAR10(size=96)
PICTURES = 50_000
"""Training pictures of CIFAR-10."""

RANDOM, SUPERVISED, CODE = "Random", "Supervised", " (authors' code)"

Weights = tuple[float, float]
"""alpha and beta, of alignment and of cross-model distance."""

SWEEP: tuple[Weights, ...] = ((1, 0), (1, 0.1), (1, 0.5), (1, 1), (1, 2), (1, 10), (10, 1))
"""Weights of Table 3. The paper's own values are not in the text we have; (1, 1) is Table 1's.

Two are controls: beta = 0 is alignment without any teacher, the same objective for BYOL' and RAFT and therefore one row
under the name of BYOL'; (10, 1) is (1, 0.1) but for the scale of the loss, which Adam all but ignores.
"""
BETAS = tuple(beta for alpha, beta in SWEEP if alpha == 1 and beta > 0)
SWEPT = ("BYOL'-LP", "BYOL'-NP", "RAFT-LP", "RAFT-NP")

WINDOW = 10
"""Epochs that the paper averages alignment and uniformity over (Table 1), the last thirtieth of its runs."""

AT_END = f"over the last {WINDOW} epochs, or the last quarter of a shorter run"

EPOCH = PICTURES // 128
"""Steps of one of the paper's epochs."""

LONG_ENOUGH = 10 * EPOCH
"""Steps from which on anything is said of a run. On digits collapse without predictor took some 400."""

DEVELOPED = 30 * EPOCH
"""Steps from which on anything is said of what a linear predictor does: one that starts as the identity leaves collapse
after 10-20 epochs (Section 3); on digits both were near a point after 500 steps, and on their way out 1,000 later."""

POINT = 2 - 2 * COLLAPSED_COSINE
"""Squared distance below which different directions count as one point, as the verdict has it: 0.06."""

FLAT = -2 * POINT
"""Uniformity of pictures at that distance from each other; above it, -0.12, they count as one point."""


def swept(name: str, weights: Weights) -> str:
    """Return the row of a name of Table 2 with other weights; its own row for (1, 1), which that table has."""
    alpha, beta = weights
    if beta == 0:
        name = name.replace("RAFT", "BYOL'")
    return name if weights == (1, 1) else f"{name} (alpha = {alpha:g}, beta = {beta:g})"


def document() -> dict[str, c.Run]:
    """Return every row as published: by the paper's text (Appendix C), then by the authors' code, with a mark."""
    rows = {name: preset("raft", name, DATA) for name in NAMES}
    rows[RANDOM] = replace(rows["BYOL-MLPP"], epochs=0)
    rows[SUPERVISED] = preset("raft", "supervised", DATA)
    for name in SWEPT:
        for alpha, beta in SWEEP:
            run = rows[name if beta else name.replace("RAFT", "BYOL'")]
            method = run.method
            assert isinstance(method, c.BYOLPrime | c.RAFT)
            rows.setdefault(
                swept(name, (alpha, beta)), replace(run, method=replace(method, alpha=float(alpha), beta=float(beta)))
            )
    return rows | {name + CODE: run for name, run in _as_their_code().items()}


def _as_their_code() -> dict[str, c.Run]:
    """Return Table 1's rows by the recipe of the published code, whose MLP predictor has batch norm."""
    rows = {
        name: raft_code(method, DATA) if name.endswith("MLPP") else preset("raft-code", name, DATA)
        for name, method in NAMES.items()
    }
    return rows | {RANDOM: replace(rows["BYOL-MLPP"], epochs=0)}


# --- what is read of results ------------------------------------------------------------------------------------------


def window(run: c.Run) -> int:
    """Return how many epochs at the end are averaged: `WINDOW`, at most a quarter of the run, at least one."""
    return max(1, min(WINDOW, run.epochs // 4))


ALIGNMENT = s.logged(
    "alignment", digits=3, about="mean squared distance of the two views' predictions, 0 to 4", epochs=window
)
UNIFORMITY = s.logged(
    "uniformity",
    about="log mean exp(-2 d²) of different pictures' projections, -8 to 0, 0 at collapse",
    epochs=window,
)
PUBLISHED = {"BYOL-MLPP": "68.08 ± 0.84", "BYOL-NP": "20.92 ± 1.29", RANDOM: "42.74 ± 0.41"}
"""Linear accuracy, percent (Section 3); the other cells of the paper's tables are not in the text we have."""

LINEAR = s.accuracy(
    "linear-raft",
    "linear",
    digits=2,
    about="test accuracy of a linear layer on the frozen encoder, percent",
    published=PUBLISHED | {name + CODE: value for name, value in PUBLISHED.items()},
)


def straightness(values: Sequence[float]) -> tuple[float, float]:
    """Return R² of a straight line through the second half of a course, and its fall; 0 for fewer than 3 values."""
    values = values[len(values) // 2 :]
    if len(values) < 3 or max(values) == min(values):
        return 0.0, 0.0
    slope, intercept = linear_regression(range(len(values)), values)
    mean, residual = fmean(values), sum((v - intercept - slope * i) ** 2 for i, v in enumerate(values))
    return 1 - residual / sum((v - mean) ** 2 for v in values), -slope * (len(values) - 1)


# --- the three classes of objective -----------------------------------------------------------------------------------

OPTIMIZER, REGULARIZER, NEITHER = "uniformity optimizer", "effective regularizer", "neither"
GAIN = 0.2
"""The least fall of uniformity since the first epoch that counts as optimized."""

CLASSES = (
    f"{OPTIMIZER}: at the end uniformity is lower than in the first epoch by {GAIN:g} or more, and below "
    f"{FLAT:g}; else {REGULARIZER}: alignment is above {POINT:g}, the squared distance of two directions whose cosine "
    f"is {COLLAPSED_COSINE:g}; else {NEITHER}. The end is the mean {AT_END}. Undecided below "
    f"{DEVELOPED:,} steps"
)

CLASS_OF = {
    **{f"{objective}-{slot}": OPTIMIZER for objective in ("BYOL'", "RAFT") for slot in ("MLPP", "LP")},
    "RAFT-NP": REGULARIZER,
    "BYOL'-NP": NEITHER,
}
"""The paper's own classes (Section 4.2)."""


def class_of(result: s.Result) -> str | None:
    """Return the paper's class (Section 4.2, Figure 2b) that a run's curves show; None where it is too short."""
    first, last, apart = s.first_epoch(result, "uniformity"), UNIFORMITY.read(result), ALIGNMENT.read(result)
    if s.steps(result) < DEVELOPED or first is None or last is None or apart is None:
        return None
    if first - last >= GAIN and last < FLAT:
        return OPTIMIZER
    return REGULARIZER if apart > POINT else NEITHER


def counted(words: Sequence[str | None]) -> str:
    """Return the words of several runs in one cell: the word where all agree, else how often each was said."""
    known = [word for word in words if word is not None]
    if len(set(known)) == 1:
        return known[0]
    return ", ".join(f"{known.count(word)} {word}" for word in dict.fromkeys(known))
