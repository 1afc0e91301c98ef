# SPDX-License-Identifier: Apache-2.0
"""Print how many lines a second are read for metrics: ``python -m tests.benchmarks.metrics``.

The ratio compares with ``first_patterns.py``, the patterns of the first version, on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_jobapi.training.metrics.patterns import LinePatterns
from tests.benchmarks.first_patterns import FirstPatterns

_ROUNDS = 5

KERAS = [
    line
    for epoch in range(1, 21)
    for line in (
        f"Epoch {epoch}/20",
        *(f"{batch}/50 [====>......] - ETA: 2s - loss: 0.{batch:04} - accuracy: 0.9{batch}" for batch in range(1, 50)),
        "50/50 - 2s - 40ms/step - accuracy: 0.88 - loss: 0.43 - val_accuracy: 0.87 - val_loss: 0.45",
    )
]
OTHERS = {
    "PyTorch": ["Train Epoch: 1 [6400/60000 (11%)]\tLoss: 0.873"] * 1_000,
    "key=value": ["step=3 loss=0.5 acc=0.8 lr=0.001"] * 1_000,
    "a logger's sentences": ["2026-11-30 08:00:00,123 INFO app.data loading shard 12 of 40 from /data (1234 rows)"]
    * 1_000,
    "sentences": ["a line of words without any number in it"] * 1_000,
}


def seconds(make: Callable[[], LinePatterns | FirstPatterns], lines: list[str]) -> float:
    """The least processor time for all lines, of some rounds."""
    taken = []
    for _ in range(_ROUNDS):
        patterns = make()
        begin = time.thread_time()
        for line in lines:
            patterns.read(line)
        taken.append(time.thread_time() - begin)
    return min(taken)


def ratio(lines: list[str]) -> float:
    """How many times as long as the first version the present one takes."""
    return seconds(LinePatterns, lines) / seconds(FirstPatterns, lines)


def main() -> None:
    """Print the table."""
    print(f"{'lines':24} {'lines a second':>16} {'time, first version = 1':>26}")
    for name, lines in {"Keras": KERAS, **OTHERS}.items():
        print(f"{name:24} {len(lines) / seconds(LinePatterns, lines):>16,.0f} {ratio(lines):>26.2f}")


if __name__ == "__main__":
    main()
