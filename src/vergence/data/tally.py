"""What is known of a folder's pictures once they have been read, and what is refused."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vergence.config import Folder
from vergence.data.arrange import Arranged, Pairs
from vergence.data.content import WHOLE_RANGE, Reading
from vergence.data.images import Images
from vergence.data.scan import Bad, Scan
from vergence.data.sources import Source
from vergence.errors import InputError
from vergence.files.names import listed

if TYPE_CHECKING:
    from vergence.data.picture import Picture

MOST_BAD = 0.1
"""With `bad_images="skip"`, the share of pictures that may be left out."""

FAINT = 32
"""A picture whose values span no more than this, of 255, hardly uses its range."""


class About(NamedTuple):
    """What is known of a picture, or, as columns, of several.

    Attributes:
        digest: 16 bytes of a hash of its pixels.
        side: the shorter side of its file in pixels.
        pages: pages or frames in its file.
        dropped: bands of its file that are in no pixel.
        highest: the greatest value of a file of one gray band of 16 bits; -1 of others.
        darkest: its least value, 0 to 255.
        brightest: its greatest value.
        constant: whether it is of one colour.
    """

    digest: Any
    side: Any
    pages: Any
    dropped: Any
    highest: Any
    darkest: Any
    brightest: Any
    constant: Any


def reading_key(config: Folder) -> dict[str, Any]:
    """Return the settings of the reading that are not the default, and so part of a cache's key."""
    values = {name: getattr(config, name) for name in ("channels", "range", "most_pixels")}
    return {name: value for name, value in values.items() if value != getattr(Folder, name)}


@dataclass(frozen=True)
class Task:
    """Pictures, sorted, and how they are to be read.

    Attributes:
        strict: whether too many bad pictures are refused; else all others are read, for who wants to know.
    """

    config: Folder
    roots: Sequence[Path]
    source: Source
    cache_dir: Path
    strict: bool = True

    @property
    def scanned(self) -> Scan:
        """What lies there."""
        return self.source.scanned

    @property
    def arranged(self) -> Arranged:
        """The pictures by their splits."""
        return self.source.arranged

    @property
    def reading(self) -> Reading:
        """How the settings have a file read."""
        return Reading(self.config.bands, self.config.span, most_pixels=self.config.most_pixels)

    def top_of(self, highest: int) -> int:
        """Return `top_of` of these pictures, where the settings leave it to them."""
        return top_of(highest) if self.config.range == "auto" else WHOLE_RANGE

    @property
    def parts(self) -> dict[str, Pairs]:
        """The pictures with their labels, one part after the other."""
        return {"train": self.arranged.train, "unlabelled": self.arranged.unlabelled, "test": self.arranged.test}


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        images: gives some of the pictures, which stand in the order of the parts; without names and classes.
        notes: of all of them (`notes_of`).
        folder: where they are kept.
    """

    images: Callable[[slice], Images]
    notes: Mapping[str, Any]
    folder: Path


def look_at(picture: "Picture", pixels: UInt8[np.ndarray, "3 h w"]) -> About:
    """Return what is known of a picture, of which these pixels are kept."""
    pixels = np.ascontiguousarray(pixels)
    hasher = hashlib.blake2b(b"%d %d" % pixels.shape[1:], digest_size=16)
    hasher.update(pixels.data)
    least, most = pixels.min((1, 2)), pixels.max((1, 2))
    return About(
        digest=hasher.digest(),
        side=picture.side,
        pages=picture.pages,
        dropped=picture.dropped,
        highest=-1 if picture.highest is None else picture.highest,
        darkest=int(least.min()),
        brightest=int(most.max()),
        constant=bool((least == most).all()),
    )


def columns(pictures: Iterable[About]) -> About:
    """Return the columns of a table of pictures."""
    about = About(*zip(*pictures, strict=True))
    digests = np.frombuffer(b"".join(about.digest), DIGEST)
    return About(digests, *(np.asarray(column) for column in about[1:]))


DIGEST = np.dtype([("first", "<u8"), ("last", "<u8")])
"""Sixteen bytes that can be compared and sorted."""


def top_of(highest: int) -> int:
    """Return the gray value of 16 bits that becomes 255, where no picture of a folder has more than `highest`."""
    enough = highest > WHOLE_RANGE // 4 or highest < 0  # else as of a camera of 12 bits
    return WHOLE_RANGE if enough else (1 << max(8, highest.bit_length())) - 1


def notes_of(about: About, names: Mapping[str, Sequence[str]], bad: Iterable[Bad], top: int) -> dict[str, Any]:
    """Return what is worth knowing of a folder's pictures, as JSON values.

    Args:
        about: columns of the pictures, one part after the other.
        names: of the pictures of each part.
        bad: what was left out.
        top: the gray value of 16 bits that became 255.
    """
    test = len(about.digest) - len(names["test"])
    constant = about.constant.astype(bool)
    highest = int(about.highest.max())
    counts = {part: len(of) for part, of in names.items()}
    counts |= {
        "repeated": len(about.digest) - len(np.unique(about.digest)),
        "test_in_train": int(np.isin(about.digest[test:], about.digest[:test]).sum()),
        "constant": int(constant.sum()),
        "faint": int(((about.brightest - about.darkest <= FAINT) & ~constant).sum()),
        "dropped": int((about.dropped > 0).sum()),
        "paged": int((about.pages > 1).sum()),
        "pages_unused": int((about.pages - 1).sum()),
        "pages_most": int(about.pages.max()),
        "darkest": int(about.darkest.min()),
        "brightest": int(about.brightest.max()),
    }
    sides = about.side.tolist()
    return {
        "counts": counts,
        "bad": [{"name": b.name, "reason": b.reason} for b in bad],
        "names": [name for part in names.values() for name in part],
        "side": {"smallest": min(sides), "median": statistics.median_low(sides), "largest": max(sides)},
        "sides": {str(side): count for side, count in sorted(Counter(sides).items())},
        "scaled": {"highest": None if highest < 0 else highest, "top": top},
    }


def judge(task: Task, bad: list[Bad], trained: set[int]) -> None:
    """Refuse a folder with too many bad pictures; one with nothing but bad pictures however it is read.

    Args:
        task: what was to be read.
        bad: the pictures that could not be.
        trained: the classes of the training pictures that could.

    Raises:
        InputError: there are any and the settings say so, or more than `MOST_BAD`, or a class has lost all.
    """
    why = refusal(task, bad, trained)
    if why is not None and (task.strict or len(bad) == _count(task)):
        raise InputError(why)


def refusal(task: Task, bad: Sequence[Bad], trained: Collection[int]) -> str | None:
    """Return why a run refuses a folder with these bad pictures; None where it does not. Arguments as of `judge`."""
    root, count = task.source.where, _count(task)
    named = listed([f"{b.name} ({b.reason})" for b in bad])
    if len(bad) == count:
        return f"{root}: none of the {count} pictures can be used: {named}"
    if bad and task.config.bad_images == "fail":
        return (
            f"{root}: {len(bad)} of {count} pictures cannot be used: {named}; mend or remove them, "
            "or leave them out with --data.bad-images skip"
        )
    if len(bad) > MOST_BAD * count:
        most = f"more than the {MOST_BAD:.0%} that may be skipped"
        return f"{root}: {len(bad)} of {count} pictures cannot be used, {most}: {named}"
    if lost := [name for number, name in enumerate(task.arranged.classes) if number not in trained]:
        return f"{root}: classes of which no training picture can be read: {listed(lost)}"
    return None


def _count(task: Task) -> int:
    return len(task.arranged.pairs) + len(task.scanned.bad)
