"""What a page says of one row of runs: curves, verdicts over time, accuracies, and how it differs from the base row."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from vergence.config import Run
from vergence.config.schema import differences, to_dict
from vergence.files.results import Result, Results
from vergence.metrics.table import TABLE, Course, courses, label_of
from vergence.report import scores as accuracies
from vergence.report.content import Curve, Dash, Figure, Look, Panel, Panels, Table, Value
from vergence.report.live import COLOURS, duration
from vergence.report.measures import Cell, Lines, Measure, curve, headings, logged, make_panels, make_row

PROBES = accuracies.NAMES
ONLINE = Course("Online accuracy", "percent", {f"online.{probe}.accuracy": name for probe, name in PROBES.items()})
DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted", "dashdot")

LAYERS = (("weight", "Norm of the weights"), ("gradient", "Norm of the gradient"), ("rate", "Local learning rate"))
PHASES = 6
"""Most phases of a verdict that are told one by one."""

COUNTED = ("lines", "compared", "pictures", "projections_collapsed", "lowest_z_std", "z_std_before", "was_point")
"""Numbers of a verdict that say how it was reached, not how the run looks."""


def accuracy_columns(runs: Iterable[Sequence[Result]], about: str) -> list[Cell]:
    """Return a column for each probe that scored one of the runs: accuracies beside what they must beat."""
    runs = list(runs)
    known = [probe for probe in PROBES if any(accuracy_of(results, probe).mean is not None for results in runs)]
    return [Cell(PROBES[p], lambda _, results, p=p: accuracy_of(results, p), 1, about) for p in known]


# --- the section of a row ---------------------------------------------------------------------------------------------


class Phase(NamedTuple):
    """A stretch of a run in one state, from epoch to epoch."""

    state: str
    start: float
    end: float


class Story(NamedTuple):
    """The verdicts of one run: the stretches, the same in words, and the rule that fired at the end."""

    seed: int
    phases: tuple[Phase, ...]
    words: str
    rule: str


class Details(NamedTuple):
    """The section of a row, and what its card shows before all else."""

    name: str
    states: tuple[tuple[str, str], ...]
    score: str
    base: str
    differences: tuple[str, ...]
    figures: tuple[Figure, ...]
    stories: tuple[Story, ...]
    scores: Table
    protocols: tuple[str, ...]
    warnings: tuple[str, ...]
    looks: tuple[Look, ...]
    starts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    accuracies: tuple[tuple[str, Value], ...]


def details(name: str, ident: str, results: Sequence[Result], base: tuple[str, Result] | None) -> Details:
    """Return all there is to say of a row.

    Args:
        name: of the row.
        ident: what slugs of its tables and figures begin with.
        results: its runs, at least one.
        base: name and a run of the row it is compared with.
    """
    scored = [(heading, accuracy_of(results, probe)) for probe, heading in PROBES.items()]
    return Details(
        name,
        tuple(
            (state, COLOURS.get(state, "none")) for state in dict.fromkeys(state_of(r) or "" for r in results) if state
        ),
        _headline(accuracy_of(results, "knn")),
        "" if base is None else base[0],
        () if base is None else tuple(_differences(base[1].run, results[0].run)),
        tuple(figure for figure in (_curves(name, ident, results), _layers(name, ident, results[0])) if figure),
        tuple(_story(result) for result in results if result.lines),
        _scores(ident, results),
        tuple(_protocols(results)),
        tuple(accuracies.warnings([result.summary for result in results])),
        tuple(_looks(results)),
        tuple(_starts(results)),
        tuple((heading, value) for heading, value in scored if value.mean is not None),
    )


def _headline(knn: Value) -> str:
    if knn.mean is None:
        return ""
    below = [f", below {name} {value:.1f}%" for name, value in knn.baselines.items() if knn.is_below(name)]
    return f"kNN {knn.mean:.1f}%{''.join(below)}"


def _starts(results: Sequence[Result]) -> Iterable[tuple[str, tuple[tuple[str, str], ...]]]:
    """Yield what each run found before its first step, once where several runs found the same."""
    found: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        if block := tuple((str(label), str(text)) for label, text in result.summary.get("start") or []):
            found.setdefault(block, []).append(result)
    for block, alike in found.items():
        yield with_seeds(alike), block


def with_seeds(results: Sequence[Result]) -> str:
    """Return the seeds of some runs in words."""
    return f"seed{'' if len(results) == 1 else 's'} {', '.join(str(result.run.seed) for result in results)}"


def _looks(results: Sequence[Result]) -> Iterable[Look]:
    """Yield the verdicts of a row's runs, of projections and of the representation: each that there is, once."""
    for of, name in (("projections", "verdict"), ("representation", "representation")):
        found: dict[tuple[str, str], list[Result]] = {}
        judged = {result.run.seed: _judged(result, name) for result in results}
        for result in results:
            if verdict := judged[result.run.seed]:
                found.setdefault((verdict["state"], verdict.get("rule") or ""), []).append(result)
        for (state, rule), alike in found.items():
            first = judged[alike[0].run.seed]
            who = "" if len(alike) == len(results) else with_seeds(alike)
            numbers = numbers_of(first)
            if numbers and len(alike) > 1:
                numbers = f"seed {alike[0].run.seed}: {numbers}"
            yield Look(of, state, rule, numbers, str(first.get("advice") or ""), who)


