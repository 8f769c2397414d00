"""The methods of the family as lightly's documentation writes them, each with the settings of one of our runs.

Heads, losses, memory banks and LARS are lightly's own. Where its documentation and the papers' code part, the code is
followed: DINO's teacher starts as a copy of the student, its head too; BYOL's loss has the paper's factor. What cannot
be told to lightly stays as lightly has it: its linear layers have no bias before a batch norm, its prototypes of SwAV
have one, and the head of DINO has its authors' first weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightly.loss import BarlowTwinsLoss, DINOLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss, VICRegLoss
from lightly.loss.lejepa_loss import SIGReg as SIGRegLoss
from lightly.loss.lejepa_loss import lejepa_invariance_loss
from lightly.loss.wmse_loss import WMSELoss
from lightly.models.modules import NNMemoryBankModule, heads
from lightly.models.utils import deactivate_requires_grad, get_weight_decay_parameters, update_momentum
from lightly.utils.lars import LARS
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from vergence import config as c
from vergence.optim import rate_at


class Given(NamedTuple):
    """What a method is built around.

    Attributes:
        encoder: with its first weights.
        twin: the same once more, for a target.
        dim: width of its representations.
        batch: pictures in a step.
        per_epoch: steps in an epoch.
        steps: in all.
    """

    encoder: nn.Module
    twin: nn.Module
    dim: int
    batch: int
    per_epoch: int
    steps: int


class Peer(nn.Module):
    """A method of lightly's; called with the two views of a batch and the number of the step, it gives the loss."""

    def __init__(self, given: Given):
        super().__init__()
        self.encoder, self.given = given.encoder, given

    def after_backward(self, step: int) -> None:
        """Change gradients before the update of step number `step`, from 0."""

    def decay(self, target: Any, step: int) -> float:
        """Return the weight of the old target."""
        assert isinstance(target, c.MovingAverage)
        if target.decay_schedule == "constant":
            return target.decay
        return cosine_schedule(step, self.given.steps, target.decay, 1.0)


class SimCLR(Peer):
    def __init__(self, m: c.SimCLR, given: Given):
        super().__init__(given)
        self.head = heads.SimCLRProjectionHead(given.dim, m.projector.hidden, m.projector.out, m.projector.layers)
        self.criterion = NTXentLoss(m.temperature)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        return self.criterion(self.head(self.encoder(x0)), self.head(self.encoder(x1)))


class MoCo(Peer):
    def __init__(self, m: c.MoCo, given: Given):
        super().__init__(given)
        self.rule, widths = m.target, (given.dim, m.projector.hidden, m.projector.out, m.projector.layers)
        self.head, self.head_momentum = heads.MoCoProjectionHead(*widths), heads.MoCoProjectionHead(*widths)
        self.head_momentum.load_state_dict(self.head.state_dict())
        self.encoder_momentum = given.twin
        deactivate_requires_grad(self.encoder_momentum)
        deactivate_requires_grad(self.head_momentum)
        self.criterion = NTXentLoss(m.temperature, memory_bank_size=(m.queue, m.projector.out))

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        momentum = self.decay(self.rule, step)
        update_momentum(self.encoder, self.encoder_momentum, momentum)
        update_momentum(self.head, self.head_momentum, momentum)
        key = self.head_momentum(self.encoder_momentum(x1)).detach()
        return self.criterion(self.head(self.encoder(x0)), key)


