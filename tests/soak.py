"""How often a test repeats, for each commit and at night, and the tally of what was tried.

`VERGENCE_SOAK` set: the nightly numbers. `VERGENCE_TALLY`: a file that each count is appended to, one JSON line each.
"""

import json
import os


def times(per_commit: int, nightly: int) -> int:
    """How often to repeat."""
    return nightly if os.environ.get("VERGENCE_SOAK") else per_commit


def count(kind: str, n: int = 1) -> None:
    """Add to the tally."""
    if path := os.environ.get("VERGENCE_TALLY"):
        with open(path, "a") as file:
            file.write(json.dumps({"kind": kind, "n": n}) + "\n")
