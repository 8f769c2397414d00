"""Pictures that repeat others, told by a perceptual hash and then by their thumbnails.

The hash is that of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1:
the sign, about their median, of 64 coefficients of the discrete cosine transform of a small gray picture. Neither a
change of size nor of brightness or contrast moves it much, and a JPEG loses other coefficients first. Flat and simple
pictures have like hashes too, so that a pair counts only where the thumbnails agree. `docs/data.md` has the distances.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from vergence.augment import Boxes, Ragged

SIDE = 32
"""Side in pixels of a thumbnail."""

NEAR = 10
"""Bits of 64 by which the hashes of a picture and its copy differ, at most."""

AGREEING = 0.96
"""The correlation of the thumbnails of a picture and its copy, at least."""

SMALL = 64
"""Thumbnails of pictures with a side of fewer pixels are compared at half their side: the rest is resampling's."""

LEAST = 16
"""Pictures with a side of fewer pixels are not compared: different ones agree as copies do."""

DETAIL = 4.0
"""The standard deviation of a thumbnail's gray values, of 255, below which a picture has nothing to be told by."""

MOST_PAIRS = 1_000_000
"""A search ends with so many pairs of like hashes."""

_BLOCK, _TILE = 512, 4096
_GRAY = (0.299, 0.587, 0.114)


class Pairs(NamedTuple):
    """Pairs of pictures by their indices, the first less than the second.

    Attributes:
        first: [m].
        second: [m].
        complete: whether the search went through all pictures.
    """

    first: Int64[Tensor, " m"]
    second: Int64[Tensor, " m"]
    complete: bool


def thumbnails(pixels: UInt8[Tensor, "n 3 h w"] | Ragged, side: int = SIDE) -> UInt8[Tensor, "n 3 {side} {side}"]:
    """Return the whole of each picture as a square, its sides scaled apart; those of `Ragged` are decoded."""
    empty = torch.empty(0, 3, side, side, dtype=torch.uint8)
    return torch.cat([empty, *(_reduced(part, side) for part in pixels.split(_BLOCK))])


def _reduced(pixels: UInt8[Tensor, "n 3 h w"] | Ragged, side: int) -> UInt8[Tensor, "n 3 {side} {side}"]:
    if isinstance(pixels, Tensor):
        return interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    height, width = pixels.shapes.unbind(1)
    corner = torch.zeros_like(height)
    return pixels.start_cutting([Boxes(corner, corner, height, width)], [side])()[0].contiguous()


def hashes(small: UInt8[Tensor, "n 3 32 32"]) -> Bool[Tensor, "n 64"]:
    """Return the perceptual hash of each thumbnail, 64 bits.

    They are of the rows and columns 1 to 8 of the transform: 0 is the mean, and what is constant along a side.
    """
    place = torch.arange(SIDE)
    waves = torch.cos(math.pi / SIDE * torch.arange(1, 9)[:, None] * (place + 0.5))
    found = [torch.empty(0, 64, dtype=torch.bool)]
    for part in small.split(_TILE):
        coefficients = (waves @ _gray(part) @ waves.T).flatten(1)
        found.append(coefficients > coefficients.median(1, keepdim=True).values)
    return torch.cat(found)


def has_detail(small: UInt8[Tensor, "n 3 32 32"]) -> Bool[Tensor, " n"]:
    """Return whether each picture has something to be told by: gray values that vary by `DETAIL` at least."""
    parts = [_gray(part).flatten(1).std(1) >= DETAIL for part in small.split(_TILE)]
    return torch.cat([torch.empty(0, dtype=torch.bool), *parts])


def _gray(small: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n s s"]:
    return torch.einsum("nchw,c->nhw", small.float(), torch.tensor(_GRAY))


def pairs_within(hashed: Bool[Tensor, "n 64"], distance: int = NEAR, most: int = MOST_PAIRS) -> Pairs:
    """Return all pairs of hashes of which no more than `distance` bits differ.

    Every pair is looked at, by blocks, in memory that does not grow with n. With `most` pairs the search ends early.
    """
    signs = hashed.float() * 2 - 1
    found: list[Int64[Tensor, "m 2"]] = [torch.empty(0, 2, dtype=torch.int64)]
    count = 0
    for start in range(0, len(signs), _BLOCK):
        for other in range(start, len(signs), _TILE):
            # the product of two rows of signs is 64 less twice their distance, exactly
            near = signs[start : start + _BLOCK] @ signs[other : other + _TILE].T >= signs.shape[1] - 2 * distance
            if not near.any():
                continue
            pairs = near.nonzero() + torch.tensor([start, other])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
            count += len(found[-1])
        if count >= most:
            return Pairs(*torch.cat(found)[:most].unbind(1), complete=False)
    return Pairs(*torch.cat(found).unbind(1), complete=True)


def agreement(
    small: UInt8[Tensor, "n 3 32 32"],
    sides: Int64[Tensor, " n"],
    first: Int64[Tensor, " m"],
    second: Int64[Tensor, " m"],
) -> Float[Tensor, " m"]:
    """Return the correlation of the thumbnails of each pair, all colours together. In [-1, 1]; 1 for equal ones.

    Args:
        small: thumbnails.
        sides: the shorter side of each picture in pixels; below `SMALL`, thumbnails are compared at 16 x 16.
        first: one of each pair, by its index.
        second: the other one.
    """
    found = [torch.empty(0)]
    for one, other in zip(first.split(_TILE), second.split(_TILE), strict=True):
        fine, coarse = (_correlation(small[one].float(), small[other].float(), side) for side in (SIDE, SIDE // 2))
        found.append(torch.where(torch.minimum(sides[one], sides[other]) < SMALL, coarse, fine))
    return torch.cat(found)


def _correlation(one: Float[Tensor, "m 3 s s"], other: Float[Tensor, "m 3 s s"], side: int) -> Float[Tensor, " m"]:
    def centred(pictures: Float[Tensor, "m 3 s s"]) -> Float[Tensor, "m d"]:
        values = adaptive_avg_pool2d(pictures, side)
        return torch.nn.functional.normalize((values - values.mean((2, 3), keepdim=True)).flatten(1))

    return (centred(one) * centred(other)).sum(1)


def near_pairs(small: UInt8[Tensor, "n 3 32 32"], sides: Int64[Tensor, " n"]) -> Pairs:
    """Return the pairs of pictures of which one nearly repeats the other: alike in hash and in thumbnail.

    Pictures with a side below `LEAST` or without detail are in no pair.
    """
    able = ((sides >= LEAST) & has_detail(small)).nonzero().flatten()
    near = pairs_within(hashes(small[able]))
    first, second = able[near.first], able[near.second]
    agreeing = agreement(small, sides, first, second) >= AGREEING
    return Pairs(first[agreeing], second[agreeing], near.complete)


def equal_groups(keys: Sequence[bytes]) -> list[list[int]]:
    """Return the indices of pictures that have the same key, of each key that is there more than once."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    return [group for group in places.values() if len(group) > 1]


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that pairs join, in the order of their first members; each is sorted."""
    above: dict[int, int] = {}

    def root(index: int) -> int:
        while above.setdefault(index, index) != index:
            above[index] = index = above[above[index]]
        return index

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        above[high] = low
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index in sorted(above):
        groups[root(index)].append(index)
    return [*groups.values()]
