"""The files of a run's folder that can be read without torch."""

import json
from pathlib import Path
from typing import Any

from vergence.config import Run
from vergence.errors import InputError
from vergence.schema import from_dict

RUN = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SUMMARY = "summary.json"


def read_run(path: Path) -> Run:
    """The run of a `run.json`, or of a file that holds just its `run` part."""
    data = read_json(path)
    return from_dict(Run, data.get("run", data), str(path))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe never ends
            raise InputError(f"{path}: not a file")
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_doubles)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, not a {type(data).__name__}")
    return data


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' stands there twice")
    return dict(pairs)
