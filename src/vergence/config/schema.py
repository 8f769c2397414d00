"""Frozen dataclasses to JSON and back, strictly: every problem is named, with the nearest known name beside it.

A configuration is a class decorated with `configuration`: a frozen dataclass that checks what it is given, so that what
is no configuration is refused where it is made. A slot is a field whose type is a union of such classes, told apart by
their `kind`; the type of an open slot is the base of such classes, which a user's class may join. Bounds, help and the
other marks stand in the annotation: `Annotated[int, AtLeast(1), "images in a step"]`. This module imports neither torch
nor anything outside the standard library, so that a wrong key is answered at once.
"""

import dataclasses
import functools
import json
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from vergence.config.marks import DEFAULT, Added, Place, Stored
from vergence.config.spelling import nearest
from vergence.errors import InputError

T = TypeVar("T")


class Text(str):
    """A value as typed on the command line; it takes the type of the field it is meant for."""


class Slot:
    """What an open slot's base derives from: every configuration class that derives from such a base is a member.

    A base, such as `config.Method`, is the annotation of a field; a member is a class with a `kind` of its own.
    """

    kind: ClassVar[str]
    members: ClassVar[dict[str, type]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if Slot in cls.__bases__:
            cls.members = {}
            return
        kind = cls.__dict__.get("kind")
        if not isinstance(kind, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind):
            raise TypeError(f"{cls.__name__}: needs a kind, as in kind: ClassVar[str] = 'my-{cls.__name__.lower()}'")
        if not (cls.__doc__ or "").strip():
            raise TypeError(f"{cls.__name__}: needs a docstring, whose first line is its help")
        other = cls.members.get(kind)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__name__}: another configuration, {other.__name__}, is of the kind {kind!r}")
        cls.members[kind] = cls


def said(value: Any) -> str:
    """A value as an error line can hold it: on one line, and not the whole of it where it is long."""
    value = _of_python(value)
    if isinstance(value, list | tuple | Mapping):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = json.dumps(value[:80] if isinstance(value, str) else value, default=str)
    return f"'{text[1:-1]}'" if isinstance(value, str) else text[:80]


