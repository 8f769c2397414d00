"""What is looked at while a run trains, besides each step's own numbers; none of it changes a bit of the run."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vergence.augment import evaluation_view, two_views
from vergence.config import Run, Views
from vergence.data import Images
from vergence.engine.evaluate import evaluate
from vergence.engine.periods import Periods, due
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.machine.randomness import generator
from vergence.methods import Method
from vergence.metrics import traces

TRACED = 1024
"""Pictures whose directions are drawn."""

PAIRS = 12
"""Pictures of which both views are drawn."""


def observer(
    run: Run,
    images: Images,
    splits: tuple[Images, Images],
    where: Where,
    periods: Periods,
) -> Callable[[Method, Tensor, int], dict[str, Any]]:
    """The function that `train` calls at each epoch's end, with the method, the views of its last step and the epoch.

    Args:
        run: what is trained.
        images: what it is trained on.
        splits: labelled pictures that probes are fitted on, and scored on.
        where: the device, and the processes that share the scoring; the one that writes looks inside.
        periods: which probes are scored and when, and when to look inside; at the end too.
    """
    shown = images.take(torch.randperm(len(images), generator=generator(0, "circle"))[:TRACED])

    def observe(method: Method, views: Tensor, epoch: int) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        if periods.online and due(epoch, periods.online_every, run.epochs):
            seen["online"] = evaluate(
                method.encoder,
                *splits,
                run.views,
                where=where,
                probing=Probing(probes=periods.online),
                precision=run.precision,
            )
        if where.group.is_main and due(epoch, periods.trace_every, run.epochs):
            seen |= look_inside(method, views, shown, run.views)
        return seen

    return observe


def look_inside(method: Method, views: Tensor, images: Images, how: Views) -> dict[str, Any]:
    """The traces of `metrics.traces` that a method has, taken on a copy of it.

    Args:
        method: is left as it is.
        views: `[2 b 3 s s]`, of the last step.
        images: pictures whose directions are drawn.
        how: views of them are cut.

    Returns:
        `circle` and `spectrum` for every method; `split` and `predictor` for those with predictions and targets.
    """
    method = copy.deepcopy(method).train()
    seen: dict[str, Any] = {}
    predictor = getattr(method, "predictor", None)
    if predictor is not None:
        outputs = method(views)
        seen["split"] = traces.gradient_split(outputs, [p for p in method.online.parameters() if p.requires_grad])
        if not isinstance(predictor, torch.nn.Identity):
            seen["predictor"] = traces.predictor_trace(predictor, outputs.z[0].detach())
    online, few = method.online.eval(), images.take(torch.arange(min(len(images), PAIRS)))
    pairs = two_views(few.pixels.to(views.device), images.size, how, generator(0, "circle"))
    with torch.no_grad():
        parts = [
            online(evaluation_view(some.to(views.device), images.size, how)[None]) for some in images.pixels.split(256)
        ]
        y, z = (torch.cat([part[i][0] for part in parts]) for i in range(2))
        pairs_y, pairs_z = online(pairs)
    seen["spectrum"] = {"y": traces.leading_spectrum(y), "z": traces.leading_spectrum(z)}
    seen["circle"] = {
        "y": traces.circle(y, *pairs_y),
        "z": traces.circle(z, *pairs_z),
        "z about the origin": traces.circle(z, *pairs_z, centred=False),
    }
    return seen
