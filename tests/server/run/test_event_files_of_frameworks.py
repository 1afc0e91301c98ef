# SPDX-License-Identifier: Apache-2.0
"""Trainings of real frameworks that print nothing: their event files become curves.

They run under ``JOBAPI_TEST_FRAMEWORKS_PYTHON``, where that names a Python, else under this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.helper import read_helper
from tests.harness.supervised import Supervised, supervised  # noqa: F401 -- a fixture

pytestmark = pytest.mark.frameworks

PYTHON = os.environ.get("JOBAPI_TEST_FRAMEWORKS_PYTHON", sys.executable)

TORCH = """
import sys
sys.modules["tensorflow"] = None  # which tensorboard would import: newer ones and PyTorch abort in one process
import torch
from torch.utils.tensorboard import SummaryWriter
model, data = torch.nn.Linear(1, 1), torch.arange(8.0).reshape(8, 1) / 8
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with SummaryWriter() as writer:
    for step in range(1, 51):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(data), 2 * data)
        loss.backward()
        optimizer.step()
        writer.add_scalar("Loss/train", loss, step)
"""
LIGHTNING = """
import lightning.pytorch as pl, torch
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, _):
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, _):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
x = torch.arange(64.0).reshape(64, 1) / 64
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 2 * x), 8)
logger = pl.loggers.TensorBoardLogger("lightning_logs", name="")
trainer = pl.Trainer(max_epochs=3, log_every_n_steps=2, enable_progress_bar=False, logger=logger, accelerator="cpu")
trainer.fit(Net(), data, data)
"""
TRAINER = """
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=16)
model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
data = [{"input_ids": [1, i % 40 + 2, 3], "labels": i % 2} for i in range(32)]
arguments = TrainingArguments("out", num_train_epochs=3, logging_steps=2, report_to="tensorboard", disable_tqdm=True)
Trainer(model, arguments, train_dataset=data).train()
"""
KERAS = """
import keras, numpy
x = numpy.arange(64, dtype="float32").reshape(64, 1) / 64
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, 2 * x, validation_split=0.25, epochs=4, verbose=0, callbacks=[keras.callbacks.TensorBoard("logs")])
"""


@pytest.mark.parametrize(
    ("needs", "script", "curves"),
    [
        ("torch.utils.tensorboard", TORCH, {"Loss/train": 50}),
        ("lightning.pytorch, tensorboard", LIGHTNING, {"train_loss": 12, "val_loss": 3}),
        ("transformers, accelerate, tensorboard", TRAINER, {"train/loss": 6}),
        ("keras, tensorflow, tensorboard", KERAS, {"train/epoch_loss": 4, "validation/epoch_loss": 4}),
    ],
    ids=["torch", "lightning", "transformers", "keras"],
)
def test_curves_of_a_training(
    supervised: Callable[..., Supervised],  # noqa: F811 -- the fixture
    needs: str,
    script: str,
    curves: dict[str, int],
) -> None:
    found = subprocess.run([PYTHON, "-c", f"import {needs}"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"{PYTHON} cannot import {needs}: {found.stderr[-200:]}")
    job = supervised(f"exec {PYTHON} train.py > output 2>&1", start=False)
    spec = json.loads((job.directory / "spec.json").read_bytes())
    spec["scalars"] = {"folders": [str(job.work)], "bound": 10**7}
    (job.directory / "spec.json").write_text(json.dumps(spec))
    (job.work / "train.py").write_text(script)
    job.start()
    assert job.record(timeout=600)["exit_code"] == 0, (job.work / "output").read_text()[-2000:]
    assert job.lines() == []
    measured = [read_helper(line.text)[0][0] for line in parse_records((job.directory / "scalars").read_bytes())]
    for name, count in curves.items():
        steps = [each.step for each in measured if name in each.values]
        assert len(steps) == count
        assert steps == sorted(set(steps))
