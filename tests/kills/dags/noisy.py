# SPDX-License-Identifier: Apache-2.0
"""A training that logs as none should: lines of megabytes, bytes that are no text, a burst, a line without end."""

import sys
import time
from pathlib import Path

out = sys.stdout.buffer
out.write(b"w" * 4_000_000 + b"\n")
out.write(bytes(range(256)) * 100 + b"\n")
out.write("".join(f"burst {number}\n" for number in range(200_000)).encode())
out.flush()
until = time.monotonic() + 600
while not Path("finish").exists() and time.monotonic() < until:
    out.write(b".")
    out.flush()
    time.sleep(0.05)
print("\nthe end", flush=True)
