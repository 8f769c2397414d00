"""A callback of Lightning that watches: the class is made when it is asked for, with the package that is in use."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vergence.errors import InputError
from vergence.watching.hooks import Hooks

if TYPE_CHECKING:
    from vergence.watching.watch import Watch


def callback(watch: "Watch", parts: Mapping[str, str], calls: int) -> Any:  # its class is made here
    """Return a Lightning callback that gives a watch what the parts of the module that is trained return.

    Args:
        watch: is closed where fitting ends.
        parts: names of the parts, as `Hooks` takes them.
        calls: of each part in a step.

    Raises:
        InputError: Lightning is not installed.
    """

    class WatchCallback(_base()):
        hooks: Hooks | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.hooks = Hooks(watch, pl_module, parts, calls, None)
            watch.by = f"lightning, hooks on {self.hooks.about}"
            batches = trainer.num_training_batches
            if watch.steps_per_epoch is None and batches != float("inf"):
                watch.steps_per_epoch = max(1, int(batches) // trainer.accumulate_grad_batches)

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            assert self.hooks is not None
            self.hooks.views()  # what another batch left, as where it was skipped

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert self.hooks is not None
            views, step = self.hooks.views(), trainer.global_step
            if step > 0 and views:  # 0: gradients are accumulated, and no step has been done
                loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
                watch(step, **views, loss=loss if isinstance(loss, Tensor) else None)

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            self._end(finished=True)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self._end(finished=False)

        def _end(self, finished: bool) -> None:
            if self.hooks is not None:
                self.hooks.remove()
            watch.close(finished=finished)

    return WatchCallback()


def _base() -> Any:
    """Return the base of callbacks of the Lightning that is imported, or else of one that is installed."""
    if "lightning.pytorch" not in sys.modules:
        try:
            from pytorch_lightning import Callback

            return Callback
        except ImportError:
            pass
    try:
        from lightning.pytorch import Callback  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("watch: Lightning is not installed: pip install lightning") from None
    return Callback
