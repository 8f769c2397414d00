"""Losses of scores with prototypes: SwAV's and DINO's, and Sinkhorn's equal shares.

A score is the cosine of a picture's projection with a prototype. Where every picture belongs to all k prototypes alike,
each loss here is ln k: a loss that stays there has learned nothing yet, or has collapsed.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vergence.losses.embeddings import of_embeddings


@of_embeddings
@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "n k"],
    epsilon: float = 0.05,
    iterations: int = 3,
    counted: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, "n k"]:
    """Return the assignment of n pictures to k prototypes in equal shares, without gradient (SwAV, Eq. 3 and 4).

    In [0, 1]; each row sums to 1, each column approaches n / k with the iterations; 1 / k at collapse. As in the
    official code, an iteration scales the columns and then the rows of exp(scores / epsilon); here of its logarithm,
    which no score and no epsilon overflows. Without iterations it is the softmax of scores / epsilon.

    Args:
        scores: with each prototype, of the whole batch: shares of a part of it are not equal in the whole.
        epsilon: temperature; the lower, the closer to one prototype for each picture.
        iterations: at least 0.
        counted: whether a row takes part in the shares; None: all rows do. At least one must.

    >>> sinkhorn(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    logits = scores / epsilon
    rows = start = logits.new_zeros(len(logits)) if counted is None else counted.to(logits.dtype).log()
    columns = logits.new_zeros(logits.shape[1])
    for _ in range(iterations):
        columns = -(logits + rows[:, None]).logsumexp(0)
        rows = start - (logits + columns).logsumexp(1)
    return (logits + columns).softmax(1)


@of_embeddings
def swav(scores: Float[Tensor, "b k"], assignment: Float[Tensor, "b k"], temperature: float = 0.1) -> Float[Tensor, ""]:
    """Return the cross-entropy of softmax(scores / temperature) against another crop's assignment (SwAV, Eq. 2).

    At least 0; ln k where the scores are all alike, and so at collapse. The assignment receives no gradient.

    >>> round(swav(torch.zeros(2, 4), torch.eye(4)[:2]).item(), 4)
    1.3863
    """
    return -(assignment.detach() * (scores / temperature).log_softmax(1)).sum(1).mean()


@of_embeddings
def dino(
    student: Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    center: Float[Tensor, " k"],
    temperature: float = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the student's softmax against the centred and sharpened teacher's (DINO, Eq. 2).

    At least 0; ln k where the student's scores are all alike, near 0 where both give all pictures one prototype: both
    are collapses. Neither the teacher nor the center receives a gradient.

    >>> alike = torch.zeros(2, 4)
    >>> round(dino(alike, alike, torch.zeros(4)).item(), 4)
    1.3863
    """
    return swav(student, sharpened(teacher, center, teacher_temperature), temperature)


@of_embeddings
@torch.no_grad()
def sharpened(
    teacher: Float[Tensor, "b k"], center: Float[Tensor, " k"], temperature: float | Tensor
) -> Float[Tensor, "b k"]:
    """Return softmax((teacher - center) / temperature), DINO's assignment of pictures to prototypes.

    In [0, 1]; 1 / k where the centred scores are all alike.

    >>> sharpened(torch.tensor([[0.1, 0.0]]), torch.tensor([0.1, 0.0]), 0.04)
    tensor([[0.5000, 0.5000]])
    """
    return ((teacher - center) / temperature).softmax(1)
