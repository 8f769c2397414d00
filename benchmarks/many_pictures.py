"""How a start and its memory grow with the number of pictures: files and a finished store of them are made, and opened.

    python benchmarks/many_pictures.py --out /a/folder/with/space [--counts 1000 10000 100000 1000000 1300000]

The files are real JPEGs of some hundred bytes in folders of 1,300, as ImageNet's are; the store holds each of them as
reading it would, and zeros besides where `--bytes` asks for larger ones. Each start is a process of its own, in which
all three splits are opened and eight batches of 256 pictures are cut into views. `own` is what it then holds beside its
libraries (RssAnon), `most` all that it ever had resident, libraries and pages of files included (VmHWM).
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = [(20 + i % 7, 20 + i % 5) for i in range(35)]
IN_A_FOLDER = 1300
STARTS = 5


def jpegs() -> list[bytes]:
    random = np.random.default_rng(0)
    encoded = []
    for shape in SHAPES:
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)).save(file, "JPEG", quality=60)
        encoded.append(file.getvalue())
    return encoded


def make_files(root: Path, count: int) -> None:
    """Write pictures that differ in their last bytes; every second folder has one to score on."""
    encoded = jpegs()
    for i in range(count):
        folder = root / f"train/class-{i // IN_A_FOLDER:04}"
        if i % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
            test = root / f"val/class-{i // IN_A_FOLDER:04}"
            test.mkdir(parents=True)
            (test / "0.jpg").write_bytes(encoded[i % len(encoded)] + b"test" + i.to_bytes(4, "big"))
        with open(f"{folder}/{i:07}.jpg", "wb") as file:
            file.write(encoded[i % len(encoded)] + i.to_bytes(4, "big"))


def make_store(root: Path, cache: Path, filler: int) -> float:
    """Write what reading the files would; return the seconds that the listing took."""
    from vergence.config import Folder
    from vergence.data import whole
    from vergence.data.scan import scan
    from vergence.data.store import Kept, Store, name_of
    from vergence.data.tally import About

    began = time.perf_counter()
    found = scan(root).found
    seconds = time.perf_counter() - began
    store = Store(whole.store_folder(Folder(root=str(root)), [root], cache))
    if len(store) == len(found):
        return seconds
    encoded = [data + bytes(filler) for data in jpegs()]

    def kept():
        for i, file in enumerate(found):
            (height, width), digest = SHAPES[i % len(SHAPES)], i.to_bytes(16, "big")
            about = About(digest, min(height, width), 1, 0, -1, 0, 255, constant=False)
            yield name_of(file), Kept(encoded[i % len(encoded)], height, width, about)

    store.add(kept())
    return seconds


START = """
import json, sys, time
from pathlib import Path
import pyarrow, torch
from vergence import augment, data
from vergence.config import Folder, Views
from vergence.machine.randomness import generator

def memory(what):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))

before, began = memory("RssAnon"), time.perf_counter()
splits = [data.load(Folder(root=sys.argv[1]), split, cache_dir=sys.argv[2]) for split in ("pretrain", "train", "test")]
digests = [images.digest() for images in splits]
seconds = time.perf_counter() - began
images = splits[0]
for step in range(8):
    batch = torch.randint(len(images), (256,), generator=generator(0, "batch", step))
    augment.two_views(images.pixels[batch], None, Views(), generator(0, "views", step))
own, most = memory("RssAnon") - before, memory("VmHWM")
print(json.dumps({"pictures": len(images), "seconds": seconds, "own": own, "most": most}))
"""


def start(root: Path, cache: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", START, root, cache], capture_output=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    from vergence.bench.record import head
    from vergence.machine.device import device_of

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder; about 4 KiB a picture, twice")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000, 1_300_000])
    parser.add_argument("--bytes", type=int, default=0, help="zeros that each picture of the store ends with")
    asked = parser.parse_args()
    rows = []
    for count in asked.counts:
        root, cache = asked.out / f"{count}" / "pictures", asked.out / f"{count}" / "cache"
        if not root.exists():
            make_files(root, count)
            time.sleep(3)  # an index is kept where nothing has changed for two seconds
        listing = make_store(root, cache, asked.bytes)
        first = start(root, cache)
        again = [start(root, cache) for _ in range(STARTS)]
        row = {
            "pictures": int(first["pictures"]),
            "store_bytes": sum(file.stat().st_size for file in cache.rglob("*.arrow")),
            "listing_s": round(listing, 2),
            "first_start_s": round(first["seconds"], 2),
            "first_most_mb": round(first["most"] / 1e6),
            "start_s": round(statistics.median(one["seconds"] for one in again), 3),
            "own_mb": round(statistics.median(one["own"] for one in again) / 1e6),
            "most_mb": round(statistics.median(one["most"] for one in again) / 1e6),
            "load": round(os.getloadavg()[0], 1),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    record = {**head("many pictures", device_of("cpu")), "settings": {"starts": STARTS}, "results": rows}
    (asked.out / "many_pictures.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
