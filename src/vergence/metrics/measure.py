"""One step's outputs to numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vergence.losses import alignment, cross_model, uniformity
from vergence.machine.device import fetch
from vergence.methods.base import Outputs
from vergence.metrics.collapse import centred_agreement, feature_std, gram, positive_negative_cosine, rank_of_gram


def measure(outputs: Outputs) -> dict[str, Any]:
    """The numbers of a log line, averaged over the views that the online network saw.

    `alignment` is of the predictions (of the projections where there is no predictor; of projection and key in MoCo,
    whose online network sees one view), `uniformity`, `z_std` and `effective_rank` are of the projections, the cosines
    of projections with the other view's target projections (with the other view's projections where there is no
    target), `cross_model` of predictions with the same view's target: None where a method has no such pair.

    `y_neg_cos`, `y_rank` and `y_agreement` are of the representations, in training mode: the mean cosine of different
    pictures, the effective rank about the mean, and the agreement of a picture's two views about the mean: None for
    MoCo, whose online network sees one view.
    """
    numbers = read(outputs, None)()
    del numbers["layers"]
    return numbers


@torch.no_grad()
def read(
    outputs: Outputs, layers: tuple[Tensor, Callable[[Tensor], dict[str, Any]]] | None
) -> Callable[[], dict[str, Any]]:
    """`measure` in two parts: what a device has to do is begun here; the function returned waits for it.

    Args:
        outputs: of the step.
        layers: for the line's field of this name.
    """
    z = outputs.z.float()
    z_target = z if outputs.z_target is None else outputs.z_target.float()
    p = z if outputs.p is None else outputs.p.float()
    cosines = [positive_negative_cosine(a, b) for a, b in zip(z, z_target.flip(0), strict=True)]
    both = len(z) == 2
    y = outputs.y.detach().float()
    values = {
        "loss": outputs.loss.detach(),
        "alignment": alignment(p[0], p[1]) if both else alignment(z[0], z_target[0]),
        "uniformity": torch.stack([uniformity(view) for view in z]).mean(),
        "pos_cos": torch.stack([positive for positive, _ in cosines]).mean(),
        "neg_cos": torch.stack([negative for _, negative in cosines]).mean(),
        "z_std": torch.stack([feature_std(view) for view in z]).mean(),
        "y_neg_cos": torch.stack([positive_negative_cosine(view, view)[1] for view in y]).mean(),
    }
    if both:
        values["y_agreement"] = centred_agreement(y[0], y[1])
    if both and outputs.z_target is not None:
        values["cross_model"] = cross_model(*p, *z_target)
    terms = {name: term.detach() for name, term in outputs.terms.items()}
    norms = () if layers is None else (layers[0],)
    fetched = fetch(
        torch.stack([*values.values(), *terms.values()]),
        *(gram(view) for view in z),
        *(gram(view - view.mean(0)) for view in y),
        *norms,
    )

    def numbers() -> dict[str, Any]:
        scalars, *matrices = fetched()
        named = dict(zip([*values, *terms], scalars.tolist(), strict=True))
        ranks = [rank_of_gram(matrix) for matrix in matrices[: len(z) + len(y)]]
        return {
            **{name: named[name] for name in ("loss", "alignment", "uniformity")},
            "cross_model": named.get("cross_model") if "cross_model" in values else None,
            **{name: named[name] for name in ("pos_cos", "neg_cos", "z_std")},
            "effective_rank": torch.stack(ranks[: len(z)]).mean().item(),
            "y_neg_cos": named["y_neg_cos"],
            "y_rank": torch.stack(ranks[len(z) :]).mean().item(),
            "y_agreement": named.get("y_agreement") if both else None,
            "terms": {name: scalars[len(values) + i].item() for i, name in enumerate(terms)},
            "layers": {} if layers is None else layers[1](matrices[-1]),
        }

    return numbers
