# SPDX-License-Identifier: Apache-2.0
"""Rows 6 and 7 of the kill matrix: a user ends a task, or its time is over."""

from __future__ import annotations

import pytest

from tests.harness.cluster_training import Stage
from tests.harness.proxy_faults import ScriptedProxy
from tests.kills.rows import (
    LIMITS,
    act,
    at_once,
    check_limits,
    clear_deferred_tasks,
    clear_while_submitting,
    deferred,
    mark_tasks_and_runs,
)

pytestmark = pytest.mark.slow


def test_row_6_a_user_ends_or_clears_a_task(stage: Stage, ways: list[ScriptedProxy]) -> None:
    at_once(
        lambda: mark_tasks_and_runs(stage),
        lambda: clear_deferred_tasks(stage),
        lambda: clear_while_submitting(stage, "kills_way_1", ways[0]),
        lambda: clear_between_two_tries(stage),
    )


def clear_between_two_tries(stage: Stage) -> None:
    training = stage.train("kills_slow_retry")
    job = training.wait_for_job()
    training.finish(job, 1)
    training.wait("up_for_retry")
    training.clear()
    fresh = training.wait_for_job(count=2)
    training.end()
    training.check_lines(job, 1)
    training.check_lines(fresh, training.task()["try_number"])
    training.check("FAILED", "SUCCESSFUL")


def test_row_6_a_user_clears_a_deferred_task_while_no_triggerer_lives(stage: Stage) -> None:
    stage.cluster.triggerers[0].kill()
    training = stage.train()
    (job,) = deferred(training)
    wish = act(training, job, training.clear)
    wish.check_stopped()
    fresh = training.wait_for_job(count=2)
    stage.cluster.start_triggerer(0)
    training.wait("deferred")
    training.end()
    training.check_lines(fresh, 2)
    training.check("STOPPED", "SUCCESSFUL")
    assert not stage.remote.told_to_stop(fresh)


def test_row_7_the_time_is_over_while_the_job_runs_and_while_it_waits(stage: Stage) -> None:
    blocker = stage.server.submit("import time; time.sleep(600)", resources={"gpus": 1})
    stage.server.wait_for(blocker, "RUNNING")
    running = [(stage.train(dag_id), limit) for dag_id, limit in LIMITS.items()]
    for training, _ in running:
        # The queue is first come, first served: a job behind one that waits for the GPU would wait, too.
        stage.remote.wait_for(training.wait_for_job(), "RUNNING")
    waiting = [(stage.train(dag_id, resources={"gpus": 1}), limit) for dag_id, limit in LIMITS.items()]
    check_limits(running, waiting)
    assert stage.server.status(blocker)["status"] == "RUNNING"
    stage.server.request("POST", f"/api/v2/jobs/{blocker}/stop")
    stage.server.wait_for(blocker, "STOPPED")
