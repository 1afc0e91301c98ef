# SPDX-License-Identifier: Apache-2.0
"""A network with one hidden layer, trained by hand and slowly enough to be looked at."""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

EPOCHS, BATCH, HIDDEN = 60, 48, 24

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, required=True, help="the learning rate")
parser.add_argument("--pause", type=float, default=0.0, help="seconds from epoch to epoch")
arguments = parser.parse_args()

chance = np.random.default_rng(3)
rows = np.loadtxt("moons.csv", delimiter=",", skiprows=1)
train, held_out = rows[:900], rows[900:]
one, two = chance.normal(0, 0.8, (2, HIDDEN)), chance.normal(0, 0.8, HIDDEN)
shift = np.zeros(HIDDEN)
print(f"{len(train)} points to learn from, {len(held_out)} held out", flush=True)


def forward(points):
    hidden = np.tanh(points @ one + shift)
    return hidden, 1 / (1 + np.exp(-(hidden @ two)))


def measure(points):
    said, truth = forward(points[:, :2])[1], points[:, 2]
    loss = -np.mean(truth * np.log(said + 1e-12) + (1 - truth) * np.log(1 - said + 1e-12))
    return float(np.mean((said > 0.5) == truth)), float(loss)


for epoch in range(1, EPOCHS + 1):
    chance.shuffle(train)
    for batch in np.split(train, range(BATCH, len(train), BATCH)):
        hidden, said = forward(batch[:, :2])
        wrong = (said - batch[:, 2]) / len(batch)
        back = np.outer(wrong, two) * (1 - hidden**2)
        two -= arguments.rate * hidden.T @ wrong
        one -= arguments.rate * batch[:, :2].T @ back
        shift -= arguments.rate * back.sum(axis=0)
    accuracy, loss = measure(train)
    val_accuracy, val_loss = measure(held_out)
    print(f"Epoch {epoch}/{EPOCHS}", flush=True)
    said = f"accuracy: {accuracy:.4f} - loss: {loss:.4f} - val_accuracy: {val_accuracy:.4f} - val_loss: {val_loss:.4f}"
    print(f"19/19 - 0s - 2ms/step - {said}", flush=True)
    if epoch >= 20 and val_loss > 0.5:
        sys.exit(f"val_loss is {val_loss:.2f} after {epoch} epochs: the learning rate {arguments.rate:g} is too high.")
    time.sleep(arguments.pause)

model = Path(os.environ["MODEL_DIR"], "variables")
model.mkdir(parents=True)
np.savez(model / "variables.index", one, shift, two)
(model.parent / "saved_model.pb").write_bytes(b"a real training calls model.export(MODEL_DIR)")
print("saved", flush=True)
