"""The files of a run's folder that can be read without torch."""

import errno
import json
import math
import os
import stat
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vergence import plugins
from vergence.config import Data, Folder, Run, Watched
from vergence.config.schema import from_dict
from vergence.errors import InputError
from vergence.files.names import shown
from vergence.metrics.table import TIMING
from vergence.metrics.verdict import PROJECTIONS

RUN = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SUMMARY = "summary.json"
DIVERGED = "diverged.json"
PICTURES = "pictures.json"
TRACKED = "tracked.json"
EVALUATION, EVALUATION_RANDOM = "evaluation.json", "evaluation-random.json"
EVALUATION_ON = "evaluation*-on-*.json"
"""The names of scores on other pictures than the run's."""
FILES = (RUN, METRICS, SUMMARY, DIVERGED, PICTURES, TRACKED, EVALUATION, EVALUATION_RANDOM, EVALUATION_ON)
"""All files of a run beside its checkpoints; the last is a pattern."""

MOST = 64 << 20
"""Bytes of a JSON file that is read; our largest have a few hundred thousand."""


def read_run(path: Path) -> Run:
    """Return the run of a `run.json`, or of a file that holds just its `run` part.

    Raises:
        InputError: it is no run, or a loop that was only watched.
    """
    run = read_run_or_watched(path)
    if isinstance(run, Watched):
        raise InputError(f"{path}: of a loop that was watched: it has a log and a page, but no weights or pictures")
    return run


def read_run_or_watched(path: Path) -> Run | Watched:
    """Return what a `run.json` is of: a run, or a loop that was watched."""
    data = read_json(path, most=1 << 20)  # a run has 3,000 bytes
    plugins.require(data.get("plugins"), str(path))
    run = data.get("run", data)
    watched = isinstance(run, dict) and run.get("kind") == Watched.kind
    return from_dict(Watched if watched else Run, run, str(path))


