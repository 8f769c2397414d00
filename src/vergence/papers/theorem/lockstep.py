"""Theorem 5.1 of the RAFT paper, step by step: BYOL' from (theta, W) beside RAFT from (theta, -W).

For unit vectors d^2(-p, z') = 4 - d^2(p, z') and d^2(-p_1, -p_2) = d^2(p_1, p_2), so a predictor that gives -p turns
RAFT's loss into that of BYOL' less 4 beta. A sign is no rounding: as long as every operation between the negated
parameters and the loss is odd, the gradients of the pair are equal, or opposite, to the last bit, and so are the
updates of optimizers that treat w and -w alike.

Which parameters carry the sign: those of the predictor's last layer. After a linear layer, its weight and bias. After
a batch norm, p = g x + b with x the normalized input: its scale g and shift b, and nothing before it notices. The sign
may as well stand in the matrix W before a batch norm, for the norm of -x is minus the norm of x: then g keeps its sign,
W, b and the running mean carry it, and b, 0 at the start, is its own negative there. It may not stand before a ReLU.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vergence import config as c
from vergence import methods
from vergence import study as s
from vergence.augment import two_views
from vergence.data import Images
from vergence.data import load as load_images
from vergence.engine.step import update
from vergence.errors import Diverged, InputError
from vergence.machine.randomness import generator, seed_of
from vergence.optim import build_optimizer, rate_at, set_rate
from vergence.presets import preset
from vergence.runs import subset

Negated = Literal["last-layer", "first-layer", "nothing"]
Part = Literal["online", "predictor", "target"]

POINTS = 60
"""Most points of a curve."""

LOSS_ROUNDING = 2.0**-20
"""The most that L_RAFT + 4 beta may differ from L_BYOL' in float32 at alpha = beta = 1. Their cosines are the same
bits; then each loss rounds two distances in [0, 4], their sum, which is halved, and the sum of both terms: together
2^-21 at most.
"""


class Gap(NamedTuple):
    """The distance of two networks, signs apart.

    Attributes:
        largest: difference of a parameter, at least 0, by part.
        differing: values of the whole state, statistics of batch norms included, that are not equal.
    """

    largest: Mapping[str, float]
    differing: int


class Step(NamedTuple):
    """One step of both: losses before the update; after it, the gap and how far BYOL' is from its start, relative."""

    step: int
    prime: float
    raft: float
    gap: Gap
    moved: float


# --- the mathematics --------------------------------------------------------------------------------------------------


def odd_names(predictor: nn.Module, negated: Negated) -> set[str]:
    """Return the names of a predictor's values that are to have opposite signs in the pair, for all time.

    Args:
        predictor: a sequence of layers, or one without parameters: no names.
        negated: "last-layer": the last that has parameters; "first-layer": the first, and the shift and running mean
            of a batch norm right after it; "nothing": no names.
    """
    layers = [(name, layer) for name, layer in predictor.named_children() if any(True for _ in layer.parameters())]
    if negated == "nothing" or not layers:
        return set()
    name, layer = layers[-1 if negated == "last-layer" else 0]
    names = {f"{name}.{part}" for part, _ in layer.named_parameters()}
    if negated == "first-layer" and len(layers) > 1 and isinstance(layers[1][1], _BatchNorm):
        names |= {f"{layers[1][0]}.{part}" for part in ("bias", "running_mean")}
    return names


@torch.no_grad()
def negate_(module: nn.Module, names: Set[str]) -> None:
    """Change the sign of these values of the module's state, in place."""
    state = module.state_dict()
    for name in names:
        state[name].neg_()


@torch.no_grad()
def compare(one: nn.Module, other: nn.Module, odd: Set[str]) -> Gap:
    """Return the distance of two networks' whole states, with the sign of `other`'s values named in `odd` changed."""
    parameters, theirs = {name for name, _ in one.named_parameters()}, other.state_dict()
    names, largest, differing = [], [], []
    for name, value in one.state_dict().items():
        expected = -theirs[name] if name in odd else theirs[name]
        differing.append((value != expected).sum())
        if name in parameters:
            names.append(name)
            largest.append((value - expected).abs().max())
    parts: dict[str, float] = {}
    for name, value in zip(names, torch.stack(largest).tolist(), strict=True):
        part = name.split(".")[0]
        parts[part] = max(parts.get(part, 0.0), value)
    return Gap(parts, int(torch.stack(differing).sum()))


