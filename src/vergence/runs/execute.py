"""A run from its configuration to its summary, in a folder of its own."""

import contextlib
import glob
import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vergence import methods, plugins
from vergence.augment import transforms
from vergence.config import Run
from vergence.config.schema import differences, to_dict
from vergence.data import Images
from vergence.data import load as load_images
from vergence.data.images import unscored
from vergence.engine import checkpoint
from vergence.engine.evaluate import beside, evaluate
from vergence.engine.log import summarize
from vergence.engine.observe import observer
from vergence.engine.periods import Periods
from vergence.engine.reporter import Reporter
from vergence.engine.train import steps_per_epoch, train
from vergence.engine.where import Where
from vergence.errors import InputError, MachineError, out_of_memory
from vergence.fast import convolution
from vergence.files import durable
from vergence.files.names import path_or_none
from vergence.files.results import read_summary
from vergence.files.run_folder import (
    CHECKPOINTS,
    DIVERGED,
    FILES,
    METRICS,
    PICTURES,
    RUN,
    SUMMARY,
    check_output_outside_data,
    own_key,
    read_json,
    read_log,
    read_run,
)
from vergence.machine.device import device_of, environment, refuse_emulation
from vergence.machine.threads import require_usable
from vergence.metrics.table import PROBES
from vergence.metrics.verdict import Judge
from vergence.networks.encoders import from_random, require_known
from vergence.runs import pictures
from vergence.runs.pictures import Facts, labelled, subset
from vergence.runs.start import cautions, describe, judge_encoder, lasting
from vergence.runs.weights import require_hash

MUST_MATCH = ("vergence", "torch", "numba", "device")
"""The parts of their environment that the processes of a run must have in common."""

STARTING = "starting weights"

AFFECTS_BITS = {"threads": None, "torch": None, "numba": None, "device_name": None, "processes": 1, "convolutions": 1}
"""The parts of the environment that a result's last bits depend on, and what each was where a run does not say."""


