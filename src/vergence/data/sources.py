"""The places of a run's pictures, sorted into splits and classes: folders, and files that list or hold pictures."""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vergence.config import Folder
from vergence.data.arrange import TEST, TRAIN, UNLABELLED_NAMES, Arranged, Pairs, arrange, hold_out, spelled
from vergence.data.cache import UNLABELLED
from vergence.data.content import Content, file_of
from vergence.data.doors import Door, Listing, door_of
from vergence.data.pages import with_pages
from vergence.data.scan import Found, Scan, scan
from vergence.errors import InputError
from vergence.files.names import listed, shown


@dataclass(frozen=True)
class Source:
    """Pictures of one place or several.

    Attributes:
        where: its name for people.
        scanned: what lies there.
        arranged: its pictures, sorted.
        contents: gives what each of some pictures is read from, in their order, which is that of `scanned.found`: what
            opens it, or its values [h w] or [h w c].
        files: folders and files whose times tell whether the same pictures still lie there; none where that takes more.
    """

    where: str
    scanned: Scan
    arranged: Arranged
    contents: Callable[[Sequence[Found]], Iterator[Content | np.ndarray]]
    files: Sequence[Path] = ()


def source_of(config: Folder, roots: Sequence[Path]) -> Source:
    """Return the pictures of all places that the settings name.

    Raises:
        InputError: there is none, or one that is damaged or can be read in two ways.
    """
    sources = [_one(config, root) for root in roots]
    return sources[0] if len(sources) == 1 else _joined(sources, roots)


def _one(config: Folder, root: Path) -> Source:
    labels = "auto" if config.labels == "folders" else config.labels
    door = door_of(root, labels, config.outside, any_bands=bool(config.bands))
    if door is not None:
        if config.labels == "folders":
            raise InputError(
                f"{shown(root)}: --data.labels folders is for a folder of pictures; name a column, or none"
            )
        if config.pages == "all":
            raise InputError(f"{shown(root)}: --data.pages all is for a folder of pictures; leave it at first")
        listing = door.listing()
        files = () if listing.files is None else (*([root] if root.is_dir() else []), *listing.files)
        return Source(shown(root), _as_scan(listing), arrange_listing(listing, shown(root)), _reader(door), files)
    if config.labels not in ("auto", "folders", "none"):
        advice = "labels of a folder are its folders: choose auto, folders or none"
        raise InputError(f"--data.labels: {shown(config.labels)!r} is a column, and {shown(root)} a folder; {advice}")
    scanned = with_pages(scan(root), root) if config.pages == "all" else scan(root)
    arranged = arrange(scanned, root)
    arranged = _without_labels(arranged) if config.labels == "none" else arranged
    files = (root, *(root / folder for folder in scanned.folders))
    return Source(shown(root), scanned, arranged, _opener(root), files)


def _without_labels(arranged: Arranged) -> Arranged:
    """Return a folder's pictures without labels: all are trained on but those of a split that was there to score on."""
    held_out = arranged.test if arranged.test_from is not None and not arranged.test_from.endswith("/") else ()
    pairs = (*arranged.train, *arranged.unlabelled, *held_out)
    train = tuple((found, UNLABELLED) for found, _ in sorted(pairs, key=lambda pair: pair[0].path))
    unused = dict(arranged.unused)
    if arranged.test and not held_out:
        unused[str(arranged.test_from)] = len(arranged.test)
    return Arranged(train, (), (), (), shared=True, test_from=None, unused=unused)


def _opener(root: Path) -> Callable[[Sequence[Found]], Iterator[Content]]:
    return lambda wanted: (file_of(root, found) for found in wanted)


def _reader(door: Door) -> Callable[[Sequence[Found]], Iterator[Content | np.ndarray]]:
    def contents(wanted: Sequence[Found]) -> Iterator[Content | np.ndarray]:
        for content in door.contents(wanted):
            yield content if isinstance(content, np.ndarray) else _in_memory(content)

    return contents


def _in_memory(data: bytes) -> Content:
    return lambda: io.BytesIO(data)


def _as_scan(listing: Listing) -> Scan:
    return Scan(found=tuple(listing.found), bad=(), folders=(), doubles=0, others=(), hidden=0)


# --- the columns of a list or table -----------------------------------------------------------------------------------


def arrange_listing(listing: Listing, where: str) -> Arranged:
    """Sort the pictures of a list or table by its columns; where it has no splits, a fifth of each class is held out.

    Pictures without a label are trained on, and never scored.

    Raises:
        InputError: no pictures, splits of unknown names, no training pictures, a test class that is not trained.
    """
    if not listing.found:
        raise InputError(f"{where}: no pictures")
    labels = listing.labels or [None] * len(listing.found)
    parts, test_name, unused = _parts(listing, [*zip(listing.found, labels, strict=True)], where)
    classes = _in_order({label for _, label in parts["train"] if label is not None}, listing.classes)
    if strange := _in_order({label for _, label in parts["test"] if label is not None} - {*classes}, None):
        has_not = f"{where}: {test_name} has classes that the training pictures have not"
        raise InputError(f"{has_not}: {listed([shown(name) for name in strange])}")
    numbers = {name: number for number, name in enumerate(classes)}
    train = tuple((found, numbers[label]) for found, label in parts["train"] if label is not None)
    without = [found for found, label in parts["train"] if label is None]
    more = tuple((found, UNLABELLED) for found in (*without, *(found for found, _ in parts["unlabelled"])))
    names = tuple(map(shown, classes))
    if test_name is None:
        return hold_out(train, more, names, unused)
    test = tuple((found, numbers[label]) for found, label in parts["test"] if label is not None)
    if not test:  # nothing that could be scored; its pictures stay out of training
        return Arranged((*train, *more), (), (), (), shared=True, test_from=None, unused=unused)
    return Arranged(train, more, test, names, shared=False, test_from=f"split {test_name}", unused=unused)


