"""From a study to its page: train what is missing, then tables, figures and findings beside the document's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vergence.config import Data, Folder, instead
from vergence.config.schema import said
from vergence.config.spelling import nearest
from vergence.data import load
from vergence.errors import InputError, VergenceError
from vergence.files.results import Result
from vergence.grid import run_grid
from vergence.grid.status import Failure, GridView
from vergence.grid.watch import run_on
from vergence.grid.worker import failure_of
from vergence.report.compare import views_of
from vergence.report.content import Section
from vergence.report.measures import Results
from vergence.report.page import Page, write_files, write_page
from vergence.runs.pictures import Facts, at_hand, kept_in
from vergence.runs.training import Training
from vergence.study.kept import KEPT, Told, keep, scale_of
from vergence.study.scale import Place, Scale
from vergence.study.study import Plan, Readable, Study

RUNS = "runs"
PAGE = "index.html"
HERE = Place()


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Options of a study's page, besides results.

    Attributes:
        views: whether it has views of some pictures; not where it is published and they must not be.
        command: what makes the page.
        study: the name by which the study is found again, where its page is made anew from its results.
    """

    views: bool = True
    command: str = ""
    study: str = ""


def reproduce(
    study: Study,
    scale: str | Scale,
    out: Path,
    *,
    place: Place = HERE,
    view: GridView | None = None,
    only: Sequence[str] = (),
    page: PageOptions = PageOptions(),
) -> tuple[Page, dict[str, Failure]]:
    """Do what is missing of a study at a scale, then write its page.

    Killed and started again it redoes nothing that is finished. Tables depend on `study`, `scale` and the kind of
    processor alone: not on how many jobs are done at once, not on interruptions. A script calls this under
    `if __name__ == "__main__":`, for the processes that do the jobs import it.

    Args:
        study: what to do and to show.
        scale: how much of it: the name of one of the study's scales, or another scale.
        out: gets `runs/` with a folder for each job, `index.html`, `results.md`, each table and figure as a file, and
            `runs.tar.gz`, from which `rebuild` makes the page again.
        place: where the pictures are, what to compute on, and how many jobs at a time.
        view: told what happens; None: nobody is.
        only: rows to do; none: all. The others stand on the page if they were done before, else as not run.
        page: what the page shows besides results.

    Returns:
        The page, and what failed, by the job's name.

    Raises:
        InputError: the scale, or a row of `only` or of a claim, is not one of the study's.
    """
    scale = _scale_named(study, scale)
    plan, jobs = planned(study, scale, out, place, only)
    view = view or GridView()
    if place.engine is not None:
        failures = run_on(place.engine, jobs, out / RUNS, view)
    else:
        failures = run_grid(jobs, out / RUNS, at_once=place.at_once, threads=place.threads, view=view)
    results = read(plan, out / RUNS, failures)
    made = page_of(study, scale, results, failures, page.command)
    if page.views and study.base in made.runs:
        base = made.runs[study.base][0].run  # it may have begun where its pictures are no more
        asked = base.data if scale.asked is None else instead(scale.asked, base.data)
        made = replace(made, views=views_of(replace(base, data=asked), place.data_dir))
    write_files(made, out)
    write_page(made, out / PAGE)
    keep(plan, out / RUNS, out / KEPT, Told(study=page.study, command=page.command, scale=scale, failures=failures))
    return made, failures


def planned(
    study: Study, scale: Scale, out: Path, place: Place, only: Sequence[str] = ()
) -> tuple[Plan, list[Readable]]:
    """Return the jobs of a study by row, on the pictures at hand, and in one list those of the rows that are wanted.

    Raises:
        InputError: a row of `only` or of a claim is not one of the study's.
    """
    plan = _on_pictures(study.plan(scale, place), out / RUNS)
    study.check({*plan, *study.document(study.full)})
    for row in only:
        if row not in plan:
            raise InputError(f"--rows: no row {said(row)}; {nearest(row, plan)}")
    return plan, [job for row, of_row in plan.items() if not only or row in only for job in of_row]


def do_jobs(
    jobs: Sequence[Readable], out: Path, *, place: Place, view: GridView, name: str | None = None
) -> dict[str, Failure]:
    """Do jobs of a study and make no page: one of them, or as a runner beside others what nobody else does.

    Args:
        jobs: of `planned`.
        out: as of `reproduce`.
        place: where they are done.
        view: told what happens.
        name: of the one job; None: all, but those that failed and those that others hold in the end.

    Raises:
        InputError: there is no job of that name; or the pictures are not on this machine, which then takes no job.
    """
    if name is not None:
        names = {job.name: job for job in jobs}
        if name not in names:
            raise InputError(f"--job: no job {said(name)}; {nearest(name, names)}")
        jobs = [names[name]]
    else:
        for data, data_dir in {(job.run.data, job.data_dir): None for job in jobs if isinstance(job, Training)}:
            load(data, "pretrain", data_dir=data_dir)
    return run_grid(jobs, out / RUNS, at_once=place.at_once, threads=place.threads, view=view, helps=name is None)


def _scale_named(study: Study, scale: str | Scale) -> Scale:
    if isinstance(scale, Scale):
        return scale
    if scale not in study.scales:
        raise InputError(f"unknown scale {said(scale)}; {nearest(scale, study.scales)}")
    return study.scales[scale]


def rebuild(study: Study, index: Mapping[str, Any], root: Path) -> Page:
    """Return the page of results that were kept, without training anything.

    Args:
        study: the one they are of.
        index: the index of the file, as `kept` returns it.
        root: the folder with those of the jobs.

    Raises:
        InputError: the study has no such scale, or the index is not as `keep` writes it.
    """
    scale = scale_of(study, index)
    plan = study.plan(scale, Place())
    results: dict[str, list[Any]] = {row: [] for row in plan}
    failures = {name: Failure("", message, 1) for name, message in index["failures"].items()}
    for row, jobs in plan.items():
        for job, folder in zip(jobs, index["rows"].get(row, ()), strict=False):
            if folder is not None:
                results[row].append(job.read(root / folder))
    return page_of(study, scale, results, failures, index["command"])


def _on_pictures(plan: Plan, root: Path) -> Plan:
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

    return {row: [knowing(job) for job in jobs] for row, jobs in plan.items()}


def read(plan: Plan, root: Path, failures: dict[str, Failure]) -> dict[str, list[Any]]:
    """Return the results of the jobs that are finished, by row; what cannot be read is added to `failures` instead."""
    results: dict[str, list[Any]] = {row: [] for row in plan}
    for row, jobs in plan.items():
        for job in jobs:
            try:
                if job.finished(root / job.folder):
                    results[row].append(job.read(root / job.folder))
            except VergenceError as error:
                failures.setdefault(job.name, failure_of(error))
    return results


def page_of(study: Study, scale: Scale, results: Results, failures: Mapping[str, Failure], command: str = "") -> Page:
    """Return the page of a study's results."""
    parts = {"Findings": study.findings, "Tables": study.tables, "Figures": study.figures}
    sections = (Section(title, items=tuple(make(results)), slug=title.lower()) for title, make in parts.items())
    return Page(
        title=study.title,
        lead=(*study.lead, f"Scale: {scale.name + ', ' if scale.name else ''}{scale.about}.", *scale.notes),
        deviations=tuple(study.differences(scale)),
        sections=tuple(section for section in sections if section.items),
        runs={row: kept for row, of_row in results.items() if (kept := [r for r in of_row if isinstance(r, Result)])},
        base=study.base,
        failures={job: failure.message for job, failure in failures.items()},
        command=command,
    )
