"""What a durable save costs: a sealed, hashed and flushed checkpoint against torch.save of the same state.

    python benchmarks/save.py --out benchmarks/results/DATE-save.json

Contestants take turns. Before each the disk is flushed, so that none waits for what another left. `torch.save` leaves
its file in the page cache, where a power cut takes it; `torch.save, flushed` flushes it, but does not hash it, nor keep
the one before until it is there. Seconds; the ratio is of medians.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from vergence import config as c
from vergence import methods, presets
from vergence.bench.record import head
from vergence.engine import checkpoint
from vergence.optim import build_optimizer


def hundred_megabytes() -> tuple[nn.Module, torch.optim.Optimizer]:
    """25 layers of 2 MB, and as much momentum."""
    module = nn.Sequential(*(nn.Linear(1000, 500, bias=False) for _ in range(25)))
    return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def default_model() -> tuple[nn.Module, torch.optim.Optimizer]:
    """As `vergence train byol` has it."""
    run = presets.preset("default", "byol", c.Digits())
    method = methods.build(run).to(memory_format=torch.channels_last)
    return method, build_optimizer(run.optimizer, method)


def stepped(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One update, so that there are moments to save."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def plain(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    state = {"step": number, "method": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, folder / "plain.pt")


def flushed(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    plain(folder, module, optimizer, number)
    with open(folder / "plain.pt", "rb+") as file:
        os.fsync(file.fileno())


def durable(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    checkpoint.save(folder / "checkpoints", number, module, optimizer, {"key": "benchmark"})  # type: ignore[arg-type]


CONTESTANTS = {"torch.save": plain, "torch.save, flushed": flushed, "durable": durable}
CASES = {"100 MB": hundred_megabytes, "default model": default_model}


def measured(module: nn.Module, optimizer: torch.optim.Optimizer, rounds: int, folder: Path) -> dict:
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(1, rounds + 2):
        for name, save in CONTESTANTS.items():
            os.sync()
            began = time.perf_counter()
            save(folder, module, optimizer, number)
            if number > 1:  # the first round warms up
                seconds[name].append(round(time.perf_counter() - began, 4))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    newest = checkpoint.found(folder / "checkpoints")[-1]
    return {
        "bytes": sum(path.stat().st_size for path in newest.iterdir()),
        "median": medians,
        "ratio": {name: round(medians["durable"] / medians[name], 2) for name in CONTESTANTS if name != "durable"},
        "rounds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to be measured")
    a = parser.parse_args()
    torch.set_num_threads(1)
    what = "seconds to save a checkpoint, contestants in turns, disk flushed before each; 1 thread"
    report = {**head(what, torch.device("cpu")), "settings": {}, "results": {}}
    for name, build in CASES.items():
        module, optimizer = build()
        stepped(module, optimizer)
        with tempfile.TemporaryDirectory(dir=a.folder) as folder:
            report["results"][name] = measured(module, optimizer, a.rounds, Path(folder))
        print(name, report["results"][name]["median"], report["results"][name]["ratio"])
    a.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
