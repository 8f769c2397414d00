"""Time, taken so that two measurements can be compared."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch


class Lap(NamedTuple):
    """One round.

    Attributes:
        seconds: on the clock.
        cpu_seconds: of this process, all threads together.
        foreign: share of the machine that other processes took meanwhile, in [0, 1]; None where that is not known.
    """

    seconds: float
    cpu_seconds: float
    foreign: float | None


def laps(rounds: int, function: Callable[[int], object], device: torch.device) -> list[Lap]:
    """Time `function(round)`, for rounds counted from 0; what it leaves a GPU to do belongs to it."""
    return [lap(lambda n=n: function(n), device) for n in range(rounds)]


def lap(function: Callable[[], object], device: torch.device) -> Lap:
    """Time one call."""
    wait_for(device)
    busy, cpu, began = machine_busy(), time.process_time(), time.perf_counter()
    function()
    wait_for(device)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    foreign = None
    if busy is not None and (now := machine_busy()) is not None:
        foreign = min(1.0, max(0.0, (now - busy - cpu) / (seconds * (os.cpu_count() or 1))))
    return Lap(seconds, cpu, foreign)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine_busy() -> float | None:
    """Seconds that the machine's cores worked since its start, all together; None where the kernel does not say."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(value) for value in file.readline().split()[1:9]]
    except OSError:
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # but those idle or waiting for a disk


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def told(laps: Sequence[Lap]) -> list[dict[str, Any]]:
    """Rounds as they are written down."""
    return [lap._asdict() for lap in laps]
