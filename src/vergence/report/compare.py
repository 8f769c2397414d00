"""Any runs as a page: what `vergence report` shows."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vergence.config import CIFAR10, STL10, Folder, Run
from vergence.errors import InputError, VergenceError
from vergence.files.results import Result, Results, read_course, read_result
from vergence.files.run_folder import RUN, found_again, read_run
from vergence.metrics.table import SHOWN, shown
from vergence.report import scores
from vergence.report.content import (
    Bars,
    Column,
    Curve,
    Dash,
    Figure,
    Page,
    Panels,
    Row,
    Section,
    Table,
    Value,
    identifier,
)
from vergence.report.naming import about_pictures, given_folders, names_of, names_of_pictures, numbered
from vergence.report.rows import PROBES, accuracy_of, across, card, epochs_of, mean_of, panels, state_of


def runs_page(
    folders: Sequence[Path],
    *,
    title: str = "",
    data_dir: Path | None = None,
    show_views: bool = True,
    command: str = "",
) -> tuple[Page, dict[Path, str]]:
    """Runs side by side; those that differ in nothing but the seed are one row. The first row is the base.

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
    page = Page(
        title=title or f"{count} run{'' if count == 1 else 's'}{' compared' if count > 1 else ''}",
        lead=tuple(_lead(count, runs, pictures)),
        sections=(Section("Side by side", (), tuple(_items(runs, pictures)), slug="side-by-side"),) if runs else (),
        runs=runs,
        base=next(iter(runs), None),
        failures=failures | {f"not shown: {folder}": problem for folder, problem in problems.items()},
        cards=tuple(card(name, _about(results, pictures[name]), results) for name, results in runs.items()),
        alerts=tuple(_alerts(runs, pictures)),
        views=_views_of(base, data_dir) if base and show_views and not changed[base.folder] else None,
        command=command,
    )
    return page, problems


def _rows(found: Sequence[tuple[Result, str]]) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """Runs by the name of their row, and what the pictures of each row are called."""
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
    epochs = ", ".join(dict.fromkeys(map(epochs_of, results)))
    seeds = ", ".join(str(result.run.seed) for result in results)
    folders = ", ".join(given_folders(results))
    return (
        f"{results[0].run.method.kind} on {about_pictures(results[0], pictures)}; {epochs} "
        f"epoch{'' if epochs == '1' else 's'}, seed{'' if len(results) == 1 else 's'} {seeds}"
    ) + (f"; in {folders}" if folders else "")


def _alerts(runs: Results, pictures: Mapping[str, str]) -> Iterable[str]:
    several = len(set(pictures.values())) > 1
    for data in dict.fromkeys(pictures.values()):
        rows = {name: [r.summary for r in results] for name, results in runs.items() if pictures[name] == data}
        if said := scores.best_in_collapse(rows, f" on {data}" if several else ""):
            yield said


def _is_at_hand(run: Run, data_dir: Path | None) -> bool:
    """Whether to look for a run's pictures: to draw from a published set would download it."""
    return data_dir is not None or not isinstance(run.data, CIFAR10 | STL10)


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


def _views_of(result: Result, data_dir: Path | None) -> bytes | None:
    """Return the views of a run whose pictures may lie elsewhere now; None where they are not at hand."""
    run = result.run
    if not _is_at_hand(run, data_dir):
        return None
    return views_of(replace(run, data=found_again(run.data, result.folder, data_dir)), data_dir)


def views_of(run: Run, data_dir: Path | None) -> bytes | None:
    """The run's views as a PNG; None where its pictures are not at hand."""
    from vergence.report.views import draw_views

    try:
        return draw_views(run, data_dir=data_dir)
    except VergenceError:
        return None


def _read(folder: Path) -> tuple[Result, str]:
    """A run, and where it is not finished, or nothing says that it is, the line that says so."""
    try:
        return read_result(folder), ""
    except InputError as error:
        if not os.path.exists(folder / RUN):
            raise
        result = read_course(folder, read_run(folder / RUN), {})
        if not result.lines:
            raise
        return result, str(error)


