"""Losses that spread embeddings by the moments of a batch: Barlow Twins', VICReg's, and their terms."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vergence.losses.embeddings import of_embeddings


@of_embeddings
def barlow_twins(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], off_diagonal: float = 0.0051) -> Float[Tensor, ""]:
    """Return sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2 (Barlow Twins, Eq. 1), with `barlow_twins_terms`.

    The unit is that of the authors' code, which has 0.0051 where the paper has 0.005. At least 0; d at collapse.

    >>> z = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> round(barlow_twins(z, z).item(), 4), round(barlow_twins(z, z.flip(1)).item(), 4)
    (0.0, 2.0102)
    """
    diagonal, others = barlow_twins_terms(z1, z2)
    return diagonal + off_diagonal * others


@of_embeddings
def barlow_twins_terms(
    z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return sum_i (1 - C_ii)^2 and sum_{i != j} C_ij^2 of the cross-correlation matrix C of two views (Eq. 2).

    Both views are standardized over the whole batch with the biased variance, so that C_ii reaches 1, and with 1e-5
    added to it, as batch norm does. In [0, 4d] and in [0, d (d - 1)]; d and 0 at collapse.

    Raises:
        ValueError: of one embedding.

    >>> z = torch.tensor([[1.0, 1], [-1, -1]])
    >>> [round(term.item(), 4) for term in barlow_twins_terms(z, z)]
    [0.0, 2.0]
    """
    _require_two(len(z1), "barlow_twins_terms")
    correlation = _standardized(z1).T @ _standardized(z2) / len(z1)
    return (1 - correlation.diagonal()).square().sum(), _off_diagonal(correlation).square().sum()


def _standardized(z: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z, 0, correction=0)
    return (z - mean) * torch.rsqrt(variance + 1e-5)


@of_embeddings
def vicreg(
    z1: Float[Tensor, "b d"],
    z2: Float[Tensor, "b d"],
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Float[Tensor, ""]:
    """Return invariance * mse(z1, z2) + variance * [v(z1) + v(z2)] / 2 + covariance * [c(z1) + c(z2)].

    v is `variance_hinge`, c `covariance_penalty`, mse a mean over pictures and dimensions. The unit is that of the
    authors' code. The paper (Eq. 6) sums the distance over dimensions and does not halve v, so its printed
    25, 25, 1 are other weights: they are 25 d, 50, 1 here.
    At least 0; 0.99 * variance at collapse.

    >>> z = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> vicreg(z, z).item(), round(vicreg(0 * z, 0 * z).item(), 4)
    (0.0, 24.75)
    """
    hinge = variance_hinge(z1, eps) + variance_hinge(z2, eps)
    penalty = covariance_penalty(z1) + covariance_penalty(z2)
    return invariance * F.mse_loss(z1, z2) + variance * hinge / 2 + covariance * penalty


@of_embeddings
def variance_hinge(z: Float[Tensor, "b d"], eps: float = 1e-4) -> Float[Tensor, ""]:
    """Return mean_j max(0, 1 - sqrt(var_j + eps)) with the unbiased variance of each dimension (VICReg, Eq. 1 and 2).

    In [0, 1]; 1 - sqrt(eps) at collapse. Its force on embeddings around a point is the same at all distances above
    sqrt(eps), falls in proportion to the distance below, and is 0, not NaN, at the point itself.

    Raises:
        ValueError: of one embedding.

    >>> round(variance_hinge(torch.tensor([[0.0, 0], [0, 2]])).item(), 3)
    0.495
    """
    _require_two(len(z), "variance_hinge")
    return F.relu(1 - (z.var(0) + eps).sqrt()).mean()


@of_embeddings
def covariance_penalty(z: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return sum_{i != j} Cov_ij^2 / d with the unbiased covariance of dimensions (VICReg, Eq. 3 and 4).

    At least 0; 0 at collapse, and wherever dimensions are uncorrelated.

    Raises:
        ValueError: of one embedding.

    >>> covariance_penalty(torch.tensor([[1.0, 1], [-1, -1]])).item()
    4.0
    """
    _require_two(len(z), "covariance_penalty")
    centred = z - z.mean(0)
    return _off_diagonal(centred.T @ centred / (len(z) - 1)).square().sum() / z.shape[1]


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal_scatter(torch.zeros_like(matrix.diagonal()))


def _require_two(n: int, title: str) -> None:
    if n < 2:
        raise ValueError(f"{title} needs at least 2 embeddings, not {n}")
