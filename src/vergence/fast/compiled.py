"""Loops that numba compiles for the CPU: once a machine, and kept in numba's cache."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from numba import njit

_njit: Any = njit

# Sums stay in the order they are written in; a product and a sum may be one instruction. Without `_nrt` no reference is
# counted: what is passed is looked at, never kept.
inner = _njit(
    nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""Decorates a function that other compiled ones call."""


def compiled(functions: Sequence[Callable[..., None]], warm: Callable[..., None]) -> list[Callable[..., None]]:
    """The functions that are called from Python, compiled, or read from numba's cache, which lies beside their module
    or in the user's folder. A cache that cannot be read or written is done without.

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
    made = [_njit(nogil=True, error_model="numpy", cache=keep)(function) for function in functions]
    warm(*made)
    return made


@cache
def can_compile() -> bool:
    """Whether numba is installed, which compiles small loops for the CPU."""
    try:
        import numba  # noqa: F401, not before it is used: it takes a moment
    except ImportError:
        return False
    return True
