"""What a reader gets of runs: text, CSV, pictures and the page, safe against any name, the same every time."""

import base64
import csv
import hashlib
import html
import io
import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from looks import LOOKS, drawn, looks, told
from pages import (
    COLLAPSED,
    HOSTILE,
    PLAIN,
    RUN,
    change,
    folder_of,
    lines,
    page_of,
    printed,
    result,
    runs_named,
    summary,
)
from repository import GOLDEN
from vergence import config as c
from vergence.augment import evaluation_view, two_views
from vergence.command import cli
from vergence.data import load
from vergence.files.results import Result
from vergence.machine.randomness import generator
from vergence.report import compare, drawing, figures, rows, svg, tables
from vergence.report import text as screen
from vergence.report.compare import names_of
from vergence.report.content import (
    Bars,
    Circle,
    Circles,
    Column,
    Curve,
    Figure,
    Finding,
    Page,
    Panel,
    Panels,
    Row,
    Section,
    Table,
    Value,
    identifier,
    one_line,
)
from vergence.report.live import COLOURS
from vergence.report.page import _distinct, _drawn, _tally, render, runs_page, to_markdown, write_files, write_page
from vergence.report.views import draw_views

TABLE = Table(
    "norms",
    "Norms | of heads",
    (Column("norm"), Column("kNN", 1, "percent"), Column("rank", 2)),
    (
        Row(
            "BYOL",
            {
                "norm": "batch",
                "kNN": Value(mean=57.7, spread=2 / 3, n=2, published="58.2"),
                "rank": Value.over([1 / 3, None]),
            },
            ("a", "b"),
        ),
        Row("a_b", {"norm": "=1+1", "kNN": Value(mean=None, published="~56")}),
        Row("@x", {"kNN": Value(mean=-0.04, n=1), "rank": "none"}),
    ),
    "One epoch.",
)


