"""Two processes of one thread against one process of two threads, in turns, on the same cores.

    python benchmarks/ranks.py --data-dir DIR --out benchmarks/results/DATE-cpu-ranks.json

BYOL with ResNet-18 at 96 px on CIFAR-10's pictures, batch 64 of all processes together. Each turn is one `vergence train`
without a score; its rate is the median over its log lines but the first two. `hidden` is the share of the seconds that
gradients are on their way during which the backward pass still computes, on rank 0, from torch's profiler.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vergence.bench.record import head
from vergence.machine.device import find_device

STEPS, BATCH = 12, 64
WORK = ["train", "byol", "--encoder", "resnet18", "--size", "96", "--batch-size", str(BATCH), "--epochs", "1"]
WORK += ["--data", "cifar10", "--data.labels", "none", "--subset", str(STEPS * BATCH), "--log-every", "1"]


def rate(processes: int, data_dir: Path, source: Path | None) -> float:
    """Return the pictures a second of one turn."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORK, "--data-dir", str(data_dir), "--out", f"{folder}/run", "--device", "cpu"]
        words += ["--threads", str(2 // processes)]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "vergence", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": str(2 // processes)}
        environment |= {} if source is None else {"PYTHONPATH": str(source)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["images_per_second"] for line in lines[2:])


def hidden(folder: Path) -> None:
    """Train a few steps on this rank; rank 0 writes which share of the communication a backward pass hid."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from vergence import config, presets
    from vergence.data import Images
    from vergence.engine.step import Setup, stepping
    from vergence.machine.processes import joined
    from vergence.methods import build
    from vergence.optim import build_optimizer

    torch.set_num_threads(1)
    data = config.CIFAR10(size=96)
    run = presets.default(config.BYOL(), data)
    pixels = torch.randint(0, 256, (BATCH, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, None, (), 96)
    with joined() as group:
        method = build(run).to(memory_format=torch.channels_last).train()
        setup = Setup(run, method, build_optimizer(run.optimizer, method), images, torch.device("cpu"), 10)
        with stepping(setup, "none", group) as stepper:
            for step in (1, 2):
                stepper(step, torch.arange(BATCH), False)
            with profile(activities=[ProfilerActivity.CPU]) as seen:
                stepper(3, torch.arange(BATCH), False)
        if group.is_main:
            events = [event for event in seen.events() if event.time_range.elapsed_us() > 0]
            sent = [event.time_range for event in events if "gloo:all_reduce" in event.name]
            backward = [event.time_range for event in events if event.name.startswith("autograd::engine::evaluate")]
            last = max(part.end for part in backward)
            total = sum(part.elapsed_us() for part in sent)
            during = sum(max(0, min(part.end, last) - part.start) for part in sent)
            (folder / "hidden.json").write_text(json.dumps({"seconds": total / 1e6, "share": during / total}))


def profiled() -> dict[str, Any]:
    """Return what `hidden` found of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        subprocess.run([*launcher, __file__, "--profile", folder], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return json.loads(Path(folder, "hidden.json").read_bytes())


def main() -> None:
    """Measure in turns, print, and write the record."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data-dir", type=Path)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--before", type=Path, help="the folder src of another commit, whose two processes are measured too")
    ask.add_argument("--out", type=Path)
    ask.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    asked = ask.parse_args()
    if asked.profile is not None:
        hidden(asked.profile)
        return
    if asked.data_dir is None:
        raise SystemExit("error: --data-dir: name the folder with CIFAR-10")
    kinds = {"one process": (1, None), "two processes": (2, None)}
    kinds |= {"two processes, before": (2, asked.before)} if asked.before else {}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        for kind, (processes, source) in kinds.items():
            rates[kind].append(rate(processes, asked.data_dir, source))
            print(f"{kind}: {rates[kind][-1]:.1f} pictures a second", flush=True)
    one = statistics.median(rates["one process"])
    ratios = {kind: statistics.median(values) / one for kind, values in rates.items()}
    record = {**head("ranks", find_device("cpu")), "rates": rates, "ratios": ratios, "hidden": profiled()}
    print(json.dumps({"ratios": ratios, "hidden": record["hidden"]}, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
