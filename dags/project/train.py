# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with numpy: python train.py --epochs 30"""

import argparse
import os
from pathlib import Path

import yaml
from digits.rows import read_rows
from digits.softmax import Softmax

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=30)
arguments = parser.parse_args()

config = yaml.safe_load(Path("config.yaml").read_text())
training, held_out = read_rows(Path("rows"), config["held_out"])
model = Softmax(config["classes"], config["seed"])
for epoch in range(1, arguments.epochs + 1):
    loss = model.step(*training, config["rate"])
    print(f"Epoch {epoch}/{arguments.epochs} loss={loss:.4f} val_accuracy={model.accuracy(*held_out):.4f}", flush=True)
model.save(Path(os.environ.get("MODEL_DIR", "model")) / "softmax.npz")
