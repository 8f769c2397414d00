"""What a training step costs on paper, and what the machine can do at most.

Operations: two for each multiplication and addition of convolutions and matrix products, forward and backward, in every
network; a convolution counts as its direct sum, however it is done. Bytes: each operator reads its inputs once and
writes its outputs once, values of 4 bytes (float32) or 2 (bfloat16); the optimizer reads weight, gradient and moments
and writes weight and moments, the moving average reads two and writes one, 4 bytes each. Counted twice: for every
operator, which is what moves where none is fused with another; and for convolutions and products only, which is what
is left where everything else is done on the way. Views are left out of both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vergence import config as c
from vergence import methods
from vergence.bench.clock import lap
from vergence.fast.convolution import use_plain_convolutions

PRODUCTS = {"convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm"}
_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_MOVED = {"sgd": 5, "lars": 5, "adam": 7, "adamw": 7}
"""Values that an optimizer reads and writes for each weight."""

_TRIES = 5


@dataclass(frozen=True)
class Cost:
    """What one step costs.

    Attributes:
        operations: multiplications and additions, each counted.
        bytes_every_operator: moved where every operator stands alone.
        bytes_products_only: moved where only convolutions and matrix products do.
        parameters: that are trained.
    """

    operations: int
    bytes_every_operator: int
    bytes_products_only: int
    parameters: int


class Traffic(TorchDispatchMode):
    """Counts the values that operators read and write, but for those that only look at them in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.every = self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and name not in _EMPTY:
            moved = sum(leaf.numel() for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor))
            self.every += moved
            self.products += moved if name in PRODUCTS else 0
        return out


def count(loss: Callable[[], Tensor]) -> tuple[int, int, int]:
    """Operations of a loss and its gradient; values read and written by every operator, and by products only.

    Nothing is computed: tensors made within have shapes and no values.
    """
    traffic, counter = Traffic(), FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), counter, traffic:
        loss().backward()
    return counter.get_total_flops(), traffic.every, traffic.products


def cost_of(run: c.Run) -> Cost:
    """Count one step of a run as it is written, whatever makes it faster."""
    width = 4 if run.precision == "float32" else 2
    method = methods.build(replace(run, precision="float32")).train()
    use_plain_convolutions(method)
    weights = sum(p.numel() for p in method.parameters() if p.requires_grad)
    followed = sum(p.numel() for p in method.target.parameters())
    size, batch = run.views.size, run.batch_size

    def loss() -> Tensor:
        views = torch.empty(2, batch, 3, size, size)
        told = (torch.zeros(batch, dtype=torch.int64),) if isinstance(run.method, c.Supervised) else ()
        return method(views, *told).loss

    operations, every, products = count(loss)
    rest = 4 * (_MOVED[run.optimizer.kind] * weights + 3 * followed)
    return Cost(operations, width * every + rest, width * products + rest, weights)


@dataclass(frozen=True)
class Ceilings:
    """The most that this machine was seen to do.

    Attributes:
        tflops: of a large matrix product, 10^12 operations a second.
        dtype: of that product.
        gb_per_s: of a large copy, 10^9 bytes read and written a second.
    """

    tflops: float
    dtype: str
    gb_per_s: float


def ceilings(device: torch.device) -> Ceilings:
    """Measure them, the best of five: a product of 2,048 x 2,048 in float32 and a copy of 128 MiB on a CPU, with all of
    torch's threads; of 8,192 x 8,192 in bfloat16 and of 1 GiB on a GPU.
    """
    cuda = device.type == "cuda"
    side, dtype = (8192, torch.bfloat16) if cuda else (2048, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(2**28 if cuda else 2**25, device=device)
    target = torch.empty_like(source)
    product = min(_seconds(lambda: a @ b, device) for _ in range(_TRIES))
    copy = min(_seconds(lambda: target.copy_(source), device) for _ in range(_TRIES))
    return Ceilings(2 * side**3 / product / 1e12, str(dtype).removeprefix("torch."), 8 * source.numel() / copy / 1e9)


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    function()
    return lap(function, device).seconds


def achieved(cost: Cost, most: Ceilings, seconds: float) -> dict[str, float]:
    """Rates of a step of so many seconds, and their shares of the ceilings. A share above 1 is no mistake: Winograd's
    convolutions do fewer operations than are counted, and fused operators move fewer bytes.
    """
    tflops, gb = cost.operations / seconds / 1e12, cost.bytes_every_operator / seconds / 1e9
    least = cost.bytes_products_only / seconds / 1e9
    return {
        "tflops": tflops,
        "share_of_tflops": tflops / most.tflops,
        "gb_per_s_every_operator": gb,
        "share_of_gb_per_s_every_operator": gb / most.gb_per_s,
        "gb_per_s_products_only": least,
        "share_of_gb_per_s_products_only": least / most.gb_per_s,
    }
