"""The RAFT paper's claims, each as a check on our runs.

A claim is judged only where all its rows were run, long enough: what a few hundred steps show says nothing of 300
epochs, whether it agrees or not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from vergence.experiments.judging import all_of, is_above, is_at_most, is_near, listed, opposite
from vergence.experiments.raft import rows
from vergence.experiments.raft.rows import BETAS, DEVELOPED, FLAT, GAIN, LONG_ENOUGH, POINT, RANDOM, scored, settled
from vergence.files.results import Results
from vergence.metrics.verdict import COLLAPSED_COSINE
from vergence.report.content import Finding, Outcome, Value

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

Judged = tuple[Outcome, str]
"""An outcome, and the numbers it rests on in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper says, and how it is judged.

    Attributes:
        slug, claim, source, rule: as in `Finding`.
        rows: whose results it needs.
        steps: that each of them that is trained must have made.
        judge: the outcome and its numbers, of results that are there.
    """

    slug: str
    claim: str
    source: str
    rule: str
    rows: Sequence[str]
    judge: Callable[[Results], Judged]
    steps: int = LONG_ENOUGH

    def judged(self, results: Results) -> Finding:
        """The finding: not decided where a row is missing or was trained for too few steps."""
        missing = [name for name in self.rows if not results.get(name)]
        if missing:
            outcome, numbers = "not decided", f"not run: {', '.join(missing)}"
        else:
            outcome, numbers = self.judge(results)
            made = min((rows.steps(r) for name in self.rows for r in results[name] if r.run.epochs), default=self.steps)
            if made < self.steps:
                outcome = "not decided"
                numbers += f". Runs of {made:,} steps; judged from {self.steps:,} on"
        return Finding(self.slug, self.claim, self.source, outcome, numbers, self.rule)


def findings(results: Results) -> list[Finding]:
    """Each claim of the paper, judged."""
    return [claim.judged(results) for claim in CLAIMS]


# --- checks -----------------------------------------------------------------------------------------------------------

Judge = Callable[[Results], Judged]


def _exactly(number: float) -> Value:
    return Value(mean=number, n=1)


def _accuracies(results: Results, names: Sequence[str]) -> str:
    return "linear accuracy: " + listed([(name, scored(results, name)) for name in names])


def _settled(results: Results, metric: str, names: Sequence[str], digits: int = 3) -> str:
    values = [(name, settled(results, name, metric)) for name in names]
    return f"{metric}: " + listed(values, digits)


def _exceeds(one: str, other: str, by: float) -> Judge:
    def judge(results: Results) -> Judged:
        return is_above(scored(results, one), scored(results, other), by), _accuracies(results, (one, other))

    return judge


def _no_better(names: Sequence[str]) -> Judge:
    def judge(results: Results) -> Judged:
        outcomes: list[Outcome] = [is_at_most(scored(results, n), scored(results, RANDOM), MARGIN) for n in names]
        return all_of(*outcomes), _accuracies(results, (*names, RANDOM))

    return judge


def _close(pairs: Sequence[tuple[str, str]], within: float) -> Judge:
    def judge(results: Results) -> Judged:
        outcomes: list[Outcome] = [is_near(scored(results, a), scored(results, b), within) for a, b in pairs]
        return all_of(*outcomes), _accuracies(results, list(dict.fromkeys(name for pair in pairs for name in pair)))

    return judge


def _collapses(name: str) -> Judge:
    def judge(results: Results) -> Judged:
        aligned = is_at_most(settled(results, name, "alignment"), _exactly(POINT))
        one = is_above(settled(results, name, "uniformity"), _exactly(FLAT))
        return all_of(aligned, one), "; ".join(_settled(results, m, [name]) for m in ("alignment", "uniformity"))

    return judge


def _aligned(kept: Sequence[str], lost: Sequence[str]) -> Judge:
    """Whether alignment stays above a point in some rows and falls to one in others."""

    def judge(results: Results) -> Judged:
        above: list[Outcome] = [is_above(settled(results, name, "alignment"), _exactly(POINT)) for name in kept]
        below: list[Outcome] = [is_at_most(settled(results, name, "alignment"), _exactly(POINT)) for name in lost]
        return all_of(*above, *below), _settled(results, "alignment", [*kept, *lost])

    return judge


def _uniform(names: Sequence[str], *, optimized: bool) -> Judge:
    """Whether uniformity ends lower than in the first epoch by `GAIN`, in all rows or in none."""

    def judge(results: Results) -> Judged:
        first = [(name, rows.begun(results, name, "uniformity")) for name in names]
        gains: list[Outcome] = [is_above(value, settled(results, name, "uniformity"), GAIN) for name, value in first]
        outcomes: list[Outcome] = gains if optimized else [opposite(gain) for gain in gains]
        return all_of(
            *outcomes
        ), f"first epoch: {listed(first, 2)}; at the end, {_settled(results, 'uniformity', names, 2)}"

    return judge


def _recovers(results: Results) -> Judged:
    said: list[str] = []
    held: list[bool] = []
    for result in results["BYOL-LPI"]:
        loss, uniform = rows.each_epoch(result, "loss"), rows.each_epoch(result, "uniformity")
        early = max(1, EARLY * len(loss) // max(1, rows.steps(result)))  # our epochs in the paper's first 20
        worst = max(range(len(uniform)), key=uniform.__getitem__)
        last = fmean(uniform[-rows.window(result.run) :])
        held.append(min(loss[:early]) <= NEAR_ZERO and 0 < worst < early and uniform[worst] - last >= GAIN)
        said.append(
            f"loss falls to {min(loss[:early]):.2f}; uniformity {uniform[0]:.2f} in epoch 1, highest in epoch "
            f"{worst + 1} of {len(uniform)} with {uniform[worst]:.2f}, {last:.2f} at the end"
        )
    return "holds" if all(held) else "not decided" if any(held) else "does not hold", "; ".join(said)


def _constant_rate(results: Results) -> Judged:
    outcomes: list[Outcome] = []
    said: list[str] = []
    for name in ("BYOL-LP", "BYOL-LPI"):
        found = [rows.straightness(rows.each_epoch(result, "uniformity")) for result in results[name]]
        fit, fall = (Value.over(numbers) for numbers in zip(*found, strict=True))
        outcomes.append(all_of(is_above(fit, _exactly(0.9)), is_above(fall, _exactly(0.1))))
        said.append(f"{name} " + listed([("R²", fit), ("fall", fall)], 2))
    return all_of(*outcomes), "; ".join(said)


def _weight_helps(results: Results) -> Judged:
    least, most = (settled(results, NP_OF_RAFT[i], "alignment") for i in (0, -1))
    outcome = all_of(is_at_most(least, _exactly(POINT)), is_above(most, least, POINT))
    return outcome, _settled(results, "alignment", NP_OF_RAFT)


def _tangential(results: Results) -> Judged:
    outcomes: list[Outcome] = [is_above(_exactly(FLAT), settled(results, n, "uniformity")) for n in TANGENTIAL]
    return all_of(*outcomes), _settled(results, "uniformity", TANGENTIAL)


def _same_encoders(results: Results) -> Judged:
    names = ("BYOL'-LP", "RAFT-LP")
    aligned, uniform = ([settled(results, name, metric) for name in names] for metric in ("alignment", "uniformity"))
    accuracy = [scored(results, name) for name in names]
    outcome = all_of(is_near(*accuracy, within=2), is_near(*aligned, within=0.1), is_near(*uniform, within=GAIN))
    alike = "; ".join(_settled(results, metric, names) for metric in ("alignment", "uniformity"))
    return outcome, f"{_accuracies(results, names)}; {alike}"


def _three_classes(results: Results) -> Judged:
    found = {name: [rows.class_of(result) for result in results[name]] for name in rows.CLASS_OF}
    if any(None in words for words in found.values()):
        return "not decided", "a log lacks a number"
    agree = all(word == rows.CLASS_OF[name] for name, words in found.items() for word in words)
    said = "; ".join(f"{name}: {rows.counted(words)}" for name, words in found.items())
    return "holds" if agree else "does not hold", said


# --- the claims -------------------------------------------------------------------------------------------------------

ACCURACY = "Linear accuracy"
ALIGNMENT, UNIFORMITY = (f"{name} {rows.AT_END}," for name in ("Alignment", "Uniformity"))
IS_POINT = f"{ALIGNMENT} is at most {POINT:g} and uniformity at least {FLAT:g}, as of cosines of {COLLAPSED_COSINE:g}."

CLAIMS = (
    Claim(
        slug="np-below-random",
        claim="Without predictor BYOL's encoder is worse than an untrained one: 20.92 ± 1.29 against 42.74 ± 0.41.",
        source="Section 3, Table 1",
        rule=f"{ACCURACY} of {RANDOM} exceeds that of BYOL-NP by {MARGIN:g} point or more.",
        rows=(RANDOM, "BYOL-NP"),
        judge=_exceeds(RANDOM, "BYOL-NP", MARGIN),
    ),
    Claim(
        slug="mlpp-above-random",
        claim="With its predictor it is far better than an untrained one: 68.08 ± 0.84.",
        source="Section 3, Table 1",
        rule=f"{ACCURACY} of BYOL-MLPP exceeds that of {RANDOM} by 10 points or more; the paper has 25.",
        rows=("BYOL-MLPP", RANDOM),
        judge=_exceeds("BYOL-MLPP", RANDOM, 10),
    ),
    Claim(
        slug="np-collapses",
        claim="Without predictor alignment is optimized too far and uniformity deteriorates: representations collapse.",
        source="Section 3, Table 1, Figure 4",
        rule=IS_POINT,
        rows=("BYOL-NP",),
        judge=_collapses("BYOL-NP"),
    ),
    Claim(
        slug="predictors-close",
        claim="Predictors of different structure give close accuracies.",
        source="Section 3, Figure 4c",
        rule=f"{ACCURACY} of BYOL-MLPP, -LP and -LPI differs by {CLOSE:g} points or less in each pair.",
        rows=(names := ("BYOL-MLPP", "BYOL-LP", "BYOL-LPI")),
        judge=_close(list(combinations(names, 2)), CLOSE),
        steps=DEVELOPED,
    ),
    Claim(
        slug="lpi-recovers",
        claim="From the identity the loss nears 0 and uniformity deteriorates for 10-20 epochs; then BYOL recovers.",
        source="Section 3, Figure 4",
        rule=(
            f"In the first {EARLY:,} steps, the paper's 20 epochs, the loss of BYOL-LPI falls to {NEAR_ZERO:g} "
            f"or below, and uniformity is at its highest, after the first epoch; at the end it is lower by {GAIN:g} or "
            f"more. In means over epochs; not decided where only some seeds do so."
        ),
        rows=("BYOL-LPI",),
        judge=_recovers,
        steps=DEVELOPED,
    ),
    Claim(
        slug="uniformity-constant-rate",
        claim="With a linear predictor uniformity is optimized at a constant rate after a certain phase of training.",
        source="Figure 4b",
        rule=(
            "Uniformity of BYOL-LP and BYOL-LPI over the second half of training follows a straight line, R² 0.9 or "
            "more, that falls by 0.1 or more."
        ),
        rows=("BYOL-LP", "BYOL-LPI"),
        judge=_constant_rate,
        steps=DEVELOPED,
    ),
    Claim(
        slug="bound-close",
        claim="BYOL' performs close to BYOL, whatever the predictor.",
        source="Section 4.1, Table 1",
        rule=f"{ACCURACY} of BYOL and BYOL' differs by {CLOSE:g} points or less for each of {', '.join(BY_PREDICTOR)}.",
        rows=[f"{objective}-{slot}" for slot in BY_PREDICTOR for objective in ("BYOL", "BYOL'")],
        judge=_close([(f"BYOL-{slot}", f"BYOL'-{slot}") for slot in BY_PREDICTOR], CLOSE),
        steps=DEVELOPED,
    ),
    Claim(
        slug="bound-subtle-when-linear",
        claim="With a linear predictor the differences between BYOL and BYOL' are subtle.",
        source="Section 4.1, Table 1",
        rule=f"{ACCURACY} of BYOL-LP and BYOL'-LP differs by 2 points or less.",
        rows=("BYOL-LP", "BYOL'-LP"),
        judge=_close([("BYOL-LP", "BYOL'-LP")], 2),
        steps=DEVELOPED,
    ),
    Claim(
        slug="bound-np-collapses",
        claim="Without predictor BYOL' collapses too.",
        source="Section 4.1, Table 1",
        rule=IS_POINT,
        rows=("BYOL'-NP",),
        judge=_collapses("BYOL'-NP"),
    ),
    Claim(
        slug="raft-works",
        claim="Running away from the teacher works as well as running towards it.",
        source="Section 4.2",
        rule=f"{ACCURACY} of RAFT and BYOL' differs by {CLOSE:g} points or less for each of MLPP, LP, LPI.",
        rows=[f"{objective}-{slot}" for slot in BY_PREDICTOR[:3] for objective in ("BYOL'", "RAFT")],
        judge=_close([(f"BYOL'-{slot}", f"RAFT-{slot}") for slot in BY_PREDICTOR[:3]], CLOSE),
        steps=DEVELOPED,
    ),
    Claim(
        slug="raft-np-no-better-than-random",
        claim="Without predictor RAFT gives no better representation than an untrained encoder.",
        source="Section 4.2",
        rule=f"{ACCURACY} of RAFT-NP exceeds that of {RANDOM} by no more than {MARGIN:g} point.",
        rows=("RAFT-NP", RANDOM),
        judge=_no_better(["RAFT-NP"]),
    ),
    Claim(
        slug="raft-np-regularizes",
        claim="Yet it prevents alignment from being optimized too far, which BYOL' without predictor does not.",
        source="Section 4.2",
        rule=f"{ALIGNMENT} is above {POINT:g} for RAFT-NP and not for BYOL'-NP.",
        rows=("RAFT-NP", "BYOL'-NP"),
        judge=_aligned(["RAFT-NP"], ["BYOL'-NP"]),
    ),
    Claim(
        slug="bound-np-whatever-beta",
        claim="No weight of the cross-model distance prevents it: alignment of BYOL'-NP goes to 0 quickly.",
        source="Figure 5a",
        rule=f"{ALIGNMENT} is at most {POINT:g} for each beta in {', '.join(f'{b:g}' for b in BETAS)}.",
        rows=NP_OF_BOUND,
        judge=_aligned([], NP_OF_BOUND),
    ),
    Claim(
        slug="raft-np-beta-helps",
        claim="A small beta does not effectively regularize alignment of RAFT-NP; a larger one helps.",
        source="Figure 5b",
        rule=(
            f"{ALIGNMENT} is at most {POINT:g} for beta = {BETAS[0]:g}, and for beta = {BETAS[-1]:g} higher than that "
            f"by {POINT:g} or more."
        ),
        rows=NP_OF_RAFT,
        judge=_weight_helps,
    ),
    Claim(
        slug="raft-np-uniformity",
        claim="RAFT-NP does not optimize uniformity.",
        source="Section 4.2, Figure 5b",
        rule=f"{UNIFORMITY} is for no beta lower than in the first epoch by {GAIN:g} or more.",
        rows=NP_OF_RAFT,
        judge=_uniform(NP_OF_RAFT, optimized=False),
    ),
    Claim(
        slug="raft-lp-uniformity",
        claim="RAFT-LP does, consistently.",
        source="Figure 5c",
        rule=f"{UNIFORMITY} is for each beta lower than in the first epoch by {GAIN:g} or more.",
        rows=LP_OF_RAFT,
        judge=_uniform(LP_OF_RAFT, optimized=True),
        steps=DEVELOPED,
    ),
    Claim(
        slug="raft-np-hard-to-balance",
        claim="Without predictor alignment and cross-model distance are hard to balance.",
        source="Section 4.2, Table 3",
        rule=f"{ACCURACY} of RAFT-NP exceeds that of {RANDOM} by no more than {MARGIN:g} point for each beta.",
        rows=(*NP_OF_RAFT, RANDOM),
        judge=_no_better(NP_OF_RAFT),
    ),
    Claim(
        slug="tangential-no-collapse",
        claim="Keeping only the tangential gradient turns none of BYOL, BYOL' and RAFT into a collapsed one.",
        source="Section 5, Remark; Table 1",
        rule=f"{UNIFORMITY} is below {FLAT:g} for each, as it is not of cosines of {COLLAPSED_COSINE:g} and more.",
        rows=TANGENTIAL,
        judge=_tangential,
        steps=DEVELOPED,
    ),
    Claim(
        slug="one-encoder",
        claim="With a linear predictor running towards the teacher and away from it give the same kind of encoder.",
        source="Section 5; Theorem 5.1 for paired first weights",
        rule=f"BYOL'-LP and RAFT-LP differ by at most 2 points, 0.1 in alignment and {GAIN:g} in uniformity.",
        rows=("BYOL'-LP", "RAFT-LP"),
        judge=_same_encoders,
        steps=DEVELOPED,
    ),
    Claim(
        slug="three-classes",
        claim="BYOL' and RAFT optimize uniformity; without predictor RAFT still regularizes alignment, BYOL' does not.",
        source="Section 4.2, Figure 2b",
        rule=f"Every run falls into the class the paper gives it. {rows.CLASSES}.",
        rows=tuple(rows.CLASS_OF),
        judge=_three_classes,
        steps=DEVELOPED,
    ),
)
