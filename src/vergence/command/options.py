"""The command line's way into a configuration: `--optimizer lars --optimizer.lr 0.2 --projector.norm layer`.

A path of field names leads to a value or a slot; what belongs to the method is reached without `method.`. Text given to
a slot names one of its members, which then starts from its own defaults (naming the member that is there already
changes nothing).
"""

import argparse
import dataclasses
import re
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vergence import config
from vergence.config import suggest
from vergence.config.schema import Named, Text, fields, from_dict, members, plain, said, to_dict
from vergence.config.spelling import closest, nearest
from vergence.errors import InputError

T = TypeVar("T")

Override = tuple[str, str | None]
"""An option's name and its value; None where the value was forgotten."""


def split_arguments(words: list[str], command: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """A command's own words, and the options of a run with their values: argparse would take those for arguments."""
    own, options = [], []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, _ = word.partition("=")
        if name in command._option_string_actions or not word.startswith("--"):
            own.append(word)
            continue
        options.append(word)
        if not equals and remaining and not remaining[0].startswith("--"):
            options.append(remaining.pop(0))
    return own, options


def parse(words: Sequence[str]) -> list[Override]:
    """`--name value` and `--name=value` pairs, as (name, value)."""
    overrides: list[Override] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise InputError(f"unexpected argument '{word}'; options are written --name value")
        name, equals, value = word[2:].partition("=")
        given = equals or (remaining and not remaining[0].startswith("--"))
        overrides.append((name, value if equals else remaining.pop(0) if given else None))
    return overrides


def apply(
    run: config.Run,
    overrides: Sequence[Override],
    pictures: config.Data | None = None,
    beside: Sequence[str] = (),
) -> config.Run:
    """The run with the options applied, slots before what is inside them; on other pictures if there are any.

    What no option names stays as it is.

    Args:
        run: what the options change.
        overrides: of `parse`.
        pictures: instead of the run's.
        beside: what else may have been meant by an option that is unknown.

    Raises:
        InputError: naming every unknown option and unusable value.
    """
    data = to_dict(run) | ({} if pictures is None else {"data": to_dict(config.instead(pictures, run.data))})
    problems = []
    for name, value in sorted(overrides, key=lambda override: override[0].count(".")):
        try:
            _set(data, name, value, beside)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    try:
        return from_dict(config.Run, data, _OPTIONS)
    except InputError as error:
        raise InputError("\n".join(map(_as_typed, str(error).splitlines()))) from error


_OPTIONS = "options"


def add_fields(command: argparse.ArgumentParser, cls: type) -> None:
    """Add an option for each field of a settings class, with the help that its annotation holds."""
    for field in dataclasses.fields(cls):
        _, extras = plain(fields(cls)[field.name])
        text = next(extra for extra in extras if isinstance(extra, str))
        default = _shown(field.default)
        ending = f" [{default}]" if default not in ("none", "") and "none:" not in text else ""
        command.add_argument(f"--{field.name.replace('_', '-')}", metavar=_METAVAR.get(field.name), help=text + ending)


_METAVAR = {"log_every": "STEPS", "save_every": "STEPS", "online_every": "EPOCHS", "trace_every": "EPOCHS"}


def read_fields(cls: type[T], known: argparse.Namespace) -> T:
    """Return the settings that a command was given, each field from the option of its name.

    Raises:
        InputError: naming every option that cannot be so.
    """
    given = {name: getattr(known, name) for name in fields(cls)}
    values = {name: Text(value) for name, value in given.items() if value is not None}
    try:
        return from_dict(cls, values, _OPTIONS)
    except InputError as error:
        lines = [re.sub(r"^(--[a-z-]+)\[\d+\]", r"\1", _as_typed(line)) for line in str(error).splitlines()]
        raise InputError("\n".join(lines)) from error


def _as_typed(line: str) -> str:
    """Return an error line about a field, such as `options: optimizer.weight_decay: ...`, as one about its option."""
    problem = line.removeprefix(f"{_OPTIONS}: ")
    path, colon, rest = problem.partition(": ")
    if not re.fullmatch(r"[a-z_.]+(\[\d+\])?", path):  # fields that contradict each other, by their options already
        return problem
    return f"--{path.removeprefix('method.').replace('_', '-')}{colon}{rest}"


def _set(data: dict[str, Any], name: str, value: str | None, beside: Sequence[str]) -> None:
    path = [part.replace("-", "_") for part in name.split(".")]
    if path[0] not in data and path[0] in data["method"]:
        path.insert(0, "method")
    node: Any = data
    annotation: Any = config.Run
    holder: dict[str, Any] = {}
    for part in path:
        if not isinstance(node, dict) or part not in node or part == "kind":
            slot, within = (config.Method, data["method"]) if node is data else (annotation, node)
            having = [cls.kind for cls in members(slot) if part in fields(cls) and "kind" in within]
            if having:
                have = "has" if len(having) == 1 else "have"
                path_wanted = "; a folder is given by --data ./pictures" if having == ["folder"] else ""
                answer = f"{within['kind']} has no such option; {', '.join(having)} {have}{path_wanted}"
                raise InputError(f"--{name}: {answer}")
            raise InputError(f"--{name}: unknown option; {suggest.option(name, [*known(data), *beside])}")
        cls = next(cls for cls in members(annotation) if getattr(cls, "kind", None) == node.get("kind"))
        annotation, holder, node = fields(cls)[part], node, node[part]
    if value is None:
        raise InputError(f"--{name}: a value is missing, as in --{name} VALUE")
    named = next((extra for extra in plain(annotation)[1] if isinstance(extra, Named)), None)
    if named is not None:
        chosen = to_dict(named.values[_choice(name, value, named.values)])
        holder[path[-1]] = node | {part: chosen[part] for part in named.parts}
    elif not isinstance(node, dict):
        holder[path[-1]] = Text(value)
    elif "kind" in node:
        kinds = {cls.kind: cls for cls in members(annotation)}
        if node["kind"] != _choice(name, value, kinds):
            holder[path[-1]] = _defaults(kinds[value])
    elif "name" in node:
        node["name"] = Text(value)
    else:
        parts = ", ".join(f"--{name}.{part.replace('_', '-')}" for part in node)
        raise InputError(f"--{name}: set its parts: {parts}")


def _choice(name: str, value: str, choices: Iterable[str]) -> str:
    if value not in choices:
        raise InputError(f"--{name}: unknown choice {said(value)}; {nearest(value, choices)}")
    return value


def _defaults(cls: type) -> dict[str, Any]:
    """A member of a slot as its class has it, without the fields that have no default."""
    values = {f.name: to_dict(f.default) for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    return {"kind": getattr(cls, "kind", None)} | values


def known(data: dict[str, Any], prefix: str = "") -> list[str]:
    """Every option that a run with these slots has."""
    names: list[str] = []
    for name, value in data.items():
        if name == "kind":
            continue
        inner = isinstance(value, dict)
        if prefix == "" and name == "method":
            names += known(value)
            continue
        names.append(prefix + name.replace("_", "-"))
        if inner:
            names += known(value, f"{prefix}{name.replace('_', '-')}.")
    return names


def data_named(text: str, data_dir: Path | None = None) -> config.Data:
    """A data set by its name, or a folder of pictures by its path from the current folder, else from `data_dir`."""
    sets = suggest.sets()
    if text in sets:
        return from_dict(sets[text], {"kind": text}, f"--data {text}")
    if "://" in text:
        raise InputError(f"--data: {said(text)}: nothing is fetched from there; give a folder with the pictures in it")
    try:
        path = Path(text).expanduser()
        if text and path.is_file():
            advice = "give the folder of the pictures, unpacked if it is an archive"
            raise InputError(f"--data: {said(text)} is a file; {advice}")
        if data_dir is not None and text and not path.is_dir() and (data_dir / path).is_dir():
            path = data_dir / path
        if "/" in text or (text and path.is_dir()):
            return config.Folder(root=str(path.resolve()))
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links, a user who is not there
        raise InputError(f"--data: {said(text)}: {error}") from error
    if text == "folder":  # what help calls them
        raise InputError("--data: a folder of pictures is given by its path, such as --data ./pictures")
    close = closest(text, sets)
    meant = f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(sets))}, or a folder such as ./pictures"
    raise InputError(f"--data: {said(text)} is no data set and no folder; {meant}")