class TestText:
    def test_a_value_reads_in_one_line(self):
        value = Value.over([57.3, 57.7, 58.1], "58.2")
        assert tables.plain(tables.show(value, 1)) == "57.7 ± 0.4 (n = 3) [58.2]"
        assert tables.plain(tables.show(Value.over([57.3]), 1)) == "57.3 (n = 1)"
        assert tables.plain(tables.show(Value.over([]), 1)) == "—"
        assert tables.plain(tables.show(Value(mean=float("nan"), n=1), 1, 1)) == "not finite"
        assert tables.plain(tables.show(None, 1)) == tables.plain(tables.show("", 1)) == "—"

    def test_the_parts_of_a_cell(self):
        """A lone run has no spread, whatever the file says; none at all has no n; only finite numbers have an order."""
        assert tables.show(Value(mean=1 / 3, spread=0.5, n=1), 1) == tables.Shown("0.3", "", "n = 1", "", repr(1 / 3))
        assert tables.show(Value(mean=1.0, spread=0.25, n=2), 2, said=2) == tables.Shown("1.00", "0.25", "", "", "1.0")
        assert tables.show(Value(mean=1.0, published="2"), 0) == tables.Shown("1", "", "", "2", "1.0")
        assert tables.show(Value(mean=math.inf, n=2), 0) == tables.Shown("not finite", "", "n = 2", "", "")
        assert tables.show(" a\n b", 0) == tables.Shown("a b")
        assert [tables.has_spread(TABLE, name) for name in ("norm", "kNN", "rank")] == [False, True, False]
        assert tables.usual(Table("t", "t", (Column("a"),), (Row("x", {"a": "b"}),))) == 0

    def test_what_is_not_the_mean_is_dim(self):
        def styles(shown):
            text = tables._styled(shown)
            return [(text.plain[span.start : span.end], span.style) for span in text.spans]

        parts = [(" ± 0.7", "dim"), (" (n = 2)", "dim"), (" [58.2]", "dim italic")]
        assert styles(tables.Shown("57.7", "0.7", "n = 2", "58.2")) == parts
        assert styles(tables.Shown("57.7")) == []

    def test_terminal(self):
        assert printed(tables.terminal(TABLE)) == [
            "Norms | of heads",
            "",
            "             norm                 kNN          rank",
            " " + "─" * 50,
            " BYOL        batch  57.7 ± 0.7 [58.2]  0.33 (n = 1)",
            " a_b         =1+1             — [~56]             —",
            " @x (n = 1)  —                    0.0          none",
            "",
            "One epoch.",
            "Mean ± sample standard deviation; n = 2 runs where",
            "nothing else is said.",
            "[In brackets]: what the document reports.",
        ]
        bare = printed(tables.terminal(Table("t", "title", (Column("a"),), (Row("x", {"a": "b"}),))))
        assert bare == ["title", "", "    a", " " + "─" * 4, " x  b", ""]

    def test_findings_in_the_terminal_are_never_broken(self):
        """However narrow it is: one that a reader's terminal breaks can still be found by its words."""
        assert printed(lambda console: tables.print_page(console, page_of()), 10)[:6] == [
            "✓ holds: claim a word (a word)",
            "  numbers a word",
            "✗ does not hold: claim a word (a word)",
            "  numbers a word",
            "? not decided: claim a word (a word)",
            "  numbers a word",
        ]

    def test_markdown(self):
        assert tables.markdown(TABLE) == (
            "### Norms \\| of heads\n"
            "\n"
            "| | norm | kNN | rank |\n"
            "|---|---|---:|---:|\n"
            "| BYOL | batch | 57.7 ± 0.7 (n = 2) \\[58.2\\] | 0.33 (n = 1) |\n"
            "| a\\_b | =1+1 | — \\[\\~56\\] | — |\n"
            "| @x | — | 0.0 (n = 1) | none |\n"
            "\n"
            "One epoch.\n"
            "\n"
            "Mean ± sample standard deviation over n runs.\n"
            "\n"
            "\\[In brackets\\]: what the document reports.\n"
        )

    def test_csv_has_every_digit_and_no_formula(self):
        assert tables.table_csv(TABLE) == (
            "row,norm,kNN,kNN spread,kNN n,kNN published,rank,rank spread,rank n,rank published,runs\n"
            "BYOL,batch,57.7,0.6666666666666666,2,58.2,0.3333333333333333,,1,,a b\n"
            "a_b,'=1+1,,,0,~56,,,,,\n"
            "'@x,,-0.04,,1,,none,,,,\n"
        )

    @pytest.mark.parametrize(
        ("cell", "written"),
        [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            (" =1", "' =1"),
            ("+1-1", "'+1-1"),
            ("-", "'-"),
            ("\t=1", "'\t=1"),
            ("\tx", "'\tx"),
            ("\rx", "'\nx"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("\uff1d1", "'\uff1d1"),
            ("-3.94", "-3.94"),
            ("+2", "+2"),
            (-3.5, "-3.5"),
            (np.float64(0.1), "0.1"),
            (float("nan"), ""),
            ("half \ud800", "half ?"),
            ('"a",\nb', '"a",\nb'),
        ],
    )
    def test_a_cell_is_no_formula_and_a_number_is_one(self, cell, written):
        assert next(csv.reader(io.StringIO(tables.csv_text([[cell, "x"]])))) == [written, "x"]

    def test_runs_that_are_missing_show(self):
        """A row of fewer runs than the others says so once, a lone cell says so itself."""
        full, few = Value.over([1.0, 2.0, 3.0]), Value.over([1.0, 2.0])
        both = Table(
            "t", "t", (Column("a"), Column("b")), (Row("x", {"a": full, "b": few}), Row("y", {"a": few, "b": few}))
        )
        assert [tables.runs_of(row, both) for row in both.rows] == [0, 2]
        page = render(Page(title="t", lead=(), sections=(Section("s", items=(both,)),)))
        assert page.count("(n = 2)") == 2
        assert "(n = 3)" not in page
        assert "n = 3 runs where nothing else is said" in page

    def test_terminal_stays_in_its_width(self):
        console = Console(width=100, file=io.StringIO(), highlight=False)
        tables.print_page(console, page_of(HOSTILE))
        table = [line for line in console.file.getvalue().splitlines() if "─" in line or "0.9" in line]
        assert table
        assert max(map(len, table)) <= 100
        assert "\x1b" not in console.file.getvalue()

    def test_what_hides_or_turns_is_shown(self):
        assert one_line(" a\n b\u202ec\x00\ud800 ") == "a b\ufffdc\ufffd\ufffd"
        assert identifier("RAFT (β = 1), ../x") == "raft-1-x"
        assert identifier("β") == "x"
        assert identifier("a" * 100) == "a" * 60


def one_panel(*curves, **kw):
    return Figure("f", "a figure", "", Panels((Panel(title="t", x="x", y="y", curves=curves, **kw),)))


def texts(figure):
    root = ElementTree.fromstring(drawing.standalone(figure))
    return [element.text for element in root.iter() if element.tag.endswith("}text")]


class TestDrawing:
    @given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=60))
    def test_thinning_keeps_ends_extremes_and_gaps(self, values):
        y = np.array(values)
        kept = drawing.thinned(y, 8)  # few, so that short series are thinned too
        assert len(kept) <= min(len(y), 8)
        assert (np.diff(kept) > 0).all()
        assert kept[0] == 0
        assert kept[-1] == len(y) - 1
        if np.isfinite(y).any():
            assert np.nanmin(y[kept]) == np.nanmin(y)
            assert np.nanmax(y[kept]) == np.nanmax(y)
        assert np.isnan(y).any() == np.isnan(y[kept]).any()

    def test_a_long_curve_has_few_points(self):
        y = np.random.default_rng(0).normal(size=20_000)
        kept = drawing.thinned(y)
        assert 150 < len(kept) <= 300
        assert {int(y.argmin()), int(y.argmax())} <= set(kept.tolist())
        (part,) = drawing.draw(one_panel(Curve(name="a", x=range(len(y)), y=y))).parts
        assert len(svg.written(part.root, svg.ON_PAGE)) < 6000

    @pytest.mark.parametrize("figure", page_of().sections[1].items[1:], ids=lambda figure: figure.slug)
    def test_a_file_is_whole_and_always_the_same(self, figure):
        text = drawing.standalone(figure)
        assert text == drawing.standalone(figure)
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("role") == "img"
        assert root.find("{*}title").text == figure.title
        assert root.find("{*}desc").text == figure.caption
        assert not re.search(r"var\(|currentColor|<script|href|style=|<\?xml|<!DOCTYPE|NaN|nan\b|inf\b| id=", text)
        named = {element.get(k) for element in root.iter() for k in ("fill", "stroke")} - {None, "none"}
        assert named <= set(svg.IN_FILE.values())

    @pytest.mark.parametrize("figure", page_of().sections[1].items[1:], ids=lambda figure: figure.slug)
    def test_on_a_page_a_figure_has_the_theme_and_a_name(self, figure):
        for part in drawing.draw(figure).parts:
            text = svg.written(part.root, svg.ON_PAGE)
            assert not re.search(r"#[0-9a-f]{3}|xmlns|NaN| id=", text)
            assert 'role="img" aria-label="Figure a word' in text
            assert 'viewBox="0 0 ' in text

    def test_names_are_shown_as_they_are(self):
        curves = [Curve(name=name, x=[0, 1], y=[0, 1]) for name in ("_hidden", "$x^2$", "<b>&amp;", "a")]
        shown = texts(one_panel(*curves))
        assert {"_hidden", "$x^2$", "<b>&amp;", "a"} <= set(shown)

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize(
        "y",
        [
            [],
            [math.nan],
            [math.inf, -math.inf],
            [0.0, 0.0],
            [1e308, -1e308],
            [1e-300, 1e-300],
            [5e-324, 0.0],
            [-1.0, -2.0],
            [1.0, math.nan, 2.0],
            [1e20, 1e20 + 1],
        ],
    )
    def test_any_numbers_can_be_drawn(self, y, log):
        for equal in (False, True):
            for x in (list(range(len(y))), [math.nan] * len(y)):
                text = drawing.standalone(one_panel(Curve(name="a", x=x, y=y, low=y, high=y), log=log, equal=equal))
                assert "nan" not in text.lower()
                assert "inf" not in text.lower()
        if not any(math.isfinite(v) for v in y):
            assert "no data" in text

    @pytest.mark.parametrize("low", [-1.0, 0.0, 1e-9, 123.0])
    @pytest.mark.parametrize("width", [1e-6, 1e-3, 1.0, 7.0, 1e9])
    def test_ticks_are_few_round_and_inside(self, low, width):
        ticks = drawing._ticks(low, low + width, 5)
        assert len(ticks) <= 8
        assert all(low <= place <= low + width for place, _ in ticks)

    def test_ticks_read_as_people_write(self):
        assert [name for _, name in drawing._ticks(-1, 1, 4)] == ["\u22121.0", "\u22120.5", "0.0", "0.5", "1.0"]
        assert [name for _, name in drawing._ticks(-5, 1, 9, log=True)][:3] == ["10⁻⁵", "10⁻⁴", "0.001"]
        assert [name for _, name in drawing._ticks(0.1, 0.9, 9, log=True)] == ["2", "5"]
        assert [name for _, name in drawing._ticks(1.1, 1.9, 9, log=True)] == ["20", "50"]
        assert [name for _, name in drawing._ticks(-0.1, 0.1, 9, log=True)] == ["0.8", "0.9", "1"]
        assert [name for _, name in drawing._ticks(3, 6, 9, log=True)] == ["1000", "10000", "10⁵", "10⁶"]

    def test_an_axis_may_be_logarithmic_from_left_to_right(self):
        curve = Curve(name="c", x=[1, 10, 100], y=[5, 6, 7])
        figure = Figure("x", "x", "x", Panels((Panel(title="", x="n", y="y", curves=(curve,), log_x=True),)))
        (part,) = drawing.draw(figure).parts
        texts = [element.text for element in part.root.iter("text")]
        assert [name for name in texts if name in ("1", "10", "100")] == ["1", "10", "100"]
        places = [float(element.get("x")) for element in part.root.iter("text") if element.text in ("1", "10", "100")]
        assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)

    def test_curves_differ_by_more_than_colour(self):
        """Of 40 curves, no two have colour and marker in common, and none of the first six a colour or a marker."""
        looks = [(look % len(svg.SERIES), look % len(svg.MARKERS)) for look in range(40)]
        assert len(set(looks)) == 40
        curves = [Curve(name=f"c{i}", x=[0, 1], y=[i, i]) for i in range(6)]
        keys = drawing.draw(one_panel(*curves)).keys
        assert len({key.sample[1].get("d") for key in keys}) == 6

    def test_curves_of_one_number_look_alike_in_all_panels(self):
        curves = [
            Curve(name=name, x=[0, 1], y=[0, 1], colour=colour) for name, colour in (("a", 3), ("b", 3), ("c", 0))
        ]
        used = drawing.draw(Figure("f", "f", "", Panels((Panel(title="t", x="", y="", curves=tuple(curves)),))))
        colours = [key.sample[0].get("stroke") for key in used.keys]
        assert colours == ["series-3", "series-3", "series-0"]

    def test_bars_carry_their_names_and_values(self):
        bars = Bars("percent", ("one", "two"), {"ours": (57.66, None), "theirs": (float("nan"), -2.0)}, 1)
        shown = texts(Figure("f", "f", "", bars))
        assert {"one", "two", "ours", "theirs", "57.7", "—", "not finite", "\u22122.0", "percent"} <= set(shown)

    def test_circles_outside_the_grid_and_without_points_are_left_out(self):
        ring = Circle([0.25] * 4, [])
        inside = {("a", "x"): ring, ("b", "x"): Circle([], [(0.0, 1.0)])}
        outside = {("c", "x"): ring, ("a", "y"): ring}

        def shapes(circles):
            figure = Figure("f", "a figure", "", Circles(("a", "b"), ("x",), circles))
            (part,) = drawing.draw(figure).parts
            return Counter(element.tag for element in part.root.iter())

        assert shapes(inside | outside) == shapes(inside)
        assert shapes(inside) == {"svg": 1, "text": 3, "path": 2 + 1 + 1, "circle": 2}  # outlines, a ring, a pair
        assert shapes({}) == {"svg": 1, "text": 3}

    def test_numbers_of_figures_are_written_whole(self):
        x = [i / 7 for i in range(1000)]
        rows_of = list(csv.reader(io.StringIO(tables.figure_csv(one_panel(Curve(name="=a", x=x, y=x, low=x, high=x))))))
        assert rows_of[0] == ["panel", "curve", "x", "y", "low", "high"]
        assert len(rows_of) == 1001
        assert rows_of[8] == ["t", "'=a", "1.0", "1.0", "1.0", "1.0"]
        bars = tables.figure_csv(Figure("f", "f", "", Bars("y", ("g", "h"), {"s": (1.5, None)})))
        assert bars == "group,series,value\ng,s,1.5\nh,s,\n"
        circles = Circles(("r",), ("c",), {("r", "c"): Circle([0.25, 0.75], [(1.0, 2.0)])})
        assert tables.figure_csv(Figure("f", "f", "", circles)) == (
            f"row,column,what,x,y\nr,c,density,0.0,0.25\nr,c,density,{math.pi!r},0.75\nr,c,pair,1.0,2.0\n"
        )


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture(scope="module")
def plain():
    return render(page_of(PLAIN))


