"""Losses that make embeddings of one picture agree: BYOL's, RAFT's, SimSiam's, and their parts."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vergence.losses.embeddings import of_embeddings, unit


@of_embeddings
def squared_distance(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean of |a - b|^2 = 2 - 2 cos(a, b) over the rows, as unit vectors. In [0, 4]; 0 at collapse.

    >>> squared_distance(torch.eye(2), torch.eye(2).flip(0)).item()
    2.0
    """
    return 2 - 2 * (unit(a) * unit(b)).sum(1).mean()


@of_embeddings
def tangential(p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the tangential part of the squared distance (RAFT, Section 5, Remark).

    It is |z' - lambda p|^2 / lambda with lambda = <p, z'> without gradient, averaged over the rows.

    Its gradient with respect to the unit vector p, 2 (lambda p - z'), lies in the tangent space of the sphere and is
    finite everywhere. Its value is no distance: |z'|^2 / lambda grows without bound as lambda goes to 0, so it is held
    at |lambda| >= 1e-6 there. Only p receives a gradient.

    >>> round(tangential(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])).item(), 4)
    0.7071
    """
    p, z_target = unit(p), unit(z_target).detach()
    scale = (p * z_target).sum(1).detach()
    divisor = torch.where(scale < 0, -1.0, 1.0) * scale.abs().clamp_min(1e-6)
    # Multiplied out, so that no gradient is ever divided by lambda.
    terms = z_target.square().sum(1) / divisor - 2 * (p * z_target).sum(1) + scale * p.square().sum(1)
    return terms.mean()


Distance = Callable[[Tensor, Tensor], Tensor]
"""`squared_distance`, or `tangential` for the paper's Tan- variants."""


@of_embeddings
def alignment(
    z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"], *, distance: Distance = squared_distance
) -> Float[Tensor, ""]:
    """Return the mean squared distance of the two views of a picture (RAFT, Def. 2.1; Wang & Isola).

    In [0, 4]; 0 at collapse, 2 for independent directions. Both arguments receive gradients: `tangential`, which gives
    one to its first argument only, is taken both ways.

    >>> alignment(torch.eye(3), torch.eye(3)).item()
    0.0
    """
    return squared_distance(z1, z2) if distance is squared_distance else distance(z1, z2) + distance(z2, z1)


@of_embeddings
def cross_model(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    z1_target: Float[Tensor, "b d"],
    z2_target: Float[Tensor, "b d"],
    *,
    distance: Distance = squared_distance,
) -> Float[Tensor, ""]:
    """Return the mean squared distance of prediction and target on the same view (RAFT, Def. 4.1, over both views).

    In [0, 4]; 0 where both agree.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> cross_model(z, z, far, far).item()
    2.0
    """
    return (distance(p1, z1_target) + distance(p2, z2_target)) / 2


@of_embeddings
def byol(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    z1_target: Float[Tensor, "b d"],
    z2_target: Float[Tensor, "b d"],
    *,
    distance: Distance = squared_distance,
) -> Float[Tensor, ""]:
    """Return BYOL's loss (Eq. 2): each view predicts the other's target; the directions are summed, not averaged.

    In [0, 8]; 0 at collapse.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> byol(z, z, far, far).item()
    4.0
    """
    return distance(p1, z2_target) + distance(p2, z1_target)


def across_crops(loss: Distance, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return the loss of each crop's prediction with the targets of the views, but for a view's own, as for two views.

    With two targets and v predictions, those of the views first: 2 / (2 (v - 1)) sum_i sum_{j != i} loss(p_j, z'_i),
    which is SwAV's sum (Section 3.3) and DINO's (Eq. 3), two times its mean instead of its sum. The number of local
    crops so changes neither range nor rate; without any it is `byol(*predictions, *targets)`, to the bit.

    In [0, 8] with `squared_distance`; 0 at collapse.

    Args:
        loss: of a prediction `[b d]` and a target `[b d]`, such as `squared_distance`.
        predictions: of each crop, `[b d]`; the first belong to the views of the targets.
        targets: of the views that have one, `[b d]`.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> across_crops(squared_distance, [z, z, z], [far, z]).item()
    2.0
    """
    pairs = [(p, z) for i, p in enumerate(predictions) for j, z in enumerate(targets) if i != j]
    total = torch.stack([loss(p, z) for p, z in pairs]).sum()
    return total / (len(pairs) / len(targets))


@of_embeddings
def simsiam(
    p1: Float[Tensor, "b d"], p2: Float[Tensor, "b d"], z1: Float[Tensor, "b d"], z2: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Return -[cos(p1, z2) + cos(p2, z1)] / 2 averaged over the rows, z without gradient (SimSiam, Eqs. 3 and 4).

    It is `byol(p1, p2, z1, z2) / 4 - 1`: a quarter of BYOL's gradient. In [-1, 1]; -1 at collapse.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> simsiam(z, z, z, z).item(), simsiam(z, z, far, far).item()
    (-1.0, 0.0)
    """
    return byol(p1, p2, z1.detach(), z2.detach()) / 4 - 1


@of_embeddings
def isoloss(z: Float[Tensor, "b d"], p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean of 2 - 2 cos(p, z') over the rows; z gets the gradient that p would get (IsoLoss, cosine form).

    BYOL's loss with p = W z gives z this gradient times W, so that eigenvectors are learned at rates as different as
    their eigenvalues; without W their rates are alike. The authors' code writes -2 <z, z'> / (|p| |z'|) +
    <p, z'> <p, z> / (|p|^3 |z'|), both coefficients without gradient: another value, the same gradient.

    In [0, 4]; 0 at collapse.

    Args:
        z: the projections, which alone receive a gradient.
        p: the predictions made of them.
        z_target: the target's projections of the other view.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> isoloss(z, z, far).item()
    2.0
    """
    return squared_distance(p.detach() + (z - z.detach()), z_target.detach())


@of_embeddings
def byol_prime(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    z1_target: Float[Tensor, "b d"],
    z2_target: Float[Tensor, "b d"],
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    distance: Distance = squared_distance,
) -> Float[Tensor, ""]:
    """Return alpha * alignment + beta * cross_model, the loss of BYOL' (RAFT, Def. 4.2).

    Bounds one direction of BYOL, `byol(...) / 2`, from above after multiplying by 1/alpha + 1/beta (Theorem 4.1).
    In [0, 4 (alpha + beta)]; 0 at collapse.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> byol_prime(z, z, far, far).item()
    2.0
    """
    cross = cross_model(p1, p2, z1_target, z2_target, distance=distance)
    return alpha * alignment(p1, p2, distance=distance) + beta * cross


@of_embeddings
def raft(
    p1: Float[Tensor, "b d"],
    p2: Float[Tensor, "b d"],
    z1_target: Float[Tensor, "b d"],
    z2_target: Float[Tensor, "b d"],
    alpha: float = 1.0,
    beta: float = 1.0,
    *,
    distance: Distance = squared_distance,
) -> Float[Tensor, ""]:
    """Return alpha * alignment - beta * cross_model, the loss of RAFT (Def. 4.3 and Algorithm 1).

    In [-4 beta, 4 alpha]; 0 at collapse, which is no minimum.

    >>> z, far = torch.eye(2), torch.eye(2).flip(0)
    >>> raft(z, z, far, far).item()
    -2.0
    """
    cross = cross_model(p1, p2, z1_target, z2_target, distance=distance)
    return alpha * alignment(p1, p2, distance=distance) - beta * cross
