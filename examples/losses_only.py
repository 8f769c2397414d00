"""The losses alone, in a loop that is not ours: RAFT on the 64 values of scikit-learn's digits.

    python examples/losses_only.py

The losses take raw embeddings, one row a picture; they know nothing of networks, teachers or optimizers.
"""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

from vergence import losses

torch.manual_seed(0)
torch.set_num_threads(1)  # matrices this small are no faster on more
x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
online = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 32))
predictor = nn.Linear(32, 32, bias=False)
teacher = copy.deepcopy(online).requires_grad_(False)
optimizer = torch.optim.Adam([*online.parameters(), *predictor.parameters()], lr=1e-3)

for step in range(1, 501):
    batch = x[torch.randint(len(x), (128,))]
    v1, v2 = (batch + 0.2 * torch.randn_like(batch) for _ in range(2))
    z1, z2 = online(v1), online(v2)
    p1, p2 = predictor(z1), predictor(z2)
    with torch.no_grad():
        z1_target, z2_target = teacher(v1), teacher(v2)
    loss = losses.raft(p1, p2, z1_target, z2_target, alpha=1.0, beta=1.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), online.parameters(), strict=True):
            old.lerp_(new, 0.004)
    if step % 100 == 0:
        with torch.no_grad():
            align, uniform = losses.alignment(p1, p2), losses.uniformity(z1)
        print(f"step {step}: loss {loss:.3f}, alignment {align:.3f}, uniformity {uniform:.3f}")
