"""`vergence bench` of two commits in turns, on one machine.

    python benchmarks/compare.py main~3 main --rounds 5 --out ab.json -- byol --what step --steps 10 --threads 2
    python benchmarks/compare.py HEAD work -- --what views

"work" is the tree as it stands, committed or not. Whatever follows `--` is given to both. They take turns A B A B, each
time in a process of its own, so that what the machine does meanwhile falls on both; a ratio is B over A, pair by pair.
For a rate more is better, for seconds and milliseconds less.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
WORK = "work"
ABOUT = ("format", "what", "date", "commit", "dirty", "environment", "settings", "ceilings", "rounds", "cost")
"""What of a record is no result."""


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)


@contextlib.contextmanager
def checked_out(name: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit, in `folder`, or the one that is there for "work"."""
    if name == WORK:
        require_bench(name, ROOT)
        yield ROOT
        return
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode:
        fail(f"{name}: no such commit in {ROOT}")
    added = git("worktree", "add", "--detach", str(folder), found.stdout.strip())
    if added.returncode:
        fail(f"{name}: git cannot check it out: {added.stderr.strip().splitlines()[-1]}")
    try:
        require_bench(f"{name} ({found.stdout[:7]})", folder)
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def require_bench(name: str, tree: Path) -> None:
    if not (tree / "src/vergence/bench").is_dir():
        fail(f"{name} has no `vergence bench`: it cannot be compared; choose a later commit")


def bench(name: str, tree: Path, words: Sequence[str], out: Path) -> dict[str, Any]:
    """The record of one call."""
    module = "vergence" if (tree / "src/vergence/__main__.py").is_file() else "vergence.cli"
    command = [sys.executable, "-m", module, "bench", *words, "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")] or done.stderr.splitlines()
        fail(f"{name}: vergence bench ended with exit code {done.returncode}: {'; '.join(said[-3:])}")
    return json.loads(out.read_bytes())


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every result of a record, by its place; of several rounds the median."""
    if isinstance(value, dict):
        if "median" in value:
            yield path, value["median"]
            return
        for name, inner in value.items():
            if name not in ABOUT:
                yield from numbers(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for entry in value:
            yield from numbers(entry, f"{path}.{entry['runs']}")
    elif isinstance(value, int | float):
        yield path, value


def compare(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each result that both have: the medians, and the ratios of the pairs with theirs."""
    found_a, found_b = ([dict(numbers(record)) for record in records] for records in (a, b))
    compared = {}
    for place in found_a[0]:
        if place not in found_b[0]:
            continue
        pairs = [(one[place], other[place]) for one, other in zip(found_a, found_b, strict=True)]
        ratios = [other / one for one, other in pairs if one]
        compared[place] = {
            "a": statistics.median([one for one, _ in pairs]),
            "b": statistics.median([other for _, other in pairs]),
            "ratio": statistics.median(ratios) if ratios else None,
            "ratios": ratios,
        }
    return compared


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, theirs = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="COMMIT_A", help='a commit, or "work"')
    parser.add_argument("b", metavar="COMMIT_B")
    parser.add_argument("--rounds", type=int, default=3, help="pairs [3]")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    known = parser.parse_args(own)
    if known.rounds < 1:
        fail(f"--rounds: must be at least 1, not {known.rounds}")
    if any(word.partition("=")[0] == "--out" for word in theirs):
        fail("--out belongs before the --")
    records: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    with tempfile.TemporaryDirectory(prefix="vergence-compare-") as scratch, contextlib.ExitStack() as trees:
        place = Path(scratch)
        sides = {"a": known.a, "b": known.b}
        tree = {side: trees.enter_context(checked_out(name, place / side)) for side, name in sides.items()}
        for n in range(known.rounds):
            for side, name in sides.items():
                print(f"round {n + 1} of {known.rounds}: {name}", file=sys.stderr)
                records[side].append(bench(name, tree[side], theirs, place / "record.json"))
    compared = compare(records["a"], records["b"])
    width = max(map(len, compared), default=0)
    print(f"{'':{width}} {known.a[:12]:>12} {known.b[:12]:>12}  B/A, and of each pair")
    for name, value in compared.items():
        ratio = "" if value["ratio"] is None else f"{value['ratio']:6.3f}"
        pairs = " ".join(f"{each:.3f}" for each in value["ratios"])
        print(f"{name:{width}} {value['a']:12.5g} {value['b']:12.5g}  {ratio}   {pairs}")
    if known.out is not None:
        report = {
            "what": "two commits in turns",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "a": known.a,
            "b": known.b,
            "arguments": theirs,
            "compared": compared,
            "records": records,
        }
        known.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
