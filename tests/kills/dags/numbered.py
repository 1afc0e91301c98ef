# SPDX-License-Identifier: Apache-2.0
"""A training that writes numbered lines in bursts, lines of equal text among them, until the test says how it ends.

It ends with the code in the file ``finish`` of its working directory, or with 0 after its last line. What it shall do
comes as arguments, as every training's does.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lines", type=int, default=100_000, help="where it ends by itself")
parser.add_argument("--burst", type=int, default=10, help="lines written in one instant")
parser.add_argument("--pause", type=float, default=0.3, help="seconds from burst to burst")
parser.add_argument("--stubborn", type=int, default=0, help="1 ignores SIGTERM")
parser.add_argument("--model", type=int, default=0, help="1 writes a SavedModel")
arguments = parser.parse_args()

if arguments.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
finish = Path("finish")
until = time.monotonic() + 600
line = 0
while line < arguments.lines and not finish.exists() and time.monotonic() < until:
    burst = []
    for _ in range(min(arguments.burst, arguments.lines - line)):
        line += 1
        burst.append(f"line {line}" if line % 3 == 0 else "the same text")
    sys.stdout.write("\n".join([*burst, ""]))
    sys.stdout.flush()
    time.sleep(arguments.pause)
if arguments.model:
    model = Path(os.environ["MODEL_DIR"])
    (model / "variables").mkdir(parents=True)
    (model / "variables" / "variables.index").write_bytes(b"index")
    (model / "saved_model.pb").write_bytes(f"trained as {os.environ['JOB_ID']}".encode())
code = int(finish.read_text() or 0) if finish.exists() else 0
print(f"the end after {line} lines of {arguments.burst} each, code {code}", flush=True)
sys.exit(code)
