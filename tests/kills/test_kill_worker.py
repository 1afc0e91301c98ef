# SPDX-License-Identifier: Apache-2.0
"""Rows 1 and 2 of the kill matrix: the worker dies, or is asked to end, around the submit."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.harness.cluster_training import Stage
from tests.harness.proxy_faults import Point

pytestmark = pytest.mark.slow

SUBMIT = r"^POST /api/v2/jobs/[0-9a-f-]+$"
UPLOAD = r"^PUT /api/v2/storage/objects/.*/second\.txt$"
PUSH = r"^POST /execution/xcoms/.*training_job_id"
DEFER = r"^PATCH /execution/task-instances/[^/]+/state"


@pytest.mark.parametrize("point", Point, ids=lambda point: point.name.lower())
def test_row_1_the_task_is_killed_while_it_submits(stage: Stage, point: Point) -> None:
    with stage.network.hold(SUBMIT, point) as held:
        training = stage.train()
        training.kill(held.wait().pid())
        held.wait_for_hangup()
    job = training.wait_for_job()
    training.end()
    assert training.task()["try_number"] == 2
    training.check_lines(job, 2)
    assert training.check("SUCCESSFUL") == [job]


@pytest.mark.parametrize(
    ("when", "point", "tries"),
    [(PUSH, Point.REQUEST, 2), (DEFER, Point.REQUEST, 2), (DEFER, Point.ANSWER, 1)],
    ids=["before the XCom", "before the deferral", "after the deferral"],
)
def test_row_1_the_worker_is_killed_after_the_submit(stage: Stage, when: str, point: Point, tries: int) -> None:
    with stage.control.hold(when, point) as held:
        training = stage.train()
        supervisor = held.wait().pid()
        (job,) = [each["job_id"] for each in training.jobs()]
        training.kill_worker(supervisor)
        held.wait_for_hangup()
    training.wait("deferred", attempt=tries, seconds=120)
    training.end()
    assert training.task()["try_number"] == tries
    training.check_lines(job, tries)
    assert training.check("SUCCESSFUL") == [job]


@pytest.mark.parametrize(
    ("when", "point", "ends", "uploads"),
    [
        (UPLOAD, Point.REQUEST, ["SUCCESSFUL"], 2),
        (UPLOAD, Point.ANSWER, ["SUCCESSFUL"], 1),
        (SUBMIT, Point.REQUEST, ["SUCCESSFUL"], 1),
        (SUBMIT, Point.ANSWER, ["STOPPED", "SUCCESSFUL"], 2),
    ],
    ids=["uploading", "uploaded", "submitting", "submitted"],
)
def test_row_2_the_worker_is_asked_to_end(stage: Stage, when: str, point: Point, ends: list[str], uploads: int) -> None:
    with stage.network.hold(when, point) as held:
        training = stage.train(data={"first.txt": "1" * 1000, "second.txt": f"2 {when} {point}"})
        worker = psutil.Process(held.wait().pid()).parent()
        assert worker is not None
        training.kill(worker.pid, signal.SIGTERM)
        training.wait("deferred", attempt=2)
    job = training.wait_for_job(count=len(ends))
    training.end()
    assert training.task()["try_number"] == 2
    sent = [each for each in stage.network.sent(r"^PUT .*/second\.txt$") if training.name in each.line]
    assert len(sent) == uploads, sent
    training.check_lines(job, 2)
    assert training.check(*ends)[-1] == job
