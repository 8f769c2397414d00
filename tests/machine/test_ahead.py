"""Work done ahead: in order, within its bound, and gone when nobody wants it any more."""

import threading
import time

import pytest

from vergence.machine.ahead import done_ahead


def test_results_come_in_the_order_of_the_values():
    def slow(value):
        time.sleep(0.002 * (value % 3 == 0))
        return 2 * value

    assert [*done_ahead(slow, range(50), threads=4, ahead=7)] == [2 * value for value in range(50)]
    assert [*done_ahead(slow, (), threads=2, ahead=1)] == []


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (3, 2), (2, 8)])
def test_never_further_ahead_than_the_bound(threads, ahead):
    taken = 0

    def values():
        nonlocal taken
        for value in range(100):
            taken = value + 1
            yield value

    for used, value in enumerate(done_ahead(lambda value: value, values(), threads=threads, ahead=ahead)):
        assert value == used
        if used % 25 == 0:
            time.sleep(0.02)  # time enough to go too far
        assert taken - used <= ahead + 1  # the one in hand is no longer ahead


def test_no_value_is_taken_before_a_thread_has_time_for_it():
    held, most, lock = 0, 0, threading.Lock()

    def values():
        nonlocal held, most
        for value in range(40):
            with lock:
                held += 1
                most = max(most, held)
            yield value

    def work(value):
        nonlocal held
        time.sleep(0.001)
        with lock:
            held -= 1

    assert len([*done_ahead(work, values(), threads=3, ahead=30)]) == 40
    assert most <= 3


def test_errors_come_in_their_turn():
    def work(value):
        if value == 5:
            raise KeyError(value)
        return value

    results = done_ahead(work, range(20), threads=3, ahead=9)
    assert [next(results) for _ in range(5)] == [*range(5)]
    with pytest.raises(KeyError):
        next(results)

    def values():
        yield 1
        raise OSError("gone")

    results = done_ahead(work, values(), threads=2, ahead=4)
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_its_threads_end_with_it():
    before = threading.active_count()
    results = done_ahead(lambda value: value, iter(int, 1), threads=4, ahead=8)
    assert next(results) == 0
    assert threading.active_count() == before + 4
    results.close()
    assert threading.active_count() == before
