"""How long a step takes with numba's loops and without them, in turns, in one process.

    python benchmarks/without_numba.py [--threads 2] [--turns 9]

Loops are switched where they are asked for, so both steps share process, network and pictures. Core-seconds tell more
than seconds where other processes run.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch

from vergence import config as c
from vergence.augment import operations
from vergence.bench.order import Order
from vergence.bench.work import Work
from vergence.fast import convolution
from vergence.machine.memory import keep_freed_memory
from vergence.presets import default


def works() -> dict[str, Work]:
    views = replace(c.VIEWS["blog"], size=96)
    photos = c.Run(method=c.BYOL(), data=c.CIFAR10(size=96), views=views, schedule=c.Constant(), batch_size=64)
    runs = {"ResNet-18, CIFAR-10's shape at 96 px": photos, "the demo's run": default(c.BYOL(), c.Digits())}
    return {name: Work(Order(run=run, compile="none"), torch.device("cpu")) for name, run in runs.items()}


def measure(work: Work, turns: int) -> None:
    taken = {True: [], False: []}
    with work.stepping() as stepper:
        for turn in range(turns + 1):
            for numba in (True, False) if turn % 2 else (False, True):
                convolution.can_compile = operations.can_compile = lambda numba=numba: numba
                begun = time.perf_counter(), time.process_time()
                stepper(turn + 1, work.batch(turn + 1), with_layer_stats=False)
                if turn:  # the first warms
                    taken[numba].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    for unit, name in enumerate(("seconds", "core-seconds")):
        medians = {numba: statistics.median(each[unit] for each in times) for numba, times in taken.items()}
        ratios = [without[unit] / with_it[unit] for with_it, without in zip(taken[True], taken[False], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {name}: {medians[True]:.3f} with, {medians[False]:.3f} without: ", end="")
        print(f"{medians[False] / medians[True]:.2f} times (turns: {spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    a = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(a.threads)
    for name, work in works().items():
        print(f"{name}, {a.threads} threads, {a.turns} turns")
        measure(work, a.turns)


if __name__ == "__main__":
    main()