def describe() -> str:
    """The options of every slot with their meaning and default, for `vergence train --help`."""
    lines = ["options of a run (each also changes the run's name):"]
    for name, annotation in fields(config.Run).items():
        if name in ("method", "data"):
            continue
        default = next(f.default for f in dataclasses.fields(config.Run) if f.name == name)
        lines += _describe_field(name, annotation, default, "  ")
    lines.append("options of a method:")
    for cls in members(config.Method):
        lines.append(f"  {cls.kind}: {_first_line(cls)}")
        lines += [line for f in dataclasses.fields(cls) for line in _method_field(cls, f)]
    lines.append("what projector, predictor and target take:")
    for slot, annotation in (
        ("projector", config.Projector),
        ("predictor", config.Predictor),
        ("target", config.Target),
    ):
        lines += _describe_slot(slot, annotation, "  ")
    lines.append("data sets:")
    lines += _describe_slot("data", config.Data, "  ")
    return "\n".join(lines)


def _method_field(cls: type, field: dataclasses.Field[Any]) -> list[str]:
    annotation = fields(cls)[field.name]
    if members(annotation):
        return [f"    --{field.name} ({_kind(field.default)})"]
    return _describe_field(field.name, annotation, field.default, "    ")


def _describe_field(name: str, annotation: Any, default: Any, indent: str) -> list[str]:
    inner, extras = plain(annotation)
    option = f"{indent}--{name.replace('_', '-')}"
    if members(inner):
        named = next((e for e in extras if isinstance(e, Named)), None)
        if named is not None:
            return [f"{option} {' | '.join(named.values)}", *_describe_slot(name, inner, indent)]
        return _describe_slot(name, inner, indent, default)
    text = next((e for e in extras if isinstance(e, str)), "")
    choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
    said = " | ".join(choices) + ": " if choices else ""
    ending = "" if default is dataclasses.MISSING else f" [{_shown(default)}]"
    return [f"{option}  {said}{text}{ending}"]


def _shown(default: Any) -> str:
    """Return a field's default as an option would take it."""
    if isinstance(default, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in default) or "none"
    return str(getattr(default, "kind", "none" if default is None else default))


def _describe_slot(name: str, annotation: Any, indent: str, default: Any = None) -> list[str]:
    lines = []
    option = name.replace("_", "-")
    classes = members(annotation)
    if len(classes) > 1:
        ending = f" [{_kind(default)}]" if default is not None else ""
        lines.append(f"{indent}--{option} {' | '.join(c.kind for c in classes)}{ending}")
    for cls in classes:
        if len(classes) > 1:
            lines.append(f"{indent}  {cls.kind}: {_first_line(cls)}")
        for field in dataclasses.fields(cls):
            deeper = indent + ("    " if len(classes) > 1 else "  ")
            lines += _describe_field(f"{option}.{field.name}", fields(cls)[field.name], field.default, deeper)
    return lines


def _kind(value: Any) -> str:
    return str(getattr(value, "kind", type(value).__name__.lower()))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]