@pytest.fixture(scope="module")
def hostile():
    return render(page_of(HOSTILE))


class TestPage:
    def test_names_make_no_markup(self, plain, hostile):
        """With any names, the page has the same elements and no other attributes; long names move lines of figures."""
        one, other = (Elements(text).tags for text in (plain, hostile))
        counts = [Counter(tag for tag, _ in tags if tag not in ("text", "path")) for tags in (one, other)]
        assert counts[0] == counts[1]
        assert len({name for _, attributes in one for name in attributes}) == len(
            {name for _, attributes in [*one, *other] for name in attributes}
        )
        found = Elements(hostile)
        assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
        assert HOSTILE[0] in "".join(found.words)
        assert "{{ 7 * 7 }}" in "".join(found.words)
        assert "\u202e" not in hostile
        assert "\x00" not in hostile

    def test_it_loads_nothing(self, hostile):
        found = Elements(hostile)
        assert all(link.startswith("#") for link in found.values("href"))
        assert all(link.startswith("data:image/png;base64,") for link in found.values("src"))
        assert not re.search(r"https?://|url\(|@import|<link|<iframe|<object", hostile)

    def test_only_its_own_script_may_run(self, hostile):
        script = re.findall(r"<script>(.*?)</script>", hostile, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = next(a["content"] for tag, a in Elements(hostile).tags if tag == "meta" and "http-equiv" in a)
        assert f"script-src 'sha256-{digest}'" in policy
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
        assert hostile.index("Content-Security-Policy") < hostile.index("<style>") < hostile.index("<script>")

    def test_names_that_are_alike_have_ids_that_differ(self):
        assert _distinct(["a b", "A-b", "c", "a b"], "run-") == ["run-a-b", "run-a-b-2", "run-c", "run-a-b-3"]

    def test_outcomes_are_counted_and_lead_to_their_first(self):
        def finding(slug, outcome):
            return Finding(slug, "claim", "source", outcome, "numbers", "rule")

        found = (finding("a", "not decided"), finding("b", "holds"), TABLE, finding("c", "holds"))
        page = Page(title="t", lead=(), sections=(Section("s", items=found[:2]), Section("s", items=found[2:])))
        assert _tally(page) == [("holds", 2, "b"), ("not decided", 1, "a")]

    def test_a_row_leads_to_its_runs_where_they_stand_together(self):
        runs = runs_named("one", "other")
        ours, theirs = (tuple(result.run.key for result in runs[name]) for name in runs)
        rows_of = (
            Row("all of one", {}, ours),
            Row("some of the other", {}, theirs[:1]),
            Row("of both", {}, (*ours, *theirs)),
            Row("one", {}),
            Row("of none", {}),
            Row("of one and of none", {}, (ours[0], "unknown")),
        )
        table = Table("t", "t", (Column("a"),), rows_of)
        text = render(Page(title="t", lead=(), sections=(Section("s", items=(table,)),), runs=runs))
        heads = re.findall(r'<th scope="row">(?:<a href="(.*?)">)?([^<]+)', text)
        assert {name: link for link, name in heads[: len(rows_of)]} == {
            "all of one": "#run-one",
            "some of the other": "#run-other",
            "of both": "",
            "one": "#run-one",
            "of none": "",
            "of one and of none": "",
        }

    @pytest.mark.parametrize("text", ["plain", "hostile"])
    def test_ids_are_distinct_and_links_lead_somewhere(self, text, request):
        found = Elements(request.getfixturevalue(text))
        ids = found.values("id")
        assert len(ids) == len(set(ids))
        assert {link[1:] for link in found.values("href")} <= set(ids)
        assert {name for names in found.values("aria-labelledby") for name in names.split()} <= set(ids)
        assert not [i for i in ids if not re.fullmatch(r"[a-z0-9-]+", i)]

    def test_headings_and_landmarks_are_in_order(self, plain):
        tags = [tag for tag, _ in Elements(plain).tags]
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert [tags.count(tag) for tag in ("header", "nav", "main")] == [1, 1, 1]
        assert ("html", {"lang": "en"}) in Elements(plain).tags

    def test_the_same_page_is_the_same_bytes(self, plain, tmp_path):
        assert render(page_of(PLAIN)) == plain
        write_page(page_of(PLAIN), tmp_path / "index.html")
        assert (tmp_path / "index.html").read_bytes() == plain.encode()

    def test_a_row_leads_to_its_runs(self, plain):
        assert '<th scope="row"><a href="#run-byol">BYOL</a>' in plain
        assert '<details class="run" id="run-byol">' in plain
        assert "<code>method.projector.norm: &#34;batch&#34; -&gt; &#34;none&#34;</code>" in plain
        for words in ("undecided to epoch 0.5, then healthy to epoch 10.", "Norm of the gradient", "20 nearest of"):
            assert words in plain

    def test_outcomes_have_a_mark_and_a_word(self, plain):
        for mark, outcome in (("✓", "holds"), ("✗", "does not hold"), ("?", "not decided")):
            assert f'<span class="mark" aria-hidden="true">{mark}</span> {outcome}' in plain

    def test_published_numbers_stand_apart(self, plain):
        assert '<span class="below published">[57.7 a word]</span>' in plain

    def test_a_page_of_nothing(self):
        text = render(Page(title="", lead=()))
        assert "<main" in text
        empty = Table("t", "nothing", (Column("a"),), ())
        bare = Result(RUN, Path("x"), [], {})
        page = Page(
            title="t",
            lead=(),
            sections=(
                Section("s", items=(empty, Figure("f", "f", "", Panels(())), Figure("g", "g", "", Bars("", (), {})))),
            ),
            runs={"none": [], "bare": [bare], "other": [bare]},
            base="none",
        )
        assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", render(page), flags=re.DOTALL).lower()
        assert tables.markdown(empty)

    def test_logs_with_holes_are_shown(self):
        """Lines without metrics, layers or online scores, as of older runs or other methods."""
        log = [
            {"epoch": 0.5, "step": 1, "loss": 1.0},
            {"epoch": 1.0, "step": 2, "pos_cos": None, "layers": {"a": None}},
        ]
        text = render(Page(title="t", lead=(), runs={"a": [Result(RUN, Path("x"), log, {})]}))
        assert "not judged to epoch 1" in text

    @pytest.mark.parametrize("slug", ["", "A", "a/b", "../a", "results", "a_b", "é"])
    def test_a_slug_can_name_a_file(self, slug):
        with pytest.raises(ValueError, match="slug"):
            Page(title="", lead=(), sections=(Section("s", items=(Table(slug, "", (), ()),)),))

    def test_a_slug_stands_there_once(self):
        table = Table("a", "", (), ())
        with pytest.raises(ValueError, match="slug 'a'"):
            Page(title="", lead=(), sections=(Section("s", items=(table,)), Section("t", items=(table,))))

    def test_its_files_are_packaged(self):
        names = {entry.name for entry in resources.files("vergence.report").iterdir()}
        assert {"page.html", "page.css", "page.js"} <= names


class TestFiles:
    def test_all_of_a_page(self, tmp_path):
        write_files(page_of(HOSTILE), tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "results.md",
            "norms.csv",
            *(f"{name}.{end}" for name in ("courses", "bars", "circles") for end in ("svg", "csv")),
        }
        for path in tmp_path.glob("*.svg"):
            ElementTree.parse(path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        write_files(page_of(HOSTILE), tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_nothing_in_them_depends_on_the_machine(self, tmp_path):
        page = page_of()
        for results in page.runs.values():
            for one in results:
                one.summary.update(
                    {"seconds": 1e6, "environment": {"device_name": "another"}, "images_per_second": 1.0}
                )
        assert to_markdown(page) == to_markdown(page_of())
        assert render(page) != render(page_of())

    def test_a_page_on_which_nothing_failed_does_not_speak_of_it(self):
        page = Page(title="t", lead=("one",), sections=(Section("s", ("two",)),))
        assert to_markdown(page) == "# t\n\none\n\n## s\n\ntwo\n"
        other = to_markdown(replace(page, deviations=("fewer", "less")))
        assert other == "# t\n\none\n\n## What differs from the document\n\n- fewer\n- less\n\n## s\n\ntwo\n"
        failed = to_markdown(replace(page, failures={"x": "gone"}))
        assert failed == to_markdown(page) + "\n## Failed or unfinished\n\n- x: gone\n"

    def test_markdown_of_a_page(self):
        text = to_markdown(page_of())
        for words in (
            "# A page a word\n",
            "- ✓ **holds**: claim a word (a word)\n  - numbers a word\n  - Rule: rule a word\n",
            "| BYOL | a word | 61.0 ± 1.0 (n = 3) \\[57.7 a word\\] |",
            "![Figure a word](courses.svg)",
        ):
            assert words in text
        assert "<img" not in re.sub(r"\\<", "", to_markdown(page_of(HOSTILE)))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(one, other, share):
    return "#" + "".join(
        f"{round(share * int(one[i : i + 2], 16) + (1 - share) * int(other[i : i + 2], 16)):02x}" for i in (1, 3, 5)
    )


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
class TestColours:
    def colours(self, theme):
        css = resources.files("vergence.report").joinpath("page.css").read_text()
        found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
        return {name: values[theme] for name, *values in found}

    def test_text_is_readable(self, theme):
        colours = self.colours(theme)
        for name in ("ink", "muted", "link", *{*COLOURS.values(), "none"}):
            for ground in ("ground", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)

    def test_states_are_readable_on_their_tints(self, theme):
        colours = self.colours(theme)
        for hue in {*COLOURS.values(), "none"}:
            for share in (0.18, 0.34):
                assert contrast(colours["ink"], mixed(colours[hue], colours["ground"], share)) >= 4.5, (hue, share)

    def test_lines_stand_out(self, theme):
        colours = self.colours(theme)
        for name in (*svg.SERIES, "focus", "muted"):
            assert contrast(colours[name], colours["ground"]) >= 3, name

    def test_files_have_the_colours_of_the_light_page(self, theme):
        light = self.colours(0)
        assert {name: light[name] for name in svg.IN_FILE} == svg.IN_FILE


class TestRuns:
    def test_runs_side_by_side(self, tmp_path):
        folders = [
            folder_of(tmp_path / "a", RUN, lines()),
            folder_of(tmp_path / "b", replace(RUN, seed=1), lines(seed=1)),
            folder_of(tmp_path / "c", COLLAPSED, lines(True)),
        ]
        page, problems = runs_page([*folders, folders[0]])
        assert not problems
        assert page.title == "3 runs compared"
        assert list(page.runs) == ["byol", "byol, projector.norm none, predictor.norm none"]
        assert [len(results) for results in page.runs.values()] == [2, 1]
        table, numbers = [item for item in page.sections[0].items if isinstance(item, Table)]
        assert [column.name for column in table.columns] == ["verdict", "data", "epochs", "kNN", "linear"]
        assert [column.name for column in numbers.columns] == [
            *("pos cos", "neg cos", "alignment", "uniformity", "rank")
        ]
        assert table.rows[0].cells["data"] == "cifar10, 32 px"
        assert table.rows[0].cells["kNN"] == Value(mean=60.0, spread=0.0, n=2)
        assert table.rows[1].cells["verdict"] == "complete collapse"
        courses = next(item for item in page.sections[0].items if item.slug == "courses")
        assert courses.drawing.across == 2
        assert "a band from the lowest to the highest" in courses.caption
        text = render(page)
        assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL).lower()
        assert str(tmp_path) not in text

    def test_all_that_is_wrong_is_said_at_once(self, tmp_path):
        twin = folder_of(tmp_path / "a", RUN, lines()), folder_of(tmp_path / "b", RUN, lines())
        begun = folder_of(tmp_path / "c", COLLAPSED, [], final=False)
        page, problems = runs_page([*twin, begun, tmp_path / "none"])
        assert page.title == "1 run"
        assert list(page.failures.values()) == list(problems.values())
        said = list(problems.values())
        assert [line.split(": ")[0] for line in said] == [str(tmp_path / name) for name in ("b", "c", "none")]
        assert "the same run as" in said[0]
        assert "not finished" in said[1]
        assert "no run there" in said[2]

    def test_an_unfinished_run_shows_how_far_it_came(self, tmp_path):
        done = folder_of(tmp_path / "b", replace(RUN, seed=1), lines())
        page, problems = runs_page([folder_of(tmp_path / "a", RUN, lines(epochs=3), final=False), done])
        assert not problems
        assert list(page.runs) == ["byol, unfinished", "byol"]
        table, numbers = [item for item in page.sections[0].items if isinstance(item, Table)]
        assert table.rows[0].cells["epochs"] == "3 of 10"
        assert table.rows[0].cells["verdict"] == "healthy"
        assert "not finished" in page.failures["byol, unfinished, seed 0"]
        assert numbers.rows[1].cells["pos cos"].n == 1
        assert "not finished" in render(page)

    def test_a_single_run(self, tmp_path):
        page, _ = runs_page([folder_of(tmp_path / "a", RUN, lines())])
        assert page.title == "1 run"
        courses = next(item for item in page.sections[0].items if item.slug == "courses")
        assert courses.caption == "Over training, one curve a row."

    def test_views_are_shown_where_the_pictures_are(self, tmp_path):
        run = replace(RUN, data=c.Digits(size=16), views=replace(RUN.views, size=16))
        folder = folder_of(tmp_path / "a", run, lines())
        views = runs_page([folder])[0].views
        assert Image.open(io.BytesIO(views)).format == "PNG"
        assert runs_page([folder], show_views=False)[0].views is None
        gone = replace(run, data=c.Folder(root=str(tmp_path / "gone")))
        assert runs_page([folder_of(tmp_path / "b", gone, lines())])[0].views is None

    def test_no_picture_is_downloaded_to_show_views(self, tmp_path, monkeypatch):
        looked = []
        monkeypatch.setattr(compare, "views_of", lambda run, data_dir: looked.append((run.data.kind, data_dir)))
        runs_page([folder_of(tmp_path / "a", RUN, lines())])
        assert looked == []
        runs_page([tmp_path / "a"], data_dir=tmp_path)
        runs_page([folder_of(tmp_path / "b", replace(RUN, data=c.Digits(size=96)), lines())])
        assert looked == [("cifar10", tmp_path), ("digits", None)]

    @pytest.mark.parametrize(("size", "scale"), [(16, 6), (64, 1), (112, 1)])
    def test_a_sheet_of_views_is_the_pictures_and_three_draws_of_both_views(self, size, scale):
        """Whatever the size of a view, a column is at least 96 pixels wide; a white line goes around each."""
        run = replace(RUN, data=c.Digits(size=size), views=replace(RUN.views, size=size), seed=3)
        sheet = np.asarray(Image.open(io.BytesIO(draw_views(run, count=2))))
        side, columns = size + 4, 7
        assert sheet.shape == (2 * side * scale, columns * side * scale, 3)
        blocks = sheet.reshape(2, side, scale, columns, side, scale, 3)
        assert (blocks == blocks[:, :, :1, :, :, :1]).all()  # pixels are enlarged, not blurred
        cells = blocks[:, :, 0, :, :, 0].transpose(2, 0, 4, 1, 3)  # [columns, pictures, 3, side, side]
        inner = cells[..., 2:-2, 2:-2]
        frame = np.ones_like(cells, dtype=bool)
        frame[..., 2:-2, 2:-2] = False
        assert (cells[frame] == 255).all()

        images = load(run.data, "pretrain")
        pixels = images.pixels[torch.randperm(len(images), generator=generator(3, "order", 0))[:2]]
        views = [evaluation_view(pixels, images.size, run.views)]
        for draw in (1, 2, 3):
            views += two_views(pixels, images.size, run.views, generator(3, "views", draw))
        mean, std = (np.array(values).reshape(3, 1, 1) for values in (run.views.mean, run.views.std))
        wanted = np.stack([view.numpy() for view in views]) * std + mean
        assert np.abs(inner - 255 * wanted).max() <= 0.501

    def test_names_tell_runs_apart(self):
        other = replace(RUN, optimizer=c.LARS(), epochs=20)
        third = replace(other, batch_size=64)
        far = replace(third, precision="bfloat16")
        assert names_of([RUN, replace(RUN, method=c.RAFT()), other, third, far]) == [
            "byol",
            "raft",
            "byol, optimizer lars, epochs 20",
            "byol, optimizer lars, epochs 20, batch_size 64",
            "byol, optimizer lars, epochs 20, batch_size 64 and 1 more",
        ]

    def test_changes_of_verdict_are_told(self):
        phases = [rows.Phase("undecided" if i % 3 else "healthy", i, i + 1) for i in range(8)]
        assert rows._words(phases[:2]) == "healthy to epoch 1, then undecided to epoch 2"
        assert rows._words(phases[:6]).count(", then ") == 5
        assert rows._words(phases) == (
            "7 changes: undecided 62% of the time, healthy 38% of the time; at the end undecided"
        )

    def test_a_mean_has_the_epochs_that_all_runs_logged(self):
        one, other = result(RUN, 0), result(RUN, 1)
        other = replace(other, lines=other.lines[::2])
        curve = rows.across("a", [one, other], "neg_cos", 0, "solid")
        assert list(curve.x) == [line["epoch"] for line in other.lines]
        assert all(low <= y <= high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True))


HURTS = {
    "no run.json": (lambda folder: (folder / "run.json").unlink(), "no run there"),
    "run.json cut": (lambda folder: cut(folder / "run.json"), "run.json: not JSON"),
    "run.json of another program": (lambda folder: (folder / "run.json").write_text('{"name": "x"}'), "unknown key"),
    "no summary": (lambda folder: (folder / "summary.json").unlink(), "not finished"),
    "summary cut": (lambda folder: cut(folder / "summary.json"), "summary.json: not JSON"),
    "summary of another run": (lambda folder: change(folder, key="feed"), "summary.json: of another run ('feed', not"),
    "summary without scores": (lambda folder: change(folder, knn="good"), "not as a run writes it: knn"),
    "summary without speed": (lambda folder: change(folder, seconds=None), "not as a run writes it: seconds"),
    "no log": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl: missing, or empty: no curves"),
    "log is a folder": (lambda folder: replaced(folder / "metrics.jsonl"), "missing, or empty: no curves"),
    "log cut": (lambda folder: cut(folder / "metrics.jsonl"), "metrics.jsonl: ends at epoch"),
    "log of another program": (lambda folder: log_of(folder, lambda line: {"time": 3}), "'step, epoch' left out of 40"),
    "log with text for numbers": (lambda folder: log_of(folder, lambda line: line | {"loss": "x"}), "'loss' left out"),
}


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def replaced(path):
    path.unlink()
    path.mkdir()


def log_of(folder, line_of):
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(line_of(json.loads(line))) + "\n" for line in path.read_text().splitlines()))


