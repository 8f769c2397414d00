"""Each method of the family beside lightly's, at equal compute, on CIFAR-10: accuracies and seconds a step.

    python benchmarks/family.py --data-dir DIR --out FILE.json [--methods simsiam,vicreg] [--seeds 3] [--pictures 10000]
        [--epochs 20] [--threads 2] [--side ours|lightly|both] [--encoder test_resnet]

Both sides have the same pictures, encoder and first weights of it, heads of the same layers and widths, optimizer,
schedule, batch and number of steps: those of our default run for CIFAR-10. lightly's side is the plain loop of its
documentation (`lightly_methods.py` says where it is not), the encoder timm's own, views by torchvision on PIL's
pictures in as many workers as there are threads. A method that lightly has not is trained alone. Our `evaluate` scores
both.

FILE holds each result as soon as it is there, and what it holds is not done again: the command may be killed at any
time. A step's seconds are the median over spans of as many steps as there are threads, since workers bring as many
batches at once, without the first ten steps; on a busy machine `core_s`, processor seconds a step of all threads and
workers, is the number to read. What our training measures, logs and saves beside its steps is in `core_s`, not in the
median.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vergence import config as c
from vergence import methods, presets
from vergence.augment.operations import kernel_size
from vergence.bench.record import head, source
from vergence.data import Images
from vergence.data import load as load_images
from vergence.engine.evaluate import evaluate
from vergence.engine.probing import Probing
from vergence.engine.reporter import Line, Reporter
from vergence.engine.train import steps_per_epoch, train
from vergence.errors import Diverged, Stopped, VergenceError
from vergence.files import durable
from vergence.files.run_folder import read_json
from vergence.machine.device import device_of
from vergence.machine.memory import keep_freed_memory
from vergence.metrics.verdict import Verdict
from vergence.networks.encoders import use_plain_layers
from vergence.runs.pictures import labelled, subset

sys.path.insert(0, str(Path(__file__).parent))
from tables import FAMILY, family_rows, table

ALONE = ("directpred",)
"""Methods of the family that lightly has not."""
METHODS = (
    *("simclr", "moco", "byol", "simsiam", "directpred", "barlow-twins", "vicreg", "nnclr"),
    *("swav", "dino", "sigreg", "w-mse"),
)
SIDES = ("ours", "lightly")
PROBING = Probing(probes=("knn", "linear"))
FIRST = 10
"""Steps at the start that are not timed, where there are twice as many."""

Found = dict[str, Any]


class Clock(Reporter):
    """When each step was done, and what the last line of the log looked like."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.verdict = ""

    def step(self) -> None:
        self.times.append(time.perf_counter())

    def line(self, line: Line, verdict: Verdict) -> None:
        self.verdict = verdict.state

    def median(self, span: int) -> float:
        """Return the median seconds of a step over spans of so many steps."""
        times = self.times[min(FIRST, (len(self.times) - 1) // 2) :: span]
        return statistics.median((end - begin) / span for begin, end in pairwise(times))


# --- the two sides ----------------------------------------------------------------------------------------------------


def ours(run: c.Run, images: Images, clock: Clock, threads: int) -> torch.nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        return train(run, images, Path(folder), reporter=clock).encoder


class Pictures(Dataset[list[Tensor]]):
    """PIL's pictures, each as its two views."""

    def __init__(self, images: Images, views: c.Views):
        from lightly.transforms.multi_view_transform import MultiViewTransform

        assert isinstance(images.pixels, Tensor)
        self.pictures = [Image.fromarray(one.numpy()) for one in images.pixels.permute(0, 2, 3, 1).contiguous()]
        self.transform: Any = MultiViewTransform([_transform(view, size, views) for view, size in views.crops])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.pictures[index])


def _transform(view: c.View, size: int, views: c.Views) -> Any:
    """Return a view of ours as a user of torchvision writes it."""
    from torchvision import transforms as t

    jitter = t.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    return t.Compose(
        [
            t.RandomResizedCrop(size, view.crop_scale, view.crop_ratio),
            t.RandomHorizontalFlip(view.flip),
            t.RandomApply([jitter], view.jitter),
            t.RandomGrayscale(view.gray),
            t.RandomApply([t.GaussianBlur(kernel_size(size), view.blur_sigma)], view.blur),
            t.RandomSolarize(128, view.solarize),
            t.ToTensor(),
            t.Normalize(views.mean, views.std),
        ]
    )


def peer_of(run: c.Run, device: torch.device, per_epoch: int) -> tuple[Any, Any, Any]:
    """Return lightly's method with the settings of a run, its optimizer and its schedule.

    Raises:
        ValueError: its heads have other shapes than ours.
    """
    from lightly_methods import PEERS, Given, optimizer_of

    steps = run.epochs * per_epoch
    built = methods.build(run)
    encoder = use_plain_layers(copy.deepcopy(built.encoder))
    dim: Any = encoder.dim
    torch.manual_seed(run.seed)
    given = Given(encoder, copy.deepcopy(encoder), dim, run.batch_size, per_epoch, steps)
    peer = PEERS[run.method.kind](run.method, given).train()
    if _matrices(peer) != _matrices(built):
        raise ValueError(f"{run.method.kind}: lightly's heads are {_matrices(peer)}, ours {_matrices(built)}")
    peer.to(device)
    return peer, *optimizer_of(run, peer, steps)


def views_of(run: c.Run, images: Images, workers: int) -> DataLoader[list[Tensor]]:
    """Return the loader of lightly's documentation, for a run's views."""
    return DataLoader(
        Pictures(images, run.views),
        batch_size=run.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(run.seed),
    )


def lightly(run: c.Run, images: Images, clock: Clock, threads: int) -> torch.nn.Module:
    peer, optimizer, scheduler = peer_of(run, torch.device("cpu"), steps_per_epoch(run, len(images)))
    loader = views_of(run, images, threads)
    step = 0
    for epoch in range(run.epochs):
        total_loss = torch.zeros(())
        for x0, x1 in loader:
            loss = peer(x0, x1, step).sum()  # SwAV's has one dimension
            total_loss += loss.detach()
            loss.backward()
            peer.after_backward(step)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            step += 1
            clock.step()
        if not total_loss.isfinite():
            raise FloatingPointError(f"the loss is not finite in epoch {epoch + 1}")
    return peer.encoder


def _matrices(method: torch.nn.Module) -> list[tuple[int, ...]]:
    """Return the shapes of all matrices that are trained."""
    return sorted(tuple(p.shape) for p in method.parameters() if p.requires_grad and p.ndim == 2)


TRAIN = {"ours": ours, "lightly": lightly}


def measure(run: c.Run, side: str, images: Images, splits: tuple[Images, Images], threads: int) -> Found:
    """Train and score one side; what ends its training is its result."""
    clock, began, spent = Clock(), time.perf_counter(), sum(os.times()[:4])
    found: Found = {"method": run.method.kind, "side": side, "seed": run.seed, "key": run.key, **source()}
    try:
        encoder = TRAIN[side](run, images, clock, threads)
    except (Diverged, FloatingPointError, torch.linalg.LinAlgError) as error:
        return {**found, "steps": len(clock.times), "error": str(error).splitlines()[0]}
    seconds, steps = time.perf_counter() - began, len(clock.times)
    found |= {"steps": steps, "step_s": round(clock.median(threads), 5), "seconds": round(seconds, 2)}
    found |= {"core_s": round((sum(os.times()[:4]) - spent) / steps, 5), "load": round(os.getloadavg()[0], 1)}
    found |= {"verdict": clock.verdict} if side == "ours" else {}
    scores = evaluate(encoder, *splits, run.views, probing=PROBING)
    if scores["knn"]["accuracy"] is None:  # the last step left weights that are not finite
        return {**found, "error": scores["knn"]["protocol"]}
    return {**found, **{probe: scores[probe]["accuracy"] for probe in PROBING.probes}}


# --- the command ------------------------------------------------------------------------------------------------------


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of them, with commas [all]")
    parser.add_argument("--side", default="both", choices=[*SIDES, "both"])
    parser.add_argument("--encoder", default="test_resnet", help="any model of timm [%(default)s]")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("VERGENCE_DATA_DIR"))
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write, or to go on with")
    for name, value in (("seeds", 3), ("pictures", 10_000), ("epochs", 20), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value, help="[%(default)s]")
    a = parser.parse_args()
    a.methods = a.methods.split(",")
    if unknown := set(a.methods) - set(METHODS):
        parser.error(f"--methods: unknown {', '.join(sorted(unknown))}; known: {', '.join(METHODS)}")
    return a


