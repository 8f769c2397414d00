"""The study that a user names: a module of this package, or a Python file of the user's own."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from vergence.config.schema import said
from vergence.config.spelling import nearest
from vergence.errors import InputError
from vergence.plugins import import_file
from vergence.study.study import Study


@contextmanager
def open_study(name: str) -> Iterator[Study]:
    """Give the study of a module, such as "vergence.papers.blog", or of a file, such as "mine.py" or "mine.py:second".

    While it is open the folder of the file is where Python looks for modules first, as for a script: so processes that
    do the study's jobs can import its code. Afterwards nothing is left of that.

    Raises:
        InputError: there is no such file, it cannot be imported, or it has no such study; in one line.
    """
    file, wanted = split_name(name)
    if file is None:
        yield importlib.import_module(name).study
        return
    if not file.is_file():
        raise InputError(
            f"{file}: no such file; give blog, raft, theorem, family, or a Python file that defines a study"
        )
    folder = str(file.resolve().parent)
    before = sys.modules.get(file.stem)
    sys.path.insert(0, folder)
    try:
        yield _study_in(_imported(file), file, wanted)
    finally:
        sys.path.remove(folder)
        if before is None:
            sys.modules.pop(file.stem, None)


def split_name(name: str) -> tuple[Path | None, str]:
    """Return the file and the variable that a name such as "mine.py:second" gives; None where it names no file."""
    path, colon, variable = name.partition(".py:")
    if colon:
        return Path(f"{path}.py"), variable
    return (Path(name), "") if name.endswith(".py") else (None, "")


def _imported(file: Path) -> ModuleType:
    name = file.stem
    there = sys.modules.get(name)
    if there is not None and Path(getattr(there, "__file__", None) or "").resolve() == file.resolve():
        return there
    if there is not None or name in sys.stdlib_module_names:
        raise InputError(f"{file}: Python has another module called {name}; rename the file")
    return import_file(file.resolve(), name)


def _study_in(module: ModuleType, file: Path, wanted: str) -> Study:
    studies = {name: value for name, value in vars(module).items() if isinstance(value, Study)}
    if not studies:
        raise InputError(f"{file}: defines no study; as in: study = vergence.study.Study(title=..., ...)")
    if wanted and wanted not in studies:
        raise InputError(f"{file}: no study {said(wanted)}; {nearest(wanted, studies)}")
    if not wanted and len(studies) > 1 and "study" not in studies:
        raise InputError(f"{file}: defines several studies, {', '.join(studies)}; as in: {file}:{next(iter(studies))}")
    return studies[wanted or ("study" if "study" in studies else next(iter(studies)))]
