"""The table of metrics: what each is called, how it is shown, what it means, and which function computes it.

The log, the terminal, the page, the verdict and docs/metrics.md read it. It stands on the standard library alone, so
that a label costs no import of torch. `register` adds a metric of a user's own, which is then treated as those here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple, get_args

from vergence.errors import InputError

TIMING = ("images_per_second", "seconds")
"""The fields of a log line that the clock decides; all others are the same bits every time."""

NON_SCALARS = ("verdict", "representation", "online", "layers", "split", "predictor", "circle", "spectrum")
"""The fields of a log line that are no numbers of its step."""

Probe = Literal["knn", "linear", "logistic", "linear-raft"]
PROBES: tuple[Probe, ...] = get_args(Probe)
"""What frozen features are scored by: nearest neighbours, a converged linear classifier, the blog's, the paper's."""

EMBEDDINGS = {
    "y": "representations",
    "z": "projections",
    "p": "predictions; projections where there is no predictor",
    "target": "target projections of the same view",
    "key": "target projections of the other view; its projections where there is no target",
}
"""What a metric's function may be given of each view of a batch: raw embeddings, float32, `[b d]`."""


@dataclass(frozen=True)
class Metric:
    """One metric of a log line.

    Attributes:
        name: the field of the log line.
        label: what it is called in a sentence.
        digits: shown after the point.
        unit: what it is counted in; empty for a pure number.
        range: its lowest and its highest value.
        at_collapse: its value where all pictures give one point; None where that says nothing.
        embeddings: what `compute` is given, one or more of `EMBEDDINGS` with a space between.
        reading: how to read it, one sentence.
        compute: returns a number, as a tensor of one element on the device; or the name of such a function of `losses`
            or `metrics.collapse`. Gradients are off.
        finish: makes the number of what `compute` returned, on the CPU, where that is the better place for it.
        views: 2: `compute(z1, z2)` is given both views at once. 1: `compute(z)` is given one at a time, and the metric
            is the mean over the views that the online network saw. Where it saw one (MoCo), `compute(z1, z2)` is given
            the key of the other as z2; metrics of other embeddings are None then.
        short: the heading of its column; the label where it is empty.
    """

    name: str
    label: str
    digits: int = 3
    unit: str = ""
    range: tuple[float, float] = (-inf, inf)
    at_collapse: float | None = None
    embeddings: str = "z"
    reading: str = ""
    compute: str | Callable[..., Any] | None = None
    finish: str | Callable[..., Any] | None = None
    views: Literal[1, 2] = 2
    short: str = ""

    @property
    def heading(self) -> str:
        """What stands above its column, or before its value where there is little room."""
        return self.short or self.label

    def show(self, value: Any) -> str:
        """Return a value with the metric's digits; a dash for what is no number."""
        return f"{value:.{self.digits}f}" if isinstance(value, int | float) else "—"


# fmt: off
_ROWS = (  # name, label, digits, unit, range, at collapse, embeddings
    Metric("loss", "loss", 4, "", (-inf, inf), None, "",
           reading="What the steps minimize: compare it within one method only."),
    Metric("alignment", "alignment", 3, "squared distance", (0, 4), 0, "p", compute="losses.alignment",
           reading="How far the two views of a picture lie apart: lower is closer, and 0 at collapse too."),
    Metric("uniformity", "uniformity", 2, "log of a potential", (-8, 0), 0, "z", views=1, compute="losses.uniformity",
           reading="How evenly pictures spread over the sphere: lower is more uniform."),
    Metric("cross_model", "cross-model distance", 3, "squared distance", (0, 4), 0, "p target",
           short="cross-model", compute="losses.cross_model",
           reading="How far predictions lie from the target's projections of the same view: 0 where both agree."),
    Metric("pos_cos", "positive cosine", 3, "cosine", (-1, 1), 1, "z key",
           short="pos cos", views=1, compute="collapse.positive_cosine",
           reading="Cosine of the two views of a picture: higher is closer, and 1 at collapse too."),
    Metric("neg_cos", "negative cosine", 3, "cosine", (-1, 1), 1, "z key",
           short="neg cos", views=1, compute="collapse.negative_cosine",
           reading="Cosine of different pictures: 1 at collapse, and well below the positive cosine in a healthy run."),
    Metric("z_std", "spread", 3, "", (0, 1), 0, "z", views=1, compute="collapse.feature_std",
           reading="Spread of the projections over the sphere: 0 at collapse, about 1 for all directions."),
    Metric("effective_rank", "effective rank", 1, "directions", (1, inf), 1, "z",
           short="rank", views=1, compute="collapse.gram", finish="collapse.rank_of_gram",
           reading="Directions that the projections fill, of at most min(batch size, dimensions): 1 at collapse."),
    Metric("y_neg_cos", "representations' negative cosine", 3, "cosine", (-1, 1), 1, "y y",
           short="neg cos of y", views=1, compute="collapse.negative_cosine",
           reading="Cosine of different pictures' representations: read it beside the untrained encoder's."),
    Metric("y_rank", "representations' rank", 1, "directions", (1, inf), 1, "y",
           short="rank of y", views=1, compute="collapse.centred_gram", finish="collapse.rank_of_gram",
           reading="Directions that the representations fill about their mean: a tenth of the untrained encoder's, "
                   "or fewer, are a collapse."),
    Metric("y_agreement", "representations' agreement", 3, "cosine", (-1, 1), 0, "y",
           short="agreement of y", compute="collapse.centred_agreement",
           reading="Cosine of a picture's two representations about the mean: higher than the untrained encoder's "
                   "in a healthy run."),
)
# fmt: on
TABLE = {metric.name: metric for metric in _ROWS}
"""All metrics by name, in the order of a log line."""