class BYOL(Peer):
    def __init__(self, m: c.BYOL, given: Given):
        super().__init__(given)
        self.rule, self.factor = m.target, 4 * m.scale  # of -cos, whose mean is a quarter of the paper's loss less 1
        widths = (given.dim, m.projector.hidden, m.projector.out)
        self.head, self.head_momentum = heads.BYOLProjectionHead(*widths), heads.BYOLProjectionHead(*widths)
        self.head_momentum.load_state_dict(self.head.state_dict())
        assert isinstance(m.predictor, c.MLPPredictor)
        self.predictor = heads.BYOLPredictionHead(m.projector.out, m.predictor.hidden, m.projector.out)
        self.encoder_momentum = given.twin
        deactivate_requires_grad(self.encoder_momentum)
        deactivate_requires_grad(self.head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        momentum = self.decay(self.rule, step)
        update_momentum(self.encoder, self.encoder_momentum, momentum)
        update_momentum(self.head, self.head_momentum, momentum)
        p0, p1 = (self.predictor(self.head(self.encoder(x))) for x in (x0, x1))
        z0, z1 = (self.head_momentum(self.encoder_momentum(x)).detach() for x in (x0, x1))
        return self.factor * 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class SimSiam(Peer):
    def __init__(self, m: c.SimSiam, given: Given):
        super().__init__(given)
        self.head = heads.SimSiamProjectionHead(given.dim, m.projector.hidden, m.projector.out)
        assert isinstance(m.predictor, c.MLPPredictor)
        self.predictor = heads.SimSiamPredictionHead(m.projector.out, m.predictor.hidden, m.projector.out)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        z0, z1 = self.head(self.encoder(x0)), self.head(self.encoder(x1))
        p0, p1 = self.predictor(z0), self.predictor(z1)
        return 0.5 * (self.criterion(z0.detach(), p1) + self.criterion(z1.detach(), p0))


class BarlowTwins(Peer):
    def __init__(self, m: c.BarlowTwins, given: Given):
        super().__init__(given)
        self.scale = m.scale
        self.head = heads.BarlowTwinsProjectionHead(given.dim, m.projector.hidden, m.projector.out)
        self.criterion = BarlowTwinsLoss(lambda_param=m.off_diagonal)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        return self.scale * self.criterion(self.head(self.encoder(x0)), self.head(self.encoder(x1)))


class VICReg(Peer):
    def __init__(self, m: c.VICReg, given: Given):
        super().__init__(given)
        self.head = heads.VICRegProjectionHead(given.dim, m.projector.hidden, m.projector.out, m.projector.layers)
        self.criterion = VICRegLoss(m.invariance, m.variance, m.covariance, eps=m.eps)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        return self.criterion(self.head(self.encoder(x0)), self.head(self.encoder(x1)))


class NNCLR(Peer):
    def __init__(self, m: c.NNCLR, given: Given):
        super().__init__(given)
        self.head = heads.NNCLRProjectionHead(given.dim, m.projector.hidden, m.projector.out)
        assert isinstance(m.predictor, c.MLPPredictor)
        self.predictor = heads.NNCLRPredictionHead(m.projector.out, m.predictor.hidden, m.projector.out)
        self.memory_bank = NNMemoryBankModule(size=(m.queue, m.projector.out))
        self.criterion = NTXentLoss(m.temperature)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        z0, z1 = self.head(self.encoder(x0)), self.head(self.encoder(x1))
        p0, p1 = self.predictor(z0), self.predictor(z1)
        z0, z1 = self.memory_bank(z0.detach(), update=False), self.memory_bank(z1.detach(), update=True)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class SwAV(Peer):
    def __init__(self, m: c.SwAV, given: Given):
        super().__init__(given)
        self.head = heads.SwaVProjectionHead(given.dim, m.projector.hidden, m.projector.out)
        frozen = round(m.prototypes.frozen_epochs * given.per_epoch)
        self.prototypes = heads.SwaVPrototypes(m.projector.out, m.prototypes.count, frozen)
        self.criterion = SwaVLoss(m.temperature, m.sinkhorn_iterations, m.epsilon)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        self.prototypes.normalize()
        z = [nn.functional.normalize(self.head(self.encoder(x)), dim=1, p=2) for x in (x0, x1)]
        return self.criterion([self.prototypes(view, step) for view in z], [])


class DINO(Peer):
    def __init__(self, m: c.DINO, given: Given):
        super().__init__(given)
        self.m, widths = m, (given.dim, m.projector.hidden, m.projector.out, m.prototypes.count)
        settings: dict[str, Any] = {"batch_norm": m.projector.norm == "batch"}
        self.head = heads.DINOProjectionHead(*widths, freeze_last_layer=int(m.prototypes.frozen_epochs), **settings)
        self.teacher, self.teacher_head = given.twin, heads.DINOProjectionHead(*widths, **settings)
        self.teacher_head.load_state_dict(self.head.state_dict())
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        assert m.center_momentum is not None
        self.criterion = DINOLoss(m.prototypes.count, student_temp=m.temperature, center_momentum=m.center_momentum)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        momentum = self.decay(self.m.target, step)
        update_momentum(self.encoder, self.teacher, momentum)
        update_momentum(self.head, self.teacher_head, momentum)
        teacher = [self.teacher_head(self.teacher(x)) for x in (x0, x1)]
        student = [self.head(self.encoder(x)) for x in (x0, x1)]
        return self.criterion(teacher, student, teacher_temp=self.temperature(step / self.given.per_epoch))

    def temperature(self, epoch: float) -> float:
        """Return the teacher's: lightly's own schedule is the same line, in steps of whole epochs."""
        first, last = self.m.target_temperature_start, self.m.target_temperature
        return first + (last - first) * min(1.0, epoch / self.m.temperature_epochs)

    def after_backward(self, step: int) -> None:
        self.head.cancel_last_layer_gradients(step // self.given.per_epoch)


class SIGReg(Peer):
    """LeJEPA. `LeJEPALoss` asks for local crops, so its two halves are put together here for the two views alone."""

    def __init__(self, m: c.SIGReg, given: Given):
        super().__init__(given)
        self.weight = m.weight
        self.head = heads.LeJEPAProjectionHead(given.dim, m.projector.hidden, m.projector.out, m.projector.layers)
        self.regularizer = SIGRegLoss(num_vectors=m.slices)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        z = torch.stack([self.head(self.encoder(x)) for x in (x0, x1)])
        invariance = lejepa_invariance_loss(all_proj=z, global_proj=z)
        return self.weight * self.regularizer(z) + (1 - self.weight) * invariance


class WMSE(Peer):
    """W-MSE. lightly has no head for it; this is our run's, of lightly's blocks."""

    def __init__(self, m: c.WMSE, given: Given):
        super().__init__(given)
        hidden, out = m.projector.hidden, m.projector.out
        self.head = heads.ProjectionHead(
            [(given.dim, hidden, nn.BatchNorm1d(hidden), nn.ReLU()), (hidden, out, None, None)]
        )
        self.criterion = WMSELoss(out, eps=m.epsilon, w_iter=m.shuffles, w_size=m.slice or given.batch)

    def forward(self, x0: Tensor, x1: Tensor, step: int) -> Tensor:
        return self.criterion(torch.cat([self.head(self.encoder(x)) for x in (x0, x1)]))


PEERS: dict[str, Callable[[Any, Given], Peer]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "simsiam": SimSiam,
    "barlow-twins": BarlowTwins,
    "vicreg": VICReg,
    "nnclr": NNCLR,
    "swav": SwAV,
    "dino": DINO,
    "sigreg": SIGReg,
    "w-mse": WMSE,
}
"""lightly's methods by the names of ours."""

_IMITATED = {
    c.SGD: ("lr", "momentum", "weight_decay", "predictor_rate"),
    c.Adam: ("lr", "betas", "weight_decay"),
    c.LARS: ("lr", "momentum", "weight_decay", "trust_coefficient"),
}


def optimizer_of(run: c.Run, peer: Peer, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Return the optimizer of a run for a peer, and its schedule, which is told of each step.

    LARS is lightly's: its formula is that of ours but for an epsilon of 1e-8, biases and norms neither decayed nor
    adapted.

    Raises:
        ValueError: the run has a setting that is not imitated here.
    """
    o = run.optimizer
    told: dict[str, Any] = {name: getattr(o, name) for name in _IMITATED.get(type(o), ())}
    if not told or type(o)(**told) != o:
        raise ValueError(f"{run.method.kind}: the settings of its optimizer are not imitated: {o}")
    constant = told.pop("predictor_rate", "schedule") == "constant"
    if isinstance(o, c.LARS):
        groups = [[p for p in some if p.requires_grad] for some in get_weight_decay_parameters([peer])]
        optimizer = LARS([{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], **told)
    else:
        apart = [*peer.get_submodule("predictor").parameters()] if constant else []
        known = {id(p) for p in apart}
        others = [p for p in peer.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": some} for some in (others, apart) if some]
        optimizer = (torch.optim.SGD if isinstance(o, c.SGD) else torch.optim.Adam)(groups, **told)

    def scheduled(step: int) -> float:
        return rate_at(run.schedule, min(step, steps - 1) / steps, run.epochs, 1 / steps)

    rates: list[Callable[[int], float]] = [scheduled for _ in optimizer.param_groups]
    if constant:
        rates[-1] = lambda _: 1.0
    return optimizer, LambdaLR(optimizer, rates)
