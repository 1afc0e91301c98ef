# SPDX-License-Identifier: Apache-2.0
"""Rows 3, 4, 5 and 13 of the kill matrix: the triggerer, the database or the API server goes away in mid-log."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.cluster import Component
from tests.harness.cluster_training import Stage, Training
from tests.harness.proxy import BlackHole
from tests.harness.proxy_faults import Point, ScriptedProxy
from tests.harness.waiting import wait_for
from tests.kills.rows import begin, kill_the_triggerer

pytestmark = pytest.mark.slow


@pytest.fixture
def two_triggerers(stage: Stage) -> Iterator[None]:
    """A second triggerer for the time of a test, which may end the first."""
    for number, triggerer in enumerate(stage.cluster.triggerers):
        if not triggerer.runs:
            stage.cluster.start_triggerer(number)
    yield
    first, second = stage.cluster.triggerers
    first.go_on()
    if not first.runs:
        stage.cluster.start_triggerer(0)
    second.end()


def begun(stage: Stage, dag_id: str = "kills_plain") -> tuple[Training, str]:
    """A training that is deferred and shows its first lines."""
    return begin(stage.train(dag_id), 20)


def marked(training: Training) -> int:
    """The number of lines in the kept position."""
    try:
        return int(training.xcom("training_log")["lines"])
    except AssertionError:  # there is none yet
        return 0


def taken_over(stage: Stage, training: Training, old: Component) -> Component:
    """Wait until another triggerer has the trigger."""

    def look() -> bool:
        owner = (training.task()["triggerer_job"] or {}).get("id")
        return owner is not None and owner != old.job

    wait_for(f"{training.name} is taken over from {old.name}", look, 60)
    return stage.cluster.owner(training.task())


def test_row_3_the_triggerer_is_killed_in_mid_log_whatever_the_services_clock_says(stage: Stage, shifted: None) -> None:
    kill_the_triggerer(stage, [begun(stage, f"kills_{clock}") for clock in ("plain", "ahead", "behind")])


NOT_REPLAYABLE = """
from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower
JobApiFollower.replayable = False
"""


@pytest.mark.parametrize("kept", ["lines", "cursor"])
def test_row_3_a_triggerer_goes_on_at_the_position_that_the_one_before_kept(
    stage: Stage, kept: str, tmp_path: Path
) -> None:
    """Lines are counted for logs that do not merge; the cursor is kept where the service's log cannot be replayed."""
    triggerer = stage.cluster.triggerers[0]
    (tmp_path / "sitecustomize.py").write_text(NOT_REPLAYABLE)
    settings = {"lines": {"AIRFLOW__JOBAPI__LOG_RESUME": "cursor"}, "cursor": {"PYTHONPATH": str(tmp_path)}}
    with triggerer.setting(**settings[kept]):
        triggerer.end()
        stage.cluster.start_triggerer(0)
        training, job = begun(stage)
        parts = []
        for _ in range(2):
            wait_for("the position is kept", lambda: marked(training) > 20, 90)
            sure, shown = marked(training), len(training.shown(job))
            triggerer.kill()
            parts.append((sure, training.numbered(triggerer)))
            stage.cluster.start_triggerer(0)
            training.wait_for_lines(job, shown + 60, seconds=180)
        training.finish(job)
        training.wait("success")
        parts.append((0, training.numbered(triggerer)))
    triggerer.end()
    stage.cluster.start_triggerer(0)

    lines = training.lines(job)
    for (sure, before), (_, after) in itertools.pairwise(parts):
        assert sure <= lines.index(f"line {after[0]}"), "lines before the kept position are not written again"
        assert after[0] <= before[-1] + 3, "nothing is lost"
    training.check_lines(job, 1)
    assert training.check("SUCCESSFUL") == [job]


def test_row_4_a_triggerer_is_asked_to_end_and_the_other_takes_over(stage: Stage, two_triggerers: None) -> None:
    training, job = begun(stage)
    owner = stage.cluster.owner(training.task())
    lines = len(training.shown(job))
    owner.terminate()
    taken_over(stage, training, owner)
    training.wait_for_lines(job, lines + 20)
    assert not stage.remote.told_to_stop(job)
    training.finish(job)
    assert training.wait("success")["try_number"] == 1
    training.check_lines(job, 1)
    assert training.check("SUCCESSFUL") == [job]


