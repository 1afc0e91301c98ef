# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits. Runs on the job service, so it knows nothing of who started it."""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
arguments = parser.parse_args()

# Each row: 64 pixels from 0 to 16, then the digit.
files = sorted(Path("rows").glob("*.csv"))
if not files:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.concatenate([np.loadtxt(file, delimiter=",", ndmin=2) for file in files])
pixels, digits = rows[:, :64], rows[:, 64]
print(f"{len(rows)} rows")

keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Rescaling(1 / 16),
        keras.layers.Dense(arguments.width, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(pixels, digits, epochs=arguments.epochs, validation_split=0.1, verbose=2)
model.export("model")
