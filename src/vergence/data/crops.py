"""Pictures that repeat others, or a part of them: saved again, resized, brighter or cut.

Each picture is compared, whole, with windows of others by the colours of 6 x 6 cells, of which only contrast counts.
From the best window on, its place is found to a fraction of a pixel by steps of Gauss and Newton (the alignment of
Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", 2008). There
the two must agree in fine detail, each spot by its own contrast: two pairs of trousers on white have the same outline
and light, but no thread in common. `docs/similar.md` has what that tells apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vergence.machine.threads import two_workers

SIDE = 64
"""Side in pixels of the thumbnails that are compared here."""

LEAST_SHOWN = 0.5
"""Share of each side of a picture that a part of it has at least."""

MOST_SEARCHED = 10_000
"""Pictures of which each is compared with windows of each other one, at most."""

_CELLS = 6
_WINDOWS = ((1.0, 1), (0.9, 3), (0.8, 4), (0.7, 5), (0.6, 6))
"""Sides of windows, as shares of the picture's, and how many places there are along each side."""

_ROUGH, _ROUGH_PLACED, _MOST_WINDOWS = 0.85, 0.93, 20
"""Correlations below which a pair is given up, by cells and once it is placed; the most that are tried of a picture."""

_STARTS = 3
"""Windows of a picture from which the place is sought."""

_COARSE, _FINE = 16, 32
_BLOCK, _TILE, _AT_ONCE = 64, 2048, 256
_LOCAL, _FAINT = 5, 10.0
"""Side of the spot whose contrast counts, and the gray values, of 255, below which it counts less."""


class Placed(NamedTuple):
    """Pictures, each beside another one that may show it whole or in part.

    Attributes:
        box: middle (y, x) and sides (height, width) of what is shown, where the other picture is [-1, 1] x [-1, 1] and
            its sides are 1, [m 4].
        agreement: the correlation of the picture with what is in the box, in fine detail; in [-1, 1], [m].
    """

    box: Float[Tensor, "m 4"]
    agreement: Float[Tensor, " m"]


_BURNT, _LEAST_KNOWN = 250, 0.3
"""The value from which on a spot is burnt out, and the share of a picture that is not, at least."""


def windows() -> Float[Tensor, "w 4"]:
    """Return the windows that are tried, as boxes of `Placed`; the first is the whole picture."""
    boxes = []
    for side, count in _WINDOWS:
        middles = torch.linspace(side - 1, 1 - side, count).tolist() if count > 1 else [0.0]
        boxes += [(y, x, side, side) for y in middles for x in middles]
    return torch.tensor(boxes)


def described(small: UInt8[Tensor, "n 3 s s"], sizes: Sequence[tuple[float, int]] = _WINDOWS) -> Float[Tensor, "n w d"]:
    """Return the colours of the cells of windows, less the mean of each colour, as a vector of length 1."""
    found = []
    pixels, side = small.float(), small.shape[-1]
    start = torch.arange(side)
    for share, count in sizes:
        edges = side * (torch.linspace(0, 1 - share, count)[:, None] + share * torch.linspace(0, 1, _CELLS + 1))
        low, high = edges[:, :-1, None], edges[:, 1:, None]
        covered = (torch.minimum(high, start + 1) - torch.maximum(low, start)).clamp_min(0) / (high - low)
        means = covered.flatten(0, 1)  # of the pixels of a row or column, for each cell of each window
        cells = (means @ pixels @ means.T).unflatten(3, (count, _CELLS)).unflatten(2, (count, _CELLS))
        found.append(cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2))
    cells = torch.cat(found, 1)
    return F.normalize((cells - cells.mean((3, 4), keepdim=True)).flatten(2), dim=2)


def search(small: UInt8[Tensor, "n 3 64 64"]) -> Int64[Tensor, "m 2"]:
    """Return pairs (picture, other) such that the first may be, whole, a window of the other.

    Every picture is compared with every window of every other one, by blocks; of each, the best few are returned.
    """
    n = len(small)
    wholes = torch.cat([described(part, _WINDOWS[:1])[:, 0] for part in small.split(_TILE)])
    best = torch.full((n, _MOST_WINDOWS), -1.0)
    places = torch.zeros(n, _MOST_WINDOWS, dtype=torch.int64)
    for start in range(0, n, _BLOCK):
        block = described(small[start : start + _BLOCK])
        for first in range(0, n, _TILE):
            rows = slice(first, first + _TILE)
            cosine = (wholes[rows] @ block.flatten(0, 1).T).unflatten(1, block.shape[:2]).amax(2)
            own = torch.arange(start, start + len(block))
            cosine[torch.arange(first, first + len(cosine))[:, None] == own] = -1
            both = torch.cat([best[rows], cosine], 1)
            best[rows], chosen = both.topk(_MOST_WINDOWS)
            places[rows] = torch.cat([places[rows], own.expand(len(cosine), -1)], 1).gather(1, chosen)
    picture, rank = (best >= _ROUGH).nonzero().unbind(1)
    return torch.stack([picture, places[picture, rank]], 1)


