"""The files of a run's folder that can be read without torch."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from vergence.config import Run
from vergence.errors import InputError
from vergence.schema import from_dict

RUN = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SUMMARY = "summary.json"

MOST = 64 << 20
"""Bytes of a JSON file that is read; our largest have a few hundred thousand."""


def read_run(path: Path) -> Run:
    """The run of a `run.json`, or of a file that holds just its `run` part."""
    data = read_json(path, most=1 << 20)  # a run has 3,000 bytes
    return from_dict(Run, data.get("run", data), str(path))


def no_run(folder: Path) -> InputError:
    """The error of a folder that holds no run; it says where runs are, if there are any in it."""
    try:
        inside = sorted(entry.parent for entry in folder.glob(f"*/{RUN}"))
    except (OSError, ValueError):
        inside = []
    if inside:
        return InputError(f"{folder}: no run there (no {RUN}), but {len(inside)} in it, such as {inside[0]}")
    return InputError(f"{folder}: no run there (no {RUN}); give the folder that training named, or its --out")


def read_json(path: Path, most: int = MOST) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: of the file.
        most: bytes it may have.

    Raises:
        InputError: there is no such file, it is too large, or it holds something else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would be waited for
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError(f"{path}: is no plain file; give a file such as the {RUN} of a run")
            content = file.read(most + 1)
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


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' stands there twice")
    return dict(pairs)
