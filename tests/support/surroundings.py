"""What a process has in common with all that runs in it, to be compared before and after."""

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings

import numpy as np
import torch


def surroundings():
    """By name, in values that can be compared."""
    numbers = np.random.get_state()  # noqa: NPY002, the caller's
    return {
        "filters of warnings": [*warnings.filters],
        "how warnings are shown": warnings.showwarning,
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": (numbers[1].tolist(), *numbers[2:]),
        "Python's generator": random.getstate(),
        "threads of torch": torch.get_num_threads(),
        "threads between operators": torch.get_num_interop_threads(),
        "kind of numbers": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "benchmark": torch.backends.cudnn.benchmark,
        "precision of products": torch.get_float32_matmul_precision(),
        "variables": dict(os.environ),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "folder": os.getcwd(),
        "streams": [(id(stream), stream.errors, stream.encoding) for stream in (sys.stdout, sys.stderr)],
        "output": os.fstat(1),
        "handlers of logs": [*logging.getLogger().handlers],
        "level of logs": logging.getLogger().level,
        "print options": torch.get_printoptions() if hasattr(torch, "get_printoptions") else None,
        "errors of numpy": np.geterr(),
        "umask": _umask(),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "recursion": sys.getrecursionlimit(),
        "hook of exceptions": sys.excepthook,
    }


def _umask():
    mask = os.umask(0o77)
    os.umask(mask)
    return mask
