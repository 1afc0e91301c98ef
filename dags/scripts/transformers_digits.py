# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with a small vision transformer, and continues from its last checkpoint."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed
from transformers.trainer_utils import get_last_checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=float, default=10)
parser.add_argument("--width", type=int, default=64, help="hidden size; a multiple of 4")
arguments = parser.parse_args()

lines = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().split()]
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.loadtxt(lines, delimiter=",", ndmin=2, dtype="float32")
examples = [{"pixel_values": row[:64].reshape(1, 8, 8) / 16, "labels": int(row[64])} for row in rows]
held_out = set(np.random.default_rng(1).permutation(len(rows))[: len(rows) // 5])
training = [each for number, each in enumerate(examples) if number not in held_out]
validation = [each for number, each in enumerate(examples) if number in held_out]
print(f"{len(rows)} rows, {len(validation)} of them held out")

# Both folders are given by the job service; without it, the script runs on your machine as well.
checkpoints = os.environ.get("CHECKPOINT_DIR", ".")
models = os.environ.get("MODEL_DIR", "model")

set_seed(1)
config = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=arguments.width,
    intermediate_size=2 * arguments.width,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_labels=10,
    initializer_range=0.1,
)
trainer = Trainer(
    ViTForImageClassification(config),
    TrainingArguments(
        checkpoints,
        num_train_epochs=arguments.epochs,
        learning_rate=0.001,
        per_device_train_batch_size=16,
        logging_steps=10,
        save_strategy="epoch",
        save_total_limit=2,
        report_to="none",
    ),
    train_dataset=training,
    eval_dataset=validation,
    compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
)
trainer.train(resume_from_checkpoint=get_last_checkpoint(checkpoints))
print(trainer.evaluate())
trainer.save_model(models)
