"""The rows of the study of the family: each method, each with one protection taken away, and the way to SimSiam."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vergence import config as c
from vergence import presets

Collapse = Literal["complete collapse", "dimensional collapse"]
COMPLETE: Collapse = "complete collapse"
DIMENSIONAL: Collapse = "dimensional collapse"

RANDOM = "Random"

METHODS: Mapping[str, c.Method] = {
    "SimCLR": c.SimCLR(),
    "NNCLR": c.NNCLR(),
    "BYOL": c.BYOL(),
    "RAFT": c.RAFT(),
    "SimSiam": c.SimSiam(),
    "DirectPred": c.DirectPred(),
    "DirectCopy": c.DirectPred(predictor=c.Direct(alpha=1.0, eps=0.25)),
    "IsoLoss": c.DirectPred(loss="isotropic"),
    "Barlow Twins": c.BarlowTwins(),
    "VICReg": c.VICReg(),
    "SIGReg": c.SIGReg(),
    "VISReg": c.SIGReg(regularizer="visreg"),
    "W-MSE": c.WMSE(),
    "SwAV": c.SwAV(),
    "DINO": c.DINO(),
}
"""Every method of the family with all that protects it."""


@dataclass(frozen=True)
class Removal:
    """A protection that is taken away from a method.

    Attributes:
        method: the row of `METHODS`.
        what: the protection.
        without: what takes it away from the method's settings.
        predicted: what follows, as the method's paper has it.
        source: where it says so.
    """

    method: str
    what: str
    without: Callable[[Any], c.Method]
    predicted: Collapse
    source: str

    @property
    def row(self) -> str:
        """Name of the row."""
        return f"{self.method}, no {self.what}"


def setting(**changes: Any) -> Callable[[Any], c.Method]:
    """Return a function that changes these settings of a method."""
    return lambda method: replace(method, **changes)


def without_norm(method: c.BYOL) -> c.Method:
    """Return the method with heads that have no norm."""
    return replace(
        method,
        projector=replace(method.projector, norm="none"),
        predictor=replace(method.predictor, norm="none"),  # type: ignore[type-var]
    )


def only_alignment(method: c.SimCLR) -> c.Method:
    """Return what is left of SimCLR without its negatives: the distance of the two views, with all its gradient."""
    return c.RAFT(beta=0.0, projector=method.projector, predictor=c.NoPredictor(), target=c.StopGradient())


REMOVALS = (
    Removal("SimCLR", "negatives", only_alignment, COMPLETE, "Wang & Isola, arXiv 2005.10242"),
    Removal("NNCLR", "negatives", setting(negatives=False), COMPLETE, "arXiv 2104.14548"),
    Removal("BYOL", "predictor", setting(predictor=c.NoPredictor()), COMPLETE, "arXiv 2006.07733, Table 5b"),
    Removal("BYOL", "batch norm", without_norm, COMPLETE, "the post, its table"),
    Removal("BYOL", "stop-gradient", setting(target=c.Shared()), COMPLETE, "arXiv 2006.07733, Section 3.2"),
    Removal("RAFT", "cross-model term", setting(beta=0.0), COMPLETE, "arXiv 2011.10944, Section 4"),
    Removal("SimSiam", "stop-gradient", setting(target=c.Shared()), COMPLETE, "arXiv 2011.10566, Section 4.1"),
    Removal("SimSiam", "predictor", setting(predictor=c.NoPredictor()), COMPLETE, "arXiv 2011.10566, Section 4.2"),
    Removal("DirectPred", "predictor", setting(predictor=c.NoPredictor()), COMPLETE, "arXiv 2102.06810, Section 3"),
    Removal("Barlow Twins", "off-diagonal", setting(off_diagonal=0.0), DIMENSIONAL, "arXiv 2103.03230, Table 5"),
    Removal("VICReg", "variance", setting(variance=0.0), COMPLETE, "arXiv 2105.04906, Table 7"),
    Removal("VICReg", "covariance", setting(covariance=0.0), DIMENSIONAL, "arXiv 2105.04906, Section 4"),
    Removal("SIGReg", "regularizer", setting(weight=0.0), COMPLETE, "arXiv 2511.08544"),
    Removal("W-MSE", "whitening", setting(whitening="standardize"), DIMENSIONAL, "arXiv 2007.06346, Section 3"),
    Removal("SwAV", "equal partition", setting(assignment="softmax"), COMPLETE, "arXiv 2006.09882, Section 3.1"),
    Removal("DINO", "centring", setting(center_momentum=None), COMPLETE, "arXiv 2104.14294, Section 5.3"),
    Removal(
        "DINO",
        "sharpening",
        setting(target_temperature=0.1, target_temperature_start=0.1),
        COMPLETE,
        "arXiv 2104.14294, Section 5.3",
    ),
)
"""Every protection of the family, and what its paper predicts of the method without it."""


# --- from BYOL without a moving average to SimSiam --------------------------------------------------------------------

WITHOUT_MOMENTUM = "BYOL, stop-gradient target"

STEPS: Mapping[str, Callable[[Any, c.SimSiam], Any]] = {
    "quarter of the loss": lambda method, _: replace(method, scale=0.25),
    "projector": lambda method, simsiam: replace(method, projector=simsiam.projector),
    "predictor": lambda method, simsiam: replace(method, predictor=simsiam.predictor),
}
"""The slots in which SimSiam differs from BYOL without a moving average; set all, the one is the other."""


def bridge(simsiam: c.SimSiam) -> dict[str, c.Method]:
    """Return BYOL without a moving average, with one of SimSiam's slots each, and with all but one each."""
    start = c.BYOL(target=c.StopGradient())
    found: dict[str, c.Method] = {WITHOUT_MOMENTUM: start}
    for name, step in STEPS.items():
        found[f"{WITHOUT_MOMENTUM}, SimSiam's {name}"] = step(start, simsiam)
    for left in STEPS:
        method: Any = start
        for name, step in STEPS.items():
            method = method if name == left else step(method, simsiam)
        found[f"SimSiam, BYOL's {left}"] = method
    return found


# --- runs -------------------------------------------------------------------------------------------------------------


def runs(data: c.Data) -> dict[str, c.Run]:
    """Return the default run of each method for these pictures, and of each without one of its protections."""
    suited = {row: presets.default(method, data) for row, method in METHODS.items()}
    found = {RANDOM: replace(suited["SimCLR"], epochs=0)}
    for row, run in suited.items():
        found[row] = run
        for removal in REMOVALS:
            if removal.method == row:
                found[removal.row] = replace(run, method=removal.without(run.method))
    simsiam = suited["SimSiam"]
    assert isinstance(simsiam.method, c.SimSiam)
    return found | {row: replace(simsiam, method=method) for row, method in bridge(simsiam.method).items()}
