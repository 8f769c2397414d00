"""The machine under a run: randomness by counter, devices, threads, forks, memory, and when something is due."""

import ctypes
import hashlib
import os
import platform
import resource
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeVar

import torch

from vergence.errors import InputError, MachineError

Compile = Literal["auto", "none", "graph", "full"]
"""How steps are made fast: as written, as one CUDA graph of these kernels, or compiled first."""

_HUGE_PAGES = 14  # MADV_HUGEPAGE

A = TypeVar("A")
B = TypeVar("B")


def seed_of(seed: int, stream: str, *counters: int) -> int:
    """63 bits that depend on the run's seed, the name of a stream and counters such as epoch or step; on nothing else.

    Whatever is random is drawn from such a seed, so a resumed run, or one with other periods of logging and saving,
    draws the same numbers.
    """
    text = ":".join(map(str, (seed, stream, *counters)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, stream: str, *counters: int) -> torch.Generator:
    """A CPU generator that starts from `seed_of(...)`."""
    return torch.Generator().manual_seed(seed_of(seed, stream, *counters))


def due(step: int, every: int, total: int) -> bool:
    """Whether periodic work is to be done after step `step` of `total` (counted from 1): at each multiple and at the
    end; never where `every` is 0.
    """
    return every > 0 and (step % every == 0 or step == total)


def find_device(name: str) -> torch.device:
    """The device of a name such as "auto", "cpu", "cuda" or "cuda:1"; a GPU asked for and absent is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device: unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device: unknown device '{name}'; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device: no CUDA device here; use --device cpu, or check the driver with nvidia-smi")
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(f"--device: no {name}; this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def device_of(device: torch.device | str | None) -> torch.device:
    """A device as a function is given it: itself, or that of a name; the CPU for None."""
    if isinstance(device, str):
        return find_device(device)
    return torch.device("cpu") if device is None else device


def refuse_emulation(precision: str, device: torch.device) -> None:
    """Refuse bfloat16 where the device only imitates it.

    Measured with torch 2.14 on a CPU with AVX-512 and without its bfloat16 instructions: oneDNN's gradient of a 3x3
    convolution on 1x1 maps held up to 1e31 from memory that nobody had written, at other steps in each run.

    Raises:
        InputError: it does.
    """
    if precision != "bfloat16":
        return
    if device.type == "cuda":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError("--precision: this GPU has no bfloat16; use --precision float32")
    elif not {"avx512_bf16", "amx_bf16", "bf16"} & {name for name, has in torch.cpu.get_capabilities().items() if has}:
        raise InputError(
            "--precision: this CPU has no bfloat16 instructions, and gradients without them can be wrong; "
            "use --precision float32, or a GPU with --device cuda"
        )


@cache
def can_compile() -> bool:
    """Whether numba is installed, which compiles small loops for the CPU."""
    try:
        import numba  # noqa: F401, not before it is used: it takes a moment
    except ImportError:
        return False
    return True


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory of one step for the next, in large pages, instead of giving it back.

    A step's activations are taken and freed as a few hundred MB of large blocks; returning them costs 36,000 page
    faults a step, measured as 7-9% of its time. All threads take from one arena, for the others' cannot grow beyond
    64 MB. In pages of 2 MB instead of 4 KiB a step takes 4% less. Has an effect with glibc only.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    for option, value in ((-3, 1 << 30), (-1, 2**31 - 1), (-2, 256 << 20), (-8, 1)):
        libc.mallopt(option, value)  # mmap, trim, top-pad thresholds, arenas
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:  # addresses cost nothing
        _ask_for_large_pages(libc)


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """For the heap as far as it grows without being trimmed: taken and freed unused, which touches none of it."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes, libc.madvise.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size, page = 560 << 20, os.sysconf("SC_PAGE_SIZE")
    blocks = [block for block in (libc.malloc(size) for _ in range(3)) if block]
    for block in blocks:
        libc.madvise(-(-block // page) * page, size - page, _HUGE_PAGES)  # refused where the system has none
    for block in blocks:
        libc.free(block)


@dataclass
class _Threads:
    """What this process knows of its threads.

    Attributes:
        lost: why those of torch cannot be had in this process, which was forked; None where they can.
        gpu_lost: whether a GPU cannot.
        counting: held while the number that torch gives to new threads is not what the caller set.
        at_work: lanes that are open, in any thread.
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
    _here.lanes = None


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


class Lanes:
    """Two threads of work side by side, each with half of torch's CPU threads; where there is one, one after the other.

    Operators that split their own work wait for their slowest part each time; two lanes wait once.

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
        """Within, the caller has both lanes' threads, for work on each number by itself; a sum may depend on them."""
        each = torch.get_num_threads()
        if self.two:
            self.count(self.threads)
        try:
            yield
        finally:
            if self.two:
                self.count(each)


@contextmanager
def lanes(device: torch.device) -> Iterator[Lanes]:
    """Two lanes where the work is on the CPU and torch has two threads or more; within, each has half of them.

    Inside another's `with`, in the same thread, they are the same lanes. Other threads keep the number of threads that
    they have or would begin with: torch gives a new one the number that was set last, anywhere.
    """
    require_usable(device)
    open_here: Lanes | None = getattr(_here, "lanes", None)
    threads = torch.get_num_threads()
    if open_here is not None or device.type != "cpu" or threads < 2:
        yield (open_here if device.type == "cpu" else None) or Lanes(None)
        return
    each = threads // 2
    with ThreadPoolExecutor(1, "count") as keeper, ThreadPoolExecutor(1, "lane") as pool:
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
            _here.lanes = Lanes(pool, threads, count)
            yield _here.lanes
        finally:
            _here.lanes = None
            count(threads)
            with _threads.counting:
                _threads.at_work -= 1


def fetch(*tensors: torch.Tensor) -> Callable[[], list[torch.Tensor]]:
    """Begin to bring tensors to the host; the function returned waits until they are there, and gives them."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return lambda: list(tensors)
    here = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for mine, tensor in zip(here, tensors, strict=True):
        mine.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> list[torch.Tensor]:
        arrived.synchronize()
        return here

    return wait


def environment(device: torch.device) -> dict[str, str | int]:
    """What a result depends on besides its configuration: versions, device, threads."""
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "vergence": version("vergence"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "numba": _version_or_none("numba"),  # the CPU's convolutions do without it
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
    }


def _version_or_none(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
