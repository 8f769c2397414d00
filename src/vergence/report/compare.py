"""Any runs as a page: what `vergence report` shows."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence.config import CIFAR10, CIFAR100, STL10, Folder, Imagenette, Run, TinyImageNet, Watched
from vergence.errors import InputError, VergenceError
from vergence.files.results import Result, Results, described, read_course, read_result
from vergence.files.run_folder import RUN, found_again
from vergence.metrics.table import SHOWN, shown
from vergence.report import scores
from vergence.report.content import Bars, Curve, Dash, Figure, Page, Panels, Section, Table, identifier
from vergence.report.measures import Cell, logged, make_table
from vergence.report.naming import about_pictures, given_folders, names_of, names_of_pictures, numbered
from vergence.report.rows import PROBES, accuracy_columns, accuracy_of, across, epochs_of, panels, state_of, with_seeds


def runs_page(
    folders: Sequence[Path],
    *,
    title: str = "",
    data_dir: Path | None = None,
    show_views: bool = True,
    command: str = "",
) -> tuple[Page, dict[Path, str]]:
    """Return a page of runs side by side; those that differ in nothing but the seed are one row, the first is the base.

    A run that is not finished is shown as far as it came, in a row of its own: it enters no mean of finished ones.
    Whatever is missing is named on the page.

    Args:
        folders: one or more runs' folders.
        title: of the page; by default it says how many runs there are.
        data_dir: where the pictures are, of which the base's views are shown; not shown where they are not found.
        show_views: whether to show them at all.
        command: what makes the page.

    Returns:
        The page, and why a folder is not shown: it holds no run, or nothing of one yet, or a run that another holds.
    """
    problems: dict[Path, str] = {}
    found: list[tuple[Result, str]] = []
    seen: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        try:
            result, short = _read(folder)
        except InputError as error:
            problems[folder] = str(error)
            continue
        if (twin := seen.setdefault(result.identity, folder)) != folder:
            problems[folder] = f"{folder}: the same run as {twin}; name one of the two"
            continue
        found.append((result, short))
    runs, pictures = _rows(found)
    unfinished = {result.folder: said for result, said in found}
    changed = {result.folder: _changed(result, data_dir) if show_views else "" for result, _ in found}
    failures = {
        f"{name}, seed {result.run.seed}": "; ".join(said)
        for name, results in runs.items()
        for result in results
        if (said := [line for line in (unfinished[result.folder], *result.gaps, changed[result.folder]) if line])
    }
    count, base = len(found), next((results[0] for results in runs.values()), None)
    sets = {
        data: {name: results for name, results in runs.items() if pictures[name] == data}
        for data in dict.fromkeys(pictures.values())
    }
    page = Page(
        title=title or f"{count} run{'' if count == 1 else 's'}{' compared' if count > 1 else ''}",
        lead=tuple(_lead(count, runs, sets)),
        sections=(Section("Side by side", (), tuple(_items(runs, sets)), slug="side-by-side"),) if runs else (),
        runs=runs,
        base=next(iter(runs), None),
        failures=failures | {f"not shown: {folder}": problem for folder, problem in problems.items()},
        about={name: _about(results, pictures[name]) for name, results in runs.items()},
        alerts=tuple(_alerts(sets)),
        views=_views_at_hand(base, data_dir) if base and show_views and not changed[base.folder] else None,
        command=command,
    )
    return page, problems


def _rows(found: Sequence[tuple[Result, str]]) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """Return runs by the name of their row, and what the pictures of each row are called."""
    groups: dict[tuple[str, str, bool], list[Result]] = {}
    of_pictures = names_of_pictures([result for result, _ in found])
    for (result, unfinished), pictures in zip(found, of_pictures, strict=True):
        groups.setdefault((replace(result.run, seed=0).key, pictures, bool(unfinished)), []).append(result)
    kinds: dict[tuple[str, str], list[Result]] = {}
    for (key, pictures, _), results in groups.items():
        kinds.setdefault((key, pictures), []).extend(results)
    called = names_of(
        [results[0].run for results in kinds.values()],
        [[result.folder for result in results] for results in kinds.values()],
        [pictures for _, pictures in kinds],
    )
    names = dict(zip(kinds, called, strict=True))
    of_group = numbered([names[key, data] + (", unfinished" if short else "") for key, data, short in groups])
    runs = {
        name: sorted(results, key=lambda result: result.run.seed)
        for name, results in zip(of_group, groups.values(), strict=True)
    }
    return runs, {name: pictures for name, (_, pictures, _) in zip(of_group, groups, strict=True)}


def _about(results: Sequence[Result], pictures: str) -> str:
    epochs = epochs_of(results)
    folders = ", ".join(given_folders(results))
    return (
        f"{results[0].run.method.kind} on {about_pictures(results[0], pictures)}; {epochs} "
        f"epoch{'' if epochs == '1' else 's'}, {with_seeds(results)}"
    ) + (f"; in {folders}" if folders else "")


def _alerts(sets: Mapping[str, Results]) -> Iterable[str]:
    for data, runs in sets.items():
        if said := scores.best_in_collapse(_summaries(runs), f" on {data}" if len(sets) > 1 else ""):
            yield said


def _summaries(runs: Results) -> dict[str, list[Mapping[str, Any]]]:
    return {name: [result.summary for result in results] for name, results in runs.items()}


def _changed(result: Result, data_dir: Path | None) -> str:
    """Return what to say where the pictures at hand are not those of a run; empty where they are, or there are none."""
    if not isinstance(result.run.data, Folder):
        return ""
    from vergence.runs.pictures import unlike

    try:
        how = unlike(result.run, result.folder, data_dir)
    except VergenceError as error:
        return f"whether the pictures at hand are those of the run is not known: {error}"
    return how and f"the pictures at hand are not those of the run: {how}"


def _views_at_hand(result: Result, data_dir: Path | None) -> bytes | None:
    """Return the views of a run whose pictures may lie elsewhere now; None where they are not at hand."""
    run = result.run
    if isinstance(run, Watched):
        return None
    downloaded = CIFAR10 | CIFAR100 | STL10 | Imagenette | TinyImageNet
    if data_dir is None and isinstance(run.data, downloaded):  # to draw from a published set would download it
        return None
    return views_of(replace(run, data=found_again(run.data, result.folder, data_dir)), data_dir)


def views_of(run: Run, data_dir: Path | None) -> bytes | None:
    """Return the run's views as a PNG; None where its pictures are not at hand."""
    from vergence.report.views import draw_views

    try:
        return draw_views(run, data_dir=data_dir)
    except VergenceError:
        return None


