"""A study from its jobs to its page, whole, in pieces, and with a part missing; and the file that it stands in."""

import gzip
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import soak
from commands import vergence
from repository import SUPPORT
from tiny_experiment import study
from vergence import config as c
from vergence.errors import InputError
from vergence.report.measures import listed
from vergence.report.page import write_files
from vergence.study import (
    KEPT,
    PAGE,
    PageOptions,
    Place,
    Value,
    is_above,
    is_at_most,
    is_near,
    kept,
    rebuild,
    reproduce,
)
from vergence.study.checks import all_hold, any_holds, reversed_outcome
from vergence.study.kept import Told, keep, scale_of
from vergence.study.reproduction import RUNS, read

pytestmark = pytest.mark.xdist_group("grid")

TINY = SUPPORT / "tiny_experiment.py"
COMMAND = f"vergence reproduce {TINY} --scale smoke"


def start(out):
    words = [
        sys.executable,
        "-m",
        "vergence",
        "reproduce",
        TINY,
        "--out",
        out,
        "--jobs",
        "2",
        "--device",
        "cpu",
    ]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)


def files(out):
    """Everything but the page and what it can be made of again, which say how long it took and on what."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name not in (PAGE, KEPT)}


@pytest.fixture(scope="session")  # of one group: a module's would be made anew when the order goes from file to file
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "whole"
    process = start(out)
    assert process.wait(timeout=300) == 0
    return out


@pytest.mark.slow
def test_a_page_with_its_tables_and_figures(whole):
    page = (whole / PAGE).read_text()
    assert "A tiny experiment" in page
    assert "subset: 480 -&gt; 48" in page
    assert COMMAND in page
    assert {"scores.csv", "results.md", "course.svg", "course.csv"} <= set(files(whole))
    assert "No norm is closer to one point." in (whole / "results.md").read_text()
    rows = read(study.plan(study.scales["smoke"], Place()), whole / RUNS, failures := {})
    assert failures == {}
    assert {row: len(results) for row, results in rows.items()} == {"batch": 2, "none": 2, "random": 2}


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_tables(whole, tmp_path):
    out, kills = tmp_path / "killed", 0
    draw = random.Random(1)
    finished: dict[Path, int] = {}
    for _ in range(soak.times(3, 12)):
        process = start(out)
        try:
            process.wait(timeout=draw.uniform(4, 9))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            for path, when in finished.items():
                assert path.stat().st_mtime_ns == when, f"{path} was done again"
            finished |= {path: path.stat().st_mtime_ns for path in out.glob("runs/*/summary.json")}
            time.sleep(0.2)
    else:
        assert start(out).wait(timeout=300) == 0
    assert kills > 0
    soak.count("grid kills", kills)
    assert files(out) == files(whole)


@pytest.mark.slow
def test_what_is_there_is_not_trained_again_and_a_missing_run_is_named(whole, tmp_path, monkeypatch):
    scale, done = study.scales["smoke"], []
    more = replace(scale, subset=100_000)  # more pictures than there are: every run fails, the page is still made

    def grid(jobs, root, **options):
        done.extend(job.name for job in jobs if not job.finished(root / job.folder))
        return real(jobs, root, **options)

    module = sys.modules[reproduce.__module__]
    real = module.run_grid
    monkeypatch.setattr(module, "run_grid", grid)
    options = PageOptions(command=COMMAND)  # the same page as before, whatever is tested first
    page, failures = reproduce(study, "smoke", whole, page=options)
    assert (done, failures) == ([], {})
    assert page.views is not None
    page, _ = reproduce(study, scale, whole, page=replace(options, views=False))
    assert page.views is None
    assert "data:image" not in (whole / PAGE).read_text()
    page, failures = reproduce(study, more, tmp_path / "more", page=options)
    assert len(failures) == 6
    assert all("100000" in failure.message for failure in failures.values())
    assert "100000" in (tmp_path / "more" / PAGE).read_text()
    assert [finding.outcome for finding in page.sections[0].items] == ["not decided"]


def packed(content, path):
    """A file of results with another index."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(stream.getvalue())
    return path


