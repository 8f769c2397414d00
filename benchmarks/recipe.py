"""CIFAR-10 at 32 px to 90% linear accuracy in minutes: a recipe is tuned here, then timed.

    python benchmarks/recipe.py tune --data-dir DIR --device cuda --jobs 2 --lr 0.06,0.12,0.24 --decay 0.98,0.99
    python benchmarks/recipe.py final runs/recipe/byol-cifar10-KEY/run.json --data-dir DIR --device cuda \
        --out benchmarks/results/DATE-gpu-recipe.json

`tune` trains every combination of the values given on nine tenths of the training pictures and scores it on the tenth
that is held out (`--data.scored-on held-out`): the test pictures are not even looked for. What is finished is not
trained again, so the same command goes on after any end, and another one adds to it. The default values are starting
points: none of them was chosen by a measurement.

`final` trains what was chosen of these runs on all 50,000 training pictures, anew for every seed, one after the other,
and scores each once on the test pictures, at its end. Nothing is scored while it trains: the rate goes to zero at the
end of a schedule, so accuracies before it say little, and each look would take time from the run. A point on the curve
of accuracy over time is a schedule of another length. The time to an accuracy is that of a whole run: pictures loaded,
everything compiled, trained, saved and scored by all three probes. Where calls may not last: `--seeds 1`, then 2, then
3; seeds that are done are not done again.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from vergence import config as c
from vergence import presets
from vergence.bench.record import head
from vergence.command.arguments import add_options, read_options
from vergence.command.commands import Positional
from vergence.config.marks import AtLeast, Metavar
from vergence.config.schema import to_dict
from vergence.engine.reporter import Line, Reporter
from vergence.engine.where import Where
from vergence.errors import InputError, VergenceError
from vergence.files import durable
from vergence.files.results import Result, read_result
from vergence.files.run_folder import RUN, SUMMARY, read_json, read_run
from vergence.grid import run_grid
from vergence.grid.live import open_grid_view
from vergence.machine.device import find_device
from vergence.report import text
from vergence.runs import run_training
from vergence.runs.training import Training

TIMING = "timing.json"
"""Beside a run's summary: the seconds it took from its beginning to its end."""

GOALS = (85, 90)
"""Percent."""

Count = Annotated[int, AtLeast(1)]
Folder = Annotated[Path | None, "where the data set's files are [$VERGENCE_DATA_DIR]"]
Device = Annotated[str, "auto, cpu, cuda or cuda:N"]


@c.configuration
class Tune:
    """Every combination of some values, scored on held-out pictures."""

    method: Annotated[tuple[Literal["byol", "simclr"], ...], "byol, simclr"] = ("byol",)
    lr: Annotated[tuple[Annotated[float, AtLeast(0)], ...], "learning rates"] = (0.06, 0.12, 0.24)
    decay: Annotated[tuple[Annotated[float, c.Between(0, 1)], ...], "of the moving average"] = (0.98, 0.99, 0.996)
    epochs: Annotated[tuple[Count, ...], "lengths of schedules"] = (60,)
    batch_size: Annotated[tuple[Count, ...], "pictures in a step"] = (256,)
    views: Annotated[tuple[Literal[*c.VIEWS], ...], f"pipelines: {', '.join(c.VIEWS)}"] = ("raft-code",)
    encoder: Annotated[str, "a timm model"] = "resnet18"
    stem: Annotated[str, "cifar or imagenet"] = "cifar"
    subset: Annotated[int | None, "so many of the pictures [all that are not held out]"] = None
    precision: Annotated[c.Precision | None, "float32 or bfloat16 [bfloat16 on a GPU]"] = None
    jobs: Annotated[Count, "runs at a time"] = 1
    threads: Annotated[Count, "CPU threads of each"] = 1
    folder: Annotated[Path, "of the runs"] = Path("runs/recipe")
    out: Annotated[Path | None, "the table, as JSON [tuned.json in the folder]"] = None
    data_dir: Folder = None
    device: Device = "auto"


@c.configuration
class Final:
    """Some of these runs on all training pictures, scored on the test pictures."""

    run: Annotated[tuple[Path, ...], Positional(), Metavar("RUN.JSON"), "of runs of `tune`"]
    epochs: Annotated[tuple[Count, ...], "lengths of each one's schedule [its own]"] = ()
    seeds: Annotated[Count, "runs of each length, from seed 0 on"] = 3
    threads: Annotated[Count | None, "CPU threads [one a core]"] = None
    folder: Annotated[Path, "of the runs"] = Path("runs/recipe-final")
    out: Annotated[Path, "the JSON file to write"]
    data_dir: Folder = None
    device: Device = "auto"


# --- tuning -----------------------------------------------------------------------------------------------------------


