"""What tells a healthy representation from a collapsed one: pure functions of raw embeddings, normalized inside.

As the losses, they refuse what does not fit and compute half precision in float32; so are their values.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vergence.losses import normalize, of_embeddings


@of_embeddings
def positive_negative_cosine(
    z: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the mean cos(z_i, z'_i) over a batch's pictures, and the mean cos(z_i, z'_j) over pairs of different ones.

    Each in [-1, 1]. Both 1 at collapse; a healthy network keeps the second well below the first (the blog's BYOL: 0.88
    and 0.27). The second is NaN for a single picture.

    >>> [cosine.item() for cosine in positive_negative_cosine(torch.eye(3), torch.eye(3))]
    [1.0, 0.0]
    """
    cosine = normalize(z) @ normalize(z_target).T
    positive = cosine.diagonal()
    n = len(cosine)
    negative = (cosine.sum() - positive.sum()) / (n * (n - 1)) if n > 1 else cosine.new_full((), torch.nan)
    return positive.mean(), negative


@of_embeddings
def positive_cosine(z: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the first of `positive_negative_cosine(z, z_target)`. In [-1, 1]; 1 at collapse.

    >>> positive_cosine(torch.eye(3), torch.eye(3)).item()
    1.0
    """
    return positive_negative_cosine(z, z_target)[0]


@of_embeddings
def negative_cosine(z: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the second of `positive_negative_cosine(z, z_target)`. In [-1, 1]; 1 at collapse.

    >>> negative_cosine(torch.eye(3), torch.eye(3)).item()
    0.0
    """
    return positive_negative_cosine(z, z_target)[1]


@of_embeddings
def feature_std(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean over dimensions of the standard deviation of unit vectors, times sqrt(d).

    In [0, 1]: 0 at collapse, about 1 for directions spread over the whole sphere.

    >>> round(feature_std(torch.eye(4)).item(), 3)
    0.866
    """
    z = normalize(z)
    return z.std(0, correction=0).mean() * z.shape[1] ** 0.5


@of_embeddings
def gram(z: Float[Tensor, "n d"]) -> Float[Tensor, "k k"]:
    """Return the products of the unit vectors, or of their dimensions where those are fewer.

    The eigenvalues, but for zeros, are the same; k = min(n, d). In [-n, n]. Eigenvalues sum to n, and at collapse one
    of them is n.

    >>> gram(torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    z = normalize(z)
    return z @ z.T if len(z) <= z.shape[1] else z.T @ z


@of_embeddings
def spectrum(z: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    """Return the singular values of the unit vectors' matrix, largest first, scaled to sum to 1; k = min(n, d).

    The mean is not taken away: at collapse the first is 1 and all others 0.

    >>> spectrum(torch.eye(4))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return _spectrum_of_gram(gram(z))


def _spectrum_of_gram(gram: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    squares = torch.linalg.eigvalsh(gram.double()).flip(0).clamp_min(0)
    # Float32 embeddings fix the Gram matrix to about 1e-7 of its largest value: what is below is rounding, not rank.
    noise = squares[0] * torch.finfo(gram.dtype).eps * len(squares)
    values = torch.where(squares > noise, squares, 0).sqrt()
    return (values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)).to(gram.dtype)


@of_embeddings
def effective_rank(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the exponential of the entropy of `spectrum(z)` (Roy & Vetterli 2007; RankMe, arXiv 2210.02885).

    In [1, min(n, d)]: 1 at collapse to a point, r for r equally strong directions.

    >>> round(effective_rank(torch.eye(4)).item(), 3)
    4.0
    """
    return rank_of_gram(gram(z))


@of_embeddings
def rank_of_gram(gram: Float[Tensor, "k k"]) -> Float[Tensor, ""]:
    """Return `effective_rank` from `gram(z)`, which a GPU makes in passing; a CPU finds its eigenvalues sooner.

    In [1, k].

    >>> round(rank_of_gram(gram(torch.eye(4))).item(), 3)
    4.0
    """
    return torch.special.entr(_spectrum_of_gram(gram)).sum().exp()


@of_embeddings
def centred_agreement(z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean cosine of a picture's two embeddings, each view's mean over the pictures taken away.

    In [-1, 1]: 0 where a view says nothing of which picture it is of, 1 where it says all. A direction that all
    pictures share, which may bring every plain cosine to 1, leaves it as it is.

    >>> round(centred_agreement(torch.eye(3), torch.eye(3)).item(), 3)
    1.0
    """
    return (normalize(z1 - z1.mean(0)) * normalize(z2 - z2.mean(0))).sum(1).mean()


@of_embeddings
def centred_gram(z: Float[Tensor, "n d"]) -> Float[Tensor, "k k"]:
    """Return `gram` of the rows without their mean. In [-n, n].

    >>> centred_gram(torch.eye(2)).round()
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    return gram(z - z.mean(0))


@of_embeddings
def centred_rank(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the effective rank of the rows without their mean. In [1, min(n, d)]: 1 for a line.

    >>> round(centred_rank(torch.eye(2)).item(), 3)
    1.0
    """
    return rank_of_gram(centred_gram(z))
