"""The tally adds up, and a fault is repeated as often as was asked for."""

import json

import pytest

import soak


def test_faults_are_repeated_as_the_environment_says(monkeypatch):
    monkeypatch.delenv("VERGENCE_SOAK", raising=False)
    assert soak.times(20, 500) == 20
    monkeypatch.setenv("VERGENCE_SOAK", "1")
    assert soak.times(20, 500) == 500
    monkeypatch.setenv("VERGENCE_SOAK", "3")
    assert soak.times(20, 500) == 1500


def test_what_is_counted_is_summed_by_kind(tmp_path, monkeypatch):
    tally = tmp_path / "tally.jsonl"
    monkeypatch.setenv("VERGENCE_TALLY", str(tally))
    for kind, n in (("kills", 1), ("payloads", 30), ("kills", 4)):
        soak.count(kind, n)
    sums = soak.summed(tally)
    assert list(sums) == list(soak.KINDS)
    assert {kind: n for kind, n in sums.items() if n} == {"kills": 5, "payloads": 30}
    with pytest.raises(AssertionError):
        soak.count("wishes")


def test_without_a_tally_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("VERGENCE_TALLY", raising=False)
    monkeypatch.chdir(tmp_path)
    soak.count("kills")
    assert not list(tmp_path.iterdir())


def test_the_report_and_both_pages_say_the_same(tmp_path):
    (tmp_path / "docs").mkdir()
    tally, out = tmp_path / "tally", tmp_path / "docs/reliability.json"
    said = {out.with_suffix(".md"): "| power-loss states | 2,000 |", tmp_path / "README.md": " 2,000 power-loss"}
    tally.write_text(json.dumps({"kind": "power-loss states", "n": 2000}) + "\n")
    for page in said:
        page.write_text("before\n<!-- tally: begin -->\nold\n<!-- tally: end -->\nafter\n")
    soak.main(out, tally)
    report = json.loads(out.read_text())
    assert report["survived"]["power-loss states"] == 2000
    assert {"date", "commit", "python", "torch", "machine"} < set(report)
    for page, words in said.items():
        text = page.read_text()
        assert words in text
        assert "old" not in text
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        soak.main(out, tally)
        assert page.read_text() == text


def test_a_page_without_a_place_for_the_tally_is_left_alone():
    with pytest.raises(AssertionError, match="no <!-- tally"):
        soak.between_markers("a page", "a table")
