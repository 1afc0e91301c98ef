# SPDX-License-Identifier: Apache-2.0
"""A training that prints its arguments, its environment, then numbered lines between two gates."""

import os
import sys
import time
from pathlib import Path

*named, gate, last_gate = sys.argv[1:]
print("arguments", *named)
print("token", os.environ["API_TOKEN"], "password", os.environ["DB_PASSWORD"])
for number, path in ((0, gate), (100, last_gate)):
    for each in range(number, number + 100):
        print(f"line {each} has {os.environ['API_TOKEN']} loss={each}", flush=True)
    while not Path(path).exists():
        time.sleep(0.05)