def place(small: UInt8[Tensor, "n 3 64 64"], pairs: Int64[Tensor, "m 2"]) -> Placed:
    """Return where each first picture is in the second one of its pair; where it is not, the agreement is low.

    Args:
        small: thumbnails of all pictures.
        pairs: (picture, other), by their indices.
    """
    with two_workers(small.device) as both:
        found = both.map(lambda block: _placed(small, block), pairs.split(_AT_ONCE))
    return Placed(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _placed(small: UInt8[Tensor, "n 3 64 64"], pairs: Int64[Tensor, "m 2"]) -> Placed:
    tried = windows()
    picture, other = pairs.unbind(1)
    wanted, which = other.unique(return_inverse=True)
    whole = described(small[picture], _WINDOWS[:1])[:, 0]
    cosine, best = torch.einsum("mwd,md->mw", described(small[wanted])[which], whole).topk(_STARTS)
    box, agreement = tried[best[:, 0]], torch.full((len(pairs),), -1.0)
    near = (cosine[:, 0] >= _ROUGH).nonzero().flatten()
    one, two = small[picture[near]].float(), small[other[near]].float()
    coarse = [_aligned(one, two, tried[start], _COARSE) for start in best[near].unbind(1)]
    correlation, start = torch.stack([placed.agreement for placed in coarse]).max(0)
    box[near] = torch.stack([placed.box for placed in coarse])[start, torch.arange(len(near))]
    kept = correlation >= _ROUGH_PLACED
    near, one, two = near[kept], one[kept], two[kept]
    box[near] = _aligned(one, two, box[near], _FINE).box
    detail = _detail(F.adaptive_avg_pool2d(one, _FINE), _cut(two, box[near], _FINE))
    within = (box[near, 2:] > LEAST_SHOWN).all(1)  # a box that would go on shrinking has found nothing
    agreement[near] = torch.where(within, detail, -1.0)
    return Placed(box, agreement)


def _cut(pictures: Float[Tensor, "m c s s"], box: Float[Tensor, "m 4"], side: int) -> Float[Tensor, "m c t t"]:
    steps = (2 * torch.arange(side) + 1) / side - 1
    y, x = (box[:, axis, None] + box[:, axis + 2, None] * steps for axis in (0, 1))
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], 3)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _aligned(
    one: Float[Tensor, "m 3 s s"], other: Float[Tensor, "m 3 s s"], box: Float[Tensor, "m 4"], side: int, steps: int = 5
) -> Placed:
    """Move and stretch boxes so that what is in them correlates best with the pictures, both at `side` pixels."""
    other = F.adaptive_avg_pool2d(other, 2 * side)
    down = F.pad(other[:, :, 2:] - other[:, :, :-2], (0, 0, 1, 1)) * (side / 2)  # by a change of 1 of y in the box
    right = F.pad(other[..., 2:] - other[..., :-2], (1, 1)) * (side / 2)
    layers = torch.cat([other, down, right], 1)
    y = ((2 * torch.arange(side) + 1) / side - 1)[:, None]
    one = F.adaptive_avg_pool2d(one, side)
    best, agreement = box, torch.full((len(box),), -1.0)
    for step in range(steps + 1):
        there, by_y, by_x = _cut(layers, box, side).split(3, dim=1)
        known = _known(one, there)

        def centred(values: Float[Tensor, "m 3 t t"], known: Float[Tensor, "m 1 t t"] = known) -> Float[Tensor, "m d"]:
            mean = (values * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
            return ((values - mean) * known).flatten(1)

        wanted, shown = centred(one), centred(there)
        correlation = F.cosine_similarity(wanted, shown, dim=1)
        better = correlation > agreement
        best, agreement = torch.where(better[:, None], box, best), torch.where(better, correlation, agreement)
        if step == steps:
            break
        slopes = torch.stack([*map(centred, (by_y, by_x, by_y * y, by_x * y.T)), shown], 2)
        square = slopes.mT @ slopes
        # a little is added to the diagonal: a picture of stripes can be moved along them
        square = square + torch.diag_embed(1e-3 * square.diagonal(dim1=1, dim2=2) + 1e-3)
        change = torch.linalg.solve(square, slopes.mT @ wanted[:, :, None])[..., 0]
        box = box + (change[:, :4] / change[:, 4:].clamp_min(0.1)).clamp(-0.1, 0.1)
        sides = box[:, 2:].clamp(LEAST_SHOWN, 1)
        box = torch.cat([box[:, :2].clamp(sides - 1, 1 - sides), sides], 1)
    return Placed(best, agreement)


def _known(one: Float[Tensor, "m 3 t t"], other: Float[Tensor, "m 3 t t"]) -> Float[Tensor, "m 1 t t"]:
    """Return 1 where neither picture is burnt out, and else 0; 1 everywhere where little would be left."""
    known = (torch.maximum(one, other).amax(1, keepdim=True) < _BURNT).float()
    return torch.where(known.mean((2, 3), keepdim=True) < _LEAST_KNOWN, 1.0, known)


def _detail(one: Float[Tensor, "m 3 s s"], other: Float[Tensor, "m 3 s s"]) -> Float[Tensor, " m"]:
    """Return the correlation of pictures whose values are less the mean about them, in units of the contrast there."""

    def spots(values: Float[Tensor, "m 3 s s"]) -> Float[Tensor, "m 3 s s"]:
        return F.avg_pool2d(F.pad(values, (_LOCAL // 2,) * 4, mode="reflect"), _LOCAL, 1)

    def contrast_of(values: Float[Tensor, "m 3 s s"]) -> Float[Tensor, "m 1 1 1"]:
        centred = values - values.mean((2, 3), keepdim=True)
        return centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1)

    faint = _FAINT / contrast_of(one)

    def local(values: Float[Tensor, "m 3 s s"]) -> Float[Tensor, "m 3 s s"]:
        values = values / contrast_of(values)
        mean = spots(values)
        contrast = (spots(values.square()) - mean.square()).clamp_min(0).mean(1, keepdim=True).sqrt()
        return (values - mean) / (contrast + faint)

    known = _known(one, other)
    return F.cosine_similarity((local(one) * known).flatten(1), (local(other) * known).flatten(1), dim=1)
