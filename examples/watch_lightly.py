"""Lightly's BYOL, watched by hooks: its loop is as it stands in Lightly's documentation, and does not know of it.

pip install lightly
python examples/watch_lightly.py
vergence report runs/lightly-byol --out page.html
"""

import copy
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import vergence

try:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
except ImportError:
    sys.exit("error: this example needs Lightly: pip install lightly")


class BYOL(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.projection_head = BYOLProjectionHead(32, 64, 32)
        self.prediction_head = BYOLPredictionHead(32, 64, 32)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x):
        y = self.backbone(x).flatten(start_dim=1)
        return self.prediction_head(self.projection_head(y))

    def forward_momentum(self, x):
        y = self.backbone_momentum(x).flatten(start_dim=1)
        return self.projection_head_momentum(y).detach()


torch.manual_seed(0)
torch.set_num_threads(1)  # pictures this small are no faster on more
pictures = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
model = BYOL(nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1)))
criterion = NegativeCosineSimilarity()
optimizer = torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9)

watch = vergence.Watch("runs/lightly-byol", every=10)
watch.hook(model, "backbone", "projection_head", predictor="prediction_head", target="projection_head_momentum")

for _ in range(200):
    batch = pictures[torch.randint(len(pictures), (64,))]
    x0, x1 = (batch + 0.2 * torch.randn_like(batch) for _ in range(2))
    update_momentum(model.backbone, model.backbone_momentum, m=0.99)
    update_momentum(model.projection_head, model.projection_head_momentum, m=0.99)
    p0, z0 = model(x0), model.forward_momentum(x0)
    p1, z1 = model(x1), model.forward_momentum(x1)
    loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

watch.close()
print(f"at the end: {watch.verdict.state}, representation {watch.representation.state}")
