"""The scale of a study, and the place where it is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from vergence import config as c
from vergence.config.marks import AtLeast
from vergence.config.schema import differences, to_dict
from vergence.grid.watch import Engine


@c.configuration
class Changes:
    """What is wanted of a scale other than it has, besides pictures; None: nothing.

    Attributes:
        seeds: of each row.
        epochs: of every run that is trained.
        subset: so many pictures.
    """

    seeds: Annotated[int | None, AtLeast(1)] = None
    epochs: Annotated[int | None, AtLeast(1)] = None
    subset: Annotated[int | None, AtLeast(1)] = None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An amount of work. What it changes of the document's runs is computed and printed on the page.

    Attributes:
        about: time and machine it is meant for, in one line.
        data: the pictures; None: the document's.
        asked: other pictures, in size and options as these; None: these.
        encoder: the network; None: the document's.
        subset: so many of the pictures; None: all.
        batch_size: pictures in a step; None: the document's.
        queue: past keys of the methods that have a queue; None: the document's.
        epochs: of every run that is trained; None: the document's.
        long: epochs of the rows that a study names as long; None: `epochs`.
        seeds: runs of each row, from seed 0 on.
        repeated: runs of the rows that have another number of them, by row.
        observe_every: epochs between probes and looks inside while a run trains.
        log_every: steps between log lines.
        notes: paragraphs at the head of the page, such as what was seen before the scale was chosen.
        name: the study's name for it; a study fills it in.
        changes: what `changed` made of it, besides `asked`.
    """

    about: str
    data: c.Data | None = None
    asked: c.Data | None = None
    encoder: c.Encoder | None = None
    subset: int | None = None
    batch_size: int | None = None
    queue: int | None = None
    epochs: int | None = None
    long: int | None = None
    seeds: int = 1
    repeated: Mapping[str, int] = field(default_factory=dict)
    observe_every: int = 1
    log_every: int = 10
    notes: tuple[str, ...] = ()
    name: str = ""
    changes: Changes = Changes()

    def changed(
        self,
        *,
        data: c.Data | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        subset: int | None = None,
    ) -> "Scale":
        """Return the scale with other pictures, in size and options as these, or with another number of seeds, epochs
        or pictures. What is None stays.
        """
        wanted = {"pictures": data and c.data_name(data), "seeds": seeds, "epochs": epochs, "subset": subset}
        said = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        return replace(
            self,
            about=f"{self.about}; but {said}" if said else self.about,
            asked=data or self.asked,
            seeds=seeds or self.seeds,
            repeated={} if seeds else self.repeated,
            epochs=epochs or self.epochs,
            long=epochs or self.long,
            subset=subset or self.subset,
            changes=Changes(
                seeds=seeds or self.changes.seeds,
                epochs=epochs or self.changes.epochs,
                subset=subset or self.changes.subset,
            ),
        )

    def seeds_of(self, row: str) -> int:
        """Return how many runs a row has."""
        return self.repeated.get(row, self.seeds)

    def apply(self, run: c.Run) -> c.Run:
        """Return the document's run with this scale's pictures, network and sizes, and with the run's own epochs."""
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
    """A place where jobs are done. It decides no result, except that the number of threads changes the last bits.

    Attributes:
        data_dir: where the pictures are; None: where the library keeps them.
        device: a torch device, such as "cpu" or "cuda:0".
        threads: CPU threads of each job.
        at_once: jobs done at the same time, each in a process of its own.
        engine: has the jobs done on a cluster; None: this process does.
    """

    data_dir: Path | None = None
    device: str = "cpu"
    threads: int = 1
    at_once: int = 1
    engine: Engine | None = None


def differing(document: Mapping[str, c.Run], ours: Mapping[str, c.Run]) -> list[str]:
    """Return how our runs differ from the document's, one line for each setting, with the rows where not all do."""
    rows: dict[str, list[str]] = {}
    for name, run in ours.items():
        for line in differences(to_dict(document[name], stored=False), to_dict(run, stored=False)):
            rows.setdefault(line, []).append(name)
    lines = []
    for line, names in rows.items():
        few = f" (in {', '.join(names)})" if len(names) <= 3 else f" (in {len(names)} of {len(ours)} rows)"
        lines.append(line + ("" if len(names) == len(ours) else few))
    return lines


def seeds_differing(document: Scale, ours: Scale) -> list[str]:
    """Return in one line how many seeds a scale's rows have, where that is not as many as the document's; else none."""
    others: dict[int, list[str]] = {}
    for row, seeds in ours.repeated.items():
        if seeds != ours.seeds:
            others.setdefault(seeds, []).append(row)
    but = "".join(f"; {seeds} of {', '.join(rows)}" for seeds, rows in others.items())
    return [] if not but and ours.seeds == document.seeds else [f"seeds: {document.seeds} -> {ours.seeds}{but}"]