def mirrored(run: c.Run) -> c.Run:
    """Return RAFT's run that differs from one of BYOL' in the sign of a term only."""
    method = run.method
    return replace(run, method=c.RAFT(**{field.name: getattr(method, field.name) for field in fields(method)}))


def offset(method: c.BYOLPrime) -> float:
    """Return L_RAFT(theta, -W) - L_BYOL'(theta, W): -4 beta; 0 for the Tan- variants, whose loss is odd in p."""
    return -4 * method.beta if method.distance == "cosine" else 0.0


def walk(run: c.Run, images: Images, device: torch.device, negated: Negated = "last-layer") -> Iterator[Step]:
    """Train BYOL' and its mirror image side by side, on the same views, as `train.train` would each of them.

    Raises:
        InputError: there are fewer pictures than a batch.
        Diverged: a loss is not finite.
    """
    per_epoch = len(images) // run.batch_size
    if per_epoch == 0:
        raise InputError(
            f"--batch-size: {run.batch_size} is more than the {len(images)} pictures; choose a smaller one"
        )
    horizon = (run.schedule_epochs or run.epochs) * per_epoch
    pair = [methods.build(r).to(device).to(memory_format=torch.channels_last).train() for r in (run, mirrored(run))]
    odd = {f"predictor.{name}" for name in odd_names(pair[0].get_submodule("predictor"), negated)}
    negate_(pair[1], odd)
    optimizers = [build_optimizer(run.optimizer, method) for method in pair]
    start = [p.detach().clone() for p in pair[0].online.parameters()]
    size = _norm(start)
    pixels = images.pixels.to(device)
    for step in range(1, run.epochs * per_epoch + 1):
        epoch, position = divmod(step - 1, per_epoch)
        order = torch.randperm(len(images), generator=generator(run.seed, "order", epoch))
        batch = order[position * run.batch_size : (position + 1) * run.batch_size].to(device)
        views = two_views(pixels[batch], images.size, run.views, generator(run.seed, "views", step))
        losses = []
        for method, optimizer in zip(pair, optimizers, strict=True):
            share = rate_at(run.schedule, (step - 1) / horizon, horizon / per_epoch, 1 / horizon)
            set_rate(optimizer, run.optimizer.lr * share)
            torch.manual_seed(seed_of(run.seed, "layers", step))
            outputs = method(views)
            outputs.loss.backward()
            update(method, optimizer, outputs, step / horizon)
            losses.append(outputs.loss.item())
        if not all(map(math.isfinite, losses)):
            raise Diverged(f"the loss is not finite at step {step}; try a lower learning rate")
        now = [p.detach() for p in pair[0].online.parameters()]
        moved = _norm(list(torch._foreach_sub(now, start))) / size
        yield Step(step, losses[0], losses[1], compare(pair[0], pair[1], odd), moved)


def _norm(tensors: Sequence[Tensor]) -> float:
    return torch.stack(torch._foreach_norm(list(tensors))).norm().item()


# --- the task ---------------------------------------------------------------------------------------------------------


def summarize(steps: Sequence[Step], offset: float) -> dict[str, Any]:
    """Return the numbers of a whole walk, and its course in few points.

    Args:
        steps: at least one.
        offset: of RAFT's loss.

    Returns:
        `steps`; the largest difference of a parameter over all steps in `online`, `target` and (where there is one)
        `predictor`; `differing`: most values that were not equal after a step; `first`: the first step with one, or
        None; `bit_for_bit`: there was none; `loss_gap`: largest |L_RAFT - L_BYOL' - offset|; `loss_bits`: steps where
        it is not 0; `moved`: how far the encoder of BYOL' went, relative; `course`: lists of the same length.
    """
    apart = [s.step for s in steps if s.gap.differing]
    gaps = [abs(s.raft - s.prime - offset) for s in steps]
    every = max(1, math.ceil(len(steps) / POINTS))
    shown = [s for s in steps if s.step % every == 0 or s.step in (1, len(steps))]
    return {
        "steps": len(steps),
        **{part: max(s.gap.largest[part] for s in steps) for part in steps[0].gap.largest},
        "differing": max(s.gap.differing for s in steps),
        "first": apart[0] if apart else None,
        "bit_for_bit": not apart,
        "offset": offset,
        "loss_gap": max(gaps),
        "loss_bits": sum(gap > 0 for gap in gaps),
        "moved": steps[-1].moved,
        "course": {
            "step": [s.step for s in shown],
            "online": [s.gap.largest["online"] for s in shown],
            "differing": [s.gap.differing for s in shown],
            "prime": [s.prime for s in shown],
            "raft": [s.raft for s in shown],
        },
    }


