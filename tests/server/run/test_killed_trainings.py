# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed at random instants continue; ``python -m tests.harness.killed_trainings`` kills more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.bench import Bench
from tests.harness.killed_trainings import Campaign, interpreter


def continues(folder: Path, kind: str, kills: int) -> None:
    with Bench(folder) as bench:
        tally = Campaign(bench, kind, interpreter(kind, folder), 1).run(kills)
    assert tally.failures == []
    assert tally.kills.total() == kills


def test_a_killed_training_continues_from_its_last_whole_checkpoint(tmp_path):
    continues(tmp_path, "plain", kills=5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["over", "numpy", "keras"])
def test_a_killed_training_that_writes_over_its_checkpoints_continues(tmp_path, kind):
    continues(tmp_path, kind, kills=10)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["plain", "over", "numpy", "keras"])
def test_a_hundred_killed_trainings_continue(tmp_path, kind):
    continues(tmp_path, kind, kills=100)
