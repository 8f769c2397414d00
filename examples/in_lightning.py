"""A method inside Lightning's Trainer: it is a torch module, and the order of events stays in sight.

pip install pytorch-lightning
python examples/in_lightning.py
"""

import sys
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, TensorDataset

from vergence import config, data, methods, presets
from vergence.augment import two_views
from vergence.machine.randomness import generator
from vergence.optim import build_optimizer, rate_at, set_rate

try:
    import pytorch_lightning as lightning
except ImportError:
    sys.exit("error: this example needs Lightning: pip install pytorch-lightning")


class TwoViews(lightning.LightningModule):
    def __init__(self, run: config.Run, images: data.Images):
        super().__init__()
        self.automatic_optimization = False  # the target moves around the optimizer's update, so we call it
        self.settings, self.size = run, images.size
        self.per_epoch = len(images) // run.batch_size
        self.horizon = run.schedule_epochs or run.epochs
        self.method = methods.build(run)

    def training_step(self, batch, index):
        run, step, total = self.settings, self.global_step + 1, self.horizon * self.per_epoch
        optimizer = self.optimizers()
        outputs = self.method(two_views(batch[0], self.size, run.views, generator(run.seed, "views", step)))
        self.manual_backward(outputs.loss)
        share = rate_at(run.schedule, (step - 1) / total, self.horizon, 1 / total)
        set_rate(optimizer.optimizer, run.optimizer.lr * share)
        self.method.move_target(step / total, "before-optimizer")
        optimizer.step()
        optimizer.zero_grad()
        self.method.move_target(step / total, "after-optimizer")
        self.method.after_step(outputs)
        self.log("loss", outputs.loss.detach(), prog_bar=True)

    def configure_optimizers(self):
        return build_optimizer(self.settings.optimizer, self.method)


def main() -> None:
    run = presets.preset("default", "byol", config.Digits())
    run = replace(run, encoder=config.Encoder(name="test_resnet"), epochs=2)
    images = data.load(run.data, "pretrain")
    shuffled = torch.Generator().manual_seed(run.seed)
    loader = DataLoader(TensorDataset(images.pixels), run.batch_size, shuffle=True, drop_last=True, generator=shuffled)
    trainer = lightning.Trainer(max_epochs=run.epochs, logger=False, enable_checkpointing=False)
    trainer.fit(TwoViews(run, images), loader)


if __name__ == "__main__":
    main()
