"""Softmax regression with a penalty on its weights, fitted until it has converged, whatever the features' scales.

For n pictures with features x_i and classes c_i the objective is that of scikit-learn's `LogisticRegression`, with
penalty = 1 / C and a bias b that is not penalized:

    sum_i -log softmax(W x_i + b)[c_i]  +  penalty / 2 * |W|^2

L-BFGS minimizes it in other coordinates: the features are turned onto their principal axes, which leaves |W| as it is,
and each axis is divided by the root of the curvature that the objective has there at its start. Axes of very different
spread, as trained encoders have them, then take tens of iterations and not thousands.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TOLERANCE = 1e-4
"""A fit has converged when no component of its gradient exceeds this share of the largest one at W = 0, b = 0."""

MOST_ITERATIONS = 1000

PENALTIES = tuple(10 ** (-step / 2) for step in range(17))
"""Penalties that are tried, strongest first, as shares of the objective's curvature along the features' widest axis."""

PATIENCE = 2
"""Penalties in a row that may be worse on held-out pictures before weaker ones are no longer tried."""


class Classifier(NamedTuple):
    """A fitted classifier.

    Attributes:
        weight: of the features as they were given.
        bias: of each class; minus infinity for a class of which there was no picture.
        converged: whether the gradient came down to `TOLERANCE`.
    """

    weight: Float[Tensor, "d classes"]
    bias: Float[Tensor, " classes"]
    converged: bool

    def logits(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Return the logarithm of each class's probability, up to a constant for each picture."""
        return (y @ self.weight).double() + self.bias


class SoftmaxRegression:
    """Features and classes, to be fitted with one penalty after the other: each fit starts where the last one ended.

    Args:
        y: features.
        labels: classes, from 0.
        classes: how many there are; some may have no picture here.
    """

    def __init__(self, y: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int):
        self.labels, self.classes = labels, classes
        self.missing = torch.bincount(labels, minlength=classes) == 0
        self.mean = y.mean(0)
        centred = y - self.mean
        variances, axes = torch.linalg.eigh((centred.T @ centred).double() / len(y))
        # Float32 fixes a covariance to about 1e-7 of its largest value: axes below that hold rounding, not features.
        kept = variances > max(1e-7 * variances[-1].item(), torch.finfo(torch.float32).tiny)
        self.variances, self.axes = variances[kept], axes[:, kept].to(y)
        self.x = centred @ self.axes
        self.parameters = torch.zeros(len(self.variances) + 1, classes, dtype=torch.double, device=y.device)
        self.each = len(y) / classes
        self.right, self.minus_one = labels[:, None], self.parameters.new_full((len(y), 1), -1.0)
        self.steepest = self._objective(self.parameters, 0.0)[1]

    @property
    def curvature(self) -> float:
        """The objective's curvature along the widest axis at W = 0, without the penalty; 1 where all rows are equal."""
        return self.each * self.variances[-1].item() if len(self.variances) else 1.0

    def fit(self, penalty: float) -> Classifier:
        """Return the classifier that minimizes the objective with this penalty, above 0."""
        curvatures = torch.cat([self.each * self.variances + penalty, self.variances.new_full((1,), self.each)])
        scales = curvatures.rsqrt()[:, None]

        def parameters_at(coordinates: np.ndarray) -> Tensor:
            return torch.from_numpy(coordinates).to(scales).view(-1, self.classes) * scales

        def objective(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._objective(parameters_at(coordinates), penalty)
            return value, (gradient * scales).flatten().cpu().numpy()

        bound = TOLERANCE * (self.steepest * scales).abs().max().item()
        start = (self.parameters / scales).flatten().cpu().numpy()
        coordinates, gradient = minimize(objective, start, bound, MOST_ITERATIONS)
        self.parameters = parameters_at(coordinates)
        weight = self.axes @ self.parameters[:-1].to(self.axes)
        bias = (self.parameters[-1] - (self.mean @ weight).double()).masked_fill(self.missing, -torch.inf)
        return Classifier(weight, bias, bool(abs(gradient).max() <= bound))

    def _objective(self, parameters: Tensor, penalty: float) -> tuple[float, Tensor]:
        """Return the objective and its gradient."""
        weight, bias = parameters[:-1], parameters[-1].masked_fill(self.missing, -torch.inf)
        log_shares = ((self.x @ weight.to(self.x)).double() + bias).log_softmax(1)
        value = penalty / 2 * weight.square().sum() - log_shares.gather(1, self.right).sum()
        excess = log_shares.exp_().scatter_add_(1, self.right, self.minus_one)
        by_axis = (excess.T.to(self.x) @ self.x).T.double() + penalty * weight  # x.T @ excess takes seven times as long
        return value.item(), torch.cat([by_axis, excess.sum(0, keepdim=True)])


def minimize(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    bound: float,
    most: int,
    memory: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimize a smooth convex function by L-BFGS (Nocedal & Wright, Numerical Optimization, Algorithm 7.5).

    Args:
        objective: the value and the gradient at a point.
        start: where to begin, as a vector.
        bound: the gradient's largest component at which to stop.
        most: iterations after which to stop at the latest.
        memory: pairs of steps and changes of the gradient that are kept.

    Returns:
        The point, and the gradient there, which is above the bound where it was not reached.
    """
    point, (value, gradient) = start, objective(start)
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=memory)
    for _ in range(most):
        if abs(gradient).max() <= bound:
            break
        direction, shares = -gradient, []
        for step, change, product in reversed(pairs):
            shares.append(step @ direction / product)
            direction -= shares[-1] * change
        if pairs:
            _, change, product = pairs[-1]
            direction *= product / (change @ change)
        for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
            direction += (share - change @ direction / product) * step
        slope, length = direction @ gradient, 1.0
        while length > 1e-6:
            value_there, gradient_there = objective(point + length * direction)
            if value_there <= value + 1e-4 * length * slope:
                break
            length /= 2
        else:  # rounding hides what is left to descend
            break
        step, change = length * direction, gradient_there - gradient
        if (product := float(step @ change)) > 0:
            pairs.append((step, change, product))
        point, value, gradient = point + step, value_there, gradient_there
    return point, gradient


def choose_penalty(
    y: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    classes: int,
    penalties: Sequence[float],
    folds: Sequence[tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]],
) -> float:
    """Return the penalty whose classifiers have the least cross-entropy on pictures they were not fitted on.

    Args:
        y: features.
        labels: classes, from 0.
        classes: how many there are.
        penalties: what is tried, strongest first; weaker ones are no longer tried once `PATIENCE` were worse.
        folds: for each fold, which pictures are fitted and which are scored. Pictures of a class that the fold does not
            fit are not scored.
    """
    parts = []
    for fitted, scored in folds:
        known = torch.bincount(labels[fitted], minlength=classes) > 0
        scored = scored & known[labels]
        parts.append((SoftmaxRegression(y[fitted], labels[fitted], classes), y[scored], labels[scored]))
    losses: list[float] = []
    for penalty in penalties:
        fits = [(regression.fit(penalty), y_scored, truth) for regression, y_scored, truth in parts]
        losses.append(sum(F.cross_entropy(fit.logits(y), truth, reduction="sum").item() for fit, y, truth in fits))
        if len(losses) - losses.index(min(losses)) > PATIENCE:
            break
    return penalties[losses.index(min(losses))]
