"""Work done ahead of who needs it, by threads, and never further than a bound."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def done_ahead(
    function: Callable[[A], B], values: Iterable[A], *, threads: int, ahead: int
) -> Generator[B, None, None]:
    """Yield `function` of each value, in the order of the values, worked out ahead by threads of their own.

    A thread takes a value when it has time for it, so that no more values are held than there are threads.

    Args:
        function: is called in several threads at once; what it raises is raised in its turn.
        values: are taken by one thread at a time; what they raise is raised in its turn.
        threads: that work.
        ahead: the most results that wait or are worked at.
    """
    remaining = iter(values)
    taking, free, ended = threading.Lock(), threading.Semaphore(ahead), threading.Event()
    results: queue.SimpleQueue[Future[B]] = queue.SimpleQueue()

    def work() -> None:
        while free.acquire() and not ended.is_set():
            result: Future[B] = Future()
            try:
                with taking:  # a value and the place of its result are taken together
                    results.put(result)
                    value = next(remaining)
                result.set_result(function(value))
            except BaseException as error:
                result.set_exception(error)
                return

    with ThreadPoolExecutor(threads, "ahead") as pool:
        try:
            for _ in range(threads):
                pool.submit(work)
            while True:
                try:
                    yield results.get().result()
                except StopIteration:  # of the values
                    return
                free.release()
        finally:
            ended.set()
            free.release(threads)
