"""Accuracies beside what they must beat, the same words everywhere; what rows and sets of pictures are called."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pages import ADVICE, COLLAPSED, RUN, change, folder_of, lines, looked_at, printed, result, scored, summary
from repository import ROOT
from vergence import config as c
from vergence.errors import InputError
from vergence.files.results import Result, read_result
from vergence.report import rows, scores, tables
from vergence.report import text as screen
from vergence.report.content import Bars, Column, Row, Table, Value
from vergence.report.naming import distinct_ends, names_of, names_of_pictures, numbered
from vergence.report.page import render, runs_page, to_markdown

WORSE = "kNN 46.2% is below the untrained encoder's 56.9%: training made it worse"


def only(**score):
    return {"knn": scored(**score)}


class TestWarnings:
    @pytest.mark.parametrize(
        ("score", "said"),
        [
            ({"accuracy": 46.2, "interval": [40.1, 52.3], "untrained": 56.9}, [WORSE]),
            ({"accuracy": 46.2, "untrained": 56.9}, [WORSE]),
            (
                {"accuracy": 56.1, "interval": [50.0, 62.0], "untrained": 56.9},
                ["kNN 56.1% is not above the untrained encoder's 56.9%: training has not made it better"],
            ),
            ({"accuracy": 56.9, "interval": [50.0, 62.0], "untrained": 56.9}, []),
            ({"accuracy": 90.0, "interval": [85.0, 94.0], "untrained": 56.9}, []),
            (
                {"accuracy": 18.0, "interval": [14.0, 23.0]},
                ["kNN 18.0% on so few pictures cannot be told from always naming the most frequent class, 16.7%"],
            ),
            (
                {"accuracy": 90.0, "balanced_accuracy": 62.1},
                ["kNN 90.0% rests on the frequent classes: averaged over classes it is 62.1%"],
            ),
            ({"accuracy": 90.0, "balanced_accuracy": None, "interval": None, "baselines": None}, []),
            (
                {"accuracy": 50.0, "baselines": {"starting weights": 60.0}},
                ["kNN 50.0% is below the starting weights' 60.0%: training made it worse"],
            ),
            (
                {"accuracy": 50.0, "baselines": {"another": 60.0}},
                ["kNN 50.0% is below that of another, 60.0%: training made it worse"],
            ),
        ],
    )
    def test_of_a_run(self, score, said):
        assert scores.warnings([only(**score)]) == said

    def test_several_runs_are_compared_pair_by_pair(self):
        """Seeds that are all worse by the same are worse, however far apart they lie; two that disagree decide nothing.

        A run without a baseline enters no comparison.
        """
        worse = [only(accuracy=a, untrained=a + 5 + a / 100) for a in (30.0, 50.0, 70.0)]
        assert scores.warnings([*worse, only(accuracy=99.0)]) == [
            "kNN 50.0% is below the untrained encoder's 55.5%: training made it worse"
        ]
        mixed = [only(accuracy=50.0, untrained=60.0), only(accuracy=50.0, untrained=41.0)]
        assert scores.warnings(mixed) == [
            "kNN 50.0% is not above the untrained encoder's 50.5%: training has not made it better"
        ]

    def test_a_linear_probe_that_has_not_converged_says_so(self):
        short = {"linear": scored(33.7, converged=False)}
        assert scores.warnings([short]) == ["linear 33.7%: its classifier has not converged, so this may be too low"]
        assert scores.warnings([{"linear": scored(33.7, converged=True)}]) == []
        assert scores.warnings([{"linear-raft": scored(33.7, converged=False)}]) == []  # its protocol is to stop

    @pytest.mark.parametrize("found", [{}, {"knn": None}, {"knn": {}}, {"knn": {"accuracy": None, "protocol": "x"}}])
    def test_nothing_is_said_of_nothing(self, found):
        assert scores.warnings([found]) == []
        assert scores.accuracy([found], "knn") == Value(mean=None)

    def test_a_value_has_what_it_is_read_beside(self):
        one = scores.accuracy([only(accuracy=46.2, interval=[40.1, 52.3], untrained=56.9)], "knn")
        assert one == Value(
            mean=46.2, n=1, interval=(40.1, 52.3), balanced=45.2, baselines={"untrained": 56.9, "no picture": 16.7}
        )
        assert [one.is_below(name) for name in ("untrained", "no picture", "unknown")] == [True, False, False]
        two = scores.accuracy([only(accuracy=a, interval=[0.0, 99.0], untrained=a) for a in (40.0, 50.0)], "knn")
        assert (two.mean, two.n, two.interval, two.baselines["untrained"]) == (45.0, 2, None, 45.0)


class TestBestInCollapse:
    def rows(self, collapsed=60.0, healthy=50.0):
        return {
            "flat": [{"knn": scored(collapsed), "verdict": {"state": "complete collapse"}}],
            "round": [{"knn": scored(healthy), "verdict": {"state": "healthy"}}],
        }

    def test_it_is_said(self):
        said = scores.best_in_collapse(self.rows(), " on digits")
        assert said.startswith(
            "The best kNN (60.0%) on digits belongs to flat, a run in complete collapse. High accuracy"
        )
        assert "docs/report.md" in said
        assert (ROOT / "docs" / "report.md").exists()

    def test_it_is_not_said_where_it_is_not_so(self):
        assert scores.best_in_collapse(self.rows(50.0, 50.0)) == ""
        assert scores.best_in_collapse(self.rows(40.0)) == ""
        assert scores.best_in_collapse({"flat": self.rows()["flat"]}) == ""
        assert scores.best_in_collapse({}) == ""
        half = self.rows()
        half["flat"].append({"knn": scored(60.0), "verdict": {"state": "healthy"}})
        assert scores.best_in_collapse(half) == ""


class TestProtocols:
    def note(self, one, other):
        return scores.mixed_protocols(
            {"a": [{"linear": scored(50.0, protocol=one)}], "b": [{"linear": scored(50.0, protocol=other)}]}
        )

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("20 nearest of 1438 training pictures", "20 nearest of 50,000 training pictures"),
            ("fitted on the first 179, scored on the other 180", "fitted on the first 4, scored on the other 5"),
            ("softmax, C = 2.39 chosen by 5-fold; a", "softmax, C = 4e-05 chosen by 5-fold; a"),
            (
                "fitted on 180, half of each class",
                "fitted on 20, half of each class; not converged after its 600 steps",
            ),
            ("fitted on 1438 training, 359 held-out pictures", "fitted on 9 training, 3 held-out pictures"),
        ],
    )
    def test_counts_of_pictures_are_no_difference(self, one, other):
        assert self.note(one, other) == []

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("linear layer, Adam 0.0005, 100 epochs", "linear layer, Adam 0.0005, 50 epochs"),
            ("softmax, C = 1 chosen by 5-fold", "softmax, C = 1 chosen by 2-fold"),
            ("20 nearest of 9 training pictures", "5 nearest of 9 training pictures"),
        ],
    )
    def test_two_protocols_in_a_column_are_named(self, one, other):
        assert self.note(one, other) == [
            f"linear has more than one protocol, compare within one only. {one} (in “a”); {other} (in “b”)."
        ]


class TestTables:
    TABLE = Table(
        "t",
        "t",
        (Column("kNN", 1),),
        (
            Row("new", {"kNN": scores.accuracy([only(accuracy=46.2, interval=[40.1, 52.3], untrained=56.9)], "knn")}),
            Row("old", {"kNN": Value.over([50.0])}),
        ),
    )

    def test_csv_has_a_column_for_each_number(self):
        head, new, old = csv.reader(io.StringIO(tables.table_csv(self.TABLE)))
        found = dict(zip(head, new, strict=True))
        assert found == {
            **dict.fromkeys(head, ""),
            "row": "new",
            "kNN": "46.2",
            "kNN n": "1",
            "kNN low": "40.1",
            "kNN high": "52.3",
            "kNN balanced": "45.2",
            "kNN untrained": "56.9",
            "kNN no picture": "16.7",
        }
        assert len(head) == 11
        assert dict(zip(head, old, strict=True)) == dict.fromkeys(head, "") | {
            "row": "old",
            "kNN": "50.0",
            "kNN n": "1",
        }

    def test_markdown_and_terminal_say_them_in_words(self):
        said = tables.markdown(self.TABLE)
        assert "| new | 46.2 (40.1 to 52.3); below untrained 56.9; no picture 16.7; balanced 45.2 |" in said
        assert "| old | 50.0 |" in said
        shown = " ".join(printed(tables.terminal(self.TABLE)))
        for words in ("46.2", "(40.1 to 52.3)", "below untrained 56.9", "no picture 16.7", "balanced 45.2"):
            assert words in shown
        for words in ("Wilson", "Untrained: ", "No picture: ", "Balanced: "):
            assert words in said
            assert words in shown


class TestTerminal:
    def found(self):
        low = looked_at(
            summary(RUN, lines(), 57.26),
            knn=scored(46.2, [40.1, 52.3], 56.9),
            **{"linear-raft": scored(70.0, [66.0, 74.0], 50.0, protocol="linear layer, Adam 0.0005")},
        )
        return low | {"linear": None}

    @pytest.mark.parametrize("width", [120, 12])
    def test_a_summary_warns_before_it_counts(self, width):
        shown = printed(lambda console: screen.print_summary(console, Path("runs/a"), self.found()), width)
        final = self.found()["final"]
        assert shown == [
            "runs/a",
            "  verdict   healthy: the rule that fired (positive cosine 0.981; negative cosine 0.98)",
            f"  try       {ADVICE}",
            "  representation healthy: as far apart as at the start (representations' rank 31.5)",
            f"  warning   {WORSE}",
            f"  loss {final['loss']:.4f}   pos cos 0.848   neg cos 0.209   alignment 0.305   uniformity -1.58"
            "   rank 32.6",
            "  knn          46.2% [40.1, 52.3]  untrained 56.9, no picture 16.7, balanced 45.2"
            "  20 nearest of 50000 training pictures",
            "  linear-raft  70.0% [66.0, 74.0]  untrained 50.0, no picture 16.7, balanced 69.0"
            "  linear layer, Adam 0.0005",
            "  trained in 10:12 at 600 images/s on a device",
        ]

    def test_scores_of_a_checkpoint_warn_too(self):
        shown = printed(
            lambda console: screen.print_scores(console, {"encoder": "x", **only(accuracy=46.2, untrained=56.9)})
        )
        assert shown[:2] == ["  encoder   x", f"  warning   {WORSE}"]

    def test_a_comparison_says_what_accuracies_do_not_show(self):
        mean = dict.fromkeys(("pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank"), 0.1234)
        flat = {"knn": scored(80.0, None, 75.0), "last_epoch": mean, "verdict": {"state": "complete collapse"}}
        good = {"knn": scored(46.2, [40.1, 52.3], 56.9), "last_epoch": mean, "verdict": {"state": "healthy"}}
        shown = printed(screen.comparison({"flat": flat, "good": good, "untrained": {"knn": scored(56.9)}}))
        text = " ".join(" ".join(shown).split())
        assert f"good: {WORSE}." in text
        assert "The best kNN (80.0%) belongs to flat, a run in complete collapse." in text
        for words in ("untrained 75.0", "below untrained 56.9", "(40.1 to 52.3)", "no picture 16.7"):
            assert words in text
        head = next(line for line in shown if "kNN" in line)
        assert head.split()[:2] == ["verdict", "kNN"]


class TestNames:
    FAR = replace(RUN, optimizer=c.LARS(), epochs=20, batch_size=64, precision="bfloat16")

    def test_a_row_of_many_differences_is_called_as_its_folder(self):
        assert names_of([RUN, self.FAR], [[Path("runs/a")], [Path("runs/far")]]) == ["byol", "far"]
        seeds = [Path("runs/far-seed-0"), Path("runs/far-seed-1")]
        assert names_of([RUN, self.FAR], [[Path("runs/a")], seeds]) == ["byol", "far-seed"]

    def test_as_much_of_the_path_as_tells_folders_apart(self):
        assert distinct_ends([Path("x/a/run"), Path("y/b/run"), Path("z")]) == ["a/run", "b/run", "z"]
        assert distinct_ends([Path("run"), Path("a/run")]) == ["run", "a/run"]
        other = replace(self.FAR, seed=1, epochs=30)
        folders = [[Path("runs/a")], [Path("monday/far")], [Path("friday/far")]]
        assert names_of([RUN, self.FAR, other], folders) == ["byol", "monday/far", "friday/far"]

    def test_a_folder_that_the_program_named_gives_no_name(self):
        names = names_of([RUN, self.FAR], [[Path("runs") / RUN.name], [Path("runs") / self.FAR.name]])
        assert names == ["byol", "byol, optimizer lars, epochs 20, batch_size 64 and 1 more"]
        assert self.FAR.key not in " ".join(names)
        moved = Path("runs/byol-cifar10-0123456789ab")  # a key of an earlier version
        assert names_of([RUN, self.FAR], [[Path("a")], [moved]]) == names

    def test_names_are_told_apart_by_numbers_at_last(self):
        assert numbered(["a", "b", "a", "a (2)"]) == ["a", "b", "a (2)", "a (2) (2)"]
        others = [replace(self.FAR, norm_views="together", precision=p) for p in ("float32", "bfloat16")]
        first, second = names_of([RUN, *(replace(run, subset=100) for run in others)])[1:]
        assert first == "byol, optimizer lars, epochs 20, batch_size 64 and 2 more"
        assert second == "byol, optimizer lars, epochs 20, batch_size 64 and 3 more"
        same = [replace(others[1], subset=count) for count in (100, 200)]
        assert names_of([RUN, *same])[1:] == [second, f"{second} (2)"]

    def test_rows_of_a_method_on_other_pictures_name_them(self):
        digits = replace(RUN, data=c.Digits(size=32))
        own = replace(RUN, data=c.Folder(root="/home/a/my pictures", size=32))
        assert names_of([RUN, digits, own, replace(own, epochs=20), replace(RUN, method=c.RAFT())]) == [
            "byol on cifar10",
            "byol on digits",
            "byol on my pictures",
            "byol on my pictures, epochs 20",
            "raft",
        ]


class TestPictures:
    def of(self, data, digest=None, **changes):
        return Result(replace(RUN, data=data, **changes), Path("x"), [], {}, pictures=100, digest=digest)

    def folder(self, root, digest=None, **changes):
        return self.of(c.Folder(root=root, size=32), digest, **changes)

    @pytest.mark.parametrize(
        ("one", "other", "names"),
        [
            (("a/cats", "1"), ("b/cats", "1"), ["cats", "cats"]),  # moved
            (("a/cats", "1"), ("a/cats", "2"), ["cats", "cats (2)"]),  # changed
            (("a/cats", "1"), ("b/cats", "2"), ["a/cats", "b/cats"]),
            (("a/cats", None), ("a/cats", None), ["cats", "cats"]),
            (("a/cats", None), ("b/cats", "2"), ["a/cats", "b/cats"]),
        ],
    )
    def test_a_folder_is_known_by_what_is_in_it(self, one, other, names):
        assert names_of_pictures([self.folder(*one), self.folder(*other)]) == names

    def test_fewer_pictures_of_a_folder_are_its_pictures(self):
        assert names_of_pictures([self.folder("cats", "1"), self.folder("cats", "2", subset=50)]) == ["cats", "cats"]

    def test_what_is_scored_on_other_pictures_is_other_data(self):
        held_out = c.CIFAR10(scored_on="held-out")
        assert names_of_pictures([self.of(c.CIFAR10()), self.of(held_out), self.folder("cifar10")]) == [
            *("cifar10", "cifar10, held out", "cifar10 (2)")
        ]

    def test_other_labels_are_other_data(self):
        coarse = c.CIFAR100(labels="coarse", scored_on="held-out")
        names = ["cifar100", "cifar100, coarse, held out"]
        assert names_of_pictures([self.of(c.CIFAR100()), self.of(coarse)]) == names


DIGITS = replace(RUN, data=c.Digits(size=32))


@pytest.fixture
def folders(tmp_path):
    """Three runs, one of them on other pictures, as newer versions write them."""
    found = []
    for name, run, collapsed in (("a", RUN, False), ("b", COLLAPSED, True), ("c", DIGITS, False)):
        found.append(folder_of(tmp_path / name, run, log := lines(collapsed)))
        knn = scored(46.2, [40.1, 52.3], 56.9) if name == "a" else scored(60.0, [57.0, 63.0], 40.0)
        (found[-1] / "summary.json").write_text(json.dumps(looked_at(summary(run, log, 60.0), knn=knn)))
    there = json.loads((found[2] / "run.json").read_text())
    (found[2] / "run.json").write_text(json.dumps({"pictures": 1438, "data": "x", **there}))
    return found


class TestPage:
    def test_the_verdict_comes_first(self, folders):
        text = render(runs_page(folders)[0])
        body = text[text.index("<main") :]
        for words in (
            "complete collapse",
            WORSE,
            "<code>--projector.norm</code> batch",
            "as far apart as at the start",
            "negative cosine 0.98",
        ):
            assert 0 < body.index(words.replace("'", "&#39;")) < body.index("<table")
        first = body[body.index("<tbody>") :]
        assert first.index("healthy") < first.index("46.2")

    def test_the_warning_is_the_same_everywhere(self, folders):
        page, _ = runs_page(folders)
        assert f"<li>{WORSE}.</li>".replace("'", "&#39;") in render(page)
        assert f"  - **{tables.escaped(WORSE)}**" in to_markdown(page)
        shown = printed(lambda console: screen.print_summary(console, folders[0], read_result(folders[0]).summary))
        assert f"  warning   {WORSE}" in shown

    def test_a_collapsed_run_with_the_best_accuracy_is_said_of_its_pictures(self, folders):
        page, _ = runs_page(folders)
        (alert,) = page.alerts
        collapsed = "byol on cifar10, projector.norm none, predictor.norm none"
        assert alert.startswith(f"The best kNN (60.0%) on cifar10 belongs to {collapsed}, a run in complete collapse.")

    def test_runs_on_other_pictures_have_figures_of_their_own(self, folders):
        page, _ = runs_page(folders)
        items = {item.slug: item for item in page.sections[0].items}
        assert list(items) == [
            *("comparison", "accuracies-cifar10", "accuracies-digits", "numbers", "courses-cifar10", "courses-digits")
        ]
        drawn = items["accuracies-cifar10"].drawing
        assert isinstance(drawn, Bars)
        assert drawn.groups == ("byol on cifar10", "byol on cifar10, projector.norm none, predictor.norm none")
        assert (drawn.series["kNN"], drawn.marks["kNN"]) == ([46.2, 60.0], [56.9, 40.0])
        assert (drawn.series["linear"], drawn.marks["linear"]) == ([64.0, 64.0], [None, None])
        assert items["accuracies-digits"].drawing.groups == ("byol on digits",)
        assert items["accuracies-digits"].title == "Accuracy on digits"
        names = [curve.name for panel in items["courses-digits"].drawing.panels for curve in panel.curves]
        assert set(names) == {"byol on digits"}
        data = [row.cells["data"] for row in items["comparison"].rows]
        assert data == ["cifar10, 32 px", "cifar10, 32 px", "digits, 32 px, 1,438 pictures"]
        assert any("2 sets of pictures: cifar10, digits" in line for line in page.lead)

    def test_what_a_run_found_before_its_first_step(self, folders):
        text = render(runs_page(folders)[0])
        assert text.count('<details class="start">') == 3
        assert "<dt>classes</dt><dd>6: a, b, c, d, e, f</dd>" in text
        assert "enlarged &lt;4&gt; times" in text
        alone = render(runs_page(folders[:1])[0])
        assert '<details class="run" id="run-byol" open>' in alone
        assert '<details class="start" open>' in alone

    def test_runs_of_other_protocols_are_told(self, folders):
        change(folders[1], linear={"accuracy": 50.0, "protocol": "logistic regression"})
        assert runs_page(folders)[0].sections[0].items[0].note == (
            "linear has more than one protocol, compare within one only. linear layer, 100 epochs (in "
            "“byol on cifar10”, “byol on digits”); logistic regression (in "
            "“byol on cifar10, projector.norm none, predictor.norm none”)."
        )

    def test_no_name_has_a_key(self, tmp_path):
        """Nor is the same configuration on changed pictures a twin, as it would be by its key alone."""
        far = replace(RUN, optimizer=c.LARS(), epochs=20, batch_size=64, precision="bfloat16")
        own = replace(RUN, data=c.Folder(root="gone", size=32))
        found = [folder_of(tmp_path / run.name, run, lines()) for run in (RUN, far, own)]
        (tmp_path / "other").mkdir()
        found.append(folder_of(tmp_path / "other" / own.name, own, lines()))
        for folder, digest in zip(found[2:], "xy", strict=True):
            there = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps({"data": digest, **there}))
        page, problems = runs_page(found)
        assert not problems
        assert list(page.runs) == [
            "byol on cifar10",
            "byol on cifar10, optimizer lars, epochs 20, batch_size 64 and 1 more",
            "byol on gone",
            "byol on gone (2)",
        ]

    @pytest.mark.parametrize(
        "bad",
        [
            {"knn": {"accuracy": 1.0, "interval": [1.0]}},
            {"knn": {"accuracy": 1.0, "interval": 3}},
            {"knn": {"accuracy": 1.0, "baselines": {"untrained": "x"}}},
            {"knn": {"accuracy": 1.0, "converged": "no"}},
            {"representation": {"state": 3}},
            {"start": [["a"]]},
            {"start": {"a": "b"}},
        ],
    )
    def test_a_summary_that_no_run_writes_is_refused(self, folders, bad):
        change(folders[0], **bad)
        with pytest.raises(InputError, match="not as a run writes it"):
            read_result(folders[0])


def test_the_numbers_of_a_verdict_on_several_runs_name_their_seed():
    numbers = {"pos_cos": 0.981, "neg_cos": 0.9804, "lines": 40.0}
    one = result(RUN, 0)
    verdict = one.summary["verdict"] | {"numbers": numbers}
    two = [replace(one, run=replace(RUN, seed=seed), summary=one.summary | {"verdict": verdict}) for seed in (3, 5)]
    (look,) = rows._looks(two)
    assert look.numbers.startswith("seed 3: ")
    assert not next(iter(rows._looks(two[:1]))).numbers.startswith("seed")
