"""The table of metrics: what it says is so, and a metric of a user's own is treated as those that are built in."""

import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

import metric_table
import vergence.metrics
from pages import RUN, folder_of, lines, summary
from repository import ROOT
from small_runs import SHORT, VARIANTS, look, run_of, views_of
from vergence import methods
from vergence.engine.periods import Periods
from vergence.errors import InputError
from vergence.files import durable
from vergence.losses import alignment, cross_model, uniformity
from vergence.methods.base import Outputs
from vergence.metrics import Metric, collapse, register, table, unregister
from vergence.metrics.measure import measure
from vergence.metrics.verdict import PROJECTIONS, REPRESENTATION, Verdict
from vergence.report import tables
from vergence.report import text as screen
from vergence.report.compare import runs_page
from vergence.report.live import Plain, Rich
from vergence.report.page import render
from vergence.runs import run_training

PAGE = ROOT / "docs" / "metrics.md"
MEASURED = [metric for metric in table.TABLE.values() if metric.compute]


def embeddings(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outputs_of(views=2, **changed):
    """Two views of 16 pictures, as BYOL has them; or one view, as MoCo has it."""
    parts = {name: embeddings(views, 16, 8, seed=i) for i, name in enumerate(("y", "z", "p", "z_target"))}
    return Outputs(torch.tensor(1.5), {}, **parts | changed)


@pytest.fixture
def own():
    """Registers metrics for one test."""
    named = []

    def add(compute, name="mine", **said):
        register(Metric(name=name, label="My Own", compute=compute, **said))
        named.append(name)
        return name

    yield add
    for name in named:
        unregister(name)


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == metric_table.page(PAGE.read_text()), (
        "run: python tests/support/metric_table.py docs/metrics.md"
    )


def test_a_page_without_the_table_is_written_anew():
    before, rest = PAGE.read_text().split(metric_table.BEGIN)
    empty = before + metric_table.BEGIN + metric_table.END + rest.split(metric_table.END)[1]
    assert metric_table.page(empty) == PAGE.read_text() != empty


@pytest.mark.parametrize("metric", MEASURED, ids=lambda metric: metric.name)
def test_ranges_and_values_at_collapse_are_so(metric):
    low, high = metric.range
    for seed in range(5):
        parts = {name: embeddings(2, 16, 8, seed=4 * seed + i) for i, name in enumerate(("y", "z", "p", "z_target"))}
        assert low <= measure(outputs_of(**parts))[metric.name] <= high
    point = torch.ones(2, 16, 8) * torch.rand(2, 16, 1)
    at_collapse = measure(outputs_of(**dict.fromkeys(parts, point) | {"y": torch.ones(2, 16, 8)}))[metric.name]
    assert at_collapse == pytest.approx(metric.at_collapse, abs=2e-3)
    assert low - 1e-6 <= at_collapse <= high + 1e-6


def test_each_metric_is_said_in_words():
    for metric in table.TABLE.values():
        assert metric.reading.endswith(".")
        assert metric.label
        assert metric.show(1.23456) == f"{1.23456:.{metric.digits}f}"
        assert metric.show(None) == "—"


def test_what_is_shown_and_judged_is_in_the_table():
    shown = {name for names in table.SHOWN.values() for name in names}
    drawn = {name for course in table.COURSES for name in course.metrics}
    assert {*PROJECTIONS, *REPRESENTATION} | shown | drawn <= set(table.TABLE)
    assert REPRESENTATION == ("y_neg_cos", "y_rank", "y_agreement")


def mean(function, *stacks):
    return torch.stack([function(*views) for views in zip(*stacks, strict=True)]).mean().item()


def test_numbers_are_what_the_functions_give():
    _, _, y, z, p, target, _ = given = outputs_of()
    assert measure(given) == {
        "loss": 1.5,
        "alignment": alignment(p[0], p[1]).item(),
        "uniformity": mean(uniformity, z),
        "cross_model": cross_model(p[0], p[1], target[0], target[1]).item(),
        "pos_cos": mean(lambda a, b: collapse.positive_negative_cosine(a, b)[0], z, target.flip(0)),
        "neg_cos": mean(lambda a, b: collapse.positive_negative_cosine(a, b)[1], z, target.flip(0)),
        "z_std": mean(collapse.feature_std, z),
        "effective_rank": mean(collapse.effective_rank, z),
        "y_neg_cos": mean(lambda a: collapse.positive_negative_cosine(a, a)[1], y),
        "y_rank": mean(collapse.centred_rank, y),
        "y_agreement": collapse.centred_agreement(y[0], y[1]).item(),
        "terms": {},
    }
    assert list(measure(given)) == [*table.BUILT_IN, "terms"]


def test_a_term_of_the_loss_is_not_taken_for_the_metric_of_its_name():
    """RAFT's terms are called alignment and cross_model; in its Tan- variants they are no distances."""
    given = outputs_of()._replace(terms={"alignment": torch.tensor(7.0), "cross_model": torch.tensor(-3.0)})
    found = measure(given)
    assert found["terms"] == {"alignment": 7.0, "cross_model": -3.0}
    assert {n: v for n, v in found.items() if n != "terms"} == {
        n: v for n, v in measure(outputs_of()).items() if n != "terms"
    }


def test_one_view_is_measured_beside_its_key():
    _, _, _, z, _, target, _ = given = outputs_of(views=1, p=None)
    found = measure(given)
    assert found["alignment"] == alignment(z[0], target[0]).item()
    assert found["pos_cos"] == collapse.positive_negative_cosine(z[0], target[0])[0].item()
    assert found["uniformity"] == uniformity(z[0]).item()
    assert found["cross_model"] is found["y_agreement"] is None


def test_without_a_target_the_key_is_the_other_projection():
    _, _, _, z, *_ = given = outputs_of(z_target=None)
    found = measure(given)
    assert found["neg_cos"] == mean(lambda a, b: collapse.positive_negative_cosine(a, b)[1], z, z.flip(0))
    assert found["cross_model"] is None


# --- a metric of a user's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "parts"), [("z", "z"), ("p", "p"), ("y", "y"), ("target", "z_target"), ("p target", "p z_target")]
)
def test_a_function_is_given_the_embeddings_it_asks_for(own, kinds, parts):
    given, seen = outputs_of(), []
    name = own(lambda *views: seen.append(views) or torch.tensor(0.25), embeddings=kinds)
    assert measure(given)[name] == 0.25
    (views,) = seen
    wanted = [view for part in parts.split() for view in getattr(given, part)]
    assert len(views) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(views, wanted, strict=True))