def run_of(a: argparse.Namespace, method: str, seed: int) -> c.Run:
    """Return our default run of a method on CIFAR-10, with what the command changes."""
    run = presets.preset("default", method, c.CIFAR10())
    return replace(run, encoder=c.Encoder(name=a.encoder), subset=a.pictures, epochs=a.epochs, seed=seed)


def begun(a: argparse.Namespace) -> Found:
    """Return the record to go on with.

    Raises:
        SystemExit: the file has results of other settings.
    """
    settings = {name: getattr(a, name) for name in ("encoder", "pictures", "epochs", "threads")}
    if a.out.exists():
        record = read_json(a.out)
        if record.get("settings") != settings:
            raise SystemExit(f"error: {a.out}: has results of {record.get('settings')}; choose another --out")
        return record
    versions = {name: _version(name) for name in ("lightly", "torchvision", "timm")}
    return {**head("family", device_of("cpu")), "versions": versions, "settings": settings, "results": []}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # of lightly, where only ours is trained
        return None


def told(found: Mapping[str, Any]) -> str:
    name = f"{found['method']}, {found['side']}, seed {found['seed']}: "
    if "error" in found:
        return f"{name}{found['error']}"
    scores = f"kNN {found['knn']:.2f}, linear {found['linear']:.2f}"
    return f"{name}{scores}; {found['step_s']:.4f} s a step, load {found['load']}"


def work_of(a: argparse.Namespace, results: Sequence[Found]) -> list[tuple[str, str, int]]:
    """Return what is left to do: every method once, then again with the next seed."""
    done = {(one["method"], one["side"], one["seed"]) for one in results}
    sides = SIDES if a.side == "both" else (a.side,)
    work = [(method, side, seed) for seed in range(a.seeds) for method in a.methods for side in sides]
    return [one for one in work if one not in done and not (one[1] == "lightly" and one[0] in ALONE)]


def main() -> None:
    a = asked()
    keep_freed_memory()  # by both sides, as our command does
    record = begun(a)
    torch.set_num_threads(a.threads)
    if work := work_of(a, record["results"]):
        runs = {(method, seed): run_of(a, method, seed) for method, _, seed in work}
        one = next(iter(runs.values()))
        images = subset(load_images(one.data, "pretrain", data_dir=a.data_dir), a.pictures)
        splits = labelled(one, a.data_dir)
        for method, side, seed in work:
            found = measure(runs[method, seed], side, images, splits, a.threads)
            record["results"].append(found)
            durable.write_json(a.out, record)
            print(told(found), flush=True)
    print("\n".join(table(FAMILY, family_rows(record["results"]))))


if __name__ == "__main__":
    try:
        main()
    except (Stopped, KeyboardInterrupt):
        sys.exit("stopped: what is done stands; the same command goes on")
    except (VergenceError, ValueError) as error:
        sys.exit(f"error: {error}")
