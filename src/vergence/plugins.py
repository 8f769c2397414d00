"""Users' files and installed packages that add to the library: how they are loaded, and how a run names them.

A run's `run.json` has the name and the hash of each file that a part of it came from, and never what to import: only
the person who runs a command says which file is loaded.
"""

import functools
import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vergence import register
from vergence.errors import InputError, VergenceError
from vergence.files.names import shown
from vergence.metrics import table

if TYPE_CHECKING:
    from vergence.config import Run

VARIABLE = "VERGENCE_PLUGINS"
"""The variable of the environment with the files that a process loads, as a path is written: a grid sets it."""

GROUP = "vergence.plugins"
"""The group of entry points under which an installed package names a module to be imported."""

_PREFIX = "vergence_plugin_"
_files: list[Path] = []
_NEEDED = ("method ", "backbone ", "data set ", "transform ")
"""What a run cannot do without."""


def load(path: Path) -> None:
    """Run a user's file, which registers what it adds; a file that is loaded already is left.

    Raises:
        InputError: there is no such file, another of its name is loaded, or it raises an error.
    """
    path = Path(os.path.abspath(path))
    if not path.is_file():
        raise InputError(f"--plugin: there is no file {path}; give a Python file")
    name = _PREFIX + re.sub(r"\W", "_", path.stem)
    if (known := sys.modules.get(name)) is not None:
        if known.__file__ == str(path):
            return
        raise InputError(f"--plugin: {path}: a file of this name is loaded already, {known.__file__}; rename one")
    try:
        import_file(path, name)
    except InputError as error:
        raise InputError(f"--plugin: {error}") from error
    _files.append(path)


def import_file(path: Path, name: str) -> ModuleType:
    """Import a user's file as the module `name` and return it.

    Raises:
        InputError: it is no Python file, or raises an error; names the line.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file; its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}, line {line}" if line else str(path)
        raise InputError(f"{where}: {said_by(error)}") from error
    return module


def blamed(error: BaseException) -> str | None:
    """Return the line of a user's file that an error came through last; None where it came through none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) in _files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def said_by(error: BaseException) -> str:
    """Return an error's first line, after its type unless it is one of ours."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, VergenceError) else f"{type(error).__name__}: {first}"


def load_named() -> None:
    """Load the files that the environment names, and the installed packages that are plugins.

    Raises:
        InputError: one of them raises an error.
    """
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        load(Path(path))
    _load_installed()


@functools.cache
def _load_installed() -> None:
    from importlib.metadata import entry_points  # a fifth of the time that a wrong word takes

    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            where = f"the installed plugin {entry.name} ({entry.value})"
            raise InputError(f"{where} cannot be loaded: {said_by(error)}; mend or uninstall it") from error


def environment() -> dict[str, str]:
    """Return the variable by which another process loads the files that this one has loaded; empty without any."""
    return {VARIABLE: os.pathsep.join(map(str, _files))} if _files else {}


def of_run(run: "Run") -> list[dict[str, Any]]:
    """Return the name and hash of each file from outside the library that a run's parts came from, and which they are.

    Metrics are among them, which every run of this process measures; a run can be read without them.

    A part that was defined where there is no file, such as in a notebook, has no hash.
    """
    wanted = {f"method {run.method.kind}", f"backbone {run.encoder.name}", f"data set {run.data.kind}"}
    wanted |= {f"transform {name}" for name in run.views.transforms}
    wanted |= {f"metric {metric.name}" for metric in table.own()}
    found: dict[str, dict[str, Any]] = {}
    for what, part in register.parts().items():
        if what in wanted and part.__module__.split(".")[0] != "vergence":
            name, digest = source_of(part)
            found.setdefault(name, {"name": name, "sha256": digest, "parts": []})["parts"].append(what)
    return list(found.values())


def source_of(part: Any) -> tuple[str, str | None]:
    """Return the name of the plugin that a part came from, and its file's hash; None where there is no file."""
    module = part.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not os.path.isfile(file):
        return module.removeprefix("__").removesuffix("__"), None
    name = Path(file).stem if module.startswith(_PREFIX) or module == "__main__" else module
    return name, hashlib.sha256(Path(file).read_bytes()).hexdigest()


def require(needed: Any, source: str) -> None:
    """See that every part that a run took from a plugin is here.

    Args:
        needed: the list that `of_run` wrote into the run's file; anything else is taken for none.
        source: the file, for the error.

    Raises:
        InputError: a part is not registered; names the plugin that has it.
    """
    here = register.parts()
    for plugin in needed if isinstance(needed, list) else ():
        names = plugin.get("parts") if isinstance(plugin, dict) else None
        for what in names if isinstance(names, list) else ():
            if isinstance(what, str) and what.startswith(_NEEDED) and what not in here:
                name = shown(str(plugin.get("name")))[:80]
                raise InputError(
                    f"{source}: its {shown(what)[:80]} came with the plugin {name}, which is not loaded: "
                    f"vergence --plugin FILE.py ..., with the file that defines it"
                )


def changed(before: Any, now: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of the plugins of which a run began with another file than the one that is loaded."""
    then = {p.get("name"): p.get("sha256") for p in before if isinstance(p, dict)} if isinstance(before, list) else {}
    return [plugin["name"] for plugin in now if then.get(plugin["name"], plugin["sha256"]) != plugin["sha256"]]