class TestBrokenRuns:
    @pytest.fixture
    def three(self, tmp_path):
        return [folder_of(tmp_path / f"seed-{seed}", replace(RUN, seed=seed), lines(seed=seed)) for seed in range(3)]

    @pytest.mark.parametrize("name", HURTS)
    def test_one_of_three_is_hurt(self, three, name):
        """The page is built, names what is missing, and no number is a mean over fewer runs than it says."""
        hurt, said = HURTS[name]
        assert runs_page(three)[0].failures == {}
        hurt(three[1])
        page, problems = runs_page(three)
        (failure,) = page.failures.values()
        assert said in failure
        assert said in html.unescape(render(page))
        table, numbers = [item for item in page.sections[0].items if isinstance(item, Table)]
        whole = table.rows[0]
        left = len(page.runs["byol"])
        assert whole.cells["kNN"].n == left == (3 if "log" in name else 2)
        assert len(whole.runs) == left
        assert (list(problems) == [three[1]]) == (len(whole.runs) == 2 and len(page.runs) == 1)
        if left == 3 and numbers.rows[0].cells["neg cos"].n < 3:
            assert "(n = 2)" in render(page)
        for figure in (item for item in page.sections[0].items if isinstance(item, Figure)):
            for panel in figure.drawing.panels if isinstance(figure.drawing, Panels) else ():
                of_all = [curve.name for curve in panel.curves if curve.name.startswith("byol")]
                hidden = (panel.title == "Loss" and "loss" in said) or name in ("no log", "log is a folder")
                hidden |= name == "log of another program"
                assert ("byol (2 of 3 runs)" in of_all) == (hidden and left == 3), (panel.title, of_all)

    @pytest.mark.parametrize("left", [1, 2])
    def test_an_accuracy_that_some_lack_is_said_in_the_figure(self, three, left):
        for folder in three[left:]:
            change(folder, linear=None)
        page, _ = runs_page(three)
        figure = next(item for item in page.sections[0].items if item.slug == "accuracies")
        assert f"Means over fewer runs than the row has: byol, linear ({left} of 3)." in figure.caption
        assert f"(n = {left})" in render(page)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_said_and_not_averaged(self, three, bad):
        log_of(three[1], lambda line: line | {"neg_cos": bad, "loss": bad})
        page, problems = runs_page(three)
        assert problems == {}
        numbers = next(item for item in page.sections[0].items if item.slug == "numbers")
        cell = numbers.rows[0].cells["neg cos"]
        assert (math.isnan(cell.mean), cell.n, cell.spread) == (True, 3, None)
        assert "not finite" in render(page)
        assert tables.plain(tables.show(Value.over([bad, 1.0]), 1)) == "not finite (n = 2)"

    def test_no_run_at_all_is_a_page_that_says_so(self, tmp_path):
        (tmp_path / "file").touch()
        folders = [tmp_path / "none", tmp_path / "file", tmp_path]
        page, problems = runs_page(folders)
        assert list(problems) == folders
        assert page.title == "0 runs"
        text = render(page)
        assert "No run could be read." in text
        assert all(f"{folder}: no run there" in text for folder in folders)

    def test_the_command_writes_the_page_and_then_says_what_is_missing(self, three, tmp_path, capsys):
        out = tmp_path / "page.html"
        words = ["report", *map(str, three), str(tmp_path / "none"), "--out", str(out), "--no-views"]
        assert cli.main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == f"{out}: 3 runs\n"
        assert printed.err.startswith(f"error: {tmp_path / 'none'}: no run there (no run.json); give the folder ")
        assert printed.err.count("\n") == 1
        assert "3 runs compared" in out.read_text()

    def test_a_page_without_pictures_takes_no_torch(self, three, tmp_path):
        words = ["report", *map(str, three), "--out", str(tmp_path / "page.html"), "--no-views"]
        script = "import sys; from vergence.command import cli; print(cli.main(sys.argv[1:]), 'torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 False"