def run_training(
    run: Run,
    folder: Path | str,
    *,
    where: Where = Where(),
    periods: Periods = Periods(),
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train and evaluate `run` in `folder`; return its summary.

    A folder that holds this run finished is recognised and left as it is; unfinished, it goes on with `resume`. It may
    have begun where its pictures lay elsewhere, as long as they are the same.

    Args:
        run: what to do.
        folder: holds `run.json`, `metrics.jsonl`, `checkpoints/` and, at the end, `summary.json`.
        where: the pictures' folder, the device, the processes.
        periods: how often to log, to save, to score probes and to look inside.
        resume: go on with an unfinished run.
        reporter: told what happens.
    """
    folder, data_dir = Path(folder), path_or_none(where.data_dir)
    device, group = device_of(where.device), where.group
    reporter = reporter if reporter is not None and group.is_main else Reporter()
    require_usable(device)
    require_known(run.encoder.name)
    transforms.require_known(run.views.transforms)
    asked = {"log_every": periods.log_every, "save_every": periods.save_every}
    asked |= {"resume": resume, "compile": where.compile}
    ours = to_dict(run, places=False, stored=False)
    group.assert_equal(lambda: {"run": ours, "folder": str(folder.absolute()), **asked})
    require_hash(run)
    if (summary := group.broadcast_object(lambda: find_finished(run, folder, resume, data_dir))) is not None:
        return summary
    run = pictures.settled(run, folder, data_dir)
    group.broadcast_object(lambda: check_output_outside_data(run.data, folder, data_dir))
    refuse_emulation(run.precision, device)
    with durable.locked(folder) if group.is_main else contextlib.nullcontext():
        # Others may have finished it just now.
        if (summary := group.broadcast_object(lambda: find_finished(run, folder, resume, data_dir))) is not None:
            return summary
        if group.is_main:
            durable.sweep(folder)
        whole = load_images(run.data, "pretrain", data_dir=data_dir)
        images, splits = subset(whole, run.subset), labelled(run, data_dir)
        steps_per_epoch(run, len(images))  # before anything is said of them
        group.assert_equal(lambda: {"pictures": images.digest()} | {k: environment(device)[k] for k in MUST_MATCH})
        observe = observer(run, images, splits, where, periods)
        if group.is_main:
            _begin(run, folder, whole, splits[1], device, reporter, group.size)
            (folder / DIVERGED).unlink(missing_ok=True)  # of an attempt before this one
        with _memory(run, folder, device):
            first = methods.build(run)
            untrained = first if run.encoder.weights is None else methods.build(from_random(run))
            block = describe(run, images, splits, first, device, unscored(*splits))
            if group.is_main:
                reporter.found(block)
                for caution in cautions(run, images):
                    reporter.say(f"warning: {caution}")
            try:
                method = train(run, images, folder, where=where, periods=periods, reporter=reporter, observe=observe)
            finally:
                reporter.stop()

            score = partial(evaluate, where=where, precision=run.precision)
            scores = score(method.encoder, *splits, run.views)
            if run.epochs and first is not untrained:
                scores = beside(scores, STARTING, score(first.encoder, *splits, run.views))
            if run.epochs or first is not untrained:
                scores = beside(scores, "untrained", score(untrained.encoder, *splits, run.views))

            def finish() -> dict[str, Any]:
                if (reason := unscored(*splits)) is not None:
                    reporter.say(f"not scored: {reason}")
                summary: dict[str, Any] = _summary(run, folder, scores, device) | {"start": lasting(block)}
                if run.epochs:
                    state = summary["verdict"]["state"]
                    summary["representation"] = judge_encoder(
                        run, method.encoder, untrained.encoder, images, device, state
                    )._asdict()
                durable.write_json(folder / SUMMARY, summary)
                return summary

            return group.broadcast_object(finish)


@contextlib.contextmanager
def _memory(run: Run, folder: Path, device: torch.device) -> Iterator[None]:
    """Say of memory that is not enough what it was asked for, and what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        raise MachineError(
            f"{folder}: out of memory, {peak / 1e9:.1f} GB in use at most, with batches of {run.batch_size} at "
            f"{run.views.size} px; try a smaller one, such as --batch-size {max(2, run.batch_size // 2)}, in another "
            "--out, or --resume where there is more memory: what was saved stands"
        ) from error


def find_finished(run: Run, folder: Path, resume: bool, data_dir: Path | None = None) -> dict[str, Any] | None:
    """Return the summary where `folder` holds this run finished, None where the run may start or go on.

    Raises:
        InputError: another run is there, or this one on other pictures, or unfinished and `resume` not asked for.
    """
    begun = bool(checkpoint.found(folder / CHECKPOINTS))
    if not os.path.exists(folder / RUN):  # it is written first
        files = [name for pattern in FILES for name in sorted(glob.glob(pattern, root_dir=folder))]
        if taken := ["checkpoints"] * begun + [f"a {name}" for name in files]:
            raise InputError(f"{folder}: has {taken[0]} but no {RUN}; choose another --out")
        return None
    finished = (folder / SUMMARY).exists()
    if not begun and not finished:  # nothing was done: whatever was asked for there, it may be asked for differently
        _require_a_run(folder)
        return None
    theirs = read_run(folder / RUN)
    if theirs.key != run.key:
        lines = differences(*(to_dict(one, places=False, stored=False) for one in (theirs, run)))
        raise InputError(f"{folder}: holds another run; choose another --out. It differs in: {'; '.join(lines)}")
    if (finished or not resume) and (how := pictures.unlike(run, folder, data_dir)):  # else when they are loaded
        raise _on_others(folder, how)
    if finished:
        return read_summary(folder, theirs)
    if not resume:
        raise InputError(f"{folder}: this run is there, unfinished; add --resume to go on")
    return None


def _on_others(folder: Path, how: str) -> InputError:
    return InputError(f"{folder}: holds this run on other pictures: {how}; choose another --out")


def _require_a_run(folder: Path) -> None:
    try:
        read_run(folder / RUN)
    except InputError as error:
        why = str(error).splitlines()[0].removeprefix(f"{folder / RUN}: ")
        raise InputError(f"{folder}: has a {RUN} that is no run's ({why}); choose another --out") from error


def _begin(
    run: Run, folder: Path, whole: Images, test: Images, device: torch.device, reporter: Reporter, processes: int
) -> None:
    """Write `run.json` and which pictures there are, or compare what was written with what is here."""
    facts: Facts = pictures.facts(run, whole, test)
    here: Facts = {"format": 1, "key": run.key, **facts, "environment": environment(device), "run": to_dict(run)}
    if processes > 1:
        here["environment"]["processes"] = processes
    if device.type == "cpu":
        here["environment"]["convolutions"] = convolution.REVISION
    if own := plugins.of_run(run):
        here["plugins"] = own
    path = folder / RUN
    if not path.exists() or not checkpoint.found(folder / CHECKPOINTS):
        durable.write_json(path, here)
        pictures.note(run, folder, whole, test)
        return
    there = read_json(path)
    if how := pictures.changes(folder, there, facts, whole, test):
        raise _on_others(folder, how)
    if not (folder / PICTURES).exists():  # begun by an earlier version
        pictures.note(run, folder, whole, test)
    for name in plugins.changed(there.get("plugins"), own):
        reporter.say(f"warning: the plugin {name} is another file than the run began with: the result may differ")
    for name, default in AFFECTS_BITS.items():
        before, now = ((of.get("environment") or {}).get(name, default) for of in (there, here))
        if before != now:
            reporter.say(f"warning: {name} was {before}, is {now}: the result may differ in its last bits")


def _summary(run: Run, folder: Path, scores: dict[str, Any], device: torch.device) -> dict[str, Any]:
    lines = read_log(folder / METRICS)
    summary = {
        "key": own_key(folder, run),
        "method": run.method.kind,
        **{probe: scores.get(probe) for probe in PROBES},
        "encoder": "of the last checkpoint" if lines else "untrained" if run.encoder.weights is None else STARTING,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(device),
    }
    if lines:
        judge = Judge(min(run.batch_size, run.method.projector.out))
        verdict = [judge.hear(line) for line in lines][-1]
        summary |= summarize(lines, verdict)
    return summary