def _read(folder: Path) -> tuple[Result, str]:
    """Return a run and, where it is not finished or nothing says that it is, the line that says so."""
    try:
        return read_result(folder), ""
    except InputError as error:
        if not os.path.exists(folder / RUN):
            raise
        result = read_course(folder, described(folder), {})
        if not result.lines:
            raise
        return result, str(error)


def _lead(count: int, runs: Results, sets: Mapping[str, Results]) -> Iterable[str]:
    if len(runs) < count:
        yield "Runs in one row differ in nothing but the seed."
    if not count:
        yield "No run could be read."
        return
    if len(sets) > 1:
        yield (
            f"The runs are on {len(sets)} sets of pictures: {', '.join(sets)}. Accuracies on one set say nothing about "
            "those on another; each has figures of its own."
        )
    yield (
        "Cosines, alignment, uniformity and rank are of training batches, means over the log lines of the last epoch; "
        "accuracies are in percent, of the last checkpoint, never of the best one on the test set."
    )


def _items(runs: Results, sets: Mapping[str, Results]) -> Iterable[Table | Figure]:
    """Yield tables and figures of where the runs ended, then of how they came there, each set of pictures apart."""
    yield _ends(runs, sets)
    slugs = numbered([f"-{identifier(data)}" for data in sets], "{}-{}") if len(sets) > 1 else [""]
    for (data, rows), end in zip(sets.items(), slugs, strict=True):
        yield from _accuracies(rows, data, end)
    yield _numbers(runs)
    for (data, rows), end in zip(sets.items(), slugs, strict=True):
        yield from _courses(rows, [list(runs).index(name) for name in rows], data, end)


def tables_beside(runs: Results) -> Iterable[Table]:
    """Yield the tables of runs by row, all on the same pictures: where they ended; those without results left out."""
    if found := {name: results for name, results in runs.items() if results}:
        yield _ends(found, _alike(found))
        yield _numbers(found)


