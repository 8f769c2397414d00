"""WebDataset: tar files of samples, each a picture and what is known of it, found by one pass over the headers."""

import itertools
import json
import re
import sys
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO

from vergence.data.doors.door import Listing, check_bytes, class_name, listing_of, opened, reading
from vergence.data.doors.shards import Shard, refusal_of_packed
from vergence.data.scan import LIKE_PICTURES, SUFFIXES, Found, suffix_of
from vergence.errors import InputError
from vergence.files.names import listed, shown
from vergence.machine.progress import counted

MOST_MEMBERS = 10_000_000
"""The most members of one shard."""

_MOST_HEADER = 1 << 13
"""The most bytes read at once, and so the longest header: tarfile may take a time to search one that grows with the
square of its length (CVE-2024-6232)."""

_MOST_TEXT = 1 << 20  # bytes of a label, or of a JSON with one
_MOST_PADDING = 1 << 20  # zeros at the end of an archive, which is filled up to whole records
_MOST_NAMED = 100  # suffixes and fields kept for an error line
_LONGEST_NUMBER = 18  # digits
_SOURCES = (".cls", "label", "class", ".txt")
"""Where labels are looked for: suffixes, and fields of `.json`."""

_Parts = dict[str, tuple[int, int]]
"""By suffix, the first byte of a sample's part and the number of its bytes."""


class _Headers:
    """A file of which headers are read, and never much at once, however long one says that it is."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes, more than {_MOST_HEADER:,}")
        return self._file.read(size)


@dataclass
class _Index:
    """All pictures of all shards in a few bytes each, and their labels by where these stand."""

    found: list[Found] = field(default_factory=list)
    shards: "array[int]" = field(default_factory=lambda: array("l"))
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    there: set[str] = field(default_factory=set)

    def label(self, values: dict[str, str | None]) -> None:
        """Add the labels of the picture that was added last."""
        for source in values:
            if source not in self.labels:
                self.labels[source] = [None] * (len(self.found) - 1)
        for source, column in self.labels.items():
            column.append(values.get(source))


@dataclass(frozen=True)
class WebDataset:
    """Shards of samples: files whose names are the same up to the first dot.

    Attributes:
        shards: the tar files, in order.
        labels: "auto" takes `.cls`, else the field `label` or `class` of `.json`, else `.txt` where it is a whole
            number everywhere; "none" takes none; else the suffix, or the field of `.json`, of that name.
    """

    shards: tuple[Shard, ...]
    labels: str

    def listing(self) -> Listing:
        """Return the picture of each sample, named by its shard and its name in there.

        Raises:
            InputError: a shard is cut short or damaged, holds links or a name twice; a sample has several pictures, or
                a label and no picture; there are no labels of the name that is asked for.
        """
        index = self._index
        columns = (index.labels[source] for source in self._sources if source in index.labels)
        labels = next((tuple(column) for column in columns if "" not in column and any(column)), None)
        if labels is None and self.labels not in ("auto", "none"):
            there = listed([shown(name) for name in sorted(index.there)], 10)
            where = shown(self.shards[0].path)
            raise InputError(f"{where}: no label '{shown(self.labels)}' in any sample; suffixes and fields: {there}")
        splits = [self.shards[number].split for number in index.shards]
        listing = listing_of(index.found, labels or [], splits, self.shards[0].path)
        return replace(listing, files=[one.path for one in self.shards])

    def contents(self, wanted: Sequence[Found]) -> Iterator[bytes]:
        """Yield the bytes of each wanted picture, read at its place in the shard."""
        index = self._index
        for number, places in itertools.groupby(self._places(wanted), key=lambda place: index.shards[place]):
            shard = self.shards[number]
            with opened(shard.path, shard.picture("")) as file:
                for place in places:
                    check_bytes(index.sizes[place], index.found[place].path)
                    with reading(shard.path, "a file that can be read"):
                        file.seek(index.starts[place])
                        data = file.read(index.sizes[place])
                    yield data

    def _places(self, wanted: Sequence[Found]) -> Iterator[int]:
        everything = enumerate(self._index.found)
        for picture in wanted:
            yield next(place for place, found in everything if found.path == picture.path)

    @property
    def _sources(self) -> tuple[str, ...]:
        if self.labels == "none":
            return ()
        return _SOURCES if self.labels == "auto" else (f".{self.labels.removeprefix('.')}", self.labels)

    @cached_property
    def _index(self) -> _Index:
        index = _Index()
        for number, shard in enumerate(counted("listing shards", self.shards, len(self.shards))):
            before = len(index.found)
            with opened(shard.path, shard.picture("")) as file:
                samples = _samples(shard, file)
                for key, parts in samples.items():
                    if (suffix := _picture_of(shard, key, parts)) is not None:
                        index.found.append(shard.picture(key + suffix))
                        index.shards.append(number)
                        index.starts.append(parts[suffix][0])
                        index.sizes.append(parts[suffix][1])
                        index.label(self._labels_of(shard, key, parts, file, index.there))
            if len(index.found) == before:
                suffixes = sorted({suffix for parts in samples.values() for suffix in parts})
                there = listed([shown(suffix or "none") for suffix in suffixes], 10) or "nothing"
                raise InputError(f"{shown(shard.path)}: no sample with a picture; suffixes of what it holds: {there}")
        return index

    def _labels_of(
        self, shard: Shard, key: str, parts: _Parts, file: BinaryIO, there: set[str]
    ) -> dict[str, str | None]:
        """The labels of a sample, by where they stand; empty text for a `.txt` that is no number."""
        labels: dict[str, str | None] = {}
        sources = self._sources
        if len(there) < _MOST_NAMED:
            there.update(parts)
        for suffix in sources:
            if suffix in parts:
                text = _text(file, shard, key + suffix, parts[suffix])
                labels[suffix] = _label(text, f"{shard.path}: {key}{suffix}")
                if self.labels == "auto" and suffix == ".txt" and not (labels[suffix] or "").isdecimal():
                    labels[suffix] = ""
        if sources and ".json" in parts and ".cls" not in labels:
            with reading(f"{shard.path}: {key}.json", "an object"):
                fields = json.loads(_text(file, shard, f"{key}.json", parts[".json"]))
            if isinstance(fields, dict):
                if len(there) < _MOST_NAMED:
                    there.update(fields)
                place = f"{shard.path}: {key}.json"
                labels |= {name: class_name(fields[name], None, place) for name in sources if name in fields}
        return {source: value and sys.intern(value) for source, value in labels.items()}


def _label(text: str, place: str) -> str | None:
    number = re.fullmatch(rf"[+-]?\d{{1,{_LONGEST_NUMBER}}}", text.strip())
    return class_name(int(text) if number else text, None, place)


def _text(file: BinaryIO, shard: Shard, name: str, part: tuple[int, int]) -> str:
    start, size = part
    if size > _MOST_TEXT:
        raise InputError(f"{shown(shard.path)}: {shown(name)}: {size:,} bytes, more than {_MOST_TEXT:,} for a label")
    with reading(f"{shard.path}: {name}", "a text"):
        file.seek(start)
        return file.read(size).decode()


def _picture_of(shard: Shard, key: str, parts: _Parts) -> str | None:
    """The suffix of a sample's picture; None for a sample of other things."""
    pictures = [suffix for suffix in parts if suffix_of(f"x{suffix}") in SUFFIXES]
    # beside x.jpg, x.depth.png belongs to it
    pictures = [suffix for suffix in pictures if suffix.count(".") == 1] or pictures
    where = f"{shown(shard.path)}: sample {shown(key)}"
    if len(pictures) > 1:
        raise InputError(f"{where} has {len(pictures)} pictures ({listed([shown(s) for s in pictures])}); keep one")
    if pictures:
        return pictures[0]
    if ".cls" in parts or any(suffix_of(f"x{suffix}") in LIKE_PICTURES for suffix in parts):
        raise InputError(f"{where} has no picture that is read, only {listed([shown(s) for s in parts], 5)}; mend it")
    return None


