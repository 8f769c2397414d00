"""One step's outputs to numbers."""

from typing import Any

import torch

from vergence.losses import alignment, cross_model, uniformity
from vergence.methods.base import Outputs
from vergence.metrics.collapse import effective_rank, feature_std, positive_negative_cosine


@torch.no_grad()
def measure(outputs: Outputs) -> dict[str, Any]:
    """The numbers of a log line, averaged over the views that the online network saw.

    `alignment` is of the predictions (of the projections where there is no predictor; of projection and key in MoCo,
    whose online network sees one view), `uniformity`, `z_std` and `effective_rank` are of the projections, the cosines
    of projections with the other view's target projections (with the other view's projections where there is no
    target), `cross_model` of predictions with the same view's target: None where a method has no such pair.
    """
    z = outputs.z.float()
    z_target = z if outputs.z_target is None else outputs.z_target.float()
    p = z if outputs.p is None else outputs.p.float()
    cosines = [positive_negative_cosine(a, b) for a, b in zip(z, z_target.flip(0), strict=True)]
    both = len(z) == 2
    cross = cross_model(*p, *z_target) if both and outputs.z_target is not None else None
    values = {
        "loss": outputs.loss,
        "alignment": alignment(p[0], p[1]) if both else alignment(z[0], z_target[0]),
        "uniformity": torch.stack([uniformity(view) for view in z]).mean(),
        "cross_model": cross,
        "pos_cos": torch.stack([positive for positive, _ in cosines]).mean(),
        "neg_cos": torch.stack([negative for _, negative in cosines]).mean(),
        "z_std": torch.stack([feature_std(view) for view in z]).mean(),
        "effective_rank": torch.stack([effective_rank(view) for view in z]).mean(),
    }
    numbers: dict[str, float | dict[str, float] | None] = {
        k: None if v is None else v.item() for k, v in values.items()
    }
    numbers["terms"] = {name: term.item() for name, term in outputs.terms.items()}
    return numbers