def figures_beside(runs: Results) -> Iterable[Figure]:
    """Yield the figures of runs by row, all on the same pictures: accuracies, and how they came there."""
    found = {name: results for name, results in runs.items() if results}
    for data, rows in _alike(found).items():
        yield from _accuracies(rows, data, "")
        yield from _courses(rows, range(len(rows)), data, "")


def _alike(runs: Results) -> dict[str, Results]:
    firsts = [results[0] for results in runs.values()]
    return dict.fromkeys(names_of_pictures(firsts)[:1], runs)


def _ends(runs: Results, sets: Mapping[str, Results]) -> Table:
    pictures = {name: about_pictures(results[0], data) for data, rows in sets.items() for name, results in rows.items()}
    judged = any(result.summary.get("representation") for row in runs.values() for result in row)
    named = all(name.startswith(results[0].run.method.kind) for name, results in runs.items())

    def verdict(of: str) -> Callable[[str, Sequence[Result]], str]:
        return lambda _, results: _counted([state_of(result, of) for result in results])

    about = "pictures that were trained on: name, side in pixels, number where it is known"
    of_encoder = "the verdict at the end, of what the encoder gives"
    columns = (
        Cell("verdict", verdict("verdict"), about="at the end, of the projections"),
        *([Cell("representation", verdict("representation"), about=of_encoder)] if judged else []),
        Cell("data", lambda name, _: pictures[name], about=about),
        *([] if named else [Cell("method", lambda _, results: results[0].run.method.kind)]),
        Cell("epochs", lambda _, results: epochs_of(results)),
        *accuracy_columns(runs.values(), "accuracy in percent"),
    )
    mixed = " ".join(scores.mixed_protocols(_summaries(runs)))
    return make_table("comparison", "Where the runs ended", columns, runs, mixed)


def _counted(states: Sequence[str | None]) -> str:
    """Return the states of a row's runs, and how many are in each where they differ."""
    found = Counter(state for state in states if state)
    return ", ".join(state if len(found) == 1 else f"{count} {state}" for state, count in found.most_common())


def _numbers(runs: Results) -> Table:
    columns = [
        logged(metric.name, metric.heading, digits=metric.digits, about=metric.reading)
        for metric in shown("page")
        if metric.name in SHOWN["end"] or any(r.mean(metric.name) is not None for row in runs.values() for r in row)
    ]
    return make_table("numbers", "What the verdicts looked at", columns, runs)


def _courses(runs: Results, colours: Sequence[int], data: str, end: str) -> Iterable[Figure]:
    def of_rows(metric: str, dash: Dash) -> Iterable[Curve]:
        for colour, (name, results) in zip(colours, runs.items(), strict=True):
            if (curve := across(name, results, metric, colour, dash)) is not None:
                yield curve

    if drawn := panels(of_rows):
        several = any(len(results) > 1 for results in runs.values())
        caption = "Over training, one curve a row." + (
            " Where a row has several seeds: their mean, and a band from the lowest to the highest." if several else ""
        )
        title = f"How they came there{f': {data}' if end else ''}"
        yield Figure(f"courses{end}", title, caption, Panels(drawn, 2))


def _accuracies(runs: Results, data: str, end: str) -> Iterable[Figure]:
    values = {probe: [accuracy_of(results, probe) for results in runs.values()] for probe in PROBES}
    values = {probe: row for probe, row in values.items() if any(value.mean is not None for value in row)}
    if not values:
        return
    caption = "Of the last checkpoint; means over the seeds of a row. The table has their spread."
    if few := ", ".join(_few(runs)):
        caption += f" Means over fewer runs than the row has: {few}."
    marks = {PROBES[probe]: [value.baselines.get("untrained") for value in row] for probe, row in values.items()}
    if not any(mark is not None for row in marks.values() for mark in row):
        marks = {}
    else:
        caption += f" The tick is the untrained encoder: {scores.MEANINGS['untrained']}."
    bars = {PROBES[probe]: [value.mean for value in row] for probe, row in values.items()}
    drawn = Bars("percent", tuple(runs), bars, 1, marks, "untrained" if marks else "")
    yield Figure(f"accuracies{end}", f"Accuracy on {data}", caption, drawn)


def _few(runs: Results) -> Iterable[str]:
    """Yield the accuracies that some runs of a row have and others lack."""
    for row, results in runs.items():
        for probe, name in PROBES.items():
            if 0 < (count := sum(result.accuracy(probe) is not None for result in results)) < len(results):
                yield f"{row}, {name} ({count} of {len(results)})"