def test_row_5_a_triggerer_stalls_another_takes_over_and_the_first_wakes(stage: Stage, two_triggerers: None) -> None:
    training, job = begun(stage)
    first = stage.cluster.owner(training.task())
    first.hold()
    taken_over(stage, training, first)
    training.wait_for_lines(job, len(training.shown(job)) + 20)
    before = len(training.everywhere(first, "invoking on_kill"))
    first.go_on()
    # Airflow takes the loss for a user's wish and calls on_kill, which must see through it.
    wait_for(
        "the first triggerer has called on_kill",
        lambda: len(training.everywhere(first, "invoking on_kill")) > before,
        40,
    )
    training.wait_for_lines(job, len(training.shown(job)) + 60)
    assert not stage.remote.told_to_stop(job)
    training.finish(job)
    assert training.wait("success")["try_number"] == 1
    training.check_lines(job, 1)
    assert training.check("SUCCESSFUL") == [job]


def test_row_13_the_database_and_the_api_server_are_restarted_while_deferred(stage: Stage) -> None:
    training, job = begun(stage)
    for restart in (database_restart, database_crash, api_server_crash):
        lines = len(training.shown(job))
        restart(stage)
        wait_for(
            f"the log goes on after the {restart.__name__}",
            lambda lines=lines: stage.cluster.settle() and len(training.shown(job)) > lines + 20,
            150,
            0.5,
        )
    assert not stage.remote.told_to_stop(job)
    training.finish(job)
    assert training.wait("success", seconds=120)["try_number"] == 1
    training.check_lines(job, 1)
    assert training.check("SUCCESSFUL") == [job]


AWAY = 30.0
"""Seconds without an API server."""

QUICK: dict[str, str] = {}
AIRFLOWS_OWN = {
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
}


@pytest.mark.parametrize("heartbeats", [QUICK, AIRFLOWS_OWN], ids=["quick", "own"])
def test_row_13_the_api_server_is_away_while_a_worker_follows_and_another_submits(
    stage: Stage, ways: list[ScriptedProxy], heartbeats: dict[str, str]
) -> None:
    """Each supervisor of a task counts three failed heartbeats and ends its worker, which nobody wished for."""
    scheduler = stage.cluster.scheduler
    try:
        with scheduler.setting(**heartbeats):
            if heartbeats:
                scheduler.end()
                scheduler.start()
            api_server_away(stage, ways[0])
    finally:
        if heartbeats:
            scheduler.end()
            scheduler.start()


def api_server_away(stage: Stage, way: ScriptedProxy) -> None:
    inline = stage.train("kills_outage_inline")
    job = inline.wait_for_job()
    # Its client hangs up after some time and sends the request again, which is not answered either.
    creates = stage.remote.creates
    with way.hold(creates, Point.ANSWER) as held, way.always(BlackHole(), creates):
        submitting = stage.train("kills_outage")
        worker = held.wait().pid()
        inline.wait_for_lines(job, 20)
        stage.cluster.api_server.kill()
        until = time.monotonic() + AWAY
        wait_for("a while without an API server", lambda: time.monotonic() > until, AWAY + 10)
        wait_for("its supervisor has ended the worker that submits", lambda: not psutil.pid_exists(worker), 60)
    stage.cluster.api_server.start()
    wait_for("everything is healthy", stage.cluster.settle, 150, 0.5)
    for training, state in ((inline, "running"), (submitting, "deferred")):
        (only,) = {each.job_id for each in training.jobs()}
        assert not stage.remote.told_to_stop(only)
        training.wait(state, seconds=180)
        training.finish(only)
        last = training.wait("success", seconds=180)["try_number"]
        training.check_lines(only, last)
        assert training.check("SUCCESSFUL") == [only]
    assert last > 1, "the supervisor has ended the worker that submitted"


def database_restart(stage: Stage) -> None:
    stage.cluster.postgres.stop()
    stage.tally.kills += 1
    stage.cluster.postgres.start()


def database_crash(stage: Stage) -> None:
    stage.cluster.postgres.stop(signal.SIGKILL)
    stage.tally.kills += 1
    until = time.monotonic() + 3
    wait_for("a while without a database", lambda: time.monotonic() > until, 10)
    stage.cluster.postgres.start()


def api_server_crash(stage: Stage) -> None:
    stage.cluster.api_server.kill()
    stage.cluster.api_server.start()
