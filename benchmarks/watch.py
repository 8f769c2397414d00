"""What `vergence.Watch` costs a step: a plain loop with it and without, in turns.

    python benchmarks/watch.py --out benchmarks/results/DATE-cpu-watch.json

A small convolutional encoder and SimCLR's loss at three sizes. `step` is the median of a step without a watch, between
turns with one; `measured` is what a call takes that logs a line, and `passed` one that does not. `share` is all that
calls took after the first two lines, of all time in that turn, with the period that `Watch` chooses by itself.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
from torch import nn

import vergence
from vergence import losses
from vergence.bench.record import head
from vergence.machine.device import find_device

SIZES = {  # pictures, side in pixels, dimensions of y and of z
    "64 of 32 px": (64, 32, 128, 64),
    "256 of 32 px": (256, 32, 512, 128),
    "128 of 96 px": (128, 96, 512, 256),
}


def loop(size: tuple[int, int, int, int], device: torch.device, seconds: float, watch: vergence.Watch | None) -> dict:
    """Do steps for some seconds; return what a step took, and what its call of the watch did."""
    pictures, side, dy, dz = size
    torch.manual_seed(0)
    encoder = nn.Sequential(
        *(
            nn.Conv2d(3, 32, 3, 2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, dy)),
    ).to(device)
    projector = nn.Sequential(nn.Linear(dy, dy), nn.ReLU(), nn.Linear(dy, dz)).to(device)
    optimizer = torch.optim.SGD([*encoder.parameters(), *projector.parameters()], lr=0.05)
    views = torch.rand(2, pictures, 3, side, side, device=device)
    steps, calls, logged = [], [], []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(steps) < 3:
        start = time.perf_counter()
        y = [encoder(view) for view in views]
        z = [projector(one) for one in y]
        loss = losses.nt_xent(*z, 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = time.perf_counter()
        if watch is not None:
            logged.append(watch(len(steps) + 1, z=z, y=y, loss=loss) is not None)
        end = time.perf_counter()
        steps.append(end - start)
        calls.append(end - before)
    return {"steps": steps, "calls": calls, "logged": logged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    device, results = find_device(a.device), {}
    for name, size in SIZES.items():
        rounds = []
        for _ in range(a.rounds):
            plain = loop(size, device, a.seconds, None)
            with vergence.Watch(say=None) as watch:
                seen = loop(size, device, a.seconds, watch)
            measured = [call for call, logged in zip(seen["calls"], seen["logged"], strict=True) if logged]
            passed = [call for call, logged in zip(seen["calls"], seen["logged"], strict=True) if not logged]
            rounds.append(
                {
                    "step": statistics.median(plain["steps"]),
                    "measured": statistics.median(measured),
                    "passed": statistics.median(passed),
                    "share": sum(seen["calls"][2:]) / sum(seen["steps"][2:]),
                    "lines": len(watch.lines),
                    "steps": len(seen["steps"]),
                }
            )
        results[name] = rounds
        middle = {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
        times = ", ".join(f"{what} {middle[what] * 1e3:.3g} ms" for what in ("step", "measured", "passed"))
        print(f"{name}: {times}; {middle['share']:.2%} of the time; load {os.getloadavg()[0]:.1f}", flush=True)
    record = {**head("watch", device), "settings": {"rounds": a.rounds, "seconds": a.seconds}, "results": results}
    a.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