def recipe(name: str, *, lr: float, decay: float, epochs: int, batch_size: int, views: str) -> c.Run:
    """A run on nine tenths of the training pictures, scored on the others; a starting point, not a tuned one."""
    methods: dict[str, c.Method] = {
        "byol": c.BYOL(
            projector=c.Projector(hidden=1024, out=256),
            predictor=c.MLPPredictor(hidden=1024),
            target=c.MovingAverage(decay=decay),
        ),
        "simclr": c.SimCLR(projector=c.Projector(hidden=1024, norm_at="every")),
    }
    run = presets.default(methods[name], c.CIFAR10(scored_on="held-out"))
    return replace(
        run,
        method=methods[name],  # which has another decay there, where it is BYOL's own
        views=replace(c.VIEWS[views], size=run.data.size),
        optimizer=c.SGD(lr=lr, weight_decay=5e-4),
        schedule=c.Cosine(warmup_epochs=epochs / 20),
        epochs=epochs,
        batch_size=batch_size,
    )


def combinations(a: Tune, precision: c.Precision) -> list[c.Run]:
    """The runs of all values; a method without a moving average has one for all decays."""
    runs = {}
    for method, lr, decay, epochs, batch_size, views in itertools.product(
        a.method, a.lr, a.decay, a.epochs, a.batch_size, a.views
    ):
        run = recipe(method, lr=lr, decay=decay, epochs=epochs, batch_size=batch_size, views=views)
        run = replace(run, encoder=c.Encoder(name=a.encoder, stem=a.stem), precision=precision, subset=a.subset)
        runs[run.key] = run
    return list(runs.values())


def named(run: c.Run) -> str:
    """What of a run `tune` decides."""
    views = next((name for name, of in c.VIEWS.items() if replace(of, size=run.views.size) == run.views), "others")
    target = getattr(run.method, "target", None)
    parts = {
        "lr": f"{run.optimizer.lr:g}",
        "decay": f"{target.decay:g}" if isinstance(target, c.MovingAverage) else None,
        "epochs": run.epochs,
        "batch": run.batch_size,
        "views": views,
        "subset": run.subset,
    }
    said = " ".join(f"{name} {value}" for name, value in parts.items() if value is not None)
    return f"{run.method.kind} {run.encoder.name} {said} {run.precision}"


def tune(a: Tune) -> int:
    device = find_device(a.device)
    runs = combinations(a, a.precision or ("bfloat16" if device.type == "cuda" else "float32"))
    jobs = [Training(name=named(run), run=run, data_dir=a.data_dir, device=str(device)) for run in runs]
    view = open_grid_view(text.console(), "recipe, tuned on held-out pictures")
    failures = run_grid(jobs, a.folder, at_once=a.jobs, threads=a.threads, view=view)
    rows = sorted(map(row, tuned(a.folder)), key=lambda one: -one["linear"])
    record = {
        **head("recipe, tuning", device),
        "settings": {"at_once": a.jobs, "threads_each": a.threads},
        "rows": rows,
        "failures": {name: failure.message for name, failure in failures.items()},
    }
    durable.write_json(a.out or a.folder / "tuned.json", record)
    print_rows(rows)
    for name, failure in failures.items():
        print(f"failed: {name}: {failure.message}")
    return max((failure.exit_code for failure in failures.values()), default=0)


def tuned(folder: Path) -> list[Result]:
    """The finished runs of this and earlier calls."""
    results = [read_result(path.parent) for path in sorted(folder.glob(f"*/{SUMMARY}"))]
    return [result for result in results if is_tuning(result.run)]


def is_tuning(run: c.Run) -> bool:
    return isinstance(run.data, c.CIFAR10) and run.data.scored_on == "held-out"


def row(result: Result) -> dict[str, Any]:
    accuracies = {probe: result.accuracy(probe) for probe in ("linear", "knn")}
    return {
        "name": named(result.run),
        "folder": result.folder.name,
        **accuracies,
        "verdict": result.verdict,
        "training_s": result.summary["seconds"],
        "protocol": result.summary["linear"]["protocol"],
    }


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """The best first; the seconds of runs that shared the machine are what they were then."""
    width = max((len(one["name"]) for one in rows), default=0)
    print(f"{'':{width}} linear    kNN  seconds  verdict     folder")
    for one in rows:
        linear, knn = (f"{one[probe]:6.2f}" for probe in ("linear", "knn"))
        print(f"{one['name']:{width}} {linear} {knn} {one['training_s']:8.1f}  {one['verdict']:10}  {one['folder']}")
    for protocol in sorted({one["protocol"] for one in rows}):
        print(f"linear: {protocol}")


# --- the end ----------------------------------------------------------------------------------------------------------