def plain(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its `Annotated`, and the metadata it carried."""
    if typing.get_origin(annotation) is Annotated:
        inner, *extras = typing.get_args(annotation)
        return inner, tuple(extras)
    return annotation, ()


def members(annotation: Any) -> tuple[type, ...]:
    """The configuration classes a field may hold: one for a plain field, several for a slot, none for a value."""
    annotation, _ = plain(annotation)
    if isinstance(annotation, type) and Slot in annotation.__bases__:
        return tuple(annotation.members.values())
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    held = typing.get_args(annotation) if union else (annotation,)
    return tuple(m for m in held if isinstance(m, type) and dataclasses.is_dataclass(m))


@functools.cache
def fields(cls: Any) -> dict[str, Any]:
    """Each field's name and annotation, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def stored_names(cls: Any) -> dict[str, str]:
    """Return the name that each field has in files and keys, by its own name; they differ where it is `Stored`."""
    return {
        name: next((extra.name for extra in plain(annotation)[1] if isinstance(extra, Stored)), name)
        for name, annotation in fields(cls).items()
    }


def field_named(cls: Any, name: str) -> str:
    """Return the field of a class that is meant by its own name or by the one in files; another name as it is."""
    return next((field for field, stored in stored_names(cls).items() if name == stored), name)


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make a class a configuration, whose fields have plain Python values however they were given.

    Numbers and text of other kinds, such as numpy's or a path, become Python's own; everything else must be what its
    annotation says, as in `from_dict`. Whether fields contradict each other is left to the class's `__post_init__`.

    Raises:
        InputError: from the constructor and `dataclasses.replace`: names every field that cannot be so, with its value
            and the value's type.
    """
    contradictions = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        problems: list[str] = []
        for name, annotation in fields(type(self)).items():
            object.__setattr__(self, name, _given(annotation, getattr(self, name), name, problems))
        if problems:
            raise InputError("\n".join(f"{type(self).__name__}: {problem}" for problem in problems))
        if contradictions is not None:
            contradictions(self)

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def _given(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    classes = members(annotation)
    if not classes:
        return _read(annotation, value, path, problems, _typed)
    if not isinstance(value, classes):
        wanted = " or ".join(f"{cls.__name__}(...)" for cls in classes)
        problems.append(f"{path}: expected {wanted}, not {_typed(value)}")
    return value


def _typed(value: Any) -> str:
    """A value as `said`, and its type: what Python shows alike may be of two."""
    return f"{said(value)} ({type(value).__name__})"


def to_dict(config: Any, *, skip_added: bool = False, places: bool = True, stored: bool = True) -> Any:
    """A configuration as plain JSON values; a class with a `kind` states it first.

    With `skip_added`, fields marked `Added` are left out where they are as they were before; without `places`, those
    marked `Place`. Fields marked `Stored` have the name that files keep; without `stored`, their own, for messages.
    """
    settings = {"skip_added": skip_added, "places": places, "stored": stored}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kind = getattr(config, "kind", None)
        cls = type(config)
        names = stored_names(cls) if stored else {}
        values = {
            names.get(field.name, field.name): to_dict(getattr(config, field.name), **settings)
            for field in dataclasses.fields(config)
            if (places or not marked(cls, field.name, Place))
            and not (skip_added and getattr(config, field.name) == _before(cls, field.name, dataclasses.MISSING))
        }
        return ({"kind": kind} if kind else {}) | values
    if isinstance(config, tuple):
        return [to_dict(item, **settings) for item in config]
    return os.fspath(config) if isinstance(config, os.PathLike) else config


def marked(cls: type, name: str, mark: type) -> bool:
    """Return whether the annotation of a field holds a mark such as `Place`."""
    return any(isinstance(extra, mark) for extra in plain(fields(cls)[name])[1])


def _before(cls: type, name: str, otherwise: Any) -> Any:
    """Return what a field marked `Added` was before it came; `otherwise` for all other fields."""
    for extra in plain(fields(cls)[name])[1]:
        if isinstance(extra, Added):
            return cls.__dataclass_fields__[name].default if extra.before is DEFAULT else extra.before
    return otherwise


def canonical(config: Any, *, places: bool = False) -> str:
    """The one text of a configuration: sorted keys, no spaces. Equal configurations give equal text.

    Fields marked `Place` are part of it with `places` only.

    Raises:
        InputError: it holds what `from_dict` would refuse.
    """
    read = from_dict(type(config), to_dict(config))  # so that `lr=5`, as Python allows, is 5.0 here too
    return json.dumps(to_dict(read, skip_added=True, places=places), sort_keys=True, separators=(",", ":"))


def from_dict(cls: type[T], data: Any, source: str = "configuration") -> T:
    """Build `cls` from JSON values, refusing unknown keys, wrong types and values out of range.

    A field marked `Stored` is read under either of its names.

    Raises:
        InputError: naming every problem at once, one to a line.
    """
    problems: list[str] = []
    config = _read(cls, data, "", problems)
    if problems:
        raise InputError("\n".join(f"{source}: {problem}" for problem in problems))
    return config


def _read(annotation: Any, value: Any, path: str, problems: list[str], quoted: Callable[[Any], str] = said) -> Any:
    annotation, extras = plain(annotation)
    no_value = value is None or (isinstance(value, Text) and value == "none")
    if no_value and types.NoneType in typing.get_args(annotation):
        return None
    if classes := members(annotation):
        return _read_config(classes, value, path, problems)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):  # X | None
        (inner,) = (a for a in arguments if a is not types.NoneType)
        return _read(Annotated[inner, *extras] if extras else inner, value, path, problems, quoted)
    if origin is tuple:
        return _read_tuple(arguments, value, path, problems, quoted)
    given, value = value, _of_python(value)
    if origin is Literal:
        if not any(isinstance(value, type(choice)) and value == choice for choice in arguments):
            problems.append(f"{path}: unknown choice {quoted(given)}; {nearest(str(value), map(str, arguments))}")
        return str(value) if isinstance(value, Text) else value
    try:
        result = _scalar(annotation, value, quoted(given))
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None
    for bound in extras:
        if hasattr(bound, "problem") and (problem := bound.problem(result)):
            problems.append(f"{path}: {problem}")
    return result


def _of_python(value: Any) -> Any:
    """A number or text as Python's own, where it is one of numpy's, torch's or another library's; all else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # an array without dimensions holds one
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Text) or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _scalar(wanted: type, value: Any, quoted: str) -> Any:
    if wanted is Path and isinstance(value, str):
        return path_of(value)
    if isinstance(value, Text):
        value = _from_text(wanted, value)
    if wanted is float and type(value) is int:
        try:
            value = float(value)  # 5 and 5.0 are one configuration and must have one key
        except OverflowError:
            value = math.inf
    if type(value) is not wanted:
        raise ValueError(f"expected {_TYPES.get(wanted, wanted.__name__)}, not {quoted}")
    if wanted is int and abs(value) >= 1 << 53:
        raise ValueError(f"expected a whole number below 2**53, not {said(value)}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"expected a finite number, not {value}")
    return value + 0.0 if wanted is float else value  # -0.0 is 0.0


def path_of(text: str) -> Path:
    """Return a path as a user writes it: `~` is the home folder, in `--out=~/x` too, where a shell leaves it.

    Raises:
        ValueError: the home folder is of somebody whom this machine does not know.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{said(text)}: {error} Write the whole path") from error


_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _from_text(wanted: type, text: str) -> Any:
    if wanted is bool:
        return {"true": True, "false": False}.get(text.lower(), str(text))
    if wanted in (int, float):
        try:
            return wanted(text)
        except ValueError:
            return str(text)
    return str(text)


def _read_tuple(
    arguments: tuple[Any, ...], value: Any, path: str, problems: list[str], quoted: Callable[[Any], str]
) -> Any:
    if isinstance(value, Text):
        value = [Text(part) for part in value.split(",")] if value not in ("", "none") else []
    if len(getattr(value, "shape", ())) == 1 and hasattr(value, "tolist"):  # an array
        value = value.tolist()
    if not isinstance(value, list | tuple):
        problems.append(f"{path}: expected a list, not {quoted(value)}")
        return ()
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        problems.append(f"{path}: expected {len(arguments)} values, not {len(value)}")
        return ()
    each = enumerate(zip(arguments, value, strict=True))
    return tuple(_read(a, v, f"{path}[{i}]", problems, quoted) for i, (a, v) in each)


def _read_config(classes: tuple[type, ...], value: Any, path: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(value):
        value = to_dict(value)
    if not isinstance(value, Mapping):
        problems.append(f"{path or 'top level'}: expected an object, not {said(value)}")
        return None
    kinds = {getattr(c, "kind", ""): c for c in classes}
    kind = value.get("kind", "" if "" in kinds else None)
    if not isinstance(kind, str) or kind not in kinds:
        problem = "no kind" if kind is None else f"unknown kind {said(kind)}"
        problems.append(f"{path or 'top level'}: {problem}; {nearest(str(kind or ''), kinds)}")
        return None
    cls = kinds[kind]
    known = fields(cls)
    dot = f"{path}." if path else ""
    values: dict[str, Any] = {}
    for name in value:
        field = field_named(cls, name)
        if field not in known and not (name == "kind" and kind):
            problems.append(f"{dot}{said(name)[1:-1]}: unknown key; {nearest(name, known)}")
        elif field in values:
            former = stored_names(cls)[field]
            problems.append(f"{dot}{field}: is there as '{former}' too, its former name; leave one of the two out")
        values[field] = value[name]
    before = len(problems)
    given = {name: _read(known[name], values[name], dot + name, problems) for name in known if name in values}
    for name in known.keys() - values.keys():
        if (former := _before(cls, name, DEFAULT)) is not DEFAULT:
            given[name] = former
    required = {f.name for f in dataclasses.fields(cls) if _is_required(f)}
    for name in sorted(required - given.keys()):
        problems.append(f"{dot}{name}: missing")
    if len(problems) > before:
        return None
    try:
        return cls(**given)
    except ValueError as error:  # what __post_init__ finds: fields that contradict each other
        problems.append(f"{path}: {error}" if path else str(error))
        return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two configurations' dicts differ, as 'path: one -> other' lines."""
    if isinstance(one, dict) and isinstance(other, dict):
        dot = f"{path}." if path else ""
        names = list(one) + [name for name in other if name not in one]
        return [line for n in names for line in differences(one.get(n), other.get(n), dot + n)]
    return [] if one == other else [f"{path}: {json.dumps(one)} -> {json.dumps(other)}"]
