# SPDX-License-Identifier: Apache-2.0
"""A training that learns nothing: it says lines, waits for a gate, writes a small SavedModel, ends as told."""

import argparse
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lines", type=int, default=3)
parser.add_argument("--pause", type=float, default=0.0, help="seconds from line to line")
parser.add_argument("--gate", help="a file; the training goes on when it is there")
parser.add_argument("--exit", type=int, default=0)
parser.add_argument("--model", type=int, default=1, help="0 writes none")
arguments = parser.parse_args()

for number in range(arguments.lines):
    print(f"line {number} of 100% {{}} %s", flush=True)
    time.sleep(arguments.pause)
while arguments.gate and not Path(arguments.gate).exists():
    time.sleep(0.05)
if arguments.exit:
    sys.exit(arguments.exit)
if arguments.model:
    variables = Path(os.environ.get("MODEL_DIR", "model"), "variables")
    variables.mkdir(parents=True)
    (variables / "variables.index").write_bytes(b"index")
    (variables.parent / "saved_model.pb").write_bytes(b"saved model")
print("trained")