class TestTerminal:
    def test_a_pipe_is_wide_and_a_terminal_as_it_is(self, monkeypatch):
        assert screen.console().width == screen.WIDE
        monkeypatch.setenv("FORCE_COLOR", "1")  # how rich takes a pipe for a terminal
        monkeypatch.setenv("COLUMNS", "71")
        assert screen.console().width == 71
        monkeypatch.setenv("COLUMNS", "0")
        assert screen.console().width == screen.WIDE

    @pytest.mark.parametrize("terminal", [False, True])
    def test_numbers_have_no_colour_of_their_own(self, monkeypatch, capsys, terminal):
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
        screen.console().print("17 pictures")
        assert capsys.readouterr().out == "17 pictures\n"

    def test_a_reader_that_is_gone_is_no_bug(self):
        console = screen.console()

        def leave():
            try:
                raise BrokenPipeError
            except BrokenPipeError:
                console.on_broken_pipe()

        with pytest.raises(BrokenPipeError):
            leave()

    @pytest.mark.parametrize("width", [120, 12])
    def test_a_summary_is_six_lines_however_narrow_the_terminal(self, width):
        """One that a reader's terminal breaks can still be found by its words."""
        found = summary(RUN, lines(), 57.26)
        assert printed(lambda console: screen.print_summary(console, Path("runs/a long name"), found), width) == [
            "runs/a long name",
            "  verdict   healthy: the rule that fired",
            f"  loss {found['final']['loss']:.4f}   pos cos 0.848   neg cos 0.209   alignment 0.305   uniformity -1.58"
            "   rank 32.6",
            "  knn        57.3%  20 nearest of 50000 training pictures",
            "  linear     61.3%  linear layer, 100 epochs",
            "  trained in 10:12 at 600 images/s on a device",
        ]

    @pytest.mark.parametrize("width", [120, 12])
    def test_a_summary_without_training_is_its_scores(self, width):
        found = {"encoder": "untrained", "knn": {"accuracy": None}, "linear": None}
        assert printed(lambda console: screen.print_summary(console, Path("runs/a"), found), width) == [
            "runs/a",
            "  encoder   untrained",
            "  knn            —",
        ]

    def test_a_comparison_has_a_row_for_each_run(self):
        mean = dict.fromkeys(("pos_cos", "neg_cos", "alignment", "uniformity", "effective_rank"), 0.1234)
        trained = summary(RUN, lines(), 57.26) | {"last_epoch": mean}
        table = screen.comparison({"a": trained, "untrained": {"knn": {"accuracy": 30.0}, "linear": None}})
        wide = printed(table)
        assert wide == [
            "Side by side",
            "",
            "            verdict   kNN  linear  pos cos  neg cos  alignment  uniformity  rank",
            " " + "─" * 79,
            " a          healthy  57.3    61.3    0.123    0.123      0.123        0.12   0.1",
            " untrained  —        30.0       —        —        —          —           —     —",
            "",
        ]
        narrow = printed(table, 70)  # names and verdicts break, numbers do not, and nothing is left out
        assert max(map(len, narrow)) <= 70
        assert "…" not in "".join(narrow)
        assert {number for line in wide for number in re.findall(r"[\d.]+%?", line)} <= set(" ".join(narrow).split())


