# SPDX-License-Identifier: Apache-2.0
"""How long reading lines for metrics takes: ``python -m tests.benchmarks metrics``.

The ratios compare with ``first_patterns.py``, the patterns of the first version, and with one plain regular expression
for pairs, on the same machine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

from airflow_provider_jobapi.training.metrics.patterns import LinePatterns
from tests.benchmarks.first_patterns import FirstPatterns
from tests.benchmarks.table import Row

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
MEASURED = {
    "PyTorch": [f"Train Epoch: 1 [{n}/60000 (11%)]\tLoss: 0.873" for n in range(1_000)],
    "key=value": [f"step={n} loss=0.5 acc=0.8 lr=0.001" for n in range(1_000)],
    "nine pairs": [f"step={n} " + " ".join(f"m{each}={n / 7 + each}" for each in range(8)) for n in range(1_000)],
    "tqdm": [f" 45%|███  | {n}/2000 [00:01<00:01, 30.00it/s, loss=0.25]" for n in range(1_000)],
    "Lightning": [f"Epoch 3:  45%|██  | {n}/2000 [00:01<00:01, 30it/s, v_num=0, loss=0.2]" for n in range(1_000)],
    "Trainer": [f"{{'loss': 0.4, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': {n}}}" for n in range(1_000)],
}
PLAIN = {
    "a logger's sentences": ["2026-11-30 08:00:00,123 INFO app.data loading shard 12 of 40 from /data (1234 rows)"]
    * 1_000,
    "warnings": ["/usr/lib/python3/torch/nn/modules/x.py:123: UserWarning: this is deprecated since 2.0"] * 1_000,
    "sentences": ["a line of words without any number in it"] * 1_000,
}
_PAIR = re.compile(r"([^\W\d][\w./-]*)['\"]?[=:] ?([-+]?[\d.]+(?:[eE][-+]?\d+)?)")


class Reader(Protocol):
    """What reads the lines of a log."""

    def read(self, text: str) -> object: ...


class OnePattern:
    """Reads pairs as a script of a few lines would."""

    def read(self, text: str) -> dict[str, float]:
        """Find the pairs of a line."""
        return {name: float(digits) for name, digits in _PAIR.findall(text)}


def seconds(make: Callable[[], Reader], lines: list[str]) -> float:
    """The least processor time for all lines, of some rounds."""
    taken = []
    for _ in range(_ROUNDS):
        patterns = make()
        begin = time.thread_time()
        for line in lines:
            patterns.read(line)
        taken.append(time.thread_time() - begin)
    return min(taken)


def ratio(lines: list[str], to: Callable[[], Reader] = FirstPatterns) -> float:
    """How many times as long as another reader the present one takes."""
    return seconds(LinePatterns, lines) / seconds(to, lines)


def measure() -> list[Row]:
    """Read lines for metrics; beside the first patterns for Keras, and beside one regular expression for the rest."""
    rows = [_row("Keras", KERAS, FirstPatterns, 1.5)]
    rows += [_row(name, lines, OnePattern, 30) for name, lines in MEASURED.items()]
    return rows + [_row(name, lines, OnePattern, 3) for name, lines in PLAIN.items()]


def _row(name: str, lines: list[str], anchor: Callable[[], Reader], bound: float) -> Row:
    ours, theirs = (seconds(make, lines) / len(lines) * 1e6 for make in (LinePatterns, anchor))
    is_first = anchor is FirstPatterns
    return Row(
        f"metrics of a line of {name}",
        ours,
        theirs,
        "us",
        bound,
        anchor_is="first version" if is_first else "one pattern",
    )
