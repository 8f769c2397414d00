"""What is read of results: measures, which are columns of tables and curves over training, and the rows there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from vergence.config import Run
from vergence.files.results import Result
from vergence.report import rows as report
from vergence.report.content import Column, Curve, Dash, Panel, Row, Table, Value
from vergence.report.scores import NAMES
from vergence.study.judging import listed

Results = Mapping[str, Sequence[Any]]
"""What the finished jobs of each row gave: a `Result` for a training run, else what the job's `read` returns."""

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
        """What a sentence calls it."""
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
    return Table(
        slug,
        title,
        tuple(Column(column.name, column.digits, column.about) for column in columns),
        tuple(
            Row(
                row,
                {column.name: column.cell(row, found) for column in columns},
                keys_of([source] if source else found),
            )
            for row, found in rows.items()
        ),
        note,
    )


def keys_of(results: Sequence[Any]) -> tuple[str, ...]:
    """Return the keys of runs and of other jobs, where results have any."""
    keys = (
        result.get("key") if isinstance(result, Mapping) else getattr(getattr(result, "run", None), "key", None)
        for result in results
    )
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
        points: the most of a line; a longer log is averaged over equal stretches.
    """

    metric: Metric | Measure
    rows: Sequence[str] | Mapping[str, str]
    title: str = ""
    y: str = ""
    log: bool = False
    points: int | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the rows by their names."""
        return self.rows if isinstance(self.rows, Mapping) else {row: row for row in self.rows}

    def panel(self, results: Results, colours: Mapping[str, int] | None = None) -> Panel:
        """Return the panel, with the lines of those rows that logged the metric; `colours` are by label."""
        metric = self.metric.metric if isinstance(self.metric, Measure) else self.metric
        colours = colours or {label: i for i, label in enumerate(self.labels.values())}
        found = [
            curve(results, row, metric, label, colours[label], points=self.points) for row, label in self.labels.items()
        ]
        kept = tuple(line for line in found if line is not None)
        return Panel(title=self.title, x="epoch", y=self.y, curves=kept, log=self.log)


def curve(
    results: Results,
    row: str,
    metric: Metric,
    name: str = "",
    colour: int | None = None,
    *,
    dash: Dash = "solid",
    points: int | None = None,
) -> Curve | None:
    """Return a row's line of `Lines`, under another name if one is given; None where the metric was not logged."""
    look = Curve(name=name or row, x=(), y=(), colour=colour, dash=dash)
    return report.curve(results.get(row, ()), metric, look, points=points)


def make_panels(results: Results, lines: Sequence[Lines]) -> tuple[Panel, ...]:
    """Return the panels of a figure, in which a label has one colour, whichever rows there are."""
    labels = dict.fromkeys(label for part in lines for label in part.labels.values())
    colours = {label: i for i, label in enumerate(labels)}
    return tuple(part.panel(results, colours) for part in lines)
