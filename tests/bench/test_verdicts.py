"""How often the verdict is right: `benchmarks/verdicts.py` on made-up runs, and on those of docs/results."""

import json
import sys
from dataclasses import replace

import pytest

from benchmark_scripts import script
from pages import RUN, lines, summary
from repository import ROOT
from vergence.config.schema import to_dict
from vergence.engine.log import Log
from vergence.files.results import Result
from vergence.metrics.verdict import COLLAPSED_COSINE, Verdict


@pytest.fixture(scope="module")
def verdicts():
    return script("verdicts")


@pytest.fixture(scope="module")
def judged(verdicts):
    return sys.modules["judged"]


def scored(accuracy, untrained, count=400):
    protocol = f"20 nearest of 5000 training pictures; {count} test pictures"
    return {"accuracy": accuracy, "baselines": {"untrained": untrained}, "protocol": protocol}


def result(knn=60.0, linear=60.0, *, collapsed=False, seed=0, **more):
    """A run of ten epochs whose untrained encoder has 50% by both probes."""
    run, log = replace(RUN, seed=seed), lines(collapsed, seed)
    for line in log:
        line.pop("online", None)
    probes = {"knn": scored(knn, 50.0), "linear": scored(linear, 50.0)}
    return Result(run, ROOT / "nowhere", log, summary(run, log, knn) | probes | more)


def write(folder, made):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"key": made.run.key, "run": to_dict(made.run)}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made.lines))
    (folder / "summary.json").write_text(json.dumps(made.summary))


# --- what came out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knn", "linear", "outcome"),
    [
        (60, 60, "learned"),
        (60, 50, "learned"),
        (56, 56, "neither"),
        (60, 40, "neither"),
        (40, 50, "lost"),
        (40, 40, "lost"),
    ],
)
def test_what_came_out_is_decided_by_both_probes_beyond_their_intervals(judged, knn, linear, outcome):
    assert judged.judged(result(knn, linear), "row").outcome == outcome


def test_the_interval_is_newcombes_of_as_many_pictures_as_were_scored(judged):
    points, (low, high) = judged.judged(result(knn=56.0), "row").gains["knn"]
    assert points == 6.0
    assert low == pytest.approx(6 - 6.9, abs=0.1), "by hand: 224 and 200 of 400"
    assert high == pytest.approx(6 + 6.9, abs=0.1)
    few, many = (result(knn=scored) for scored in (56.0, 56.0))
    many.summary["knn"]["protocol"] = many.summary["knn"]["protocol"].replace("400 test", "4000 test")
    assert judged.judged(few, "").outcome == "learned"  # by its linear classifier
    assert judged.judged(many, "").gains["knn"][1][0] > 0 > judged.judged(few, "").gains["knn"][1][0]


def test_what_came_out_does_not_depend_on_what_a_verdict_reads(judged):
    one, other = result(), result()
    for line in other.lines:
        line |= {"neg_cos": 1.0, "pos_cos": 1.0, "z_std": 0.0, "effective_rank": 1.0}
    assert judged.judged(one, "").outcome == judged.judged(other, "").outcome == "learned"
    assert judged.judged(one, "").said(1, "projections").state == "healthy"
    assert judged.judged(other, "").said(1, "projections").state == "complete collapse"


def test_a_run_without_the_untrained_encoders_score_is_not_judged(judged):
    old = result()
    del old.summary["linear"]["baselines"]
    with pytest.raises(judged.InputError, match="no score of linear beside the untrained encoder's"):
        judged.judged(old, "row")


def test_an_online_probe_below_the_untrained_encoder_is_a_dip(judged):
    low, level, late = result(), result(), result()
    low.lines[3]["online"] = {"knn": scored(40.0, 50.0)}
    level.lines[3]["online"] = {"knn": scored(48.0, 50.0)}
    late.lines[30]["online"] = {"knn": scored(40.0, 50.0)}
    found = [judged.judged(one, "") for one in (low, level, late)]
    assert [one.dip for one in found] == [0.1, None, None]
    assert [one.looked for one in found] == [True, True, False]


# --- what was said ----------------------------------------------------------------------------------------------------


def test_a_moment_has_the_last_verdict_before_it(judged):
    one = judged.judged(result(collapsed=True), "row")
    assert [one.said(share, "projections").state for share in (0.01, 0.05, 1)] == [
        "undecided",
        "undecided",
        "complete collapse",
    ]
    assert one.said(0.01, "projections").rule == "no log line so far"
    since = next(done for done, said in one.course if said["projections"].state.endswith("collapse"))
    assert 0.1 < since < 0.5
    assert judged.judged(result(40, 40, collapsed=True), "").right_since == since
    assert one.right_since is None, "it has learned"


@pytest.mark.parametrize("collapsed", [False, True])
def test_a_log_that_is_read_again_says_what_it_said(judged, collapsed):
    """The first half of the lines has representations too; the run's own log judges them as they come."""
    given = result(collapsed=collapsed)
    for i, line in enumerate(given.lines[:20]):
        line |= {"y_neg_cos": 0.5, "y_rank": 30.0, "y_agreement": 0.3 + 0.02 * i, "step": line["step"] - 9}
    for line in given.lines:
        line |= {"verdict": "", "representation": ""}
    again = list(judged.replayed(given))
    heard = Log(None, [], 0, given.run.batch_size, min(given.run.batch_size, given.run.method.projector.out))
    for line, (step, said) in zip(given.lines, again, strict=True):
        written, projections, representation = heard.add(line["step"], line["epoch"], line)
        assert step == written["step"]
        assert said["projections"] == projections
        assert said["representation"] == representation
    assert {said["representation"].state for _, said in again} == {"undecided", "healthy"}


