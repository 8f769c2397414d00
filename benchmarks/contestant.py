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
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from vergence import config as c
from vergence import methods
from vergence.augment import two_views
from vergence.data import Images
from vergence.engine.step import Setup, Stepper, build_stepper
from vergence.machine.device import find_device
from vergence.machine.memory import keep_freed_memory
from vergence.machine.randomness import generator
from vergence.machine.threads import lanes
from vergence.networks.parallel_views import parallel_views
from vergence.optim import build_optimizer


def method_of(name: str) -> c.Method:
    average = c.MovingAverage(decay=0.996, decay_schedule="constant")
    if name == "byol":
        projector, predictor = c.Projector(hidden=1024, out=256), c.MLPPredictor(hidden=1024)
        return c.BYOL(projector=projector, predictor=predictor, target=average)
    if name == "moco":
        projector = c.Projector(hidden=1024, out=128, norm="none")
        return c.MoCo(projector=projector, target=average, queue=32768)
    return c.SimCLR(projector=c.Projector(hidden=1024, out=128, norm_at="every"), temperature=0.2)


def machine_busy() -> float:
    with open("/proc/stat") as file:
        ticks = [int(x) for x in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "step", "aug"])
    parser.add_argument("--method", default="byol", choices=["byol", "simclr", "moco"])
    parser.add_argument("--data", default=os.environ.get("CIFAR10_NPZ"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--order", default="published", choices=["published", "folded"])
    parser.add_argument("--compile", default="auto", choices=["auto", "none", "graph", "full"])
    for name, value in (("batch", 64), ("size", 96), ("threads", 2), ("steps", 12), ("warmup", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.set_num_threads(1 if a.what == "aug" else a.threads)
    device = find_device(a.device)
    views = replace(c.VIEWS["blog"], size=a.size, order=a.order)
    run = c.Run(
        method=method_of(a.method),
        data=c.CIFAR10(size=a.size),
        views=views,
        optimizer=c.SGD(lr=0.03),
        schedule=c.Constant(),
        batch_size=a.batch,
    )
    with np.load(a.data) as file:
        pixels = torch.from_numpy(file["train_x"]).permute(0, 3, 1, 2).contiguous()
    images = Images(pixels, None, (), 32)
    keep_freed_memory()
    method = methods.build(run).to(device=device, memory_format=torch.channels_last).train()
    optimizer = build_optimizer(run.optimizer, method)
    order = torch.randperm(len(pixels), generator=generator(0, "order", 0))
    per_epoch = len(pixels) // a.batch

    def batch_of(step: int) -> torch.Tensor:
        return order[(step % per_epoch) * a.batch :][: a.batch]

    def views_of(step: int) -> torch.Tensor:
        return two_views(pixels[batch_of(step)], 32, views, generator(0, "views", step))

    with lanes(device) as two, parallel_views(method, two if device.type == "cpu" else None):
        stepper = build_stepper(Setup(run, method, optimizer, images, device, per_epoch), two, a.compile)
        measure(a, stepper, batch_of, views_of)


def measure(
    a: argparse.Namespace,
    stepper: Stepper,
    batch_of: Callable[[int], torch.Tensor],
    views_of: Callable[[int], torch.Tensor],
) -> None:
    fixed = views_of(0)
    times, loss = [], 0.0
    for step in range(a.warmup + a.steps):
        if step == a.warmup:
            wall, core, busy = time.perf_counter(), time.process_time(), machine_busy()
        begun = time.perf_counter() if a.what != "aug" else time.process_time()
        if a.what == "aug":
            views_of(step)
        else:
            seen = (
                stepper(step + 1, batch_of(step), with_layer_stats=False)
                if a.what == "train"
                else stepper.learn(fixed, step + 1)
            )
            loss = seen.outputs.loss.item()
        times.append((time.perf_counter() if a.what != "aug" else time.process_time()) - begun)
    wall, core, busy = time.perf_counter() - wall, time.process_time() - core, machine_busy() - busy
    name = "vergence" if a.order == "published" else f"vergence-{a.order}"
    head = {"what": a.what, "peer": name, "method": a.method, "batch": a.batch, "size": a.size}
    median = statistics.median(times[a.warmup :])
    if a.what == "aug":
        print(json.dumps(head | {"views_per_s_core": round(2 * a.batch / median, 1)}))
        return
    rates = {
        "samples_per_s": round(a.batch * a.steps / wall if a.what == "train" else a.batch / median, 2),
        "samples_per_core_s": round(a.batch * a.steps / core, 3),
        "step_ms_median": round(1000 * median, 1),
        "foreign": round(max(0.0, (busy - core) / (wall * (os.cpu_count() or 1))), 3),
        "last_loss": round(loss, 4),
    }
    print(json.dumps(head | {"threads": a.threads} | rates))


if __name__ == "__main__":
    main()
