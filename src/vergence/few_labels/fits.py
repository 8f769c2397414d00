"""One classifier on a few labelled pictures as a job of a grid: what decides it, and how it is fitted and scored."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from vergence.config import Data, Views
from vergence.config.labels import amount
from vergence.config.marks import Added
from vergence.data import Images, load
from vergence.data.splits import few
from vergence.engine.evaluate import features, labelled_features
from vergence.engine.reporter import Reporter
from vergence.errors import InputError
from vergence.few_labels.classifier import write_classifier
from vergence.few_labels.finetune import RATES, Classifier, finetune, steps_for
from vergence.metrics import probe
from vergence.networks.encoders import build_encoder
from vergence.networks.weights import weights_digest
from vergence.runs import Model, from_weights, open_model, subset
from vergence.study.work import Work

Weights = Literal["trained", "starting", "random"]
"""Which weights an encoder has: a model's own, those that its training started from, or random ones."""

Protocol = Literal["linear probe", "fine-tuned"]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A trained encoder by what names it, with the arguments of `open_model`."""

    what: str
    encoder: str | None = None
    size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def open(self) -> Model:
        """Return the model.

        Raises:
            InputError: as `open_model`.
        """
        return open_model(self.what, encoder=self.encoder, size=self.size, mean=self.mean, std=self.std)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where labelled pictures lie: `subset` of them are fitted on, all where None."""

    data: Data
    subset: int | None = None
    data_dir: Path | None = None

    def load(self, split: Literal["train", "test"]) -> Images:
        """Return the pictures that classifiers are fitted on, or those they are scored on."""
        images = load(self.data, split, data_dir=self.data_dir)
        return subset(images, self.subset) if split == "train" else images


@dataclass(frozen=True, kw_only=True)
class Fit:
    """All that decides a classifier and its score.

    Attributes:
        encoder: the digest of the encoder's weights.
        weights: which of a model's they are.
        pictures: the digest of those that it may be fitted on and those that it is scored on.
        views: size and normalization; how crops are drawn in fine-tuning.
        labels: an amount such as "10%" or "10".
        seed: of the choice of labelled pictures, of fine-tuning, and of random weights.
        protocol: what is fitted.
        steps: of fine-tuning; None: as the number of labelled pictures decides.
    """

    kind: ClassVar[str] = "fit"
    encoder: str
    weights: Weights
    pictures: str
    views: Views
    labels: str
    seed: int
    protocol: Protocol
    steps: Annotated[int | None, Added()] = None


@dataclass(frozen=True, kw_only=True)
class FitJob(Work):
    """A classifier as a job. What is not in `task` decides no number of it.

    Attributes:
        row: what the encoder is called on the page.
        beside: the rows that it is compared with.
        model: that the encoder belongs to.
        pictures: where they lie.
        whole: whether all pictures are labelled and nothing is random, so that the result holds for every seed.
        keep: whether the fine-tuned classifier stays in the job's folder.
    """

    task: Fit  # pyright: ignore[reportIncompatibleVariableOverride], a task of one kind
    row: str
    beside: tuple[str, ...]
    model: Named
    pictures: Pictures
    whole: bool = False
    keep: bool = False

    def solve(self, folder: Path, device: torch.device, view: Reporter) -> dict[str, Any]:
        """Fit the classifier on the labelled pictures, then score it on the test pictures, once."""
        encoder, model = _same_encoder_of(*self._place)
        if weights_digest(encoder, model.views.size) != self.task.encoder:
            raise InputError(f"{self.model.what}: its weights have changed since this began; start the command again")
        if self.task.protocol == "linear probe":
            score, count = self._probe(encoder, device)
        else:
            score, count = self._finetune(encoder, model, folder, device, view)
        about = {"row": self.row, "beside": list(self.beside), "pictures": count, "whole": self.whole}
        return about | {"score": score}

    @property
    def _place(self) -> tuple[Named, Weights, int]:
        """What tells the encoder from others."""
        return self.model, self.task.weights, self.task.seed if self.task.weights == "random" else 0

    def _probe(self, encoder: nn.Module, device: torch.device) -> tuple[dict[str, Any], int]:
        train, test = (
            _features(self._place, self.pictures, split, self.task.views, str(device)) for split in ("train", "test")
        )
        assert train.keys is not None
        chosen = self._few(train.keys, train.labels)
        some = replace(train, y=train.y[chosen], labels=train.labels[chosen], keys=[train.keys[i] for i in chosen])
        if not (some.y.isfinite().all() and test.y.isfinite().all()):
            return probe.unscored("the encoder's representations are not finite"), len(chosen)
        return probe.linear(some, test), len(chosen)

    def _finetune(
        self, encoder: nn.Module, model: Model, folder: Path, device: torch.device, view: Reporter
    ) -> tuple[dict[str, Any], int]:
        train = self.pictures.load("train")
        assert train.labels is not None
        some = train.take(torch.tensor(self._few(train.keys, train.labels)))
        steps = self.task.steps or steps_for(len(some))
        view.start((1 + len(RATES)) * steps, 0, steps, (), ())
        start, seed = Classifier(encoder, model.dim, len(train.classes)), self.task.seed
        fitted, how = finetune(start, some, self.task.views, seed=seed, device=device, steps=steps, step=view.step)
        test = self.pictures.load("test")
        assert some.labels is not None
        assert test.labels is not None
        logits = features(fitted, test, self.task.views, device=device).cpu()
        if not logits.isfinite().all():
            return probe.unscored("fine-tuning diverged"), len(some)
        protocol = f"{how}; fitted on {len(some)} training, scored on {len(test)} {test.split_name} pictures"
        score = probe.score(logits.argmax(1), test.labels, some.labels, protocol)
        if self.keep:
            write_classifier(fitted, model, test.classes, folder)
        return score, len(some)

    def _few(self, keys: Any, labels: torch.Tensor) -> list[int]:
        return few(keys, labels.tolist(), amount(self.task.labels).count, self.task.seed)


def encoder_of(named: Named, weights: Weights, seed: int) -> tuple[nn.Module, Model]:
    """Return a model's encoder with some of its weights, in evaluation mode, and the model.

    Args:
        named: the model.
        weights: which.
        seed: of random ones.

    Raises:
        InputError: the model has no such weights, or they are not at hand.
    """
    model = named.open()
    if weights == "trained":
        return model.encoder, model
    if weights == "random":
        if (untrained := model.untrained(seed)) is None:
            raise InputError(f"{model.name}: is an exported program, which can be given no random weights")
        return untrained, model
    if model.run is None or model.run.encoder.weights is None:
        raise InputError(f"{model.name}: started from random weights")
    run = from_weights(model.run, ("encoder", "size", "mean", "std"))
    return build_encoder(run.encoder, model.views.size).eval(), model


_same_encoder_of = lru_cache(maxsize=4)(encoder_of)
"""Does it once for a process of a grid, which does the jobs of one encoder after each other."""


@lru_cache(maxsize=4)
def _features(
    place: tuple[Named, Weights, int], pictures: Pictures, split: Literal["train", "test"], views: Views, device: str
) -> probe.Features:
    """Return the features of an encoder, which are taken once for all amounts of labels and all seeds."""
    return labelled_features(_same_encoder_of(*place)[0], pictures.load(split), views, device=device)