def test_a_function_of_one_view_is_averaged(own):
    given = outputs_of()
    name = own(lambda z: z.mean(), views=1)
    assert measure(given)[name] == mean(torch.mean, given.z)


def test_of_one_view_a_pair_is_with_its_key_or_not_measured(own):
    given = outputs_of(views=1)
    name, other = own(lambda a, b: (a - b).sum()), own(lambda a, b: (a - b).sum(), "other", embeddings="y")
    found = measure(given)
    assert found[name] == (given.z[0] - given.z_target[0]).sum().item()
    assert found[other] is None


def test_what_is_finished_on_the_cpu_is_the_number(own):
    given = outputs_of()
    rank = own(collapse.gram, views=1, finish=collapse.rank_of_gram)
    both = own(lambda a, b: a @ b.T, "both", finish=lambda matrix: matrix.trace())
    found = measure(given)
    assert found[rank] == found["effective_rank"]
    assert found[both] == pytest.approx((given.z[0] * given.z[1]).sum().item(), rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(own, value):
    name = own(lambda a, b: value)
    assert measure(outputs_of())[name] is None


def fails(a, b):
    raise KeyError("a mistake")


@pytest.mark.parametrize(
    ("compute", "finish", "said"),
    [
        (fails, None, r"metric 'mine': its function failed: KeyError: 'a mistake'"),
        (lambda a, b: a, None, r"metric 'mine': its function gives the shape \(16, 8\), not a number"),
        (lambda a, b: None, None, r"metric 'mine': its function failed: "),
        (lambda a, b: a, lambda m: m, r"gives the shape \(16, 8\), not a number"),
        (lambda a: a, None, r"metric 'mine': its function failed: TypeError"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_in_one_line(own, compute, finish, said):
    own(compute, finish=finish)
    with pytest.raises(InputError, match=said) as caught:
        measure(outputs_of())
    assert len(str(caught.value).splitlines()) == 1


def test_a_lack_of_memory_is_not_taken_for_a_mistake_of_the_function(own):
    def large(a, b):
        raise MemoryError

    own(large)
    with pytest.raises(MemoryError):
        measure(outputs_of())


@pytest.mark.unshaped  # where types are checked, other errors come first
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *(
            ({"name": name}, f"metric '{name}': name cannot be")
            for name in ("", "a b", "pos_cos", "verdict", "seconds")
        ),
        ({"label": " "}, "label cannot be"),
        ({"label": "two\nlines"}, "label cannot be"),
        ({"short": "\x1b[31m"}, "short cannot be"),
        ({"digits": 1.5}, "digits cannot be 1.5"),
        ({"digits": -1}, "digits cannot be -1"),
        ({"range": (1, 0)}, r"range cannot be \(1, 0\)"),
        ({"embeddings": ""}, "embeddings cannot be ''"),
        ({"embeddings": "z q"}, "embeddings cannot be 'z q'"),
        ({"views": 3}, "views cannot be 3"),
        ({"compute": None}, "compute cannot be None"),
        ({"compute": "losses.alignment"}, "compute cannot be 'losses.alignment'"),
        ({"finish": 1}, "finish cannot be 1"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(changed, said):
    before = dict(table.TABLE)
    with pytest.raises(InputError, match=said):
        register(dataclasses.replace(Metric(name="mine", label="mine", compute=min), **changed))
    assert before == table.TABLE


def test_a_function_is_registered_anew_but_not_another_under_its_name(own):
    own(min)
    register(Metric(name="mine", label="renamed", compute=min))
    assert table.label_of("mine") == "renamed"
    with pytest.raises(InputError, match="'mine': registered already, by builtins"):
        register(Metric(name="mine", label="mine", compute=max))


@pytest.mark.parametrize("name", ["loss", "nothing"])
def test_only_what_was_registered_is_taken_away(name):
    with pytest.raises(InputError, match="was not registered"):
        unregister(name)
    assert "loss" in table.TABLE


def test_a_run_logs_it_and_all_else_is_the_same_bits(own, whole, tmp_path):
    name = own(lambda z1, z2: (z1 * z2).sum(1).mean())
    found = run_training(SHORT, tmp_path / "run", periods=Periods(log_every=1))
    here, there = (
        [
            {k: v for k, v in line.items() if k not in table.TIMING}
            for line in durable.read_lines(folder / "metrics.jsonl")
        ]
        for folder in (tmp_path / "run", whole)
    )
    values = [line.pop(name) for line in here]
    assert here == there
    assert all(isinstance(value, float) for value in values)
    assert found["final"][name] == values[-1]
    assert found["last_epoch"][name] == pytest.approx(sum(values) / len(values))


def test_a_mean_is_of_what_every_line_of_the_epoch_has(own, tmp_path):
    counted = iter(range(10))
    name = own(lambda z1, z2: math.nan if next(counted) == 0 else 1.0)
    found = run_training(SHORT, tmp_path / "run", periods=Periods(log_every=1))
    assert found["final"][name] == 1.0
    assert name not in found["last_epoch"]
    assert "loss" in found["last_epoch"]


def test_all_methods_can_be_measured(own):
    name = own(lambda z1, z2: (z1 - z2).square().sum(), embeddings="p")
    for variant in VARIANTS.values():
        found = measure(look(methods.build(run_of(variant)), views_of()))
        assert found[name] >= 0


def printed(show):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    show(console)
    return console.file.getvalue()


@pytest.fixture
def told(own, tmp_path):
    """A run's folder whose log has the metric, its lines and its summary."""
    name = own(lambda a, b: a, digits=2, unit="parts", range=(0, 9), short="own", reading="How mine it is.")
    log = [line | {name: 0.125 * i} for i, line in enumerate(lines(epochs=1.5))]
    folder = folder_of(tmp_path / "a", RUN, log)
    found = json.loads((folder / "summary.json").read_text())
    return name, folder, log, found


def test_the_terminal_shows_it(told):
    name, _, log, found = told
    found["final"][name] = 0.875
    assert "rank 29.3   own 0.88\n" in printed(lambda console: screen.print_summary(console, Path("x"), found))
    compared = {"a": found | {"last_epoch": found["final"]}, "b": summary(RUN, log, 50.0) | {"last_epoch": {}}}
    shown = printed(lambda console: console.print(screen.comparison(compared))).splitlines()
    assert shown[2].split()[-2:] == ["rank", "own"]
    assert shown[4].split()[-2:] == ["29.3", "0.88"]
    assert shown[5].split()[-2:] == ["—", "—"]


@pytest.mark.parametrize("view", [Plain, Rich])
def test_the_live_view_shows_it(told, view):
    _, _, log, _ = told
    watching = view(Console(file=io.StringIO(), width=200, force_terminal=view is Rich), *["title"] * (view is Rich))
    watching.start(6, 5, 1, log[:-1], [])
    watching.line(log[-1], Verdict("healthy", "a rule", {}))
    watching.stop()
    said = watching.console.file.getvalue()
    assert ("own 0.62  600 images/s" if view is Plain else "My Own") in said


def test_the_page_shows_it_in_curves_and_tables(told, tmp_path):
    _, folder, _, _ = told
    page, _ = runs_page([folder, folder_of(tmp_path / "b", dataclasses.replace(RUN, epochs=20), lines())])
    numbers = next(item for item in page.sections[0].items if item.slug == "numbers")
    assert (numbers.columns[-1].name, numbers.columns[-1].digits) == ("own", 2)
    assert numbers.columns[-1].about == "How mine it is."
    assert [row.cells["own"].mean for row in numbers.rows] == [pytest.approx(0.4375), None]
    courses = next(item for item in page.sections[0].items if item.slug == "courses")
    (panel,) = [panel for panel in courses.drawing.panels if panel.title == "My Own"]
    assert (panel.y, panel.y_range) == ("parts", (0.0, None))
    assert "My Own" in tables.figure_csv(courses)
    assert "My Own" in render(page)


def test_a_page_of_runs_that_lack_it_has_no_column_of_it(told, tmp_path):
    page, _ = runs_page([folder_of(tmp_path / "b", RUN, lines())])
    numbers = next(item for item in page.sections[0].items if item.slug == "numbers")
    assert [column.name for column in numbers.columns][-1] == "rank"


def test_functions_are_found_in_the_package_too():
    assert vergence.metrics.effective_rank is collapse.effective_rank
    with pytest.raises(AttributeError):
        vergence.metrics.nothing  # noqa: B018
