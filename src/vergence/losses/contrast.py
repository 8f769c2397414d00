"""Losses that tell a picture from others: InfoNCE, NT-Xent, and the uniformity of embeddings on the sphere."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vergence.losses.embeddings import of_embeddings, unit

_PAIRS_AT_ONCE = 2**24  # 64 MiB of float32: what uniformity holds of the n x n distances at a time


@of_embeddings
def uniformity(z: Float[Tensor, "n d"], t: float = 2.0) -> Float[Tensor, ""]:
    """Return log E exp(-t |z_i - z_j|^2) over pairs of different pictures (RAFT, Def. 2.2; Wang & Isola).

    In [-4t, 0]; 0 at collapse, lower is more uniform (about -2t in many dimensions). Memory is linear in n: distances
    are formed in blocks of rows, and formed again for the gradient.

    >>> round(uniformity(torch.eye(4)).item(), 4)
    -4.0
    """
    z = unit(z)
    n = len(z)
    if n < 2:
        raise ValueError(f"uniformity needs at least 2 embeddings, not {n}")
    rows = max(1, _PAIRS_AT_ONCE // n)
    starts = range(0, n, rows)
    if len(starts) == 1:
        log_sum = _log_sum_of_pairs(z, z, 0, t)
    elif z.requires_grad and torch.is_grad_enabled():
        blocks = [checkpoint(_log_sum_of_pairs, z[i : i + rows], z, i, t, use_reentrant=False) for i in starts]
        log_sum = torch.stack(blocks).logsumexp(0)
    else:
        sums = z.new_empty(len(starts))  # at once: small results kept between large blocks would hold those apart
        for k, i in enumerate(starts):
            sums[k] = _log_sum_of_pairs(z[i : i + rows], z, i, t)
        log_sum = sums.logsumexp(0)
    return log_sum - math.log(n * (n - 1))


def _log_sum_of_pairs(rows: Tensor, z: Tensor, first: int, t: float) -> Tensor:
    exponent = -t * (2 - 2 * rows @ z.T)
    exponent = exponent.diagonal_scatter(exponent.new_full((len(rows),), -math.inf), first)  # no pair with itself
    return exponent.flatten().logsumexp(0)


@of_embeddings
def info_nce(
    query: Float[Tensor, "b d"],
    key: Float[Tensor, "b d"],
    negatives: Float[Tensor, "k d"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the positive key against all negatives (RAFT, Appendix B.1; MoCo, Eq. 1).

    At least 0; log(1 + k) at collapse.

    >>> round(info_nce(torch.eye(2), torch.eye(2), torch.eye(2), temperature=1.0).item(), 3)
    0.862
    """
    query, key, negatives = unit(query), unit(key), unit(negatives)
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@of_embeddings
def nt_xent(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    """Return the normalized-temperature cross-entropy among the 2b projections of a batch (SimCLR, Eq. 1).

    At least 0; log(2b - 1) at collapse.

    >>> round(nt_xent(torch.ones(4, 2), torch.ones(4, 2), temperature=0.5).item(), 4)
    1.9459
    """
    z = unit(torch.cat([z1, z2]))
    logits = z @ z.T / temperature
    logits = logits.diagonal_scatter(logits.new_full((len(z),), -math.inf))  # an embedding is not its own negative
    positives = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, positives)


@of_embeddings
def nnclr(
    neighbour1: Float[Tensor, "b d"],
    neighbour2: Float[Tensor, "b d"],
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of each neighbour's own prediction against the batch's (NNCLR, Section 3.2).

    Row i of `neighbour1` is the nearest neighbour of view 1 of picture i; its right answer is row i of `p2`, the other
    rows are negatives. The mean over both directions, as in the paper's pseudo-code; the negatives are b - 1
    predictions, those of one view, where `nt_xent` has 2b - 2.
    At least 0; log(b) at collapse.

    >>> z = torch.eye(2)
    >>> round(nnclr(z, z, z, z, temperature=1.0).item(), 4)
    0.3133
    """
    neighbour1, neighbour2, p1, p2 = unit(neighbour1), unit(neighbour2), unit(p1), unit(p2)
    own = torch.arange(len(p1), device=p1.device)
    one = F.cross_entropy(neighbour1 @ p2.T / temperature, own)
    return (one + F.cross_entropy(neighbour2 @ p1.T / temperature, own)) / 2
