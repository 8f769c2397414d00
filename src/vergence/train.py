"""The loop."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vergence import checkpoint, durable, methods
from vergence.augment import two_views
from vergence.config import Run, Supervised
from vergence.data import Images
from vergence.errors import Diverged, InputError, Stopped
from vergence.live import View
from vergence.metrics.measure import measure
from vergence.metrics.verdict import Judge
from vergence.optim import build_optimizer, layers, rate_at, set_rate
from vergence.runfile import CHECKPOINTS, METRICS, read_log
from vergence.runtime import due, generator, keep_freed_memory, seed_of


def train(
    run: Run,
    images: Images,
    folder: Path,
    *,
    device: torch.device,
    view: View,
    log_every: int = 10,
    save_every: int = 0,
    observe: Callable[[methods.Method, Tensor, int], dict[str, Any]] | None = None,
) -> methods.Method:
    """Train `run` on `images`, or carry on from the newest checkpoint in `folder`; return the trained method.

    Nothing but `run` and `images` decides the result: periods, device and interruptions do not (on one CPU type and
    thread count, to the last bit).

    Args:
        run: what to train.
        images: the pictures views are cut from.
        folder: where `metrics.jsonl` and `checkpoints/` go.
        device: where to train.
        view: told what happens, for the person watching.
        log_every: steps between lines of `metrics.jsonl`; each epoch's last step has one too. 0: only those.
        save_every: steps between checkpoints; each epoch's last step has one too. 0: only those.
        observe: given the method, the views of the last batch and the epoch at each epoch's end, returns what else the
            log line shall hold; may change the method's mode and nothing else of it.

    Raises:
        InputError: fewer pictures than a batch, or a checkpoint that cannot be used.
        Diverged: the loss, a gradient, a weight or a statistic is not finite; nothing was updated or saved with it.
        Stopped: a signal asked for it; the state is saved.
    """
    per_epoch = len(images) // run.batch_size
    if per_epoch == 0 and run.epochs > 0:
        raise InputError(f"batch_size: {run.batch_size} is more than the {len(images)} pictures; choose a smaller one")
    total, horizon = run.epochs * per_epoch, (run.horizon or run.epochs) * per_epoch
    keep_freed_memory()
    method = methods.build(run).to(device).to(memory_format=torch.channels_last).train()
    labels = _labels(run, images, device)
    optimizer = build_optimizer(run.optimizer, method)
    record = {"key": run.key, "data": images.digest()}
    done, warnings = checkpoint.load_newest(folder / CHECKPOINTS, method, optimizer, record)
    lines = _kept_lines(folder / METRICS, done)
    judge = Judge(min(run.batch_size, run.method.projector.out))
    for line in lines:
        judge.hear(line)
    pixels = images.pixels.to(device)
    order = torch.empty(0)
    view.start(total, done, per_epoch, lines, warnings)
    clock, clocked = time.perf_counter(), done
    with _signals() as stop, torch.random.fork_rng():
        for step in range(done + 1, total + 1):
            epoch, position = divmod(step - 1, per_epoch)
            if position == 0 or step == done + 1:
                order = torch.randperm(len(images), generator=generator(run.seed, "order", epoch))
            batch = order[position * run.batch_size : (position + 1) * run.batch_size].to(pixels.device)
            views = two_views(pixels[batch], images.size, run.views, generator(run.seed, "views", step))

            epoch_ends = position == per_epoch - 1
            logs = epoch_ends or due(step, log_every, total)

            set_rate(optimizer, run.optimizer.lr * rate_at(run.schedule, (step - 1) / horizon, horizon / per_epoch))
            torch.manual_seed(seed_of(run.seed, "layers", step))  # of what draws inside a network, such as dropout
            outputs = method(views) if labels is None else method(views, labels[batch])
            _refuse_nan("loss", [outputs.loss.detach()], folder, step, batch)
            outputs.loss.backward()
            _refuse_nan("gradient", [p.grad for p in method.parameters() if p.grad is not None], folder, step, batch)
            found = layers(method, optimizer) if logs else {}
            update(method, optimizer, outputs, step / horizon)
            view.step()

            if logs:
                line = {"step": step, "epoch": step / per_epoch, **measure(outputs), "layers": found}
                verdict = judge.hear(line)
                line["verdict"] = verdict.state
                seconds = time.perf_counter() - clock
                line |= {"seconds": seconds, "images_per_second": (step - clocked) * run.batch_size / seconds}
                if epoch_ends and observe is not None:
                    line |= observe(method, views, epoch + 1)
                    method.train()
                durable.append_line(folder / METRICS, json.dumps(line, allow_nan=False))
                view.line(line, verdict)
                clock, clocked = time.perf_counter(), step
            if epoch_ends or stop or due(step, save_every, total):
                _refuse_nan(
                    "state", [v for v in method.state_dict().values() if v.is_floating_point()], folder, step, batch
                )
                durable.sync_file(folder / METRICS)
                checkpoint.save(folder / CHECKPOINTS, step, method, optimizer, record)
            if stop and step < total:
                raise Stopped(f"{folder}: stopped after step {step} of {total}, saved; add --resume to go on", stop[0])
    return method


def update(method: methods.Method, optimizer: torch.optim.Optimizer, outputs: methods.Outputs, progress: float) -> None:
    """What follows the gradient: weights, target, queue, in the order that the target's rule names.

    Args:
        method: its parameters hold the gradient; they leave without.
        optimizer: set to this step's rate.
        outputs: of this step.
        progress: share of the horizon that is done with this step, in (0, 1].
    """
    method.move_target(progress, "before-optimizer")
    optimizer.step()
    optimizer.zero_grad()
    method.move_target(progress, "after-optimizer")
    method.after_step(outputs)


def _labels(run: Run, images: Images, device: torch.device) -> Tensor | None:
    """The classes, for a method that is told them; None for all others."""
    if not isinstance(run.method, Supervised):
        return None
    if images.labels is None:
        raise InputError(f"{run.data.kind}: the supervised baseline needs labels; these pictures have none")
    if (most := int(images.labels.max())) >= run.method.classes:
        raise InputError(f"method.classes: {run.method.classes}, but the pictures have {most + 1}; set --classes")
    return images.labels.to(device)


def _kept_lines(path: Path, done: int) -> list[dict[str, Any]]:
    """The log up to the checkpoint; lines after it, and a torn one, are cut off, for they will be written again."""
    kept = read_log(path, done)
    if path.exists():
        durable.write_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def _refuse_nan(what: str, values: list[Tensor], folder: Path, step: int, batch: Tensor) -> None:
    """Stop where one of the values is not finite; say where to look."""
    if bool(torch.isfinite(torch.stack(torch._foreach_norm(values)).norm())):
        return
    durable.write_json(folder / "diverged.json", {"step": step, "not_finite": what, "pictures": batch.tolist()})
    raise Diverged(
        f"{folder}: the {what} is not finite at step {step}; what was saved before is whole; try a lower "
        f"--optimizer.lr (diverged.json lists the pictures)"
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM put their number into, for the loop to see between two steps.

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
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
