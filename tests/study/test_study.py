"""Studies as values: what a check says, what a study shows, and the file that a user gives the command."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commands import vergence
from small_runs import run_of, small
from vergence import config as c
from vergence.errors import InputError
from vergence.study import (
    Cell,
    Lines,
    Place,
    Result,
    Scale,
    Study,
    above,
    accuracy,
    after,
    all_of,
    any_of,
    at_least,
    at_most,
    close,
    collapses,
    falls,
    known,
    logged,
    open_study,
    opposite,
    recovers,
    reproduce,
    undecided,
    where_run,
)

RUN = run_of(small(c.BYOL()))
SCALES = {"smoke": Scale(about="seconds", subset=40, epochs=1), "full": Scale(about="minutes", epochs=2, seeds=3)}


def made(*courses, epochs=2, steps=100, accuracy=50.0):
    """One finished run for each course of `neg_cos`, a value an epoch."""
    return [
        Result(
            replace(RUN, epochs=len(course), seed=seed),
            Path(),
            [
                {"step": steps * (i + 1), "epoch": i + 1.0, "neg_cos": value, "z_std": (1 - value) ** 0.5}
                for i, value in enumerate(course)
            ],
            {"knn": {"accuracy": accuracy}},
        )
        for seed, course in enumerate(courses)
    ]


RESULTS = {"a": made([0.1, 0.9]), "b": made([0.4, 0.5]), "c": made([0.4, 0.2], [0.4, 0.2]), "none": []}
cosine = logged("neg_cos", "cosine")

# --- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "outcome", "numbers", "rule"),
    [
        (
            above(cosine, "a", "b"),
            "holds",
            "cosine: a 0.90 (n = 1); b 0.50 (n = 1)",
            "cosine of a is at least that of b",
        ),
        (above(cosine, "a", "b", by=0.5), "does not hold", "cosine: a 0.90 (n = 1); b 0.50 (n = 1)", "by 0.5 or more"),
        (above(cosine, ("a", "b"), 0.6), "does not hold", "cosine: a 0.90", "cosine of each of a, b is at least 0.6"),
        (above(cosine, "a", "none"), "not decided", "none not measured", "is at least that of none"),
        (at_least(cosine, "b", "a", minus=0.5), "holds", "cosine: b 0.50", "is at least that of a, less 0.5"),
        (at_most(cosine, "b", "a"), "holds", "cosine: b 0.50", "cosine of b is at most that of a"),
        (at_most(cosine, ("a", "b"), 0.6, plus=0.1), "does not hold", "a 0.90", "is at most 0.6, plus 0.1"),
        (close(cosine, ("a", "b"), 0.41), "holds", "cosine: a 0.90", "cosine of a and b differs by 0.41 or less"),
        (close(cosine, ("a", "b", "c"), 0.5), "does not hold", "c 0.20 ± 0.00 (n = 2)", "a and b and c"),
        (
            falls(cosine, "c", 0.1),
            "holds",
            "first epoch: c 0.40 ± 0.00 (n = 2); at the end, cosine: c 0.20",
            "lower than",
        ),
        (falls(cosine, ("a", "c"), 0.1), "does not hold", "first epoch: a 0.10", "each of a, c ends lower"),
        (opposite(above(cosine, "a", "b")), "does not hold", "cosine: a 0.90", "not: cosine of a is at least"),
        (opposite(above(cosine, "a", "none")), "not decided", "", "not: "),
        (all_of(at_least(cosine, "a", 0.8), at_most(cosine, "b", 0.6)), "holds", "a 0.90 (n = 1); cosine: b", "0.8; "),
        (all_of(at_least(cosine, "a", 0.8), at_least(cosine, "b", 0.8)), "does not hold", "", ""),
        (any_of(at_least(cosine, "a", 0.8), at_least(cosine, "b", 0.8)), "holds", "", "0.8, or cosine of b"),
        (collapses("a"), "does not hold", "a: collapsed in 0 of 2 epochs, negative cosine at the end 0.900", "0.97"),
    ],
)
def test_a_check_yields_its_outcome_its_numbers_and_its_rule(check, outcome, numbers, rule):
    assert check.judge(RESULTS) == (check.outcome(RESULTS), check.numbers(RESULTS))
    assert check.outcome(RESULTS) == outcome
    assert numbers in check.numbers(RESULTS)
    assert rule in check.rule


def test_recovery_needs_a_collapse_that_ended_and_time_for_it():
    rows = {"back": made([0.99, 0.3]), "never": made([0.3, 0.3]), "still": made([0.3, 0.99])}
    assert [recovers(row, 200).outcome(rows) for row in rows] == ["holds", "does not hold", "does not hold"]
    assert [recovers(row, 201).outcome(rows) for row in rows] == ["holds", "does not hold", "not decided"]
    one_of_two = {"back": [*rows["back"], *rows["never"]]}
    assert recovers("back", 0).outcome(one_of_two) == "does not hold"
    assert recovers("back", 0).outcome({}) == "not decided"


def test_short_runs_and_missing_rows_leave_a_check_open():
    check = above(cosine, "a", "b")
    assert after(200, check).outcome(RESULTS) == "holds"
    assert after(201, check).judge(RESULTS) == (
        "not decided",
        "cosine: a 0.90 (n = 1); b 0.50 (n = 1). Runs of 200 steps; judged from 201 on",
    )
    assert after(201, check).outcome({"a": RESULTS["a"][:0]}) == "not decided"
    assert undecided(check, "holds", 201).outcome(RESULTS) == "not decided"
    assert undecided(check, "does not hold", 201).outcome(RESULTS) == undecided(check, "holds", 200).outcome(RESULTS)
    assert where_run(above(cosine, "a", "none")).judge(RESULTS) == ("not decided", "not run: none")
    assert where_run(check).outcome(RESULTS) == "holds"
    assert all_of(check, at_most(cosine, "c", 1)).rows == ("a", "b", "c")


def test_a_check_can_tell_other_numbers():
    check = above(cosine, "a", "b").telling(cosine.tells("c"), accuracy("knn", label="").tells("a"))
    assert check.judge(RESULTS) == ("holds", "cosine: c 0.20 ± 0.00 (n = 2); a 50.0 (n = 1)")


# --- what a study is --------------------------------------------------------------------------------------------------


def study_of(**changes):
    return Study(**{"title": "T", "lead": "One paragraph.", "scales": SCALES, "rows": {"a": RUN, "b": RUN}} | changes)


def test_a_study_has_a_base_runs_and_what_differs():
    study = study_of(long=("b",), scales=SCALES | {"long": Scale(about="", epochs=1, long=7)})
    assert (study.base, study.lead, study.full) == ("a", ("One paragraph.",), replace(SCALES["full"], name="full"))
    assert [run.epochs for run in study.runs(study.scales["long"]).values()] == [1, 7]
    assert [run.epochs for run in study.runs(study.scales["smoke"]).values()] == [1, 1]
    assert study.differences(study.full) == []
    assert study.differences(study.scales["smoke"]) == ["seeds: 3 -> 1", "epochs: 2 -> 1", "subset: null -> 40"]
    assert study_of(scales={"only": SCALES["smoke"]}).full.name == "only"
    plan = study.plan(study.full, Place(device="cuda"))
    assert [job.name for job in plan["a"]] == ["a, seed 0", "a, seed 1", "a, seed 2"]
    assert [job.name for job in study.plan(study.scales["smoke"], Place())["b"]] == ["b"]


def test_untrained_rows_stay_untrained_and_rows_may_depend_on_the_scale():
    study = study_of(rows=lambda scale: {"a": replace(RUN, epochs=0)} | ({"b": RUN} if scale.seeds == 3 else {}))
    assert {row: run.epochs for row, run in study.runs(study.full).items()} == {"a": 0, "b": 2}
    assert list(study.runs(study.scales["smoke"])) == ["a"]


def test_tables_and_curves_of_all_rows_or_of_those_that_were_run():
    study = study_of()
    counted = Cell("seeds", lambda row, results: str(len(results)))
    study.table("all", "All", cosine, counted, rows=("c", "none"), note=lambda results: f"{len(results)} rows")
    study.table("known", "Known", cosine, rows=("c", "none"), only_known=True)
    study.table("gone", "Gone", cosine, rows=("none",), only_known=True)
    study.curves("courses", "Courses", cosine, Lines("neg_cos", {"b": "label"}))
    study.curves("no-course", "No course", logged("loss"), only_known=True)
    whole, some = study.tables(RESULTS)
    assert whole.note == "4 rows"
    assert [row.name for row in whole.rows] == ["c", "none"]
    assert [row.cells["seeds"] for row in whole.rows] == ["2", "0"]
    assert whole.rows[0].runs == tuple(result.run.key for result in RESULTS["c"])
    assert [row.name for row in some.rows] == ["c"]
    (figure,) = study.figures(RESULTS)
    first, second = figure.drawing.panels
    assert [line.name for line in first.curves] == ["a", "b", "c"]
    assert [line.low != [] for line in first.curves] == [False, False, True]
    assert [line.name for line in second.curves] == ["label"]
    assert [table.slug for table in study.tables({})] == ["all"]
    assert list(known(RESULTS, ("none", "b"))) == ["b"]


def test_a_scale_or_a_row_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"unknown scale 'smok'; did you mean 'smoke'\?"):
        reproduce(study_of(), "smok", tmp_path)
    with pytest.raises(InputError, match="no row 'xyz'; known: a, b"):
        reproduce(study_of(), "smoke", tmp_path, only=["xyz"])


def test_what_a_study_names_must_be_there(tmp_path):
    study = study_of()
    study.claim("closer", "A claim.", above(cosine, "a", "bb"))
    with pytest.raises(InputError, match="claim closer: no row 'bb'; did you mean 'b'"):
        reproduce(study, "smoke", tmp_path)
    with pytest.raises(InputError, match="base: no row 'x'; "):
        reproduce(study_of(base="x"), "smoke", tmp_path)
    with pytest.raises(InputError, match="a study needs a scale"):
        study_of(scales={})
    with pytest.raises(InputError, match="row 'a' is a BYOL, not a Run"):
        study_of(rows={"a": c.BYOL()})
    for slug in ("My table", "results", ""):
        for show in (study.table, study.curves):
            with pytest.raises(InputError, match="cannot name a file; use small letters, digits and dashes"):
                show(slug, "Title", cosine)
        with pytest.raises(InputError, match="cannot name a file"):
            study.claim(slug, "A claim.", above(cosine, "a", "b"))
    assert not any(tmp_path.iterdir())


# --- a user's file ----------------------------------------------------------------------------------------------------

HEAD = """
from vergence import config as c, presets
from vergence.study import Scale, Study
run = presets.default(c.BYOL(), c.Digits())
def made(title):
    return Study(title=title, lead="", scales={"smoke": Scale(about="", epochs=1)}, rows={"a": run})