def _in_order(names: set[str], order: Sequence[str] | None) -> tuple[str, ...]:
    """Return names of classes in the order that their file gives them; else as numbers, if they all are, or as text."""
    if order is not None:
        return tuple(name for name in order if name in names)
    whole = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if whole else (0, name)))


Labelled = list[tuple[Found, str | None]]


def _parts(listing: Listing, every: Labelled, where: str) -> tuple[dict[str, Labelled], str | None, dict[str, int]]:
    """Return the pictures of each part, the name of the split that is scored on, and what is in no part by its name."""
    counts = Counter(listing.splits or ())
    words = {name: spelled(name) for name in counts}
    if strange := [name for name, word in words.items() if word not in (*TRAIN, *TEST, *UNLABELLED_NAMES)]:
        each = listed([f"{shown(name)!r} ({counts[name]:,} pictures)" for name in strange])
        raise InputError(f"{where}: splits of unknown names: {each}; call them train, test, val or unlabelled")
    trained = {*TRAIN, *UNLABELLED_NAMES} & {*words.values()}
    scored = next((word for word in TEST if trained and word in words.values()), None)
    parts: dict[str, Labelled] = {"train": [], "unlabelled": [], "test": []}
    unused: Counter[str] = Counter()
    for pair, name in zip(every, listing.splits or [""] * len(every), strict=True):
        word = words.get(name, "")
        if word == scored:
            parts["test"].append(pair)
        elif word in UNLABELLED_NAMES:
            parts["unlabelled"].append(pair)
        elif word in TRAIN or not trained:
            parts["train"].append(pair)
        else:
            unused[f"split {shown(name)}"] += 1
    return parts, next((name for name, word in words.items() if word == scored), None), dict(unused)


# --- several places ---------------------------------------------------------------------------------------------------


def _joined(sources: Sequence[Source], roots: Sequence[Path]) -> Source:
    """Return the pictures of several places as those of one; each is named after its place."""
    names = _names_of(roots)
    all_classes = sorted({name for source in sources for name in source.arranged.classes})
    numbers = {name: number for number, name in enumerate(all_classes)}
    parts: dict[str, list[tuple[Found, int]]] = {"train": [], "unlabelled": [], "test": []}
    for source, name in zip(sources, names, strict=True):
        own = source.arranged

        def renamed(pairs: Pairs, own: Arranged = own, name: str = name) -> Iterator[tuple[Found, int]]:
            for found, label in pairs:
                number = UNLABELLED if label == UNLABELLED else numbers[own.classes[label]]
                yield replace(found, path=f"{name}/{found.path}"), number

        without = all_classes and not own.classes  # trained on beside those with labels
        parts["unlabelled" if without else "train"] += renamed(own.train)
        parts["unlabelled"] += renamed(own.unlabelled)
        parts["test"] += renamed(own.test) if own.classes else ()
    if strange := {number for _, number in parts["test"]} - {number for _, number in parts["train"]}:
        named = listed([all_classes[number] for number in sorted(strange)])
        raise InputError(f"--data: classes that are scored on and not trained on: {named}")

    def contents(wanted: Sequence[Found]) -> Iterator[Content | np.ndarray]:
        by_name = dict(zip(names, sources, strict=True))
        for name, group in itertools.groupby(wanted, key=lambda found: found.path.split("/")[0]):
            yield from by_name[name].contents([replace(f, path=f.path.removeprefix(f"{name}/")) for f in group])

    scanned = Scan(
        found=tuple(
            replace(found, path=f"{name}/{found.path}")
            for source, name in zip(sources, names, strict=True)
            for found in source.scanned.found
        ),
        bad=tuple(bad for source in sources for bad in source.scanned.bad),
        folders=(),
        doubles=sum(source.scanned.doubles for source in sources),
        others=tuple(other for source in sources for other in source.scanned.others),
        hidden=sum(source.scanned.hidden for source in sources),
    )
    froms = [source.arranged.test_from for source in sources if source.arranged.test_from is not None]
    arranged = Arranged(
        tuple(parts["train"]),
        tuple(parts["unlabelled"]),
        tuple(parts["test"]),
        tuple(all_classes),
        shared=not all_classes,
        test_from="; ".join(dict.fromkeys(froms)) or None if all_classes else None,
        unused=dict(sum((Counter(source.arranged.unused) for source in sources), Counter())),
    )
    files = [file for source in sources for file in source.files] if all(source.files for source in sources) else ()
    return Source(listed([source.where for source in sources]), scanned, arranged, contents, files)


def _names_of(roots: Sequence[Path]) -> list[str]:
    """Return the last part of each path, numbered where it is that of one before."""
    counts: Counter[str] = Counter()
    names: list[str] = []
    for root in roots:
        counts[root.name] += 1
        names.append(root.name if counts[root.name] == 1 else f"{root.name} ({counts[root.name]})")
    return names
