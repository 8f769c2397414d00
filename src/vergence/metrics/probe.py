"""How good a frozen representation is: nearest neighbours and linear classifiers, on features taken once.

Every probe gives its score beside what it must beat, with a 95% interval and its protocol:

    {"accuracy": percent, "balanced_accuracy": percent, "interval": [low, high], "baselines": {"no picture": percent},
     "converged": whether the classifier's fit has ended (None for nearest neighbours), "protocol": text}

The balanced accuracy is the mean over classes of the share of their pictures that were recognised. "no picture" is what
a classifier gets that sees no picture and always says the class most frequent among the fitted ones.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vergence.data.splits import folds
from vergence.machine.filters import own_filters
from vergence.machine.randomness import generator
from vergence.metrics.neighbours import nearest
from vergence.metrics.softmax_regression import PENALTIES, SoftmaxRegression, choose_penalty

MOST_CHOSEN_ON = 20_000
"""Pictures on which the strength of a penalty is chosen at most; a tenth of them is held out."""

FEW = 2_000
"""Pictures up to which the strength is chosen by five-fold cross-validation instead."""

STILL_FALLING = 0.05
"""Share of its gradient at the start above which a classifier trained for a fixed number of steps has not converged."""

Z_95 = 1.959964
"""The normal distribution's 97.5% quantile."""


@dataclass(frozen=True)
class Features:
    """Representations of labelled pictures, from a frozen encoder.

    Attributes:
        y: what the encoder gives.
        labels: their classes.
        split_name: what a protocol calls the pictures where a probe is scored on them.
        keys: something for each picture that does not depend on the order of pictures, such as a hash of its pixels:
            splits go by it. By default the bytes of its representation.
        published_order: whether the order is a publisher's, whose halves a protocol may name.
    """

    y: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    split_name: str = "test"
    keys: Sequence[bytes] | None = None
    published_order: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def folds(self, count: int) -> Int64[Tensor, " n"]:
        """The fold of each picture, stratified by class, the same whatever the order of the pictures."""
        keys = self.keys if self.keys is not None else [row.numpy().tobytes() for row in self.y.float().cpu()]
        return torch.tensor(folds(keys, self.labels.tolist(), count), device=self.labels.device)


def knn(train: Features, test: Features, k: int = 20, temperature: float = 0.07) -> dict[str, Any]:
    """Score the vote of each test picture's k nearest training pictures.

    Cosine similarity; a vote weighs exp(cosine / temperature) (Wu et al. 2018, arXiv 1805.01978). k is lowered to the
    number of training pictures where there are fewer.
    """
    k = min(k, len(train))
    classes = _classes(train, test)
    bank = F.normalize(train.y, dim=1)
    cosine, places = nearest(F.normalize(test.y, dim=1), bank, k, tile=len(bank))  # the order of ties goes by the tile
    weights = ((cosine - cosine[:, :1]) / temperature).exp()  # of the nearest 1: a common factor decides nothing
    votes = torch.zeros(len(test), classes, device=weights.device).scatter_add_(1, train.labels[places], weights)
    protocol = f"{k} nearest of {len(train)} training pictures by cosine, weighted by exp(cos / {temperature:g})"
    return score(votes.argmax(1), test.labels, train.labels, f"{protocol}; {len(test)} {test.split_name} pictures")


def linear(train: Features, test: Features) -> dict[str, Any]:
    """Score a softmax regression that is fitted until it has converged, whatever the number of pictures.

    The strength of its penalty is the one with the least cross-entropy on training pictures that are held out of the
    fit: by five-fold cross-validation of up to 2,000 pictures, else on a tenth of up to 20,000; folds are stratified
    and go by the pictures' content, not by their order. The classifier is then fitted on all training pictures. The
    test set chooses nothing.
    """
    classes = _classes(train, test)
    regression = SoftmaxRegression(train.y, train.labels, classes)
    fitted_and_scored, chosen_on = _held_out(train)
    penalties = [share * regression.curvature for share in PENALTIES]
    penalty = choose_penalty(train.y, train.labels, classes, penalties, fitted_and_scored)
    classifier = regression.fit(penalty)
    protocol = (
        f"softmax regression, C = {1 / penalty:.3g} chosen {chosen_on}; "
        f"fitted on {len(train)} training, scored on {len(test)} {test.split_name} pictures"
        f"{'' if classifier.converged else '; not converged'}"
    )
    return score(classifier.logits(test.y).argmax(1), test.labels, train.labels, protocol, classifier.converged)


def _held_out(train: Features) -> tuple[list[tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]], str]:
    """The folds a penalty is chosen on, as pairs of what is fitted and what is scored, and how a protocol says it."""
    n = len(train)
    if n <= FEW:
        fold = train.folds(5)
        return [(fold != i, fold == i) for i in range(5)], "by 5-fold cross-validation"
    fold = train.folds(10 * math.ceil(n / MOST_CHOSEN_ON))
    scored = fold == 0
    return [((fold > 0) & (fold < 10), scored)], f"on {int(scored.sum())} held-out training pictures"


