"""Does condition (iii) of RAFT's Theorem 5.1 ask for anything? The Tan- loss beside the ordinary one.

The paper's proof keeps only the part of the gradient that is tangential to the sphere, and its Remark gives a loss
for that: |z' - lambda p|^2 / lambda with lambda = stop-gradient <p, z'>. Its gradient with respect to a unit vector p
is 2 (lambda p - z') lambda / lambda: lambda cancels, and what remains is the tangential part of the gradient 2 (p - z')
of |p - z'|^2, with factor 1. But where p = v / |v| is normalized inside the graph, the Jacobian (I - p p^T) / |v|
takes away the radial part of any gradient: there the two losses have one gradient, whatever their values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config as c
from vergence import losses, methods
from vergence import study as s
from vergence.augment import two_views
from vergence.data import load as load_images
from vergence.machine.randomness import generator
from vergence.presets import preset
from vergence.runs import subset

ROW = "Tan gradient"
OBJECTIVES = {"BYOL": c.BYOL, "BYOL'": c.BYOLPrime, "RAFT": c.RAFT}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
EQUAL = {"float32": 1e-4, "float64": 1e-12}
"""Relative difference up to which two gradients count as equal: what rounding makes of a pass through the network."""

# --- the mathematics --------------------------------------------------------------------------------------------------


def free_distance(p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean of |p - z'|^2 over the rows, as they are: not normalized. At least 0."""
    return (p - z_target).square().sum(1).mean()


