"""What a person sees while a grid runs: a bar for all of it and a line for each running job, or a line for each end."""

import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vergence.grid.status import Failure, GridStatus, GridView
from vergence.report.live import COLOURS, duration

MINUTE = 60.0
"""Seconds of silence after which plain lines say how far things are."""


class Plain(GridView):
    """Prints a line for each job that ends, and one a minute while none does: for pipes, logs and batch queues."""

    def __init__(self, console: Console):
        self.console = console

    def start(self, standing: GridStatus) -> None:
        self.standing = standing
        if standing.finished:
            self.say(f"{standing.finished} of {standing.jobs} jobs were finished before")
        self.said = time.monotonic()

    def done(self, name: str, seconds: float | None, verdict: str | None) -> None:
        self._count(_done(name, seconds, verdict))

    def failed(self, name: str, failure: Failure) -> None:
        self._count(_failed(name, failure))

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def tick(self) -> None:
        if self.standing.running and time.monotonic() - self.said >= MINUTE:
            running = self.standing.running.items()
            self._count("running: " + ", ".join(f"{name} {job.progress.share:.0%}" for name, job in running))

    def _count(self, text: str) -> None:
        self.said = time.monotonic()
        standing = self.standing
        self.say(f"[{standing.finished + standing.failed}/{standing.jobs}] {text}{_left(standing)}")


class Rich(GridView):
    """Draws a live panel. It is drawn from `tick`, without a thread, so nothing changes under it."""

    def __init__(self, console: Console, title: str):
        self.console, self.title, self.drawn = console, title, 0.0
        self.standing = GridStatus(0, 0.0, time.monotonic())
        self.messages: deque[Text] = deque(maxlen=4)
        self.live = Live(console=console, auto_refresh=False, get_renderable=self.render)

    def start(self, standing: GridStatus) -> None:
        self.standing = standing
        self.live.start(refresh=True)

    def done(self, name: str, seconds: float | None, verdict: str | None) -> None:
        self.messages.append(Text(_done(name, seconds, verdict)))

    def failed(self, name: str, failure: Failure) -> None:
        self.console.print(Text(_failed(name, failure), style="red"), soft_wrap=True)  # above the panel, to stay

    def say(self, text: str) -> None:
        self.messages.append(Text(text, style="dim"))

    def tick(self) -> None:
        if time.monotonic() - self.drawn >= 0.25:
            self.live.refresh()
            self.drawn = time.monotonic()

    def stop(self) -> None:
        self.live.stop()

    def render(self) -> Panel:
        standing = self.standing
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(ratio=1)
        bar.add_row(
            ProgressBar(total=standing.work or 1.0, completed=standing.done),
            Text(f"{standing.done / standing.work if standing.work else 1:.0%}{_left(standing)}"),
        )
        counts = Text.assemble(
            (f"{standing.finished} done", "green"),
            ", ",
            (f"{standing.failed} failed", "red" if standing.failed else ""),
            f", {len(standing.running)} running, {standing.waiting} waiting",
        )
        running = Table.grid(padding=(0, 2))
        for name, job in standing.running.items():
            progress = job.progress
            running.add_row(
                Text(name),
                Text(f"{progress.share:.0%}", justify="right"),
                Text(duration(time.monotonic() - job.began), justify="right"),
                Text("" if progress.loss is None else f"loss {progress.loss:.4f}"),
                Text(progress.verdict or "", style=COLOURS.get(progress.verdict or "", "")),
            )
        return Panel(Group(bar, counts, running, *self.messages), title=Text(self.title), title_align="left")


def open_grid_view(console: Console, title: str) -> GridView:
    """Return the panel on a terminal, plain lines elsewhere."""
    return Rich(console, title) if console.is_terminal else Plain(console)


def _done(name: str, seconds: float | None, verdict: str | None) -> str:
    how = "done by another runner" if seconds is None else f"done in {duration(seconds)}"
    return f"{name}: {how}" + (f", {verdict}" if verdict else "")


def _failed(name: str, failure: Failure) -> str:
    return f"{name}: failed: {failure.kind}: {failure.message}"


def _left(standing: GridStatus) -> str:
    left = standing.left()
    return "" if left is None or standing.done >= standing.work else f"; {duration(left)} left"
