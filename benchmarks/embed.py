"""Embeddings of photographs by a ResNet-18 at 224 px: ours beside timm's way and LightlyTrain's, in turns; and memory.

    python benchmarks/embed.py --out DIR [--rounds 3] [--python lightly_train=/an/environment/bin/python]

JPEGs of 500 x 375 (as ImageNet's), random weights, each contestant in a process of its own with as many threads or
workers as `--cores`. timm's way is that of its documentation: `create_transform`, torchvision's `ImageFolder`, a
DataLoader. A row is pictures per second of wall-clock time and of a core (processor time of the process and its
workers), from the first file to the last embedding, without imports; and the most memory that the process and its
workers had. Then the memory of ours for `--counts` small pictures.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from photos import _processor, make

SIZE, BATCH, SMALL = 224, 32, 32
WEIGHTS, LIGHTLY = "resnet18.safetensors", "lightly"


def vergence(folder: Path, out: Path, cores: int, size: int = SIZE) -> None:
    import torch

    from vergence.config import Folder
    from vergence.runs import embed, open_model

    torch.set_num_threads(cores)
    model = open_model(out / WEIGHTS, encoder="resnet18", size=size)
    written = out / "embeddings.parquet"
    written.unlink(missing_ok=True)
    embed(model, Folder(root=str(folder), size=size, bad_images="skip"), written)


def timm(folder: Path, out: Path, cores: int) -> None:
    import torch
    from safetensors.torch import load_file
    from timm import create_model
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(cores)
    model = create_model("resnet18", num_classes=0).eval()
    model.load_state_dict(load_file(out / WEIGHTS))
    transform: Any = create_transform(**resolve_data_config({}, model=model))
    loader = DataLoader(ImageFolder(str(folder), transform), BATCH, num_workers=cores)
    with torch.inference_mode():
        torch.save(torch.cat([model(pictures) for pictures, _ in loader]), out / "embeddings.pt")


def lightly_train(folder: Path, out: Path, cores: int) -> None:
    import lightly_train as library  # pyright: ignore[reportMissingImports]
    import torch

    torch.set_num_threads(cores)
    library.embed(
        out=str(out / "embeddings.torch"),
        data=str(folder),
        checkpoint=str(out / LIGHTLY / "checkpoints" / "last.ckpt"),
        format="torch",
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        num_workers=cores,
        accelerator="cpu",
        overwrite=True,
    )


def prepare_lightly_train(folder: Path, out: Path) -> None:
    """Write a checkpoint of LightlyTrain's own, from which alone it embeds."""
    import lightly_train as library  # pyright: ignore[reportMissingImports]

    library.train(
        out=str(out / LIGHTLY),
        data=str(folder),
        model="timm/resnet18",
        method="simclr",
        epochs=1,
        batch_size=2,
        num_workers=0,
        accelerator="cpu",
        transform_args={"image_size": (32, 32)},
        overwrite=True,
    )


CONTESTANTS = {one.__name__: one for one in (vergence, timm, lightly_train)}


def _memory() -> int:
    """Bytes that this process and its workers have to themselves, and their share of what they have together."""
    me, total = os.getpid(), 0
    for pid in (me, *Path(f"/proc/{me}/task/{me}/children").read_text().split()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def race(name: str, folder: Path, out: Path, cores: int, size: int = SIZE) -> dict[str, float]:
    import timm  # noqa: F401, so that imports are not timed
    import torch.utils.data  # noqa: F401
    import torchvision.datasets  # noqa: F401

    if name == "vergence":
        import vergence.runs  # noqa: F401
    if name == "lightly_train":
        import lightly_train  # pyright: ignore[reportMissingImports] # noqa: F401
    pictures = sum(1 for _ in folder.rglob("*.jpg"))
    most, ended = [_memory()], threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            most[0] = max(most[0], _memory())

    looking = threading.Thread(target=look)
    looking.start()
    began, used = time.perf_counter(), _processor()
    children = os.times()
    given = (folder, out, cores) if name != "vergence" else (folder, out, cores, size)
    CONTESTANTS[name](*given)
    wall, after = time.perf_counter() - began, os.times()
    ended.set()
    looking.join()
    spent = _processor() - used  # of workers that have ended, and so are no children any more:
    spent += after.children_user + after.children_system - children.children_user - children.children_system
    return {"wall": pictures / wall, "core": pictures / spent, "most_mb": most[0] / 1e6}


def _of_another_process(a: argparse.Namespace, python: str, *told: Any) -> dict[str, float] | None:
    command = [python, __file__, "--out", str(a.out), "--cores", str(a.cores), "--race", json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{told[0]}: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    print(*told, {what: round(value, 1) for what, value in found.items()}, f"load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where photos are made and embed.json is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 20_000])
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--contestants", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS])
    parser.add_argument("--python", nargs="*", default=[], help="CONTESTANT=PYTHON: another environment for one")
    parser.add_argument("--race", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.race:
        name, folder, *size = json.loads(a.race)
        if name == "prepare":
            prepare_lightly_train(Path(folder), a.out)
        print(json.dumps({} if name == "prepare" else race(name, Path(folder), a.out, a.cores, *size)))
        return
    import timm as library
    import torch
    from safetensors.torch import save_file

    from vergence.bench.record import head
    from vergence.machine.device import device_of

    torch.manual_seed(0)
    a.out.mkdir(parents=True, exist_ok=True)
    save_file(library.create_model("resnet18", num_classes=0).state_dict(), a.out / WEIGHTS)
    photos = a.out / f"photos-{a.pictures}"
    if not photos.exists():
        make(photos, 500, 375, a.pictures)
    pythons = dict(pair.split("=", 1) for pair in a.python)
    if "lightly_train" in a.contestants and not (a.out / LIGHTLY).exists():
        few = a.out / "few"
        make(few, 64, 48, 8)
        _of_another_process(a, pythons.get("lightly_train", sys.executable), "prepare", str(few))
    rows: dict[str, dict[str, list[float]]] = {}
    for number in range(a.rounds):
        for name in a.contestants[number % len(a.contestants) :] + a.contestants[: number % len(a.contestants)]:
            found = _of_another_process(a, pythons.get(name, sys.executable), name, str(photos)) or {}
            for what, value in found.items():
                rows.setdefault(name, {}).setdefault(what, []).append(round(value, 2))
    memory = []
    for count in a.counts:
        small = a.out / f"small-{count}"
        if not small.exists():
            make(small, 64, 48, count)
        if found := _of_another_process(a, sys.executable, "vergence", str(small), SMALL):
            memory.append({"pictures": count, "most_mb": round(found["most_mb"])})
    for name, row in rows.items():
        print(name, {what: statistics.median(values) for what, values in row.items()})
    print(memory)
    record = {**head("embeddings", device_of("cpu")), "size": SIZE, "batch": BATCH, "results": rows, "memory": memory}
    record["settings"] = {"cores": a.cores, "pictures": a.pictures, "turns": a.rounds}
    (a.out / "embed.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
