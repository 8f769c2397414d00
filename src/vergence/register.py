"""What can be added to the library from outside it: one decorator for each kind of part, and what has been added.

The library's own methods and data sets are added in the same way. A user's file is loaded by `vergence --plugin FILE`,
a package's module by its entry point in the group `vergence.plugins`; `examples/plugin.py` is such a file. Nothing here
imports torch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vergence import config
from vergence.metrics import table

F = TypeVar("F", bound=Callable[..., Any])

METHODS: dict[type[config.Method], Callable[..., Any]] = {}
"""The networks and objective of a method, by the class of its settings."""

BACKBONES: dict[str, Callable[[int], Any]] = {}
"""What builds a backbone that is not timm's, by its name, from the side of the views in pixels."""

LOADERS: dict[type[config.Data], Callable[..., Any]] = {}
"""What reads a data set, by the class of its settings."""

TRANSFORMS: dict[str, Callable[..., Any]] = {}
"""What changes an 8-bit crop, by the name that a view's `transform` gives it."""

TRACKERS: dict[str, Callable[..., Any]] = {}
"""What is told how a run goes, besides the terminal, by the name that `--track` gives it."""


def method(settings: type[config.Method]) -> Callable[[F], F]:
    """Add a method: decorate its class, a `methods.Method`, with the class of its settings.

    Training, help, verdict, evaluation, resume, report and studies then know it by the settings' `kind`.

    Raises:
        TypeError: the settings are not derived from `config.Method`, or a field has no default.
    """
    _require_settings(settings, config.Method, needs_defaults=True)
    return lambda cls: _added(METHODS, settings, cls)


def backbone(name: str) -> Callable[[F], F]:
    """Add a backbone: decorate a function, or a module's class, that is called with the side of the views in pixels.

    The module maps normalized pictures `[b 3 side side]` to representations `[b dim]`; `--encoder NAME` chooses it.
    """
    return lambda build: _added(BACKBONES, _named(name), build)


def data(settings: type[config.Data]) -> Callable[[F], F]:
    """Add a data set: decorate the function that reads one split of it with the class of its settings.

    The function is called as `data.load` is, `load(settings, split, data_dir=..., cache_dir=...)`; it returns `Images`.

    Raises:
        TypeError: the settings are not derived from `config.Data`.
    """
    _require_settings(settings, config.Data, needs_defaults=False)
    return lambda load: _added(LOADERS, settings, load)


def metric(name: str, **about: Any) -> Callable[[F], F]:
    """Add a metric: decorate the function that computes it; `about` are the other fields of `metrics.table.Metric`.

    It is measured at each log line, and shown wherever the library's own are.

    Raises:
        InputError: the name is taken, or what is said of the metric does not hold together.
    """

    def add(compute: F) -> F:
        table.register(table.Metric(name, compute=compute, **about))
        return compute

    return add


def transform(name: str) -> Callable[[F], F]:
    """Add a transform of crops: decorate a function that is called with one, `[3 s s]` in uint8, and gives another.

    `--views.first.transform NAME` chooses it. What it draws from torch without naming a generator, as torchvision's
    transforms do, is a function of the run's seed, the step, the picture and the view.

    Raises:
        TypeError: it is no function.
    """

    def add(function: F) -> F:
        if not hasattr(function, "__qualname__"):  # it has no file: the hash would be that of its class
            raise TypeError(f"{name}: a {type(function).__name__} is no function; call it in one")
        return _added(TRANSFORMS, _named(name), function)

    return add


def tracker(name: str) -> Callable[[F], F]:
    """Add a tracker: decorate a function, or a class, that is called with a run and its folder and gives a `Reporter`.

    `--track NAME` chooses it: in a process of its own, which loads plugins too, it is told what the terminal is told.
    """
    return lambda build: _added(TRACKERS, _named(name), build)


def _added(where: dict[Any, Any], key: Any, part: F) -> F:
    other = where.get(key)
    if other is not None and _identity(other) != _identity(part):
        raise TypeError(f"{key if isinstance(key, str) else key.__name__}: registered already, by {other.__module__}")
    where[key] = part
    return part


def _identity(part: Any) -> tuple[str, str]:
    """Return where a part was defined: a cell of a notebook that is run again defines the same one anew."""
    return part.__module__, part.__qualname__


def _named(name: str) -> str:
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise TypeError(f"{name!r}: a name has letters, digits, - and _ only")
    return name


def _require_settings(settings: type, base: type, *, needs_defaults: bool) -> None:
    if not (isinstance(settings, type) and issubclass(settings, base) and dataclasses.is_dataclass(settings)):
        raise TypeError(f"{settings!r}: is no class with @configuration that derives from config.{base.__name__}")
    missing = [f.name for f in dataclasses.fields(settings) if f.default is dataclasses.MISSING]
    if needs_defaults and missing:
        raise TypeError(f"{settings.__name__}: {', '.join(missing)} needs a default, as every setting of a method does")


def parts() -> Mapping[str, Any]:
    """Return everything that has been added, by what it is, such as "method byol"."""
    return {
        **{f"method {settings.kind}": part for settings, part in METHODS.items()},
        **{f"backbone {name}": part for name, part in BACKBONES.items()},
        **{f"data set {settings.kind}": part for settings, part in LOADERS.items()},
        **{f"transform {name}": part for name, part in TRANSFORMS.items()},
        **{f"metric {row.name}": row.compute for row in table.own()},
        **{f"tracker {name}": part for name, part in TRACKERS.items()},
    }
