# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with a small network of scikit-learn, and continues after its last whole epoch."""

import argparse
import os
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
arguments = parser.parse_args()

lines = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().split()]
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.loadtxt(lines, delimiter=",", ndmin=2)
training, held_out = train_test_split(rows, test_size=0.2, random_state=1)
print(f"{len(rows)} rows, {len(held_out)} of them held out")

# Both folders are given by the job service; without it, the script runs on your machine as well.
checkpoint = Path(os.environ.get("CHECKPOINT_DIR", "."), "network.joblib")
models = Path(os.environ.get("MODEL_DIR", "model"))

epoch, network = 0, MLPClassifier(arguments.width, random_state=1)
if checkpoint.exists():
    epoch, network = joblib.load(checkpoint)
    print(f"Continues after {epoch} epochs.")
while epoch < arguments.epochs:
    network.partial_fit(training[:, :64] / 16, training[:, 64], classes=np.arange(10))
    epoch += 1
    right = network.score(held_out[:, :64] / 16, held_out[:, 64])
    print(f"Epoch {epoch}/{arguments.epochs} loss={network.loss_:.4f} val_accuracy={right:.4f}", flush=True)
    # Under another name first, so that what has this one is whole.
    joblib.dump((epoch, network), checkpoint.with_suffix(".tmp"))
    checkpoint.with_suffix(".tmp").replace(checkpoint)

models.mkdir(exist_ok=True)
joblib.dump(network, models / "network.joblib")
