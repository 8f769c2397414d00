"""The results of a study in one file: everything its page is made of, without weights and without pictures."""

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vergence.config import Data
from vergence.config.schema import from_dict, said, to_dict
from vergence.config.spelling import nearest
from vergence.data.extract import Limits, extract
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.names import shown
from vergence.files.run_folder import METRICS, RUN, SUMMARY, read_json
from vergence.grid.status import Failure
from vergence.study.scale import Changes, Scale
from vergence.study.study import Plan, Readable, Study
from vergence.study.work import RESULT

FORMAT = 1
KEPT = "runs.tar.gz"
_INDEX = "study.json"
_FILES = (RUN, METRICS, SUMMARY, RESULT)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a file of results tells besides the results.

    Attributes:
        study: the name by which the study is found again.
        command: what made the page.
        scale: at which it was done.
        failures: of the jobs that failed or cannot be read, by name.
    """

    study: str
    command: str
    scale: Scale
    failures: Mapping[str, Failure]


def keep(plan: Plan, root: Path, out: Path, told: Told) -> None:
    """Write what the finished jobs of a plan left behind, their logs and summaries, as one file.

    Equal folders give equal bytes.

    Args:
        plan: the jobs, by row.
        root: has their folders.
        out: the file, a tar.gz.
        told: what else the page says.
    """

    def there(job: Readable) -> bool:
        return job.name not in told.failures and job.finished(root / job.folder)

    rows = {row: [job.folder if there(job) else None for job in jobs] for row, jobs in plan.items()}
    index = {
        "format": FORMAT,
        "study": told.study,
        "command": told.command,
        "scale": {
            "name": told.scale.name,
            "data": told.scale.asked and to_dict(told.scale.asked),
            "changes": to_dict(told.scale.changes),
        },
        "rows": rows,
        "failures": {name: failure.message for name, failure in told.failures.items()},
    }
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, _INDEX, json.dumps(index, indent=1).encode())
        for folder in dict.fromkeys(folder for folders in rows.values() for folder in folders if folder):
            for name in _FILES:
                if (path := root / folder / name).exists():
                    _add(tar, f"{folder}/{name}", path.read_bytes())
    durable.write_file(out, stream.getvalue())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@contextmanager
def kept(file: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Unpack what `keep` wrote, for as long as the context lasts: its index, and the folder with those of the jobs.

    Raises:
        InputError: the file is no such archive, or is damaged.
    """
    if not file.is_file():
        raise InputError(f"--from {shown(file)}: no such file; it is {KEPT} in the folder of a study")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "runs"
        extract(file, root, wanted={_INDEX, *_FILES}, limits=Limits(members=100_000))
        if not (root / _INDEX).exists():
            raise InputError(f"{shown(file)}: holds no study; {KEPT} in the folder of a study does")
        yield _checked(read_json(root / _INDEX), file), root


def _checked(index: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the index, if it is as `keep` writes it; a folder it names lies beside it and nowhere else."""
    scale, rows, failures = index.get("scale"), index.get("rows"), index.get("failures")
    whole = (
        index.get("format") == FORMAT
        and isinstance(index.get("study"), str)
        and isinstance(index.get("command"), str)
        and isinstance(scale, dict)
        and isinstance(scale.get("name"), str)
        and isinstance(rows, dict)
        and all(isinstance(folders, list) and all(map(_is_folder, folders)) for folders in rows.values())
        and isinstance(failures, dict)
        and all(isinstance(message, str) for message in failures.values())
    )
    if not whole:
        raise InputError(f"{shown(file)}: its {_INDEX} is not as this version writes it; make it again")
    return index


def _is_folder(name: object) -> bool:
    return name is None or (isinstance(name, str) and PurePosixPath(name).name == name != "..")


def scale_of(study: Study, index: Mapping[str, Any]) -> Scale:
    """Return the scale at which kept results were made.

    Raises:
        InputError: the study has none of that name, or no scale can be changed so.
    """
    name, data, changes = (index["scale"].get(part) for part in ("name", "data", "changes"))
    if name not in study.scales:
        raise InputError(f"the results are of the scale {said(name)}; {nearest(name, study.scales)}")
    return study.scales[name].changed(
        data=None if data is None else from_dict(Data, data, f"{_INDEX}: scale.data"),
        **vars(from_dict(Changes, changes, f"{_INDEX}: scale.changes")),
    )
