"""Everything that waits for a GPU, in the order of what matters, within some minutes.

    python benchmarks/on_gpu.py --minutes 12 --data-dir DIR [--out DIR] [--parts tests,bench]
    python benchmarks/on_gpu.py --dry-run [--out DIR]      # every part at its smallest size, on the CPU

The parts, each a command of its own (`--dry-run` prints them): the tests marked `gpu`; `vergence bench`, then our loop
and lightly's on the same pictures; the seven rows of the post's table at 96 px, on CIFAR-10; five rows of the RAFT
paper; the recipe for CIFAR-10, tuned on held-out pictures, then timed to 85% and 90%.

A part has a share of the minutes that are left; what an earlier one did not need is the later ones'. At its end it gets
SIGTERM, on which a run saves itself. OUT has a file for each part, PART.json, which is written before the first part
begins and again every few seconds: its state ("not reached", "running", "cut off", "failed" or "done"), the command,
the seconds, and what has been measured so far, run by run. Beside it lie PART.log, what the command said, and the
command's own files. Called again with the same OUT, parts that are done are not done again, and the others go on where
they were; so it may be killed at any time. It exits with 1 where a part failed, and with 2 where there is no GPU.

For a machine without a network, `small_cifar10.py` writes CIFAR-10 in so many MiB.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vergence import config as c
from vergence.bench.record import head
from vergence.errors import InputError, VergenceError
from vergence.files import durable
from vergence.files.results import Result
from vergence.files.run_folder import METRICS, RUN, read_json
from vergence.machine.device import device_of
from vergence.metrics.table import PROBES
from vergence.papers.blog import PUBLISHED
from vergence.study import Place, open_study

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
import recipe  # noqa: E402
from small_cifar10 import write_noise  # noqa: E402

OFTEN = 3.0
"""Seconds between two writings of a part's file."""

GRACE = 15.0
"""Seconds that a command has to save itself."""

CHOSEN = "RUN.JSON"
"""Stands in a command for the best run of the part that tunes."""

ON_GPU = {
    "tests": "tests",
    "bench": "--precision bfloat16",
    "beside": "--precision bfloat16 --batch 256 --steps 100 --warmup 20",
    "blog": "--scale short --jobs 3",
    "raft": "--scale short --jobs 3",
    "tuned": "--lr 0.12,0.24 --decay 0.99 --epochs 40 --jobs 2",
    "final": "--epochs 40,160",
}
DRY = {
    "tests": "tests/watching/test_watch.py",
    "bench": "--encoder test_resnet --size 32 --batch-size 8 --steps 1 --warmup 1 --rounds 1",
    "beside": "--encoder test_resnet --size 32 --batch 8 --steps 1 --warmup 1",
    "blog": "--scale smoke --data cifar10 --epochs 2 --subset 64 --jobs 1",
    "raft": "--scale smoke --data cifar10 --epochs 2 --subset 64 --jobs 1",
    "tuned": "--encoder test_resnet --stem imagenet --lr 0.1 --decay 0.99 --epochs 1 --batch-size 16 --subset 32",
    "final": "--epochs 1",
}
"""How much of each part is done: on a GPU, and in a dry run."""

ROWS = {"blog": tuple(PUBLISHED), "raft": ("BYOL-MLPP", "BYOL-NP", "RAFT-LP", "RAFT-NP", "Random")}
FEW_ROWS = {"blog": ("BYOL", "Random"), "raft": ("BYOL-NP", "Random")}

