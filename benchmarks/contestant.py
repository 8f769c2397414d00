"""One JSON line for a benchmark of several libraries on the same work.

    python benchmarks/contestant.py train|step|aug --method byol --batch 64 --steps 12 --warmup 4 --data cifar10.npz

The work: BYOL, SimCLR or MoCo on CIFAR-10 at 96 px, ResNet-18 with the ImageNet stem, crop 0.2-1, jitter
0.4/0.4/0.4/0.1 p 0.8, grayscale 0.2, flip 0.5, blur p 0.5, heads 512-1024-256, predictor 256-1024-256 (128 for SimCLR
and MoCo), SGD 0.03 with momentum, float32. `train` is the end-to-end rate: our loop's own step on pictures of the data
set, views included, without logging or saving, as the other contestants are timed. `foreign` is the share of the
machine that other processes took meanwhile.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from typing import get_args

import numpy as np
import torch

from vergence import config as c
from vergence.augment import two_views
from vergence.bench.clock import lap
from vergence.bench.order import Order
from vergence.bench.work import Work
from vergence.data import Images
from vergence.engine.step import Stepper
from vergence.fast import Compile
from vergence.machine.device import find_device
from vergence.machine.memory import keep_freed_memory
from vergence.machine.randomness import generator


def method_of(name: str) -> c.Method:
    average = c.MovingAverage(decay=0.996, decay_schedule="constant")
    if name == "byol":
        projector, predictor = c.Projector(hidden=1024, out=256), c.MLPPredictor(hidden=1024)
        return c.BYOL(projector=projector, predictor=predictor, target=average)
    if name == "moco":
        projector = c.Projector(hidden=1024, out=128, norm="none")
        return c.MoCo(projector=projector, target=average, queue=32768)
    return c.SimCLR(projector=c.Projector(hidden=1024, out=128, norm_at="every"), temperature=0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "step", "aug"])
    parser.add_argument("--method", default="byol", choices=["byol", "simclr", "moco"])
    parser.add_argument("--data", default=os.environ.get("CIFAR10_NPZ"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--order", default="published", choices=["published", "folded"])
    parser.add_argument("--compile", default="auto", choices=get_args(Compile))
    for name, value in (("batch", 64), ("size", 96), ("threads", 2), ("steps", 12), ("warmup", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.set_num_threads(1 if a.what == "aug" else a.threads)
    run = c.Run(
        method=method_of(a.method),
        data=c.CIFAR10(size=a.size),
        views=replace(c.VIEWS["blog"], size=a.size, order=a.order),
        optimizer=c.SGD(lr=0.03),
        schedule=c.Constant(),
        batch_size=a.batch,
    )
    with np.load(a.data) as file:
        pixels = torch.from_numpy(file["train_x"]).permute(0, 3, 1, 2).contiguous()
    keep_freed_memory()
    work = Work(Order(run=run, compile=a.compile), find_device(a.device), Images(pixels, None, (), 32))
    with work.stepping() as stepper:
        print(json.dumps(measure(a, work, stepper)))


def measure(a: argparse.Namespace, work: Work, stepper: Stepper) -> dict:
    views_alone, clock = a.what == "aug", time.process_time if a.what == "aug" else time.perf_counter
    times, loss = [], 0.0

    def views_of(step: int) -> torch.Tensor:
        pixels = work.images.pixels[work.batch(step + 1)]
        return two_views(pixels, work.images.size, work.run.views, generator(0, "views", step))

    fixed = views_of(0)

    def do(first: int, count: int) -> None:
        nonlocal loss
        for step in range(first, first + count):
            begun = clock()
            if views_alone:
                views_of(step - 1)
            elif a.what == "train":
                loss = stepper(step, work.batch(step), with_layer_stats=False).outputs.loss.item()
            else:
                loss = stepper.learn((fixed,), step).outputs.loss.item()
            times.append(clock() - begun)

    do(1, a.warmup)
    times.clear()
    whole = lap(lambda: do(1 + a.warmup, a.steps), work.device)
    name = "vergence" if a.order == "published" else f"vergence-{a.order}"
    head = {"what": a.what, "peer": name, "method": a.method, "batch": a.batch, "size": a.size}
    median = statistics.median(times)
    if views_alone:
        return head | {"views_per_s_core": round(2 * a.batch / median, 1)}
    rate = a.batch * a.steps / whole.seconds if a.what == "train" else a.batch / median
    return head | {
        "threads": a.threads,
        "samples_per_s": round(rate, 2),
        "samples_per_core_s": round(a.batch * a.steps / whole.cpu_seconds, 3),
        "step_ms_median": round(1000 * median, 1),
        "foreign": None if whole.foreign is None else round(whole.foreign, 3),
        "last_loss": round(loss, 4),
    }


if __name__ == "__main__":
    main()
