"""Two views of photographs, from files to batches: ours beside torchvision's, Lightly's and LightlyTrain's, in turns.

    python benchmarks/photos.py --out DIR [--rounds 3] [--python lightly_train=/an/environment/bin/python]

SimCLR's views at 224 px of JPEGs of 500 x 375 (as ImageNet's) and 4,000 x 3,000 (as a phone's), batches of 32. Each
contestant is a process of its own with as many threads or workers as `--cores`; a row is pictures per second of
wall-clock time and of a core (processor time of the process and its workers). Ours is timed twice: with a store that is
there, as every epoch but the first has it, and with none, where the epoch begins with the reading of all pictures.
Decoded pictures are held in memory where they take less than a quarter of what is free, as these do; what it is where
they do not is `vergence_decoding`. Peers decode each file each time, so that their rates are those of any epoch.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZE, BATCH = 224, 32  # small enough that every worker has some of the large photographs
PHOTOS = {"500 x 375": (500, 375, 768), "4000 x 3000": (4000, 3000, 128)}


def make(folder: Path, width: int, height: int, count: int) -> None:
    """Write crops of scikit-learn's two photographs, with a camera's noise."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos, random = [Image.fromarray(array) for array in load_sample_images().images], np.random.default_rng(0)
    noise = random.normal(0, 4, (height, width, 3))
    for i in range(count):
        photo, scale = photos[i % 2], random.uniform(0.7, 1)
        w, h = int(500 * scale), int(375 * scale)
        x, y = random.integers(photo.width - w + 1), random.integers(photo.height - h + 1)
        picture = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, (x, y, x + w, y + h)))
        noisy = np.clip(picture + np.roll(noise, i, axis=1), 0, 255).astype(np.uint8)
        place = folder / f"class-{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(place / f"{i:04}.jpg", quality=90)


# --- contestants: each gives batches of views, for ever ---------------------------------------------------------------