BEGIN = """
import ctypes, fcntl, os, signal, sys
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # where the script dies, the command saves itself and ends
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)  # waits for the command of an earlier call, which may be saving itself
os.set_inheritable(handle, True)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, eq=False)
class Part:
    """A command, its share of the time, and how to read what it has measured so far.

    Attributes:
        name: of its files.
        share: of the time, beside those of the others.
        words: the command.
        read: returns plain JSON values; called while the command runs, too.
    """

    name: str
    share: float
    words: Sequence[str]
    read: Callable[[], Any]


def parts(a: argparse.Namespace) -> list[Part]:
    """Return the parts, in their order."""
    out, sizes = a.out, DRY if a.dry_run else ON_GPU
    place = ["--device", "cpu" if a.dry_run else "cuda", *(["--data-dir", str(a.data_dir)] if a.data_dir else [])]
    record, peers = out / "bench-record.json", out / "peers.jsonl"

    def part(name: str, share: float, read: Callable[[], Any], *words: object, size: str = "") -> Part:
        return Part(name, share, [sys.executable, *map(str, words), *sizes[size or name].split()], read)

    def beside(peer: str) -> list[object]:
        threads = ("--threads", os.cpu_count() or 1)
        return [HERE / "contestant.py", "train", "--peer", peer, *place, *threads, "--out", peers]

    def study(name: str, share: float) -> Part:
        rows = (FEW_ROWS if a.dry_run else ROWS)[name]
        words = ("-m", "vergence", "reproduce", name, "--rows", ";".join(rows), *place, "--no-views", "--out")
        return part(name, share, lambda: of_study(a, name, rows), *words, out / name)

    bench = ("-m", "vergence", "bench", "--what", "step,train,views", *place, "--out", record)
    tune = (HERE / "recipe.py", "tune", *place, "--folder", out / "tune")
    final = (HERE / "recipe.py", "final", CHOSEN, *place, "--seeds", 1, "--folder", out / "scored")
    pytest = ("-m", "pytest", "-m", "gpu", "-vv", "-p", "no:cacheprovider", "-p", "no:randomly")
    return [
        part("tests", 12, lambda: passed(out / "tests.log"), *pytest),
        part("bench", 16, lambda: read_json(record) if record.exists() else None, *bench),
        part("ours", 4, lambda: lines(peers, "vergence"), *beside("vergence"), size="beside"),
        part("lightly", 4, lambda: lines(peers, "lightly"), *beside("lightly"), size="beside"),
        study("blog", 24),
        study("raft", 18),
        part("tuned", 10, lambda: tuned(out / "tune"), *tune),
        part("final", 12, lambda: finals(out / "scored"), *final, "--out", out / "final-record.json"),
    ]


# --- what has been measured -------------------------------------------------------------------------------------------


def passed(log: Path) -> dict[str, int]:
    """Return how many tests of the last call have passed, failed, and were skipped."""
    text = log.read_text(errors="replace").rpartition("test session starts")[2] if log.exists() else ""
    return Counter(word.lower() for word in re.findall(r"^tests/\S+ (PASSED|FAILED|SKIPPED|ERROR)", text, re.MULTILINE))


def lines(path: Path, peer: str) -> list[Any]:
    """Return the lines of a comparison that are of one contestant."""
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in found if line.get("peer") == peer]


def of_study(a: argparse.Namespace, name: str, rows: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each run of some rows what came out, or how far it is."""
    found = []
    with open_study(f"vergence.papers.{name}") as study:
        scale = study.scales["smoke" if a.dry_run else "short"]
        scale = scale.changed(data=c.CIFAR10(), epochs=2, subset=64) if a.dry_run else scale
        plan = study.plan(scale, Place())
    for row in rows:
        for job in plan[row]:
            path, one = a.out / name / "runs" / job.folder, {"row": row, "run": job.folder}
            if not job.finished(path):
                steps = durable.read_lines(path / METRICS)
                found.append(one | {"state": "not reached", "step": steps[-1]["step"] if steps else 0})
                continue
            result: Result = job.read(path)
            accuracies = {probe: result.accuracy(probe) for probe in PROBES}
            speed = {key: result.summary.get(key) for key in ("seconds", "images_per_second")}
            found.append(one | accuracies | {"verdict": result.verdict, **speed})
    return found


