"""The measurements that one process makes: views, step, training, evaluation, imports."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import vergence
from vergence import methods
from vergence.augment import draw, two_views
from vergence.bench.clock import Lap, lap, laps, spread, told
from vergence.bench.cost import Ceilings, Cost, achieved
from vergence.bench.work import Work, steps
from vergence.config import Views
from vergence.engine.evaluate import features
from vergence.engine.step import Stepper
from vergence.errors import MachineError
from vergence.machine.randomness import generator
from vergence.machine.threads import two_workers
from vergence.metrics import probe

EPOCHS = 100
"""Epochs of the usual linear evaluation, which passes every picture through the frozen backbone in each."""

ORDERS = ("published", "folded")


def measure_views(work: Work) -> dict[str, Any]:
    """Views a second, and of each core-second on a CPU, in both orders; each round has draws of its own."""
    order = work.order
    batches = [work.batch(step + 1).to(work.device) for step in range(order.steps)]
    pixels = work.images.pixels.to(work.device)
    results: dict[str, Any] = {}
    with two_workers(work.device) as two:
        for name in ORDERS if isinstance(pixels, torch.Tensor) else ORDERS[:1]:
            make = _maker(work, replace(work.run.views, order=name), two.map)

            def round(n: int, make: Callable[..., object] = make) -> None:
                for i, batch in enumerate(batches):
                    make(pixels[batch], n * len(batches) + i)

            round(-1)
            timed = laps(order.rounds, round, work.device)
            count = 2 * work.run.batch_size * order.steps
            results[name] = {"views_per_s": spread([count / one.seconds for one in timed])}
            if work.device.type == "cpu":
                results[name]["views_per_core_s"] = spread([count / one.cpu_seconds for one in timed])
            results[name]["rounds"] = told(timed)
    return results


def _maker(work: Work, views: Views, each: Any) -> Callable[[Any, int], object]:
    """Return what makes views as the step does: in kernels, of the published order only, where it is captured."""
    source, seed = work.images.size, work.run.seed
    as_written = work.device.type == "cpu" or work.order.compile == "none" or views.order == "folded"
    if as_written or source is None or views.transforms:
        return lambda pixels, step: two_views(pixels, source, views, generator(seed, "views", step), each)
    from vergence.augment import kernels

    dtype = torch.bfloat16 if work.run.precision == "bfloat16" else torch.float32

    def make(pixels: torch.Tensor, step: int) -> torch.Tensor:
        drawing = generator(seed, "views", step)
        drawn = [kernels.pack(draw(view, len(pixels), source, drawing)) for view in (views.first, views.second)]
        return kernels.two_views(pixels, source, views, torch.stack(drawn).to(work.device), dtype)

    return make


def measure_training(work: Work, cost: Cost, most: Ceilings, kinds: Sequence[str]) -> dict[str, Any]:
    """The loop's own step: "train" with its views, "step" on the same views every time, without making any.

    Nothing is logged or saved. Where both are asked for they take turns, round by round: what the machine does
    meanwhile, which may be more than the views cost, falls on both.
    """
    timed: dict[str, list[Lap]] = {kind: [] for kind in kinds}
    with ExitStack() as open_steps:
        steppers = {kind: open_steps.enter_context(work.stepping()) for kind in kinds}
        for kind, stepper in steppers.items():
            if kind == "step":
                crops = stepper.crops(1, work.batch(1))
                autocast = work.device.type == "cuda" and work.run.precision == "bfloat16"
                stepper.held = tuple(crop.to(torch.bfloat16) for crop in crops) if autocast else crops
            steps(work, stepper, 0, work.order.warmup)()
        for n in range(work.order.rounds):
            for kind, stepper in steppers.items():
                timed[kind].append(time_round(work, stepper, n))
        for stepper in steppers.values():
            stepper.finite.check()
    return {kind: _rates(work, cost, most, those) for kind, those in timed.items()}


def time_round(work: Work, stepper: Stepper, n: int) -> Lap:
    """Time the steps of a round, counted from 0, after those that warm up."""
    order = work.order
    return lap(steps(work, stepper, order.warmup + n * order.steps, order.steps), work.device)


def _rates(work: Work, cost: Cost, most: Ceilings, timed: Sequence[Lap]) -> dict[str, Any]:
    steps, size = work.order.steps, work.run.batch_size
    seconds = [one.seconds / steps for one in timed]
    results: dict[str, Any] = {
        "samples_per_s": spread([size / each for each in seconds]),
        "step_ms": spread([1000 * each for each in seconds]),
    }
    if work.device.type == "cpu":
        results["samples_per_core_s"] = spread([size * steps / one.cpu_seconds for one in timed])
    results["cost"] = asdict(cost)
    return results | {"achieved": achieved(cost, most, statistics.median(seconds)), "rounds": told(timed)}


def measure_evaluation(work: Work) -> dict[str, Any]:
    """Features of the pictures, five parts to fit a probe on and one to score it, and both probes on them; and the work
    that the usual linear evaluation needs for as many, in passes through the backbone.
    """
    rounds = work.order.rounds
    count = min(work.order.pictures or len(work.images), len(work.images))
    images = work.images.take(torch.arange(count))
    fitted = count - count // 6
    encoder = methods.build(work.run).encoder.to(work.device)
    found: list[torch.Tensor] = []

    def represent(_: int) -> None:
        found[:] = [features(encoder, images, work.run.views, device=work.device, precision=work.run.precision)]

    features(encoder, images.take(torch.arange(fitted, count)), work.run.views, device=work.device)  # warm
    taken = laps(rounds, represent, work.device)
    assert images.labels is not None
    labels = images.labels.to(work.device)
    train, test = (probe.Features(found[0][part], labels[part]) for part in (slice(fitted), slice(fitted, None)))
    timed = {
        "features": taken,
        "knn": laps(rounds, lambda _: probe.knn(train, test), work.device),
        "linear": laps(rounds, lambda _: probe.linear(train, test), work.device),
    }
    seconds = {name: statistics.median([one.seconds for one in those]) for name, those in timed.items()}
    usual = EPOCHS * fitted + (count - fitted)
    of_a_pass = seconds["features"] / count
    return {
        "pictures": {"fitted": fitted, "scored": count - fitted},
        **{f"{name}_s": spread([one.seconds for one in those]) for name, those in timed.items()},
        "pictures_per_s": 1 / of_a_pass,
        "passes": count,
        "usual_passes": usual,
        "passes_ratio": usual / count,
        "seconds_ratio": usual * of_a_pass / (seconds["features"] + seconds["linear"]),
        "rounds": {name: told(those) for name, those in timed.items()},
    }


IMPORTS = {
    "python_s": "",
    "import_vergence_s": "import vergence",
    "import_torch_s": "import torch",
    "import_torch_and_everything_s": "import torch, vergence.runs",
}
"""What processes of their own are started for; all of them read only the standard library before."""


def measure_imports(work: Work) -> dict[str, Any]:
    """Seconds of whole processes, the interpreter's own start included, in turns: what a person waits for."""
    commands = {name: ["-c", script] for name, script in IMPORTS.items()} | {
        "help_s": ["-m", "vergence.command.cli", "--help"]
    }
    rounds: dict[str, list[float]] = {name: [] for name in commands}
    for n in range(work.order.rounds + 1):
        for name, words in commands.items():
            seconds = _process(words)
            if n:  # the first reads files into memory
                rounds[name].append(seconds)
    return {**{name: spread(values) for name, values in rounds.items()}, "rounds": rounds}


def _process(words: list[str]) -> float:
    assert vergence.__file__ is not None
    path = os.pathsep.join(filter(None, (str(Path(vergence.__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.decode(errors="replace").splitlines() or ["nothing said"])[-1]
        raise MachineError(f"a process for the import times ended with exit code {done.returncode}: {last}")
    return seconds
