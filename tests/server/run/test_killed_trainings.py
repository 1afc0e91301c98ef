# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed at random instants continue; ``python -m tests.harness.killed_trainings`` kills more."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.killed_trainings import Campaign, interpreter


def test_a_killed_training_continues_from_its_last_whole_checkpoint(tmp_path):
    with Bench(tmp_path) as bench:
        tally = Campaign(bench, "plain", interpreter("plain", tmp_path), 1).run(5)
    assert tally.failures == []
    assert tally.kills.total() == 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["over", "numpy", "keras"])
def test_a_killed_training_that_writes_over_its_checkpoints_continues(tmp_path, kind):
    with Bench(tmp_path) as bench:
        tally = Campaign(bench, kind, interpreter(kind, tmp_path), 1).run(25)
    assert tally.failures == []
