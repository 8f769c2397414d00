"""`Watch`: the numbers, the verdict, the log and the page of a run, for a training loop that is not ours."""

import operator
import os
import re
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from vergence.config import Watched
from vergence.config.schema import to_dict
from vergence.engine.log import Log, keep_lines, summarize
from vergence.errors import InputError, VergenceError
from vergence.files import durable
from vergence.files.run_folder import METRICS, RUN, SUMMARY, read_log, read_run_or_watched
from vergence.machine.device import environment
from vergence.metrics.measure import begin, embeddings
from vergence.metrics.verdict import PROJECTIONS, Verdict
from vergence.watching.given import Given, Views, given

if TYPE_CHECKING:
    from vergence.watching.hooks import Hooks

NOT_FINITE = Verdict("undecided", "the loss or an embedding is not a finite number", {}, "a lower learning rate")
"""The verdict on a step that has no line: a log holds finite numbers only."""


class _Waiting(NamedTuple):
    """A step whose numbers are on their way, the fields they must have, and how long it took to ask for them."""

    step: int
    needed: tuple[str, ...]
    numbers: Callable[[], dict[str, Any]]
    seconds: float


class Watch:
    """Watches a training loop: `watch(step, z=(z1, z2), y=(y1, y2), loss=loss)` after the forward passes of a step.

    It detaches what it is given, draws nothing and touches no network, so it changes no bit of the training. What is
    wrong with its arguments is an `InputError`; whatever else goes wrong ends the watching with one line, never the
    loop. Of several processes that of rank 0 watches its own part of the batch, and the others do nothing.

    Args:
        folder: for `metrics.jsonl`, which goes on where it was, and what `vergence report` needs; None: in memory only.
        name: of the loop, on the page; by default the folder.
        seed: of the loop: those of one name and several seeds are one row of a page.
        every: steps between log lines, besides the first; None: as `share` allows.
        share: of the loop's time, at most, that watching takes after its first two lines; above 0, at most 1.
        steps_per_epoch: steps in an epoch; None: the log counts each step as one.
        say: called with one line of text when a verdict changes; None: nobody is told.

    Attributes:
        verdict: the last on the projections; None so far.
        representation: the last on the representation; None so far.
        lines: the log.
        is_off: whether it watches no longer: it was closed, gave up, or is not of rank 0.

    Raises:
        InputError: the folder holds something else, or an argument cannot be so.
        MachineError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        name: str = "",
        seed: int = 0,
        every: int | None = None,
        share: float = 0.01,
        steps_per_epoch: int | None = None,
        say: Callable[[str], object] | None = print,
    ):
        for what, count in (("every", every), ("steps_per_epoch", steps_per_epoch)):
            if count is not None and (type(count) is not int or count < 1):
                raise InputError(f"watch: {what}: expected a whole number of steps, at least 1, not {count!r}")
        if not (isinstance(share, int | float) and 0 < share <= 1):
            raise InputError(f"watch: share: expected a share of the time, above 0 and at most 1, not {share!r}")
        self.folder = None if folder is None else Path(folder)
        self.name, self.seed, self.by = name or str(folder or "watched"), seed, "a loop"
        self.every, self.share, self.steps_per_epoch = every, share, steps_per_epoch
        self.verdict: Verdict | None = None
        self.representation: Verdict | None = None
        self.lines: list[dict[str, Any]] = []
        self._say = say or (lambda text: None)
        self._loop: Watched | None = None
        self._log: Log | None = None
        self._waits: _Waiting | None = None
        self._hooks: list[Hooks] = []
        self._step, self._measured, self._spent, self._last = 0, 0, 0.0, 0.0
        self._clock = self._since = time.perf_counter()
        self.is_off = _rank() > 0
        if self.folder is not None and not self.is_off:
            self._open(self.folder, bool(name))

    def __call__(
        self,
        step: int,
        *,
        z: Views,
        y: Views | None = None,
        p: Views | None = None,
        z_target: Views | None = None,
        loss: Tensor | float | None = None,
    ) -> Verdict | None:
        """Watch a step.

        Args:
            step: its number, from 1, over all epochs; the same again, as of accumulated gradients, is passed over.
            z: projections of both views, `(z1, z2)`, each `[b d]`, or `[2 b d]`; of one view beside the other's key.
            y: representations of the same views, `[b d]` with a d of their own.
            p: predictions of the same views, shaped as z.
            z_target: the target network's projections of the same views; where z is of one view, the key of the other.
            loss: a number, or a tensor of one.

        Returns:
            The verdict on the projections where a line was logged, else None. On a GPU a line is logged one call later:
            its numbers are fetched while the step goes on.

        Raises:
            InputError: an argument has a wrong shape or type, or the step comes before the last one.
        """
        began = time.perf_counter()
        seen = given({"z": z, "y": y, "p": p, "z_target": z_target}, loss)
        with suppress(TypeError):  # numbers of numpy, and tensors of one
            step = operator.index(step)
        if type(step) is not int or step < max(1, self._step):
            after = f" after step {self._step}" if self._step else ""
            raise InputError(f"watch: step {step!r}{after}: count from 1 on, and on over all epochs")
        if self.is_off or step == self._step:
            return None
        try:
            return self._watch(step, seen)
        except Exception as error:  # whatever it is, the loop is worth more than its log
            self.give_up(step, error)
            return None
        finally:
            if self._measured > 1:
                self._spent += time.perf_counter() - began  # of steps that are passed over too, which are many

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; the log of a loop that ends in an error stays unfinished."""
        self.close(finished=kind is None)

    def close(self, *, finished: bool = True) -> None:
        """Log what is on its way, take hooks away, and say in `summary.json` that the loop has ended, if it is so."""
        for hooks in self._hooks:
            hooks.remove()
        if self.is_off:
            return
        try:
            self._write()
            if self.folder is not None and self._log is not None:
                durable.sync_file(self.folder / METRICS)
                if finished and self.verdict is not None and self.representation is not None:
                    durable.write_json(self.folder / SUMMARY, self._summary(self.verdict, self.representation))
        except Exception as error:
            self._stop("to its end", error)
        self.is_off = True

    def hook(
        self,
        module: nn.Module,
        encoder: str = "backbone",
        projector: str = "projection_head",
        *,
        calls: int = 2,
        done: int = 0,
        **others: str,
    ) -> "Hooks":
        """Watch a module by what its parts return in training mode, without a call in the loop.

        Args:
            module: which holds the parts; not a compiled one.
            encoder: the part that returns y; of maps and tokens the mean is taken.
            projector: the part that returns z.
            calls: of each part in a step, of which the first two are the views; 1: both are in one batch, `[2b d]`.
            done: steps done before, where training goes on.
            others: `predictor` and `target`, the parts that return p and z_target.

        Returns:
            The hooks; `remove()` takes them away, as `close` does.

        Raises:
            InputError: a part is not there, or the module is compiled.
        """
        from vergence.watching.hooks import Hooks

        hooks = Hooks(self, module, {"encoder": encoder, "projector": projector, **others}, calls, done)
        self.by = f"hooks on {hooks.about}"
        self._hooks.append(hooks)
        return hooks

    def lightning(
        self, encoder: str = "backbone", projector: str = "projection_head", *, calls: int = 2, **others: str
    ) -> Any:  # its class needs Lightning
        """Return a callback for the Trainer of `lightning` or `pytorch_lightning`, whichever is in use.

        It hooks parts of the LightningModule, takes step and loss from the Trainer, and closes the watch at the end.

        Args:
            encoder: as in `hook`.
            projector: as in `hook`.
            calls: as in `hook`.
            others: as in `hook`.

        Raises:
            InputError: neither is installed.
        """
        from vergence.watching.lightning import callback

        return callback(self, {"encoder": encoder, "projector": projector, **others}, calls)

    # --- a step -------------------------------------------------------------------------------------------------------

    def _watch(self, step: int, seen: Given) -> Verdict | None:
        verdict = self._write()  # of an earlier step, while a GPU is at this one
        if self._log is None and not self._begin(step, seen):
            return None
        self._step = step
        if self._is_due(step):
            self._measure(step, seen)
            if seen.device.type == "cpu":
                verdict = self._write()
        return verdict

    def _is_due(self, step: int) -> bool:
        if self.every is not None:
            return step == 1 or step % self.every == 0
        if self._measured < 2:  # the first finds all caches cold, and does not tell what others will cost
            return True
        return self._spent + self._last <= self.share * (time.perf_counter() - self._since)

    def _measure(self, step: int, seen: Given) -> None:
        """Begin to measure a step."""
        began = time.perf_counter()
        on = torch.cuda.device(seen.device) if seen.device.type == "cuda" else nullcontext()
        with torch.no_grad(), torch.autocast(seen.device.type, enabled=False), on:
            z, y, p, z_target = (seen.stacked(name) for name in ("z", "y", "p", "z_target"))
            assert z is not None
            scalars = seen.scalars()
            numbers = begin(embeddings(z, y, p, z_target), scalars, {}, None)
        self._measured += 1
        self._waits = _Waiting(step, (*scalars, *PROJECTIONS), numbers, time.perf_counter() - began)

    def _write(self) -> Verdict | None:
        """Log the step whose numbers are on their way, if one is; return its verdict."""
        if self._waits is None:
            return None
        began = time.perf_counter()
        waits, self._waits = self._waits, None
        verdict, representation = self._judge(waits)
        for what, before, after in (
            ("projections", self.verdict, verdict),
            ("representation", self.representation, representation),
        ):
            if after is not None and _changes(before, after):
                tried = f"; try: {after.advice}" if after.advice else ""
                self._say(f"{self.name}: step {waits.step}: {what}: {after.state}: {after.rule}{tried}")
        self.verdict, self.representation = verdict, representation
        now = time.perf_counter()
        if self._measured == 1:
            self._since = now
        else:
            self._last = waits.seconds + now - began
        return verdict

    def _judge(self, waits: _Waiting) -> tuple[Verdict, Verdict | None]:
        """Add the line of a step to the log; where its numbers are not finite, there is none."""
        assert self._log is not None
        try:
            numbers = waits.numbers()
        except torch.linalg.LinAlgError:  # embeddings that are not finite have no spectrum
            return NOT_FINITE, self.representation
        if any(numbers[name] is None for name in waits.needed):
            return NOT_FINITE, self.representation
        if "loss" not in waits.needed:
            del numbers["loss"]
        line, *verdicts = self._log.add(waits.step, waits.step / (self.steps_per_epoch or 1), numbers)
        self.lines.append(line)
        verdict, representation = (one._replace(advice=_without_options(one.advice)) for one in verdicts)
        return verdict, representation

    def give_up(self, step: int, error: Exception) -> None:
        """Say in one line why watching ends with a step, and watch no longer; the loop goes on."""
        self._stop(f"from step {step} on", error)

    def _stop(self, when: str, error: Exception) -> None:
        self.is_off, self._waits = True, None
        kind = "" if isinstance(error, VergenceError) else f"{type(error).__name__}: "
        with suppress(Exception):
            self._say(f"{self.name}: not watched {when}: {kind}{error}")

    # --- the folder ---------------------------------------------------------------------------------------------------

    def _open(self, folder: Path, is_named: bool) -> None:
        """Read what an earlier loop left; refuse what is another's."""
        if not (folder / RUN).exists():
            if (folder / METRICS).exists():
                raise InputError(f"{folder}: has a {METRICS} but no {RUN}; choose another folder")
            durable.make_folder(folder)
            return
        theirs = read_run_or_watched(folder / RUN)
        if not isinstance(theirs, Watched):
            raise InputError(f"{folder}: holds a run of vergence train; choose another folder to watch into")
        self.name = self.name if is_named else theirs.name
        if (theirs.name, theirs.seed) != (self.name, self.seed):
            held = f"the loop {theirs.name!r} with seed {theirs.seed}"
            raise InputError(f"{folder}: holds {held}, not {self.name!r} with seed {self.seed}; choose another folder")
        self.lines = read_log(folder / METRICS)

    def _begin(self, step: int, seen: Given) -> bool:
        """Open the log, or cut it off where the loop goes on; return whether this process logs at all."""
        if _rank() > 0:  # the processes may have met only after the watch was made
            self.is_off = True
            return False
        pictures, dimensions = seen.pictures, seen.dimensions
        self._loop = Watched(name=self.name, seed=self.seed, batch_size=pictures, dimensions=dimensions)
        self._device = seen.device
        if self.folder is not None:
            (self.folder / SUMMARY).unlink(missing_ok=True)
            about = {
                "format": 1,
                "key": self._loop.key,
                "watched_by": self.by,
                "environment": environment(self._device),
            }
            durable.write_json(self.folder / RUN, about | {"run": to_dict(self._loop)})
            self.lines = keep_lines(self.folder / METRICS, step - 1)
        path = None if self.folder is None else self.folder / METRICS
        self._log = Log(path, self.lines, step - 1, pictures, min(pictures, dimensions))
        self._log.clock = self._clock  # since the watch was made: from there on the loop prepared this step
        return True

    def _summary(self, verdict: Verdict, representation: Verdict) -> dict[str, Any]:
        assert self._loop is not None
        return {
            "key": self._loop.key,
            "method": self.name,
            "encoder": "of the loop, which keeps it",
            "environment": environment(self._device),
            **summarize(self.lines, verdict),
            "representation": representation._asdict(),
        }


def _changes(before: Verdict | None, after: Verdict) -> bool:
    """Return whether a verdict is news; that nothing can be said yet is not."""
    if before is None:
        return after.state != "undecided" or after is NOT_FINITE
    return before.state != after.state or (after is NOT_FINITE and before is not NOT_FINITE)


def _rank() -> int:
    """Return the rank of this process: of its group, or else as launchers tell it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdigit() else 0


def _without_options(advice: str) -> str:
    """Return an advice without the dashes of options, which are those of `vergence train`: "a lower optimizer lr"."""
    return re.sub(r"--([a-z.-]+)", lambda option: re.sub(r"[.-]", " ", option[1]), advice)
