"""What a command says of long work while it is done."""

import io
import sys

import pytest

from vergence.command import process
from vergence.command.process import guarded
from vergence.machine.progress import counted


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, is_terminal: bool):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def said(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, seconds_each: float, count: int) -> str:
    """What is written to stderr while a command does `count` pieces of work."""
    screen, clock = Screen(is_terminal), [0.0]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(process.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("COLUMNS", "80")

    def command(words: list[str]) -> int:
        for _ in counted("reading ./pictures", range(count), count):
            clock[0] += seconds_each
        return 0

    assert guarded(command, []) == 0
    return screen.getvalue()


def test_a_terminal_has_one_line_that_changes_and_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, True, seconds_each=0.1, count=20)
    lines = text.split("\r")
    assert "\n" not in text
    assert lines[1].rstrip() == "reading ./pictures: 5 of 20, 10 a second, 2 s left"
    assert lines[-2].isspace()
    assert len(lines[-2]) >= max(len(line.rstrip()) for line in lines)
    assert lines[-1] == ""


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, True, seconds_each=9.0, count=100)
    assert all(len(line) < 80 for line in text.split("\r"))


def test_a_file_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, False, seconds_each=1.0, count=100).splitlines()
    assert lines[0] == "reading ./pictures: 1 of 100, 1 a second, 2 min left"
    assert len(lines) == 4
    assert lines[-1].startswith("reading ./pictures: 91 of 100")


def test_short_work_is_worth_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, True, seconds_each=0.01, count=20) == ""
    assert said(monkeypatch, False, seconds_each=0.01, count=20) == ""
