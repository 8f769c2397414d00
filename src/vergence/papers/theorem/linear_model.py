"""Appendix I of the RAFT paper on pictures: its algebra with predictors made to measure, and training that gets there.

Two views of each picture, flattened and reduced to a few dimensions, give A and B; encoder and predictor are matrices.
Two things the appendix does not say follow from its gradients. A solution that shares one eigenvalue has rank 1: the
encoder keeps one direction. And small steps change theta theta^T and W^T W by equal amounts, for theta's gradient times
theta^T is W^T times W's: W^T W - theta theta^T stays what it was at the start (Tian et al. 2021, arXiv 2102.06810, who
call it balance). A predictor that starts much larger than the encoder must stay large: with singular values above 1 it
shares no eigenvalue with B A^-1, whose are below 1, and the encoder shrinks to 0 in spite of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import config as c
from vergence import study as s
from vergence.augment import two_views
from vergence.data import load as load_images
from vergence.errors import Diverged, InputError
from vergence.losses import squared_distance
from vergence.machine.randomness import generator
from vergence.papers.theorem.sylvester import (
    Square,
    backward_map,
    correlations,
    distances,
    effective_rank,
    null_space,
    orthogonal,
    principal,
    residual,
    shared_eigenvalues,
    solutions,
    sylvester_operator,
    with_eigenvalues,
)
from vergence.presets import preset
from vergence.runs import subset

SIDE = 32
"""Pixels of a view's side, at most."""

PAIRS = 4096
"""Pictures that A and B are estimated from, at most."""

POINTS = 100
"""Points of each course."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two views of some pictures, in n dimensions."""

    data: c.Data
    views: c.Views
    subset: int | None
    n: int = 16
    seed: int = 0

    def load(self, data_dir: Path | None) -> Float[Tensor, "2 k n"]:
        images = subset(load_images(self.data, "pretrain", data_dir=data_dir), self.subset)
        images = subset(images, min(len(images), PAIRS))
        if 2 * len(images) < self.n:
            few = f"two views of {len(images)} pictures span fewer than the {self.n} dimensions here"
            raise InputError(f"--subset: {few}")
        views = two_views(images.pixels, images.size, self.views, generator(self.seed, "linear model"))
        return principal(views.flatten(2), self.n)


def pairs(scale: s.Scale) -> Pairs:
    run = scale.apply(preset("raft", "BYOL-LP", c.CIFAR10()))
    side = min(SIDE, run.views.size)
    return Pairs(data=replace(run.data, size=side), views=replace(run.views, size=side), subset=run.subset)


# --- the algebra ------------------------------------------------------------------------------------------------------


def cases(M: Square) -> dict[str, list[complex]]:
    """Return the eigenvalues of M that a predictor shall share, by name; of a pair of conjugates one is listed.

    Those that M has not enough eigenvalues for are left out.
    """
    values = sorted(torch.linalg.eigvals(M).tolist(), key=lambda v: (-abs(v), v.imag))
    real = [v for v in values if v.imag == 0]
    paired = [v for v in values if v.imag > 0]
    wanted = {
        "no eigenvalue": [],
        **{f"{k} real": real[:k] for k in (1, 2, 3) if len(real) >= k},
        **({"a complex pair": paired[:1]} if paired else {}),
        **({"a complex pair and 1 real": paired[:1] + real[:1]} if paired and real else {}),
        "all": real + paired,
    }
    return {name: list(chosen) for name, chosen in wanted.items()}


def sharing(shared: list[complex], n: int, g: torch.Generator) -> Square:
    """Return a random W with these eigenvalues; its others, real, lie in [1.5, 2.5], beyond any of M's."""
    left = n - sum(2 if v.imag else 1 for v in shared)
    return with_eigenvalues([*shared, *(1.5 + torch.rand(left, generator=g, dtype=torch.double)).tolist()], g)


def look(W: Square, A: Square, B: Square, g: torch.Generator) -> dict[str, float]:
    """Solve Sylvester's equation for one predictor.

    Returns:
        `shared`: eigenvalues in common; `nullity`: dimensions of solutions; `zero`, `least`: the largest singular value
        that counts as 0 (0 where none does) and the smallest other one, relative to the largest of all; `residual`: the
        worst of the solutions found; `rank`: of a random solution; `nearest`: least distance of two eigenvalues.
    """
    M = backward_map(A, B)
    basis, values = null_space(sylvester_operator(W, A, B))
    k = basis.shape[1]
    found = solutions(basis, len(W))
    some = torch.einsum("k,kij->ij", torch.randn(k, generator=g, dtype=torch.double), found)
    rank = int((torch.linalg.svdvals(some) > 1e-6 * some.norm()).sum()) if k else 0
    relative = (values / values[0]).tolist()
    return {
        "shared": len(shared_eigenvalues(W, M)),
        "nullity": k,
        "zero": relative[-k] if k else 0.0,
        "least": relative[-k - 1] if k < len(values) else 0.0,
        "residual": max((residual(W, theta, A, B) for theta in found), default=0.0),
        "rank": rank,
        "nearest": distances(W, M).min().item(),
    }


