"""What a new user may well do wrong: each mistake is made, and answered by one line that says what to do."""

import pytest

from mistakes import MISTAKES, make, page, prepare
from repository import ROOT
from soak import count

ALL = [mistake for mistakes in MISTAKES.values() for mistake in mistakes]
PAGE = ROOT / "docs" / "mistakes.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    prepare(folder)
    return folder


def files(place):
    """When each file was changed; not those of the cache of pictures."""
    found = (path for path in place.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in found if path.name not in (".lock", "report.html")}


@pytest.mark.parametrize("mistake", ALL, ids=[mistake.words for mistake in ALL])
def test_one_line_says_what_to_do(mistake, place):
    before = files(place)
    answer = make(mistake, place)
    assert answer.code == mistake.code
    page = mistake.words.startswith("report") and answer.out.startswith("report.html: ")  # it names what it lacks
    assert page or answer.out == ""
    (line,) = answer.errors
    assert mistake.says in line
    assert len(line) < 400
    assert files(place) == before
    count("malformed inputs")


def test_there_are_more_than_thirty_and_no_two_alike():
    assert len({mistake.words for mistake in ALL}) == len(ALL) > 30


def test_the_page_is_up_to_date(place):
    assert PAGE.read_text() == page(place), "run: python tests/support/mistakes.py docs/mistakes.md"
