"""The command line's way into a configuration: `--optimizer lars --optimizer.lr 0.2 --projector.norm layer`.

A path of field names leads to a value or a slot; what belongs to the method is reached without `method.`. Text given to
a slot names one of its members, which then starts from its own defaults (naming the member that is there already
changes nothing).
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vergence import config
from vergence.config import suggest
from vergence.config.marks import Named
from vergence.config.schema import Text, field_named, fields, from_dict, members, plain, said, to_dict
from vergence.config.spelling import closest, nearest
from vergence.errors import InputError

T = TypeVar("T")

Override = tuple[str, str | None]
"""An option's name and its value; None where the value was forgotten."""

SEVERAL = {"size": ("data.size", "views.size")}
"""Options that stand for several."""


def parse(words: Sequence[str], own: Collection[str] = ()) -> tuple[list[Override], list[str]]:
    """Return the options of a run among a command's words, with their values, and the other words.

    Args:
        words: the command line.
        own: names of the command's own options, whose values argparse tells from arguments.
    """
    overrides: list[Override] = []
    others: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.partition("=")
        if name[2:] in own or not word.startswith("--"):
            others.append(word)
        elif word == "--":
            raise InputError("unexpected argument '--'; options are written --name value")
        elif equals or (remaining and not remaining[0].startswith("--")):
            overrides.append((name[2:], value if equals else remaining.pop(0)))
        else:
            overrides.append((name[2:], None))
    return overrides, others


def only_of_pictures(overrides: Sequence[Override], such: str, beside: Collection[str] = ()) -> None:
    """Raise `InputError` where an option does not say how pictures are read; its line names options `such` as do."""
    for name, _ in overrides:
        if name not in beside and not name.startswith("data."):
            raise InputError(f"--{name}: unknown option; it is none of how pictures are read: {such}")


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
    data = to_dict(run, stored=False)
    if pictures is not None:
        data["data"] = to_dict(config.instead(pictures, run.data), stored=False)
    problems = []
    overrides = [(part, value) for name, value in overrides for part in SEVERAL.get(name, (name,))]
    for name, value in sorted(overrides, key=lambda override: override[0].count(".")):
        try:
            _set(data, name, value, beside)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return from_typed(config.Run, data, lambda path: path.removeprefix("method."))


def from_typed(cls: type[T], data: dict[str, Any], name: Callable[[str], str]) -> T:
    """Return the configuration of values that were typed (`schema.Text`).

    Args:
        cls: the configuration's class.
        data: its fields, as `from_dict` takes them.
        name: gives the name of the option for the path of a field, such as `method.target.decay`.

    Raises:
        InputError: naming every option that cannot be so.
    """
    source = "options"

    def as_typed(line: str) -> str:
        problem = line.removeprefix(f"{source}: ")
        path, colon, rest = problem.partition(": ")
        if not re.fullmatch(r"[a-z_.]+(\[\d+\])?", path):  # fields that contradict each other name their options
            return problem
        return f"{option_of(name(path))}{colon}{rest}"

    try:
        return from_dict(cls, data, source)
    except InputError as error:
        raise InputError("\n".join(dict.fromkeys(map(as_typed, str(error).splitlines())))) from error


def option_of(name: str) -> str:
    """Return the option for a field, such as `--weight-decay`."""
    return f"--{name.replace('_', '-')}"


def _set(data: dict[str, Any], name: str, value: str | None, beside: Sequence[str]) -> None:
    path = [part.replace("-", "_") for part in name.split(".")]
    if field_named(config.Run, path[0]) not in data and path[0] in data["method"]:
        path.insert(0, "method")
    node: Any = data
    annotation: Any = config.Run
    holder: dict[str, Any] = {}
    field = ""
    for part in path:
        kind = node.get("kind") if isinstance(node, dict) else None
        cls = next((cls for cls in members(annotation) if getattr(cls, "kind", None) == kind), None)
        field = field_named(cls, part) if cls else part
        if cls is None or field not in node or field == "kind":
            slot, within = (config.Method, data["method"]) if node is data else (annotation, node)
            having = [cls.kind for cls in members(slot) if field_named(cls, part) in fields(cls) and "kind" in within]
            if having:
                have = "has" if len(having) == 1 else "have"
                path_wanted = "; a folder is given by --data ./pictures" if having == ["folder"] else ""
                answer = f"{within['kind']} has no such option; {', '.join(having)} {have}{path_wanted}"
                raise InputError(f"--{name}: {answer}")
            raise InputError(f"--{name}: unknown option; {suggest.option(name, [*known(data), *SEVERAL, *beside])}")
        annotation, holder, node = fields(cls)[field], node, node[field]
    if value is None:
        raise InputError(f"--{name}: a value is missing, as in --{name} VALUE")
    named = next((extra for extra in plain(annotation)[1] if isinstance(extra, Named)), None)
    if named is not None:
        chosen = to_dict(named.values[_choice(name, value, named.values)], stored=False)
        holder[field] = node | {part: chosen[part] for part in named.parts}
    elif not isinstance(node, dict):
        holder[field] = Text(value)
    elif "kind" in node:
        kinds = {cls.kind: cls for cls in members(annotation)}
        if node["kind"] != _choice(name, value, kinds):
            holder[field] = _defaults(kinds[value])
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
    given = [field for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING]
    return {"kind": getattr(cls, "kind", None)} | {f.name: to_dict(f.default, stored=False) for f in given}


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


