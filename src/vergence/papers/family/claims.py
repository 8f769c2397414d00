"""What the papers of the family predict, each a check on our runs."""

from vergence import study as s
from vergence.papers.family import rows

STEPS = 400
"""Steps from which on a run says whether a method collapses."""

KNN = s.accuracy("knn", label="kNN")
RANK = s.logged("effective_rank", "rank", digits=1)


def ends(row: str, state: str) -> s.Check:
    """Return the check that the projections of all runs of a row end in a state, as the verdict has it."""

    def judge(results: s.Results) -> s.Judged:
        states = [result.verdict for result in results.get(row, ())]
        same = [found == state for found in states]
        outcome = s.holds_if(all(same)) if states and len(set(same)) == 1 else "not decided"
        said = ", ".join(f"{states.count(found)} {found}" for found in dict.fromkeys(states)) or "not run"
        return outcome, f"{row}: {said}; {RANK.tells(row)(results)}; {s.tells_collapse(row)(results)}"

    return s.Check(judge, f"the verdict of every run is {state}", (row,))


def _healthy(row: str) -> s.Claim:
    return s.Claim(
        f"{row.lower().replace(' ', '-')}-healthy",
        f"{row} with all its protections does not collapse.",
        s.after(STEPS, ends(row, "healthy")),
        "our expectation",
    )


def _collapses(removal: rows.Removal) -> s.Claim:
    return s.Claim(
        f"{removal.method}-no-{removal.what}".lower().replace(" ", "-"),
        f"{removal.method} without its {removal.what} ends in {removal.predicted}.",
        s.after(STEPS, ends(removal.row, removal.predicted)),
        removal.source,
    )


CLAIMS = (*map(_healthy, rows.METHODS), *map(_collapses, rows.REMOVALS))
