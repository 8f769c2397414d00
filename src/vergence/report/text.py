"""Tables in the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from vergence.metrics.table import in_words, shown
from vergence.report import scores as accuracies
from vergence.report import tables
from vergence.report.content import one_line
from vergence.report.live import COLOURS, duration
from vergence.report.measures import Cell, Measure, make_table
from vergence.report.rows import numbers_of

WIDE = 120
"""Characters of a line where there is no terminal."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command leave as it does where its reader is gone; rich leaves with exit code 1, that of a bug."""
        raise


def console() -> Console:
    """Return the console on which results are printed.

    A pipe, a file or a terminal that has no width is as wide as the tables want.
    """
    console = _Console(highlight=False)
    return console if console.is_terminal and console.width else _Console(highlight=False, width=WIDE)


def print_block(console: Console, block: Sequence[tuple[str, str]]) -> None:
    """Print labels and what stands beside them, as a run does before its first step."""
    width = max(9, *(len(label) for label, _ in block))
    for label, said in block:
        console.print(Text(f"  {label:{width}} {one_line(said)}"), soft_wrap=True)


def print_scores(console: Console, scores: Mapping[str, Any]) -> None:
    """Print accuracies beside what they must beat, with their protocols."""
    console.print(Text(f"  encoder   {one_line(scores['encoder'])}"), soft_wrap=True)
    if on := scores.get("scored_on"):
        whose = "those of the run" if on["of_the_run"] else f"not those of the run, digest {on['digest']}"
        console.print(Text(f"  pictures  {one_line(on['name'])}, {whose}"), soft_wrap=True)
    _print_warnings(console, scores)
    print_probes(console, scores)


def print_summary(console: Console, folder: Path, summary: Mapping[str, Any]) -> None:
    """Print what a finished run came to."""
    console.print(Text(f"{folder}", style="bold"), soft_wrap=True)
    if "verdict" not in summary:
        print_scores(console, summary)
        return
    print_verdict(console, "verdict  ", summary["verdict"])
    if summary.get("representation"):
        print_verdict(console, "representation", summary["representation"])
    _print_warnings(console, summary)
    console.print(Text(f"  {in_words(summary['final'], 'end', '   ')}"), soft_wrap=True)
    print_probes(console, summary)
    speed = f"  trained in {duration(summary['seconds'])} at {summary['images_per_second']:.0f} images/s "
    console.print(Text(f"{speed}on {one_line(str(summary['environment']['device_name']))}"), soft_wrap=True)


def print_verdict(console: Console, label: str, verdict: Mapping[str, Any]) -> None:
    """Print the state, the rule that fired, the numbers behind it, and what to try."""
    state = (one_line(verdict["state"]), f"bold {COLOURS.get(verdict['state'], '')}")
    numbers = f" ({said})" if (said := numbers_of(verdict)) else ""
    console.print(Text.assemble(f"  {label} ", state, f": {one_line(verdict['rule'])}{numbers}"), soft_wrap=True)
    if verdict.get("advice"):
        console.print(Text(f"  try       {one_line(verdict['advice'])}"), soft_wrap=True)


def _print_warnings(console: Console, summary: Mapping[str, Any]) -> None:
    for sentence in accuracies.warnings([summary]):
        console.print(Text(f"  warning   {one_line(sentence)}", style="bold red"), soft_wrap=True)


def print_probes(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line for each probe that was asked for: its accuracy, beside what it must beat, and its protocol."""
    width = max([9, *(len(name) for name in accuracies.NAMES if summary.get(name))])
    for name in accuracies.NAMES:
        if summary.get(name):
            value = accuracies.accuracy([summary], name)
            interval = f" [{value.interval[0]:.1f}, {value.interval[1]:.1f}]" if value.interval else ""
            beside = [f"{baseline} {number:.1f}" for baseline, number in value.baselines.items()]
            beside += [] if value.balanced is None else [f"balanced {value.balanced:.1f}"]
            protocol = one_line(summary[name].get("protocol") or "")
            score = "—" if value.mean is None else f"{value.mean:.1f}%"
            parts = [f"  {name:{width}} {score:>6}{interval}", one_line(", ".join(beside)), protocol]
            console.print(Text("  ".join(filter(None, parts))), soft_wrap=True)


def comparison(summaries: Mapping[str, Mapping[str, Any]]) -> Group:
    """Return a table with a row for each run: the verdict, accuracies beside what they must beat, last epoch's means.

    A row without training shows accuracies only. What accuracies do not show stands below the table, in words.
    """
    rows = {name: [summary] for name, summary in summaries.items()}
    means = [summary.get("last_epoch", {}) for summary in summaries.values()]
    columns = (
        Cell("verdict", lambda _, of: of[0].get("verdict", {}).get("state", "")),
        *(
            Cell(accuracies.NAMES[probe], lambda _, of, probe=probe: accuracies.accuracy(of, probe), 1)
            for probe in ("knn", "linear")
        ),
        *(
            Measure(m.heading, lambda summary, name=m.name: summary.get("last_epoch", {}).get(name), m.digits)
            for m in shown("compared")
            if any(m.name in mean for mean in means)
        ),
    )
    said = [f"{name}: {line}." for name, of_row in rows.items() for line in accuracies.warnings(of_row)]
    said += [best] if (best := accuracies.best_in_collapse(rows)) else []
    table = tables.terminal(make_table("comparison", "Side by side", columns, rows))
    return Group(table, *(Text(one_line(line), "bold red") for line in said))
