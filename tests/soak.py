"""How often the suite repeats a fault, and the tally of what it survived."""

import json
import os


def times(per_commit: int, nightly: int) -> int:
    """How often to do it: `per_commit`; `nightly`, times the number in VERGENCE_SOAK, where that is set."""
    factor = int(os.environ.get("VERGENCE_SOAK") or 0)
    return nightly * factor if factor else per_commit


def count(kind: str, n: int = 1) -> None:
    """Add to the tally in $VERGENCE_TALLY, where that is set: one line a call, so that many processes may count."""
    if path := os.environ.get("VERGENCE_TALLY"):
        with open(path, "a") as file:
            file.write(json.dumps({"kind": kind, "n": n}) + "\n")
