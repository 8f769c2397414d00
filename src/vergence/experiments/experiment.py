"""What an experiment is made of: rows of jobs, the scale they are done at, and what is made of their results.

An experiment is a module: its docstring is the question, and it has the names of `Experiment`. `reproduce` runs any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vergence import config as c
from vergence.config.schema import differences, to_dict
from vergence.files.results import Result, Results
from vergence.grid import Job
from vergence.report.content import Curve, Figure, Finding, Table, Value
from vergence.runs.training import Training


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of the work is done. What it changes of the document's runs is computed and printed on the page.

    Attributes:
        about: time and machine it is meant for, in one line.
        data: the pictures; None: the document's.
        asked: other pictures, in size and options as these; None: these.
        encoder: the network; None: the document's.
        subset: so many of the pictures; None: all.
        batch_size: pictures in a step; None: the document's.
        queue: past keys of the methods that have a queue; None: the document's.
        epochs: of the runs that make the document's tables.
        long: of the runs that make its long curves.
        seeds: runs of each row, from seed 0 on.
        observe_every: epochs between probes and looks inside while a run trains.
        log_every: steps between log lines.
    """

    about: str
    data: c.Data | None = None
    asked: c.Data | None = None
    encoder: c.Encoder | None = None
    subset: int | None = None
    batch_size: int | None = None
    queue: int | None = None
    epochs: int
    long: int
    seeds: int
    observe_every: int = 1
    log_every: int = 10

    def changed(
        self,
        *,
        data: c.Data | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        subset: int | None = None,
    ) -> "Scale":
        """Other pictures, in size and options as these, or another number of seeds, epochs or pictures; None leaves
        them.
        """
        wanted = {"pictures": data and c.data_name(data), "seeds": seeds, "epochs": epochs, "subset": subset}
        said = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        return replace(
            self,
            about=f"{self.about}; but {said}" if said else self.about,
            asked=data or self.asked,
            seeds=seeds or self.seeds,
            epochs=epochs or self.epochs,
            long=epochs or self.long,
            subset=subset or self.subset,
        )

    def apply(self, run: c.Run) -> c.Run:
        """The document's run with this scale's pictures, network and sizes. Epochs are the experiment's to set."""
        data = self.data
        if self.asked is not None:
            data = c.instead(self.asked, data or run.data)
        if data is not None:
            views = replace(run.views, size=data.size)
            if isinstance(data, c.Digits):  # a mirrored digit is no digit
                views = replace(views, first=replace(views.first, flip=0.0), second=replace(views.second, flip=0.0))
            run = replace(run, data=data, views=views)
        if self.encoder is not None:
            run = replace(run, encoder=replace(self.encoder, norm=run.encoder.norm))
        if self.queue is not None and isinstance(run.method, c.MoCo | c.Contrastive):
            run = replace(run, method=replace(run.method, queue=self.queue))
        return replace(
            run,
            subset=self.subset if run.subset is None else run.subset,
            batch_size=self.batch_size or run.batch_size,
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where jobs are done; decides no result."""

    data_dir: Path | None = None
    device: str = "cpu"


class Readable(Job, Protocol):
    """A job whose result can be read from its folder."""

    def read(self, folder: Path) -> Any:
        """The result of a finished job, without torch."""
        ...


Rows = Mapping[str, Sequence[Readable]]
"""Jobs by the name of their row; more than one where a row is repeated over seeds."""


class Experiment(Protocol):
    """The names of a module that is an experiment."""

    @property
    def TITLE(self) -> str:
        """The page's heading."""
        ...

    @property
    def LEAD(self) -> Sequence[str]:
        """Paragraphs at the head of the page."""
        ...

    @property
    def SCALES(self) -> Mapping[str, Scale]:
        """By name; "full" is the document's own."""
        ...

    @property
    def BASE(self) -> str:
        """The row that others are compared with."""
        ...

    def jobs(self, scale: Scale, place: Place) -> Rows:
        """What is to be done, in order."""
        ...

    def deviations(self, scale: Scale) -> Sequence[str]:
        """How this scale's runs differ from the document's."""
        ...

    def tables(self, results: Mapping[str, Sequence[Any]]) -> Sequence[Table]: ...
    def figures(self, results: Mapping[str, Sequence[Any]]) -> Sequence[Figure]: ...
    def findings(self, results: Mapping[str, Sequence[Any]]) -> Sequence[Finding]: ...


def over_seeds(runs: Mapping[str, c.Run], scale: Scale, place: Place, **observe: Any) -> dict[str, list[Readable]]:
    """Each run once for every seed, as jobs of a grid.

    Args:
        runs: by the name of their row.
        scale: says how many seeds.
        place: where.
        observe: what `Training` shall watch, such as `online=("knn",)`.
    """
    return {
        name: [
            Training(
                name=f"{name}, seed {seed}" if scale.seeds > 1 else name,
                run=replace(run, seed=seed),
                data_dir=place.data_dir,
                device=place.device,
                **observe,
            )
            for seed in range(scale.seeds)
        ]
        for name, run in runs.items()
    }


def differing(document: Mapping[str, c.Run], ours: Mapping[str, c.Run]) -> list[str]:
    """How our runs differ from the document's, one line for each setting; with the rows where it is not all of them."""
    rows: dict[str, list[str]] = {}
    for name, run in ours.items():
        for line in differences(to_dict(document[name]), to_dict(run)):
            rows.setdefault(line, []).append(name)
    lines = []
    for line, names in rows.items():
        few = f" (in {', '.join(names)})" if len(names) <= 3 else f" (in {len(names)} of {len(ours)} rows)"
        lines.append(line + ("" if len(names) == len(ours) else few))
    return lines


def value_of(
    results: Results, row: str, metric: str | tuple[str, ...], epochs: float = 1, published: str = ""
) -> Value:
    """A row's mean of a metric over the log lines of the last epochs, over its seeds."""
    return Value.over([result.mean(metric, epochs) for result in results.get(row, ())], published)


def accuracy_of(results: Results, row: str, probe: str, published: str = "") -> Value:
    """A row's accuracy at the end, in percent, over its seeds."""
    return Value.over([result.accuracy(probe) for result in results.get(row, ())], published)


def keys_of(results: Results, row: str) -> tuple[str, ...]:
    """The keys of a row's runs."""
    return tuple(result.run.key for result in results.get(row, ()))


def curve(results: Results, row: str, metric: str | tuple[str, ...], **look: Any) -> Curve | None:
    """A row's course of a metric: the mean over seeds and a band of one standard deviation. None without lines."""
    epochs, values = courses(results.get(row, ()), metric)
    if not epochs:
        return None
    at = [Value.over(of_epoch) for of_epoch in values]
    middle = [value.mean or 0.0 for value in at]
    band = {}
    if all(value.spread is not None for value in at):
        band = {
            "low": [m - (v.spread or 0) for m, v in zip(middle, at, strict=True)],
            "high": [m + (v.spread or 0) for m, v in zip(middle, at, strict=True)],
        }
    return Curve(**{"name": row, "x": epochs, "y": middle, **band, **look})


def courses(results: Sequence[Result], metric: str | tuple[str, ...]) -> tuple[list[float], list[list[float]]]:
    """Epochs, and the values of a metric at each of them, one for every seed that has all of them."""
    known = [result.course(metric) for result in results]
    epochs = max((e for e, _ in known), key=len, default=[])
    whole = [values for e, values in known if e == epochs]
    return epochs, [list(at) for at in zip(*whole, strict=True)]