def _lead(count: int, runs: Results, pictures: Mapping[str, str]) -> Iterable[str]:
    if len(runs) < count:
        yield "Runs in one row differ in nothing but the seed."
    if not count:
        yield "No run could be read."
        return
    if len(sets := dict.fromkeys(pictures.values())) > 1:
        yield (
            f"The runs are on {len(sets)} sets of pictures: {', '.join(sets)}. Accuracies on one set say nothing about "
            "those on another; each has figures of its own."
        )
    yield (
        "Cosines, alignment, uniformity and rank are of training batches, means over the log lines of the last epoch; "
        "accuracies are in percent, of the last checkpoint, never of the best one on the test set."
    )


def _items(runs: Results, pictures: Mapping[str, str]) -> Iterable[Table | Figure]:
    """Yield tables and figures of where the runs ended, then of how they came there, each set of pictures apart."""
    yield _ends(runs, pictures)
    sets = list(dict.fromkeys(pictures.values()))
    of_set = {data: {name: results for name, results in runs.items() if pictures[name] == data} for data in sets}
    slugs = numbered([identifier(data) for data in sets])
    ends = ["" if len(sets) == 1 else f"-{identifier(slug)}" for slug in slugs]
    for (data, rows), end in zip(of_set.items(), ends, strict=True):
        yield from _accuracies(rows, data, end)
    yield _numbers(runs)
    for (data, rows), end in zip(of_set.items(), ends, strict=True):
        yield from _courses(rows, [list(runs).index(name) for name in rows], data, end)


def _ends(runs: Results, pictures: Mapping[str, str]) -> Table:
    known = [probe for probe in PROBES if any(accuracy_of(row, probe).mean is not None for row in runs.values())]
    judged = any(result.summary.get("representation") for row in runs.values() for result in row)
    named = all(name.startswith(results[0].run.method.kind) for name, results in runs.items())
    columns = (
        Column("verdict", about="at the end, of the projections"),
        *([Column("representation", about="the verdict at the end, of what the encoder gives")] if judged else []),
        Column("data", about="pictures that were trained on: name, side in pixels, number where it is known"),
        *([] if named else [Column("method")]),
        Column("epochs"),
        *(Column(PROBES[probe], 1, "accuracy in percent") for probe in known),
    )
    rows = []
    for name, results in runs.items():
        cells: dict[str, Value | str] = {
            "verdict": _counted([state_of(result) for result in results]),
            "data": about_pictures(results[0], pictures[name]),
            "method": results[0].run.method.kind,
            "epochs": ", ".join(dict.fromkeys(map(epochs_of, results))),
            "representation": _counted([state_of(result, "representation") for result in results]),
        }
        cells |= {PROBES[probe]: accuracy_of(results, probe) for probe in known}
        shown = {column.name: cells[column.name] for column in columns}
        rows.append(Row(name, shown, tuple(result.run.key for result in results)))
    mixed = scores.mixed_protocols({name: [r.summary for r in results] for name, results in runs.items()})
    return Table("comparison", "Where the runs ended", columns, tuple(rows), " ".join(mixed))


def _counted(states: Sequence[str | None]) -> str:
    """The states of a row's runs; how many are in each, where they differ."""
    found = Counter(state for state in states if state)
    return ", ".join(state if len(found) == 1 else f"{count} {state}" for state, count in found.most_common())


def _numbers(runs: Results) -> Table:
    cells = {name: {m.heading: mean_of(results, m.name) for m in shown("page")} for name, results in runs.items()}
    columns = tuple(
        Column(metric.heading, metric.digits, metric.reading)
        for metric in shown("page")
        if metric.name in SHOWN["end"] or any(of_row[metric.heading].mean is not None for of_row in cells.values())
    )
    rows = tuple(
        Row(name, {column.name: of_row[column.name] for column in columns}, tuple(r.run.key for r in runs[name]))
        for name, of_row in cells.items()
    )
    return Table("numbers", "What the verdicts looked at", columns, rows)


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
    """The accuracies that some runs of a row have and others lack."""
    for row, results in runs.items():
        for probe, name in PROBES.items():
            if 0 < (count := sum(result.accuracy(probe) is not None for result in results)) < len(results):
                yield f"{row}, {name} ({count} of {len(results)})"
