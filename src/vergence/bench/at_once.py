"""Several runs at the same time on one device, each in a process of its own, as a grid does them."""

import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vergence.bench.clock import told
from vergence.bench.order import Order
from vergence.bench.parts import time_round
from vergence.bench.work import Work, steps
from vergence.engine.reporter import Reporter
from vergence.errors import MachineError
from vergence.files import durable
from vergence.grid import run_grid
from vergence.grid.status import GridView

RESULT = "result.json"
READY = "ready"
PATIENCE = 600.0
"""Seconds that a run waits for the others to be ready: compilation takes minutes."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A grid's job: train without an end in view, and say how fast.

    Attributes:
        name: of the run, and of its folder.
        count: how many runs there are; all are warm before any begins.
        order: the work.
        device: where.
        work: all take as long.
    """

    name: str
    count: int
    order: Order
    device: str
    work: float = 1.0

    @property
    def folder(self) -> str:
        return self.name

    def finished(self, folder: Path) -> bool:
        return (folder / RESULT).exists()

    def execute(self, folder: Path, view: Reporter) -> None:
        work = Work(self.order, torch.device(self.device))
        with work.stepping() as stepper:
            steps(work, stepper, 0, self.order.warmup)()
            stepper.finite.check()
            durable.make_folder(folder)
            (folder / READY).touch()
            self._wait(folder.parent)
            began = time.monotonic()  # one clock for all processes of a machine
            timed = [time_round(work, stepper, n) for n in range(self.order.rounds)]
            ended = time.monotonic()
        result = {"began": began, "ended": ended, "threads": torch.get_num_threads(), "rounds": told(timed)}
        durable.write_json(folder / RESULT, result)

    def _wait(self, root: Path) -> None:
        end = time.monotonic() + PATIENCE
        while sum(1 for _ in root.glob(f"*/{READY}")) < self.count:
            if time.monotonic() > end:
                raise MachineError(f"{self.name}: the other runs were not ready in {PATIENCE:g} seconds")
            time.sleep(0.01)


def measure_at_once(work: Work) -> dict[str, Any]:
    """For each number of runs the samples a second of all together, over those of one alone, which has all threads.

    From the moment that all are ready until the last is done. The threads of a CPU are shared out evenly.
    """
    order = work.order
    results: list[dict[str, Any]] = []
    for count in order.counts:
        threads = max(1, torch.get_num_threads() // count)
        runs = _together(work, count, threads)
        seconds = max(run["ended"] for run in runs) - min(run["began"] for run in runs)
        samples = count * order.run.batch_size * order.steps * order.rounds
        results.append(
            {"runs": count, "threads_each": threads, "samples_per_s": samples / seconds, "seconds": seconds}
            | {"rounds": [run["rounds"] for run in runs]}
        )
    for result in results:
        result["over_one"] = result["samples_per_s"] / results[0]["samples_per_s"]
    return {"cores": os.cpu_count() or 1, "counts": results}


def _together(work: Work, count: int, threads: int) -> list[dict[str, Any]]:
    """Return what each of so many runs wrote down; they differ in their seeds."""
    orders = [replace(work.order, run=replace(work.run, seed=seed)) for seed in range(count)]
    jobs = [Timed(name=f"run-{n}", count=count, order=o, device=str(work.device)) for n, o in enumerate(orders)]
    with tempfile.TemporaryDirectory(prefix="vergence-bench-") as root:
        failures = run_grid(jobs, Path(root), at_once=count, threads=threads, view=GridView())
        for name, failure in failures.items():
            raise MachineError(f"{count} runs at once: {name}: {failure.message}")
        return [json.loads((Path(root) / job.folder / RESULT).read_bytes()) for job in jobs]
