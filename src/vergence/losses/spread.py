"""Losses that spread embeddings by what a batch of them looks like: its moments, its whole distribution.

Barlow Twins', VICReg's, SIGReg's, VISReg's, W-MSE's, and their terms.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vergence.losses.agreement import squared_distance
from vergence.losses.embeddings import of_embeddings, unit

Whitening = Literal["cholesky", "standardize"]
"""How `whiten` makes embeddings white: their whole covariance, or its diagonal alone."""

_SIDE, _REACH = 4, 3.0  # the integral over t in `sigreg` is on _SIDE^2 + 1 points, from 0 to _REACH


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


@of_embeddings
def centre_distance(z: Float[Tensor, "v b d"], views: int = 2) -> Float[Tensor, ""]:
    """Return the mean of (z_v - m)^2 over crops, pictures and dimensions, m being the mean of a picture's views.

    The invariance of LeJEPA (its Eq. for L_pred), which is not normalized. The first `views` crops are the views, the
    others local ones. At least 0; 0 at collapse. Of two views alone it is a quarter of their mean squared difference.

    >>> centre_distance(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])).item()
    0.25
    """
    return (z - z[:views].mean(0)).square().mean()


@of_embeddings
def sigreg(z: Float[Tensor, "n d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return SIGReg (LeJEPA): how far the embeddings, looked at along directions, are from a standard normal.

    n times the mean over the directions a, of unit length, of Epps and Pulley's statistic
    2 int_0^3 exp(-t^2 / 2) |e(t) - exp(-t^2 / 2)|^2 dt, where e(t) is the mean of exp(i t a.z) over the embeddings, by
    the trapezoidal rule on 17 points. The factor n is the official code's: under it the value of n independent normal
    embeddings does not depend on n, and that of anything else grows with it. Not normalized: it is lengths that it
    holds.

    At least 0; 0.4 n where all embeddings are 0, whose gradient is 0 too. A gradient of the gradient is refused.

    >>> round(sigreg(torch.zeros(4, 2), torch.eye(2)).item() / 4, 2)
    0.4
    """
    statistics: Tensor = _EppsPulley.apply(unit(directions) @ z.T)  # type: ignore[assignment]
    return len(z) * statistics.mean()


class _EppsPulley(torch.autograd.Function):
    """The statistic `[m]` of slices s, `[m n]`, in `sigreg`'s docstring; its gradient is found beside it.

    The points but 0, where the error is 0, are t = (4a + b) h with a in 0..3 and b in 1..4. Since exp(i t s) is
    exp(i 4a h s) exp(i b h s), one product of matrices has its means over slices at all t, and another its weighted
    sums over t, which are the gradient. So cosines and sines are taken at 8 points, not 17, and none of them is kept.
    """

    @staticmethod
    def forward(ctx: Any, slices: Tensor) -> Tensor:
        n = slices.shape[1]
        t = torch.linspace(0, _REACH, _SIDE**2 + 1, dtype=slices.dtype, device=slices.device)
        coarse, fine = _waves(slices, t[:-1:_SIDE]), _waves(slices, t[1 : _SIDE + 1])
        t = t[1:]
        normal = (-t.square() / 2).exp()
        weight = normal * (_REACH / _SIDE**2)
        weight[-1] /= 2  # the trapezoidal rule
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (half.chunk(2, 2) for half in (coarse @ fine.mT / n).chunk(2, 1))
        real, imaginary = (cos_cos - sin_sin).flatten(1) - normal, (sin_cos + cos_sin).flatten(1)
        rate = 4 / n * weight * t  # the gradient is the sum over t of rate * (imaginary * cos(t s) - real * sin(t s))
        of_cos, of_sin = ((rate * part).unflatten(1, (_SIDE, _SIDE)) for part in (imaginary, -real))
        both = torch.cat([torch.cat([of_cos, of_sin], 2), torch.cat([of_sin, -of_cos], 2)], 1)
        ctx.save_for_backward((coarse * (both @ fine)).sum(1))
        return 2 * (weight * (real.square() + imaginary.square())).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("sigreg has no second derivative: take its gradient without create_graph")
        (slope,) = ctx.saved_tensors
        return gradient[:, None] * slope


def _waves(slices: Tensor, t: Tensor) -> Tensor:
    """Return the cosines, then the sines, of each slice at each of k values of t, `[m 2k n]`."""
    angles = slices[:, None] * t[:, None]
    return torch.cat([angles.cos(), angles.sin()], 1)


