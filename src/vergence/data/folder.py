"""A folder of pictures, labelled by subfolder or not at all."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vergence.config import Folder
from vergence.data.cache import UNLABELLED, Writer, cached, files_digest
from vergence.data.images import Images
from vergence.data.scan import SUFFIXES, Bad, Found, Scan, scan
from vergence.data.splits import Split, held_out
from vergence.errors import InputError
from vergence.names import listed, shown

MOST_BAD = 0.1
"""With `bad_images="skip"`, the share of pictures that may be left out."""

_TEST_NAMES = ("test", "val", "validation")
_BLOCK = 256


@dataclass(frozen=True)
class Arranged:
    """A scan sorted into splits: pictures with their labels, `UNLABELLED` for those without."""

    train: tuple[tuple[Found, int], ...]
    test: tuple[tuple[Found, int], ...]
    classes: tuple[str, ...]
    shared: bool  # nothing is labelled, nothing held out: every split is all pictures


def load(config: Folder, split: Split, root: Path, cache_dir: Path) -> Images:
    """A split of a folder; see `docs/data.md` for what makes a split or a class.

    Raises:
        InputError: no folder, no pictures, an arrangement that can be read in two ways, or bad pictures: any of them,
            or more than `MOST_BAD` of all if they are to be skipped.
    """
    import PIL

    from vergence.data.picture import RULES

    scanned = scan(root)
    arranged = arrange(scanned, root)
    files = [file for file, _ in arranged.train + arranged.test]
    identity = {
        "root": str(root.resolve()),
        "files": files_digest((file.path, file.size, file.changed) for file in files),
        "arranged": [len(arranged.train), hashlib.sha256(repr(_labels(arranged)).encode()).hexdigest()],
        "bad": [f"{bad.name}: {bad.reason}" for bad in scanned.bad],
        "size": config.size,
        "bad_images": config.bad_images,
        "rules": RULES,
        "pillow": PIL.__version__,
    }
    decoded = cached(
        cache_dir,
        "folder",
        identity,
        config.size,
        config.size,
        lambda writer: _decode(config, root, scanned, arranged, writer),
    )
    _warn(root, decoded.notes, decoded.folder)
    count = decoded.notes["counts"]["train"]
    if arranged.shared:
        return decoded.images((), config.size)
    if split == "test" and count == len(decoded.labels):
        raise InputError(f"{shown(root)}: no test pictures: add a folder test/, or three pictures or more to a class")
    return decoded.images(arranged.classes, config.size, slice(count, None) if split == "test" else slice(0, count))


def _labels(arranged: Arranged) -> list[int]:
    return [label for _, label in arranged.train + arranged.test]


def arrange(scanned: Scan, root: Path) -> Arranged:
    """Sort pictures into splits and classes by the names of their folders.

    Raises:
        InputError: no pictures, an empty class, a test class that is not trained, or a folder `train` that may be a
            split or a class.
    """
    if not scanned.found:
        found = f"{len(scanned.folders)} folders, {scanned.others} other files, {len(scanned.bad)} that cannot be read"
        raise InputError(f"{shown(root)}: no pictures: found {found}; expected {', '.join(sorted(SUFFIXES))}")
    tops = {path for path in scanned.folders if "/" not in path}
    test_name = next((name for name in _TEST_NAMES if name in tops), None)
    if "train" not in tops:
        if test_name is not None:
            raise InputError(f"{shown(root)}: has {test_name}/ but no train/ beside it")
        return _one_part(scanned, "", root)
    if test_name is None:
        beside = sorted({file.path.split("/")[0] for file in scanned.found if "/" in file.path} - {"train"})
        if beside:
            raise InputError(
                f"{shown(root)}: is train/ a split or a class like {listed([shown(name) + '/' for name in beside])}? "
                "rename it if it is a class; add a folder test/ if it is a split"
            )
        return _one_part(scanned, "train/", root)
    train, classes = _labelled(scanned, "train/", root)
    test, test_classes = _labelled(scanned, f"{test_name}/", root)
    if classes and (strange := sorted(set(test_classes) - set(classes))):
        raise InputError(f"{shown(root)}: {test_name}/ has classes that train/ has not: {listed(list(strange))}")
    if not train or not test:
        raise InputError(f"{shown(root)}: no pictures in {test_name if train else 'train'}/")
    numbers = {name: classes.index(name) if classes else UNLABELLED for name in test_classes}
    renumbered = [(file, numbers[test_classes[label]] if test_classes else label) for file, label in test]
    return Arranged(tuple(train), tuple(renumbered), classes, shared=False)


def _one_part(scanned: Scan, prefix: str, root: Path) -> Arranged:
    """Hold a fifth of each class out of everything, pretraining included, if there are classes."""
    pairs, classes = _labelled(scanned, prefix, root)
    if not classes:
        return Arranged(tuple(pairs), (), (), shared=True)
    test = held_out([os.fsencode(file.path.removeprefix(prefix)) for file, _ in pairs], [label for _, label in pairs])
    train = tuple(pair for pair, held in zip(pairs, test, strict=True) if not held)
    return Arranged(train, tuple(pair for pair, held in zip(pairs, test, strict=True) if held), classes, shared=False)


def _labelled(scanned: Scan, prefix: str, root: Path) -> tuple[list[tuple[Found, int]], tuple[str, ...]]:
    """The pictures below a prefix, labelled by their first folder; by none where some lie in no folder."""
    files = [file for file in scanned.found if file.path.startswith(prefix)]
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
        raise InputError(
            f"{shown(root / prefix)}: class folders without a picture: {listed([shown(n) for n in empty])}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(file, numbers[top[0]]) for file, top in zip(files, tops, strict=True)]
    return pairs, tuple(shown(name) for name in names)


def _decode(config: Folder, root: Path, scanned: Scan, arranged: Arranged, writer: Writer) -> dict[str, Any]:
    """Decode every picture into the cache; notes what was left out, and what occurs twice."""
    from vergence.data.picture import strict_pillow

    bad = list(scanned.bad)
    seen: dict[bytes, str] = {}
    counts = {"train": 0, "test": 0, "repeated": 0, "test_in_train": 0, "constant": 0}
    present: set[int] = set()
    # each thread holds a whole picture; more than 16 would cost memory before they gain time
    with strict_pillow(), ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for part, pairs in (("train", arranged.train), ("test", arranged.test)):
            for good, labels in _blocks(root, config.size, pairs, pool, bad):
                writer.add(good, labels)
                counts[part] += len(good)
                if part == "train":
                    present.update(labels.tolist())
                for picture in good:
                    first = seen.setdefault(hashlib.blake2b(picture.data, digest_size=16).digest(), part)
                    counts["constant"] += bool((picture == picture[:, :1, :1]).all())
                    counts["test_in_train"] += part == "test" and first == "train"
                    counts["repeated"] += 1
    counts["repeated"] -= len(seen)
    counts |= {"doubles": scanned.doubles, "others": scanned.others}
    _judge(config, root, bad, len(arranged.train) + len(arranged.test) + len(scanned.bad))
    if lost := [name for number, name in enumerate(arranged.classes) if number not in present]:
        raise InputError(f"{shown(root)}: classes of which no training picture can be read: {listed(lost)}")
    return {"counts": counts, "bad": [{"name": b.name, "reason": b.reason} for b in bad]}


def _blocks(
    root: Path, size: int, pairs: tuple[tuple[Found, int], ...], pool: ThreadPoolExecutor, bad: list[Bad]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels, some hundreds at a time; those that cannot be decoded go to `bad`."""
    from vergence.data.picture import BadPicture, decode

    def attempt(pair: tuple[Found, int]) -> np.ndarray | Bad:
        try:
            return decode(root, pair[0], size)
        except BadPicture as error:
            return Bad(shown(pair[0].path), str(error))

    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        results = list(pool.map(attempt, block))
        bad.extend(result for result in results if isinstance(result, Bad))
        good = [(r, label) for r, (_, label) in zip(results, block, strict=True) if not isinstance(r, Bad)]
        if good:
            yield np.stack([picture for picture, _ in good]), np.asarray([label for _, label in good], np.int64)


