"""A probe's accuracy beside what it must beat, in numbers and in words: the same in terminal, tables and page.

All functions read summaries (`summary.json`) of one row's runs. A summary of an older run has no baselines, no interval
and no balanced accuracy; what is not there is left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vergence.report.content import Value

Summary = Mapping[str, Any]

NAMES = {"knn": "kNN", "linear": "linear", "logistic": "logistic", "linear-raft": "linear (RAFT)"}
"""The probes, and what each is called."""

NO_PICTURE = "no picture"
BASELINES = {
    "untrained": "the untrained encoder's",
    "starting weights": "the starting weights'",
    NO_PICTURE: "the most frequent class's",
}
"""What an accuracy stands beside, and whose it is, in a sentence."""

MEANINGS = {
    "untrained": "the same probe on the encoder's random weights, before training",
    "starting weights": "the same probe on the weights that the run started from",
    NO_PICTURE: "a classifier that sees no picture and always says the most frequent training class",
}
BALANCED = "mean over classes of each class's own accuracy; where classes differ in size, read it instead"

UNBALANCED = 5.0
"""Points by which accuracy may exceed its mean over classes before that is said in words."""

IN_COLLAPSE = (
    "High accuracy on few or easy pictures does not show that training worked: an encoder with random weights can "
    "have it too. See docs/report.md."
)


def score_of(summary: Summary, probe: str) -> Summary:
    """Return a probe's entry of a summary; an empty one where it was not scored."""
    score = summary.get(probe)
    return score if isinstance(score, Mapping) and score.get("accuracy") is not None else {}


def accuracy(summaries: Sequence[Summary], probe: str) -> Value:
    """Return a row's accuracy, in percent: mean and spread over its runs, or a lone run with its interval.

    Baselines and balanced accuracy are means over the runs that have them.
    """
    scores = [score for summary in summaries if (score := score_of(summary, probe))]
    found = Value.over([score["accuracy"] for score in scores])
    ends = scores[0].get("interval") if len(scores) == 1 else None
    names = dict.fromkeys(name for score in scores for name in score.get("baselines") or {})
    means = {name: Value.over([(score.get("baselines") or {}).get(name) for score in scores]).mean for name in names}
    return Value(
        mean=found.mean,
        spread=found.spread,
        n=found.n,
        interval=(ends[0], ends[1]) if ends else None,
        balanced=Value.over([score.get("balanced_accuracy") for score in scores]).mean,
        baselines={name: mean for name, mean in means.items() if mean is not None},
    )


# --- what must be said in words ---------------------------------------------------------------------------------------


def warnings(summaries: Sequence[Summary]) -> list[str]:
    """Return what a reader of a row's accuracies must know, a sentence each.

    They are no better than what they must beat, rest on frequent classes, or come from an unfinished classifier.
    """
    return [sentence for probe in NAMES for sentence in _warnings_of(summaries, probe)]


def _warnings_of(summaries: Sequence[Summary], probe: str) -> Iterable[str]:
    scores = [score for summary in summaries if (score := score_of(summary, probe))]
    value, name = accuracy(summaries, probe), NAMES.get(probe, probe)
    for baseline in value.baselines:
        pairs = [
            (score["accuracy"], (score.get("baselines") or {})[baseline])
            for score in scores
            if (score.get("baselines") or {}).get(baseline) is not None
        ]
        own, other = (Value.over(side).mean or 0.0 for side in zip(*pairs, strict=True))
        gain = Value.over([one - two for one, two in pairs])
        if value.interval is not None:
            noise = value.interval[1] - own
        else:
            noise = 2 * gain.spread / gain.n**0.5 if gain.spread is not None else 0.0
        trained = any(summary.get("encoder") != "starting weights" for summary in summaries)
        if sentence := _shortfall(name, baseline, own, other, noise, trained):
            yield sentence
    if value.mean is not None and value.balanced is not None and value.mean - value.balanced >= UNBALANCED:
        yield (
            f"{name} {value.mean:.1f}% rests on the frequent classes: averaged over classes it is {value.balanced:.1f}%"
        )
    if probe == "linear" and any(score.get("converged") is False for score in scores):
        yield f"{name} {value.mean or 0.0:.1f}%: its classifier has not converged, so this may be too low"