def _judged(result: Result, name: str) -> Mapping[str, Any]:
    """Return a run's last verdict; of one that is not finished, the word in its log."""
    verdict = result.summary.get(name) or {}
    if verdict.get("state"):
        return verdict
    state = result.lines[-1].get(name) if result.lines and not result.summary else None
    return {"state": state, "rule": "as the last line of the log has it"} if state else {}


def numbers_of(verdict: Mapping[str, Any]) -> str:
    """Return what a verdict was decided on, in words, each number beside that of the untrained encoder if known."""
    numbers = verdict.get("numbers") or {}
    said = []
    for name, value in numbers.items():
        if name not in COUNTED and not name.startswith("untrained_") and value is not None:
            before = numbers.get(f"untrained_{name}")
            beside = "" if before is None else f", untrained {before:.3g}"
            said.append(f"{'of at most' if name == 'directions' else label_of(name)} {value:.3g}{beside}")
    return "; ".join(said)


def accuracy_of(results: Sequence[Result], probe: str) -> Value:
    """Return a row's accuracy beside what it must beat."""
    return accuracies.accuracy([result.summary for result in results], probe)


def state_of(result: Result, name: str = "verdict") -> str | None:
    """Return the last verdict's state, of an unfinished run too: `name` is "verdict" or "representation"."""
    at_the_end = (result.summary.get(name) or {}).get("state")
    return at_the_end or (result.lines[-1].get(name) if result.lines else None)


def panels(curves: Callable[[str, Dash], Iterable[Curve]]) -> tuple[Panel, ...]:
    """Return the panels of a run that have any curve: those of the metrics, and that of scores during training."""
    made = []
    for title, axis, metrics in (*courses(), ONLINE):
        found = [(m, dash, list(curves(m, dash))) for m, dash in zip(metrics, DASHES, strict=False)]
        found = [(m, dash, drawn) for m, dash, drawn in found if drawn]
        if found:
            named = [(metrics[m], dash) for m, dash, _ in found if metrics[m]]
            said = ", ".join(f"{name} ({dash})" if len(named) > 1 else name for name, dash in named)
            low = 0.0 if all(m in TABLE and TABLE[m].range[0] >= 0 for m in metrics) else None
            title = f"{title}: {said}" if said else title
            lines = tuple(curve for _, _, drawn in found for curve in drawn)
            made.append(Panel(title=title, x="epoch", y=axis, curves=lines, y_range=(low, None)))
    return tuple(made)


def _differences(base: Run, other: Run) -> list[str]:
    if type(base) is not type(other):
        return ["the loop of one was watched, and its settings are not known"]
    return differences(to_dict(base, stored=False), to_dict(replace(other, seed=base.seed), stored=False))


def _curves(name: str, ident: str, results: Sequence[Result]) -> Figure | None:
    def of_seeds(metric: str, dash: Dash) -> Iterable[Curve]:
        for i, result in enumerate(results):
            x, y = result.course(metric)
            if y:
                yield Curve(name=f"seed {result.run.seed}", x=x, y=y, colour=i, dash=dash)

    drawn = panels(of_seeds)
    caption = "One curve a seed, as logged; every point is one training batch."
    return Figure(f"{ident}-curves", f"{name}: over training", caption, Panels(drawn, 3)) if drawn else None


def _layers(name: str, ident: str, result: Result) -> Figure | None:
    """Draw traces of the layers, where they were logged, of one run: all seeds would be too much to read."""
    names = dict.fromkeys(layer for line in result.lines for layer in line.get("layers") or {})
    lines = [
        Lines({layer: ("layers", layer, what) for layer in names}, [name], title, "logarithmic", log=True, points=None)
        for what, title in LAYERS
    ]
    made = tuple(panel for panel in make_panels({name: [result]}, *lines) if panel.curves)
    caption = f"Layer by layer, seed {result.run.seed}, on a logarithmic scale."
    return Figure(f"{ident}-layers", f"{name}: layers", caption, Panels(made, 3)) if made else None


