"""Looks inside a method during training: what moves its weights, what its predictor does, where its pictures lie.

Everything here works on what it is given and leaves no trace: callers hand in copies.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence.losses import alignment, cross_model, normalize
from vergence.methods.base import Outputs
from vergence.metrics import collapse

LEADING = 128
"""Singular values that a line of the log holds."""

ARCS = 72
"""Equal arcs of a circle: 5 degrees each."""


def gradient_split(outputs: Outputs, parameters: list[nn.Parameter]) -> dict[str, float]:
    """The gradient of the loss beside those of alignment and cross-model distance (RAFT, Section 4).

    BYOL has neither term, but its gradient can be explained by theirs: `explained` is the share of its squared norm
    that the best combination of the two reaches, in [0, 1]. Cosines are in [-1, 1], 0 where a gradient is zero.

    Args:
        outputs: of a forward pass with gradients, with predictions and targets of both views.
        parameters: what the gradients are taken to.
    """
    assert outputs.p is not None
    assert outputs.z_target is not None
    parts = (outputs.loss, alignment(*outputs.p), cross_model(*outputs.p, *outputs.z_target))
    rows = []
    for part in parts:
        gradients = torch.autograd.grad(part, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten().double() for g in gradients]))
    gram = torch.stack(rows) @ torch.stack(rows).T
    norms = gram.diagonal().sqrt()
    cosines = gram / (norms[:, None] * norms).clamp_min(torch.finfo(gram.dtype).tiny)
    combination = torch.linalg.pinv(gram[1:, 1:], rtol=1e-9) @ gram[1:, 0]
    explained = (combination @ gram[1:, 0]) / gram[0, 0].clamp_min(torch.finfo(gram.dtype).tiny)
    return {
        "loss": norms[0].item(),
        "alignment": norms[1].item(),
        "cross_model": norms[2].item(),
        "loss_with_alignment": cosines[0, 1].item(),
        "loss_with_cross_model": cosines[0, 2].item(),
        "alignment_with_cross_model": cosines[1, 2].item(),
        "explained": explained.clamp(0, 1).item(),
    }


@torch.no_grad()
def predictor_trace(predictor: nn.Module, z: Float[Tensor, "b d"]) -> dict[str, Any]:
    """What the predictor does to small changes of a projection, and to the directions that projections fill.

    Its matrix J is its mean Jacobian over the projections (the weights themselves for a linear one), in evaluation
    mode. F is the correlation matrix of the projections, E z z^T.

    Returns:
        `singular`: J's singular values, largest first. `from_identity`: |J - I| / sqrt(d), 0 for the identity.
        `eigen_alignment`: mean |cos(J u, u)| over F's eigenvectors u, weighted by their eigenvalues, in [0, 1].
        `commutator`: |J F - F J| / (|J F| + |F J|), in [0, 1]; 0 where both have the same eigenspaces (Tian et al.
        2021, arXiv 2102.06810, Theorem 3).
    """
    predictor = predictor.eval()

    def summed(projections: Tensor) -> Tensor:  # each prediction depends on its own projection only
        return predictor(projections).sum(0)

    jacobian = torch.func.jacrev(summed)(z).mean(1).double()
    correlation = (z.T @ z / len(z)).double()
    values, vectors = torch.linalg.eigh(correlation)
    values = values.clamp_min(0)
    moved = jacobian @ vectors
    cosines = torch.nn.functional.cosine_similarity(moved, vectors, dim=0).abs()
    one, other = jacobian @ correlation, correlation @ jacobian
    tiny = torch.finfo(values.dtype).tiny
    return {
        "singular": [float(f"{v:.5g}") for v in torch.linalg.svdvals(jacobian).tolist()],
        "from_identity": ((jacobian - torch.eye(z.shape[1]).to(jacobian)).norm() / z.shape[1] ** 0.5).item(),
        "eigen_alignment": ((values * cosines).sum() / values.sum().clamp_min(tiny)).item(),
        "commutator": ((one - other).norm() / (one.norm() + other.norm()).clamp_min(tiny)).item(),
    }


def leading_spectrum(z: Float[Tensor, "n d"]) -> list[float]:
    """Return the `LEADING` largest singular values of the unit vectors, scaled to sum to 1, with five digits."""
    return [float(f"{value:.5g}") for value in collapse.spectrum(z)[:LEADING].tolist()]


@torch.no_grad()
def circle(
    points: Float[Tensor, "n d"], first: Float[Tensor, "k d"], second: Float[Tensor, "k d"], *, centred: bool = True
) -> dict[str, Any]:
    """Directions of unit vectors projected to the plane of their two main components (RAFT, Figure 3).

    Args:
        points: whose components and density are taken.
        first: one view of some pictures.
        second: the other view of the same ones.
        centred: principal components, about the mean, as the paper; else about the origin, where collapse is one spike.

    Returns:
        `density`: share of the points in each of 72 arcs, the first about the direction (1, 0); `pairs`: angles of both
        views of each picture, in radians, in (-pi, pi].
    """
    unit = normalize(points).double()
    middle = unit.mean(0) if centred else torch.zeros_like(unit[0])
    covariance = (unit - middle).T @ (unit - middle)
    plane = torch.linalg.eigh(covariance).eigenvectors[:, -2:].flip(1)
    plane = plane * plane.gather(0, plane.abs().argmax(0, keepdim=True)).sign()  # else the sign is the library's whim

    def angles(some: Tensor) -> Tensor:
        x, y = ((normalize(some).double() - middle) @ plane).unbind(1)
        return torch.atan2(y, x)

    arcs = (angles(points) / (2 * torch.pi) * ARCS).round().long() % ARCS
    density = torch.bincount(arcs, minlength=ARCS) / len(points)
    pairs = torch.stack([angles(first), angles(second)], dim=1)
    return {
        "density": [round(share, 6) for share in density.tolist()],
        "pairs": [[round(a, 4), round(b, 4)] for a, b in pairs.tolist()],
    }
