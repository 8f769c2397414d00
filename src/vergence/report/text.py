"""Tables in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vergence.metrics.table import in_words, shown
from vergence.report import scores as accuracies
from vergence.report.content import one_line
from vergence.report.live import COLOURS, duration
from vergence.report.rows import numbers_of

WIDE = 120
"""Characters of a line where there is no terminal."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command leave as it does where its reader is gone; rich leaves with exit code 1, that of a bug."""
        raise


def console() -> Console:
    """Where results are printed; a pipe, a file or a terminal that has no width is as wide as the tables want."""
    console = _Console(highlight=False)
    return console if console.is_terminal and console.width else _Console(highlight=False, width=WIDE)


def percent(score: Mapping[str, Any] | None) -> str:
    """An accuracy, or a dash where there is none."""
    return "—" if not score or score.get("accuracy") is None else f"{score['accuracy']:.1f}%"


def print_scores(console: Console, scores: Mapping[str, Any]) -> None:
    """Accuracies beside what they must beat, with their protocols."""
    console.print(Text(f"  encoder   {one_line(scores['encoder'])}"), soft_wrap=True)
    if on := scores.get("scored_on"):
        whose = "those of the run" if on["of_the_run"] else f"not those of the run, digest {on['digest']}"
        console.print(Text(f"  pictures  {one_line(on['name'])}, {whose}"), soft_wrap=True)
    _print_warnings(console, scores)
    _print_probes(console, scores)


def print_summary(console: Console, folder: Path, summary: Mapping[str, Any]) -> None:
    """What a finished run came to."""
    console.print(Text(f"{folder}", style="bold"), soft_wrap=True)
    if "verdict" not in summary:
        print_scores(console, summary)
        return
    _print_verdict(console, "verdict  ", summary["verdict"])
    if summary.get("representation"):
        _print_verdict(console, "representation", summary["representation"])
    _print_warnings(console, summary)
    console.print(Text(f"  {in_words(summary['final'], 'end', '   ')}"), soft_wrap=True)
    _print_probes(console, summary)
    speed = f"  trained in {duration(summary['seconds'])} at {summary['images_per_second']:.0f} images/s "
    console.print(Text(f"{speed}on {one_line(str(summary['environment']['device_name']))}"), soft_wrap=True)


def _print_verdict(console: Console, label: str, verdict: Mapping[str, Any]) -> None:
    """The state, the rule that fired, the numbers behind it, and what to try."""
    state = (one_line(verdict["state"]), f"bold {COLOURS.get(verdict['state'], '')}")
    numbers = f" ({said})" if (said := numbers_of(verdict)) else ""
    console.print(Text.assemble(f"  {label} ", state, f": {one_line(verdict['rule'])}{numbers}"), soft_wrap=True)
    if verdict.get("advice"):
        console.print(Text(f"  try       {one_line(verdict['advice'])}"), soft_wrap=True)


def _print_warnings(console: Console, summary: Mapping[str, Any]) -> None:
    for sentence in accuracies.warnings([summary]):
        console.print(Text(f"  warning   {one_line(sentence)}", style="bold red"), soft_wrap=True)


def _print_probes(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line for each probe that was asked for: its accuracy, beside what it must beat, and its protocol."""
    width = max([9, *(len(name) for name in accuracies.ALL if summary.get(name))])
    for name in accuracies.ALL:
        if summary.get(name):
            value = accuracies.accuracy([summary], name)
            interval = f" [{value.interval[0]:.1f}, {value.interval[1]:.1f}]" if value.interval else ""
            beside = [f"{baseline} {number:.1f}" for baseline, number in value.baselines.items()]
            beside += [] if value.balanced is None else [f"balanced {value.balanced:.1f}"]
            protocol = one_line(summary[name].get("protocol") or "")
            parts = [f"  {name:{width}} {percent(summary[name]):>6}{interval}", one_line(", ".join(beside)), protocol]
            console.print(Text("  ".join(filter(None, parts))), soft_wrap=True)


def comparison(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a run: the verdict, accuracies beside what they must beat, means of the last epoch.

    A row without training shows accuracies only. What accuracies do not show stands below the table, in words.
    """
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    probes, means = ("knn", "linear"), [summary.get("last_epoch", {}) for summary in summaries.values()]
    metrics = [m for m in shown("compared") if any(m.name in mean for mean in means)]
    table.add_column("run", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for heading in (*(accuracies.NAMES.get(probe, probe) for probe in probes), *(m.heading for m in metrics)):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for name, summary in summaries.items():
        of_probes = [_accuracy_cell(summary, probe) for probe in probes]
        if "verdict" not in summary:
            table.add_row(name, "", *of_probes)
            continue
        mean, state = summary["last_epoch"], summary["verdict"]["state"]
        values = [metric.show(mean.get(metric.name)) for metric in metrics]
        table.add_row(name, Text(state, style=COLOURS[state]), *of_probes, *values)
    said = [f"{name}: {line}." for name, summary in summaries.items() for line in accuracies.warnings([summary])]
    if best := accuracies.best_in_collapse({name: [summary] for name, summary in summaries.items()}):
        said.append(best)
    if said:
        table.caption = Text("\n".join(map(one_line, said)), "bold red")
    return table


def _accuracy_cell(summary: Mapping[str, Any], probe: str) -> Text:
    """Return the cell of an accuracy: below it stand its interval and what it must beat."""
    value = accuracies.accuracy([summary], probe)
    parts: list[tuple[str, str]] = [(percent(summary.get(probe)), "")]
    if value.interval:
        parts.append((f"\n[{value.interval[0]:.1f}, {value.interval[1]:.1f}]", "dim"))
    for name, number in value.baselines.items():
        below = value.is_below(name)
        parts.append((f"\n{'below ' if below else ''}{name} {number:.1f}", "bold red" if below else "dim"))
    return Text.assemble(*parts)
