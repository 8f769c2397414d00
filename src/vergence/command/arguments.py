"""A command line's words become the options of its command, as its class in `command.commands` describes them."""

import argparse
import dataclasses
import functools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from vergence.command.commands import Positional, Repeated
from vergence.command.options import from_typed, meaning, option_of, shown
from vergence.config.marks import Metavar
from vergence.config.schema import Text, fields, members, plain

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add to a command's parser an option for each field of its class, and a place for each `Positional` one."""
    for path, annotation, default in _options(cls):
        inner, _ = plain(annotation)
        several = typing.get_origin(inner) is tuple
        given: dict[str, Any] = {"help": meaning(annotation).replace("%", "%%"), "default": None}
        if inner is bool:
            parser.add_argument(_option_of(path), action="store_true", **given)
            continue
        if default not in (None, (), dataclasses.MISSING):
            given["help"] += f" [{shown(default)}]".replace("%", "%%")
        given["metavar"] = next((mark.name for mark in _marks(annotation) if isinstance(mark, Metavar)), None)
        given["type"] = str if not several and {str, Path} & {inner, *typing.get_args(inner)} else Text
        if any(isinstance(mark, Repeated) for mark in _marks(annotation)):
            given["type"] = str
            parser.add_argument(_option_of(path), dest=path[-1], action="append", **given)
        elif not _is_positional(annotation):
            required = default is dataclasses.MISSING
            parser.add_argument(_option_of(path), dest=path[-1], required=required, **given)
        elif default is not dataclasses.MISSING:
            parser.add_argument(path[-1], nargs="*" if several else "?", **given)
        else:
            parser.add_argument(path[-1], nargs="+" if several else None, **given)


def option_names(cls: type) -> list[str]:
    """Return the names of a command's options, such as `data-dir`."""
    return [_option_of(path)[2:] for path, annotation, _ in _options(cls) if not _is_positional(annotation)]


def give_rest(cls: type, known: argparse.Namespace, words: list[str]) -> list[str]:
    """Give a command's list of words those that stand behind its options; return what it has no place for.

    Where a list may be empty, argparse takes it as empty before the first option, and has the rest left over.
    """
    lists = [path[-1] for path, annotation, default in _options(cls) if _is_positional(annotation) and default == ()]
    if not lists or any(word.startswith("-") for word in words):
        return words
    setattr(known, lists[0], [*(getattr(known, lists[0]) or []), *map(Text, words)])
    return []


def read_options(cls: type[T], known: argparse.Namespace) -> T:
    """Return a command's options with the values that were given.

    Raises:
        InputError: naming every option that cannot be so.
    """
    data: dict[str, Any] = {}
    for path, _, _ in _options(cls):
        node = data
        for part in path[:-1]:
            node = node.setdefault(part, {})
        if (value := getattr(known, path[-1])) not in (None, []):
            node[path[-1]] = value
    return from_typed(cls, data, lambda path: path.rpartition(".")[2].partition("[")[0])


def words_of(asked: Any) -> list[str]:
    """Return the words by which a command has these options; those that are as they are by default are left out."""
    words: list[str] = []
    for path, annotation, default in _options(type(asked)):
        value = functools.reduce(getattr, path, asked)
        if _is_positional(annotation):
            words = [*(value if isinstance(value, tuple) else [str(value)]), *words]
        elif value is True:
            words.append(_option_of(path))
        elif value != default:
            repeated = any(isinstance(mark, Repeated) for mark in _marks(annotation))
            words += [word for one in (value if repeated else [shown(value)]) for word in (_option_of(path), one)]
    return words


def _option_of(path: tuple[str, ...]) -> str:
    return option_of(path[-1].rstrip("_"))


def _options(cls: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield path, annotation and default of each option; those of a class within, such as `Periods`, are among them."""
    for field in dataclasses.fields(cls):
        annotation = fields(cls)[field.name]
        if within := members(annotation):
            yield from _options(within[0], (*path, field.name))
        else:
            yield (*path, field.name), annotation, field.default


def _marks(annotation: Any) -> list[Any]:
    """Return what an annotation holds besides its type, and what its parts hold: those of `X | None` are X's."""
    inner, extras = plain(annotation)
    return [*extras, *(extra for part in typing.get_args(inner) for extra in plain(part)[1])]


def _is_positional(annotation: Any) -> bool:
    return any(isinstance(mark, Positional) for mark in _marks(annotation))
