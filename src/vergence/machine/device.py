"""The device that work is done on, and what a result depends on besides its configuration."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version

import torch

from vergence.errors import InputError
from vergence.fast.compiled import numba_version

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions of 16 bits, by their names."""

_INSTRUCTIONS = {"bfloat16": {"avx512_bf16", "amx_bf16", "bf16"}, "float16": {"avx512_fp16", "amx_fp16", "fp16"}}
"""What torch calls a CPU's instructions for each of them, of which one is enough."""


def find_device(name: str) -> torch.device:
    """The device of a name such as "auto", "cpu", "cuda" or "cuda:1"; a GPU asked for and absent is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
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
    """Refuse a precision of 16 bits where the device only imitates it.

    Measured with torch 2.14 on a CPU with AVX-512 and without its bfloat16 instructions: oneDNN's gradient of a 3x3
    convolution on 1x1 maps held up to 1e31 from memory that nobody had written, at other steps in each run.

    Raises:
        InputError: it does.
    """
    if precision not in HALF:
        return
    if device.type == "cuda":
        if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError("--precision: this GPU has no bfloat16; use --precision float16 or float32")
    elif not _INSTRUCTIONS[precision] & {name for name, has in torch.cpu.get_capabilities().items() if has}:
        raise InputError(
            f"--precision: this CPU has no {precision} instructions, and gradients without them can be wrong; "
            "use --precision float32, or a GPU with --device cuda"
        )


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
        "numba": numba_version(),  # the CPU's convolutions do without it
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
