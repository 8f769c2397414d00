"""Several processes that train one run: the only module that knows a process group.

A launcher starts the processes (`launch`). A `Group` is what the rest of the package sees: on one process every method
of it is the identity. `Ranks` stands on torch: gradients are averaged by `DistributedDataParallel`, which sends them
while others are still computed; embeddings and batch statistics travel by functional collectives, which autograd and
the compiler see through; what is no tensor goes through the store in which the ranks met
(docs/design/0010-several-processes.md).
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as torch_distributed
import torch.distributed._functional_collectives as functional
import torch.distributed.nn  # before any group: its functions keep the one they find, and with it the threads of gloo
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vergence.config.schema import differences
from vergence.errors import InputError, MachineError, Stopped, Terminated, VergenceError
from vergence.machine.launch import Launched, launched

T = TypeVar("T")
P = TypeVar("P")

_gather = getattr(functional, "all_gather_single_autograd", None) or functional.all_gather_tensor_autograd
"""Torch's all-gather with a gradient, by its newer name or its older."""

COME, FOREVER = timedelta(seconds=120), timedelta(days=365)
"""How long the ranks wait for each other at the start, and until one of them fails."""

HANGS = "VERGENCE_HANG_SECONDS"
"""The variable that says after how many seconds without an answer in a collective a rank counts as lost."""

HANGS_AFTER = 1800

SETTLES = 1.0
"""Seconds in which a rank that fails lets rank 0 speak first, or learns why another has left."""