@dataclass(frozen=True, kw_only=True)
class Lockstep:
    """A run of BYOL' beside its mirror image in RAFT, whose predictor starts with the sign of `negated` changed."""

    kind: ClassVar[str] = "lockstep"
    run: c.Run
    negated: Negated = "last-layer"

    def __post_init__(self) -> None:
        if not isinstance(self.run.method, c.BYOLPrime):
            raise ValueError(f"run.method: expected byol-prime, not {self.run.method.kind}")

    def solve(self, data_dir: Path | None, device: torch.device, view: s.Reporter) -> dict[str, Any]:
        """Return the result of `summarize`; on CUDA by cuDNN's deterministic kernels, since others vary."""
        assert isinstance(self.run.method, c.BYOLPrime)
        images = subset(load_images(self.run.data, "pretrain", data_dir=data_dir), self.run.subset)
        per_epoch = len(images) // self.run.batch_size
        view.start(self.run.epochs * per_epoch, 0, per_epoch, [], [])
        steps = []
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True)
        with torch.random.fork_rng(), exact if device.type == "cuda" else nullcontext():
            for step in walk(self.run, images, device, self.negated):
                steps.append(step)
                view.step()
        return summarize(steps, offset(self.run.method))


PREDICTORS: dict[str, c.Predictor] = {
    "linear": c.LinearPredictor(),
    "linear + batch norm": c.LinearPredictor(norm="batch"),
    "MLP": c.MLPPredictor(norm="none"),
    "MLP + batch norm": c.MLPPredictor(norm="batch"),
}
OPTIMIZERS: dict[str, c.Optimizer] = {
    "SGD": c.SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
    "Adam": c.Adam(lr=3e-4, weight_decay=1e-4),
    "LARS": c.LARS(lr=1.0, momentum=0.9, weight_decay=1e-4),
}
"""Optimizers with momentum and weight decay; Adam at the paper's rate."""

NONE, TAN, MATRIX = "no predictor", "linear, Tan", "linear + batch norm, sign in W"
WRONG = "MLP + batch norm, first layer negated"
MIRRORED = tuple(f"{predictor}, {optimizer}" for predictor in PREDICTORS for optimizer in OPTIMIZERS)


def tasks(scale: s.Scale) -> dict[str, Lockstep]:
    """Return the walks, by row."""
    method = c.BYOLPrime(distance="cosine")
    run = preset("raft", "BYOL'-LP", c.CIFAR10())
    whole = replace(scale.apply(run), epochs=scale.epochs or run.epochs)

    def task(
        predictor: c.Predictor, optimizer: str, negated: Negated = "last-layer", distance: c.Distance = "cosine"
    ) -> Lockstep:
        own = replace(whole.method, predictor=predictor, distance=distance)
        return Lockstep(run=replace(whole, method=own, optimizer=OPTIMIZERS[optimizer]), negated=negated)

    assert isinstance(whole.method, type(method))
    found = {f"{p}, {o}": task(PREDICTORS[p], o) for p in PREDICTORS for o in OPTIMIZERS}
    found |= {f"{NONE}, {o}": task(c.NoPredictor(), o) for o in OPTIMIZERS}
    found |= {f"{TAN}, {o}": task(c.LinearPredictor(), o, distance="tangential") for o in OPTIMIZERS}
    found |= {f"{MATRIX}, Adam": task(PREDICTORS["linear + batch norm"], "Adam", "first-layer")}
    found |= {f"{WRONG}, Adam": task(PREDICTORS["MLP + batch norm"], "Adam", "first-layer")}
    return found | {f"{p}, nothing negated, SGD": task(PREDICTORS[p], "SGD", "nothing") for p in PREDICTORS}
