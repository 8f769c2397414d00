"""From an experiment to its page: train what is missing, then tables, figures and findings beside the document's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence.config import Data, Folder, instead
from vergence.config.schema import nearest, said
from vergence.errors import InputError, VergenceError
from vergence.experiments.experiment import Experiment, Place, Readable, Rows, Scale
from vergence.files.results import Result
from vergence.grid import run_grid
from vergence.grid.standing import Failure, GridView
from vergence.grid.worker import failure_of
from vergence.report.compare import views_of
from vergence.report.content import Section
from vergence.report.page import Page, write_files, write_page
from vergence.runs.pictures import Facts, at_hand, kept_in
from vergence.runs.training import Training

RUNS = "runs"
PAGE = "index.html"


def reproduce(
    experiment: Experiment,
    scale: Scale,
    out: Path,
    *,
    place: Place,
    at_once: int,
    threads: int,
    view: GridView,
    only: Sequence[str] = (),
    show_views: bool = True,
    name: str = "",
    command: str = "",
) -> tuple[Page, dict[str, Failure]]:
    """Do what is missing of an experiment at a scale, then write its page.

    Killed and started again it redoes nothing that is finished. Tables depend on `experiment`, `scale` and the kind of
    processor alone: not on `at_once`, not on interruptions.

    Args:
        experiment: a module with the names of `Experiment`.
        scale: how much of it.
        out: gets `runs/` with a folder for each job, `index.html`, `results.md`, and each table and figure as a file.
        place: where the pictures are and what to compute on.
        at_once: jobs at a time.
        threads: CPU threads of each; more or fewer change the last bits of a result.
        view: told what happens.
        only: rows to do; none: all. The others stand on the page if they were done before, else as not run.
        show_views: whether the page shows views of some pictures; not where it is published and they must not be.
        name: of the scale, for the page.
        command: that makes the page, to be printed on it.

    Raises:
        InputError: a row of `only` is not one.

    Returns:
        The page, and what failed, by the job's name.
    """
    rows = _on_pictures(experiment.jobs(scale, place), out / RUNS)
    for row in only:
        if row not in rows:
            raise InputError(f"--rows: no row {said(row)}; {nearest(row, rows)}")
    jobs = [job for row, of_row in rows.items() if not only or row in only for job in of_row]
    failures = run_grid(jobs, out / RUNS, at_once=at_once, threads=threads, view=view)
    results = read(rows, out / RUNS, failures)
    page = page_of(experiment, scale, results, failures, name=name, command=command)
    if show_views and experiment.BASE in page.runs:
        base = page.runs[experiment.BASE][0].run  # it may have begun where its pictures are no more
        asked = base.data if scale.asked is None else instead(scale.asked, base.data)
        page = replace(page, views=views_of(replace(base, data=asked), place.data_dir))
    write_files(page, out)
    write_page(page, out / PAGE)
    return page, failures


def _on_pictures(rows: Rows, root: Path) -> Rows:
    """Return the jobs with what their names do not say of a folder of pictures: which they are, where the run is kept.

    So no job takes a run on other pictures for its own, and one is found again that began on these elsewhere.
    """
    known: dict[tuple[Data, int | None, Path | None], Facts | None] = {}

    def knowing(job: Readable) -> Readable:
        if not isinstance(job, Training) or not isinstance(job.run.data, Folder):
            return job
        which = (job.run.data, job.run.subset, job.data_dir)
        if which not in known:
            known[which] = at_hand(job.run, job.data_dir)
        return replace(job, kept=kept_in(job.run, root, job.data_dir).name, pictures=known[which])

    return {row: [knowing(job) for job in jobs] for row, jobs in rows.items()}


def read(rows: Rows, root: Path, failures: dict[str, Failure]) -> dict[str, list[Any]]:
    """The results of the jobs that are finished, by row; what cannot be read is left out and added to `failures`."""
    results: dict[str, list[Any]] = {row: [] for row in rows}
    for row, jobs in rows.items():
        for job in jobs:
            try:
                if job.finished(root / job.folder):
                    results[row].append(job.read(root / job.folder))
            except VergenceError as error:
                failures.setdefault(job.name, failure_of(error))
    return results


def page_of(
    experiment: Experiment,
    scale: Scale,
    results: Mapping[str, list[Any]],
    failures: Mapping[str, Failure],
    *,
    name: str,
    command: str,
) -> Page:
    """The page of an experiment's results."""
    return Page(
        title=experiment.TITLE,
        lead=(*experiment.LEAD, f"Scale: {name + ', ' if name else ''}{scale.about}."),
        deviations=tuple(experiment.deviations(scale)),
        sections=(
            Section("Findings", items=tuple(experiment.findings(results)), slug="findings"),
            Section("Tables", items=tuple(experiment.tables(results)), slug="tables"),
            Section("Figures", items=tuple(experiment.figures(results)), slug="figures"),
        ),
        runs={row: kept for row, of_row in results.items() if (kept := [r for r in of_row if isinstance(r, Result)])},
        base=experiment.BASE,
        failures={job: failure.message for job, failure in failures.items()},
        command=command,
    )
