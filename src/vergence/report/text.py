"""Tables in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vergence.live import COLOURS, duration
from vergence.report.content import one_line
from vergence.results import PROBES

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
    """Accuracies with their protocols."""
    console.print(Text(f"  encoder   {one_line(scores['encoder'])}"), soft_wrap=True)
    if on := scores.get("scored_on"):
        whose = "those of the run" if on["of_the_run"] else f"not those of the run, digest {on['digest']}"
        console.print(Text(f"  pictures  {one_line(on['name'])}, {whose}"), soft_wrap=True)
    _print_probes(console, scores)


def print_summary(console: Console, folder: Path, summary: Mapping[str, Any]) -> None:
    """What a finished run came to."""
    console.print(Text(f"{folder}", style="bold"), soft_wrap=True)
    if "verdict" not in summary:
        print_scores(console, summary)
        return
    final, verdict = summary["final"], summary["verdict"]
    state = (one_line(verdict["state"]), f"bold {COLOURS.get(verdict['state'], '')}")
    console.print(Text.assemble("  verdict   ", state, f": {one_line(verdict['rule'])}"), soft_wrap=True)
    console.print(
        f"  loss {final['loss']:.4f}   pos/neg cos {final['pos_cos']:.3f}/{final['neg_cos']:.3f}   "
        f"alignment {final['alignment']:.3f}   uniformity {final['uniformity']:.3f}   "
        f"effective rank {final['effective_rank']:.1f}",
        soft_wrap=True,
    )
    _print_probes(console, summary)
    speed = f"  trained in {duration(summary['seconds'])} at {summary['images_per_second']:.0f} images/s "
    console.print(Text(f"{speed}on {one_line(str(summary['environment']['device_name']))}"), soft_wrap=True)


def _print_probes(console: Console, scores: Mapping[str, Any]) -> None:
    for name in PROBES:
        if scores.get(name):
            protocol = one_line(scores[name].get("protocol") or "")
            console.print(Text(f"  {name:9} {percent(scores[name]):>6}  {protocol}"), soft_wrap=True)


def comparison(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a run: accuracies, means of the last epoch, the verdict. A row without training shows accuracies only."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    headings = ("kNN", "linear", "pos cos", "neg cos", "align", "uniform", "rank")
    table.add_column("run", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for name, summary in summaries.items():
        scores = [percent(summary["knn"]), percent(summary["linear"])]
        if "verdict" not in summary:
            table.add_row(name, *scores)
            continue
        mean, state = summary["last_epoch"], summary["verdict"]["state"]
        names = ("pos_cos", "neg_cos", "alignment", "uniformity")
        values = [*(f"{mean[n]:.3f}" for n in names), f"{mean['effective_rank']:.1f}"]
        table.add_row(name, *scores, *values, Text(state, style=COLOURS[state]))
    return table