# --- tables -----------------------------------------------------------------------------------------------------------


def made(judged, outcome, state, rule="a rule", **more):
    points = {"learned": 9.0, "neither": 0.0, "lost": -9.0}[outcome]
    said = dict.fromkeys(judged.ABOUT, Verdict(state, rule, {"neg_cos": COLLAPSED_COSINE}))
    values = {"identity": f"{outcome} {state}", "pictures": "cifar10", "method": "byol", "row": "row", "seed": 0}
    values |= {"course": ((1.0, said),), "end": None, "rank": None, "looked": False, "dip": None}
    return judged.Judged(gains={"knn": (points, (points - 1, points + 1))}, **(values | more))


@pytest.fixture
def five(judged):
    """Healthy: right, open, wrong. A collapse: right, wrong."""
    said = [("learned", "healthy"), ("neither", "healthy"), ("lost", "healthy")]
    return [made(judged, *one) for one in [*said, ("lost", "complete collapse"), ("learned", "dimensional collapse")]]


def test_precision_leaves_out_what_is_not_decided_and_recall_counts_what_came_out(verdicts, five):
    assert verdicts.rates(five, "projections", "100%", "healthy") == (
        "50 [9-91] (1/2)",
        "33 [6-79] (1/3)",
        "50 [9-91] (1/2)",
    )
    assert verdicts.rates(five, "projections", "100%", "collapse") == (
        "50 [9-91] (1/2)",
        "50 [9-91] (1/2)",
        "50 [9-91] (1/2)",
    )
    assert verdicts.rates(five, "projections", "10%", "collapse")[0] == "—", "nothing was said so early"


def test_the_matrix_has_every_run_once_in_a_line(verdicts, five):
    line = next(line for line in verdicts.confusion(five) if line.startswith("| projections | 100%"))
    assert line == "| projections | 100% | 1 / 1 / 1 | — | — | 1 / 0 / 0 | 0 / 0 / 1 |"


def test_only_what_came_out_otherwise_is_listed_as_wrong(verdicts, five):
    listed = "\n".join(verdicts.wrong(five))
    assert listed.count("| projections |") == 2
    assert "| lost: knn -9.0 | undecided → undecided → healthy | a rule | neg_cos 0.97 |" in listed
    assert "| learned: knn +9.0 | undecided → undecided → dimensional collapse | a rule |" in listed
    assert verdicts.wrong(five[:2]) == ["*none*"]


def test_another_threshold_calls_other_runs_collapsed_and_is_put_back(verdicts, judged):
    given, before = result(), verdicts.verdict.FEW_DIRECTIONS
    for line in given.lines:
        line["effective_rank"] = 0.07 * min(given.run.batch_size, given.run.method.projector.out)
    one = judged.judged(given, "a twentieth, but no tenth, of its directions")
    found = [line for line in verdicts.thresholds([one]) if "`FEW_DIRECTIONS`" in line]
    assert [line.split(" | ")[2].strip("| ") for line in found] == ["—", "—", "1 / 0 / 0", "1 / 0 / 0"]
    assert found[1].startswith("| `FEW_DIRECTIONS` | 0.05 (in use) |")
    assert before == verdicts.verdict.FEW_DIRECTIONS


def test_the_rank_and_the_recovery_are_truths_of_their_own(verdicts, judged):
    runs = [
        made(judged, "lost", "complete collapse", identity="a", rank=0.2, looked=True, dip=1.0),
        made(judged, "learned", "complete collapse", identity="b", rank=0.9, looked=True, dip=1.0),
        made(judged, "learned", "healthy", identity="c", rank=0.3, looked=True),
        made(judged, "learned", "healthy", identity="d"),
    ]
    assert verdicts.ranks(runs)[-1] == "| 100% | 50 [9-91] (1/2) | 50 [9-91] (1/2) |"
    found = verdicts.recovery(runs)
    assert "| complete collapse | 2 | 1 | 1 / 0 / 1 |" in found
    assert found[-1].startswith("2 of 3 runs that a probe looked at")


def test_pictures_that_were_never_used_are_a_part_of_their_own(judged):
    parts = {made(judged, "learned", "healthy", identity=str(i)).part for i in range(20)}
    assert parts == {"even half", "odd half"}
    assert made(judged, "learned", "healthy", pictures="clothing96").part == "never used"


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_folder_of_runs_is_told_and_what_cannot_be_judged_is_counted(verdicts, tmp_path, capsys):
    write(tmp_path / "runs" / "good", result(seed=1))
    write(tmp_path / "runs" / "bad", result(30, 30, seed=2))
    untrained = result(seed=3)
    write(tmp_path / "runs" / "untrained", replace(untrained, lines=[]))
    assert verdicts.main([str(tmp_path / "runs"), str(tmp_path / "runs" / "good")]) == 0
    told = capsys.readouterr()
    assert "2 runs, of which 1 / 0 / 1 learned / neither / lost" in told.out
    assert "| projections | bad, cifar10, seed 2 | lost: knn -20.0, linear -20.0 |" in told.out
    assert told.err == "left out: 1: nothing was trained, or a loop was only watched\n"


def test_a_place_without_runs_is_said_in_one_line(verdicts, tmp_path, capsys):
    assert verdicts.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: neither runs.tar.gz of a study, nor a run, nor a folder with finished runs\n"
    )


def test_the_pages_are_what_the_kept_logs_say(verdicts, capsys):
    assert verdicts.main(["--check"]) == 0, "run python benchmarks/verdicts.py"
