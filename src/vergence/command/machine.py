"""The device and the threads that a command works with."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any, Protocol

from vergence.command.process import variables_put_back
from vergence.machine.launch import launched


class Asked(Protocol):
    """Options that say where work is done."""

    @property
    def device(self) -> str: ...

    @property
    def threads(self) -> int | None: ...


@contextmanager
def machine(asked: Asked) -> Iterator[Any]:  # of a device, whose type would import torch
    """Find the device; within, torch has the threads asked for, then those of before: a program may go on."""
    import torch

    device, before = device_named(asked.device), torch.get_num_threads()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    try:
        yield device
    finally:
        if asked.threads is not None:
            torch.set_num_threads(before)


def device_named(name: str) -> Any:  # as above
    """Return the device of a name; note where the CPU's loops are not compiled."""
    from vergence.fast.compiled import note_if_missing
    from vergence.machine.device import find_device

    device = find_device(name)
    if device.type == "cpu":
        note_if_missing()
    return device


@contextmanager
def together() -> Iterator[Any]:
    """Join the processes that a launcher has started with this one, of which the first alone prints; give their group.

    Alone it gives None, and torch is not imported.
    """
    if launched() is None:
        yield None
        return
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME")
    with variables_put_back("TORCH_CPP_LOG_LEVEL", *names), ExitStack() as stack:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # or torch shows C++ frames of connections that end
        from vergence.machine.processes import joined

        group = stack.enter_context(joined())
        if not group.is_main:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield group


def place_of(asked: Any, device: Any, group: Any) -> Any:
    """Return where the work of a command is done, a `Where`: by this process alone where the group is None."""
    from vergence.engine.where import Where
    from vergence.machine.processes import SINGLE_PROCESS

    group = group or SINGLE_PROCESS
    how = {"compile": asked.compile} if hasattr(asked, "compile") else {}
    return Where(data_dir=asked.data_dir, device=group.local_device(device), group=group, **how)
