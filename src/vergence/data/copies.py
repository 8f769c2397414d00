"""Pairs of pictures of which one repeats the other, whole or in part, among candidates from wherever."""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vergence.augment import Ragged
from vergence.augment.ragged import shapes_of
from vergence.data import alike, crops

Kind = Literal["equal pixels", "copy", "first is part of second", "second is part of first"]
KINDS: tuple[Kind, ...] = get_args(Kind)

AGREEING = 0.91
"""The agreement of a picture and its copy, at least; `docs/similar.md` says what it was chosen on."""

WHOLE = 0.97
"""Share of each side from which on a picture shows the whole other one."""


class Copies(NamedTuple):
    """Pairs of pictures by their indices, the first less than the second, in order.

    Attributes:
        first: [m].
        second: [m].
        hash_distance: bits of 64 by which their perceptual hashes differ, [m].
        agreement: their correlation in fine detail, as of `crops.Placed`, [m].
        kind: index into `KINDS`, [m].
    """

    first: Int64[Tensor, " m"]
    second: Int64[Tensor, " m"]
    hash_distance: Int64[Tensor, " m"]
    agreement: Tensor
    kind: Int64[Tensor, " m"]


def copies(
    pixels: UInt8[Tensor, "n 3 h w"] | Ragged,
    keys: list[bytes],
    candidates: Int64[Tensor, "m 2"],
    threshold: float = AGREEING,
) -> Copies:
    """Return the pairs of pictures whose agreement is at least `threshold`.

    Looked at are the candidates, pairs within a distance by their perceptual hash, and, of up to
    `crops.MOST_SEARCHED` pictures, those of which one looks like a window of the other. Pictures that are equal pixel
    by pixel are pairs whatever they show; else pictures with a side below `alike.LEAST` or without detail are in none.

    Args:
        pixels: the pictures.
        keys: equal for pictures that are equal.
        candidates: pairs of indices, in any order.
        threshold: in [-1, 1].
    """
    small = alike.thumbnails(pixels, crops.SIDE)
    sides = shapes_of(pixels).amin(1)
    reduced = alike.thumbnails(small)
    hashed = alike.hashes(reduced)
    able = (sides >= alike.LEAST) & alike.has_detail(reduced)
    own = able.nonzero().flatten()
    near = alike.pairs_within(hashed[own])
    found = [candidates, torch.stack([own[near.first], own[near.second]], 1)]
    if len(own) <= crops.MOST_SEARCHED:
        found.append(own[crops.search(small[own])])
    pairs = torch.cat(found)
    pairs = torch.cat([pairs, pairs.flip(1)])
    pairs = pairs[able[pairs].all(1) & (pairs[:, 0] != pairs[:, 1])].unique(dim=0)
    placed = crops.place(small, pairs)
    agreeing = placed.agreement >= threshold
    shown_whole = (placed.box[:, 2:] >= WHOLE).all(1)
    of: dict[tuple[int, int], tuple[int, float]] = {}
    rows = zip(
        pairs[agreeing].tolist(), shown_whole[agreeing].tolist(), placed.agreement[agreeing].tolist(), strict=True
    )
    for (part, whole), complete, agreement in rows:
        pair, kind = (min(part, whole), max(part, whole)), 1 if complete else 2 if part < whole else 3
        of[pair] = max(of.get(pair, (kind, -1.0)), (kind, agreement), key=lambda one: one[1])
    for group in alike.equal_groups(keys):
        of |= {(group[0], other): (0, 1.0) for other in group[1:]}
    ordered = sorted(of)
    first, second = torch.tensor(ordered, dtype=torch.int64).reshape(-1, 2).unbind(1)
    kinds, agreements = zip(*map(of.__getitem__, ordered), strict=True) if of else ((), ())
    distance = (hashed[first] != hashed[second]).sum(1)
    return Copies(first, second, distance, torch.tensor(agreements), torch.tensor(kinds, dtype=torch.int64))