def data_named(texts: Sequence[str], data_dir: Path | None = None) -> config.Data:
    """Return the pictures that `--data` names: a data set, or a folder or file by its path; several are added.

    A path starts from the current folder, else from `data_dir`.

    Raises:
        InputError: there are none of that name, or a data set is named beside others.
    """
    first, *others = (_data_named(text, data_dir) for text in texts)
    if not others:
        return first
    places = [data.root for data in (first, *others) if isinstance(data, config.Folder)]
    if len(places) < len(texts):
        named = ", ".join(said(text) for text in texts)
        raise InputError(f"--data: {named}: a data set stands alone; only folders and files are added to each other")
    if len(set(places)) < len(places):
        raise InputError("--data: one place is given twice; give each once")
    return config.Folder(root=places[0], more=tuple(places[1:]))


def _data_named(text: str, data_dir: Path | None) -> config.Data:
    sets = suggest.sets()
    if text in sets:
        return from_dict(sets[text], {"kind": text}, f"--data {text}")
    if "://" in text:
        raise InputError(f"--data: {said(text)}: nothing is fetched from there; give a folder with the pictures in it")
    try:
        path = Path(text).expanduser()
        if data_dir is not None and text and not path.exists() and (data_dir / path).exists():
            path = data_dir / path
        if "/" in text or "{" in text or (text and path.exists()):
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
    lines.append(f"  --size  side in pixels of views and of what they are cut from: {' and '.join(SEVERAL['size'])}")
    for field in dataclasses.fields(config.Run):
        if field.name not in ("method", "data"):
            lines += _described(field.name, fields(config.Run)[field.name], field.default, "  ")
    lines.append("options of a method:")
    for cls in members(config.Method):
        lines.append(f"  {cls.kind}: {_first_line(cls)}")
        for field in dataclasses.fields(cls):
            annotation = fields(cls)[field.name]
            kind = getattr(field.default, "kind", type(field.default).__name__.lower())
            slot = f"    --{field.name} ({kind})"
            lines += [slot] if members(annotation) else _described(field.name, annotation, field.default, "    ")
    lines.append("what projector, predictor and target take:")
    for slot in ("projector", "predictor", "prototypes", "target"):
        lines += _described(slot, getattr(config, slot.capitalize()), None, "  ")
    lines += ["data sets:", *_described("data", config.Data, None, "  ")]
    return "\n".join(lines)


def _described(name: str, annotation: Any, default: Any, indent: str) -> Iterator[str]:
    """Yield a line for a field, or for each of the members of a slot and their fields."""
    classes = members(annotation)
    option = f"{indent}{option_of(name)}"
    ending = "" if default is dataclasses.MISSING else f" [{shown(default)}]"
    named = next((extra for extra in plain(annotation)[1] if isinstance(extra, Named)), None)
    if not classes:
        yield f"{option}  {meaning(annotation)}{ending}"
    elif named is not None:
        yield f"{option} {' | '.join(named.values)}"
    elif len(classes) > 1:
        yield f"{option} {' | '.join(cls.kind for cls in classes)}{'' if default is None else ending}"
    for cls in classes:
        if len(classes) > 1:
            yield f"{indent}  {cls.kind}: {_first_line(cls)}"
        deeper = indent + ("    " if len(classes) > 1 else "  ")
        for field in dataclasses.fields(cls):
            yield from _described(f"{name}.{field.name}", fields(cls)[field.name], field.default, deeper)


def meaning(annotation: Any) -> str:
    """Return the help that a field's annotation holds, after the choices where there are some."""
    inner, extras = plain(annotation)
    text = next((extra for extra in extras if isinstance(extra, str)), "")
    choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
    return (" | ".join(choices) + ": " if choices else "") + text


def shown(default: Any) -> str:
    """Return a field's default as an option would take it."""
    if isinstance(default, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in default) or "none"
    return str(getattr(default, "kind", "none" if default is None else default))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]