def test_the_picture_of_a_comparison_is_of_all_runs(tmp_path, monkeypatch):
    folders = {"one": folder_of(tmp_path / "a", RUN, lines()), "two": folder_of(tmp_path / "b", COLLAPSED, lines(True))}
    untrained = {"knn": {"accuracy": 30.0}, "linear": {"accuracy": None}}
    asked = []
    monkeypatch.setattr(figures, "draw", lambda figure: asked.append(figure.drawing) or drawing.draw(figure))
    figures.draw_comparison("One & two?", folders, untrained, tmp_path / "picture.svg")
    panels, bars = asked
    logs = {"one: healthy": lines(), "two: complete collapse": lines(True)}
    assert [
        (panel.x, {curve.name: (list(curve.x), list(curve.y)) for curve in panel.curves}) for panel in panels.panels
    ] == [
        ("epoch", {name: ([n["epoch"] for n in log], [n[metric] for n in log]) for name, log in logs.items()})
        for metric in ("pos_cos", "neg_cos", "effective_rank")
    ]
    assert [panel.y_range for panel in panels.panels] == [(0.0, 1.02), (0.0, 1.02), (0.0, None)]
    assert (bars.groups, bars.series) == (("kNN", "linear"), {"one": [60.0, 64.0], "two": [60.0, 64.0]})
    assert (bars.mark, bars.marks) == ("untrained", {"one": [30.0, None], "two": [30.0, None]})
    sizes = {}
    for name in ("picture.svg", "picture-narrow.svg"):
        root = ElementTree.fromstring((tmp_path / name).read_text())
        words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text") if element.text]
        titles = [
            *("One & two?", "one: healthy", "two: complete collapse", "untrained"),
            *("Cosine of two views of a picture", "Cosine of different pictures", "Effective rank of projections"),
            *("Test accuracy", "60.0, untrained 30.0", "64.0"),
        ]
        assert [title for title in titles if title not in words] == []
        ground = next(root.iter("{http://www.w3.org/2000/svg}rect"))
        sizes[name] = float(root.get("width")), float(root.get("height"))
        assert ground.get("fill") == "#ffffff"
        assert (float(ground.get("width")), float(ground.get("height"))) == sizes[name]
        assert not re.search("href|url|<style|<script", (tmp_path / name).read_text())  # needs no other file
    (wide, low), (narrow, high) = sizes.values()
    assert wide > 1.5 * narrow
    assert low < 0.7 * high


