# SPDX-License-Identifier: Apache-2.0
"""A LightningModule that logs to its progress bar."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset


class Regression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def step(self, batch):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch, _):
        loss = self.step(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", self.step(batch), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


pl.seed_everything(4)
x = torch.randn(256, 2)
data = TensorDataset(x, x.sum(1, keepdim=True))
bar = TQDMProgressBar()
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[bar])
trainer.fit(Regression(), DataLoader(data, 32), DataLoader(data, 64))
