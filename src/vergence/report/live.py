"""What a person sees while a run trains: bars, sparklines and the verdict in words, or one line an epoch."""

import time
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vergence.engine.reporter import Line, Reporter
from vergence.metrics.table import in_words, shown
from vergence.metrics.verdict import Verdict

COLOURS = {
    "healthy": "green",
    "recovering": "yellow",
    "undecided": "cyan",
    "untrained": "yellow",
    "dimensional collapse": "magenta",
    "complete collapse": "red",
}


class Plain(Reporter):
    """Prints a line for each epoch, and one a minute while an epoch lasts: for pipes, logs and batch queues."""

    def __init__(self, console: Console):
        self.console = console

    def found(self, block: Sequence[tuple[str, str]]) -> None:
        for label, text in block:
            self.say(f"  {label:9} {text}")

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.total, self.per_epoch, self.began, self.first = total, per_epoch, time.monotonic(), done
        self.said = self.began
        for warning in warnings:
            self.say(f"warning: {warning}")
        if done:
            self.say(f"resumed after step {done} of {total}")

    def line(self, line: Line, verdict: Verdict) -> None:
        now = time.monotonic()
        if line["step"] % self.per_epoch and now - self.said < 60:
            return
        self.said = now
        spent = (now - self.began) / max(1, line["step"] - self.first)
        left = spent * (self.total - line["step"])
        online = "".join(
            f"  online {name} {score['accuracy']:.1f}%"
            for name, score in line.get("online", {}).items()
            if score["accuracy"] is not None
        )
        self.say(
            f"epoch {line['epoch']:.4g}/{self.total // self.per_epoch}  {in_words(line, 'live', '  ')}  "
            f"{line['images_per_second']:.0f} images/s  {duration(left)} left  {line['verdict']}{online}"
        )

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


class Rich(Plain):
    """Draws a live panel: progress, the last values, their course as sparklines, and the verdict in words."""

    def __init__(self, console: Console, title: str):
        super().__init__(console)
        self.title = title
        self.history: list[Line] = []
        self.verdict: Verdict | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps,"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            expand=True,
        )
        self.live = Live(console=console, refresh_per_second=4, get_renderable=self.render)

    def start(self, total: int, done: int, per_epoch: int, lines: Sequence[Line], warnings: Sequence[str]) -> None:
        self.history = list(lines)
        self.task = self.progress.add_task("training", total=total, completed=done)
        self.live.start()
        for warning in warnings:
            self.say(f"warning: {warning}")

    def step(self) -> None:
        self.progress.advance(self.task)

    def line(self, line: Line, verdict: Verdict) -> None:
        self.history.append(line)
        self.verdict = verdict
        self.progress.update(self.task, description=f"epoch {line['epoch']:.1f}")

    def stop(self) -> None:
        self.live.stop()

    def render(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        if self.history:
            last = self.history[-1]
            for metric in shown("live"):
                if last.get(metric.name) is not None:  # a log of before this was measured
                    course = [line[metric.name] for line in self.history if line.get(metric.name) is not None]
                    value = Text(metric.show(last[metric.name]), justify="right")
                    table.add_row(Text(metric.label), value, sparkline(course))
            table.add_row("images/s", Text(f"{last['images_per_second']:.0f}", justify="right"))
            if self.verdict is not None:
                state, colour = self.verdict.state, COLOURS[self.verdict.state]
                table.add_row("verdict", Text(state, style=f"bold {colour}"), Text(self.verdict.rule, style=colour))
        return Panel(Group(self.progress, table), title=self.title, title_align="left")


def open_view(console: Console, title: str) -> Reporter:
    """Return the panel on a terminal, plain lines elsewhere."""
    return Rich(console, title) if console.is_terminal else Plain(console)


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Return the course of a series in `width` characters, from its lowest (▁) to its highest (█)."""
    bars = "▁▂▃▄▅▆▇█"
    if len(values) > width:  # the mean of each of `width` equal parts
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(values), max(values)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, as in 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
