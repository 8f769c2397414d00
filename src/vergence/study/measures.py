"""Measures of results, which are columns of tables and curves over training, and the rows that have results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from vergence.config import Run
from vergence.files.results import Result
from vergence.report.content import Column, Curve, Panel, Row, Table, Value
from vergence.report.rows import curve
from vergence.report.scores import NAMES
from vergence.study.judging import listed

Results = Mapping[str, Sequence[Any]]
"""The results of each row's finished jobs: a `Result` for a training run, else what the job's `read` returns."""

Metric = str | tuple[str, ...]
"""The name of a number in the log, as `Result.course` takes it."""


@dataclass(frozen=True)
class Measure:
    """A number of each result, shown as mean and spread over the seeds of a row.

    Attributes:
        name: heading of its column.
        read: the number of one result; None where it was not measured.
        digits: after the point.
        about: what it means, in one line.
        metric: its name in the log, for curves over training.
        published: what the document reports, by row, as it writes it.
        label: what a sentence calls it; None: its name; empty: nothing.
    """

    name: str
    read: Callable[[Any], float | None]
    digits: int = 2
    about: str = ""
    metric: Metric = ""
    published: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    @property
    def title(self) -> str:
        """The name that a sentence gives it."""
        return self.name if self.label is None else self.label

    def cell(self, row: str, results: Sequence[Any]) -> Value:
        """Return the cell of a row: mean and spread over its results, beside what is published."""
        return Value.over([self.read(result) for result in results], self.published.get(row, ""))

    def of(self, results: Results, row: str) -> Value:
        """Return the value of a row, which may have no results."""
        return self.cell(row, results.get(row, ()))

    def tells(self, *rows: str) -> Callable[[Results], str]:
        """Return a function that writes the values of these rows in one sentence."""
        prefix = f"{self.title}: " if self.title else ""
        return lambda results: prefix + listed([(row, self.of(results, row)) for row in rows], self.digits)


@dataclass(frozen=True)
class Cell:
    """A column whose cell is made from the row's name and all its results: words, or a value that is no mean.

    Attributes:
        name: heading of the column.
        cell: makes the cell.
        digits: after the point of a value.
        about: what it means, in one line.
    """

    name: str
    cell: Callable[[str, Sequence[Any]], Value | str]
    digits: int = 2
    about: str = ""


def logged(metric: Metric, name: str = "", *, epochs: float | Callable[[Run], float] = 1, **look: Any) -> Measure:
    """Return the measure of a number in the log: its mean over the log lines of the last epochs.

    Args:
        metric: its name there, as `Result.course` takes it.
        name: heading of its column; empty: as in the log.
        epochs: how many; or a function of the run that says so.
        look: `digits`, `about`, `published` and `label` of the measure.
    """

    def read(result: Result) -> float | None:
        return result.mean(metric, epochs(result.run) if callable(epochs) else epochs)

    return Measure(name or str(metric), read, metric=metric, **look)


def accuracy(probe: str, name: str = "", **look: Any) -> Measure:
    """Return the measure of a probe's accuracy at the end, in percent; over training, that of the online probe.

    Args:
        probe: one of `results.PROBES`, such as "knn".
        name: heading of its column; empty: the probe's name.
        look: `digits`, `about`, `published` and `label` of the measure.
    """
    look = {"digits": 1, "about": "accuracy in percent, at the end", "metric": f"online.{probe}.accuracy"} | look
    return Measure(name or NAMES[probe], lambda result: result.accuracy(probe), **look)


def first_epoch(result: Result, metric: Metric) -> float | None:
    """Return the mean of a number over the log lines of the first epoch; None where there are none."""
    values = [value for epoch, value in zip(*result.course(metric), strict=True) if epoch <= 1]
    return fmean(values) if values else None


def steps(result: Result) -> int:
    """Return how many steps were trained; 0 for an encoder that was not."""
    return result.lines[-1]["step"] if result.lines else 0


# --- rows -------------------------------------------------------------------------------------------------------------


def known(results: Results, names: Iterable[str]) -> dict[str, Sequence[Any]]:
    """Return the results of those rows that have any, in the order of `names`."""
    return {name: results[name] for name in names if results.get(name)}


def firsts(results: Results, names: Iterable[str]) -> dict[str, Any]:
    """Return the first result of each row that has any, in the order of `names`."""
    return {name: found[0] for name, found in known(results, names).items()}


def make_table(
    slug: str,
    title: str,
    columns: Sequence[Measure | Cell],
    rows: Mapping[str, Sequence[Any]],
    note: str = "",
    source: Any = None,
) -> Table:
    """Return a table of results by the name of their row.

    Each row has the keys of the runs that it is made from: of its results, or of `source`, whose parts they are.
    """
    heads = tuple(Column(column.name, column.digits, column.about) for column in columns)
    cells = {row: {column.name: column.cell(row, found) for column in columns} for row, found in rows.items()}
    made = {row: _keys([source] if source else found) for row, found in rows.items()}
    return Table(slug, title, heads, tuple(Row(row, cells[row], made[row]) for row in rows), note)


def _keys(results: Sequence[Any]) -> tuple[str, ...]:
    """Return the keys of runs and of other work, where results have any."""
    keys = (r.get("key") if isinstance(r, Mapping) else getattr(getattr(r, "run", None), "key", None) for r in results)
    return tuple(key for key in keys if key)


# --- curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """A panel of one metric over training, with a line for each row: the mean over seeds, a standard deviation as band.

    Attributes:
        metric: as in `Result.course`, or a measure of it.
        rows: names of the rows, or their labels by name.
        title: of the panel.
        y: of its vertical axis.
        log: whether that is logarithmic.
        points: the most of a line; a longer log is averaged over equal stretches; None: all.
    """

    metric: Metric | Measure
    rows: Sequence[str] | Mapping[str, str]
    title: str = ""
    y: str = ""
    log: bool = False
    points: int | None = 300

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the rows by their names."""
        return self.rows if isinstance(self.rows, Mapping) else {row: row for row in self.rows}


def make_panels(results: Results, *lines: Lines) -> tuple[Panel, ...]:
    """Return the panels of a figure, with the lines of those rows that logged the metric.

    A label has one colour in all of them, whichever rows there are.
    """
    colours = {label: i for i, label in enumerate(dict.fromkeys(x for part in lines for x in part.labels.values()))}
    panels = []
    for part in lines:
        metric = part.metric.metric if isinstance(part.metric, Measure) else part.metric
        looks = {row: Curve(name=x, x=(), y=(), colour=colours[x]) for row, x in part.labels.items()}
        drawn = [curve(results.get(row, ()), metric, look, points=part.points) for row, look in looks.items()]
        curves = tuple(line for line in drawn if line is not None)
        panels.append(Panel(title=part.title, x="epoch", y=part.y, curves=curves, log=part.log))
    return tuple(panels)
