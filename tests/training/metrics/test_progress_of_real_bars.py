# SPDX-License-Identifier: Apache-2.0
"""How far a training is, from what real bars print in a process of their own, framed as the supervisor does it.

The scripts tell the time by a clock of their own, which goes on by a step and not with the machine's.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from airflow_provider_jobapi.server.run.supervisor.framing import Framer
from airflow_provider_jobapi.training.metrics.progress import Progress

CLOCK = """
import sys, time

now = 0.0
time.time = lambda: now  # before tqdm takes it

from tqdm import tqdm, trange

tqdm.monitor_interval = 0

def work(seconds=1.0):
    global now
    now += seconds
    print(f"\\x00{now}\\x00", end="", file=sys.stderr, flush=True)
"""

BARS = {
    "a bar": "for _ in trange(400): work()",
    "a bar with metrics": "bar = trange(400)\nfor step in bar:\n    work()\n    bar.set_postfix(loss=1 / (step + 1))",
    "a bar whose first step compiles": "for step in trange(400): work(90 if step == 0 else 1)",
    "a bar that goes on": "for _ in trange(400, 800, initial=400, total=800): work()",
    "bars in a bar": """
for epoch in trange(8, desc="Epochs"):
    for batch in trange(50, desc="Batches", leave=False): work()
""",
    "a bar an epoch, and one for its validation": """
for epoch in range(8):
    for batch in tqdm(range(50), desc=f"Epoch {epoch + 1}/8"): work()
    for batch in tqdm(range(10), desc="Validating"): work()
""",
    "a bar an epoch, which is told at its end": """
for epoch in range(8):
    for batch in tqdm(range(50)): work()
    print(f"Epoch {epoch + 1}/8: loss 0.5", file=sys.stderr)
""",
    "lines above a bar": """
for step in trange(400):
    work()
    if step % 50 == 49: tqdm.write(f"step {step} loss 0.5", file=sys.stderr)
""",
    "an evaluation every 100 steps": """
bar = tqdm(total=400)
for step in range(400):
    work()
    bar.update()
    if step % 100 == 99:
        for _ in tqdm(range(20), leave=False): work()
""",
    "after a download": """
bar = tqdm(total=50_000_000, unit="B", unit_scale=True, desc="model.safetensors")
for _ in range(50):
    work(0)
    bar.update(1_000_000)
bar.close()
for _ in trange(400, desc="Training"): work()
""",
    "Keras 3 without a terminal": """
def bar(batch, epoch):
    print(f"\\x1b[1m{batch:3d}/50\\x1b[0m \\x1b[32m━━━━━━━━━━\\x1b[0m \\x1b[1m2s\\x1b[0m 1ms/step - loss: 0.4",
          end="\\n" if batch == 50 else "\\r", file=sys.stderr)
for epoch in range(8):
    print(f"Epoch {epoch + 1}/8", file=sys.stderr)
    for batch in range(1, 51):
        work()
        bar(batch, epoch)
""",
    "Keras 2 with backspaces": """
width = 0
for epoch in range(8):
    print(f"Epoch {epoch + 1}/8", file=sys.stderr)
    for batch in range(1, 51):
        work()
        text = f"{batch:2d}/50 [{'=' * (batch // 5)}>{'.' * (10 - batch // 5)}] - ETA: {50 - batch}s - loss: 0.4"
        print("\\b" * width + "\\r" + text, end="\\n" if batch == 50 else "", file=sys.stderr)
        width = len(text)
""",
}


def printed(script: str) -> list[tuple[float, bytes]]:
    """What a script prints, piece by piece, each with the time by the script's clock."""
    done = subprocess.run([sys.executable, "-c", CLOCK + script], capture_output=True, check=True, timeout=100)
    pieces = re.split(rb"\x00([\d.]+)\x00", done.stderr)
    return list(zip([0.0, *map(float, pieces[1::2])], pieces[::2], strict=True))


@pytest.mark.parametrize("kind", BARS)
def test_at_half_time_the_error_is_less_than_15_percent(kind):
    pieces = printed(BARS[kind])
    end = pieces[-1][0]
    progress, framer, seen, at_half_time = Progress(), Framer(), 0.0, None
    for now, piece in pieces:
        last = [] if now < end else framer.feed(piece, now) + framer.end()
        for line in last or [*framer.feed(piece, now), *framer.tick(now)]:
            progress.read(line.decode(), now)
        if (estimate := progress.estimate(now)) is None:
            continue
        # Until the first epoch is told, its bar is all that is known.
        assert estimate.progress >= seen or ("told at its end" in kind and now < 60), "it went back"
        seen = estimate.progress
        if now <= end / 2:
            at_half_time = estimate
    assert at_half_time is not None
    assert at_half_time.remaining == pytest.approx(end / 2, rel=0.15)
    if "compiles" not in kind and "goes on" not in kind:
        assert at_half_time.progress == pytest.approx(0.5, abs=0.075)
    assert seen == 1
