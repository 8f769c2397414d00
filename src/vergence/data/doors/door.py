"""The contract of a file that lists or holds pictures, and what all such files share: columns, splits, safe paths."""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vergence.data.scan import Found
from vergence.errors import InputError, MachineError, of_the_machine
from vergence.files.names import listed, shown

MOST_BYTES = 1 << 29
"""The most bytes of one encoded picture: it is read whole."""

SPLITS = frozenset(
    "train training test testing val valid validation eval evaluation dev "
    "unlabelled unlabeled unsup unsupervised extra".split()
)
"""Words in the names of shards, folders and arrays that name a split."""

LABELS = ("label", "class", "target", "y", "category", "fine_label", "labels")
"""Columns taken for the label, the first that is there."""

SPLIT_COLUMNS = ("split", "subset", "set", "partition")


@dataclass(frozen=True)
class Listing:
    """Pictures that a file lists or holds, in its order.

    Attributes:
        found: a unique name for each picture (`cats/1.jpg`, `part-0.parquet/17`, `shard-000.tar/a.jpg`), with the bytes
            and the time of change of the file that tells whether the picture has changed.
        labels: the name of each picture's class, None where it has none; None where there are no labels at all.
        classes: names of classes in the order of their numbers, where the file says it; else None.
        splits: each picture's split as it is written; None where the file knows of no splits.
    """

    found: Sequence[Found]
    labels: Sequence[str | None] | None = None
    classes: tuple[str, ...] | None = None
    splits: Sequence[str] | None = None


class Door(Protocol):
    """What lists or holds pictures."""

    def listing(self) -> Listing:
        """Return all pictures, without opening one.

        Raises:
            InputError: the file is damaged or incomplete, or does not say where its pictures are.
        """
        ...

    def contents(self, wanted: Sequence[Found]) -> Iterator[bytes | np.ndarray]:
        """Yield the encoded bytes, or the values [h w] or [h w c], uint8 or uint16, of each wanted picture.

        Args:
            wanted: some of the listing's pictures, in its order. They are read one after another, in memory that does
                not grow with their number.

        Raises:
            InputError: a picture is missing or damaged, or its file has changed since it was listed.
        """
        ...