# --- how it looks -----------------------------------------------------------------------------------------------------


WIDTHS_ON_A_PAGE = {
    "panels": (340, False),
    "scales": (208, False),
    "many": (520, True),
    "one": (520, True),
    "bars": (520, False),
    "marked": (520, False),
    "bar": (520, False),
    "untitled": (520, True),
    "nameless": (520, True),
    "nothing": (520, False),
    "circles": (520, False),
}


@pytest.mark.parametrize("name", looks())
def test_a_page_gives_a_part_its_width(name):
    figure = Figure(name, "a figure", "", looks()[name])
    found, drawn = _drawn(figure), [ElementTree.fromstring(text) for *_, text in _drawn(figure)["parts"]]
    widths = [float(part.get("width")) for part in drawn]
    assert [width for _, _, width, _ in found["parts"]] == [round(width * 1.15) for width in widths]
    assert (found["least"], found["scrolls"]) == WIDTHS_ON_A_PAGE[name]


@pytest.mark.parametrize("name", looks())
def test_a_figure_looks_as_it_did(name):
    """Where it should look differently: python tests/support/looks.py, then look at what has changed."""
    assert drawn(name) == (LOOKS / f"{name}.svg").read_text()


def test_what_is_said_of_runs_is_what_was_said(tmp_path):
    """Where it should be said differently: as above."""
    assert told(tmp_path) == (GOLDEN / "runs.txt").read_text()
