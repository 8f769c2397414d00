"""Tables and findings as text: for the terminal, as Markdown, as CSV, and cell by cell for the page; figures as CSV.

A value reads "57.7 ± 0.4 (n = 3) [58.2]": mean, sample standard deviation, runs, and what the document reports.
"""

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as Terminal
from rich.text import Text

from vergence.report.content import (
    Bars,
    Circle,
    Cloud,
    Curve,
    Figure,
    Finding,
    Outcome,
    Page,
    Panels,
    Row,
    Table,
    Value,
    one_line,
)
from vergence.report.live import COLOURS
from vergence.report.scores import BALANCED, MEANINGS

NOTHING = "—"
MARKS: dict[Outcome, str] = {"holds": "✓", "does not hold": "✗", "not decided": "?"}
STYLES: dict[Outcome, str] = {"holds": "green", "does not hold": "red", "not decided": "cyan"}
LOUD = "=+-@\uff1d\uff0b\uff0d\uff20"
"""What makes a spreadsheet take a cell for a formula, in either width."""


@dataclass(frozen=True)
class Shown:
    """A cell in parts.

    Attributes:
        text: a mean, a text, or a dash.
        spread: the standard deviation; empty where there is none.
        n: how many runs; empty where the table's note says it.
        published: what the document reports here.
        order: the number to sort by; empty for text and where nothing was measured.
        interval: of a lone accuracy.
        beside: what an accuracy must beat, and its mean over classes, each in words.
        worse: those of them that it is below.
    """

    text: str
    spread: str = ""
    n: str = ""
    published: str = ""
    order: str = ""
    interval: str = ""
    beside: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()


def _values(table: Table, name: str | None = None) -> list[Value]:
    """Return the values of a table, or of its column of this name."""
    cells = (cell for row in table.rows for heading, cell in row.cells.items() if name in (None, heading))
    return [cell for cell in cells if isinstance(cell, Value)]


def is_number(table: Table, name: str) -> bool:
    """Return whether a column holds values: it is right-aligned then, and sorted as numbers."""
    return bool(_values(table, name))


def has_spread(table: Table, name: str) -> bool:
    """Return whether a value of the column has a standard deviation, so that the others leave room for one."""
    return any(value.spread is not None for value in _values(table, name))


def is_accuracy(table: Table, name: str) -> bool:
    """Return whether a value of the column has baselines, so that what belongs to a value stands below it."""
    return any(value.baselines for value in _values(table, name))


def usual(table: Table) -> int:
    """Return the most runs behind a value of the table, or behind a row that has values."""
    rows = [len(row.runs) for row in table.rows if any(isinstance(cell, Value) for cell in row.cells.values())]
    return max([0, *rows, *(value.n for value in _values(table))])


def runs_of(row: Row, table: Table) -> int:
    """Return the n of all values of a row, where it is not the usual one: said once, beside the name; else 0."""
    found = {cell.n for cell in row.cells.values() if isinstance(cell, Value) and cell.mean is not None}
    return found.pop() if len(found) == 1 and found != {usual(table)} else 0


def notes(table: Table, told: bool = False) -> list[str]:
    """Return what a reader must know of the table's numbers, in sentences; `told`: each cell says its n."""
    values, lines = _values(table), [table.note] if table.note else []
    if any(value.spread is not None for value in values):
        n = "over n runs" if told else f"; n = {usual(table)} runs where nothing else is said"
        lines.append(f"Mean ± sample standard deviation{' ' if told else ''}{n}.")
    if any(value.published for value in values):
        lines.append("[In brackets]: what the document reports.")
    return lines


def readings(table: Table) -> list[str]:
    """Return sentences that explain what stands beside the accuracies of a table."""
    values = _values(table)
    names = dict.fromkeys(name for value in values for name in value.baselines)
    return [
        *(
            ["In parentheses: Wilson's 95% interval of a lone run."]
            if any(v.interval and v.n < 2 for v in values)
            else []
        ),
        *(["In parentheses: Student's 95% interval of a mean."] if any(v.interval and v.n > 1 for v in values) else []),
        *(f"{name.capitalize()}: {MEANINGS.get(name, 'a baseline')}." for name in names),
        *([f"Balanced: {BALANCED}."] if any(value.balanced is not None for value in values) else []),
    ]


