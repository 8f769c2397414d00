"""Any runs as a page: what `vergence report` shows."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence.config import CIFAR10, STL10, Folder, Run
from vergence.errors import InputError, VergenceError
from vergence.report.content import Bars, Column, Curve, Dash, Figure, Page, Panels, Row, Section, Table, Value
from vergence.report.rows import PROBES, across, epochs_of, mean_of, panels, state_of
from vergence.results import Result, Results, read_course, read_result
from vergence.runfile import RUN, found_again, read_run
from vergence.schema import to_dict

MEANS = {
    "pos cos": ("pos_cos", 3, "cosine of the two views of a picture"),
    "neg cos": ("neg_cos", 3, "cosine of different pictures; 1 at collapse"),
    "alignment": ("alignment", 3, "squared distance of the two views' predictions"),
    "uniformity": ("uniformity", 2, "log of the mean potential; lower is more uniform"),
    "rank": ("effective_rank", 1, "effective rank of the projections; 1 at collapse"),
}
"""Columns with the metric behind each, its digits and what it means."""

MOST_NAMED = 3
"""Differences that a row's name spells out; with more it has the key instead."""


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
    groups: dict[tuple[tuple[str, str], bool], list[Result]] = {}
    seen: dict[str, Path] = {}
    failures: dict[str, str] = {}
    others: set[str] = set()
    for folder in dict.fromkeys(folders):
        try:
            result, unfinished = _read(folder)
        except InputError as error:
            problems[folder] = str(error)
            continue
        if (twin := seen.setdefault(result.identity, folder)) != folder:
            problems[folder] = f"{folder}: the same run as {twin}; name one of the two"
            continue
        groups.setdefault(((replace(result.run, seed=0).key, result.data), bool(unfinished)), []).append(result)
        if changed := _changed(result, data_dir) if show_views else "":
            others.add(result.identity)
        if said := [line for line in (unfinished, *result.gaps, changed) if line]:
            failures[result.identity] = "; ".join(said)
    kinds = {key: results[0].run for (key, _), results in groups.items()}
    named = names_of(list(kinds.values()))
    names = {
        key: f"{name}, pictures {key[1]}" if named.count(name) > 1 else name
        for key, name in zip(kinds, named, strict=True)
    }
    runs = {
        f"{names[key]}, unfinished" if unfinished else names[key]: sorted(results, key=lambda r: r.run.seed)
        for (key, unfinished), results in groups.items()
    }
    count, base = len(seen), next(iter(groups.values()), [None])[0]
    page = Page(
        title=title or f"{count} run{'' if count == 1 else 's'}{' compared' if count > 1 else ''}",
        lead=tuple(_lead(count, len(runs))),
        sections=(Section("Side by side", (), (_table(runs), *_figures(runs)), slug="side-by-side"),) if runs else (),
        runs=runs,
        base=next(iter(runs), None),
        failures={
            f"{name}, seed {result.run.seed}": failures[result.identity]
            for name, results in runs.items()
            for result in results
            if result.identity in failures
        }
        | {f"not shown: {folder}": problem for folder, problem in problems.items()},
        views=_views_of(base, data_dir) if base and show_views and base.identity not in others else None,
        command=command,
    )
    return page, problems


def _is_at_hand(run: Run, data_dir: Path | None) -> bool:
    """Whether to look for a run's pictures: to draw from a published set would download it."""
    return data_dir is not None or not isinstance(run.data, CIFAR10 | STL10)


def _changed(result: Result, data_dir: Path | None) -> str:
    """Return what to say where the pictures at hand are not those of a run; empty where they are, or there are none."""
    if not isinstance(result.run.data, Folder):
        return ""
    from vergence.pictures import unlike

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