def _shortfall(name: str, baseline: str, own: float, other: float, noise: float, trained: bool) -> str:
    """Return what to say of an accuracy beside a baseline; nothing where it is above, as it should be."""
    if baseline == NO_PICTURE:
        if own - noise > other:
            return ""
        beside = "is no better than" if own <= other else "on so few pictures cannot be told from"
        return f"{name} {own:.1f}% {beside} always naming the most frequent class, {other:.1f}%"
    if own >= other:
        return ""
    whose = BASELINES.get(baseline, f"that of {baseline},")
    if other - own > noise:
        worse = "training made it worse" if trained else "these weights are worse than random ones here"
        return f"{name} {own:.1f}% is below {whose} {other:.1f}%: {worse}"
    no_better = "training has not made it better" if trained else "these weights are no better than random ones here"
    return f"{name} {own:.1f}% is not above {whose} {other:.1f}%: {no_better}"


def best_in_collapse(rows: Mapping[str, Sequence[Summary]], where: str = "") -> str:
    """Return the sentence that a run in collapse has the best accuracy of all rows; nothing where none has.

    Args:
        rows: summaries by the name of their row, all on the same pictures.
        where: what the rows have in common, such as " on digits".
    """
    states = {name: _collapsed(summaries) for name, summaries in rows.items()}
    best: dict[str, list[str]] = {}
    for probe in NAMES:
        means = {name: accuracy(summaries, probe).mean for name, summaries in rows.items()}
        known = {name: mean for name, mean in means.items() if mean is not None}
        others = [mean for name, mean in known.items() if not states[name]]
        if others and known[first := max(known, key=lambda name: known[name])] > max(others):
            best.setdefault(first, []).append(f"{NAMES.get(probe, probe)} ({known[first]:.1f}%)")
    return " ".join(
        [
            *(
                f"The best {', '.join(numbers)}{where} {'belongs' if len(numbers) == 1 else 'belong'} to {name}, "
                f"a run in {states[name]}."
                for name, numbers in best.items()
            ),
            *([IN_COLLAPSE] if best else []),
        ]
    )


def _collapsed(summaries: Sequence[Summary]) -> str:
    """Return the collapse that all runs of a row are in, the first named; nothing where one is in none."""
    states = [state for summary in summaries if (state := (summary.get("verdict") or {}).get("state"))]
    return states[0] if states and all("collapse" in state for state in states) else ""


# --- protocols --------------------------------------------------------------------------------------------------------

_COUNTS = re.compile(
    r"\b(?:first|other|on|of|from) \d[\d,]*|\d[\d,]*(?= (?:[\w-]+ ){0,2}pictures)|\d[\d,]*(?= (?:training|test)\b)"
    r"|(?<=\bC = )[\d.e+-]+|; not converged[^;]*"
)
"""How many pictures there were, the strength that was chosen on them and how far a fit came: how a number came out, not
how it was taken."""


def protocols(summaries: Sequence[Summary], probe: str) -> dict[str, str]:
    """Return the protocols of a row's runs in their own words, by the same words without counts of pictures."""
    said = [str(score["protocol"]) for summary in summaries if (score := score_of(summary, probe)).get("protocol")]
    return {_COUNTS.sub("", protocol): protocol for protocol in reversed(said)}


def mixed_protocols(rows: Mapping[str, Sequence[Summary]]) -> list[str]:
    """Return a sentence for each probe whose accuracies were not all taken in the same way."""
    sentences = []
    for probe in NAMES:
        of_row: dict[str, list[str]] = {}
        words: dict[str, str] = {}
        for name, summaries in rows.items():
            for same, said in protocols(summaries, probe).items():
                of_row.setdefault(same, []).append(name)
                words.setdefault(same, said)
        if len(of_row) > 1:
            each = "; ".join(
                f"{words[same]} (in {', '.join(f'“{name}”' for name in names)})" for same, names in of_row.items()
            )
            sentences.append(f"{NAMES.get(probe, probe)} has more than one protocol, compare within one only. {each}.")
    return sentences
