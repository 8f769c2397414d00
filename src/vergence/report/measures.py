"""Measures of results, which are columns of tables and curves over training, and the rows that have results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vergence.config import Run
from vergence.files.results import Result
from vergence.report.content import Column, Curve, Panel, Row, Table, Value
from vergence.report.scores import NAMES

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


def _said(value: Value, digits: int = 1) -> str:
    """Return a value as a sentence holds it: 57.7 ± 0.4 (n = 3)."""
    if value.mean is None:
        return "not measured"
    spread = "" if value.spread is None else f" ± {value.spread:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread} (n = {value.n})"


def listed(named: Sequence[tuple[str, Value]], digits: int = 1) -> str:
    """Return several values in one sentence, each with its name."""
    return "; ".join(f"{name} {_said(value, digits)}" for name, value in named)


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
        probe: one of `metrics.table.PROBES`, such as "knn".
        name: heading of its column; empty: the probe's name.
        look: `digits`, `about`, `published` and `label` of the measure.
    """
    look = {"digits": 1, "about": "accuracy in percent, at the end", "metric": f"online.{probe}.accuracy"} | look
    return Measure(name or NAMES[probe], lambda result: result.accuracy(probe), **look)


def first_epoch(result: Result, metric: Metric) -> float | None:
    """Return the mean of a number over the log lines of the first epoch; None where there are none."""
    return result.by_epoch(metric).get(1)


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


def headings(columns: Iterable[Measure | Cell]) -> tuple[Column, ...]:
    """Return what stands above these columns."""
    return tuple(Column(column.name, column.digits, column.about) for column in columns)


def make_row(name: str, columns: Iterable[Measure | Cell], results: Sequence[Any], runs: tuple[str, ...] = ()) -> Row:
    """Return a row of a table: a cell for each column, and the keys of the runs that it is made from."""
    return Row(name, {column.name: column.cell(name, results) for column in columns}, runs)


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
    made = (make_row(row, columns, found, _keys([source] if source else found)) for row, found in rows.items())
    return Table(slug, title, headings(columns), tuple(made), note)


def _keys(results: Sequence[Any]) -> tuple[str, ...]:
    """Return the keys of runs and of other work, where results have any."""
    keys = (r.get("key") if isinstance(r, Mapping) else getattr(getattr(r, "run", None), "key", None) for r in results)
    return tuple(key for key in keys if key)


# --- curves -----------------------------------------------------------------------------------------------------------


def curve(
    results: Sequence[Result],
    metric: str | tuple[str, ...],
    look: Curve,
    *,
    band: Callable[[Sequence[float]], tuple[float, float] | None] = Value.deviation,
    points: int | None = None,
) -> Curve | None:
    """Draw a metric over training: the mean over runs, at the epochs that all runs have which logged it.

    Args:
        results: the runs.
        metric: as in `Result.course`.
        look: its name, colour and dash.
        band: the ends of the band at an epoch, from the values there; None: no band.
        points: the most points; a longer log is averaged over equal stretches. None: all.

    Returns:
        The curve; None where no run logged the metric.
    """
    courses = [dict(zip(*result.course(metric), strict=True)) for result in results]
    courses = [course for course in courses if course]
    if not courses:
        return None
    epochs = sorted(set.intersection(*map(set, courses)))
    stretch = max(1, -(-len(epochs) // points)) if points else 1
    parts = [epochs[i : i + stretch] for i in range(0, len(epochs), stretch)]
    values = [[_mean([course[epoch] for epoch in part]) for course in courses] for part in parts]
    ends = [band(of_part) for of_part in values]
    known = [pair for pair in ends if pair is not None] if None not in ends else []
    return replace(
        look,
        x=[_mean(part) for part in parts],
        y=[Value.over(of_part).mean or 0.0 for of_part in values],
        low=[low for low, _ in known],
        high=[high for _, high in known],
    )


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else sum(values) / len(values)


@dataclass(frozen=True)
class Lines:
    """A panel of one metric over training, with a line for each row: the mean over seeds, a standard deviation as band.

    Attributes:
        metric: as in `Result.course`, or a measure of it; or several by their labels, each with a line for each row.
        rows: names of the rows, or their labels by name.
        title: of the panel.
        y: of its vertical axis.
        log: whether that is logarithmic.
        points: the most of a line; a longer log is averaged over equal stretches; None: all.
    """

    metric: Metric | Measure | Mapping[str, Metric]
    rows: Sequence[str] | Mapping[str, str]
    title: str = ""
    y: str = ""
    log: bool = False
    points: int | None = 300

    @property
    def parts(self) -> list[tuple[str, str, Metric]]:
        """The label of each line, its row and its metric."""
        rows = self.rows if isinstance(self.rows, Mapping) else {row: row for row in self.rows}
        if isinstance(self.metric, Mapping):
            return [(label, row, metric) for row in rows for label, metric in self.metric.items()]
        metric = self.metric.metric if isinstance(self.metric, Measure) else self.metric
        return [(label, row, metric) for row, label in rows.items()]


def make_panels(results: Results, *lines: Lines) -> tuple[Panel, ...]:
    """Return the panels of a figure, with the lines of those rows that logged the metric.

    A label has one colour in all of them, whichever rows there are.
    """
    colours = {label: i for i, label in enumerate(dict.fromkeys(label for part in lines for label, *_ in part.parts))}
    panels = []
    for part in lines:
        drawn = [
            curve(
                results.get(row, ()), metric, Curve(name=label, x=(), y=(), colour=colours[label]), points=part.points
            )
            for label, row, metric in part.parts
        ]
        curves = tuple(line for line in drawn if line is not None)
        panels.append(Panel(title=part.title, x="epoch", y=part.y, curves=curves, log=part.log))
    return tuple(panels)
