"""Several processes that train one run: the only module that knows a process group.

`torchrun` starts the processes, its environment says who is who. A `Group` is what the rest of the package sees: on one
process every method of it is the identity. `Ranks` talks to the others in two ways: tensors go through torch's process
group, in the same order everywhere; everything else through a store, where a thread of each process also beats once
every half second. A collective waits as long as it must, so a rank may be slow, or evaluate for an hour; a rank that
beats no longer, or said that it failed, ends the others (docs/design/0010-several-processes.md).
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as torch_distributed
import torch.distributed.nn  # before any group: its functions keep the one they find, and with it the threads of gloo
from torch import Tensor

from vergence.config.schema import differences
from vergence.errors import InputError, MachineError, Terminated, VergenceError
from vergence.machine.watch import BEAT, MISSED, MISSED_AFTER_FAULT, Lost, Watch

T = TypeVar("T")

_SLOWEST = 0.2
"""Seconds between two looks whether something has come."""
_COME = timedelta(seconds=120)
"""How long the ranks wait for each other at the start."""
_FOREVER = timedelta(days=7)


class Group:
    """The processes that train a run together; this class is the group of one, where nothing is to be done.

    Attributes:
        rank: of this process, from 0. Rank 0 writes.
        size: how many there are.
    """

    rank, size = 0, 1

    def __deepcopy__(self, memo: object) -> "Group":
        """A copy of a network is for looking into, on one rank: it works alone."""
        return SINGLE_PROCESS

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.rank == 0

    def local_device(self, device: torch.device) -> torch.device:
        """Where this rank computes, of the kind of device that all were given."""
        return device

    def local_slice(self, batch: int) -> slice:
        """The pictures of a batch that are this rank's.

        Raises:
            InputError: they cannot be shared evenly.
        """
        if batch % self.size:
            raise InputError(f"--batch-size: {batch} pictures cannot be shared evenly by {self.size} processes")
        own = batch // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def all_gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """The parts of all ranks, one after the other along `dim`; the gradient is the sum of all ranks' gradients."""
        return part

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each by its mean over the ranks, in place."""

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return number

    def broadcast_object(self, function: Callable[[], T]) -> T:
        """What rank 0 gets from `function`, as JSON, for all; the others wait and do not call it."""
        return function()

    def assert_equal(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """See that what every rank says of itself, as JSON, is the same.

        Raises:
            InputError: on every rank: says which differs from rank 0, and in what.
        """


SINGLE_PROCESS = Group()


class Ranks(Group):
    """This process among several.

    Args:
        store: for what is no tensor.
        watch: over the others.
        rank: of this process.
        size: of the group.
    """

    def __init__(self, store: torch_distributed.Store, watch: Watch, rank: int, size: int):
        self.store, self.watch, self.rank, self.size, self.asked = store, watch, rank, size, 0

    def local_device(self, device: torch.device) -> torch.device:
        return torch.device("cuda", _number("LOCAL_RANK", self.rank)) if device.type == "cuda" else device

    def all_gather(self, part: Tensor, dim: int = 0) -> Tensor:
        out: Tensor = _Gather.apply(self, part, dim)  # type: ignore[assignment]
        return out

    @torch.no_grad()
    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.sum(flat)
        means = (flat / self.size).split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [mean.view_as(tensor) for mean, tensor in zip(means, tensors, strict=True)])

    def all_reduce_max(self, number: int) -> int:
        value = torch.tensor(number)
        with self._heard():
            torch_distributed.all_reduce(value, torch_distributed.ReduceOp.MAX)
        return int(value)

    def broadcast_object(self, function: Callable[[], T]) -> T:
        self.asked += 1
        key = f"shared/{self.asked}"
        if self.rank == 0:
            value = function()
            self.store.set(key, json.dumps(value))
            return value
        return self._wait_for(key)

    def assert_equal(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        self.asked += 1
        self.store.set(f"same/{self.asked}/{self.rank}", json.dumps(facts()))
        first, *others = [self._wait_for(f"same/{self.asked}/{rank}") for rank in range(self.size)]
        for rank, other in enumerate(others, 1):
            if lines := differences(first, other):
                raise InputError(
                    f"rank {rank} differs from rank 0: {'; '.join(lines)}; give all of them one command, one folder "
                    f"and the same pictures"
                )

    def sum(self, tensor: Tensor) -> None:
        """Replace it by its sum over the ranks."""
        with self._heard():
            torch_distributed.all_reduce(tensor)

    def parts(self, part: Tensor) -> list[Tensor]:
        """Return the parts of all ranks, in their order."""
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with self._heard():
            torch_distributed.all_gather(parts, part.contiguous())
        return parts

    def leave(self) -> None:
        """Together, all work done: nobody is missed from here on."""
        self.all_reduce_max(0)
        self.watch.closing.set()
        self.all_reduce_max(0)
        self.watch.stop()
        torch_distributed.destroy_process_group()

    def _wait_for(self, key: str) -> Any:
        """Look again and again: a signal is heard in between, and the watch ends the process where nobody will come."""
        pause = 0.005
        while True:
            with self._heard():
                if self.store.check([key]):
                    return json.loads(self.store.get(key))
                if pause == _SLOWEST and self.watch.failed() is not None:
                    raise self.watch.lost("")
            time.sleep(pause)
            pause = min(2 * pause, _SLOWEST)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Turn a connection that broke into who is lost."""
        try:
            yield
        except RuntimeError as error:
            raise self.watch.lost(str(error).splitlines()[0][:200]) from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Ranks, part: Tensor, dim: int) -> Tensor:
        ctx.ranks, ctx.dim = ranks, dim
        return torch.cat(ranks.parts(part), dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:  # type: ignore[override]
        total = gradient.clone(memory_format=torch.contiguous_format)
        ctx.ranks.sum(total)
        return None, total.chunk(ctx.ranks.size, ctx.dim)[ctx.ranks.rank], None


@contextmanager
def joined() -> Iterator[Group]:
    """The group of the processes that `torchrun`, or whoever sets its variables, has started; alone without them.

    An error inside is told to the others, which then leave too, with its exit code. It is printed once: by the rank
    that had it, or by the lowest where all had it.

    Raises:
        InputError: the variables make no sense.
        MachineError: the port is taken, or not all ranks came.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield SINGLE_PROCESS
        return
    group = _meet(_number("RANK", -1), size)
    try:
        yield group
        group.leave()
    except Lost:
        group.watch.shutdown()
        raise
    except BaseException as error:
        try:
            _part(group, error)
        finally:
            group.watch.shutdown()
        raise


def _part(group: Ranks, error: BaseException) -> None:
    """Tell the others, if they can be told; raise `Lost` where they have said already what is to be said."""
    if isinstance(error, Terminated):  # by `torchrun`, it may be, because of another rank
        time.sleep(MISSED_AFTER_FAULT * BEAT)
        silent = any(missed >= MISSED_AFTER_FAULT - 1 for missed in group.watch.missed.values())
        if silent and not group.watch.closing.is_set():
            raise group.watch.lost("terminated") from error
    code = error.exit_code if isinstance(error, VergenceError) else 143 if isinstance(error, Terminated) else 1
    if group.rank:
        time.sleep(2 * BEAT)  # if rank 0 has the same to say, let it
    try:
        first = group.watch.fail(str(error), code)
    except RuntimeError:
        return
    if first["rank"] != group.rank and (first["message"] == str(error) or isinstance(error, KeyboardInterrupt)):
        raise Lost("", code) from error
    if isinstance(error, VergenceError) and group.rank and not str(error).startswith("rank "):
        raise Lost(f"rank {group.rank}: {error}", code) from error


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal():
        raise InputError(f"{name}: must be a number, as torchrun sets it, not '{text[:40]}'")
    return int(text)


def _meet(rank: int, size: int) -> Ranks:
    if rank < 0:
        raise InputError(f"WORLD_SIZE is {size}, but RANK is not set: start with torchrun, or unset both")
    if rank >= size:
        raise InputError(f"RANK: {rank} is not one of {size} ranks (WORLD_SIZE), counted from 0")
    host, port = os.environ.get("MASTER_ADDR") or "127.0.0.1", _number("MASTER_PORT", 29500)
    if port > 65535:
        raise InputError(f"MASTER_PORT: {port} is no port; choose one from 1024 to 65535")
    local = _number("LOCAL_WORLD_SIZE", 0) == size or host in ("127.0.0.1", "localhost")
    if local and sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nothing of ours listens to the outside
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        root = _open(host, port, keep=rank == 0 and not agent)
        attempt = f"vergence/{_number('TORCHELASTIC_RESTART_COUNT', 0)}"
        store = torch_distributed.PrefixStore(attempt, root)
        store.set(f"here/{rank}", "")
        store.wait([f"here/{other}" for other in range(size)], _COME)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        of_group = torch_distributed.PrefixStore("group", store)
        torch_distributed.init_process_group(backend, store=of_group, rank=rank, world_size=size, timeout=_FOREVER)
        mine = torch_distributed.PrefixStore(attempt, _open(host, port, keep=False))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise MachineError(
            f"rank {rank} of {size} found not all others at {host}:{port} (MASTER_ADDR, MASTER_PORT): {reason}"
        ) from error
    watch = Watch(mine, rank, size, agent)
    watch.start()
    return Ranks(store, watch, rank, size)


def _open(host: str, port: int, keep: bool) -> torch_distributed.TCPStore:
    """The store; `keep`: this process is where it lives."""
    patience = timedelta(seconds=MISSED * BEAT)
    if not keep:
        return torch_distributed.TCPStore(host, port, None, False, timeout=patience, wait_for_workers=False)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise MachineError(
            f"{host}:{port}: the ranks cannot meet there: {error.strerror}; choose another MASTER_PORT"
        ) from error
    return torch_distributed.TCPStore(
        host, port, None, True, timeout=patience, wait_for_workers=False, master_listen_fd=listening.detach()
    )