def _judge(config: Folder, root: Path, bad: list[Bad], count: int) -> None:
    """Refuse what cannot be used."""
    named = listed([f"{b.name} ({b.reason})" for b in bad])
    if len(bad) == count:
        raise InputError(f"{shown(root)}: none of the {count} pictures can be used: {named}")
    if bad and config.bad_images == "fail":
        raise InputError(
            f"{shown(root)}: {len(bad)} of {count} pictures cannot be used: {named}; mend or remove them, "
            'or set bad_images to "skip"'
        )
    if len(bad) > MOST_BAD * count:
        most = f"more than the {MOST_BAD:.0%} that may be skipped"
        raise InputError(f"{shown(root)}: {len(bad)} of {count} pictures cannot be used, {most}: {named}")


def _warn(root: Path, notes: dict[str, Any], folder: Path) -> None:
    if bad := notes["bad"]:
        text = f"{shown(root)}: {len(bad)} pictures that cannot be used were left out: {shown(folder / 'bad.json')}"
        warnings.warn(text, stacklevel=4)
    if twice := notes["counts"]["doubles"]:
        text = f"{shown(root)}: {twice} files and folders are reached twice, by links; each is used once"
        warnings.warn(text, stacklevel=4)
    if double := notes["counts"]["test_in_train"]:
        warnings.warn(f"{shown(root)}: {double} test pictures are among the training pictures too", stacklevel=4)