@of_embeddings
def visreg_scale(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean of (1 - std)^2 over the dimensions (VISReg, Eq. 1); the variance is biased.

    At least 0; 1 at collapse, near which its gradient does not vanish. Not normalized.

    >>> visreg_scale(torch.tensor([[1.0], [-1.0]])).item()
    0.0
    """
    variance = z.var(0, correction=0)
    return (1 - variance.clamp_min(torch.finfo(z.dtype).tiny).sqrt()).square().mean()  # at 0 the slope is 0, not none


@of_embeddings
def visreg_shape(z: Float[Tensor, "n d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return the squared distance of sorted slices from a normal's quantiles (VISReg, Eq. 5): sliced Wasserstein.

    Slices are along directions of unit length, of embeddings whose dimensions have mean 0 and deviation 1; through the
    deviation goes no gradient. Their i-th value is compared with the quantile at i / (n + 1), and squares are averaged.

    At least 0; at collapse the mean square of the quantiles, below 1. Not normalized.

    >>> round(visreg_shape(torch.ones(4, 2), torch.eye(2)).item(), 3)
    0.386
    """
    deviation = z.detach().std(0, correction=0) + 1e-4
    slices = ((z - z.mean(0)) / deviation) @ unit(directions).T
    n = len(z)
    quantiles = torch.special.ndtri(torch.arange(1, n + 1, dtype=z.dtype, device=z.device) / (n + 1))
    return (slices.sort(0).values - quantiles[:, None]).square().mean()


@of_embeddings
def visreg_mean(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean of the squared means of the dimensions (VISReg, Eq. 6). At least 0. Not normalized.

    >>> visreg_mean(torch.tensor([[1.0, 3.0], [1.0, -3.0]])).item()
    0.5
    """
    return z.mean(0).square().mean()


@of_embeddings
def visreg(z: Float[Tensor, "n d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return scale, shape and mean, one weight for all (VISReg, Eq. 7).

    At least 0; between 1 and 2 at collapse in the origin. Not normalized.

    >>> round(visreg(torch.zeros(4, 2), torch.eye(2)).item(), 3)
    1.386
    """
    return visreg_scale(z) + visreg_shape(z, directions) + visreg_mean(z)


@of_embeddings
def whiten(z: Float[Tensor, "n d"], whitening: Whitening = "cholesky", epsilon: float = 0.0) -> Float[Tensor, "n d"]:
    """Return embeddings of mean 0 whose covariance is the identity: (z - mean) L^-T, with covariance L L^T (W-MSE).

    The covariance is unbiased and mixed with `epsilon` of the identity. Where it is singular, as that of n <= d
    embeddings always is, all values are NaN and nothing is raised: no device is waited for. With "standardize" only the
    diagonal becomes 1, by 1 / sqrt(variance + 1e-5). In [-(n - 1) / sqrt(n), (n - 1) / sqrt(n)]; 0 at collapse with
    "standardize".

    >>> whiten(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).T.cov().round(decimals=5)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _whitened(z, whitening, epsilon)


def _whitened(z: Tensor, whitening: Whitening, epsilon: float) -> Tensor:
    """Return `whiten` of each slice `[... n d]`."""
    centred = z - z.mean(-2, keepdim=True)
    n, d = z.shape[-2:]
    if whitening == "standardize":
        return centred * (centred.square().sum(-2, keepdim=True) / (n - 1) + 1e-5).rsqrt()
    identity = torch.eye(d, dtype=z.dtype, device=z.device)
    covariance = torch.lerp(centred.mT @ centred / (n - 1), identity, epsilon)
    factor, fault = torch.linalg.cholesky_ex(covariance)
    factor = torch.where(fault[..., None, None] == 0, factor, torch.nan)
    return torch.linalg.solve_triangular(factor, centred.mT, upper=False).mT


@of_embeddings
def w_mse(
    z1: Float[Tensor, "b d"],
    z2: Float[Tensor, "b d"],
    orders: Tensor | None = None,
    size: int | None = None,
    *,
    whitening: Whitening = "cholesky",
    epsilon: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean of 2 - 2 cos between the two views of a picture, whitened slice by slice (W-MSE, Eq. 6).

    In [0, 4]; at collapse NaN, since the covariance has no inverse. Both views receive gradients.

    Args:
        z1: of the first view.
        z2: of the second.
        orders: `[i b]`, each a permutation of the rows, before the batch is cut into slices; the mean over all is
            returned. None: once, as they stand.
        size: rows of a slice, which divides b; each view's slice is whitened by itself. None: the whole batch, where no
            order matters.
        whitening: how (`whiten`).
        epsilon: share of the identity in the covariance.

    >>> z = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> abs(round(w_mse(z, -z, size=4).item(), 5))
    4.0
    """
    both = torch.stack([z1, z2])
    both = both[:, None] if orders is None else both[:, orders]
    slices = both.unflatten(2, (-1, len(z1) if size is None else size))  # 2, orders, slices, size, d
    return squared_distance(*_whitened(slices, whitening, epsilon).flatten(1, 3))