def _samples(shard: Shard, file: BinaryIO) -> dict[str, _Parts]:
    """The samples of a shard, in the order of their first parts.

    Their parts need not follow each other: tar packs a folder in the order of the disk.
    """
    samples: dict[str, _Parts] = {}
    if file.read(2) == b"\x1f\x8b":
        raise refusal_of_packed(shard.path)
    file.seek(0)
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # pyright: ignore
            for _ in range(MOST_MEMBERS):
                member = tar.next()
                if member is None:
                    break
                tar.members.clear()  # it keeps them all
                _add(shard, samples, member)
            else:
                raise InputError(f"{shown(shard.path)}: more than {MOST_MEMBERS:,} members; make more shards of it")
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of the archive")
    # ValueError, OverflowError: what tarfile makes of numbers and texts in a header that are none
    except (tarfile.TarError, EOFError, RecursionError, ValueError, OverflowError) as error:
        # the last one that was begun may lack a part
        last = shown(next(itertools.islice(reversed(samples), 1, None), "")) or "none"
        raise InputError(
            f"{shown(shard.path)}: cut short or damaged ({shown(str(error))[:200]}); last whole sample: {last}; "
            "get it again"
        ) from error
    if any(file.read(_MOST_PADDING)):
        raise InputError(f"{shown(shard.path)}: goes on after its end, as tars put together do; make one tar of them")
    return samples


def _add(shard: Shard, samples: dict[str, _Parts], member: tarfile.TarInfo) -> None:
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    if not (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()):
        what = "a link, which is not followed" if member.islnk() or member.issym() else "no plain file"
        raise InputError(f"{shown(shard.path)}: '{shown(name)}' is {what}; pack the file itself")
    if member.size < 0:
        raise tarfile.ReadError("a size below 0")
    folder, slash, base = name.rpartition("/")
    if base.startswith("."):
        return
    stem, dot, rest = base.partition(".")
    parts = samples.setdefault(f"{folder}{slash}{stem}", {})
    suffix = sys.intern(dot + rest)
    if suffix in parts:
        raise InputError(f"{shown(shard.path)}: '{shown(name)}' is there twice; keep one")
    parts[suffix] = (member.offset_data, member.size)
