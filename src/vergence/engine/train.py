"""The loop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vergence import methods
from vergence.config import Run
from vergence.data import Images
from vergence.engine import checkpoint
from vergence.engine.batches import batch_of
from vergence.engine.gradients import LossScale, NotFinite
from vergence.engine.log import Log, keep_lines
from vergence.engine.periods import Periods, due
from vergence.engine.reporter import Reporter
from vergence.engine.step import Setup, StepResult, stepping
from vergence.engine.where import Where
from vergence.errors import Diverged, InputError, Stopped
from vergence.files import durable
from vergence.files.run_folder import CHECKPOINTS, DIVERGED, METRICS, own_key
from vergence.machine.device import device_of
from vergence.metrics.measure import number, read
from vergence.metrics.verdict import REPRESENTATION
from vergence.networks.encoders import from_random
from vergence.optim import build_optimizer

LOG_EVERY = 10
"""Steps between log lines, where a run has enough of them."""


def steps_per_epoch(run: Run, pictures: int) -> int:
    """The whole batches in the pictures.

    Raises:
        InputError: there is none, and the run is to be trained.
    """
    if pictures < run.batch_size and run.epochs > 0:
        raise InputError(f"--batch-size: {run.batch_size} is more than the {pictures} pictures; choose a smaller one")
    return pictures // run.batch_size


def train(
    run: Run,
    images: Images,
    folder: Path,
    *,
    where: Where = Where(),
    periods: Periods = Periods(),
    reporter: Reporter,
    observe: Callable[[methods.Method, Tensor, int], dict[str, Any]] | None = None,
) -> methods.Method:
    """Train `run` on `images`, or carry on from the newest checkpoint in `folder`; return the trained method.

    Nothing but `run` and `images` decides the result: periods, device and interruptions do not (on one CPU type and
    thread count, to the last bit).

    Args:
        run: what to train.
        images: the pictures views are cut from.
        folder: where `metrics.jsonl` and `checkpoints/` go.
        where: where to train.
        periods: when to log and to save. The first step and each epoch's last one have a line of `metrics.jsonl` too;
            without a number every 10th step has one, or ten steps of a run of fewer than 100, so that the verdict has
            enough of them. Each epoch's last step has a checkpoint too.
        reporter: told what happens.
        observe: given the method, the views of the last batch and the epoch at each epoch's end, returns what else the
            log line shall hold; may change the method's mode and nothing else of it.

    Raises:
        InputError: fewer pictures than a batch, a batch that cannot be shared, or a checkpoint that cannot be used.
        Diverged: the loss, a gradient, a weight or a statistic is not finite; nothing was updated or saved with it.
        Stopped: a signal asked for it; the state is saved.
    """
    device, group = device_of(where.device), where.group
    per_epoch = steps_per_epoch(run, len(images))
    group.local_slice(run.batch_size)
    if (part := run.batch_size // run.accumulate) % group.size:
        raise InputError(f"--accumulate: parts of {part} pictures cannot be shared evenly by {group.size} processes")
    total = run.epochs * per_epoch
    log_every = min(LOG_EVERY, max(1, total // 10)) if periods.log_every is None else periods.log_every
    method = methods.build(run).to(device).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(run.optimizer, method)
    if run.precision == "float16":
        LossScale.begin(optimizer)
    record = {"key": own_key(folder, run), "data": images.digest()}
    done, warnings = checkpoint.load_newest(folder / CHECKPOINTS, method, optimizer, record)
    group.assert_equal(lambda: {"step": done, "state": checkpoint.state_digest(method, optimizer)})
    if done < total and group.is_main:
        checkpoint.require_space(folder / CHECKPOINTS, method, optimizer)
    log = _Log(folder / METRICS, run, reporter, done, per_epoch, group.is_main)
    if group.is_main and 0 < per_epoch <= done and not log.kept:
        advice = "put the log back, or train again in another --out"
        raise InputError(f"{log.path}: has no line of the {done} steps that are done; {advice}")
    reporter.start(total, done, per_epoch, log.kept, warnings)
    steps = stepping(Setup(run, method, optimizer, images, device, per_epoch), where.compile, group)
    with _signals() as stop, steps as stepper:
        for step in range(done + 1, total + 1):
            batch, epoch = batch_of(run, len(images), step), (step - 1) // per_epoch
            epoch_ends = step % per_epoch == 0
            logs = step == 1 or epoch_ends or due(step, log_every, total)
            try:
                seen = stepper(step, batch, with_layer_stats=logs)
                reporter.step()
                log.write()  # of an earlier step, while a GPU is at this one
                if step == 1 and run.encoder.weights is not None:
                    with stepper.drawing():
                        log.untrained = _untrained(run, method, seen.views)
                if logs:
                    whole = seen.outputs._replace(y=method.all_gather(seen.outputs.y.detach()))
                    log.note(step, seen._replace(outputs=whole), stepper.finite.poll(), stepper.numbers())
                number = group.all_reduce_max(stop[0] if stop else 0)
                if saves := epoch_ends or number or due(step, periods.save_every, total):
                    stepper.check_state(step)
            except NotFinite as error:
                raise _diverged(folder, run, len(images), error, group.is_main, method.when_not_finite) from error
            if logs and (saves or device.type == "cpu"):
                with stepper.drawing():
                    more = observe(method, seen.views, epoch + 1) if epoch_ends and observe is not None else {}
                method.train()
                log.write(**more)
            if saves:
                if group.is_main:
                    durable.sync_file(folder / METRICS)
                    checkpoint.save(folder / CHECKPOINTS, step, method, optimizer, record)
                number = group.all_reduce_max(stop[0] if stop else 0)
            if number and step < total:
                raise Stopped(f"{folder}: stopped after step {step} of {total}, saved; add --resume to go on", number)
    return method


def _untrained(run: Run, method: methods.Method, views: Tensor) -> dict[str, float]:
    """Return what the first line would say of the representation if the encoder had random weights.

    A run that starts from weights has none of its own to compare with.
    """
    encoder = methods.build(from_random(run)).encoder.to(views.device).to(memory_format=torch.channels_last).train()
    with torch.no_grad():
        y = {"y": method.all_gather(method.online.passage(encoder, views))}
    return {name: number(name, y) for name in REPRESENTATION}


class _Log(Log):
    """`metrics.jsonl`: up to the checkpoint as it is there, then line by line.

    A line is noted while the device works and written when its numbers have come: at once on a CPU, after the next step
    has been started on a GPU.
    """

    def __init__(self, path: Path, run: Run, reporter: Reporter, done: int, per_epoch: int, writes: bool):
        self.kept = keep_lines(path, done) if writes else []
        super().__init__(path, self.kept, done, run.batch_size, min(run.batch_size, run.method.projector.out))
        self.path, self.reporter, self.per_epoch, self.writes = path, reporter, per_epoch, writes
        self.waits: tuple[int, Callable[[], None], Callable[[], dict[str, Any]], dict[str, float]] | None = None
        self.untrained: dict[str, float] | None = None

    def note(self, step: int, seen: StepResult, check: Callable[[], None], others: dict[str, float]) -> None:
        if self.writes:
            self.waits = (step, check, read(seen.outputs, seen.layers), others)

    def write(self, **more: Any) -> None:
        """The line that waits, if one does, with what else it shall hold; raises `NotFinite` where it is of a fault."""
        if self.waits is None:
            return
        (step, check, numbers, others), self.waits = self.waits, None
        check()
        line: dict[str, Any] = numbers() | others
        if step == 1 and self.untrained is not None:
            line["untrained"] = self.untrained
        line, verdict, _ = self.add(step, step / self.per_epoch, line, more)
        self.reporter.line(line, verdict)


def _diverged(folder: Path, run: Run, pictures: int, error: NotFinite, writes: bool, advice: str) -> Diverged:
    """Write down where to look; return what to say."""
    batch = batch_of(run, pictures, error.step)
    if writes:
        durable.write_json(
            folder / DIVERGED,
            {"step": error.step, "not_finite": error.part, "seed": run.seed, "pictures": batch.tolist()},
        )
    whole = "what was saved before is whole"
    return Diverged(f"{folder}: {error}; {whole}; {advice} (diverged.json lists the pictures)")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGINT, SIGTERM and SIGUSR1 put their number into, for the loop to see between two steps.

    A second SIGINT interrupts at once: what is on the disk stays whole.
    """
    stop: list[int] = []

    def hear(number: int, _frame: object) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.append(number)

    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield stop
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
