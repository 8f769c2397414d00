"""How often the suite repeats a fault, and the tally of what it survived.

    VERGENCE_SOAK=1 VERGENCE_TALLY=tally.jsonl python -m pytest ...    # many more of each; every fault is counted
    python tests/support/soak.py docs/reliability.json tally.jsonl    # sums it; beside it and in the README it is shown

`make soak` does both.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

KINDS = (
    "kills",
    "power-loss states",
    "malformed inputs",
    "payloads",
    "fuzz executions",
    "system calls killed",
    "grid kills",
)


Times = TypeVar("Times", int, list)


def times(per_commit: Times, nightly: Times) -> Times:
    """How often to do it: `per_commit`; `nightly`, times the number in VERGENCE_SOAK, where that is set.

    Or which cases to take, each once.
    """
    factor = int(os.environ.get("VERGENCE_SOAK") or 0)
    if not factor:
        return per_commit
    return nightly if isinstance(nightly, list) else nightly * factor


def count(kind: str, n: int = 1) -> None:
    """Add to the tally in $VERGENCE_TALLY, where that is set: one line a call, so that many processes may count."""
    assert kind in KINDS, kind
    if path := os.environ.get("VERGENCE_TALLY"):
        with open(path, "a") as file:
            file.write(json.dumps({"kind": kind, "n": n}) + "\n")


def summed(tally: Path) -> dict[str, int]:
    """The tally's lines by kind, in the order of `KINDS`; a kind that nothing counted is 0, and shows as that."""
    sums: dict[str, int] = dict.fromkeys(KINDS, 0)
    for line in tally.read_text().splitlines():
        entry = json.loads(line)
        sums[entry["kind"]] += entry["n"]
    return sums


def table(report: dict) -> str:
    """The report in Markdown."""
    rows = [f"| {kind} | {n:,} |" for kind, n in report["survived"].items()]
    where = f"{report['date']}, commit {report['commit']}, Python {report['python']}, torch {report['torch']}, "
    return "\n".join([where + report["machine"], "", "| survived | number |", "|---|---:|", *rows])


def sentence(report: dict) -> str:
    """The report in a line."""
    survived = ", ".join(f"{n:,} {kind}" for kind, n in report["survived"].items())
    return f"`make soak` of {report['date']}, commit {report['commit']}, survived {survived}."


def between_markers(document: str, text: str, what: str = "tally") -> str:
    """The document with `text` where its tally stands, or what else is marked so."""
    begin, end = (f"<!-- {what}: {side} -->" for side in ("begin", "end"))
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"no {begin} ... {end} in the document"
    return f"{before}{begin}\n{text}\n{end}{after}"


def machine() -> str:
    """What the numbers were made on: processor, cores, system; no names of hosts."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def commit() -> str:
    """The commit that is checked out, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main(out: Path, tally: Path) -> None:
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "machine": machine(),
        "survived": summed(tally),
    }
    out.write_text(json.dumps(report, indent=2) + "\n")
    for page, text in ((out.with_suffix(".md"), table(report)), (out.parent.parent / "README.md", sentence(report))):
        page.write_text(between_markers(page.read_text(), text))
    print(table(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["VERGENCE_TALLY"]))