def _story(result: Result) -> Story:
    phases, start = [], 0.0
    for state, lines in groupby(result.lines, key=lambda line: str(line.get("verdict", "not judged"))):
        end = float(list(lines)[-1]["epoch"])
        phases.append(Phase(state, start, end))
        start = end
    rule = (result.summary.get("verdict") or {}).get("rule", "")
    return Story(result.run.seed, tuple(phases), _words(phases), rule)


def _words(phases: Sequence[Phase]) -> str:
    if len(phases) <= PHASES:
        return ", then ".join(f"{phase.state} to epoch {_epoch(phase.end)}" for phase in phases)
    whole: Counter[str] = Counter()
    for phase in phases:
        whole[phase.state] += phase.end - phase.start  # type: ignore[assignment]  # a Counter adds fractions as well
    parts = ", ".join(f"{state} {100 * time / phases[-1].end:.0f}% of the time" for state, time in whole.most_common())
    return f"{len(phases) - 1} changes: {parts}; at the end {phases[-1].state}"


def _epoch(epoch: float) -> str:
    """Return an epoch in words; a watched loop that does not say how long its epochs are has one a step."""
    return f"{epoch:.3g}" if epoch < 1000 else f"{epoch:.0f}"


def _scores(ident: str, results: Sequence[Result]) -> Table:
    def minutes_of(result: Result) -> float | None:
        seconds = result.summary.get("seconds")
        return None if seconds is None else seconds / 60

    columns = (
        Cell("verdict", lambda _, of: state_of(of[0]) or "", about="at the end"),
        *accuracy_columns([results], "accuracy in percent, of the last checkpoint"),
        logged("loss", digits=4, about="mean over the last epoch's log lines"),
        Cell("epochs", lambda _, of: epochs_of(of), about="trained"),
        Measure("minutes", minutes_of, 1, "of training, on the machine below"),
        Cell("key", lambda _, of: of[0].run.key, about="of the configuration: names the run's folder"),
    )
    rows = tuple(make_row(f"seed {result.run.seed}", columns, [result]) for result in results)
    return Table(f"{ident}-scores", "Runs", headings(columns), rows)


def epochs_of(results: Sequence[Result]) -> str:
    """Return how many epochs runs were trained, and of how many, where one is not finished; each number once."""

    def said(result: Result) -> str:
        made = result.lines[-1]["epoch"] if result.lines else 0
        if not result.run.epochs:  # nothing was trained, or a loop was watched whose end is not known
            return f"{made:.6g}"
        return str(result.run.epochs) if result.summary else f"{made:.3g} of {result.run.epochs}"

    return ", ".join(dict.fromkeys(map(said, results)))


def _protocols(results: Sequence[Result]) -> Iterable[str]:
    """Return each protocol once, in the words of the summary."""
    return dict.fromkeys(
        f"{PROBES[probe]}: {score['protocol']}"
        for probe in PROBES
        for result in results
        if (score := accuracies.score_of(result.summary, probe)) and "protocol" in score
    )


def environments(results: Results) -> list[tuple[str, list[str]]]:
    """Return what runs were made on: each field and the values it took, with counts of runs where they are several."""
    found: dict[str, Counter[str]] = {}
    for result in (result for row in results.values() for result in row):
        environment: Mapping[str, Any] = result.summary.get("environment") or {}
        for field, value in environment.items():
            found.setdefault(field, Counter())[str(value)] += 1

    def said(value: str, count: int) -> str:
        return f"{value} ({count} run{'' if count == 1 else 's'})"

    return [
        (field, [value if len(values) == 1 else said(value, count) for value, count in values.items()])
        for field, values in found.items()
    ]


def across(name: str, results: Sequence[Result], metric: str, colour: int, dash: Dash) -> Curve | None:
    """Return a row's course: the mean over its runs at the epochs that all of them logged, in a band of their range.

    Its name says of how many runs it is, where some logged nothing of the metric.
    """
    logged = sum(bool(result.course(metric)[0]) for result in results)
    if logged < len(results):
        name = f"{name} ({logged} of {len(results)} runs)"
    look = Curve(name=name, x=(), y=(), colour=colour, dash=dash)
    return curve(results, metric, look, band=lambda values: (min(values), max(values)) if logged > 1 else None)


def minutes(results: Results) -> str:
    """Return how long all runs trained together; empty where none says."""
    seconds = [r.summary["seconds"] for row in results.values() for r in row if r.summary.get("seconds") is not None]
    return duration(sum(seconds)) if seconds else ""
