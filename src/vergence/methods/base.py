"""What every method is: networks and an objective, from views to outputs."""

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vergence import config
from vergence.machine.processes import SINGLE_PROCESS, Group
from vergence.networks.branch import Branch
from vergence.networks.direct import DirectPredictor
from vergence.networks.target import Target


class Outputs(NamedTuple):
    """What one step saw. Metrics read it; nothing is logged from inside a method.

    Row i of `y`, `z`, `p` and `z_target` belongs to view i. MoCo passes the first view through the online network and
    the second through the target: one row each. Of several processes each has the embeddings of the whole batch, but
    for `y`, which is of its own part. `scores` are the target's with its k prototypes, for `after_step`.
    """

    loss: Float[Tensor, ""]
    terms: dict[str, Tensor]
    y: Float[Tensor, "v b dy"]
    z: Float[Tensor, "v b dz"]
    p: Float[Tensor, "v b dz"] | None = None
    z_target: Float[Tensor, "v b dz"] | None = None
    scores: Float[Tensor, "v b k"] | None = None


class Method(nn.Module, abc.ABC):
    """A self-supervised objective together with the networks it trains. Every subclass is final.

    Args:
        branch: builds the online network: an encoder and its projector.
        target: the rule of the target network, for methods that have one.

    Attributes:
        views_in_a_pass: how many views each of its networks is given.
        when_not_finite: what a user is told to try where a run ends because a number is none.
        group: the processes that hold the batch together.
        epoch: epochs done before this step, fractions too; what trains the method fills it before each `forward`, which
            may compute with it but not branch on it. It is no state: checkpoints know the step.
        frozen_epochs: for how many epochs, from the first on, modules of these names are not updated.
    """

    views_in_a_pass: ClassVar[int] = 2
    when_not_finite: ClassVar[str] = "try a lower --optimizer.lr"
    group: Group = SINGLE_PROCESS
    epoch: Tensor
    frozen_epochs: Mapping[str, float] = MappingProxyType({})

    def __init__(self, branch: Callable[[], Branch], target: config.Target):
        super().__init__()
        self.online = branch()
        self.target = Target(target, self.online, branch)
        self.register_buffer("epoch", torch.zeros(()), persistent=False)

    @property
    @final
    def encoder(self) -> nn.Module:
        """The network from pictures `[b 3 h w]` to representations `[b dy]`: what is kept, evaluated and exported."""
        return self.online.encoder

    @abc.abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Outputs:
        """Return loss and embeddings of the two views `[2 b c h w]` of b pictures, which are the only argument.

        But for a method whose settings say `takes_local_crops`: it has a second one, `local`, which is None or l
        smaller crops `[l b c t t]` of the same pictures, for the loss alone: embeddings are those of the views. And but
        for the supervised baseline, which takes the classes `[b]` of the pictures.
        """

    @final
    def all_gather(self, part: Float[Tensor, "v _ d"]) -> Float[Tensor, "v b d"]:
        """Embeddings of the whole batch, from those of this process's part of it: what losses and queues are given."""
        return self.group.all_gather(part, dim=1)

    @final
    def move_target(self, progress: float | Tensor, moment: config.UpdateWhen) -> None:
        """Move the target if its rule names this moment; `progress` is the share of the horizon done, in (0, 1]."""
        self.target.move(self.online, progress, moment)

    @final
    def finish_step(self, outputs: Outputs) -> None:
        """Let everything else move, after the optimizer's update: a predictor that is set, and what is the method's."""
        predictor = getattr(self, "predictor", None)
        if isinstance(predictor, DirectPredictor):
            predictor.follow(outputs.z)
        self.after_step(outputs)

    def after_step(self, outputs: Outputs) -> None:
        """Move what is the method's own after the optimizer's update: queues, prototypes, centres."""