def scan(A: Square, B: Square, g: torch.Generator) -> dict[str, list[float]]:
    """Return the operator's smallest singular value, relative, as one eigenvalue of W moves over M's real ones.

    Returns:
        `w`, `least`: of the same length; `real`: M's real eigenvalues, which are among `w`.
    """
    n = len(A)
    real = [v.real for v in torch.linalg.eigvals(backward_map(A, B)).tolist() if v.imag == 0]
    low, high = (min(real), max(real)) if real else (0.0, 1.0)
    margin = 0.2 * (high - low) + 0.05
    places = sorted({*torch.linspace(low - margin, high + margin, 81).tolist(), *real})
    state, least = g.get_state(), []
    for w in places:  # each time the same other eigenvalues and vectors
        values = torch.linalg.svdvals(sylvester_operator(sharing([complex(w)], n, g.set_state(state)), A, B))
        least.append((values[-1] / values[0]).item())
    return {"w": places, "least": least, "real": sorted(real)}


@dataclass(frozen=True, kw_only=True)
class Algebra:
    """The equivalence of Appendix I, both ways, with A and B of pictures and predictors made to measure."""

    kind: ClassVar[str] = "sylvester"
    pairs: Pairs
    draws: int = 6
    random: int = 40

    def solve(self, data_dir: Path | None, device: torch.device, view: s.Reporter) -> dict[str, Any]:
        """Return `cases`: by name a list of results of `look`, one a draw; `scan`: that of `scan`; `eigenvalues`: of
        B A^-1, as pairs of real and imaginary part. It is computed on the CPU.
        """
        x1, x2 = self.pairs.load(data_dir)
        A, B = correlations(x1, x2)
        M, n = backward_map(A, B), self.pairs.n
        g = generator(self.pairs.seed, "predictors")
        wanted = cases(M)
        view.start(self.random + self.draws * len(wanted), 0, 1, [], [])
        found: dict[str, list[dict[str, float]]] = {"Gaussian": []}
        for _ in range(self.random):
            found["Gaussian"].append(look(torch.randn(n, n, generator=g, dtype=torch.double) / n**0.5, A, B, g))
            view.step()
        for name, shared in wanted.items():
            found[name] = []
            for _ in range(self.draws):
                found[name].append(look(sharing(shared, n, g), A, B, g))
                view.step()
        values = torch.view_as_real(torch.linalg.eigvals(M)).tolist()
        return {"cases": found, "scan": scan(A, B, g), "eigenvalues": values, "pairs": len(x1)}


# --- training ---------------------------------------------------------------------------------------------------------