class TestKept:
    """The file that a page is made of again."""

    @pytest.mark.slow
    def test_the_page_is_made_again_without_the_runs(self, whole, tmp_path):
        file = Path(shutil.copy(whole / KEPT, tmp_path))
        with kept(file) as (index, root):
            page = rebuild(study, index, root)
            assert sorted(path.name for path in root.glob("*/*")) == sorted(
                name
                for name in ("metrics.jsonl", "run.json", "summary.json")
                for _ in range(6 if name != "metrics.jsonl" else 4)  # an untrained encoder has no log
            )
        assert not root.exists()
        write_files(page, tmp_path / "again")
        assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files(whole)
        assert page.command == COMMAND
        assert {row: len(results) for row, results in page.runs.items()} == {"batch": 2, "none": 2, "random": 2}

    @pytest.mark.slow
    def test_the_same_runs_give_the_same_file_at_any_scale(self, whole, tmp_path):
        scale = study.scales["smoke"].changed(epochs=3)
        options = PageOptions(views=False, command=COMMAND, study="tiny")
        shutil.copytree(whole / RUNS, tmp_path / "one" / RUNS)
        reproduce(study, scale, tmp_path / "one", page=options)
        shutil.move(tmp_path / "one", tmp_path / "two")
        before = (tmp_path / "two" / KEPT).read_bytes()
        reproduce(study, scale, tmp_path / "two", page=options)
        assert (tmp_path / "two" / KEPT).read_bytes() == before
        with kept(tmp_path / "two" / KEPT) as (index, root):
            assert index["scale"]["changes"] == {"seeds": None, "epochs": 3, "subset": None}
            assert index["study"] == "tiny"
            assert "but epochs 3" in rebuild(study, index, root).lead[1]

    INDEX: ClassVar = {
        "format": 1,
        "study": "tiny",
        "command": "",
        "scale": {"name": "smoke", "changes": {}},
        "rows": {"batch": ["a", None]},
        "failures": {},
    }

    @pytest.mark.parametrize(
        "wrong",
        [
            {"format": 2},
            {"study": None},
            {"scale": {"changes": {}}},
            {"rows": {"batch": ["../a"]}},
            {"rows": {"batch": [".."]}},
            {"rows": {"batch": ["/a"]}},
            {"rows": ["batch"]},
            {"failures": {"a": 1}},
        ],
        ids=str,
    )
    def test_an_index_that_is_not_ours_is_refused(self, wrong, tmp_path):
        file = packed({"study.json": json.dumps(self.INDEX | wrong).encode()}, tmp_path / KEPT)
        with pytest.raises(InputError, match=r"its study\.json is not as this version writes it"), kept(file):
            pass

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"seeds": 0}, "study.json: scale.changes: seeds: must be at least 1, not 0"),
            ({"about": 1}, "study.json: scale.changes: about: unknown key"),
            (None, "study.json: scale.changes: "),
        ],
    )
    def test_a_scale_cannot_be_changed_anyhow(self, changes, said, tmp_path):
        index = self.INDEX | {"scale": {"name": "smoke", "changes": changes}}
        with pytest.raises(InputError, match=re.escape(said)):
            rebuild(study, index, tmp_path)

    @pytest.mark.parametrize("data", [c.CIFAR10(size=32), c.Folder(root="pets", size=16)])
    def test_a_scale_on_other_pictures_is_found_again(self, data, tmp_path):
        scale = study.scales["smoke"].changed(data=data, subset=7)
        keep({}, tmp_path, tmp_path / KEPT, Told(study="tiny", command="", scale=scale, failures={}))
        with kept(tmp_path / KEPT) as (index, _):
            assert scale_of(study, index) == scale

    @pytest.mark.slow
    def test_a_run_that_cannot_be_read_is_named_and_not_kept(self, whole, tmp_path):
        shutil.copytree(whole / RUNS, tmp_path / RUNS)
        hurt = sorted((tmp_path / RUNS).glob("*/metrics.jsonl"))[0].parent
        (hurt / "summary.json").write_text("[]")
        plan = study.plan(study.scales["smoke"], Place())
        read(plan, tmp_path / RUNS, failures := {})
        assert len(failures) == 1
        told = Told(study="tiny", command="", scale=study.scales["smoke"], failures=failures)
        keep(plan, tmp_path / RUNS, tmp_path / KEPT, told)
        with kept(tmp_path / KEPT) as (index, root):
            assert sum(folder is not None for row in index["rows"].values() for folder in row) == 5
            assert not (root / hurt.name).exists()
            assert list(rebuild(study, index, root).failures) == list(failures)

    def test_other_files_are_refused(self, tmp_path):
        with (
            pytest.raises(InputError, match=r"no such file; it is runs\.tar\.gz in the folder of a study"),
            kept(tmp_path),
        ):
            pass
        (tmp_path / "text").write_text("no archive")
        with pytest.raises(InputError, match="damaged"), kept(tmp_path / "text"):
            pass
        with pytest.raises(InputError, match="holds no study"), kept(packed({"a": b""}, tmp_path / KEPT)):
            pass

    @pytest.mark.slow
    def test_the_command_makes_the_page_again(self, whole, tmp_path):
        out = tmp_path / "page.html"
        answer = vergence("report", "--from", whole / KEPT, "--study", TINY, "--out", out)
        assert (answer.code, answer.out) == (0, f"{out}: A tiny experiment, 6 runs\n")
        assert "No norm is closer to one point." in out.read_text()

    def test_a_file_that_only_the_archive_names_is_never_run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("theirs.py").write_text("open('ran', 'w')")
        file = packed({"study.json": json.dumps(self.INDEX | {"study": "theirs.py"}).encode()}, tmp_path / KEPT)
        answer = vergence("report", "--from", file, "--out", "page.html")
        assert answer.code == 2
        assert answer.errors == [f"{file}: results of the study 'theirs.py'; name its file: --study FILE.py"]
        assert not Path("ran").exists()
        assert not Path("page.html").exists()

    def test_either_runs_or_a_file_of_results(self, tmp_path):
        either = "give the folders of runs, or --from FILE; as in: vergence report runs/a runs/b"
        assert vergence("report", "a", "--from", "b").errors == vergence("report").errors == [either]
        said = "--study: says which study the results of --from FILE are of; leave it out"
        assert vergence("report", "a", "--study", "b").errors == [said]

    def test_a_scale_that_the_study_has_not_is_named(self, tmp_path):
        index = self.INDEX | {"scale": {"name": "smok", "changes": {}}}
        with pytest.raises(InputError, match="the results are of the scale 'smok'; did you mean 'smoke'"):
            rebuild(study, index, tmp_path)