"""
FILES = {
    "no study": ("x = 1\n", "", "defines no study; as in: study = vergence.study.Study(title=..., ...)"),
    "an error": ("x = 1\n1 / 0\n", "", ", line 2: ZeroDivisionError: division by zero"),
    "not Python": ("x = = 1\n", "", ", line 1: SyntaxError: invalid syntax"),
    "an exit": ("import sys\nsys.exit('no')\n", "", ", line 2: SystemExit: no"),
    "bad input": (
        "from vergence import presets, config\npresets.preset('default', 'byl', None)\n",
        "",
        ", line 2: unknown",
    ),
    "several": (HEAD + "one, two = made('1'), made('2')\n", "", "defines several studies, one, two; as in: "),
    "another": (HEAD + "one, two = made('1'), made('2')\n", ":tow", "no study 'tow'; did you mean 'two'?"),
    "no such scale": (HEAD + "study = made('1')\n", "", "--scale: unknown choice 'short'; known: smoke"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_gets_one_line(name, tmp_path):
    text, variable, message = FILES[name]
    (tmp_path / "mine.py").write_text(text)
    before = list(sys.path)
    answer = vergence("reproduce", f"{tmp_path}/mine.py{variable}", "--scale", "short", "--out", tmp_path / "out")
    (line,) = answer.errors
    assert answer.code == 2
    assert message in line
    assert (tmp_path / "out").exists() is False
    assert sys.path == before
    assert "mine" not in sys.modules


def test_a_file_that_is_not_there_or_has_the_name_of_another_module(tmp_path):
    (tmp_path / "json.py").write_text("")
    for name, message in {
        "none.py": "none.py: no such file; give blog, raft, theorem, family, or a Python file that defines a study",
        "none.py:study": "none.py: no such file",
        "json.py": "json.py: Python has another module called json; rename the file",
    }.items():
        answer = vergence("reproduce", tmp_path / name)
        assert answer.code == 2
        assert message in answer.errors[0]


def test_a_file_is_opened_and_leaves_nothing(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("TITLE = 'from beside'\n")
    (tmp_path / "mine.py").write_text(
        HEAD + "import helper_of_mine\none, study = made('1'), made(helper_of_mine.TITLE)\n"
    )
    before = list(sys.path)
    with open_study(f"{tmp_path}/mine.py") as study:
        assert study.title == "from beside"
        assert "mine" in sys.modules
    with open_study(f"{tmp_path}/mine.py:one") as study:
        assert study.title == "1"
    assert sys.path == before
    assert "mine" not in sys.modules
    sys.modules.pop("helper_of_mine")


OWN = """
from dataclasses import dataclass
from typing import ClassVar
from small_runs import run_of, small
from vergence import config as c
from vergence.study import Measure, Scale, Study, Work

