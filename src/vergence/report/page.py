"""One HTML file that holds all of a page: it loads nothing, and the same page gives the same bytes."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from vergence.files import durable
from vergence.report import rows, svg, tables
from vergence.report.compare import runs_page
from vergence.report.content import Card, Figure, Finding, Gallery, Item, Page, Row, Table, identifier, one_line
from vergence.report.drawing import draw, standalone
from vergence.report.live import COLOURS
from vergence.report.naming import numbered

__all__ = ["Page", "render", "runs_page", "to_markdown", "write_files", "write_page"]

PART = {1: 520, 2: 340, 3: 256, 4: 208}
"""Least width in pixels of a part of a figure, by how many stand side by side; narrower, they wrap, or one scrolls."""


# --- HTML -------------------------------------------------------------------------------------------------------------


def render(page: Page) -> str:
    """Return the page as HTML."""
    details = _details(page)
    links = {of_row.name: ident for ident, of_row in details.items()}
    of_key = {result.run.key: name for name, results in page.runs.items() for result in results}

    def link(row: Row) -> str | None:
        """Return the section of the row's runs, where they have one in common."""
        if row.name in links:  # a key may be that of two rows, on two folders of pictures
            return links[row.name]
        found = {of_key.get(key) for key in row.runs} or {row.name}
        return links.get(found.pop() or "") if len(found) == 1 else None

    script = _file("page.js")
    text = _template().render(
        page=page,
        sections=list(zip(_distinct([s.slug or s.title for s in page.sections], "part-"), page.sections, strict=True)),
        tally=_tally(page),
        details=details,
        environments=rows.environments(page.runs),
        minutes=rows.minutes(page.runs),
        views="" if page.views is None else _base64(page.views),
        link=link,
        style=Markup(_file("page.css")),
        script=Markup(script),
        digest=_base64(hashlib.sha256(script.encode()).digest()),
    )
    return text.lstrip()  # of what the macros leave


def write_page(page: Page, path: Path) -> None:
    """Write the page as one HTML file."""
    durable.write_file(path, render(page).encode())


def _details(page: Page) -> dict[str, rows.Details]:
    """Return what the page says of each row that has runs, by the id of its section."""
    base = (page.base, page.runs[page.base][0]) if page.base is not None and page.runs.get(page.base) else None
    idents = zip(_distinct(page.runs, "run-"), page.runs.items(), strict=True)
    # two dashes: no slug of a page's own has them
    return {ident: rows.details(name, f"{ident}--", results, base) for ident, (name, results) in idents if results}


def _distinct(names: Iterable[str], prefix: str) -> list[str]:
    """Return an id for each name."""
    return numbered([prefix + identifier(name) for name in names], "{}-{}")


def _tally(page: Page) -> list[tuple[str, int, str]]:
    """Return the outcomes of all findings: each, how often, and the slug of its first."""
    findings = [item for section in page.sections for item in section.items if isinstance(item, Finding)]
    return [
        (outcome, len(slugs), slugs[0])
        for outcome in tables.MARKS
        if (slugs := [finding.slug for finding in findings if finding.outcome == outcome])
    ]


def _drawn(figure: Figure) -> dict[str, Any]:
    """Return a figure's drawing, written, and the widths between which its parts are shown."""
    drawing = draw(figure)

    def written(root: Any) -> Markup:
        return Markup(svg.written(root, svg.ON_PAGE))  # ElementTree has escaped what comes from data

    return {
        "parts": [(part.title, part.above, round(part.size[0] * 1.15), written(part.root)) for part in drawing.parts],
        "keys": [(written(key.sample), key.name) for key in drawing.keys],
        "least": PART[drawing.across],
        "scrolls": any(part.size[0] > PART[1] for part in drawing.parts),
    }


