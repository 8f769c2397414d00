"""One step's outputs to numbers, as the table of metrics has them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vergence import losses
from vergence.errors import InputError, out_of_memory
from vergence.machine.device import fetch
from vergence.methods.base import Outputs
from vergence.metrics import collapse
from vergence.metrics.table import TABLE, Metric

Embeddings = Mapping[str, Tensor]
"""Embeddings of a batch, `[v b d]` for v views, by their name in `table.EMBEDDINGS`: those that a method has."""


def measure(outputs: Outputs) -> dict[str, Any]:
    """Return the numbers of a log line, in the order of the table; None where a method lacks what a metric is of.

    `terms`, the method's own terms of its loss, come last.
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
    found = embeddings(outputs.z, outputs.y, outputs.p, outputs.z_target)
    return begin(found, {"loss": outputs.loss}, outputs.terms, layers)


@torch.no_grad()
def begin(
    found: Embeddings,
    loss: Mapping[str, Tensor],
    terms: Mapping[str, Tensor],
    layers: tuple[Tensor, Callable[[Tensor], dict[str, Any]]] | None,
) -> Callable[[], dict[str, Any]]:
    """Begin to measure embeddings, whoever made them, as `read` does.

    Args:
        found: as `embeddings` gives them.
        loss: the loss, a scalar on their device, under its name; empty where it is not known.
        terms: of it.
        layers: for the line's field of this name.
    """
    begun = {metric: values for metric in TABLE.values() if (values := _begin(metric, found))}
    numbers = {metric.name: _mean(metric, values) for metric, values in begun.items() if metric.finish is None}
    numbers = {name: value.detach() for name, value in loss.items()} | numbers
    terms = {name: term.detach() for name, term in terms.items()}
    matrices = {metric: values for metric, values in begun.items() if metric.finish is not None}
    fetched = fetch(
        torch.stack([*numbers.values(), *terms.values()]),
        *(matrix for values in matrices.values() for matrix in values),
        *(() if layers is None else (layers[0],)),
    )

    def line() -> dict[str, Any]:
        scalars, *others = fetched()
        values = scalars.tolist()
        named = dict(zip(numbers, values, strict=False))  # terms follow, which may have a metric's name
        rest = iter(others)
        for metric, there in matrices.items():
            named[metric.name] = _mean(metric, [_finish(metric, next(rest)) for _ in there]).item()
        return {
            **{name: _finite(named.get(name)) for name in TABLE},
            "terms": dict(zip(terms, values[len(numbers) :], strict=True)),
            "layers": {} if layers is None else layers[1](next(rest)),
        }

    return line


def number(name: str, found: Embeddings) -> float:
    """Return the value of a metric on embeddings that it can be measured on."""
    metric = TABLE[name]
    return _mean(metric, [_finish(metric, value) for value in _begin(metric, found)]).item()


def embeddings(
    z: Float[Tensor, "v b dz"],
    y: Float[Tensor, "v b dy"] | None = None,
    p: Float[Tensor, "v b dz"] | None = None,
    z_target: Float[Tensor, "v b dz"] | None = None,
) -> Embeddings:
    """Return a step's embeddings of v views by their name in `table.EMBEDDINGS`, float32; None is left out."""
    z = z.float()
    there = {} if y is None else {"y": y.detach().float()}
    there |= {"z": z, "p": z if p is None else p.float()}
    if z_target is None:
        return there | {"key": z.flip(0)}
    target = z_target.float()
    return there | {"target": target, "key": target.flip(0)}


def _begin(metric: Metric, found: Embeddings) -> list[Tensor]:
    """Return what a metric's function makes of the embeddings: a value for each view, or one for both."""
    kinds = metric.embeddings.split()
    if metric.compute is None or not found.keys() >= set(kinds):
        return []
    views = [found[kind] for kind in kinds]
    if metric.views == 1:
        calls = list(zip(*views, strict=True))
    elif len(views[0]) == 2:
        calls = [tuple(view for kind in views for view in kind)]
    else:
        calls = [(views[0][0], found["key"][0])] if metric.embeddings in ("z", "p") else []
    return [_call(metric, metric.compute, call) for call in calls]


def _finish(metric: Metric, value: Tensor) -> Tensor:
    return value if metric.finish is None else _call(metric, metric.finish, (value,))


def _finite(value: float | None) -> float | None:
    """Return a value that a line of JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def _mean(metric: Metric, values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if metric.views == 1 else values[0]


def _call(metric: Metric, function: str | Callable[..., Any], arguments: tuple[Tensor, ...]) -> Tensor:
    """Return what a function of the table gives, or one of a user's own, whose errors are told in one line."""
    if isinstance(function, str):
        module, _, name = function.partition(".")
        return getattr({"losses": losses, "collapse": collapse}[module], name)(*arguments)
    try:
        value = torch.as_tensor(function(*arguments)).detach()
    except Exception as error:
        if out_of_memory(error):
            raise
        raise InputError(f"metric {metric.name!r}: its function failed: {type(error).__name__}: {error}") from error
    if function is metric.finish or metric.finish is None:
        if value.numel() != 1:
            raise InputError(f"metric {metric.name!r}: its function gives the shape {tuple(value.shape)}, not a number")
        value = value.to(arguments[0].device, torch.float32).reshape(())
    return value
