"""One training step: from the places of pictures to updated weights."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from vergence import methods
from vergence.augment import Ragged, draw, multi_crop
from vergence.config import Direct, Run
from vergence.data import Images
from vergence.engine.batches import Ahead, fit, taken
from vergence.engine.gradients import LossScale, NonFiniteGuard, NotFinite, clip, merged
from vergence.engine.replicas import replicated
from vergence.errors import InputError
from vergence.fast import Compile
from vergence.machine.processes import SINGLE_PROCESS, Group
from vergence.machine.randomness import drawn_from, generator, seed_of
from vergence.machine.threads import TwoWorkers, two_workers
from vergence.networks.parallel_views import parallel_views
from vergence.networks.split_batch_norm import split_batch_norm
from vergence.networks.sync_batch_norm import sync_batch_norm
from vergence.optim import layers, make_capturable, rate_at, set_rate, set_weight_decay, weight_decay_at

_WARM_UP = 3
"""Steps of a process before one is captured: libraries choose their kernels and make their handles in the first."""


class StepResult(NamedTuple):
    """What a step leaves to be looked at, on the device; a captured step overwrites it with the next.

    Attributes:
        outputs: of the method.
        views: `[2 b 3 s s]`, without local crops; of several processes, this one's.
        layers: norms and rates before the update, and what makes them readable (`optim.layers`); None unless asked for.
    """

    outputs: methods.Outputs
    views: Tensor
    layers: tuple[Tensor, Callable[[Tensor], dict[str, Any]]] | None


def update(
    method: methods.Method,
    optimizer: torch.optim.Optimizer,
    outputs: methods.Outputs,
    progress: float | Tensor,
    scale: LossScale | None = None,
) -> bool:
    """What follows the gradient: weights, target, queue, in the order that the target's rule names.

    Args:
        method: its parameters hold the gradient; they leave without.
        optimizer: set to this step's rate.
        outputs: of this step.
        progress: share of the horizon that is done with this step, in (0, 1].
        scale: of the loss, in float16.

    Returns:
        Whether the optimizer made its update: a scale skips one whose gradient is not finite.
    """
    method.move_target(progress, "before-optimizer")
    done = True
    if scale is None:
        optimizer.step()
    else:
        done = scale.step()
    optimizer.zero_grad()
    method.move_target(progress, "after-optimizer")
    method.finish_step(outputs)
    return done


@dataclass(frozen=True)
class Setup:
    """What a step needs together.

    Attributes:
        run: what is trained.
        method: its networks, on the device.
        optimizer: of its parameters.
        images: the pictures; kept on the device where they fit.
        device: where it is trained.
        per_epoch: steps in an epoch.
    """

    run: Run
    method: methods.Method
    optimizer: torch.optim.Optimizer
    images: Images
    device: torch.device
    per_epoch: int


class Stepper:
    """The step as it is written: on the CPU, and the reference for what is faster.

    Args:
        setup: what is trained, and on what.
        workers: for what can be done side by side.
        forward: the method, or a compiled one.
        group: the processes that share each batch.

    Attributes:
        held: crops that every step trains on instead of cutting its own: to measure the rest alone.
        own: what layers draw from, such as dropout's; None where that is torch's own generator, which graphs and
            compiled methods know.
        scale: of the loss, in float16; None in other precisions.
        frozen: whether the encoder, or another module in its `frozen_epochs`, is not updated at this step.
        draws: whether they draw; None until a step has been done.
    """

    held: tuple[Tensor, ...] | None = None
    draws: bool | None = None
    frozen = False

    def __init__(
        self,
        setup: Setup,
        workers: TwoWorkers,
        forward: Callable[..., methods.Outputs] | None = None,
        group: Group = SINGLE_PROCESS,
    ):
        run, images, device = setup.run, setup.images, setup.device
        self.run, self.method, self.optimizer, self.workers = run, setup.method, setup.optimizer, workers
        self.group, self.forward = group, replicated(setup.method, group) if forward is None else forward
        self.device, self.source, self.labels = device, images.size, _labels(run, images, device)
        pixels, last, part_of = images.pixels, run.epochs * setup.per_epoch, group.local_slice
        self.pixels = pixels.to(device) if isinstance(pixels, Ragged) or fit(pixels, device) else pixels
        self.ahead = Ahead(run, self.pixels, last, part_of) if isinstance(self.pixels, Ragged) else None
        epochs = run.schedule_epochs or run.epochs
        self.horizon, self.epochs = epochs * setup.per_epoch, epochs
        self.finite = NonFiniteGuard(device)
        self.own = torch.Generator() if device.type == "cpu" and forward is None else None
        self.scale = LossScale(setup.optimizer, device) if run.precision == "float16" else None
        late = {"online.encoder": run.optimizer.frozen_epochs, **setup.method.frozen_epochs}
        modules = [(setup.method.get_submodule(name), epochs) for name, epochs in late.items()]
        self.late = [([p for p in module.parameters() if p.requires_grad], epochs) for module, epochs in modules]

    def __call__(self, step: int, batch: Int64[Tensor, " b"], with_layer_stats: bool) -> StepResult:
        """Do step number `step`, from 1, on the pictures of `batch`; `with_layer_stats`: at the layers too.

        Raises:
            NotFinite: on the CPU, where asking costs nothing: before the update. Elsewhere `check` raises it later.
        """
        self._set(step)
        crops = self.crops(step, batch) if self.held is None else self.held
        labels = None if self.labels is None else self.labels[batch.to(self.device)]
        return self.learn(crops, step, step / self.horizon, labels, with_layer_stats)

    def crops(self, step: int, batch: Int64[Tensor, " b"]) -> tuple[Tensor, ...]:
        """Return the crops of that step, as `multi_crop` gives them, of these pictures; `batch` is on the CPU."""
        if self.ahead is not None:
            return self.ahead.crops(step, batch, self.workers.map)
        assert isinstance(self.pixels, Tensor)
        drawn = generator(self.run.seed, "views", step)
        part = self.group.local_slice(len(batch))
        pixels = taken(self.pixels, batch, self.device)
        return multi_crop(pixels, self.source, self.run.views, drawn, self.workers.map, part)

    def _set(self, step: int) -> None:
        run, done = self.run, (step - 1) / self.horizon
        share = rate_at(run.schedule, done, self.epochs, 1 / self.horizon)
        set_rate(self.optimizer, run.optimizer.lr * share)
        set_weight_decay(self.optimizer, weight_decay_at(run.optimizer, done))
        self.freeze(done * self.epochs)
        self.method.epoch.fill_(done * self.epochs)
        others = (self.group.rank,) if self.group.rank else ()
        seed = seed_of(run.seed, "layers", step, *others)  # of what draws inside a network, such as dropout
        torch.manual_seed(seed) if self.own is None else self.own.manual_seed(seed)

    def freeze(self, epoch: float) -> None:
        """Take weights out of the gradient, and so out of the update, in their first epochs; then put them back."""
        for parameters, epochs in self.late:
            for parameter in parameters:
                parameter.requires_grad_(epoch >= epochs)
        self.frozen = any(epoch < epochs for _, epochs in self.late)

    def numbers(self) -> dict[str, float]:
        """Return what else a line of the log says of the step."""
        return {} if self.scale is None else self.scale.numbers()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, layers draw what this step gives them. The first step finds out whether they do at all."""
        if self.own is None or self.draws is False:
            yield
            return
        with drawn_from(self.own) as draws:
            yield
        self.draws = self.draws or draws.any

    def learn(
        self,
        crops: tuple[Tensor, ...],
        step: int | Tensor,
        progress: float | Tensor = 1.0,
        labels: Tensor | None = None,
        with_layer_stats: bool = False,
    ) -> StepResult:
        """Do the part of a step that follows the crops: the views, and local crops where there are any."""
        outputs = self._differentiate(crops, step, labels)
        if self.scale is None:
            self._note("gradient", [p.grad for p in self.method.parameters() if p.grad is not None], step)
        else:
            self.scale.unscale()
        layer_stats = layers(self.method, self.optimizer) if with_layer_stats else None
        optimizer = self.run.optimizer
        with self.workers.joined():  # norms that LARS and clipping take are the same bits with any number of threads
            if optimizer.clip is not None:
                clip(self.method.parameters(), optimizer.clip, optimizer.clip_of)
            done = update(self.method, self.optimizer, outputs, progress, self.scale)
        if self.scale is not None and self.scale.numbers()["loss_scale"] < LossScale.FLOOR:
            raise NotFinite("gradient", int(step))
        return StepResult(outputs, crops[0], layer_stats if done else None)

    def _differentiate(self, crops: tuple[Tensor, ...], step: int | Tensor, labels: Tensor | None) -> methods.Outputs:
        """Leave the gradient of the loss, the mean over the parts of the batch and over ranks, in the parameters."""
        parts, n = [], self.run.accumulate
        for i in range(n):  # every n-th picture: so a part is the same with any number of processes
            own = crops if n == 1 else tuple(crop[:, i::n] for crop in crops)
            with nullcontext() if i == n - 1 else self.group.without_sync(self.forward):
                with self.drawing():
                    outputs = self.forward(*own) if labels is None else self.forward(*own, labels[i::n])
                self._note("loss", [outputs.loss.detach()], step)
                loss = outputs.loss if n == 1 else outputs.loss / n
                (loss if self.scale is None else self.scale.scaler.scale(loss)).backward()
            parts.append(outputs)
        return merged(parts)

    def _note(self, part: str, values: list[Tensor], step: int | Tensor) -> None:
        self.finite.record(part, values, step)
        if self.device.type == "cpu":
            self.finite.check()

    def check_state(self, step: int) -> None:
        """Before the state after `step` is saved: raise `NotFinite` if it, or anything before it, was not finite."""
        self.finite.record("state", [v for v in self.method.state_dict().values() if v.is_floating_point()], step)
        self.finite.check()


