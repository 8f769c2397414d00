"""How far long work is, told to whoever watches."""

import threading

import pytest

from vergence.machine import progress
from vergence.machine.progress import Progress, counted, duration, watched


def test_each_value_is_told_of_and_the_end() -> None:
    seen: list[tuple[int, int | None] | None] = []
    with watched(lambda told: seen.append(told and (told.done, told.total))):
        assert [*counted("counting", "abc", 3)] == ["a", "b", "c"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3), None]


def test_the_end_is_told_of_work_that_fails_or_is_given_up() -> None:
    seen: list[Progress | None] = []

    def failing():
        yield 1
        raise ValueError("no more")

    with watched(seen.append):
        with pytest.raises(ValueError, match="no more"):
            list(counted("failing", failing()))
        assert seen[-1] is None
        given_up = counted("given up", range(9))
        next(given_up)
        given_up.close()
    assert seen[-1] is None


def test_nobody_watches_outside_or_in_other_threads() -> None:
    seen: list[Progress | None] = []
    with watched(seen.append):
        thread = threading.Thread(target=lambda: [*counted("elsewhere", range(3))])
        thread.start()
        thread.join()
    assert [*counted("later", range(3))] == [0, 1, 2]
    assert seen == []


def test_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 110.0)
    assert str(Progress("reading", 9000, 0, 110.0)) == "reading: 0 of 9,000"
    assert str(Progress("reading", 9000, 4500, 100.0)) == "reading: 4,500 of 9,000, 450 a second, 10 s left"
    assert str(Progress("reading", None, 5, 100.0)) == "reading: 5, 0.5 a second"
    assert [duration(s) for s in (0.4, 89, 100, 5340, 5460, 72_000)] == [
        "0 s",
        "89 s",
        "2 min",
        "89 min",
        "1 h 31 min",
        "20 h 0 min",
    ]