class TestJudging:
    known = Value(mean=10.0, spread=1.0, n=4)  # a standard error of a half

    def test_without_spread_the_numbers_alone_decide(self):
        assert is_above(Value(mean=2.0, n=1), Value(mean=1.0, n=1)) == "holds"
        assert is_above(Value(mean=2.0, n=1), Value(mean=1.0, n=1), by=1.5) == "does not hold"
        assert is_at_most(Value(mean=2.0, n=1), Value(mean=1.0, n=1), plus=1.5) == "holds"

    def test_noise_leaves_it_open(self):
        assert is_above(self.known, Value(mean=8.9, n=1)) == "holds"
        assert is_above(self.known, Value(mean=9.5, n=1)) == "not decided"
        assert is_above(self.known, Value(mean=11.1, n=1)) == "does not hold"
        assert is_at_most(self.known, Value(mean=9.5, n=1)) == "not decided"

    def test_near_is_both_ways(self):
        one = Value(mean=10.0, n=1)
        assert is_near(one, Value(mean=11.0, n=1), 2) == is_near(Value(mean=11.0, n=1), one, 2) == "holds"
        assert is_near(one, Value(mean=13.0, n=1), 2) == is_near(Value(mean=13.0, n=1), one, 2) == "does not hold"

    def test_what_was_not_measured_decides_nothing(self):
        assert is_above(Value(mean=None), self.known) == is_near(self.known, Value(mean=None), 1) == "not decided"

    def test_combinations(self):
        yes, no, open_ = "holds", "does not hold", "not decided"
        assert [all_hold(of) for of in ((yes, yes), (yes, open_), (open_, no), ())] == [yes, open_, no, open_]
        assert [any_holds(of) for of in ((no, no), (no, open_), (open_, yes), ())] == [no, open_, yes, open_]
        assert [reversed_outcome(of) for of in (yes, no, open_)] == [no, yes, open_]

    def test_said(self):
        assert listed([("a", Value.over([1.0, 2.0, None]))]) == "a 1.5 ± 0.7 (n = 2)"
        assert listed([("a", Value.over([]))]) == "a not measured"