@dataclass(frozen=True, kw_only=True)
class Square:
    kind: ClassVar[str] = "square"
    number: float

    def solve(self, data_dir, device, view):
        view.start(1, 0, 1, [], [])
        return {"square": self.number**2}

def jobs(scale, place):
    return {f"square of {n}": [Work(name=f"square of {n}", task=Square(number=n))] for n in (2.0, 3.0)}

run = run_of(small(c.BYOL()), subset=16)
study = Study(title="Own work", lead="", scales={"smoke": Scale(about="", epochs=1)}, jobs=jobs,
              rows={"run": run, "fails": run_of(small(c.BYOL()), subset=100_000)})
study.table("squares", "Squares", Measure("square", lambda found: found["square"]), rows=tuple(jobs(None, None)))
"""


@pytest.mark.slow
def test_jobs_of_a_users_own_run_in_processes_of_their_own_and_a_row_that_fails_is_named(tmp_path, monkeypatch):
    """The class of the job stands in the file, which a worker has to import."""
    (tmp_path / "my_study.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = ("reproduce", "./my_study.py", "--jobs", 1, "--device", "cpu")
    for _ in range(2):
        answer = vergence(*words)
        assert answer.code == 2
        assert len(answer.errors) == 1
        assert answer.errors[0].startswith("fails: ")
        text = (tmp_path / "runs" / "my_study-smoke" / "results.md").read_text()
        assert "| square of 3.0 | 9.00 |" in text
        assert "100000" in text
        assert (
            "vergence reproduce ./my_study.py --scale smoke"
            in (tmp_path / "runs" / "my_study-smoke" / "index.html").read_text()
        )
