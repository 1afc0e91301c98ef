# SPDX-License-Identifier: Apache-2.0
"""What ``jobapi logs -f`` says of the progress of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_provider_jobapi.cli.follow import Milestones
from airflow_provider_jobapi.training.logs import LogLine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def steps(first: int, last: int) -> list[LogLine]:
    return [LogLine(NOON + timedelta(seconds=step), f"step {step}/1000 loss 0.5") for step in range(first, last + 1)]


def test_each_tenth_is_said_at_most_once_a_minute():
    clock = Clock()
    milestones = Milestones(whole=True, clock=clock)
    assert milestones.read(steps(1, 350)) is None, "what was before is no news"
    clock.now = 61.0
    assert milestones.read(steps(351, 360)) == "36 %, about 11 min left"
    clock.now = 130.0
    assert milestones.read(steps(361, 399)) is None
    assert milestones.read(steps(400, 401)) == "40 %, about 10 min left"
    clock.now = 180.0
    assert milestones.read(steps(402, 700)) is None
    clock.now = 200.0
    assert milestones.read([]) is None
    assert milestones.read(steps(701, 702)) == "70 %, about 5 min left"
    clock.now = 300.0
    assert milestones.read(steps(703, 1000)) is None, "its end says it"


def test_of_a_log_that_is_followed_from_its_middle_a_bar_says_nothing():
    clock = Clock()
    milestones = Milestones(whole=False, clock=clock)
    clock.now = 100.0
    assert milestones.read(steps(300, 400)) is None
