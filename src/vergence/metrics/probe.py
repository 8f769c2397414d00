"""How good a frozen representation is: nearest neighbours and two linear classifiers, on features taken once."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vergence.runtime import generator


@dataclass(frozen=True)
class Features:
    """Representations of labelled pictures, from a frozen encoder.

    Attributes:
        y: what the encoder gives.
        labels: their classes.
        called: what a protocol calls the pictures where a probe is scored on them.
    """

    y: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    called: str = "test"

    def __len__(self) -> int:
        return len(self.labels)


def knn(train: Features, test: Features, k: int = 20, temperature: float = 0.07) -> dict[str, Any]:
    """Share of test pictures whose class the k nearest training pictures vote for.

    Cosine similarity; a vote weighs exp(cosine / temperature) (Wu et al. 2018, arXiv 1805.01978). k is lowered to the
    number of training pictures where there are fewer.
    """
    k = min(k, len(train))
    classes = _classes(train, test)
    bank = F.normalize(train.y, dim=1).T.contiguous()
    correct = 0
    for queries, truth in zip(test.y.split(1024), test.labels.split(1024), strict=True):
        cosine, nearest = (F.normalize(queries, dim=1) @ bank).topk(k, dim=1)
        votes = torch.zeros(len(queries), classes, device=queries.device)
        weights = ((cosine - cosine[:, :1]) / temperature).exp()  # of the nearest 1: a common factor decides nothing
        votes.scatter_add_(1, train.labels[nearest], weights)
        correct += int((votes.argmax(1) == truth).sum())
    protocol = f"{k} nearest of {len(train)} training pictures by cosine, weighted by exp(cos / {temperature:g})"
    return _result(correct / len(test), f"{protocol}; {len(test)} {test.called} pictures")


def linear(
    train: Features, test: Features, *, epochs: int = 100, lr: float = 5e-4, batch_size: int = 256, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of a linear layer trained on all training labels given (RAFT, Appendix C: 100 epochs, rate 5e-4).

    The paper names no optimizer; Adam and the batch size are ours. The representations are those of the whole,
    unaugmented pictures and are computed once. The accuracy is that of the last epoch: the test set chooses nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(train.y.shape[1], _classes(train, test)).to(train.y.device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, fused=True)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=generator(seed, "linear", epoch)).to(train.y.device)
        y, labels = train.y[order], train.labels[order]
        for some, truth in zip(y.split(batch_size), labels.split(batch_size), strict=True):
            F.cross_entropy(layer(some), truth).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        accuracy = (layer(test.y).argmax(1) == test.labels).float().mean().item()
    protocol = f"linear layer, Adam {lr:g}, {epochs} epochs, batch {batch_size}, last epoch"
    fitted = f"fitted on {len(train)} training, scored on {len(test)} {test.called} pictures"
    return _result(accuracy, f"{protocol}; {fitted}")


def logistic(test: Features) -> dict[str, Any]:
    """Accuracy of a logistic regression fitted on the first half of the test set and scored on the second (the blog's).

    liblinear, one classifier against the rest for each class, at most 100 iterations, as the post's code.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    half = len(test) // 2
    y, labels = test.y.double().cpu().numpy(), test.labels.cpu().numpy()
    if len(set(labels[:half])) < 2:
        return _result(None, f"needs two classes in the first half of the {test.called} pictures")
    classifier = OneVsRestClassifier(LogisticRegression(solver="liblinear", max_iter=100, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are the protocol, converged or not
        classifier.fit(y[:half], labels[:half])
    accuracy = float(classifier.score(y[half:], labels[half:]))
    protocol = "logistic regression (liblinear, 100 iterations)"
    return _result(
        accuracy,
        f"{protocol} fitted on the first {half}, scored on the other {len(test) - half} {test.called} pictures",
    )


def _classes(train: Features, test: Features) -> int:
    return 1 + int(max(train.labels.max(), test.labels.max()))


def _result(accuracy: float | None, protocol: str) -> dict[str, Any]:
    return {"accuracy": None if accuracy is None else round(100 * accuracy, 2), "protocol": protocol}
