# SPDX-License-Identifier: Apache-2.0
"""A training that learns nothing and measures it: with the helper, as Keras does, and as people do."""

import argparse
import sys
import time
from pathlib import Path

import jobapi_metrics

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--middle", help="a file; the second half of the steps comes when it is there")
parser.add_argument("--gate", help="a file; the training goes on when it is there")
parser.add_argument("--exit", type=int, default=0)
arguments = parser.parse_args()


def wait_for(file):
    while file and not Path(file).exists():
        time.sleep(0.05)


for step in range(1, arguments.steps + 1):
    if step == arguments.steps // 2 + 1:
        wait_for(arguments.middle)
    jobapi_metrics.log(step, loss=1 / step, oddity=float("nan"))
    print(f"Epoch {step}/{arguments.steps}", flush=True)
    print(f"10/10 - 1s - 1ms/step - accuracy: {step / 10} - val_loss: {2 / step}", flush=True)
    print(f"step={step} rate=0.5", flush=True)
wait_for(arguments.gate)
sys.exit(arguments.exit)