def run_in(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        InputError: there is none; the line says where runs are.
    """
    return read_run(_run_file(folder))


def run_or_watched_in(folder: Path) -> Run | Watched:
    """Return what a folder's log is of; raises as `run_in` does."""
    return read_run_or_watched(_run_file(folder))


def _run_file(folder: Path) -> Path:
    if not os.path.exists(folder / RUN):  # unlike Path.exists, False for a name that is too long
        raise no_run(folder)
    return folder / RUN


def is_of_run(name: str) -> bool:
    """Return whether a file of a run is called so."""
    return any(fnmatch(name, pattern) for pattern in FILES)


def own_key(folder: Path, run: Run) -> str:
    """Return the key under which `run` stands in the files of its folder: its own, or the former one they began with.

    Until the place of a folder of pictures was left out of the key, it had a part in it: the place that `run.json` has.
    """
    if not isinstance(run.data, Folder) or not os.path.exists(folder / RUN):
        return run.key
    key, there = read_json(folder / RUN).get("key"), read_run(folder / RUN)
    return there.former_key if there.key == run.key and there.former_key == key else run.key


def read_listing(folder: Path) -> tuple[dict[str, str], str] | None:
    """Return the hash of each picture of a run by its path, and what decoded them; None where none is kept.

    Raises:
        InputError: the file is not as a run writes it.
    """
    path = folder / PICTURES
    if not os.path.exists(path):
        return None
    data = read_json(path)
    names, hashes, decoder = _texts(data.get("names")), _texts(data.get("hashes")), data.get("decoder")
    if names is None or hashes is None or len(names) != len(hashes) or not isinstance(decoder, str):
        raise InputError(f"{path}: not as a run writes it; remove it to go on without it")
    return dict(zip(names, hashes, strict=True)), decoder


def _texts(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(part, str) for part in value) else None


SAMPLED = 16
"""Pictures of a run that are looked for where it may have moved to."""


def found_again(data: Data, folder: Path, data_dir: Path | None) -> Data:
    """Return the pictures of the run in `folder` with their place corrected where they are not in it any more.

    Looked at are, in this order, the folder of the same name in `data_dir`, `data_dir` itself, and the folders in it.
    The one with the most of some pictures of the run is taken, the first of several; where the run's folder does not
    list its pictures, the first with the same name. Of several places, each is looked for by its name in `data_dir`.
    Whether they are the same is for their digest to say.
    """
    if not isinstance(data, Folder) or data_dir is None or all(map(os.path.exists, places_of(data, data_dir))):
        return data
    if data.more:
        root, *more = (_by_name(place, data_dir) for place in places_of(data, data_dir))
        return replace(data, root=root, more=tuple(more))
    if os.path.isfile(file := data_dir / Path(data.root).name):
        return replace(data, root=str(file.resolve()))
    try:
        inside = sorted(entry for entry in data_dir.iterdir() if os.path.isdir(entry))
    except (OSError, ValueError):
        return data
    wanted = Path(data.root).name
    candidates = [*(entry for entry in inside if entry.name == wanted), data_dir.resolve(), *inside]
    listing = read_listing(folder)
    names = [] if listing is None else sorted(listing[0])
    sample = names[:: max(1, len(names) // SAMPLED)]
    here = {path: sum(os.path.exists(path / name) for name in sample) for path in candidates}
    best = max(candidates, key=lambda path: (here[path], path.name == wanted))
    return replace(data, root=str(best.resolve())) if here[best] or (best.name == wanted and not sample) else data


def _by_name(place: Path, data_dir: Path) -> str:
    """Return a place, or what has its name in `data_dir` where it is not there any more."""
    other = data_dir / place.name
    return str((other if os.path.exists(other) and not os.path.exists(place) else place).resolve())


def places_of(config: Folder, data_dir: Path | None) -> list[Path]:
    """Return where the pictures of a folder, and of the places beside it, lie.

    Relative paths start from `data_dir`, or from the current folder.

    Raises:
        InputError: one is empty, or of a user who is not there.
    """
    if not all(config.places):  # would be the current folder, and whatever lies in it
        raise InputError("data.root is empty: name the folder of pictures")
    try:
        return [(data_dir or Path()) / Path(place).expanduser() for place in config.places]
    except RuntimeError as error:
        raise InputError(f"data.root: {shown(config.root)}: {error}") from error


def check_output_outside_data(data: Data | None, path: Path, data_dir: Path | None) -> None:
    """Refuse to write among the pictures of a folder: for the next command they would be other pictures.

    Raises:
        InputError: `path` is a folder of theirs, or lies in one.
    """
    for place in places_of(data, data_dir) if isinstance(data, Folder) else ():
        if path.resolve().is_relative_to(root := place.resolve()):
            raise InputError(f"{shown(path)}: lies among the pictures, in {shown(root)}; choose an --out elsewhere")


def no_run(folder: Path) -> InputError:
    """Return the error of a folder that holds no run; it says where runs are, if there are any in it."""
    if folder.is_file():
        return InputError(f"{folder}: no run there, but a file; give the folder of the run, such as {folder.parent}")
    try:
        inside = sorted(entry.parent for entry in folder.glob(f"*/{RUN}"))
    except (OSError, ValueError):
        inside = []
    if inside:
        return InputError(f"{folder}: no run there (no {RUN}), but {len(inside)} in it, such as {inside[0]}")
    return InputError(f"{folder}: no run there (no {RUN}); give the folder that training named, or its --out")


def read_json(path: Path, most: int = MOST) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: of the file.
        most: bytes it may have.

    Raises:
        InputError: there is no such file, it is too large, or it holds something else.
    """
    try:
        content = _plain_file(path, most + 1)
        if len(content) > most:
            raise InputError(f"{path}: has more than {most:,} bytes; give a file such as the {RUN} of a run")
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_no_doubles)
    except OSError as error:
        advice = f"; give a file such as the {RUN} of a run" if isinstance(error, IsADirectoryError) else ""
        raise InputError(f"{path}: cannot be read: {error.strerror}{advice}") from error
    except (ValueError, RecursionError) as error:
        yaml = "; YAML is not read" if path.suffix in (".yaml", ".yml") else ""
        raise InputError(f"{path}: not JSON: {error}{yaml}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, not a {type(data).__name__}")
    return data


def _plain_file(path: Path, most: int = -1) -> bytes:
    """Return a plain file's first bytes, or all. A pipe that nobody writes to would be waited for, so it is refused."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(mode := os.fstat(handle).st_mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise InputError(f"{path}: is no plain file; give a file such as the {RUN} of a run")
    with open(handle, "rb") as file:
        return file.read(most)


NUMBERS = ("step", "epoch", *PROJECTIONS, *TIMING)
"""What every line of a log has, finite; so is `loss`, which a watched loop may keep to itself."""


def read_log(path: Path, done: int | None = None) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`, those up to step `done` where it is given.

    A torn or unusable end is left out, as a kill or a power cut leaves it: what was flushed lies before it.

    Raises:
        InputError: a line is damaged and good ones follow, so that the log would have a gap.
    """
    lines: list[dict[str, Any]] = []
    damaged: int | None = None
    for number, text in enumerate(_plain_file(path).split(b"\n") if path.exists() else [], 1):
        line = _log_line(text)
        if line is None:
            damaged = damaged or number
        elif done is None or line["step"] <= done:
            if damaged:
                raise InputError(f"{path}: line {damaged} is damaged; delete it to go on without it")
            lines.append(line)
    return lines


def _log_line(text: bytes) -> dict[str, Any] | None:
    """Return a line that has all it must have; None for any other."""
    try:
        line = json.loads(text, parse_constant=lambda _: None)  # NaN is nothing that we write
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return None
    needed = (*NUMBERS, "loss") if "loss" in line else NUMBERS
    whole = all(type(line.get(name)) in (int, float) and abs(line[name]) < math.inf for name in needed)
    return line if whole else None


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' stands there twice")
    return dict(pairs)
