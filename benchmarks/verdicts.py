"""How often the verdict is right: what it said while runs trained, against what came out.

    python benchmarks/verdicts.py [--check]               # writes the tables of docs/metrics.md and results/verdicts.md
    python benchmarks/verdicts.py RUNS.tar.gz FOLDER ...  # says the same tables of other runs

Runs come from the files `runs.tar.gz` of docs/results, or from those that are named, or from folders of runs. Each is
asked after 10%, 30% and 100% of its training; one that lies in several files counts once. What came out is decided by
`judged.py`, from numbers that no rule of a verdict reads: an encoder has learned, or lost, or neither is shown.

Precision is the share of runs so called that came out so; recall is the share of runs that came out so which are so
called. "healthy" is right of a run that has learned and wrong of one that has lost; "complete collapse" and
"dimensional collapse" are right of one that has lost and wrong of one that has learned. Runs of which neither is shown
decide nothing: the first precision leaves them out, the second counts them as wrong. Intervals are Wilson's, 95%; they
take runs for independent, which the seeds of a row are not quite.
"""

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from unittest.mock import patch

from vergence.errors import VergenceError
from vergence.metrics import verdict
from vergence.metrics.probe import interval
from vergence.metrics.verdict import Rule
from vergence.study.kept import KEPT

sys.path.insert(0, str(Path(__file__).parent))
from judged import ABOUT, BOTH, COLLAPSE, LEARNED, LOST, OUTCOMES, PROJECTIONS, RIGHT, WORDS, Judged, gather, group
from tables import ROOT, Cells, filled, table

PAGES = (ROOT / "docs" / "metrics.md", ROOT / "docs" / "results" / "verdicts.md")
MOMENTS = {"10%": 0.1, "30%": 0.3, "100%": 1.0}

LOW_RANK = 0.5
"""Share of the untrained encoder's rank below which a representation counts as one that has lost directions."""


# --- tables -----------------------------------------------------------------------------------------------------------

Runs = Sequence[Judged]


def share(part: int, whole: int) -> str:
    """Return a share in percent, with Wilson's interval and the numbers that it is made of."""
    if not whole:
        return "—"
    low, high = interval(part, whole)
    return f"{100 * part / whole:.0f} [{low:.0f}-{high:.0f}] ({part}/{whole})"


def triple(runs: Iterable[Judged]) -> str:
    """Return how many have learned, neither, and lost."""
    count = Counter(one.outcome for one in runs)
    return " / ".join(str(count[outcome]) for outcome in OUTCOMES) if count else "—"


def saying(runs: Runs, about: str, moment: str, word: str) -> list[Judged]:
    """Return the runs of which that was said; a word may be "collapse", which is both kinds of it."""
    states = {one.identity: one.said(MOMENTS[moment], about).state for one in runs}
    return [one for one in runs if word in (states[one.identity], group(states[one.identity]))]


def rates(runs: Runs, about: str, moment: str, word: str) -> Cells:
    """Return precision of decided runs and of all, and recall."""
    said = Counter(one.outcome for one in saying(runs, about, moment, word))
    right, whole = said[RIGHT[word]], sum(one.outcome == RIGHT[word] for one in runs)
    return share(right, said[LEARNED] + said[LOST]), share(right, said.total()), share(right, whole)


RATES = ("precision, %", "precision, neither as wrong", "recall, %")
HEALTHY_AND_COLLAPSE = tuple(f"{word}: {rate}" for word in RIGHT for rate in RATES)


def confusion(runs: Runs) -> list[str]:
    """What was said, against what came out."""
    rows = []
    for about in ABOUT:
        for moment in MOMENTS:
            rows.append((about, moment, *(triple(saying(runs, about, moment, word)) for word in WORDS)))
    ends = (triple(one for one in runs if one.end and one.end.state == word) for word in WORDS)
    rows.append(("representation", "the end, in evaluation mode", *ends))
    note = f"{len(runs)} runs, of which {triple(runs)} learned / neither / lost; each cell has these three."
    return [*table(("verdict on", "after", *WORDS), rows), "", note]


def right(runs: Runs) -> list[str]:
    rows = [
        (about, moment, word, *rates(runs, about, moment, word))
        for about in ABOUT
        for word in RIGHT
        for moment in MOMENTS
    ]
    return table(("verdict on", "after", "says", *RATES), rows)


def by(name: str, key: Callable[[Judged], str], about: str) -> Callable[[Runs], list[str]]:
    """Return the table of groups of runs, at the end of the training."""

    def made(runs: Runs) -> list[str]:
        groups: dict[str, list[Judged]] = {}
        for one in sorted(runs, key=key):
            groups.setdefault(key(one), []).append(one)
        rows = [
            (group, triple(some), *(cell for word in RIGHT for cell in rates(some, about, "100%", word)))
            for group, some in groups.items()
        ]
        return table((name, "learned / neither / lost", *HEALTHY_AND_COLLAPSE), rows)

    return made


def early(runs: Runs) -> list[str]:
    """Since when the projections' verdict is right."""
    rows = []
    for word, outcome in RIGHT.items():
        some = [one for one in runs if one.outcome == outcome]
        since = sorted(known for one in some if (known := one.right_since) is not None)
        least = f"{100 * statistics.median(since):.0f}" if since else "—"
        most = f"{100 * since[math.ceil(0.9 * len(since)) - 1]:.0f}" if since else "—"
        rows.append((f"{word}, where the encoder has {outcome}", share(len(since), len(some)), least, most))
    heads = ("right word", "right at the end, %", "and to the end since, % of training: median", "of nine in ten")
    return table(heads, rows)


