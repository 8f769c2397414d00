"""One JSON line for a benchmark of several libraries on the same work.

    python benchmarks/contestant.py train|step|aug --method byol --batch 64 --steps 12 --warmup 4 --data cifar10.npz
    python benchmarks/contestant.py train|step --peer lightly --method byol --data-dir DIR --out peers.jsonl

Pictures are those of an .npz file with `train_x`, or of CIFAR-10 in a folder, or noise. `--out` adds the line to a
file, below one that says where it was measured.

The work: BYOL, SimCLR or MoCo on CIFAR-10 at 96 px, ResNet-18 with the ImageNet stem, crop 0.2-1, jitter
0.4/0.4/0.4/0.1 p 0.8, grayscale 0.2, flip 0.5, blur p 0.5, heads 512-1024-256, predictor 256-1024-256 (128 for SimCLR
and MoCo), SGD 0.03 with momentum, float32. `train` is the end-to-end rate: our loop's own step on pictures of the data
set, views included, without logging or saving, as the other contestants are timed. `foreign` is the share of the
machine that other processes took meanwhile. lightly's side is the plain loop of its documentation, its views by
torchvision on PIL's pictures in one worker a thread, its networks under autocast where `--precision` is not float32.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from vergence import config as c
from vergence.augment import two_views
from vergence.bench.clock import Lap, lap
from vergence.bench.order import Order
from vergence.bench.record import head
from vergence.bench.work import Work
from vergence.data import Images, load
from vergence.engine.step import Stepper
from vergence.fast import Compile
from vergence.machine.device import find_device
from vergence.machine.memory import keep_freed_memory
from vergence.machine.randomness import generator

sys.path.insert(0, str(Path(__file__).parent))


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
    parser.add_argument("--peer", default="vergence", choices=["vergence", "lightly"])
    parser.add_argument("--data", default=os.environ.get("CIFAR10_NPZ"), help="an .npz file")
    parser.add_argument("--data-dir", type=Path, help="a folder with CIFAR-10")
    parser.add_argument("--encoder", default="resnet18", help="a timm model [%(default)s]")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="a .jsonl file that gets the line")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--order", default="published", choices=["published", "folded"])
    parser.add_argument("--compile", default="auto", choices=get_args(Compile))
    for name, value in (("batch", 64), ("size", 96), ("threads", 2), ("steps", 12), ("warmup", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    if a.peer == "lightly" and (a.what == "aug" or a.method != "byol"):
        parser.error("--peer lightly: trains byol; what it is asked for is train or step")
    torch.set_num_threads(1 if a.what == "aug" else a.threads)
    run = c.Run(
        method=method_of(a.method),
        data=c.CIFAR10(size=a.size),
        encoder=c.Encoder(name=a.encoder),
        views=replace(c.VIEWS["blog"], size=a.size, order=a.order),
        optimizer=c.SGD(lr=0.03),
        schedule=c.Constant(),
        batch_size=a.batch,
        precision=a.precision,
    )
    images, device = images_of(a, run), find_device(a.device)
    keep_freed_memory()
    if a.peer == "lightly":
        line = measure_lightly(a, run, images, device)
    else:
        work = Work(Order(run=run, compile=a.compile), device, images)
        with work.stepping() as stepper:
            line = measure(a, work, stepper)
    print(json.dumps(line))
    if a.out is not None:
        add(a.out, line, device)


def images_of(a: argparse.Namespace, run: c.Run) -> Images:
    if a.data is not None:
        with np.load(a.data) as file:
            pixels = torch.from_numpy(file["train_x"]).permute(0, 3, 1, 2).contiguous()
    elif a.data_dir is not None:
        return load(run.data, "pretrain", data_dir=a.data_dir)
    else:
        pixels = torch.randint(256, (10 * a.batch, 3, 32, 32), dtype=torch.uint8)
    return Images(pixels, None, (), 32)


def add(path: Path, line: dict, device: torch.device) -> None:
    """Add a line to a file of them; the first says where they were measured, as `tables.py` reads it."""
    about = head("comparison", device)
    here = about["environment"]
    named = {name: here[name] for name in ("torch", "torchvision", "timm") if name in here}
    first = {name: about[name] for name in ("date", "commit")} | {"device": here["device_name"], "versions": named}
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in ([line] if file.tell() else [first, line]))


def measure_lightly(a: argparse.Namespace, run: c.Run, images: Images, device: torch.device) -> dict:
    import lightly
    from family import peer_of, views_of

    peer, optimizer, scheduler = peer_of(run, device, len(images) // a.batch)
    loader = views_of(run, images, a.threads if a.what == "train" else 0)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    given = itertools.repeat([x.to(device) for x in next(batches)]) if a.what == "step" else batches
    precision = torch.autocast(device.type, torch.bfloat16, enabled=a.precision == "bfloat16")
    times, loss = [], torch.zeros(())

    def do(first: int, count: int) -> None:
        nonlocal loss
        for step in range(first, first + count):
            begun = time.perf_counter()
            x0, x1 = (x.to(device, non_blocking=True) for x in next(given))
            with precision:
                loss = peer(x0, x1, step)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            loss.item()
            times.append(time.perf_counter() - begun)

    do(0, a.warmup)
    times.clear()
    whole = lap(lambda: do(a.warmup, a.steps), device)
    return summed_up(a, "lightly", times, whole, loss.item()) | {"version": lightly.__version__}


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
    if views_alone:
        return about(a, name) | {"views_per_s_core": round(2 * a.batch / statistics.median(times), 1)}
    return summed_up(a, name, times, whole, loss)


def about(a: argparse.Namespace, name: str) -> dict:
    return {"what": a.what, "peer": name, "method": a.method, "batch": a.batch, "size": a.size}


def summed_up(a: argparse.Namespace, name: str, times: list[float], whole: Lap, loss: float) -> dict:
    median = statistics.median(times)
    rate = a.batch * a.steps / whole.seconds if a.what == "train" else a.batch / median
    return about(a, name) | {
        "threads": a.threads,
        "samples_per_s": round(rate, 2),
        "samples_per_core_s": round(a.batch * a.steps / whole.cpu_seconds, 3),
        "step_ms_median": round(1000 * median, 1),
        "foreign": None if whole.foreign is None else round(whole.foreign, 3),
        "last_loss": round(loss, 4),
    }


if __name__ == "__main__":
    main()
