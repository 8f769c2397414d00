"""W-MSE (Ermolov et al. 2020, arXiv 2007.06346): whitened views agree."""

from collections.abc import Callable
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from vergence import config, losses, register
from vergence.machine.randomness import StepDraws
from vergence.methods.base import Method, Outputs
from vergence.networks.branch import Branch


@register.method(config.WMSE)
@final
class WMSE(Method):
    """2 - 2 cos between the views of a picture, after slices of the batch have been whitened, each view by itself.

    Kept from collapse by the whitening: projections of fewer dimensions than their space cannot be whitened at all.
    """

    when_not_finite: ClassVar[str] = (
        "w-mse ends so where projections collapse to fewer dimensions than they have: try a lower --optimizer.lr, "
        "--epsilon 1e-4 or a smaller --projector.out"
    )

    def __init__(self, c: config.WMSE, branch: Callable[[], Branch]):
        super().__init__(branch, config.StopGradient())
        self.settings = c
        self.draws = StepDraws()

    def forward(self, views: Float[Tensor, "2 b c h w"]) -> Outputs:
        y, z = self.online(views)
        z, c = self.all_gather(z), self.settings
        whole = c.slice is None and c.shuffles == 1  # then no order matters, and none is sorted
        orders = None if whole else self.draws.permutations(c.shuffles, z.shape[1])
        loss = losses.w_mse(z[0], z[1], orders, c.slice, whitening=c.whitening, epsilon=c.epsilon)
        return Outputs(loss, {}, y, z)

    def after_step(self, outputs: Outputs) -> None:
        self.draws.advance()