class Lost(MachineError):
    """Another rank is gone: the message says so, or is empty where that was said already."""

    def __init__(self, message: str, exit_code: int = MachineError.exit_code):
        super().__init__(message)
        self.exit_code = exit_code


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

    def replicated(self, module: nn.Module) -> nn.Module:
        """Return a module that computes what `module` does and leaves the mean gradient of all ranks.

        To be called once all its parameters that are ever trained need a gradient.
        """
        return module

    def without_sync(self, module: Callable[..., Any]) -> AbstractContextManager[None]:
        """Within, a replicated module adds up gradients of this rank alone, until one outside averages the sums.

        It may be compiled.
        """
        return nullcontext()

    def all_gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """The parts of all ranks, one after the other along `dim`; the gradient is the sum of all ranks' gradients."""
        return part

    def all_rows(self, parts: Sequence[P], compute: Callable[[list[P]], list[Tensor]]) -> Tensor:
        """The rows that `compute` gives for each part, one after the other; every rank is asked for some of the parts.

        Args:
            parts: at least one. All but the last have as many rows, the last no more.
            compute: gives the rows of each of some parts, `[n ...]` each.
        """
        return torch.cat(compute([*parts]))

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers. No rank has it before all have asked."""
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
    """This process among several, within their process group.

    Args:
        store: for what is no tensor.
        place: of this process.
        ear: hears what another rank says that fails, while this one is in a collective.
    """

    def __init__(self, store: torch_distributed.Store, place: Launched, ear: "_Ear"):
        self.store, self.place, self.rank, self.size = store, place, place.rank, place.size
        self.ear, self.asked, self.processes = ear, 0, torch_distributed.distributed_c10d._get_default_group()

    def local_device(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        here = torch.cuda.device_count()
        if here > 1 and self.place.local_rank >= here:
            raise InputError(f"LOCAL_RANK: {self.place.local_rank}, but this machine has {here} CUDA devices, from 0")
        return torch.device("cuda", self.place.local_rank % here)

    def replicated(self, module: nn.Module) -> nn.Module:
        # Buckets are built anew after the first step, and a resumed run would sum in another order than one that goes
        # on, unless unused parameters are looked for.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of another name of `broadcast_buffers`, since torch 2.14
            return DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
            )

    def without_sync(self, module: Callable[..., Any]) -> AbstractContextManager[None]:
        return module.no_sync()  # type: ignore[attr-defined]

    def all_gather(self, part: Tensor, dim: int = 0) -> Tensor:
        return _gather(part.contiguous(), dim, self.processes)

    def all_rows(self, parts: Sequence[P], compute: Callable[[list[P]], list[Tensor]]) -> Tensor:
        rounds = -(-len(parts) // self.size)
        own = compute([*parts[self.rank :: self.size]] or [parts[-1]])
        most = self.all_reduce_max(max(len(rows) for rows in own))
        room = own[0].new_zeros(rounds, most, *own[0].shape[1:])
        for place, rows in zip(room, own, strict=False):
            place[: len(rows)] = rows
        last = (len(parts) - 1) % self.size
        rows_of_last = self.all_reduce_max(len(own[-1]) if self.rank == last else 0)
        together = self.all_gather(room, 1).flatten(0, 1)  # of each round the ranks' parts, in their order
        return together[: (len(parts) - 1) * most + rows_of_last]

    def all_reduce_max(self, number: int) -> int:
        value = torch.tensor(number)
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

    def fail(self, message: str, exit_code: int) -> dict[str, Any]:
        """Tell the others that this rank leaves, and why; return what the first that did so said."""
        mine = {"rank": self.rank, "message": message, "exit_code": exit_code}
        return json.loads(self.store.compare_set("failed", "", json.dumps(mine)))

    def _wait_for(self, key: str) -> Any:
        """Look again and again, for rank 0 may take an hour over it: a signal is heard in between."""
        pause = 0.005
        while not self.store.check([key]):
            if not self.ear.is_alive():
                raise Lost("")
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
        return json.loads(self.store.get(key))


@contextmanager
def joined() -> Iterator[Group]:
    """The group of the processes that a launcher has started together (`launch.launched`); alone without one.

    An error inside is told to the others, which then leave too, with its exit code. It is printed once: by the rank
    that had it, or by the lowest where all had it.

    Raises:
        InputError: the variables make no sense.
        MachineError: the port is taken, or not all ranks came.
    """
    place = launched()
    if place is None:
        yield SINGLE_PROCESS
        return
    group = _meet(place)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1 x 1 kernels, whose order is no matter
            yield group
        group.all_reduce_max(0)  # the store may be rank 0's, and others still read in it
    except BaseException as error:
        raise _once(group, error) from error
    group.fail("", 0)
    group.ear.join()
    with suppress(RuntimeError):  # the first that has it closes its connections
        group.all_reduce_max(0)
    torch_distributed.destroy_process_group()


class _Ear(threading.Thread):
    """Waits until a rank says that it fails, on a connection of its own.

    Python kills a process (SIGABRT) that ends while a thread comes back from torch: whoever ends says something first.
    """

    def __init__(self, store: torch_distributed.Store):
        super().__init__(name="ear", daemon=True)
        self.store, self.heard = store, None

    def run(self) -> None:
        with suppress(RuntimeError):
            self.heard = json.loads(self.store.get("failed"))


def _once(group: Ranks, error: BaseException) -> BaseException:
    """Return the error as this rank shall end with it: an empty `Lost` where another has said what is to be said."""
    broken = isinstance(error, Lost) or _is_broken_connection(error)
    if broken or group.rank:
        with suppress(Terminated):  # by the launcher, since another rank has ended
            group.ear.join(SETTLES)
    if broken:
        error = Lost("a process was killed, or hangs; what was saved stands: start all again with --resume")
    code = error.exit_code if isinstance(error, VergenceError) else 143 if isinstance(error, Terminated) else 1
    first = group.ear.heard or _within(SETTLES, lambda: group.fail(str(error), code))
    if first is None:  # the store went with rank 0
        return error if group.rank == 1 else Lost("", code)
    group.ear.join(SETTLES)
    if first["rank"] != group.rank:
        return Lost("", code if isinstance(error, Stopped) else first["exit_code"])
    if not group.rank:
        time.sleep(SETTLES / 2)  # the store may be this rank's: let the others hear
    elif isinstance(error, VergenceError) and not broken and not str(error).startswith("rank "):
        return Lost(f"rank {group.rank}: {error}", code)
    return error


def _within(seconds: float, function: Callable[[], T]) -> T | None:
    """Return what a function returns; None where it fails, or does not come back: the other end hangs."""
    found: list[T] = []

    def call() -> None:
        with suppress(RuntimeError):
            found.append(function())

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _is_broken_connection(error: BaseException) -> bool:
    """Return whether a collective failed since another process does not answer any more."""
    said = str(error)
    return isinstance(error, torch_distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in said for word in ("gloo/", "Gloo", "NCCL", "ncclRemoteError"))
    )


def _meet(place: Launched) -> Ranks:
    os.environ |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(place.local_rank),
        "MASTER_ADDR": place.host,
        "MASTER_PORT": str(place.port),
    }
    if place.host in ("127.0.0.1", "localhost") and sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # tensors of one machine do not leave it
    seconds = os.environ.get(HANGS) or str(HANGS_AFTER)
    if not seconds.isdecimal() or not int(seconds):
        raise InputError(f"{HANGS}: must be a number of seconds, from 1, not '{seconds[:40]}'")
    try:
        root, rank, size = next(iter(torch_distributed.rendezvous("env://", timeout=COME)))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the launcher's store outlives its processes
        store = torch_distributed.PrefixStore(f"vergence/{attempt}", root)
        store.set(f"here/{rank}", "")
        store.wait([f"here/{other}" for other in range(size)], COME)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch_distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=int(seconds))
        )
        another = torch_distributed.TCPStore(
            place.host, place.port, None, False, timeout=FOREVER, wait_for_workers=False
        )
    except (RuntimeError, ValueError) as error:
        where, reason = f"{place.host}:{place.port}", " ".join(str(error).split())[:200]
        if "EADDRINUSE" in reason or "in use" in reason:
            raise MachineError(f"{where}: the ranks cannot meet there: in use; choose another MASTER_PORT") from error
        raise MachineError(
            f"rank {place.rank} of {place.size} found not all others at {where} (MASTER_ADDR, MASTER_PORT): {reason}"
        ) from error
    ear = _Ear(torch_distributed.PrefixStore(f"vergence/{attempt}", another))
    ear.start()
    return Ranks(store, place, ear)