def vergence(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    from dataclasses import replace

    import torch

    from vergence import data
    from vergence.config import VIEWS, Folder, Run, SimCLR
    from vergence.engine.batches import Ahead, batch_of
    from vergence.machine.threads import two_workers

    torch.set_num_threads(cores)
    settings = Folder(root=str(folder), size=SIZE, labels="none")
    pixels = data.load(settings, "pretrain", cache_dir=cache).pixels
    run = Run(method=SimCLR(), data=settings, views=replace(VIEWS["simclr"], size=SIZE), batch_size=BATCH)
    last = 1 << 30
    with two_workers(torch.device("cpu")) as workers:
        ahead = Ahead(run, pixels, last, lambda count: slice(0, count))
        for step in range(1, last):
            yield ahead.crops(step, batch_of(run, len(pixels), step), workers.map)


def vergence_decoding(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    from vergence.data import whole

    whole.HELD = 0.0  # as where decoded pictures do not fit a quarter of the free memory
    return vergence(folder, cores, cache)


def torchvision(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    from torchvision import transforms as t
    from torchvision.datasets import ImageFolder

    one = t.Compose(
        [
            t.RandomResizedCrop(SIZE, (0.08, 1.0)),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            t.RandomGrayscale(0.2),
            t.RandomApply([t.GaussianBlur(23, (0.1, 2.0))], 0.5),
            t.ToTensor(),
            t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return _loaded(ImageFolder(str(folder), transform=_Twice(one)), cores)


def torchvision_v2(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.io import decode_image
    from torchvision.transforms import v2 as t

    one = t.Compose(
        [
            t.RandomResizedCrop(SIZE, (0.08, 1.0), antialias=True),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            t.RandomGrayscale(0.2),
            t.RandomApply([t.GaussianBlur(23, (0.1, 2.0))], 0.5),
            t.ToDtype(torch.float32, scale=True),
            t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return _loaded(ImageFolder(str(folder), transform=_Twice(one), loader=decode_image), cores)


def lightly(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=SIZE, cj_strength=1.0)
    return _loaded(LightlyDataset(str(folder), transform=transform), cores)


def lightly_train(folder: Path, cores: int, cache: Path) -> Iterator[Any]:
    import numpy as np
    from lightly_train._data.file_helpers import open_image_numpy
    from lightly_train._methods.simclr.simclr_transform import SimCLRTransform, SimCLRTransformArgs
    from torch.utils.data import Dataset

    arguments = SimCLRTransformArgs()
    arguments.resolve_auto()
    arguments.resolve_incompatible()
    transform = SimCLRTransform(arguments)
    paths = sorted(folder.rglob("*.jpg"))

    class Photos(Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            return [view["image"] for view in transform({"image": np.asarray(open_image_numpy(paths[index]))})]

    return _loaded(Photos(), cores)


class _Twice:
    def __init__(self, transform: Any):
        self.transform = transform

    def __call__(self, picture: Any) -> list[Any]:
        return [self.transform(picture), self.transform(picture)]


def _loaded(dataset: Any, cores: int) -> Iterator[Any]:
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=cores, drop_last=True, persistent_workers=True)
    while True:
        yield from loader


CONTESTANTS = {
    one.__name__: one for one in (vergence, vergence_decoding, torchvision, torchvision_v2, lightly, lightly_train)
}


def race(name: str, folder: Path, cores: int, cache: Path, seconds: float, cold: bool) -> dict[str, float]:
    """Take batches for some seconds; the first ones, while workers start, are not timed unless `cold`."""
    pictures = sum(1 for _ in folder.rglob("*.jpg"))
    batches = CONTESTANTS[name](folder, cores, cache)
    if cold:
        import vergence.data.whole
        import vergence.engine.train  # noqa: F401, so that the import is not timed
    else:
        for _ in range(2 * cores + 2):
            next(batches)
    began, used = time.perf_counter(), _processor()
    count = 0
    while (count < pictures // BATCH) if cold else (time.perf_counter() - began < seconds or count < 2):
        next(batches)
        count += 1
    wall = time.perf_counter() - began
    spent = _processor() - used
    return {"wall": BATCH * count / wall, "core": BATCH * count / spent}


def _processor() -> float:
    """Processor seconds of this process and of the workers that it has started."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in (me, *children)]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where photos are made and photos.json is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--contestants", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS])
    parser.add_argument("--python", nargs="*", default=[], help="CONTESTANT=PYTHON: another environment for one")
    parser.add_argument("--race", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.race:
        name, folder, cache, cold = json.loads(a.race)
        print(json.dumps(race(name, Path(folder), a.cores, Path(cache), a.seconds, cold)))
        return
    from vergence.bench.record import head
    from vergence.machine.device import device_of

    pythons = dict(pair.split("=", 1) for pair in a.python)
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for photos, (width, height, count) in PHOTOS.items():
        folder, cache = a.out / photos.replace(" ", ""), a.out / f"store-{width}"
        if not folder.exists():
            make(folder, width, height, count)
        rows = results.setdefault(photos, {})
        for number in range(a.rounds):
            entries = [*a.contestants, *(["vergence, first epoch"] if "vergence" in a.contestants else [])]
            for entry in entries[number % len(entries) :] + entries[: number % len(entries)]:
                name, cold = entry.partition(",")[0], entry.endswith("first epoch")
                own = Path(tempfile.mkdtemp(dir=a.out)) if cold else cache
                told = json.dumps([name, str(folder), str(own), cold])
                command = [pythons.get(name, sys.executable), __file__, "--out", str(a.out), "--race", told]
                command += ["--cores", str(a.cores), "--seconds", str(a.seconds)]
                done = subprocess.run(command, capture_output=True, text=True)
                if cold:
                    shutil.rmtree(own)
                if done.returncode:
                    print(f"{entry}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                for what, value in json.loads(done.stdout.splitlines()[-1]).items():
                    rows.setdefault(entry, {}).setdefault(what, []).append(round(value, 2))
                print(photos, entry, done.stdout.splitlines()[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    buffer = io.StringIO()
    for photos, rows in results.items():
        print(f"\n{photos}: pictures/s (wall), pictures/s a core, medians of {a.rounds}", file=buffer)
        for entry, row in rows.items():
            wall, core = (statistics.median(row[what]) for what in ("wall", "core"))
            print(f"  {entry:24} {wall:8.1f} {core:8.1f}", file=buffer)
    print(buffer.getvalue())
    record = {**head("photos", device_of("cpu")), "size": SIZE, "batch": BATCH, "results": results}
    record["settings"] = {"cores": a.cores, "seconds": a.seconds, "turns": a.rounds}
    (a.out / "photos.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