def tuned(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs of the recipe on held-out pictures, the best first."""
    return sorted(map(recipe.row, recipe.tuned(folder)), key=lambda one: -one["linear"])


def finals(folder: Path) -> dict[str, Any]:
    """Return accuracies and seconds of each run that was scored, and the seconds to each goal."""
    found = []
    for path in sorted(folder.glob(f"*/{recipe.TIMING}")):
        result = recipe.read_result(path.parent)
        accuracies = {probe: result.accuracy(probe) for probe in ("linear", "knn")}
        found.append({"epochs": result.run.epochs, **accuracies, **read_json(path)})
    goals = {str(goal): recipe.seconds_to(goal, [{"runs": [one]} for one in found]) for goal in recipe.GOALS}
    return {"runs": found, "seconds_to": {goal: "not reached" if s is None else s for goal, s in goals.items()}}


# --- one part ---------------------------------------------------------------------------------------------------------


def begin(part: Part, out: Path) -> subprocess.Popen[bytes]:
    """Start a part's command."""
    words = list(part.words)
    if CHOSEN in words:
        best = tuned(out / "tune")
        if not best:
            raise InputError("no run of the part `tuned` is finished, of which the best is timed")
        words[words.index(CHOSEN)] = str(out / "tune" / best[0]["folder"] / RUN)
        forget_untimed(out / "scored")
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    with (out / f"{part.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", BEGIN, str(out / f".{part.name}.lock"), *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


def forget_untimed(folder: Path) -> None:
    """Move away the runs that were cut off: how long they take, a second try cannot know."""
    for path in [one.parent for one in folder.glob(f"*/{RUN}") if not (one.parent / recipe.TIMING).exists()]:
        count = len([*folder.parent.glob(f"cut-off-*-{path.name}")])
        path.rename(folder.parent / f"cut-off-{count}-{path.name}")


def end(child: subprocess.Popen[bytes]) -> None:
    """Have a command save itself and end; kill it, with all that it started, if it does not."""
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def carry_out(part: Part, out: Path, limit: float, state: dict[str, Any]) -> None:
    """Do a part for so many seconds, and write its file as it goes."""
    path, began, before = out / f"{part.name}.json", time.monotonic(), state["seconds"]

    def write(name: str, **more: Any) -> None:
        state.update({"state": name, "seconds": round(before + time.monotonic() - began, 1), **more})
        with contextlib.suppress(VergenceError, OSError, ValueError, KeyError):  # a file may be half written
            state["result"] = part.read()
        durable.write_json(path, state)

    write("running", limit_s=round(limit, 1), calls=state["calls"] + 1)
    try:
        child = begin(part, out)
    except VergenceError as error:
        write("not reached", why=str(error))
        return
    try:
        while time.monotonic() - began < limit:
            try:
                child.wait(min(OFTEN, limit))
                break
            except subprocess.TimeoutExpired:
                write("running")
    finally:
        stopped = child.poll() is None
        if stopped:
            end(child)
        name = "cut off" if stopped else "failed" if child.returncode else "done"
        write(name, exit_code=child.returncode, says=last_lines(out / f"{part.name}.log"))


def last_lines(log: Path) -> list[str]:
    """Return the end of what a command said."""
    return log.read_text(errors="replace").splitlines()[-5:]


# --- all of them ------------------------------------------------------------------------------------------------------


def states(a: argparse.Namespace, todo: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Return each part's state, and write that of those that were never begun.

    Raises:
        InputError: OUT has results of other sizes.
    """
    paths = {part: a.out / f"{part.name}.json" for part in todo}
    before = {part: read_json(path) for part, path in paths.items() if path.exists()}
    for part, state in before.items():
        if state["dry_run"] != a.dry_run:
            how = "without" if a.dry_run else "with"
            raise InputError(f"{paths[part]}: of a call {how} --dry-run; choose another --out")
    fresh = {**head("on a GPU", device_of("cpu" if a.dry_run else "cuda")), "dry_run": a.dry_run}
    fresh |= {"state": "not reached", "calls": 0, "seconds": 0.0}
    found = {}
    for part, path in paths.items():
        found[part.name] = {**before.get(part, fresh), "part": part.name, "command": part.words}
        durable.write_json(path, found[part.name])
    return found


def run_all(a: argparse.Namespace, todo: Sequence[Part]) -> int:
    """Do what is not done; return 1 where a part failed."""
    ends, known = time.monotonic() + 60 * a.minutes, states(a, todo)
    left = [part for part in todo if known[part.name]["state"] != "done"]
    while left:
        part, share = left[0], left[0].share / sum(one.share for one in left)
        limit = (ends - time.monotonic()) * share - (GRACE if len(left) == 1 else 0)
        if limit > 0:
            print(f"{part.name}, at most {limit:.0f} s", flush=True)
            carry_out(part, a.out, limit, known[part.name])
            print(told(known[part.name]), flush=True)
        left = left[1:]
    print("\n".join(["", *map(told, known.values())]))
    return int(any(state["state"] == "failed" for state in known.values()))


def told(state: Mapping[str, Any]) -> str:
    """Return a part's state in one line."""
    said = state.get("why") or "; ".join(state.get("says", [])[-1:]) if state["state"] != "done" else ""
    return f"{state['part']:8} {state['state']:11} {state['seconds']:6.1f} s  {said}".rstrip()


# --- the command ------------------------------------------------------------------------------------------------------


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="for all parts together [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("runs/on-gpu"), help="of the results [%(default)s]")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("VERGENCE_DATA_DIR"), help="with CIFAR-10")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=[], help="some of them [all]")
    parser.add_argument("--dry-run", action="store_true", help="print each command; do it at its smallest, on the CPU")
    a = parser.parse_args(arguments)
    a.out, a.data_dir = a.out.resolve(), a.data_dir and Path(a.data_dir).resolve()
    if not a.minutes > 0:
        raise InputError(f"--minutes: must be above 0, not {a.minutes:g}")
    if not (a.dry_run or torch.cuda.is_available()):
        raise InputError("no CUDA device here; --dry-run does every part at its smallest size on the CPU")
    return a


def chosen(a: argparse.Namespace) -> list[Part]:
    """Return the parts that were asked for."""
    found = parts(a)
    if unknown := set(a.parts) - {part.name for part in found}:
        names = ", ".join(part.name for part in found)
        raise InputError(f"--parts: unknown {', '.join(sorted(unknown))}; known: {names}")
    return [part for part in found if not a.parts or part.name in a.parts]


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: what it measured is written."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        a = asked(arguments)
        if a.dry_run:
            for part in chosen(argparse.Namespace(**(vars(a) | {"dry_run": False}))):
                print(f"{part.name} ({part.share:g} of the time): {subprocess.list2cmdline(part.words)}\n")
            a.data_dir = a.out / "noise"
            os.environ["VERGENCE_CACHE"] = str(a.out / "cache")
        todo = chosen(a)
        with durable.locked(a.out), terminated_like_interrupted():
            if a.dry_run and not a.data_dir.exists():
                write_noise(a.data_dir)
            return run_all(a, todo)
    except KeyboardInterrupt:
        print("stopped: what is done stands; the same command goes on", file=sys.stderr)
        return 130
    except VergenceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
