"""The device and the threads that a command works with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


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
