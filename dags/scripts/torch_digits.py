# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with PyTorch, and continues after the last whole epoch."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
arguments = parser.parse_args()

lines = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().split()]
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.loadtxt(lines, delimiter=",", ndmin=2)
pixels, digits = torch.tensor(rows[:, :64] / 16, dtype=torch.float32), torch.tensor(rows[:, 64], dtype=torch.long)
held_out = torch.tensor(np.random.default_rng(1).random(len(rows)) < 0.2)
training = (~held_out).nonzero()[:, 0]
print(f"{len(rows)} rows, {int(held_out.sum())} of them held out")

# Both folders are given by the job service; without it, the script runs on your machine as well.
checkpoint = Path(os.environ.get("CHECKPOINT_DIR", "."), "last.pt")
models = Path(os.environ.get("MODEL_DIR", "model"))

torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Linear(64, arguments.width), torch.nn.ReLU(), torch.nn.Linear(arguments.width, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
epoch = 0
if checkpoint.exists():
    state = torch.load(checkpoint)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    epoch = state["epoch"]
    print(f"Continues after {epoch} epochs.")
while epoch < arguments.epochs:
    epoch += 1
    net.train()
    for batch in training[torch.randperm(len(training))].split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(pixels[batch]), digits[batch])
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = (net(pixels[held_out]).argmax(1) == digits[held_out]).float().mean()
    print(f"Epoch {epoch}/{arguments.epochs} loss={loss.item():.4f} val_accuracy={right.item():.4f}", flush=True)
    # Under another name first, so that what has this one is whole.
    state = {"epoch": epoch, "net": net.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, checkpoint.with_suffix(".tmp"))
    checkpoint.with_suffix(".tmp").replace(checkpoint)

models.mkdir(exist_ok=True)
torch.save(net.state_dict(), models / "digits.pt")