def _lead(count: int, groups: int) -> Iterable[str]:
    if groups < count:
        yield "Runs in one row differ in nothing but the seed."
    if not count:
        yield "No run could be read."
        return
    yield (
        "Cosines, alignment, uniformity and rank are of training batches, means over the log lines of the last epoch; "
        "accuracies are in percent, of the last checkpoint, never of the best one on the test set."
    )


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its method, and for all but the first of a method, where it differs from that first one."""
    first: dict[str, dict[str, str]] = {}
    names = []
    for run in runs:
        own = dict(_leaves(to_dict(replace(run, seed=0))))
        other = first.setdefault(run.method.kind, own)
        paths = [path for path in own if own[path] != other.get(path)]
        slots = [path.removesuffix("kind") for path in paths if path.endswith(".kind")]  # what is in them follows
        paths = [p for p in paths if p.endswith(".kind") or not any(p.startswith(slot) for slot in slots)]
        said = [f"{_spoken(path)} {own[path]}" for path in paths]
        names.append(", ".join([run.method.kind, *(said if len(said) <= MOST_NAMED else [run.key])]))
    return [f"{name}, {run.key}" if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)]


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if not isinstance(value, Mapping):
        yield path, value if isinstance(value, str) else json.dumps(value)
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _spoken(path: str) -> str:
    """As an option names it."""
    return path.removeprefix("method.").removesuffix(".kind")


def _table(runs: Results) -> Table:
    known = [probe for probe in PROBES if any(r.accuracy(probe) is not None for row in runs.values() for r in row)]
    columns = (
        Column("method"),
        Column("epochs"),
        *(Column(PROBES[probe], 1, "accuracy in percent") for probe in known),
        *(Column(name, digits, about) for name, (_, digits, about) in MEANS.items()),
        Column("verdict", about="at the end"),
    )
    rows = []
    for name, results in runs.items():
        cells: dict[str, Value | str] = {"method": results[0].run.method.kind}
        cells["epochs"] = ", ".join(dict.fromkeys(map(epochs_of, results)))
        cells |= {PROBES[probe]: Value.over([r.accuracy(probe) for r in results]) for probe in known}
        cells |= {column: mean_of(results, metric) for column, (metric, _, _) in MEANS.items()}
        states = Counter(state for result in results if (state := state_of(result)))
        cells["verdict"] = ", ".join(s if len(states) == 1 else f"{n} {s}" for s, n in states.most_common())
        rows.append(Row(name, cells, tuple(result.run.key for result in results)))
    return Table("comparison", "Where the runs ended", columns, tuple(rows))


def _figures(runs: Results) -> list[Figure]:
    figures = []

    def of_rows(metric: str, dash: Dash) -> Iterable[Curve]:
        for i, (name, results) in enumerate(runs.items()):
            if (curve := across(name, results, metric, i, dash)) is not None:
                yield curve

    if drawn := panels(of_rows):
        several = any(len(results) > 1 for results in runs.values())
        caption = "Over training, one curve a row." + (
            " Where a row has several seeds: their mean, and a band from the lowest to the highest." if several else ""
        )
        figures.append(Figure("courses", "How they came there", caption, Panels(drawn, 2)))
    scores = {
        PROBES[probe]: [Value.over([r.accuracy(probe) for r in results]).mean for results in runs.values()]
        for probe in PROBES
    }
    scores = {probe: values for probe, values in scores.items() if any(value is not None for value in values)}
    if scores:
        caption = "Of the last checkpoint; means over the seeds of a row. The table has their spread."
        if few := ", ".join(_few(runs)):
            caption += f" Means over fewer runs than the row has: {few}."
        figures.append(Figure("accuracies", "Accuracy", caption, Bars("percent", tuple(runs), scores, 1)))
    return figures


def _few(runs: Results) -> Iterable[str]:
    """The accuracies that some runs of a row have and others lack."""
    for row, results in runs.items():
        for probe, name in PROBES.items():
            if 0 < (count := sum(result.accuracy(probe) is not None for result in results)) < len(results):
                yield f"{row}, {name} ({count} of {len(results)})"
