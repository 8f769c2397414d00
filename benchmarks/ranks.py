"""Two processes of one thread against one process of two threads, in turns, on the same cores.

    python benchmarks/ranks.py --out benchmarks/results/DATE-cpu-ranks.json

BYOL with ResNet-18 at 96 px on digits, batch 64 of all processes together. Each turn is one `vergence train`; its rate
is the median over its log lines but the first two.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
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


def main() -> None:
    """Measure in turns, print, and write the record."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--before", type=Path, help="the folder src of another commit, to measure its two processes too")
    ask.add_argument("--out", type=Path)
    asked = ask.parse_args()
    kinds = {"one process": (1, None), "two processes": (2, None)}
    kinds |= {"two processes, before": (2, asked.before)} if asked.before else {}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        for kind, (processes, source) in kinds.items():
            rates[kind].append(rate(processes, source))
            print(f"{kind}: {rates[kind][-1]:.1f} pictures a second", flush=True)
    one = statistics.median(rates["one process"])
    ratios = {kind: statistics.median(values) / one for kind, values in rates.items()}
    record = {**head("ranks", find_device("cpu")), "rates": rates, "ratios": ratios}
    print(json.dumps(ratios, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
