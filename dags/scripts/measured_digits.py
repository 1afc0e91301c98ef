# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits, and measures how well, beside the model in service and on the same rows."""

import argparse
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
arguments = parser.parse_args()

# A row is held out by its own content, hence for ever: no version, past or future, has trained on it.
lines = sorted({line for file in Path("rows").glob("*.csv") for line in file.read_text().split()})
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
held_out = np.array([zlib.crc32(line.encode()) % 10 == 0 for line in lines])
rows = np.loadtxt(lines, delimiter=",", ndmin=2)
pixels, digits = rows[:, :64].astype("float32"), rows[:, 64]
print(f"{len(rows)} rows, {held_out.sum()} of them held out")

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
model.fit(pixels[~held_out], digits[~held_out], epochs=arguments.epochs, verbose=2)
model.export("model")


def accuracy(directory):
    saved = tf.saved_model.load(directory)
    guesses = np.argmax(saved.serve(pixels[held_out]), axis=1)
    return float((guesses == digits[held_out]).mean())


# The result of the task has what is printed so, and decides by it.
print(f"candidate_accuracy={accuracy('model'):.4f}")
if Path("in_service").is_dir():
    print(f"in_service_accuracy={accuracy('in_service'):.4f}")
