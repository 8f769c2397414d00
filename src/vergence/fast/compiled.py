"""The door to numba, the extra `fast`: whether it is installed, and loops that it compiles for the CPU.

No other module imports it, and nothing needs it: convolutions and colours are torch's without it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

SLOWER = 1.7
"""How many times as long a step takes on a CPU without numba: a ResNet-18 at 96 px (docs/performance.md)."""


@cache
def can_compile() -> bool:
    """Return whether numba is installed and can be imported."""
    try:
        import numba  # noqa: F401, not before it is asked for: it takes half a second
    except ImportError:
        return False
    return True


def numba_version() -> str:
    """Return the version of the numba that compiles here, "none" where there is none."""
    if not can_compile():
        return "none"
    import numba

    return numba.__version__


@cache
def note_if_missing() -> None:
    """Say on stderr what numba would give where it is missing: once in a process, and in rank 0 alone of several."""
    if not can_compile() and os.environ.get("RANK", "0") == "0":
        gain = f"training a ResNet-18 on the CPU takes about {SLOWER:g} times as long"
        print(f"note: numba is not installed: {gain}; pip install 'vergence[fast]'", file=sys.stderr)


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that other compiled ones call; decorates it."""
    # Sums stay in the order they are written in; a product and a sum may be one instruction. Without `_nrt` no
    # reference is counted: what is passed is looked at, never kept.
    private: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return _njit(fastmath={"contract"}, **private)(function)


def compiled(functions: Sequence[Callable[..., None]], warm: Callable[..., None]) -> list[Callable[..., None]]:
    """Return functions that are called from Python, compiled, or read from numba's cache.

    The cache lies beside their module or in the user's folder; one that cannot be read or written is done without.

    Args:
        functions: of a module; other threads of Python run while they do.
        warm: calls each of them, so that all is compiled when this returns.
    """
    try:
        return _compiled(functions, warm, keep=True)
    except Exception:  # a file cut by a power failure may raise anything
        return _compiled(functions, warm, keep=False)


def _compiled(
    functions: Sequence[Callable[..., None]], warm: Callable[..., None], keep: bool
) -> list[Callable[..., None]]:
    made = [_njit(cache=keep)(function) for function in functions]
    warm(*made)
    return made


def _njit(**options: Any) -> Any:
    import numba

    return numba.njit(nogil=True, error_model="numpy", **options)