def _grouped(items: Sequence[Item]) -> list[tuple[str, list[Any]]]:
    """Return the items in order, findings in a row together."""
    return [(kind, list(some)) for kind, some in groupby(items, key=lambda item: type(item).__name__)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else one_line(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"tables": tables, "drawn": _drawn, "colours": COLOURS}
    environment.filters |= {"typeset": tables.typeset, "grouped": _grouped, "base64": _base64}
    return environment.from_string(_file("page.html"))


# --- files ------------------------------------------------------------------------------------------------------------


def write_files(page: Page, folder: Path) -> None:
    """Write what the page's sections hold: `results.md`, each table as CSV, each figure as SVG and CSV."""
    for item in (item for section in page.sections for item in section.items):
        if isinstance(item, Table):
            durable.write_file(folder / f"{item.slug}.csv", tables.table_csv(item).encode())
        elif isinstance(item, Figure):
            durable.write_file(folder / f"{item.slug}.csv", tables.figure_csv(item).encode())
            durable.write_file(folder / f"{item.slug}.svg", standalone(item).encode())
    durable.write_file(folder / "results.md", to_markdown(page).encode())


def to_markdown(page: Page) -> str:
    """Return text, tables and findings of a page as Markdown, and figures by the names of their files.

    Nothing in it depends on a machine.
    """
    parts = [f"# {tables.escaped(page.title)}\n"]
    if page.about:
        parts += ["## Verdict\n", *(f"**{tables.escaped(line)}**\n" for line in page.alerts)]
        parts.append("".join(_card(of_row, page.about[of_row.name]) for of_row in _details(page).values()))
    parts += [f"{tables.escaped(line)}\n" for line in page.lead]
    if page.deviations:
        parts += ["## What differs from the document\n", _bullets(page.deviations)]
    for section in page.sections:
        parts += [f"## {tables.escaped(section.title)}\n", *(f"{tables.escaped(line)}\n" for line in section.text)]
        for kind, items in _grouped(section.items):
            if kind == "Finding":
                parts.append("".join(map(tables.finding_markdown, items)))
            elif kind == "Table":
                parts += map(tables.markdown, items)
            elif kind == "Figure":
                parts += map(_picture, items)
            elif kind == "Gallery":
                parts += map(_named, items)
            elif kind == "Card":
                parts += (_card(card, card.about) for card in items)
            else:
                parts += (_bullets(f"{label}: {text}" for label, text in facts.rows) for facts in items)
    if page.failures:
        parts += ["## Failed or unfinished\n", _bullets(f"{name}: {error}" for name, error in page.failures.items())]
    return "\n".join(parts)


def _card(row: rows.Details | Card, about: str) -> str:
    """Return the verdicts, warnings and accuracies of a row as an item of a list."""
    lines = [f"- **{tables.escaped(row.name)}**: {tables.escaped(about)}"]
    for look in row.looks:
        who, numbers = f", {look.who}" if look.who else "", f" ({look.numbers})" if look.numbers else ""
        said = f"{look.of}{who}: {look.state}: {look.rule}{numbers}" + (f". Try: {look.advice}" if look.advice else "")
        lines.append(f"  - {tables.escaped(said)}")
    lines += [f"  - **{tables.escaped(line)}**" for line in row.warnings]
    for name, value in row.accuracies:
        said = tables.plain(tables.show(value, 1, 1 if value.n == 1 else 0))
        lines.append(f"  - {tables.escaped(name)}: {tables.escaped(said)}")
    return "\n".join(lines) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"- {tables.escaped(line)}\n" for line in lines)


def _named(gallery: Gallery) -> str:
    lines = (": ".join(filter(None, (head, ", ".join(one.name for one in group)))) for head, group in gallery.groups)
    return f"{tables.escaped(gallery.caption)}\n\n{_bullets(lines)}"


def _picture(figure: Figure) -> str:
    title = tables.escaped(figure.title)
    return f"### {title}\n\n![{title}]({figure.slug}.svg)\n\n{tables.escaped(figure.caption)}\n"
