# SPDX-License-Identifier: Apache-2.0
"""Rows 1 and 2 of the kill matrix: the worker dies, or is asked to end, around the submit."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.harness.cluster_training import Stage
from tests.harness.proxy_faults import Point, ScriptedProxy
from tests.kills.rows import Attack, kill_workers_around_the_submit, outlive

pytestmark = pytest.mark.slow

UPLOAD = r"^POST /api/v2/storage/upload$"


def test_row_1_the_worker_is_killed_around_the_submit(stage: Stage, ways: list[ScriptedProxy]) -> None:
    kill_workers_around_the_submit(stage, ways)


def test_row_2_the_worker_is_asked_to_end_while_it_uploads_and_submits(stage: Stage, ways: list[ScriptedProxy]) -> None:
    plan = [
        (UPLOAD, Point.REQUEST, ("SUCCESSFUL",), 2),
        (UPLOAD, Point.ANSWER, ("SUCCESSFUL",), 1),
        (stage.remote.creates, Point.REQUEST, ("SUCCESSFUL",), 1),
        (stage.remote.creates, Point.ANSWER, ("STOPPED", "SUCCESSFUL"), 2),
    ]
    attacks = []
    for number, (when, point, ends, _) in enumerate(plan):
        held = ways[number].hold(when, point)
        files = {"first.txt": "1" * 1000, "second.txt": "2" * 1000}
        attacks.append(Attack(stage.train(f"kills_way_{number + 1}", data=files), held, 2, ends))
    for attack in attacks:
        worker = psutil.Process(attack.held.wait().pid()).parent()
        assert worker is not None
        attack.training.kill(worker.pid, signal.SIGTERM)
    for attack in attacks:
        attack.held.wait_for_hangup()
    outlive(attacks)
    for way, (_, _, _, uploads) in zip(ways, plan, strict=True):
        assert len(way.sent(UPLOAD)) == uploads
