"""Torch's threads in this process: two workers side by side, and what a fork loses."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from vergence.errors import MachineError

A = TypeVar("A")
B = TypeVar("B")


@dataclass
class _Threads:
    """What this process knows of its threads.

    Attributes:
        lost: why those of torch cannot be had in this process, which was forked; None where they can.
        gpu_lost: whether a GPU cannot.
        counting: held while the number that torch gives to new threads is not what the caller set.
        at_work: pairs of workers that are open, in any thread.
        used: whether torch had more than one thread here.
    """

    lost: str | None = None
    gpu_lost: bool = False
    counting: threading.Lock = field(default_factory=threading.Lock)
    at_work: int = 0
    used: bool = False


_threads = _Threads()
_child = _threads
_here = threading.local()


def require_usable(device: torch.device | None = None) -> None:
    """See that torch's threads, and the GPU if it is the device, live in this process.

    Raises:
        MachineError: it was forked from one whose threads or GPU it cannot have: it would wait for them for ever.
    """
    lost = _threads.lost
    if device is not None and device.type == "cuda" and _threads.gpu_lost:
        lost = "after torch had used the GPU"
    if lost is not None:
        raise MachineError(
            f"this process was forked {lost}: it cannot go on from there; start it with multiprocessing's spawn or "
            "forkserver, not with fork"
        )
    with _threads.counting:  # a thread's first question settles its number
        _threads.used = _threads.used or torch.get_num_threads() > 1


def _before_fork() -> None:
    global _child
    lost = _threads.lost
    if _threads.at_work:
        lost = "while a run was at work in it"
    elif not _end_pool() and _threads.used:
        lost = "after torch had used threads, which do not live on in it"
    _child = _Threads(lost, _threads.gpu_lost or torch.cuda.is_initialized())


def _after_fork() -> None:
    global _threads
    _threads = _child
    _here.workers = None


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _end_pool() -> bool:
    """End the threads with which GNU's OpenMP works for this one, as a forked process would wait for them for ever;
    they are made anew when they are wanted. Returns whether there are none now.
    """
    pause = _openmp()
    return pause is not None and pause(1) == 0  # omp_pause_soft


@cache
def _openmp() -> Callable[[int], int] | None:
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        try:
            return ctypes.CDLL(str(path), os.RTLD_NOLOAD | os.RTLD_NOW).omp_pause_resource_all
        except (OSError, AttributeError):  # not the one that torch uses, or older than OpenMP 5
            continue
    return None


class TwoWorkers:
    """Two threads that work side by side, each with half of torch's CPU threads; or one that takes values in turn.

    Operators that split their own work wait for their slowest part each time; two workers wait once.

    Args:
        pool: the other thread.
        threads: of both.
        count: sets the caller's number of threads, and no other thread's.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor | None,
        threads: int = 1,
        count: Callable[[int], None] = torch.set_num_threads,
    ):
        self.pool, self.threads, self.count = pool, threads, count

    @property
    def two(self) -> bool:
        """Whether there are two."""
        return self.pool is not None

    def map(self, function: Callable[[A], B], values: Iterable[A]) -> list[B]:
        """`[function(v) for v in values]`, two values at a time; the order of results is theirs."""
        if self.pool is None:
            return [function(value) for value in values]
        results: list[B] = []
        remaining = iter(values)
        for value in remaining:
            other = next(remaining, None)
            waited = None if other is None else self.pool.submit(function, other)
            try:
                results.append(function(value))
            finally:  # whatever happens here, nothing is left running behind it
                if waited is not None:
                    results.append(waited.result())
        return results

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within, the caller has both workers' threads, for work on each number by itself; a sum may depend on them."""
        each = torch.get_num_threads()
        if self.two:
            self.count(self.threads)
        try:
            yield
        finally:
            if self.two:
                self.count(each)


@contextmanager
def two_workers(device: torch.device) -> Iterator[TwoWorkers]:
    """Yield two workers where the work is on the CPU and torch has two threads or more; within, each has half of them.

    Inside another's `with`, in the same thread, they are the same workers. Other threads keep the number of threads
    that they have or would begin with: torch gives a new one the number that was set last, anywhere.
    """
    require_usable(device)
    open_here: TwoWorkers | None = getattr(_here, "workers", None)
    threads = torch.get_num_threads()
    if open_here is not None or device.type != "cpu" or threads < 2:
        yield (open_here if device.type == "cpu" else None) or TwoWorkers(None)
        return
    each = threads // 2
    with ThreadPoolExecutor(1, "count") as keeper, ThreadPoolExecutor(1, "worker") as pool:
        with _threads.counting:
            others = keeper.submit(torch.get_num_threads).result()
            _threads.at_work += 1

        def count(number: int) -> None:
            with _threads.counting:
                torch.set_num_threads(number)
                keeper.submit(torch.set_num_threads, others).result()

        try:
            with _threads.counting:
                pool.submit(torch.get_num_threads).result()  # until it has asked, what is set is not its own
                pool.submit(torch.set_num_threads, each).result()
                torch.set_num_threads(each)
                keeper.submit(torch.set_num_threads, others).result()
            _here.workers = TwoWorkers(pool, threads, count)
            yield _here.workers
        finally:
            _here.workers = None
            count(threads)
            with _threads.counting:
                _threads.at_work -= 1
