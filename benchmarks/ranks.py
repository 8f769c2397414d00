"""Two processes of one thread against one process of two threads, in turns, on the same cores.

    python benchmarks/ranks.py --out benchmarks/results/DATE-cpu-ranks.json

BYOL with ResNet-18 at 96 px on digits, batch 64 of all processes together. Each turn is one `vergence train`; its
rate is the median over its log lines but the first two. `hidden` is the share of the time between the first gradients
on their way and the last arrived in which rank 0's backward pass still computes: the mean of five steps, by the timers
of torch's DDP.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from vergence.bench.record import head
from vergence.machine.device import find_device

STEPS, BATCH = 12, 64
WORK = ["train", "byol", "--encoder", "resnet18", "--size", "96", "--batch-size", str(BATCH), "--epochs", "1"]
WORK += ["--data", "digits", "--subset", str(STEPS * BATCH), "--log-every", "1", "--device", "cpu"]


def rate(processes: int, source: Path | None) -> float:
    """Return the pictures a second of one turn."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORK, "--out", f"{folder}/run", "--threads", str(2 // processes)]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "vergence", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": str(2 // processes)}
        environment |= {} if source is None else {"PYTHONPATH": str(source)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["images_per_second"] for line in lines[2:])


def hidden(file: Path) -> None:
    """Train a few steps on this rank; rank 0 writes how long gradients travelled, and which share is hidden."""
    import torch

    from vergence import config, presets
    from vergence.data import Images
    from vergence.engine.step import Setup, stepping
    from vergence.machine.processes import joined
    from vergence.methods import build
    from vergence.optim import build_optimizer

    torch.set_num_threads(1)
    run = presets.default(config.BYOL(), config.CIFAR10(size=96))
    run = replace(run, encoder=config.Encoder(name="resnet18"), batch_size=BATCH)
    pixels = torch.randint(0, 256, (BATCH, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with joined() as group:
        method = build(run).to(memory_format=torch.channels_last).train()
        images, optimizer = Images(pixels, None, (), 96), build_optimizer(run.optimizer, method)
        setup = Setup(run, method, optimizer, images, torch.device("cpu"), 10)
        with stepping(setup, "none", group) as stepper:
            for step in range(1, 6):
                stepper(step, torch.arange(BATCH), with_layer_stats=False)
            seen = stepper.forward._get_ddp_logging_data()
        if group.is_main:
            spent, beside = (seen[f"avg_backward_{name}_time"] for name in ("comm", "compute_comm_overlap"))
            file.write_text(json.dumps({"seconds": spent / 1e9, "share": beside / spent}))


def timed() -> dict[str, float]:
    """Return what `hidden` finds of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        words = [*launcher, __file__, "--hidden", f"{folder}/hidden.json"]
        subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"})
        return json.loads(Path(folder, "hidden.json").read_bytes())


def main() -> None:
    """Measure in turns, print, and write the record."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--before", type=Path, help="the folder src of another commit, to measure its two processes too")
    ask.add_argument("--out", type=Path)
    ask.add_argument("--hidden", type=Path, help=argparse.SUPPRESS)
    asked = ask.parse_args()
    if asked.hidden is not None:
        hidden(asked.hidden)
        return
    kinds = {"one process": (1, None), "two processes": (2, None)}
    kinds |= {"two processes, before": (2, asked.before)} if asked.before else {}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        for kind, (processes, source) in kinds.items():
            rates[kind].append(rate(processes, source))
            print(f"{kind}: {rates[kind][-1]:.1f} pictures a second", flush=True)
    one = statistics.median(rates["one process"])
    ratios = {kind: statistics.median(values) / one for kind, values in rates.items()}
    settings = {"rounds": asked.rounds, "steps": STEPS, "compile": "none", "pictures": "digits"}
    record = {
        **head("ranks", find_device("cpu")),
        "settings": settings,
        "rates": rates,
        "ratios": ratios,
        "hidden": timed(),
    }
    print(json.dumps({"ratios": ratios, "hidden": record["hidden"]}, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