def free_tangential(p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean of |z' - lambda p|^2 / lambda, lambda = stop-gradient <p, z'> (RAFT, Section 5, Remark).

    Of any sign; without bound where lambda goes to 0.
    """
    scale = (p * z_target).sum(1).detach()
    return ((z_target - scale[:, None] * p).square().sum(1) / scale).mean()


def radial_share(gradient: Float[Tensor, "b d"], p: Float[Tensor, "b d"]) -> float:
    """Return the part of a gradient along the unit vectors p, as a share of its norm, in [0, 1]."""
    return ((gradient * p).sum(1).norm() / gradient.norm()).item()


def apart(one: Tensor, other: Tensor) -> float:
    """Return |one - other| / |one|, at least 0."""
    return ((one - other).norm() / one.norm()).item()


def gradient_at(loss: Any, p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    p = p.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(p, z_target), p)[0]


def on_the_sphere(p: Float[Tensor, "b d"], z_target: Float[Tensor, "b d"]) -> dict[str, dict[str, float]]:
    """Describe the gradients of three distances of unit vectors with respect to p.

    Returns:
        For each `radial`, its radial share, and `mirrored`: how far the gradient of -d(-p, z'), what RAFT has at -p,
        is from that of d(p, z'), what BYOL' has at p, relative. Theorem 5.1 needs 0.
    """
    kinds = {
        "|p - z'|², p free": free_distance,
        "Tan, p free": free_tangential,
        "|p - z'|², p normalized in the graph": losses.squared_distance,
    }
    found = {}
    for name, loss in kinds.items():
        here = gradient_at(loss, p, z_target)
        there = gradient_at(lambda q, z, loss=loss: -loss(-q, z), p, z_target)
        found[name] = {"radial": radial_share(here, p), "mirrored": apart(here, there)}
    return found


def gradient(method: nn.Module, loss: Tensor) -> Tensor:
    """Return the gradient to all trained parameters, in one vector."""
    trained = [p for p in method.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)])


# --- the task ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tangent:
    """Both losses' gradients at the first weights and first batch of a run, for each objective and precision.

    Targets start on their own, or their distance would be that of a network from itself.
    """

    kind: ClassVar[str] = "tan-gradient"
    run: c.Run

    def solve(self, data_dir: Path | None, device: torch.device, view: s.Reporter) -> dict[str, Any]:
        """Return `gradients`: for each objective and precision the norm of the ordinary gradient, `apart` (relative
        distance of the Tan- gradient), `factor` (<tan, ordinary> / |ordinary|^2) and both losses; `sphere`: as
        `on_the_sphere` for the predictions of that batch; `cosines`: least and largest <p, z'> among them.
        """
        images = subset(load_images(self.run.data, "pretrain", data_dir=data_dir), self.run.subset)
        order = torch.randperm(len(images), generator=generator(self.run.seed, "order", 0))
        pixels = images.pixels[order[: self.run.batch_size]].to(device)
        views = two_views(pixels, images.size, self.run.views, generator(self.run.seed, "views", 1))
        gradients: dict[str, Any] = {}
        method = outputs = None
        for name, objective in OBJECTIVES.items():
            for precision, dtype in DTYPES.items():
                both, values = [], []
                for distance in ("cosine", "tangential"):
                    c_method = objective(
                        distance=distance,
                        projector=self.run.method.projector,
                        predictor=c.LinearPredictor(),
                        target=c.MovingAverage(start="independent"),
                    )
                    method = methods.build(replace(self.run, method=c_method)).to(device, dtype).train()
                    outputs = method(views.to(dtype))
                    both.append(gradient(method, outputs.loss))
                    values.append(outputs.loss.item())
                plain, tan = both
                gradients[f"{name}, {precision}"] = {
                    "norm": plain.norm().item(),
                    "apart": apart(plain, tan),
                    "factor": ((tan @ plain) / (plain @ plain)).item(),
                    "loss": values[0],
                    "tan_loss": values[1],
                }
        assert outputs is not None
        assert outputs.p is not None
        assert outputs.z_target is not None
        p, z_target = losses.normalize(outputs.p[0].detach()), losses.normalize(outputs.z_target[0])
        cosines = (p * z_target).sum(1)
        return {
            "gradients": gradients,
            "sphere": on_the_sphere(p, z_target),
            "cosines": [cosines.min().item(), cosines.max().item()],
        }


def tasks(scale: s.Scale) -> dict[str, Tangent]:
    """Return the comparison, by its row."""
    return {ROW: Tangent(run=scale.apply(preset("raft", "RAFT-LP", c.CIFAR10())))}


# --- the page ---------------------------------------------------------------------------------------------------------


def _words(name: str, key: str, about: str) -> s.Cell:
    return s.Cell(name, lambda _, found: f"{found[0][key]:.1e}", about=about)


GRADIENTS = (
    s.Measure("gradient", lambda of: of["norm"], 4, "norm over all trained parameters, ordinary loss"),
    _words("apart", "apart", "|Tan - ordinary| / |ordinary|"),
    s.Cell("factor - 1", lambda _, of: f"{of[0]['factor'] - 1:+.1e}", about="of the ordinary gradient in the Tan- one"),
    s.Measure("loss", lambda of: of["loss"], 3),
    s.Measure("Tan loss", lambda of: of["tan_loss"], 1, "no distance: it has a pole at <p, z'> = 0"),
)
SPHERE = (
    _words("radial share", "radial", "of the gradient's norm"),
    _words("mirrored", "mirrored", "relative distance of RAFT's gradient at -p from that of BYOL' at p"),
)


def tables(results: s.Results) -> Iterator[s.Table]:
    """Yield the table of gradients, and that of what they are like on the sphere."""
    for found in s.firsts(results, [ROW]).values():
        low, high = found["cosines"]
        yield s.make_table(
            "tan-gradient",
            "The Tan- loss and the ordinary one: two values, one gradient",
            GRADIENTS,
            {name: [of] for name, of in found["gradients"].items()},
            "Linear predictor, first weights, one batch. Prediction and target are normalized inside the graph.",
            found,
        )
        yield s.make_table(
            "tan-sphere",
            "Where the difference would be: the gradient with respect to unit vectors p",
            SPHERE,
            {name: [of] for name, of in found["sphere"].items()},
            f"The same batch, in float64, cosines <p, z'> from {low:.2f} to {high:.2f}. Theorem 5.1 needs 0 in the "
            "second column: a free p has it with Tan only, a p that is normalized in the graph has it without.",
            found,
        )


def _part(results: s.Results, name: str) -> Mapping[str, Any]:
    return s.firsts(results, [ROW]).get(ROW, {}).get(name, {})


def equal(results: s.Results) -> s.Outcome:
    """Judge whether the Tan- gradient is the ordinary one for every objective, in both precisions."""
    of = _part(results, "gradients")
    return s.all_hold(
        s.is_at_most(of.get(f"{name}, {precision}", {}).get("apart"), EQUAL[precision])
        for name in OBJECTIVES
        for precision in DTYPES
    )


def _equal(results: s.Results) -> s.Judged:
    said = "; ".join(f"{name}: {of['apart']:.1e} apart" for name, of in _part(results, "gradients").items())
    return equal(results), f"{said or 'Not run'}."


def _needed(results: s.Results) -> s.Judged:
    sphere = _part(results, "sphere")
    free, tan = (sphere.get(name, {}) for name in ("|p - z'|², p free", "Tan, p free"))
    outcomes = [s.is_above(free.get(kind), 0.01) for kind in ("radial", "mirrored")]
    outcomes += [s.is_at_most(tan.get(kind), 1e-6) for kind in ("radial", "mirrored")]
    said = "; ".join(
        f"{name}: radial share {of['radial']:.1e}, mirrored {of['mirrored']:.1e}" for name, of in sphere.items()
    )
    return s.all_hold(outcomes), f"{said or 'Not run'}."


CLAIMS = (
    s.Claim(
        "tan-gradient",
        "Where p is normalized inside the graph, the gradient of the Tan- loss is the ordinary gradient",
        s.Check(_equal),
        "RAFT, Section 5, Remark",
        f"Relative distance of the two gradients at most {EQUAL['float32']:g} in float32 and {EQUAL['float64']:g} in "
        "float64, for BYOL, BYOL' and RAFT.",
    ),
    s.Claim(
        "tan-needed-when-free",
        "Where p is a free vector, the ordinary gradient has a radial part, which breaks the correspondence, and the "
        "Tan- gradient has none",
        s.Check(_needed),
        "RAFT, Theorem 5.1 (iii) and Appendix H",
        "Radial share and distance of the mirrored gradient are at least 0.01 for |p - z'|², at most 1e-6 for Tan.",
    ),
)
