"""What rows and sets of pictures are called: by what differs, or by their folders, never by a hash."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

from vergence.config import CIFAR10, CIFAR100, Folder, Run
from vergence.config.schema import to_dict
from vergence.files.results import Result

MOST_NAMED = 3
"""Differences that a row's name spells out. With more the row has its folder's name."""


# --- rows -------------------------------------------------------------------------------------------------------------


def names_of(runs: Sequence[Run], folders: Sequence[Sequence[Path]] = (), data: Sequence[str] = ()) -> list[str]:
    """Return a name for each row: its method, its pictures where rows of the method are on others, what differs.

    What differs does so from the first row of the same method and pictures. Where that would take too many words, or
    name two rows alike, a row is called as its folder is; where the program named the folder, by the first
    differences, and at last by a number.

    Args:
        runs: one of each row.
        folders: of each row, where its runs lie.
        data: what the pictures of each row are called; by default as `pictures_of` has it.
    """
    pictures = data or [pictures_of(run) for run in runs]
    kinds = [run.method.kind for run in runs]
    sets = Counter(kind for kind, _ in {*zip(kinds, pictures, strict=True)})
    heads = [f"{k} on {name}" if sets[k] > 1 else k for k, name in zip(kinds, pictures, strict=True)]
    differences = _differences(runs, heads)
    spoken = [", ".join([head, *parts]) for head, parts in zip(heads, differences, strict=True)]
    own = _of_folders(runs, folders or [()] * len(runs))
    names = []
    for name, head, parts, folder in zip(spoken, heads, differences, own, strict=True):
        if folder and (len(parts) > MOST_NAMED or spoken.count(name) > 1):
            names.append(folder)
        elif len(parts) > MOST_NAMED:
            names.append(f"{', '.join([head, *parts[:MOST_NAMED]])} and {len(parts) - MOST_NAMED} more")
        else:
            names.append(name)
    return numbered(names)


def numbered(names: Sequence[str], form: str = "{} ({})") -> list[str]:
    """Return the names with a number behind each but the first of those that are alike."""
    found: list[str] = []
    for name in names:
        tried = (name if n == 1 else form.format(name, n) for n in range(1, len(names) + 1))
        found.append(next(one for one in tried if one not in found))
    return found


def _differences(runs: Sequence[Run], heads: Sequence[str]) -> list[list[str]]:
    """Return where each run differs from the first run of the same head, a path and value for each difference."""
    first: dict[str, dict[str, str]] = {}
    found = []
    for run, head in zip(runs, heads, strict=True):
        own = dict(_leaves(to_dict(replace(run, seed=0), stored=False)))
        other = first.setdefault(head, own)
        paths = [path for path in own if own[path] != other.get(path) and path != "data.root"]
        slots = [path.removesuffix("kind") for path in paths if path.endswith(".kind")]  # what is in them follows
        paths = [p for p in paths if p.endswith(".kind") or not any(p.startswith(slot) for slot in slots)]
        found.append([f"{_spoken(path)} {own[path]}" for path in paths])
    return found


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if not isinstance(value, Mapping):
        yield path, value if isinstance(value, str) else json.dumps(value)
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _spoken(path: str) -> str:
    """Return a field's path as an option names it."""
    return path.removeprefix("method.").removesuffix(".kind")


def _of_folders(runs: Sequence[Run], folders: Sequence[Sequence[Path]]) -> list[str]:
    """Return a name for each row by its folders; empty where the program named them, so that it would be a hash."""
    ends = dict(zip(of_all := [path for row in folders for path in row], distinct_ends(of_all), strict=True))
    names = []
    for run, row in zip(runs, folders, strict=True):
        given = [path for path in row if not _has_key(path, run)]
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(ends[path] for path in given), strict=False))
        common = "".join(letter for letter, *_ in alike)
        names.append(common.rstrip("-_.,/ ") or (ends[given[0]] if given else ""))
    return names


def _has_key(path: Path, run: Run) -> bool:
    """Return whether a folder has the name that the program gives to a run's folder."""
    start, _, end = path.name.rpartition("-")
    return start == run.name.rpartition("-")[0] and len(end) == len(run.key) and set(end) <= set("0123456789abcdef")


def distinct_ends(paths: Sequence[PurePath]) -> list[str]:
    """Return the fewest last parts of each path that no other of them ends in; all of it where there are none."""
    parts = [PurePath(os.path.normpath(path)).parts for path in paths]
    ends = []
    for own in parts:
        others = [other for other in parts if other != own]
        count = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        ends.append(str(PurePath(*own[-count:])))
    return ends


# --- pictures ---------------------------------------------------------------------------------------------------------


def pictures_of(run: Run) -> str:
    """Return what a run's pictures are called: their kind, or the last part of their folder."""
    if isinstance(run.data, Folder):
        return PurePath(run.data.root).name or run.data.root
    name = run.data.kind
    if isinstance(run.data, CIFAR100) and run.data.labels == "coarse":
        name += ", coarse"
    if isinstance(run.data, CIFAR10 | CIFAR100) and run.data.scored_on == "held-out":
        name += ", held out"
    return name


def names_of_pictures(results: Sequence[Result]) -> list[str]:
    """Return what the pictures of each run are called; two runs have the same name just where theirs are the same.

    Pictures of a folder are known by their digest, where both runs have one of as many pictures at one size; else by
    the folder.
    """
    sets: list[Result] = []
    places = []
    for result in results:
        place = next((i for i, other in enumerate(sets) if _same_pictures(result, other)), len(sets))
        if place == len(sets):
            sets.append(result)
        places.append(place)
    names = dict(enumerate(pictures_of(result.run) for result in sets))
    roots = {
        i: PurePath(data.root)
        for i, name in names.items()
        if [*names.values()].count(name) > 1 and isinstance(data := sets[i].run.data, Folder)
    }
    said = numbered([*(names | dict(zip(roots, distinct_ends(list(roots.values())), strict=True))).values()])
    return [said[place] for place in places]


def _same_pictures(one: Result, other: Result) -> bool:
    ours, theirs = one.run.data, other.run.data
    if not (isinstance(ours, Folder) and isinstance(theirs, Folder)):
        return pictures_of(one.run) == pictures_of(other.run) and ours.kind == theirs.kind
    comparable = (ours.size, one.run.subset) == (theirs.size, other.run.subset)
    if one.digest and other.digest and comparable:
        return one.digest == other.digest
    return os.path.normpath(ours.root) == os.path.normpath(theirs.root)


def given_folders(results: Sequence[Result]) -> list[str]:
    """Return the names of the folders that a person named, of a row's runs."""
    return [result.folder.name for result in results if result.folder.name and not _has_key(result.folder, result.run)]


def about_pictures(result: Result, name: str) -> str:
    """Return name, size and number of a run's pictures, as far as they are known."""
    count = result.pictures if result.pictures is not None else result.run.subset
    said = [] if count is None else [f"{count:,} picture{'' if count == 1 else 's'}"]
    sides = [] if result.run.data.size is None else [f"{result.run.data.size} px"]  # of a loop that was watched
    return ", ".join([name, *sides, *said])
