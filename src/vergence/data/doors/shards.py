"""Shards of a data set: which files they are, whether all are there, and which split each belongs to."""

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vergence.data.doors.door import split_in, status_of
from vergence.data.scan import SUFFIXES, Found, suffix_of
from vergence.errors import InputError
from vergence.files.names import listed, shown

TABLES = frozenset((".parquet", ".arrow", ".feather"))
TARS = frozenset((".tar",))
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".7z", ".rar")

_DEEPEST = 3  # folders below the root, as in data/config/train/0000.parquet
_MOST = 100_000  # shards that a pattern may name
_NUMBERED = re.compile(r"(.*?)[-_.]?(\d{1,9})-of-(\d{1,9})(?:-[0-9a-f]{8,})?")
_RANGE = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")


@dataclass(frozen=True)
class Shard:
    """A file that holds pictures.

    Attributes:
        path: where it lies.
        name: the name from the folder that was given, with slashes; its pictures' names begin so.
        split: the split that its name or folder says, as written.
        size: its bytes.
        changed: the time of its change, in nanoseconds.
    """

    path: Path
    name: str
    split: str | None
    size: int
    changed: int

    def picture(self, name: object) -> Found:
        """Return a picture of this shard, which has changed when the shard has."""
        return Found(f"{self.name}/{name}", self.size, self.changed)


def shard(path: Path, name: str, split: str | None) -> Shard:
    """Return a shard as it lies on the disk.

    Raises:
        InputError: no plain file is there.
    """
    status = status_of(path)
    if status is None:
        raise InputError(f"{shown(path)} is no file; put the shard there, or name the shards that there are")
    return Shard(path, name, split, status.st_size, status.st_mtime_ns)


def shards_in(root: Path) -> list[Path]:
    """Return the shards in a folder and the folders below it; none where there is even one picture file.

    Raises:
        InputError: shards of two kinds, or packed ones.
    """
    found: list[Path] = []
    packed: list[Path] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path, suffix = Path(entry), suffix_of(entry.name)
                    if entry.name.startswith(".") or (suffix == ".arrow" and entry.name.startswith("cache-")):
                        continue  # cache-*.arrow: what `datasets` keeps of its computations
                    if entry.is_dir():
                        if depth < _DEEPEST:
                            waiting.append((path, depth + 1))
                    elif suffix in SUFFIXES:
                        return []
                    elif suffix in TABLES | TARS:
                        found.append(path)
                    elif entry.name.lower().endswith(PACKED):
                        packed.append(path)
        except OSError:  # a folder that may not be read: whoever scans it for pictures says so
            return []
    if packed:
        raise refusal_of_packed(min(packed))
    kinds = Counter(path.suffix.lower() for path in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{count:,} {suffix}" for suffix, count in kinds.most_common())
        raise InputError(f"{shown(root)}: shards of several kinds ({counts}); name the files or the folder of one kind")
    return sorted(found)


def refusal_of_packed(path: Path) -> InputError:
    """Return the error that says what to do with a packed archive."""
    return InputError(f"{shown(path)}: a packed archive cannot be read in places; unpack it first, and name its folder")


def shards_below(paths: Sequence[Path], root: Path) -> tuple[Shard, ...]:
    """Return shards named from `root`, each with its split.

    The split is a word such as "train" in the name of a folder, else in the file's; or whatever stands before
    `-00000-of-00002` where that is not the same for all.

    Raises:
        InputError: one is no file, or some name a split and others do not.
    """
    names = [path.relative_to(root).as_posix() for path in paths]
    splits = [split_in(name.rpartition("/")[0]) or split_in(path.stem) for name, path in zip(names, paths, strict=True)]
    if None in splits:
        numbered = [_NUMBERED.fullmatch(path.stem) for path in paths]
        before = [split or (number and number[1]) or None for split, number in zip(splits, numbered, strict=True)]
        splits = before if len(set(before)) > 1 else [None] * len(paths)
        if None in splits and set(splits) != {None}:
            without = [shown(name) for name, split in zip(names, splits, strict=True) if split is None]
            named = listed(sorted({shown(split) for split in splits if split}))
            raise InputError(
                f"{shown(root)}: some shards name a split ({named}), others do not ({listed(without)}); "
                "rename them, or name the files of one kind"
            )
    return tuple(shard(path, name, split) for path, name, split in zip(paths, names, splits, strict=True))


def check_complete(paths: Iterable[Path]) -> None:
    """Refuse half of the data that would pass for all of it.

    Raises:
        InputError: there are fewer shards, or more, than `-of-00002` in their names says.
    """
    numbers: defaultdict[tuple[Path, str, int], list[int]] = defaultdict(list)
    for path in paths:
        if said := _NUMBERED.fullmatch(path.stem):
            numbers[path.parent, said[1], int(said[3])].append(int(said[2]))
    for (folder, prefix, total), there in numbers.items():
        if sorted(there) != list(range(min(total, len(there) + 1))):
            absent = next((number for number in range(total) if number not in there), None)
            missing = "a number is there twice" if absent is None else f"the first that is missing is number {absent}"
            like = f"{shown(prefix)}-*-of-*{total}"
            raise InputError(f"{shown(folder)}: {len(there)} of {total} shards like {like}; {missing}; get them all")


def expanded(pattern: Path) -> list[Path]:
    """Return the paths that a name such as `train-{000..009}.tar` or `{train,val}-{00..07}.tar` stands for.

    Raises:
        InputError: more than 100,000 paths, or a range that runs backwards.
    """
    texts = [pattern.name]
    while any(_RANGE.search(text) for text in texts):
        longer = itertools.chain.from_iterable(_once(text) for text in texts)
        texts = list(itertools.islice(longer, _MOST + 1))
        if len(texts) > _MOST:
            raise InputError(f"{shown(pattern)}: stands for more than {_MOST:,} shards; name their folder")
    return [pattern.parent / text for text in texts]


def _once(text: str) -> list[str]:
    found = _RANGE.search(text)
    if found is None:
        return [text]
    if found[3] is not None:
        middles = found[3].split(",")
    else:
        first, last = int(found[1]), int(found[2])
        if last < first or last - first >= _MOST:
            raise InputError(f"{shown(text)}: a range from {first} to {last}; write the smaller number first")
        middles = [f"{number:0{len(found[1])}}" for number in range(first, last + 1)]
    return [text[: found.start()] + middle + text[found.end() :] for middle in middles]
