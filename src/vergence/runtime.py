"""The machine under a run: randomness by counter, devices, threads, memory, and when something is due."""

import ctypes
import hashlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeVar

import torch

from vergence.errors import InputError

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
            raise InputError("precision: this GPU has no bfloat16; use --precision float32")
    elif not {"avx512_bf16", "amx_bf16", "bf16"} & {name for name, has in torch.cpu.get_capabilities().items() if has}:
        raise InputError(
            "precision: this CPU has no bfloat16 instructions, and gradients without them can be wrong; "
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


class Lanes:
    """Two threads of work side by side, each with half of torch's CPU threads; where there is one, one after the other.

    Operators that split their own work wait for their slowest part each time; two lanes wait once.
    """

    def __init__(self, pool: ThreadPoolExecutor | None, threads: int = 1):
        self.pool, self.threads = pool, threads

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
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            if self.two:
                torch.set_num_threads(each)


_lanes: Lanes | None = None


@contextmanager
def lanes(device: torch.device) -> Iterator[Lanes]:
    """Two lanes where the work is on the CPU and torch has two threads or more; within, each has half of them.

    Inside another's `with` they are the same lanes.
    """
    global _lanes
    threads = torch.get_num_threads()
    if _lanes is not None or device.type != "cpu" or threads < 2:
        yield (_lanes if device.type == "cpu" else None) or Lanes(None)
        return
    each = threads // 2
    torch.set_num_threads(each)
    try:
        # Threads are counted for each thread that calls into torch.
        with ThreadPoolExecutor(1, "lane", initializer=torch.set_num_threads, initargs=(each,)) as pool:
            _lanes = Lanes(pool, threads)
            yield _lanes
    finally:
        _lanes = None
        torch.set_num_threads(threads)


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
