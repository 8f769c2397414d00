"""What lies between a loss and the update: parts of a batch, float16's loss scale, numbers that are none."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from vergence.machine.device import fetch
from vergence.methods import Outputs

_PARTS = ("loss", "gradient", "state")


class NotFinite(Exception):
    """What a step made is not finite.

    Attributes:
        part: "loss", "gradient" or "state" (weights and statistics).
        step: at which.
    """

    def __init__(self, part: str, step: int):
        super().__init__(f"the {part} is not finite at step {step}")
        self.part, self.step = part, step


class NonFiniteGuard:
    """Remembers, on the device, the first step at which something was not finite: asking it waits for the device."""

    def __init__(self, device: torch.device):
        self.first = torch.zeros((), dtype=torch.int64, device=device)

    def record(self, part: str, values: list[Tensor], step: int | Tensor) -> None:
        """Look at all values of a part of the step."""
        norm = torch.stack(torch._foreach_norm(values)).norm()
        found = torch.where(norm.isfinite(), 0, step * len(_PARTS) + _PARTS.index(part))
        self.first.copy_(torch.where(self.first == 0, found, self.first))

    def poll(self) -> Callable[[], None]:
        """Begin to ask; the function returned waits for the answer, and raises `NotFinite` if there was a fault."""
        fetched = fetch(self.first)

        def check() -> None:
            if found := int(fetched()[0]):
                raise NotFinite(_PARTS[found % len(_PARTS)], found // len(_PARTS))

        return check

    def check(self) -> None:
        """Ask and wait."""
        self.poll()()


def merged(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of a batch, from those of its parts: part i of n took each n-th picture, from the i-th on.

    Loss and terms are the means of the parts', embeddings those of all pictures, in the order of the batch; none has a
    gradient any more. A single part's outputs are returned as they are.
    """
    if len(parts) == 1:
        return parts[0]

    def all_rows(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.stack([value.detach() for value in values], 2).flatten(1, 2)

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value.detach() for value in values]).mean(0)

    terms = {name: mean([part.terms[name] for part in parts]) for name in parts[0].terms}
    embeddings = {name: all_rows(name) for name in ("y", "z", "p", "z_target", "scores")}
    return Outputs(mean([part.loss for part in parts]), terms, **embeddings)  # type: ignore[arg-type]


@torch.no_grad()
def clip(parameters: Iterable[Tensor], norm: float, of: Literal["whole", "tensor"]) -> None:
    """Scale a gradient that exceeds this norm down to it: the whole, or each parameter's, as DINO's authors do."""
    if of == "whole":
        torch.nn.utils.clip_grad_norm_(parameters, norm, foreach=True)
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    shares = norm / (torch.stack(torch._foreach_norm(gradients)) + 1e-6)
    torch._foreach_mul_(gradients, list(shares.clamp(max=1).unbind()))


class LossScale:
    """What a loss in float16 is multiplied by before its gradient is taken, so that small gradients do not become 0.

    It is torch's `GradScaler`: it doubles after 2,000 steps, and halves at a step whose gradient is not finite, which
    updates no weight. Its numbers lie in the first group of the optimizer, where checkpoints keep them.
    """

    FIRST = 2.0**16
    """Where it begins: too high, so that the first steps bring it down."""

    FLOOR = 1.0
    """What it does not fall below: a gradient that is not finite without a scale is no matter of precision."""

    def __init__(self, optimizer: Optimizer, device: torch.device):
        self.optimizer = optimizer
        self.begin(optimizer)
        self.scaler = torch.amp.GradScaler(device.type)
        group = optimizer.param_groups[0]
        saved = {"scale": group["loss_scale"], "_growth_tracker": int(group["steps_at_scale"])}
        self.scaler.load_state_dict(self.scaler.state_dict() | saved)

    @staticmethod
    def begin(optimizer: Optimizer) -> None:
        """Give an optimizer the numbers of a scale that has done nothing yet, where it has none."""
        for name, value in {"loss_scale": LossScale.FIRST, "steps_at_scale": 0, "skipped": 0}.items():
            optimizer.param_groups[0].setdefault(name, value)

    def numbers(self) -> dict[str, float]:
        """Return what a line of the log says: the scale, and how many steps have been skipped so far."""
        return {name: self.optimizer.param_groups[0][name] for name in ("loss_scale", "skipped")}

    def unscale(self) -> None:
        """Divide the optimizer's gradients by the scale."""
        self.scaler.unscale_(self.optimizer)

    def step(self) -> bool:
        """Update the scale, and the weights unless a gradient is not finite; return whether they were.

        GradScaler's own step leaves it to a fused optimizer to skip, whose momentum is then memory that nobody has
        written where the first step is the one.
        """
        self.scaler.update()
        state, group = self.scaler.state_dict(), self.optimizer.param_groups[0]
        skipped = state["scale"] < group["loss_scale"]
        group["loss_scale"], group["steps_at_scale"] = state["scale"], state["_growth_tracker"]
        group["skipped"] += int(skipped)
        if not skipped:
            self.optimizer.step()
        return not skipped
