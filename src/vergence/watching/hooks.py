"""Forward hooks that collect what the parts of any torch module return in one step, for a `Watch`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vergence.config.spelling import nearest
from vergence.errors import InputError

if TYPE_CHECKING:
    from vergence.watching.watch import Watch

KINDS = {"encoder": "y", "projector": "z", "predictor": "p", "target": "z_target"}
"""The parts that are hooked, and what each returns."""


class Hooks:
    """Collects what the parts of a module return while it is in training mode.

    Args:
        watch: is given the outputs, or told why there are none.
        module: holds the parts.
        parts: their names in it, by `KINDS`.
        calls: of each in a step; 1: both views are in one batch.
        done: steps done before: the watch is given each step's outputs as soon as the last of them is there. None: they
            wait for `views`.

    Attributes:
        about: the names of the parts.
    """

    def __init__(self, watch: "Watch", module: nn.Module, parts: Mapping[str, str], calls: int, done: int | None):
        if wrong := parts.keys() - KINDS.keys():
            raise InputError(f"watch: {min(wrong)!r} is no part; {nearest(min(wrong), KINDS)}")
        if type(calls) is not int or calls < 1:
            raise InputError(f"watch: calls: expected how often each part is called in a step, not {calls!r}")
        self.watch, self.module, self.calls, self.done = watch, _inside(module), calls, done
        self.about = ", ".join(parts.values())
        self.found: dict[str, list[Tensor]] = {KINDS[part]: [] for part in parts}
        named = {KINDS[part]: _part(self.module, name) for part, name in parts.items()}
        self.handles = [part.register_forward_hook(_Hook(self, kind)) for kind, part in named.items()]

    def views(self) -> dict[str, Any]:
        """Return two views of what each part returned, and forget them; empty where one was called too rarely."""
        found = self.found
        self.found = {kind: [] for kind in found}
        if any(len(outputs) < self.calls for outputs in found.values()):
            return {}
        return {kind: outputs[0].chunk(2) if self.calls == 1 else outputs[:2] for kind, outputs in found.items()}

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def collect(self, kind: str, output: Any) -> None:
        """Take in what a part has returned; an error is the watch's, for the module's caller does not wait for it."""
        if not self.module.training or self.watch.is_off:
            return
        step = (self.done or 0) + 1
        try:
            self.found[kind].append(_rows(output))
            counts = {kind: len(outputs) for kind, outputs in self.found.items()}
            if self.done is None:
                return
            if min(counts.values()) >= self.calls:
                self.done = step
                self.watch(step, **self.views())
            elif max(counts.values()) > self.calls:
                said = ", ".join(f"{kind} {count} times" for kind, count in counts.items())
                raise InputError(f"a step has {self.calls} calls of each part, but there were {said}; see calls=")
        except InputError as error:
            self.watch.give_up(step, error)


class _Hook:
    """A hook that stays behind where its module is copied, as into a target network, or pickled."""

    def __init__(self, hooks: Hooks, kind: str):
        self.hooks, self.kind = hooks, kind

    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.hooks.collect(self.kind, output)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _NoHook, ()


class _NoHook:
    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> None:
        pass


def _rows(output: Any) -> Tensor:
    """Return an output as `[b d]`: the first tensor of several, and the mean over positions of maps and tokens."""
    while isinstance(output, tuple | list | Mapping) and output:
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    if not isinstance(output, Tensor):
        raise InputError(f"a part returns a {type(output).__name__}, not a tensor")
    output = output.detach()
    return output.flatten(2).mean(2) if output.dim() == 4 else output.mean(1) if output.dim() == 3 else output


def _inside(module: nn.Module) -> nn.Module:
    """Return what a wrapper for several processes or devices holds."""
    if not isinstance(module, nn.Module):
        raise InputError(f"watch: expected a torch module, not a {type(module).__name__}")
    if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
        raise InputError("watch: a compiled module runs no hooks; call the watch in the loop: watch(step, z=(z1, z2))")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _inside(module.module)
    return module


def _part(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        names = ", ".join(name for name, _ in module.named_children())
        raise InputError(f"watch: {type(module).__name__} has no part {name!r}; it has {names or 'none'}") from None
