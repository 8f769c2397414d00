"""What `vergence diagnose` found: lines and one table for the terminal, and a page, of one encoder or two."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from vergence.metrics.examination import KINDS, MEASURES, Examination, Measure
from vergence.report import scores as accuracies
from vergence.report import tables, text
from vergence.report.content import (
    Bars,
    Card,
    Column,
    Curve,
    Facts,
    Figure,
    Look,
    Page,
    Panel,
    Panels,
    Row,
    Section,
    Table,
    Value,
)
from vergence.report.naming import numbered
from vergence.report.rows import numbers_of
from vergence.runs import Diagnosis
from vergence.runs.diagnosing import TRANSFORMS

PLACES = 120
"""Values of a spectrum that are drawn, evenly spaced by their logarithm."""

READING = (
    "No number alone tells a healthy encoder from a collapsed one: read one that is not centred, one that is, and one "
    "net of what differs among views of one picture."
)

_Named = list[tuple[str, Examination]]


def print_diagnoses(console: Console, found: Sequence[Diagnosis]) -> None:
    """Print each verdict with what it was decided on, then all numbers in one table, an encoder beside the other."""
    for one in found:
        console.print(Text(one.name, style="bold"), soft_wrap=True)
        text.print_verdict(console, "verdict  ", one.verdict._asdict())
        remarks = [("remark", remark) for remark in one.remarks]
        text.print_block(console, [("pictures", one.pictures), ("measured", one.protocol), *remarks])
        text.print_probes(console, one.scores)
    console.print(tables.terminal(_numbers("numbers", "Numbers", found, [*MEASURES.values()], "kind")))
    console.print(tables.terminal(_invariances(found)))


def diagnosis_page(found: Sequence[Diagnosis], command: str = "") -> Page:
    """Return the page: verdicts, each group of numbers, spectra, invariances, and how they were measured."""
    return Page(
        title=f"Diagnosis of {' and '.join(_names(found))}",
        lead=(),
        sections=tuple(_sections(found)),
        command=command,
    )


def _sections(found: Sequence[Diagnosis]) -> Iterator[Section]:
    names = _names(found)
    yield Section("Verdict", items=tuple(map(_card, names, found, range(1, 3))))
    yield Section("Numbers", (READING,), tuple(item for kind in KINDS for item in _group(kind, found)))
    named = _examined(found)
    if named:
        yield Section("Spectrum", items=(_spectra(named),))
        yield Section("Invariance", items=(_bars(found), _invariances(found)))
    measured = [(name, one.protocol) for name, one in zip(names, found, strict=True)]
    yield Section("How it was measured", items=(Facts("measured", (*measured, *TRANSFORMS.items())),))


def _card(name: str, one: Diagnosis, number: int) -> Card:
    verdict = one.verdict
    look = Look("encoder", verdict.state, verdict.rule, numbers_of(verdict._asdict()), verdict.advice)
    scored = [(label, accuracies.accuracy([one.scores], probe)) for probe, label in accuracies.NAMES.items()]
    about = f"{one.n:,} pictures of {one.pictures}, {one.d:,} dimensions"
    warnings = (*one.remarks, *(line.rstrip(".") for line in accuracies.warnings([one.scores])))
    known = tuple((label, value) for label, value in scored if value.mean is not None)
    return Card(f"verdict-{number}", name, about, (look,), warnings, known)


def _names(found: Sequence[Diagnosis]) -> list[str]:
    return numbered([one.name for one in found], "{} ({})")


def _examined(found: Sequence[Diagnosis]) -> _Named:
    """Return the numbers that there are: of each encoder, and of the same network untrained, by name."""
    each = [
        pair
        for name, one in zip(_names(found), found, strict=True)
        for pair in ((name, one.found), (f"{name}, untrained", one.untrained))
    ]
    return [(name, examined) for name, examined in each if examined is not None]


def _headed(found: Sequence[Diagnosis]) -> _Named:
    """Return `_examined` under short headings where there is one encoder."""
    named = _examined(found)
    if len(found) == 1:
        return [("untrained" if name.endswith(", untrained") else "encoder", one) for name, one in named]
    return named


def _group(kind: str, found: Sequence[Diagnosis]) -> tuple[Table, Facts]:
    """Return a group's numbers, and what each of them is: in a telephone's width no table has room for that."""
    some = [measure for measure in MEASURES.values() if measure.kind == kind]
    slug = kind.replace(" ", "-")
    about = tuple((one.label, f"{one.variant}. {one.reading}") for one in some)
    return _numbers(slug, kind.capitalize(), found, some, "range"), Facts(f"{slug}-are", about)


def _numbers(slug: str, title: str, found: Sequence[Diagnosis], some: list[Measure], last: str) -> Table:
    """Return a table of numbers, with their kind or their range in the last column."""
    named = _headed(found)
    rows = tuple(
        Row(one.label, {**{name: _value(of.numbers[one.name]) for name, of in named}, last: getattr(one, last)})
        for one in some
    )
    note = KINDS[some[0].kind] if last == "range" else ""
    return Table(slug, title, (*(Column(name, 3) for name, _ in named), Column(last)), rows, note)


def _invariances(found: Sequence[Diagnosis]) -> Table:
    named = _headed(found)
    rows = tuple(
        Row(name, {**{who: _value(one.invariance.get(name)) for who, one in named}, "transform": said})
        for name, said in TRANSFORMS.items()
    )
    note = "Mean cosine of a picture with itself transformed, less that of two different pictures: 0 at collapse."
    return Table("invariance", "Invariance", (*(Column(who, 3) for who, _ in named), Column("transform")), rows, note)


def _value(number: float | None) -> Value | str:
    return "too few" if number is None else Value(mean=number, n=1)


def _spectra(named: _Named) -> Figure:
    def curves(values: Any) -> tuple[Curve, ...]:
        made = []
        for number, (name, one) in enumerate(named):
            shares = np.asarray(values(one))
            shares = shares / max(shares.sum(), np.finfo(float).tiny)
            places = np.unique(np.geomspace(1, len(shares), PLACES).round().astype(int))
            shown = np.where(shares > 1e-12, shares, np.nan)[places - 1]
            dash = "dashed" if name.endswith("untrained") else "solid"
            made.append(Curve(name=name, x=places.tolist(), y=shown.tolist(), colour=number, dash=dash))
        return tuple(made)

    panels = (
        Panel(
            title="Singular values, not centred",
            x="number",
            y="share of their sum",
            curves=curves(lambda one: one.singular_values),
            log=True,
            log_x=True,
        ),
        Panel(
            title="Eigenvalues of the covariance",
            x="number",
            y="share of the variance",
            curves=curves(lambda one: one.eigenvalues),
            log=True,
            log_x=True,
        ),
    )
    caption = (
        "Largest first, both axes by their logarithm. A collapse to a point is one value far above all others on the "
        "left, and is not seen on the right; a dimensional collapse is an edge on both, unless noise hides it."
    )
    return Figure("spectrum", "Spectrum", caption, Panels(panels))


def _bars(found: Sequence[Diagnosis]) -> Figure:
    named = [(name, one) for name, one in zip(_names(found), found, strict=True) if one.found is not None]
    series = {name: [one.found.invariance[way] for way in TRANSFORMS] for name, one in named if one.found}
    marks = {name: [one.untrained.invariance[way] for way in TRANSFORMS] for name, one in named if one.untrained}
    caption = (
        "Mean cosine of a picture with itself transformed, less that of two different pictures. 0: the transform makes "
        "it as strange as another picture, or all pictures are alike."
    )
    bars = Bars("cosine, net", tuple(TRANSFORMS), series, 2, marks, "untrained")
    return Figure("invariances", "Invariance to each transform", caption, bars)