def show(cell: Value | str | None, digits: int, said: int = 0) -> Shown:
    """Return the parts of a cell.

    Args:
        cell: None is an empty one.
        digits: after the point.
        said: number of runs that goes without saying.
    """
    if cell is None:
        return Shown(NOTHING)
    if isinstance(cell, str):
        return Shown(one_line(cell) or NOTHING)
    published = one_line(cell.published)
    if cell.mean is None:
        return Shown(NOTHING, published=published)
    balanced = [] if cell.balanced is None else [f"balanced {number(cell.balanced, digits)}"]
    low, high = (number(end, digits) for end in cell.interval or (0.0, 0.0))
    return Shown(
        number(cell.mean, digits),
        number(cell.spread, digits) if cell.spread is not None and cell.n > 1 else "",
        f"n = {cell.n}" if cell.n not in (0, said) else "",
        published,
        repr(float(cell.mean)) if math.isfinite(cell.mean) else "",
        f"{low} to {high}" if cell.interval else "",
        (*(f"{name} {number(v, digits)}" for name, v in cell.baselines.items() if not cell.is_below(name)), *balanced),
        tuple(f"below {name} {number(v, digits)}" for name, v in cell.baselines.items() if cell.is_below(name)),
    )


def number(value: float, digits: int) -> str:
    """Return a number with so many digits after the point; one that rounds to zero has no sign."""
    return f"{value:z.{digits}f}" if math.isfinite(value) else "not finite"


def typeset(number: str) -> str:
    """Return a number with a true minus, for where it is read and not copied."""
    return number.replace("-", "\u2212")


def plain(shown: Shown) -> str:
    """Return the parts of a cell in one line."""
    spread = f" ± {shown.spread}" if shown.spread else ""
    n = f" ({shown.n})" if shown.n else ""
    published = f" [{shown.published}]" if shown.published else ""
    interval = f" ({shown.interval})" if shown.interval else ""
    beside = "".join(f"; {words}" for words in (*shown.worse, *shown.beside))
    return f"{shown.text}{spread}{n}{published}{interval}{beside}"


# --- terminal ---------------------------------------------------------------------------------------------------------


def terminal(table: Table) -> Terminal:
    """Return the table for `rich`: what the document reports in italics; a narrow console breaks cells, not lines."""
    said = [*notes(table), *readings(table)]
    drawn = Terminal(
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=Text(one_line(table.title), "bold"),
        title_justify="left",
        caption=Text("\n".join(map(one_line, said)), "dim") if said else None,
        caption_justify="left",
    )
    drawn.add_column("", overflow="fold")
    for column in table.columns:
        justify = "right" if is_number(table, column.name) else "left"
        drawn.add_column(Text(one_line(column.name)), justify=justify, overflow="fold")
    for row in table.rows:
        n = runs_of(row, table)
        cells = [show(row.cells.get(column.name), column.digits, n or usual(table)) for column in table.columns]
        name = Text.assemble(one_line(row.name), (f" (n = {n})", "dim") if n else "")
        drawn.add_row(name, *map(_styled, cells))
    return drawn


def print_page(console: Console, page: Page) -> None:
    """Print a page's findings and tables, in its order; the rules that findings follow stand on the page."""
    for item in (item for section in page.sections for item in section.items):
        if isinstance(item, Table):
            console.print(terminal(item))
        elif isinstance(item, Finding):
            console.print(_judged(item), soft_wrap=True)


def _judged(finding: Finding) -> Text:
    mark = (f"{MARKS[finding.outcome]} {finding.outcome}", f"bold {STYLES[finding.outcome]}")
    claim, source = f": {one_line(finding.claim)} ", (f"({one_line(finding.source)})", "dim")
    return Text.assemble(mark, claim, source, (f"\n  {one_line(finding.numbers)}", "dim"))


def _styled(shown: Shown) -> Text:
    published = (f" [{shown.published}]", "dim italic") if shown.published else ""
    spread = (f" ± {shown.spread}", "dim") if shown.spread else ""
    n = (f" ({shown.n})", "dim") if shown.n else ""
    interval = (f"\n({shown.interval})", "dim") if shown.interval else ""
    worse = [(f"\n{words}", "bold red") for words in shown.worse]
    beside = [(f"\n{words}", "dim") for words in shown.beside]
    state = (shown.text, COLOURS.get(shown.text, ""))
    return Text.assemble(state, spread, n, published, interval, *worse, *beside)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", one_line(text))


def markdown(table: Table) -> str:
    """Return the table as Markdown, with its heading and its notes.

    Each value says its n, unless no value of the table has more than one run.
    """
    said = 1 if usual(table) <= 1 else 0
    lines = [
        f"### {escaped(table.title)}",
        "",
        "| | " + " | ".join(escaped(column.name) for column in table.columns) + " |",
        "|---|" + "".join("---:|" if is_number(table, column.name) else "---|" for column in table.columns),
    ]
    for row in table.rows:
        cells = [escaped(plain(show(row.cells.get(c.name), c.digits, said))) for c in table.columns]
        lines.append(f"| {escaped(row.name)} | " + " | ".join(cells) + " |")
    for note in [*notes(table, told=True), *readings(table)]:
        lines += ["", escaped(note)]
    return "\n".join(lines) + "\n"


