"""The numbers by which encoders are compared, each in the variant of its paper: pure functions of representations.

Representations are an encoder's output, one row a picture; they are taken as they are, in float64. No single number
tells a healthy encoder from a collapsed one: what is taken from the mean calls complete collapse healthy, what is not
calls noise around a few directions healthy, and only what knows views subtracts that noise. Read one of each kind.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vergence.losses import normalize, of_embeddings
from vergence.metrics.neighbours import nearest

_EPSILON = 1e-7  # RankMe's, added to each share


@of_embeddings
def rankme(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the exponential of the entropy of the singular values' shares, not centred (RankMe, arXiv 2210.02885).

    In [1, min(n, d)]; 1 at collapse to a point. Noise counts as rank: 8 directions with noise of 0.3 in 64 are 35. The
    paper takes 25,600 pictures, and compares only runs of one method. `collapse.effective_rank` is this of unit rows.

    >>> round(rankme(torch.eye(4)).item(), 3)
    4.0
    """
    values = torch.linalg.svdvals(y.double())
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + _EPSILON
    return (-(shares * shares.log()).sum()).exp()


@of_embeddings
def participation_ratio(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return (sum l)^2 / sum l^2 of the covariance's eigenvalues l.

    In [1, min(n - 1, d)], or 0 where all rows are equal. It is centred: a cloud that has shrunk to a point is as round
    as it was.

    >>> round(participation_ratio(torch.eye(4)).item(), 3)
    3.0
    """
    values = _eigenvalues(y)
    return values.sum() ** 2 / values.square().sum().clamp_min(torch.finfo(values.dtype).tiny)


@of_embeddings
def nesum(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return sum l / l_1 of the covariance's eigenvalues l, the largest first (NESum, He & Ozay, ICML 2022).

    In [1, min(n - 1, d)], or 0 where all rows are equal. It is centred, as the participation ratio is.

    >>> round(nesum(torch.eye(4)).item(), 3)
    3.0
    """
    values = _eigenvalues(y)
    return values.sum() / values[0].clamp_min(torch.finfo(values.dtype).tiny)


@of_embeddings
def stable_rank(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return sum s^2 / s_1^2 of the singular values s, without centring.

    In [1, min(n, d)]; 1 at collapse to a point.

    >>> round(stable_rank(torch.eye(4)).item(), 3)
    4.0
    """
    squares = torch.linalg.svdvals(y.double()).square()
    return squares.sum() / squares[0].clamp_min(torch.finfo(squares.dtype).tiny)


@of_embeddings
def explained_variance_auc(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean over k of the share that the first k singular values have, centred (arXiv 2209.15007, Eq. 2).

    In [1/2, 1] for n > d: about 1/2 where all directions are alike, 1 for a line. Singular values, not their squares,
    as in its authors' code.

    >>> round(explained_variance_auc(torch.tensor([[1.0, 0], [-1, 0]])).item(), 3)
    1.0
    """
    values = torch.linalg.svdvals(_centred(y))
    return (values.cumsum(0) / values.sum().clamp_min(torch.finfo(values.dtype).tiny)).mean()


class PowerLaw(NamedTuple):
    """A line through the logarithms of eigenvalues.

    Attributes:
        alpha: how fast they fall: the i-th is about i^-alpha.
        r2: how much of their variance the line explains, weighted as it was fitted.
    """

    alpha: float
    r2: float


@of_embeddings
def alpha_req(y: Float[Tensor, "n d"], first: int = 11, last: int = 100) -> PowerLaw:
    """Return the decay of the covariance's eigenvalues (alpha-ReQ, Agrawal et al., NeurIPS 2022).

    Weighted least squares of ln l_i on -ln i with weights 1/i, for i from `first` to `last` or to the last eigenvalue
    above rounding. An alpha of about 1 is the paper's claim for good features. It is centred, and needs d well above
    `first`. At least 0.

    Raises:
        ValueError: fewer than two eigenvalues are in the range.

    >>> waves = torch.cos(torch.pi * (torch.arange(64) + 0.5)[:, None] * torch.arange(1, 33) / 64)  # orthogonal
    >>> round(alpha_req(waves * torch.arange(1.0, 33) ** -0.5).alpha, 3)
    1.0
    """
    values = _eigenvalues(y)
    values = values[first - 1 : last]
    values = values[values > 0]
    if len(values) < 2:
        raise ValueError(f"alpha_req needs two eigenvalues from number {first} on; there are {max(0, len(values))}")
    numbers = torch.arange(first, first + len(values), dtype=values.dtype, device=values.device)
    x, t, weights = -numbers.log(), values.log(), 1 / numbers
    weights = weights / weights.sum()
    x0, t0 = (weights * x).sum(), (weights * t).sum()
    alpha = (weights * (x - x0) * (t - t0)).sum() / (weights * (x - x0).square()).sum()
    rest = (weights * (t - t0 - alpha * (x - x0)).square()).sum()
    whole = (weights * (t - t0).square()).sum().clamp_min(torch.finfo(values.dtype).tiny)
    return PowerLaw(alpha.item(), (1 - rest / whole).item())


@of_embeddings
def lidar(
    views: Float[Tensor, "n q d"], delta: float = 1e-4, *, relative: bool = False, epsilon: float = 1e-8
) -> Float[Tensor, ""]:
    """Return the effective rank of differences between pictures beside those within them (LiDAR, arXiv 2312.04000).

    With S_b the covariance of the pictures' means and S_w that of views around their picture's mean, plus `delta` on
    the diagonal: the exponential of the entropy of the shares, plus epsilon, of the eigenvalues of
    S_w^-1/2 S_b S_w^-1/2. In [1, min(n - 1, d)]. What differs among views of one picture is no rank.

    Where views differ by far less than `delta`, as of an encoder collapsed to a point, this is the rank of S_b alone
    and means nothing: compare it at both kinds of delta.

    Args:
        views: representations of q views of each of n pictures; the paper takes 10 of 1,000 and more.
        delta: is added to the diagonal of S_w.
        relative: `delta` is a share of the mean of that diagonal.
        epsilon: is added to each share.

    Raises:
        ValueError: there is one picture, or one view.

    >>> round(lidar(torch.eye(4)[:, None].expand(4, 2, 4)).item(), 3)
    3.0
    """
    n, q, d = views.shape
    if n < 2 or q < 2:
        raise ValueError(f"lidar needs two pictures and two views or more, not {n} and {q}")
    views = views.double()
    means = views.mean(1)
    within = (views - means[:, None]).reshape(n * q, d)
    s_w = within.T @ within / (n * (q - 1))
    delta = delta * s_w.diagonal().mean().item() if relative else delta
    s_w = s_w + delta * torch.eye(d, dtype=views.dtype, device=views.device)
    centred = means - means.mean(0)
    values, vectors = torch.linalg.eigh(s_w)
    root = vectors * values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt()
    between = centred @ root
    found = torch.linalg.eigvalsh(between.T @ between / (n - 1)).clamp_min(0)
    shares = found / found.sum().clamp_min(torch.finfo(found.dtype).tiny) + epsilon
    return (-(shares * shares.log()).sum()).exp()


@of_embeddings
def mean_cosine(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean cosine of the representations of two different pictures.

    In [-1 / (n - 1), 1]; 1 at collapse to a point, whatever its size.

    >>> round(mean_cosine(torch.eye(4)).item(), 3)
    0.0
    """
    n = len(y)
    return (normalize(y.double()).sum(0).square().sum() - n) / (n * (n - 1))


@of_embeddings
def dead_dimensions(y: Float[Tensor, "n d"], share: float = 1e-6) -> Float[Tensor, ""]:
    """Return the share of dimensions whose standard deviation is below `share` of the largest.

    In [0, 1]. Of representations that are all equal it is 1.

    >>> dead_dimensions(torch.tensor([[1.0, 5], [2, 5]])).item()
    0.5
    """
    std = y.double().std(0, correction=0)
    return (std <= share * std.max()).double().mean()


@of_embeddings
def norm_spread(y: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the standard deviation of the representations' norms, over their mean.

    In [0, sqrt(n - 1)]; 0 where all have the same.

    >>> norm_spread(torch.eye(3)).item()
    0.0
    """
    norms = y.double().norm(dim=1)
    return norms.std(correction=0) / norms.mean().clamp_min(torch.finfo(norms.dtype).tiny)


@of_embeddings
def invariance(y: Float[Tensor, "n d"], transformed: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean cosine of a picture with itself transformed, less that of two different pictures.

    In [-2, 2]: 0 at collapse, where nothing can be told apart; near 1 where the transform changes nothing and pictures
    differ.

    >>> round(invariance(torch.eye(4), torch.eye(4)).item(), 3)
    1.0
    """
    both = normalize(y.double()) * normalize(transformed.double())
    return both.sum(1).mean() - mean_cosine(y)


@of_embeddings
def neighbour_agreement(y: Float[Tensor, "n d"], other: Float[Tensor, "n d"], k: int = 10) -> Float[Tensor, ""]:
    """Return the share of each picture's k nearest neighbours, by cosine, that it has in another view of all too.

    In [0, 1]; k / (n - 1) by chance. It needs no labels.

    Raises:
        ValueError: there are not more than k pictures.

    >>> neighbour_agreement(torch.eye(4), torch.eye(4), k=3).item()
    1.0
    """
    if len(y) <= k:
        raise ValueError(f"neighbour_agreement of {k} neighbours needs more than {k} pictures, not {len(y)}")
    units = (normalize(z.double()) for z in (y, other))
    first, second = (nearest(unit, unit, k, among_themselves=True)[1] for unit in units)
    same = (first[:, :, None] == second[:, None, :]).any(2)
    return same.double().mean()


def _centred(y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    y = y.double()
    return y - y.mean(0)


def _eigenvalues(y: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    """The eigenvalues of the covariance, largest first; 0 where they are rounding."""
    if len(y) < 2:
        raise ValueError("a covariance needs two representations or more, not 1")
    values = torch.linalg.svdvals(_centred(y)).square() / (len(y) - 1)
    noise = values[0] * torch.finfo(values.dtype).eps * len(values)
    return torch.where(values > noise, values, 0)