def ranks(runs: Runs) -> list[str]:
    """The projections' collapse, against the representation's rank."""
    known = [one for one in runs if one.rank is not None]
    low = [one for one in known if one.rank is not None and one.rank < LOW_RANK]
    rows = []
    for moment in MOMENTS:
        said = saying(known, PROJECTIONS, moment, "collapse")
        both = [one for one in said if one in low]
        rows.append((moment, share(len(both), len(said)), share(len(both), len(low))))
    return table(("after", "so called that end below half of the rank, %", "of those below, so called, %"), rows)


def recovery(runs: Runs) -> list[str]:
    """What the projections' verdict said where a run was worse than untrained early, by how it ended."""
    dips: dict[str, list[Judged]] = {word: [] for word in WORDS}
    for one in runs:
        if one.dip is not None:
            dips[one.said(one.dip, PROJECTIONS).state].append(one)
    rows = [
        (word, str(len(some)), str(sum(one.outcome == LEARNED for one in some)), triple(some))
        for word, some in dips.items()
    ]
    count, looked = sum(map(len, dips.values())), sum(one.looked for one in runs)
    note = f"{count} of {looked} runs that a probe looked at were below the untrained encoder in their first half."
    return [*table(("verdict then", "runs", "recovered", "learned / neither / lost"), rows), "", note]


def rules(runs: Runs) -> list[str]:
    """What each rule said at the end, against what came out."""
    rows = []
    for about in ABOUT[:2]:
        found: dict[tuple[str, str], list[Judged]] = {}
        for one in runs:
            last = one.said(1.0, about)
            found.setdefault((last.state, last.rule), []).append(one)
        rows += [(about, state, rule, triple(some)) for (state, rule), some in sorted(found.items())]
    return table(("verdict on", "state", "rule", "learned / neither / lost"), rows)


THRESHOLDS: dict[str, tuple[str, tuple[Rule, ...], tuple[float, ...]]] = {
    "COLLAPSED_COSINE": (PROJECTIONS, verdict.RULES, (0.9, 0.95, 0.97, 0.99, 0.999)),
    "FEW_DIRECTIONS": (PROJECTIONS, verdict.RULES, (0.025, 0.05, 0.1, 0.2)),
    "FEWER_DIRECTIONS": ("representation", verdict.REPRESENTATION_RULES, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
"""Constants of `metrics/verdict.py`: the verdict that they are of, its rules, and values to try."""


def thresholds(runs: Runs) -> list[str]:
    """Which runs other thresholds would call collapsed at the end: those of each part, by what came out."""
    parts = sorted({one.part for one in runs})
    rows = []
    for name, (about, given, values) in THRESHOLDS.items():
        own = getattr(verdict, name)
        for value in values:
            with patch.object(verdict, name, value):
                called = [one for one in runs if verdict.decide(given, one.said(1.0, about).numbers).state in COLLAPSE]
            cells = (triple([one for one in called if one.part == part]) for part in parts)
            rows.append((f"`{name}`", f"{value:g}{' (in use)' if value == own else ''}", *cells))
    return table(("threshold", "value", *parts), rows)


def wrong(runs: Runs) -> list[str]:
    """Each run of which a verdict was wrong at some moment, with the rule and the numbers of the last such moment."""
    rows = []
    for about in ABOUT[:2]:
        for one in runs:
            said = {moment: one.said(part, about) for moment, part in MOMENTS.items()}
            bad = [each for each in said.values() if one.contradicts(each.state)]
            if bad:
                numbers = ", ".join(f"{name} {value:.4g}" for name, value in bad[-1].numbers.items())
                points = ", ".join(f"{probe} {points:+.1f}" for probe, (points, _) in one.gains.items())
                states = " → ".join(each.state for each in said.values())
                run = f"{one.row}, {one.pictures}, seed {one.seed}"
                rows.append((about, run, f"{one.outcome}: {points}", states, bad[-1].rule, numbers))
    heads = ("verdict on", "run", "came out, points", "after 10%, 30%, 100%", "rule that was wrong last", "its numbers")
    return table(heads, rows) if rows else ["*none*"]


TABLES: dict[str, Callable[[Runs], list[str]]] = {
    "verdict-confusion": confusion,
    "verdict-right": right,
    "verdict-parts": by("part", lambda one: one.part, BOTH),
    "verdict-early": early,
    "verdict-ranks": ranks,
    "verdict-recovery": recovery,
    "verdict-pictures": by("pictures", lambda one: one.pictures, BOTH),
    "verdict-methods": by("method", lambda one: one.method, BOTH),
    "verdict-rules": rules,
    "verdict-thresholds": thresholds,
    "verdict-wrong": wrong,
}


# --- the command ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", type=Path, nargs="*", metavar="PLACE", help=f"{KEPT}, a run, or a folder of runs")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is out of date")
    known = parser.parse_args(arguments)
    try:
        runs, left = gather(known.places or sorted((ROOT / "docs" / "results").glob(f"*/{KEPT}")))
    except VergenceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for reason, count in left.items():
        print(f"left out: {count}: {reason}", file=sys.stderr)
    if known.places:
        for name, make in TABLES.items():
            print("\n".join([f"## {name}", "", *make(runs), ""]))
        return 0
    old = []
    for page in PAGES:
        before = page.read_text()
        after = filled(before, runs, TABLES)
        if before != after:
            old.append(page)
            if not known.check:
                page.write_text(after)
    for page in old:
        print(f"{page}: {'out of date; run python benchmarks/verdicts.py' if known.check else 'written'}")
    return 1 if known.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
