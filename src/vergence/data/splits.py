"""The splits, and one fixed way to hold pictures out of training."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal

Split = Literal["pretrain", "train", "test"]
"""What views are cut from, what probes are fitted on, what probes are scored on."""

TEST_SHARE = 0.2
"""Held out as test pictures where none are published."""

TUNING_SHARE = 0.1
"""Held out of published training pictures, to tune on."""


def held_out(keys: Sequence[bytes | memoryview], labels: Sequence[int], share: float = TEST_SHARE) -> list[bool]:
    """Which pictures are held out: this share of every class, rounded; a fifth of a class of one or two is none.

    The order is that of `shuffled`: a picture that is added to a class leaves nearly all others where they were.
    """
    held = [False] * len(keys)
    for indices in shuffled(keys, labels):
        for index in indices[: round(share * len(indices))]:
            held[index] = True
    return held


def folds(keys: Sequence[bytes | memoryview], labels: Sequence[int], count: int) -> list[int]:
    """The fold of each picture, from 0 to count - 1: each fold has an equal share of every class, rounded."""
    fold = [0] * len(keys)
    for place, index in enumerate(index for indices in shuffled(keys, labels) for index in indices):
        fold[index] = place % count
    return fold


def few(keys: Sequence[bytes | memoryview], labels: Sequence[int], count: Callable[[int], int], seed: int) -> list[int]:
    """The indices of a few pictures of each class, class by class: those that are labelled where labels are few.

    They are a function of the seed and of the pictures' keys, whatever the order of the pictures. Those of a smaller
    count are among those of a larger one.

    Args:
        keys: something of each picture that does not depend on their order, such as a hash of its pixels.
        labels: their classes.
        count: from the number of pictures of a class to the number that is wanted; more than there are is all.
        seed: of the choice.
    """
    seeded = [b"%d:" % seed + bytes(key) for key in keys]
    return [index for indices in shuffled(seeded, labels) for index in indices[: count(len(indices))]]


def shuffled(keys: Sequence[bytes | memoryview], labels: Sequence[int]) -> list[list[int]]:
    """The indices of each class's pictures in the order of the keys' SHA-256.

    That order depends on no library's random numbers and not on the order of the pictures.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    return [
        sorted(members[label], key=lambda index: (hashlib.sha256(keys[index]).digest(), index))
        for label in sorted(members)
    ]
