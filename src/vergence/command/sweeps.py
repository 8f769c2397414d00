"""From options with several values to the runs of a sweep: a row for every combination. Nothing here imports torch."""

import hashlib
import itertools
import typing
from collections.abc import Mapping, Sequence

from vergence import config, presets
from vergence.command import options
from vergence.command.arguments import option_names
from vergence.command.commands import Sweep
from vergence.command.options import Override, data_named
from vergence.config.schema import field_named, fields, members, plain, said
from vergence.errors import InputError


def rows_of(asked: Sweep, overrides: Sequence[Override]) -> dict[str, config.Run]:
    """Return the runs of a sweep by the name of their row, which says what differs: "target shared, optimizer.lr 0.03".

    Values are separated by commas; where a value has commas itself, as one of a list of numbers has, by semicolons.

    Raises:
        InputError: naming every option and value that cannot be, in whichever row; or rows that are one run.
    """
    data = data_named(asked.data or ("digits",), asked.data_dir)
    if any(name == "seed" for name, _ in overrides):
        raise InputError("--seed: a sweep counts seeds from 0 on; say how many: --seeds 3")
    axes = [
        [(name, value) for value in ([None] if text is None else values_of(name, text))] for name, text in overrides
    ]
    methods = values_of("method", asked.methods)
    rows: dict[str, config.Run] = {}
    problems: list[str] = []
    for method, chosen in itertools.product(methods, itertools.product(*axes)):
        varied = [method] if len(methods) > 1 else []
        varied += [f"{name} {value}" for (name, value), axis in zip(chosen, axes, strict=True) if len(axis) > 1]
        try:
            base = presets.preset(asked.preset, method, data)
            rows[", ".join(varied) or method] = options.apply(base, chosen, beside=option_names(Sweep))
        except InputError as error:
            problems += str(error).splitlines()
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    seen: dict[str, str] = {}
    for name, run in rows.items():
        if (other := seen.setdefault(run.key, name)) != name:
            raise InputError(f"{said(other)} and {said(name)} are one run; leave one of them out")
    return rows


def values_of(name: str, text: str) -> list[str]:
    """Return the values that an option is given: one or several.

    Raises:
        InputError: one is empty, or stands there twice.
    """
    separator = ";" if ";" in text or _is_list(name) else ","
    values = [value.strip() for value in text.removesuffix(";").split(separator)]
    for value in values:
        if not value:
            raise InputError(f"--{name}: {said(text)} has an empty value; values are separated by '{separator}'")
        if values.count(value) > 1:
            raise InputError(f"--{name}: {said(value)} stands there twice")
    return values


def _is_list(name: str) -> bool:
    """Return whether an option of a run takes several words or numbers itself, in any slot that has such an option."""
    held: list[typing.Any] = [config.Run]
    parts = [part.replace("-", "_") for part in name.split(".")]
    for depth, part in enumerate(parts):
        classes = [cls for annotation in held for cls in (members(annotation) or (annotation,))]
        if depth == 0:
            classes += members(config.Method)
        held = [fields(cls)[field] for cls in classes if (field := field_named(cls, part)) in _fields(cls)]
    return any(typing.get_origin(part) is tuple for annotation in held for part in _parts(annotation))


def _fields(cls: typing.Any) -> Mapping[str, typing.Any]:
    return fields(cls) if hasattr(cls, "__dataclass_fields__") else {}


def _parts(annotation: typing.Any) -> list[typing.Any]:
    """Return an annotation without its marks, and what it is a union of."""
    inner, _ = plain(annotation)
    return [inner, *(plain(part)[0] for part in typing.get_args(inner))]


def name_of(asked: Sweep, rows: Mapping[str, config.Run]) -> str:
    """Return the folder's name of a sweep: equal rows, equal name, whatever the number of seeds."""
    key = hashlib.sha256(" ".join(sorted(run.key for run in rows.values())).encode()).hexdigest()[:8]
    data = next(iter(rows.values())).data
    return f"sweep-{asked.methods.replace(',', '-').lower()}-{config.data_name(data)}-{key}"