class Clock(Reporter):
    """When training began and ended."""

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.done, self.began = done, time.perf_counter()

    def stop(self) -> None:
        self.ended = time.perf_counter()


def final(a: Final) -> int:
    device = find_device(a.device)
    if a.threads is not None:
        torch.set_num_threads(a.threads)
    rows = []
    for run in [run for path in a.run for run in lengths(chosen_run(path), a.epochs)]:
        seeds = []
        for seed in range(a.seeds):
            one = replace(run, seed=seed)
            seeds.append({"seed": seed, **timed(one, a.folder / one.name, a.data_dir, device)})
            print(f"{named(one)}, seed {seed}: {said_of(seeds[-1])}", flush=True)
        rows.append({"run": to_dict(run), "runs": seeds})
    reached = {str(goal): seconds_to(goal, rows) for goal in GOALS}
    record = {
        **head("recipe", device),
        "settings": {"chosen": [str(path.parent.name) for path in a.run], "seeds": a.seeds},
        "rows": rows,
        "seconds_to": reached,
    }
    durable.write_json(a.out, record)
    for goal, seconds in reached.items():
        print(f"{goal}%: " + ("not reached by every seed of any row" if seconds is None else f"{seconds:.1f} s"))
    return 0


def lengths(chosen: c.Run, epochs: Sequence[int] = ()) -> list[c.Run]:
    """The chosen run on all training pictures, for so many epochs each, its warm-up in proportion; none: its own."""
    data = c.CIFAR10(size=chosen.data.size)
    runs = []
    for count in epochs or [chosen.epochs]:
        warmup = chosen.schedule.warmup_epochs * count / chosen.epochs
        schedule = replace(chosen.schedule, warmup_epochs=warmup)
        runs.append(replace(chosen, data=data, subset=None, epochs=count, schedule_epochs=None, schedule=schedule))
    return runs


def chosen_run(path: Path) -> c.Run:
    """A run of `tune`.

    Raises:
        InputError: it is none: whoever chose it may have looked at test pictures.
    """
    run = read_run(path)
    if not is_tuning(run):
        raise InputError(f"{path}: was not scored on held-out pictures of cifar10; give the {RUN} of a run of `tune`")
    return run


def timed(run: c.Run, folder: Path, data_dir: Path | None, device: torch.device) -> dict[str, Any]:
    """Train and score the run, and write down how long it took; read that where it is done.

    Raises:
        InputError: it was begun before and has not come to its end, so that nobody knows how long it takes.
    """
    if not (folder / TIMING).exists():
        if (folder / RUN).exists():
            raise InputError(f"{folder}: begun before, and not timed to its end; remove it, or choose another --folder")
        clock, began = Clock(), time.perf_counter()
        run_training(run, folder, where=Where(data_dir=data_dir, device=device), reporter=clock)
        whole = time.perf_counter()
        seconds = {
            "loading_s": clock.began - began,
            "training_s": clock.ended - clock.began,
            "evaluation_s": whole - clock.ended,
            "whole_s": whole - began,
        }
        durable.write_json(folder / TIMING, {name: round(value, 2) for name, value in seconds.items()})
    summary = run_training(run, folder, where=Where(data_dir=data_dir, device=device))  # is there by now
    accuracies = {probe: summary[probe]["accuracy"] for probe in ("linear", "knn")}
    said = {"verdict": summary["verdict"]["state"], "protocol": summary["linear"]["protocol"]}
    return {**accuracies, **said, **read_json(folder / TIMING)}


def said_of(one: Mapping[str, Any]) -> str:
    seconds = ", ".join(f"{name} {one[f'{name}_s']:.1f} s" for name in ("loading", "training", "evaluation", "whole"))
    return f"linear {one['linear']:.2f}, kNN {one['knn']:.2f}; {seconds}"


def seconds_to(goal: float, rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Of the rows that reach an accuracy with every seed, the fastest one's slowest seed."""
    times = [max(r["whole_s"] for r in row["runs"]) for row in rows if min(r["linear"] for r in row["runs"]) >= goal]
    return min(times, default=None)


# --- the command ------------------------------------------------------------------------------------------------------


def read(arguments: Sequence[str] | None) -> Tune | Final:
    """What the words of a command line ask for."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for cls in (Tune, Final):
        command = commands.add_parser(cls.__name__.lower(), help=cls.__doc__)
        command.set_defaults(cls=cls)
        add_options(command, cls)
    known = top.parse_args(arguments)
    known.data_dir = known.data_dir or os.environ.get("VERGENCE_DATA_DIR")
    return read_options(known.cls, known)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        asked = read(arguments)
        return tune(asked) if isinstance(asked, Tune) else final(asked)
    except VergenceError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