def finding_markdown(finding: Finding) -> str:
    """Return a finding as an item of a list."""
    return (
        f"- {MARKS[finding.outcome]} **{finding.outcome}**: {escaped(finding.claim)} ({escaped(finding.source)})\n"
        f"  - {escaped(finding.numbers)}\n"
        f"  - Rule: {escaped(finding.rule)}\n"
    )


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_text(rows: Iterable[Iterable[str | float | int | None]]) -> str:
    """Return rows as CSV: numbers in full precision, None and what is not finite empty, no cell a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _csv_cell(cell: str | float | None) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        cell = cell if isinstance(cell, int) else float(cell)  # numpy's repr is not a number
        return repr(cell) if math.isfinite(cell) else ""
    cell = cell.encode("utf-8", "replace").decode()  # half of a surrogate pair has no bytes
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # the writer quotes \n alone
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", cell):
        return cell
    return f"'{cell}" if cell[:1] in ("\t", "\n") or cell.lstrip()[:1] in tuple(LOUD) else cell


def table_csv(table: Table) -> str:
    """Return a table as CSV: mean, spread, n and what was published as columns of their own; last, the runs' keys.

    Ends of an interval, baselines and balanced accuracy have columns too, where a value of the column has them.
    """
    heads: list[str] = ["row"]
    beside = {column.name: _beside(table, column.name) for column in table.columns}
    for column in table.columns:
        parts = ("", " spread", " n", " published") if is_number(table, column.name) else ("",)
        heads += [column.name + part for part in (*parts, *(f" {name}" for name in beside[column.name]))]
    rows: list[list[str | float | int | None]] = [[*heads, "runs"]]
    for row in table.rows:
        cells: list[str | float | int | None] = [row.name]
        for column in table.columns:
            cell = row.cells.get(column.name)
            if isinstance(cell, Value):
                known = _known_beside(cell)
                cells += [cell.mean, cell.spread, cell.n, cell.published]
                cells += [known.get(name) for name in beside[column.name]]
            elif is_number(table, column.name):
                cells += [cell, None, None, None, *(None for _ in beside[column.name])]
            else:
                cells.append(cell)
        rows.append([*cells, " ".join(row.runs)])
    return csv_text(rows)


def _beside(table: Table, name: str) -> list[str]:
    """Return the names of what the values of a column are read beside, each once."""
    return list(dict.fromkeys(known for value in _values(table, name) for known in _known_beside(value)))


def _known_beside(value: Value) -> dict[str, float]:
    ends = dict(zip(("low", "high"), value.interval, strict=True)) if value.interval else {}
    balanced = {} if value.balanced is None else {"balanced": value.balanced}
    return {**ends, **value.baselines, **balanced}


# --- figures ----------------------------------------------------------------------------------------------------------


def figure_csv(figure: Figure) -> str:
    """Return all numbers of a figure as CSV, none thinned out."""
    match figure.drawing:
        case Panels(panels):
            head = ("panel", "curve", "x", "y", "low", "high")
            rows = [row for panel in panels for curve in panel.curves for row in _curve_rows(panel.title, curve)]
        case Bars(groups=groups, series=series, marks=marks, mark=mark):
            head = ("group", "series", "value", *([mark] if marks else []))
            rows = []
            for name, values in series.items():
                of_series = marks.get(name) or [None] * len(groups)
                bars = zip(groups, values, of_series, strict=False)
                rows += [(group, name, value, *([mark] if marks else [])) for group, value, mark in bars]
        case Cloud(groups):
            head = ("group", "x", "y")
            rows = [(name, x, y) for name, points in groups.items() for x, y in points]
        case circles:
            head = ("row", "column", "what", "x", "y")
            rows = [row for place, circle in circles.circles.items() for row in _circle_rows(*place, circle)]
    return csv_text([head, *rows])


def _curve_rows(panel: str, curve: Curve) -> Iterable[tuple[str | float | None, ...]]:
    bands = [band if len(band) == len(curve.y) else [None] * len(curve.y) for band in (curve.low, curve.high)]
    for x, y, low, high in zip(curve.x, curve.y, *bands, strict=False):
        yield panel, curve.name, x, y, low, high


def _circle_rows(row: str, column: str, circle: Circle) -> Iterable[tuple[str | float, ...]]:
    """Return rows with each arc's first direction and share, and each pair's two directions."""
    for i, share in enumerate(circle.density):
        yield row, column, "density", 2 * math.pi * i / len(circle.density), share
    for first, second in circle.pairs:
        yield row, column, "pair", first, second
