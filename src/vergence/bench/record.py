"""All measurements of one call, with everything that they depend on."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import vergence
from vergence.bench.at_once import measure_at_once
from vergence.bench.cost import ceilings, cost_of
from vergence.bench.order import Order
from vergence.bench.parts import measure_evaluation, measure_imports, measure_training, measure_views
from vergence.bench.table import print_record
from vergence.bench.work import Work
from vergence.config.schema import to_dict
from vergence.files import durable
from vergence.machine.device import environment
from vergence.report.text import console

FORMAT = 1
"""The version of the record's form; a reader may refuse another."""

MEASURES = {
    "views": measure_views,
    "evaluate": measure_evaluation,
    "import": measure_imports,
    "at-once": measure_at_once,
}
"""How each part is measured, but for those that take turns: the step and training."""


def head(what: str, device: torch.device) -> dict[str, Any]:
    """Return what begins a record: its format, what it is of, date, commit, and where it was made."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": FORMAT, "what": what, "date": date, **source(), "environment": environment(device)}


def measure(
    order: Order,
    device: torch.device,
    say: Callable[[str], object] = lambda _: None,
    keep: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Measure what is asked for.

    Args:
        order: what is asked for.
        device: where it is measured.
        say: told the name of each part before it begins.
        keep: given the record so far after each part.

    Returns:
        Plain JSON values: format, date, commit, environment, settings, and one entry for each part, where rates have
        a median, a least and a largest value and `rounds` holds every round.
    """
    order = order.on(device.type)
    work = Work(order, device)
    record = head("vergence bench", device)
    record["settings"] = {
        "run": to_dict(order.run),
        "pictures": work.pictures if set(order.parts) - {"import"} else None,
        **{name: getattr(order, name) for name in ("compile", "steps", "warmup", "rounds")},
    }
    if kinds := [part for part in order.parts if part not in MEASURES]:
        say("ceilings")
        most = ceilings(device)
        record["ceilings"] = asdict(most)
        say(", ".join(kinds))
        record |= measure_training(work, cost_of(order.run), most, kinds)
        keep(record)
    for part in order.parts:
        if part in MEASURES:
            say(part)
            record[part] = MEASURES[part](work)
            keep(record)
    return record


def run_benchmark(order: Order, device: torch.device, out: Path | None) -> None:
    """Measure and print, and write the record to `out` after each part; say on stderr what is under way."""

    def keep(record: dict[str, Any]) -> None:
        if out is not None:
            durable.write_json(out, record)

    record = measure(order, device, lambda part: print(f"measuring: {part}", file=sys.stderr), keep)
    print_record(console(), record)


def source() -> dict[str, Any]:
    """The commit of the code that runs, where it is a checkout, and whether the package differs from it."""
    assert vergence.__file__ is not None
    folder = Path(vergence.__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True)
        except OSError:  # no git here
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed, or in a repository of somebody else
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "--short=7", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