class CapturedStepper(Stepper):
    """The step as one CUDA graph: a thousand kernels launched at once, views included, nothing waited for.

    What changes from step to step is copied into tensors that the graph reads. The first steps of a process are not
    captured; the graph then does what they did.
    """

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        device, size = self.device, self.run.batch_size
        assert isinstance(self.pixels, Tensor)
        on_device = self.pixels.device.type == device.type
        self.window = None if on_device else torch.empty_like(self.pixels[:size], device=device)
        make_capturable(self.optimizer, device)
        self.batch = torch.zeros(size, dtype=torch.int64, device=device)
        self.drawn: Tensor | None = None
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.progress = torch.zeros((), device=device)
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.seen: StepResult | None = None
        self.steps = 0

    def __call__(self, step: int, batch: Int64[Tensor, " b"], with_layer_stats: bool) -> StepResult:
        from vergence.augment import kernels

        self._set(step)
        run, drawing = self.run, generator(self.run.seed, "views", step)
        assert self.source is not None
        drawn = [draw(view, len(batch), self.source, drawing) for view in (run.views.first, run.views.second)]
        packed = torch.stack([kernels.pack(parameters) for parameters in drawn])
        if self.drawn is None:
            self.drawn = packed.to(self.device)
        self.drawn.copy_(packed, non_blocking=True)
        self.batch.copy_(batch, non_blocking=True)
        if self.window is not None:
            assert isinstance(self.pixels, Tensor)
            self.window.copy_(self.pixels[batch].pin_memory(), non_blocking=True)
        self.step.fill_(step)
        self.progress.fill_(step / self.horizon)
        self.steps += not self.frozen  # a graph has every update in it
        if self.steps == _WARM_UP + 1 and not self.frozen:
            self._capture()
        if self.graph is None or self.seen is None:
            return self._on_its_stream(self._whole)
        self.graph.replay()
        return self.seen

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.seen = self._whole()
        except RuntimeError as error:  # a backbone that asks the device something in its forward pass
            self.optimizer.zero_grad()
            reason = (str(error).splitlines() or [""])[0][:120]
            warnings.warn(
                f"the step cannot be captured as one graph, it goes on kernel by kernel: {reason}", stacklevel=2
            )
        else:
            self.graph = graph

    def _whole(self) -> StepResult:
        from vergence.augment import kernels

        assert self.drawn is not None
        assert self.source is not None
        assert isinstance(self.pixels, Tensor)
        dtype = torch.bfloat16 if self.run.precision == "bfloat16" else torch.float32
        crops = self.held
        if crops is None:
            pixels = self.pixels[self.batch] if self.window is None else self.window
            crops = (kernels.two_views(pixels, self.source, self.run.views, self.drawn, dtype),)
        labels = None if self.labels is None else self.labels[self.batch]
        return self.learn(crops, self.step, self.progress, labels, with_layer_stats=True)

    def _on_its_stream(self, function: Callable[[], StepResult]) -> StepResult:
        """Before a capture, on the stream of the capture, as torch asks for."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            seen = function()
        torch.cuda.current_stream().wait_stream(self.stream)
        return seen


def _labels(run: Run, images: Images, device: torch.device) -> Tensor | None:
    """The classes, for a method that is told them; None for all others."""
    classes = getattr(run.method, "classes", None)
    if classes is None:
        return None
    if images.labels is None:
        raise InputError(f"{run.data.kind}: the supervised baseline needs labels; these pictures have none")
    if (most := int(images.labels.max())) >= classes:
        raise InputError(f"--classes: {classes}, but the pictures have {most + 1}; give it that number or more")
    return images.labels.to(device)


def build_stepper(setup: Setup, workers: TwoWorkers, compile: Compile, group: Group = SINGLE_PROCESS) -> Stepper:
    """The step of a run on a device; arguments as `Stepper`'s.

    "none": as it is written. "graph": views in fused kernels, both views in one pass with batch norm's statistics kept
    for each, the whole captured as a CUDA graph. "full": the method is compiled first, which fuses batch norm, ReLU and
    the sum of a residual block. "auto": "full" on a GPU that Triton compiles for, "none" on the CPU, where compiling
    takes minutes and gains nothing (docs/performance.md). Several processes compile the method and capture nothing:
    what averages their gradients asks the host. Local crops and transforms of a user's own are no part of the kernels:
    a compiled method takes them, kernel by kernel. So it is in float16, whose scale the host decides on, where weight
    decay, a number in an optimizer's kernel, changes, and with a predictor that the host waits for (`direct`).
    """
    run, method, device = setup.run, setup.method, setup.device
    cuda = device.type == "cuda"
    if compile == "graph" and group.size > 1:
        raise InputError(f"--compile: a graph is of one process; with {group.size} use full, or leave it at auto")
    if compile == "auto":
        compile = "full" if cuda and torch.cuda.get_device_capability(device) >= (7, 0) else "none"
    if cuda and compile != "none" and run.views.order == "folded":  # the kernels cut views in the published order only
        compile = "none"
    if compile == "graph" and not cuda:
        raise InputError("--compile: a graph needs a CUDA device; use none, or full for a compiled method")
    if compile == "none":
        return Stepper(setup, workers, group=group)
    if group.size > 1:
        return Stepper(setup, workers, torch.compile(replicated(method, group), dynamic=False), group)
    if not run.views.local.count:  # of which there may be one, or three
        split_batch_norm(method)
    forward: Any = torch.compile(method, dynamic=False) if compile == "full" else method
    in_squares = isinstance(setup.images.pixels, Tensor) and setup.images.size is not None  # as the kernels cut them
    changing = run.precision == "float16" or run.optimizer.weight_decay_end is not None
    changing = changing or isinstance(getattr(run.method, "predictor", None), Direct)
    captured = cuda and in_squares and not (run.views.local.count or run.views.transforms or changing)
    return (CapturedStepper if captured else Stepper)(setup, workers, forward)


@contextmanager
def stepping(setup: Setup, compile: Compile, group: Group = SINGLE_PROCESS) -> Iterator[Stepper]:
    """The step of a run, with all that makes it fast on this device, within; arguments as `build_stepper`'s.

    Torch's own generator is left as it was.
    """
    method, device = setup.method, setup.device
    alone = group.size == 1  # two threads would each talk to the other processes, in an order of their own
    as_written = device.type == "cpu" and compile in ("auto", "none")
    in_place = as_written and alone
    method.group = group
    with (
        torch.random.fork_rng(enabled=not as_written),  # where a step uses it
        two_workers(device) if alone else nullcontext(TwoWorkers(None)) as two,
        parallel_views(method, two if in_place else None),
        sync_batch_norm(method, group),
    ):
        stepper = build_stepper(setup, two, compile, group)
        yield stepper
        stepper.freeze(math.inf)
    method.group = SINGLE_PROCESS
