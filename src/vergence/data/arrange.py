"""Files of a folder sorted into splits and classes, by the names of their folders and nothing else."""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vergence.data.cache import UNLABELLED
from vergence.data.scan import SUFFIXES, Found, Scan, by_suffix, told, unread
from vergence.data.splits import held_out
from vergence.errors import InputError
from vergence.files.names import listed, shown

HELD_OUT = "a fifth of each class, by the names of its files"

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")  # the first that is there
UNLABELLED_NAMES = ("unlabelled", "unlabeled", "unsup", "unsupervised", "extra")

Pairs = tuple[tuple[Found, int], ...]
"""Pictures with their labels, `UNLABELLED` for those without."""


@dataclass(frozen=True)
class Arranged:
    """A scan sorted into splits.

    Attributes:
        train: what probes are fitted on.
        unlabelled: what views are cut from besides.
        test: what probes are scored on; empty where nothing is.
        classes: their names, in the order of the labels.
        shared: nothing is labelled and nothing held out, so that every split is all pictures.
        test_from: how the test pictures came about; None where there are none.
        unused: how many pictures lie in folders that belong to no split, by folder.
    """

    train: Pairs
    unlabelled: Pairs
    test: Pairs
    classes: tuple[str, ...]
    shared: bool
    test_from: str | None
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def pairs(self) -> Pairs:
        """All pictures that are used, in their order."""
        return self.train + self.unlabelled + self.test


def arrange(scanned: Scan, root: Path) -> Arranged:
    """Sort pictures into splits and classes by the names of their folders.

    Raises:
        InputError: no pictures, an empty class, a test class that is not trained, or a folder that may be a split or a
            class.
    """
    if not scanned.found:
        others = f" ({told(by_suffix(scanned.others))})" if scanned.others else ""
        found = f"{len(scanned.folders)} folders, {len(scanned.others)} other files{others}"
        bad = f"{len(scanned.bad)} that cannot be read"
        why = "".join(f"; not read: {line}" for line in unread(by_suffix(scanned.others)))
        expected = ", ".join(sorted(SUFFIXES))
        raise InputError(f"{shown(root)}: no pictures: found {found}, {bad}; expected {expected}{why}")
    tops = [path for path in scanned.folders if "/" not in path]
    trains, tests, unlabelled = (_named(names, tops, root) for names in (TRAIN, TEST, UNLABELLED_NAMES))
    holding = Counter(file.path.split("/")[0] if "/" in file.path else "" for file in scanned.found)
    if not trains:
        return _without_train(scanned, tests, unlabelled, holding, root)
    if len(trains) > 1:
        raise InputError(f"{shown(root)}: {_slashed(trains)} are both folders of training pictures; keep one")
    train = trains[0]
    if not tests and (beside := sorted(set(holding) - {"", train, *unlabelled})):
        raise InputError(
            f"{shown(root)}: is {shown(train)}/ a split or a class like {_slashed(beside)}? "
            "rename it if it is a class; add a folder test/ if it is a split"
        )
    used = {train, *tests[:1], *unlabelled}
    unused = {f"{shown(top or '.')}/": count for top, count in holding.items() if top not in used}
    more = tuple((file, UNLABELLED) for top in unlabelled for file in _below(scanned, f"{top}/"))
    if not tests:
        return _one_part(scanned, f"{train}/", root, more, unused)
    return _published(scanned, train, tests[0], root, more, unused)


def _named(names: tuple[str, ...], tops: list[str], root: Path) -> list[str]:
    """The folders that have one of these names in any spelling, in the order of the names.

    Raises:
        InputError: two of them differ in their spelling only.
    """
    by_word: defaultdict[str, list[str]] = defaultdict(list)
    for top in tops:
        by_word[spelled(top)].append(top)
    for name in names:
        if len(by_word[name]) > 1:
            raise InputError(f"{shown(root)}: {_slashed(by_word[name])} have the same meaning; keep one of them")
    return [by_word[name][0] for name in names if by_word[name]]


def spelled(name: str) -> str:
    """Return the word that a name of a split is, in whatever spelling: `test` for `Test_set`."""
    return re.sub(r"[\W_]+", "", name.casefold()).removesuffix("set")


def _slashed(names: list[str]) -> str:
    return listed([f"{shown(name)}/" for name in names])


def _below(scanned: Scan, prefix: str) -> list[Found]:
    return [file for file in scanned.found if file.path.startswith(prefix)]


