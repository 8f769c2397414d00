"""The splits, and one fixed way to hold pictures out for testing."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

Split = Literal["pretrain", "train", "test"]
"""What views are cut from, what probes are fitted on, what probes are scored on."""

TEST_SHARE = 0.2


def held_out(keys: Sequence[bytes], labels: Sequence[int]) -> list[bool]:
    """Which pictures are test pictures: a fifth of every class, rounded; a class of one or two keeps all for training.

    The order is that of the keys' SHA-256: it depends on no library's random numbers, and a picture that is added to a
    class leaves nearly all others where they were.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    test = [False] * len(keys)
    for indices in members.values():
        shuffled = sorted(indices, key=lambda index: (hashlib.sha256(keys[index]).digest(), index))
        for index in shuffled[: round(TEST_SHARE * len(indices))]:
            test[index] = True
    return test
