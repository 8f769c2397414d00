"""Projectors and predictors: small perceptrons with a slot for the norm and one for the weights."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.networks.batch_renorm import BatchRenorm1d
from vergence.networks.direct import DirectPredictor

GROUPS = 32
"""Groups of a group norm, as its authors chose; fewer where the width is no multiple of it."""


def groups_for(width: int) -> int:
    """The largest divisor of `width` that is at most 32."""
    return next(g for g in range(min(GROUPS, width), 0, -1) if width % g == 0)


def norm_layer(norm: config.Norm, width: int, affine: bool = True) -> nn.Module:
    """The normalization of a `[b, width]` activation; with `affine`, followed by a scale and shift of its own."""
    match norm:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm1d(width, affine=affine)
        case "layer":
            return nn.LayerNorm(width, elementwise_affine=affine)
        case "group":
            return nn.GroupNorm(groups_for(width), width, affine=affine)
        case "batch-renorm":
            return BatchRenorm1d(width, affine=affine)


class StandardizedLinear(nn.Linear):
    """A linear layer whose weights have mean 0 and variance 1/inputs for each output (weight standardization,
    arXiv 1903.10520, scaled so that a unit input keeps its size).
    """

    def forward(self, input: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        variance, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(variance * self.in_features + 1e-8)
        return F.linear(input, weight, self.bias)


def perceptron(
    widths: list[int],
    norm: config.Norm,
    norm_at: config.NormAt,
    weight: config.Weight,
    affine: config.Affine = "every",
    activation: config.Activation = "relu",
) -> nn.Sequential:
    """Linear layers between the widths: [linear, norm, activation] for each hidden one, then linear (and norm)."""
    linear = {"plain": nn.Linear, "standardized": StandardizedLinear}[weight]
    layers: list[nn.Module] = []
    for i in range(1, len(widths)):
        hidden = i < len(widths) - 1
        layers.append(linear(widths[i - 1], widths[i]))
        if hidden or norm_at == "every":
            layers.append(norm_layer(norm, widths[i], affine == "every" or (affine == "hidden" and hidden)))
        if hidden:
            layers.append(nn.ReLU(inplace=True) if activation == "relu" else nn.GELU())
    return nn.Sequential(*layers)


def build_projector(c: config.Projector, dim: int) -> nn.Sequential:
    """From a representation of `dim` values to a projection of `c.out`."""
    widths = [dim, *[c.hidden] * (c.layers - 1), c.out]
    return perceptron(widths, c.norm, c.norm_at, c.weight, c.affine, c.activation)


def build_predictor(c: config.Predictor, dim: int) -> nn.Module:
    """From a projection of `dim` values to a prediction of as many."""
    match c:
        case config.MLPPredictor():
            return perceptron([dim, *[c.hidden] * (c.layers - 1), dim], c.norm, c.norm_at, c.weight)
        case config.LinearPredictor():
            return nn.Sequential(nn.Linear(dim, dim, bias=False), norm_layer(c.norm, dim))
        case config.LinearIdentityPredictor():
            matrix = nn.Linear(dim, dim, bias=False)
            nn.init.eye_(matrix.weight)
            return nn.Sequential(matrix, norm_layer(c.norm, dim))
        case config.NoPredictor():
            return nn.Identity()
        case config.Direct():
            return DirectPredictor(c, dim)