def linear_raft(
    train: Features, test: Features, *, epochs: int = 100, lr: float = 5e-4, batch_size: int = 256, seed: int = 0
) -> dict[str, Any]:
    """Score a linear layer trained on all training labels as the RAFT paper does (Appendix C: 100 epochs, rate 5e-4).

    The paper names no optimizer; Adam and the batch size are ours. The representations are those of the whole,
    unaugmented pictures and are computed once. The accuracy is that of the last epoch: the test set chooses nothing.
    On few pictures so many epochs are few steps and the layer has not converged: then the protocol says so.
    """
    layer = _layer(train.y.shape[1], _classes(train, test)).to(train.y.device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True)
    before = _steepness(layer, train)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=generator(seed, "linear", epoch)).to(train.y.device)
        y, labels = train.y[order], train.labels[order]
        for some, truth in zip(y.split(batch_size), labels.split(batch_size), strict=True):
            F.cross_entropy(layer(some), truth).backward()
            optimizer.step()
            optimizer.zero_grad()
    steps = epochs * math.ceil(len(train) / batch_size)
    converged = _steepness(layer, train) <= STILL_FALLING * before
    with torch.no_grad():
        answers = layer(test.y).argmax(1)
    protocol = f"linear layer, Adam {lr:g}, {epochs} epochs, batch {batch_size}, last epoch"
    fitted = f"fitted on {len(train)} training, scored on {len(test)} {test.split_name} pictures"
    stopped = "" if converged else f"; not converged after its {steps:,} steps"
    return score(answers, test.labels, train.labels, f"{protocol}; {fitted}{stopped}", converged)


def _layer(inputs: int, outputs: int) -> torch.nn.Linear:
    """A layer as `torch.nn.Linear` starts after `manual_seed(0)`, without a look at the process's generator."""
    layer = torch.nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    start, bound = torch.Generator().manual_seed(0), 1 / math.sqrt(inputs)
    torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=start)
    torch.nn.init.uniform_(layer.bias, -bound, bound, generator=start)
    return layer


def _steepness(layer: torch.nn.Linear, train: Features) -> float:
    """The norm of the gradient of the mean cross-entropy over all training pictures."""
    loss = F.cross_entropy(layer(train.y), train.labels)
    gradients = torch.autograd.grad(loss, list(layer.parameters()))
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt().item()


def logistic(test: Features) -> dict[str, Any]:
    """Score a logistic regression fitted on half of the test set and scored on the other half (the blog's protocol).

    liblinear, one classifier against the rest for each class, at most 100 iterations, as the post's code. The halves
    are the first and the second where the order is the publisher's, as in the post. Elsewhere each class is halved, by
    the pictures' content: the files of a folder lie in the order of their classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    n = len(test)
    fit = torch.arange(n, device=test.labels.device) < n // 2 if test.published_order else test.folds(2) == 0
    count = int(fit.sum())
    halves = f"the first {count}, scored on the other {n - count}"
    if not test.published_order:
        halves = f"{count}, half of each class, scored on the other {n - count}"
    if len(test.labels[fit].unique()) < 2:
        return unscored(f"needs two classes in the half of the {test.split_name} pictures that it is fitted on")
    y, labels = test.y.double().cpu().numpy(), test.labels.cpu().numpy()
    fitted = fit.cpu().numpy()
    classifier = OneVsRestClassifier(LogisticRegression(solver="liblinear", max_iter=100, random_state=0))
    with own_filters():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are the protocol, converged or not
        classifier.fit(y[fitted], labels[fitted])
    answers = torch.from_numpy(classifier.predict(y[~fitted]))
    converged = all(getattr(one, "n_iter_", [0])[0] < 100 for one in classifier.estimators_)
    stopped = "" if converged else "; not converged after its 100 iterations"
    protocol = f"logistic regression (liblinear, 100 iterations) fitted on {halves} {test.split_name} pictures{stopped}"
    return score(answers, test.labels[~fit].cpu(), test.labels[fit].cpu(), protocol, converged)


def interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n pictures, in percent (Wilson 1927): what other test pictures might give."""
    share, widening = correct / n, Z_95**2 / n
    middle = (share + widening / 2) / (1 + widening)
    half = Z_95 * math.sqrt(share * (1 - share) / n + widening / (4 * n)) / (1 + widening)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def difference_interval(
    first: float, first_ends: Sequence[float], second: float, second_ends: Sequence[float]
) -> tuple[float, float]:
    """Return Newcombe's 95% interval of the difference of two percents, from the Wilson interval of each (1998).

    Where both were scored on the same pictures it is wider than it need be: it takes them for others.
    """
    (low, high), (low2, high2) = first_ends, second_ends
    points = first - second
    return points - math.hypot(first - low, high2 - second), points + math.hypot(high - first, second - low2)


def _classes(train: Features, test: Features) -> int:
    return 1 + int(max(train.labels.max(), test.labels.max()))


def score(
    answers: Int64[Tensor, " n"],
    truth: Int64[Tensor, " n"],
    fitted: Int64[Tensor, " m"],
    protocol: str,
    converged: bool | None = None,
) -> dict[str, Any]:
    """Return a probe's result from its answers, the right ones, and the classes of the pictures it was fitted on.

    Args:
        answers: a class for each test picture.
        truth: their classes.
        fitted: the classes of the pictures that the classifier was fitted on.
        protocol: how it was fitted and scored, in words.
        converged: whether its fit has ended; None where that means nothing.
    """
    right = (answers == truth).double()
    correct, n = int(right.sum()), len(truth)
    each = torch.bincount(truth)
    recalls = torch.bincount(truth, weights=right)[each > 0] / each[each > 0]
    blind = (truth == fitted.bincount().argmax()).double().mean().item()
    return {
        "accuracy": round(100 * (correct / n), 2),
        "balanced_accuracy": round(100 * recalls.mean().item(), 2),
        "interval": [round(end, 2) for end in interval(correct, n)],
        "baselines": {"no picture": round(100 * blind, 2)},
        "converged": converged,
        "protocol": protocol,
    }


def unscored(why: str) -> dict[str, Any]:
    """The result of a probe that cannot be scored, with the reason in the protocol's place."""
    return {"accuracy": None, "protocol": why}
