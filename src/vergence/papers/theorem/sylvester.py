"""Appendix I of the RAFT paper: when a linear BYOL with a predictor has solutions other than collapse.

Encoder theta, target xi and predictor W are matrices, the loss is E |W theta x_1 - xi x_2|^2. With
T = W theta x_1 - xi x_2 its gradients (Eq. 58, 59) are 2 W^T E[T x_1^T] and 2 E[T x_1^T] theta^T. Both vanish where
E[T x_1^T] = W theta E[x_1 x_1^T] - xi E[x_2 x_1^T] does. So A = E[x_1 x_1^T] and B = E[x_2 x_1^T]; at rest xi = theta,
which leaves Sylvester's equation

    W theta A = theta B,   or with the columns of theta stacked   (I (x) W - (B A^-1)^T (x) I) vec(theta) = 0.

The operator's eigenvalues are the differences w_i - m_j of those of W and of M = B A^-1: theta = 0 is the only solution
unless the two share one. A shared pair, each a simple eigenvalue, adds one dimension of solutions and one to the rank
that theta can have: theta maps an eigenvector of M to one of W.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Square = Float[Tensor, "n n"]


def correlations(x1: Float[Tensor, "k n"], x2: Float[Tensor, "k n"]) -> tuple[Square, Square]:
    """Return A = E[x_1 x_1^T] and B = E[x_2 x_1^T] over the pairs in the rows."""
    return x1.T @ x1 / len(x1), x2.T @ x1 / len(x1)


def backward_map(A: Square, B: Square) -> Square:
    """Return M = B A^-1: the best linear guess of x_2 from x_1."""
    return torch.linalg.solve(A, B, left=False)


def sylvester_operator(W: Float[Tensor, "m m"], A: Square, B: Square) -> Float[Tensor, "nm nm"]:
    """Return I (x) W - (B A^-1)^T (x) I. It takes vec(theta), columns stacked, to vec((W theta A - theta B) A^-1)."""
    one, other = (torch.eye(len(matrix), dtype=W.dtype, device=W.device) for matrix in (A, W))
    return torch.kron(one, W) - torch.kron(backward_map(A, B).T.contiguous(), other)


def null_space(K: Square, within: float = 1e-10) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Return an orthonormal basis of what K takes to 0, and all singular values of K, largest first.

    Args:
        K: any square matrix.
        within: singular values up to this share of the largest count as 0.
    """
    _, values, vectors = torch.linalg.svd(K)
    return vectors[values <= within * values[0]].T, values


def solutions(basis: Float[Tensor, "nm k"], m: int) -> Float[Tensor, "k m n"]:
    """Return that null space of `sylvester_operator` as matrices of m rows and norm 1; k = 0 where only 0 solves it."""
    return basis.T.unflatten(1, (-1, m)).mT


def residual(W: Float[Tensor, "m m"], theta: Float[Tensor, "m n"], A: Square, B: Square) -> float:
    """Return |W theta A - theta B| / |theta|, at least 0; 0 for a solution."""
    return ((W @ theta @ A - theta @ B).norm() / theta.norm()).item()


def distances(W: Float[Tensor, "m m"], M: Square) -> Float[Tensor, "m n"]:
    """Return |w_i - m_j| for all eigenvalues of both, at least 0."""
    return (torch.linalg.eigvals(W)[:, None] - torch.linalg.eigvals(M)).abs()


def shared_eigenvalues(W: Float[Tensor, "m m"], M: Square, within: float = 1e-8) -> Complex[Tensor, " k"]:
    """Return the eigenvalues of W that are one of M's, once for each pair of them that lies `within`."""
    return torch.linalg.eigvals(W)[(distances(W, M) <= within).nonzero()[:, 0]]


def with_eigenvalues(values: Sequence[complex], generator: torch.Generator) -> Square:
    """Return a random real matrix with these eigenvalues, not normal, in double precision.

    Args:
        values: real ones, and one of each pair of conjugates, which counts for both.
        generator: on the CPU.
    """
    blocks = [
        torch.tensor([[v.real, v.imag], [-v.imag, v.real]] if v.imag else [[v.real]], dtype=torch.double)
        for v in map(complex, values)
    ]
    triangular, place = torch.block_diag(*blocks), 0
    n = len(triangular)
    noise = torch.randn(n, n, generator=generator, dtype=torch.double) / (4 * n**0.5)
    for block in blocks:  # above the blocks on the diagonal anything may stand
        rows = slice(place, place + len(block))
        place += len(block)
        triangular[rows, place:] = noise[rows, place:]
    turn = orthogonal(n, generator)
    return turn @ triangular @ turn.T


def orthogonal(n: int, generator: torch.Generator) -> Square:
    """Return a random orthogonal matrix in double precision."""
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.double))[0]


def effective_rank(theta: Float[Tensor, "m n"]) -> float:
    """Return the exponential of the entropy of the singular values' shares, in [1, min(m, n)]; NaN for 0."""
    values = torch.linalg.svdvals(theta)
    return torch.special.entr(values / values.sum()).sum().exp().item()


def principal(views: Float[Tensor, "2 k d"], n: int) -> Float[Tensor, "2 k n"]:
    """Return both views in the n main directions of all, about their mean, each of variance 1; in double precision.

    So A is near the identity and plain gradient descent takes all directions at about one rate. The directions are
    those of a randomized SVD with a seed of its own: any n directions would do.
    """
    rows = views.flatten(0, 1)
    rows = rows - rows.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, directions = torch.svd_lowrank(rows, q=n + 8, niter=4)
    kept = (rows @ directions[:, :n]).double()
    return (kept / kept.square().mean(0).sqrt()).view(2, -1, n)