SHOWN: dict[str, tuple[str, ...]] = {
    "live": ("loss", "pos_cos", "neg_cos", "effective_rank", "y_rank"),
    "end": ("loss", "pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank"),
    "compared": ("pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank"),
    "page": ("pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank", "y_rank", "y_agreement"),
}
"""Where built-in metrics are shown, in which order: while a run trains, at its end, where the terminal compares runs,
and where the page does. What "end" names is in every run; the others are shown where they were measured."""


class Course(NamedTuple):
    """A panel of curves over training: its title, its vertical axis, and each metric with the name of its curve."""

    title: str
    axis: str
    metrics: dict[str, str]


COSINES = Course("Cosine", "mean of a batch", {"pos_cos": "same picture", "neg_cos": "different pictures"})
RANKS = Course("Effective rank", "directions that projections fill", {"effective_rank": ""})
COURSES = (
    Course("Loss", "what was trained on", {"loss": ""}),
    COSINES,
    Course("Alignment", "squared distance of two views", {"alignment": ""}),
    Course("Uniformity", "lower is more uniform", {"uniformity": ""}),
    RANKS,
    Course("Effective rank of the representation", "directions that it fills about its mean", {"y_rank": ""}),
    Course("Agreement of the representation", "of two views of a picture", {"y_agreement": ""}),
)

BUILT_IN = tuple(TABLE)


def own() -> list[Metric]:
    """Return the metrics that were registered, in the order in which they were."""
    return [metric for name, metric in TABLE.items() if name not in BUILT_IN]


def shown(place: str) -> list[Metric]:
    """Return the metrics that are shown in a place of `SHOWN`, registered ones last."""
    return [*(TABLE[name] for name in SHOWN[place]), *own()]


def in_words(numbers: Mapping[str, Any], place: str, between: str) -> str:
    """Return the metrics of a place that are among the numbers, each after its heading, in one line."""
    found = [metric for metric in shown(place) if numbers.get(metric.name) is not None]
    return between.join(f"{metric.heading} {metric.show(numbers[metric.name])}" for metric in found)


def courses() -> list[Course]:
    """Return the panels of a run's page; each registered metric has one of its own."""
    return [*COURSES, *(Course(m.label[:1].upper() + m.label[1:], m.unit, {m.name: ""}) for m in own())]


def label_of(name: str) -> str:
    """Return what a number is called in a sentence, one of a verdict that is no metric too."""
    return TABLE[name].label if name in TABLE else name.replace("_", " ")


def register(metric: Metric) -> None:
    """Add a metric: from now on it is measured at each log line, and shown wherever metrics are.

    A function may be registered anew under its name, as by a cell of a notebook that is run again.

    Raises:
        InputError: the name is taken or cannot be a field's, or what the metric says of itself does not hold together.
    """
    fields = {*BUILT_IN, *TIMING, *NON_SCALARS, "step", "epoch", "terms", "lines"}
    low, high = metric.range
    wrong = {
        "name": not metric.name.isidentifier() or metric.name in fields,
        "label": not (metric.label.strip() and metric.label.isprintable()),
        "short": not metric.short.isprintable(),
        "digits": type(metric.digits) is not int or not 0 <= metric.digits <= 12,
        "range": not low <= high,
        "embeddings": not metric.embeddings or not set(metric.embeddings.split()) <= set(EMBEDDINGS),
        "views": metric.views not in (1, 2),
        "compute": not callable(metric.compute),
        "finish": not (metric.finish is None or callable(metric.finish)),
    }
    if found := [f"{what} cannot be {getattr(metric, what)!r}" for what, is_wrong in wrong.items() if is_wrong]:
        raise InputError(f"metric {metric.name!r}: {'; '.join(found)}; see vergence.metrics.table.Metric")
    if (other := TABLE.get(metric.name)) is not None and _function(other) != _function(metric):
        raise InputError(f"metric {metric.name!r}: registered already, by {_function(other)[0]}")
    TABLE[metric.name] = metric


def _function(metric: Metric) -> tuple[str, str]:
    return getattr(metric.compute, "__module__", ""), getattr(metric.compute, "__qualname__", "")


def unregister(name: str) -> None:
    """Remove a registered metric.

    Raises:
        InputError: none of this name was registered.
    """
    if name in BUILT_IN or name not in TABLE:
        raise InputError(f"metric {name!r}: was not registered")
    del TABLE[name]
