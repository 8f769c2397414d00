"""A LightningModule, watched by a callback: the Trainer gives it step and loss, and hooks give it the rest.

pip install lightning
python examples/watch_lightning.py
vergence report runs/lightning-simclr --out page.html
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vergence
from vergence import losses

try:
    import lightning.pytorch as lightning
except ImportError:
    try:
        import pytorch_lightning as lightning
    except ImportError:
        sys.exit("error: this example needs Lightning: pip install lightning")


class SimCLR(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
        self.projection_head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def training_step(self, batch, index):
        (x,) = batch
        z1, z2 = (self.projection_head(self.backbone(x + 0.2 * torch.randn_like(x))) for _ in range(2))
        return losses.nt_xent(z1, z2, 0.5)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main() -> None:
    lightning.seed_everything(0)
    pictures = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    watch = vergence.Watch("runs/lightning-simclr", every=5)
    trainer = lightning.Trainer(
        max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[watch.lightning()]
    )
    trainer.fit(SimCLR(), DataLoader(TensorDataset(pictures), 128, shuffle=True, drop_last=True))
    print(f"at the end: {watch.verdict.state}, representation {watch.representation.state}")


if __name__ == "__main__":
    main()
