"""The machine under a run: randomness by counter, devices, threads, memory, and when something is due."""

import ctypes
import hashlib
import os
import platform
import sys
from importlib.metadata import version

import torch

from vergence.errors import InputError


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


def keep_freed_memory() -> None:
    """Let the C library keep the memory of one step for the next instead of giving it back to the kernel.

    A step's activations are taken and freed as a few hundred MB of large blocks; returning them costs 36,000 page
    faults a step, measured as 7-9% of its time. Has an effect with glibc only.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            for option, value in ((-3, 1 << 30), (-1, 2**31 - 1), (-2, 256 << 20)):  # mmap, trim, top-pad thresholds
                mallopt(option, value)


def environment(device: torch.device) -> dict[str, str | int]:
    """What a result depends on besides its configuration: versions, device, threads."""
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "vergence": version("vergence"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
