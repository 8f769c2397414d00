"""How far a long piece of work is, for whoever watches: nobody, unless a program says so."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Progress:
    """A piece of work that is under way.

    Attributes:
        what: its name, as in "reading pictures".
        total: how many there are to do; None where that is not known.
        done: how many are done.
        started: when it began, in seconds of `time.monotonic`.
    """

    what: str
    total: int | None
    done: int = 0
    started: float = field(default_factory=lambda: time.monotonic())

    def __str__(self) -> str:
        """The work in words, as in "reading pictures: 1,200 of 9,000, 480 a second, 17 s left"."""
        seconds = time.monotonic() - self.started
        rate = self.done / seconds if seconds else 0.0
        of = "" if self.total is None else f" of {self.total:,}"
        speed = f", {rate:,.0f} a second" if rate >= 1 else f", {rate:.2g} a second" if rate else ""
        left = "" if self.total is None or not rate else f", {duration((self.total - self.done) / rate)} left"
        return f"{self.what}: {self.done:,}{of}{speed}{left}"


Watcher = Callable[[Progress | None], None]
"""Is told of a piece of work after each part of it, often a thousand times a second; of None when it has ended."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of all long work that is done within, in this thread."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def counted(what: str, values: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Yield the values; whoever watches is told of each."""
    watcher = _watcher.get()
    if watcher is None:
        yield from values
        return
    progress = Progress(what, total)
    try:
        watcher(progress)
        for value in values:
            yield value
            progress.done += 1
            watcher(progress)
    finally:
        watcher(None)


def duration(seconds: float) -> str:
    """Return a time to wait in words: "8 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
