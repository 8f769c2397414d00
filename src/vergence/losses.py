"""The page of equations: every loss as a pure function of raw embeddings, normalized inside.

Embeddings are `[b d]`, one row a picture; arguments numbered 1 and 2 belong to the two views. z is a projection, p a
prediction, `_target` marks the target network's. The squared distance of unit vectors is written 2 - 2 cos everywhere:
changing the sign of both vectors then changes no bit of it, which is what Theorem 5.1 of the RAFT paper rests on.

Every function refuses embeddings that do not fit together, and computes in float32 what is given in half precision,
under `torch.autocast` too: the value is float32, or float64 where an argument is.

Sources: "RAFT" is Run Away From your Teacher (arXiv 2011.10944), "SimCLR" arXiv 2002.05709, "MoCo" arXiv 1911.05722,
"BYOL" arXiv 2006.07733, "Wang & Isola" arXiv 2005.10242.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_PAIRS_AT_ONCE = 2**24  # 64 MiB of float32: what uniformity holds of the n x n distances at a time

P = ParamSpec("P")
R = TypeVar("R")


def of_embeddings(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function see only embeddings that fit its signature, in float32 or float64, outside of any autocast.

    The letters of the signature's shapes say what fits: each stands for one size, of at least 1, in one call.

    Raises:
        ValueError: naming the argument, its shape, and the argument that it does not fit.
    """
    shapes = {
        name: tuple(parameter.annotation.dim_str.split())
        for name, parameter in inspect.signature(function).parameters.items()
        if hasattr(parameter.annotation, "dim_str")
    }
    names, title = tuple(shapes), function.__name__

    @functools.wraps(function)
    def checked(*arguments: P.args, **named: P.kwargs) -> R:
        embeddings: dict[str, Any] = dict(zip(names, arguments, strict=False))  # these come first in every signature
        embeddings |= {name: named[name] for name in names if name in named}
        _require_fit(title, shapes, embeddings)
        dtype, device = torch.float32, "cpu"
        for z in embeddings.values():
            dtype, device = torch.promote_types(dtype, z.dtype), z.device.type
        if any(z.dtype != dtype for z in embeddings.values()):
            arguments = tuple(z.to(dtype) if i < len(names) else z for i, z in enumerate(arguments))  # type: ignore[assignment, attr-defined]
            named |= {name: z.to(dtype) for name, z in embeddings.items() if name in named}  # type: ignore[assignment]
        if device in _AUTOCASTS and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return function(*arguments, **named)
        return function(*arguments, **named)

    return checked


_AUTOCASTS = ("cpu", "cuda", "mps", "xpu")
"""Devices that torch can be asked about."""


def _require_fit(title: str, shapes: dict[str, tuple[str, ...]], embeddings: dict[str, Any]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, z in embeddings.items():
        letters, shape = shapes[name], tuple(z.shape)
        if len(shape) != len(letters) or 0 in shape:
            raise ValueError(f"{title}: {name} has the shape {shape}; it must be [{' '.join(letters)}], and not empty")
        for letter, size in zip(letters, shape, strict=True):
            other, first = sizes.setdefault(letter, (size, name))
            if size != other and first == name:
                raise ValueError(f"{title}: {name} has the shape {shape}; it must be square")
            if size != other:
                theirs = tuple(embeddings[first].shape)
                raise ValueError(f"{title}: {name} has the shape {shape}, but {first} has {theirs}; {_MEANT[letter]}")


_MEANT = {
    "b": "row i of each belongs to picture i, so both need as many rows",
    "d": "both need as many dimensions",
}
"""What follows from a letter of two arguments."""


@of_embeddings
def normalize(z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Return the rows scaled to unit length; a row of zeros stays zero.

    >>> normalize(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return _unit(z)


def _unit(z: Tensor) -> Tensor:
    return F.normalize(z, dim=1)


@of_embeddings
def squared_distance(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean of |a - b|^2 = 2 - 2 cos(a, b) over the rows, as unit vectors. In [0, 4]; 0 at collapse.

    >>> squared_distance(torch.eye(2), torch.eye(2).flip(0)).item()
    2.0
    """
    return 2 - 2 * (_unit(a) * _unit(b)).sum(1).mean()


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
    p, z_target = _unit(p), _unit(z_target).detach()
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
def uniformity(z: Float[Tensor, "n d"], t: float = 2.0) -> Float[Tensor, ""]:
    """Return log E exp(-t |z_i - z_j|^2) over pairs of different pictures (RAFT, Def. 2.2; Wang & Isola).

    In [-4t, 0]; 0 at collapse, lower is more uniform (about -2t in many dimensions). Memory is linear in n: distances
    are formed in blocks of rows, and formed again for the gradient.

    >>> round(uniformity(torch.eye(4)).item(), 4)
    -4.0
    """
    z = _unit(z)
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
    query, key, negatives = _unit(query), _unit(key), _unit(negatives)
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
    z = _unit(torch.cat([z1, z2]))
    logits = z @ z.T / temperature
    logits = logits.diagonal_scatter(logits.new_full((len(z),), -math.inf))  # an embedding is not its own negative
    positives = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, positives)
