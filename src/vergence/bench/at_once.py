"""Several runs at the same time on one device, each in a process of its own, as a grid does them."""

import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vergence.bench.clock import lap, told
from vergence.bench.order import Order
from vergence.bench.work import prepare, steps
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
        number: the seed of its run, and its name.
        count: how many runs there are; all are warm before any begins.
        order: the work.
        device: where.
    """

    number: int
    count: int
    order: Order
    device: str

    @property
    def name(self) -> str:
        return self.folder

    @property
    def folder(self) -> str:
        return f"run-{self.number}"

    @property
    def work(self) -> float:
        return 1.0

    def finished(self, folder: Path) -> bool:
        return (folder / RESULT).exists()

    def execute(self, folder: Path, view: Reporter) -> None:
        run = replace(self.order.run, seed=self.number)
        order, device = replace(self.order, run=run), torch.device(self.device)
        work = prepare(order, device)
        with work.stepping() as stepper:
            steps(work, stepper, 0, order.warmup)()
            stepper.finite.check()
            durable.make_folder(folder)
            (folder / READY).touch()
            self._wait(folder.parent)
            began = time.monotonic()  # one clock for all processes of a machine
            timed = [
                lap(steps(work, stepper, order.warmup + n * order.steps, order.steps), device)
                for n in range(order.rounds)
            ]
            ended = time.monotonic()
        result = {"began": began, "ended": ended, "threads": torch.get_num_threads(), "rounds": told(timed)}
        durable.write_json(folder / RESULT, result)

    def _wait(self, root: Path) -> None:
        end = time.monotonic() + PATIENCE
        while sum(1 for _ in root.glob(f"*/{READY}")) < self.count:
            if time.monotonic() > end:
                raise MachineError(f"{self.name}: the other runs were not ready in {PATIENCE:g} seconds")
            time.sleep(0.01)


def measure_at_once(order: Order, device: torch.device) -> dict[str, Any]:
    """For each number of runs the samples a second of all together, over those of one alone, which has all threads.

    From the moment that all are ready until the last is done. The threads of a CPU are shared out evenly.
    """
    results: list[dict[str, Any]] = []
    for count in order.counts:
        threads = max(1, torch.get_num_threads() // count)
        with tempfile.TemporaryDirectory(prefix="vergence-bench-") as root:
            runs = _together(order, device, count, threads, Path(root))
        seconds = max(run["ended"] for run in runs) - min(run["began"] for run in runs)
        samples = count * order.run.batch_size * order.steps * order.rounds
        results.append(
            {"runs": count, "threads_each": threads, "samples_per_s": samples / seconds, "seconds": seconds}
            | {"rounds": [run["rounds"] for run in runs]}
        )
    for result in results:
        result["over_one"] = result["samples_per_s"] / results[0]["samples_per_s"]
    return {"cores": os.cpu_count() or 1, "counts": results}


def _together(order: Order, device: torch.device, count: int, threads: int, root: Path) -> list[dict[str, Any]]:
    jobs = [Timed(number=n, count=count, order=order, device=str(device)) for n in range(count)]
    failures = run_grid(jobs, root, at_once=count, threads=threads, view=GridView())
    for name, failure in failures.items():
        raise MachineError(f"{count} runs at once: {name}: {failure.message}")
    return [json.loads((root / job.folder / RESULT).read_bytes()) for job in jobs]
