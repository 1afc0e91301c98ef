# SPDX-License-Identifier: Apache-2.0
"""The job that is recorded: it prints lines and metrics, may wait for a file, and writes a small SavedModel."""

import argparse
import os
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--pause", type=float, default=0.0, help="seconds from line to line")
parser.add_argument("--gate", default="", help="a file; the job goes on when it exists")
parser.add_argument("--exit", type=int, default=0)
arguments = parser.parse_args()

print("100% {} %s of größe …")
for step in range(1, arguments.steps + 1):
    print(f"step={step} loss={1 / step:.4f} accuracy={1 - 1 / (step + 1):.4f}", flush=True)
    time.sleep(arguments.pause)
print(f"loss is {1 / arguments.steps:.4f}", flush=True)
while arguments.gate and not Path(arguments.gate).exists():
    time.sleep(0.05)
if arguments.exit:
    raise SystemExit(arguments.exit)
variables = Path(os.environ.get("MODEL_DIR", "model"), "variables")
variables.mkdir(parents=True)
(variables / "variables.index").write_bytes(b"index")
(variables.parent / "saved_model.pb").write_bytes(b"saved model of %d steps" % arguments.steps)
print("trained")
