"""Warning filters, which belong to the whole process."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

_filters = threading.RLock()


@contextlib.contextmanager
def own_filters() -> Iterator[None]:
    """Within, warning filters may be changed; then they are as they were. They belong to the whole process: one thread
    at a time is let in, for two that overlap would put back each other's.
    """
    with _filters, warnings.catch_warnings():
        yield
