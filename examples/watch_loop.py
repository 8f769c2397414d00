"""The verdict in a loop that is not ours: two lines more, and a run that collapses is called collapsed.

    python examples/watch_loop.py
    vergence report runs/with-negatives runs/without-negatives --out page.html

Any PyTorch will do: `watch` is given what the loop has anyway, and changes no bit of it.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import vergence
from vergence import losses

x = torch.tensor(load_digits().data, dtype=torch.float32) / 16


def train(negatives: bool, watch: vergence.Watch) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=2e-3)
    for step in range(1, 301):
        batch = x[torch.randint(len(x), (128,))]
        y1, y2 = (encoder(batch + 0.2 * torch.randn_like(batch)) for _ in range(2))
        z1, z2 = projector(y1), projector(y2)
        loss = losses.nt_xent(z1, z2, 0.5) if negatives else losses.alignment(z1, z2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch(step, z=(z1, z2), y=(y1, y2), loss=loss)


torch.set_num_threads(1)  # matrices this small are no faster on more
for name, negatives in (("with-negatives", True), ("without-negatives", False)):
    with vergence.Watch(f"runs/{name}", every=10) as watch:  # a loop of hours needs no `every`
        train(negatives, watch)
    print(f"{name}: {watch.verdict.state}, representation {watch.representation.state}")