def _without_train(
    scanned: Scan, tests: list[str], unlabelled: list[str], holding: Mapping[str, int], root: Path
) -> Arranged:
    if tests:
        raise InputError(
            f"{shown(root)}: has {shown(tests[0])}/ but no train/ beside it; "
            "call the folder of the training pictures train/, or rename this one if it is a class"
        )
    if not unlabelled:
        if len(holding) == 1 and (only := next(iter(holding))):
            below = [path.removeprefix(f"{only}/") for path in scanned.folders if path.startswith(f"{only}/")]
            if inner := _named(TRAIN, [name for name in below if "/" not in name], root / only):
                where = f"all pictures lie in {shown(only)}/, which has a folder {shown(inner[0])}/"
                raise InputError(f"{shown(root)}: {where}; give {shown(root / only)}")
        return _one_part(scanned, "", root)
    if beside := sorted(set(holding) - {*unlabelled}):
        others = _slashed([name for name in beside if name]) or "the pictures beside it"
        raise InputError(
            f"{shown(root)}: is {shown(unlabelled[0])}/ a class like {others}? "
            "rename it if it is one; else put the labelled folders into train/"
        )
    return Arranged(tuple((file, UNLABELLED) for file in scanned.found), (), (), (), shared=True, test_from=None)


def _published(scanned: Scan, train: str, test: str, root: Path, more: Pairs, unused: Mapping[str, int]) -> Arranged:
    """Training and test pictures as their folders say."""
    pairs, classes = _labelled(scanned, f"{train}/", root)
    test_pairs, test_classes = _labelled(scanned, f"{test}/", root)
    if classes and (strange := sorted(set(test_classes) - set(classes))):
        has_not = f"{shown(test)}/ has classes that {shown(train)}/ has not"
        raise InputError(f"{shown(root)}: {has_not}: {listed(list(strange))}")
    if not pairs or not test_pairs:
        raise InputError(f"{shown(root)}: no pictures in {shown(test if pairs else train)}/")
    numbers = {name: classes.index(name) if classes else UNLABELLED for name in test_classes}
    renumbered = ((file, numbers[test_classes[label]] if test_classes else label) for file, label in test_pairs)
    return Arranged(tuple(pairs), more, tuple(renumbered), classes, False, f"{shown(test)}/", unused)


def _one_part(
    scanned: Scan, prefix: str, root: Path, more: Pairs = (), unused: Mapping[str, int] | None = None
) -> Arranged:
    """Hold a fifth of each class out of everything, pretraining included, if there are classes."""
    pairs, classes = _labelled(scanned, prefix, root)
    return hold_out(pairs, more, classes, unused or {}, prefix)


def hold_out(
    pairs: Sequence[tuple[Found, int]],
    more: Pairs,
    classes: tuple[str, ...],
    unused: Mapping[str, int],
    prefix: str = "",
) -> Arranged:
    """Return pictures of which a fifth of each class is held out, by their names without the prefix.

    Where there are no classes, all pictures are in every split.
    """
    if not classes:
        return Arranged((*pairs, *more), (), (), (), True, None, unused)
    held = held_out([os.fsencode(file.path.removeprefix(prefix)) for file, _ in pairs], [label for _, label in pairs])
    train = tuple(pair for pair, out in zip(pairs, held, strict=True) if not out)
    test = tuple(pair for pair, out in zip(pairs, held, strict=True) if out)
    return Arranged(train, more, test, classes, False, HELD_OUT if test else None, unused)


def _labelled(scanned: Scan, prefix: str, root: Path) -> tuple[list[tuple[Found, int]], tuple[str, ...]]:
    """The pictures below a prefix, labelled by their first folder; by none where some lie in no folder."""
    files = _below(scanned, prefix)
    tops = [file.path.removeprefix(prefix).split("/")[:-1][:1] for file in files]
    names = sorted({top[0] for top in tops if top})
    if names and [] in tops:
        loose = f"{tops.count([])} of {len(files)} pictures lie in no class folder"
        warnings.warn(f"{shown(root / prefix)}: {loose}: all are used, without labels", stacklevel=2)
        names = []
    if not names:
        return [(file, UNLABELLED) for file in files], ()
    inner = (path.removeprefix(prefix) for path in scanned.folders if path.startswith(prefix))
    if empty := sorted({path for path in inner if "/" not in path} - set(names)):
        holds = [by_suffix(path for path in scanned.others if path.startswith(f"{prefix}{name}/")) for name in empty]
        named = [f"{shown(name)} (holds {told(h, 3) or 'nothing'})" for name, h in zip(empty, holds, strict=True)]
        why = "".join(f"; not read: {line}" for line in unread(sum(map(Counter, holds), Counter())))
        raise InputError(f"{shown(root / prefix)}: class folders without a picture: {listed(named)}{why}")
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(file, numbers[top[0]]) for file, top in zip(files, tops, strict=True)]
    return pairs, tuple(shown(name) for name in names)