Predictor = Literal["trained", "identity", "apart", "sharing"]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Linear BYOL trained from a random start, on all pairs at once, by plain gradient descent in double precision.

    Attributes:
        predictor: "trained"; or fixed: "identity", which is none; "apart", an orthogonal matrix, whose eigenvalues of
            modulus 1 are none of B A^-1; "sharing", with the largest eigenvalue (or pair) of B A^-1, others beyond it.
        start: of encoder and trained predictor: Gaussian matrices of variance 1/n, or orthogonal ones.
        encoder_size, predictor_size: factors of the start.
        loss: the appendix's |W theta x_1 - xi x_2|^2, or 2 - 2 cos of the two.
        decay: weight of the old target.
    """

    kind: ClassVar[str] = "linear-model"
    pairs: Pairs
    predictor: Predictor = "trained"
    start: Literal["gaussian", "orthogonal"] = "gaussian"
    encoder_size: float = 1.0
    predictor_size: float = 1.0
    loss: Literal["squared", "cosine"] = "squared"
    steps: int = 20_000
    lr: float = 0.05
    decay: float = 0.996

    def solve(self, data_dir: Path | None, device: torch.device, view: s.Reporter) -> dict[str, Any]:
        """Return `course`: for each field of `State` a list over the steps; `eigenvalues`: of W at the end and of
        B A^-1, as pairs of real and imaginary part. It is computed on the CPU.
        """
        x = self.pairs.load(data_dir)
        view.start(POINTS, 0, POINTS, [], [])
        seen = []
        for state in self.descend(x):
            seen.append(state)
            view.step()
        states, predictors = zip(*seen, strict=True)
        ends = {"W": predictors[-1], "M": backward_map(*correlations(*x))}
        return {
            "course": {name: [getattr(s, name) for s in states] for name in State._fields},
            "eigenvalues": {k: torch.view_as_real(torch.linalg.eigvals(v)).tolist() for k, v in ends.items()},
        }

    def descend(self, x: Float[Tensor, "2 k n"]) -> Iterator[tuple["State", Square]]:
        """Yield states at the start and after each hundredth of the steps, with the predictor there.

        Raises:
            Diverged: the encoder is not finite.
        """
        A, B = correlations(*x)
        M = backward_map(A, B)
        theta, W = self.first(M)
        xi, balance, first = theta.clone(), W.T @ W - theta @ theta.T, (W.norm() ** 2 + theta.norm() ** 2).item()
        for step in range(self.steps + 1):
            if step % max(1, self.steps // POINTS) == 0:
                if not bool(torch.isfinite(theta).all()):
                    raise Diverged(f"the linear encoder is not finite at step {step}; try a lower learning rate")
                drift = (W.T @ W - theta @ theta.T - balance).norm().item() / first
                apart = distances(W, M)
                yield (
                    State(
                        step=step,
                        residual=residual(W, theta, A, B),
                        nearest=apart.min().item(),
                        unmatched=apart.min(0).values.mean().item(),
                        encoder=theta.norm().item(),
                        predictor=W.norm().item(),
                        rank=effective_rank(theta),
                        balance=drift,
                    ),
                    W,
                )
            to_theta, to_W = self.gradients(theta, W, xi, A, B, x)
            theta = theta - self.lr * to_theta
            W = W - self.lr * to_W if self.predictor == "trained" else W
            xi = self.decay * xi + (1 - self.decay) * theta

    def first(self, M: Square) -> tuple[Square, Square]:
        """Return encoder and predictor at the start."""
        g, n = generator(self.pairs.seed, "linear start"), self.pairs.n

        def drawn() -> Tensor:
            gaussian = torch.randn(n, n, generator=g, dtype=torch.double) / n**0.5
            return gaussian if self.start == "gaussian" else torch.linalg.qr(gaussian)[0]

        theta, W = self.encoder_size * drawn(), self.predictor_size * drawn()
        match self.predictor:
            case "identity":
                W = torch.eye(n, dtype=torch.double)
            case "apart":
                W = orthogonal(n, g)
            case "sharing":
                largest = max(torch.linalg.eigvals(M).tolist(), key=lambda v: (abs(v), v.imag))
                W = sharing([largest], n, g)
            case "trained":
                pass
        return theta, W

    def gradients(
        self, theta: Square, W: Square, xi: Square, A: Square, B: Square, x: Float[Tensor, "2 k n"]
    ) -> tuple[Square, Square]:
        """Return the gradients of the loss with respect to theta and W: Eq. 58 and 59 for the squared one."""
        if self.loss == "squared":
            mean = W @ theta @ A - xi @ B
            return 2 * W.T @ mean, 2 * mean @ theta.T
        theta, W = theta.detach().requires_grad_(), W.detach().requires_grad_()
        loss = squared_distance(x[0] @ theta.T @ W.T, x[1] @ xi.T)
        to_theta, to_W = torch.autograd.grad(loss, [theta, W])
        return to_theta, to_W


class State(NamedTuple):
    """A linear model at one step of its training.

    Attributes:
        step: updates done.
        residual: |W theta A - theta B| / |theta|.
        nearest: least distance of an eigenvalue of W from one of B A^-1; small by chance where there are many.
        unmatched: mean distance of B A^-1's eigenvalues from the nearest of W's.
        encoder, predictor: norms of theta and W.
        rank: effective rank of theta.
        balance: |change of W^T W - theta theta^T| since the start, relative to |W|^2 + |theta|^2 there.
    """

    step: int
    residual: float
    nearest: float
    unmatched: float
    encoder: float
    predictor: float
    rank: float
    balance: float


# --- rows -------------------------------------------------------------------------------------------------------------

ALGEBRA = "Sylvester's equation"
SMALL = "linear model, W trained from smaller than θ"
EVEN = "linear model, W trained from the size of θ"
LARGE = "linear model, W trained from larger than θ"
IDENTITY = "linear model, no predictor"
APART = "linear model, W fixed, shares no eigenvalue"
SHARING = "linear model, W fixed, shares the largest eigenvalue"
UNIT = "linear model on the sphere, W trained"
UNIT_IDENTITY = "linear model on the sphere, no predictor"
SQUARED = (SMALL, EVEN, LARGE, IDENTITY, APART, SHARING)
DESCENTS = (*SQUARED, UNIT, UNIT_IDENTITY)


def tasks(scale: s.Scale) -> dict[str, s.Task]:
    """Return the tasks, by row: the algebra and the descents."""
    p = pairs(scale)
    few = replace(p, subset=512 if p.subset is None else min(512, p.subset))  # 2 - 2 cos takes every pair at every step
    unit = Descent(pairs=few, loss="cosine", steps=4_000, lr=0.5)
    return {
        ALGEBRA: Algebra(pairs=p),
        SMALL: Descent(pairs=p, start="orthogonal", encoder_size=1.5, predictor_size=0.5),
        EVEN: Descent(pairs=p),
        LARGE: Descent(pairs=p, start="orthogonal", encoder_size=0.5, predictor_size=1.5),
        IDENTITY: Descent(pairs=p, predictor="identity"),
        APART: Descent(pairs=p, predictor="apart"),
        SHARING: Descent(pairs=p, predictor="sharing"),
        UNIT: unit,
        UNIT_IDENTITY: replace(unit, predictor="identity"),
    }
