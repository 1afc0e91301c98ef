# SPDX-License-Identifier: Apache-2.0
"""The trigger with a scripted follower: the lines, outages, the deadline, and when the job is stopped."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, JobGone, ServiceUnavailable
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.follow import Limits
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.triggers import training
from airflow_provider_jobapi.triggers.event import TrainingEvent
from airflow_provider_jobapi.triggers.pace import Pace
from airflow_provider_jobapi.triggers.training import TrainingTrigger
from tests.harness import virtual_time
from tests.harness.scripted import START, ScriptedFollower, ScriptedTrigger, chunk, end

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
OVER = {"end": "over", "job_id": "j", "handle": {"job_id": "j"}, "detail": "", "metrics": {}}


@pytest.fixture(autouse=True)
def quick():
    """Shorten the waits."""
    with retry.testing():
        yield


def soon(seconds: float = 2) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_lines_are_shown_as_they_are_and_with_their_own_times():
    trigger = ScriptedTrigger(ScriptedFollower([chunk("100% {} %s", "", cursor=7), end("done")]))
    assert trigger.events() == [OVER]
    assert trigger.recorder.records == [
        {"level": "info", "event": "100% {} %s", "timestamp": "2026-01-05T12:00:01.000+00:00"},
        {"level": "info", "event": "", "timestamp": "2026-01-05T12:00:01.001+00:00"},
        {"level": "info", "event": "done", "timestamp": "2026-01-05T12:00:01.002+00:00"},
    ]
    assert trigger.follower.cursors == [None, 7]
    assert trigger.follower.open == 0


def test_a_trigger_comes_back_from_its_serialized_form():
    made = TrainingTrigger(
        conn_id="c", job_id="j", handle={"job_id": "j", "name": "n"}, not_before="2026-01-05T12:00:00.000+00:00",
        skew=-1.25, deadline="2026-11-22T12:00:00+00:00", limit="timeout of 1 day", patience=5.0,
    )  # fmt: skip
    path, kwargs = made.serialize()
    assert path == "airflow_provider_jobapi.triggers.training.TrainingTrigger"
    again = TrainingTrigger(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == made.serialize()


@pytest.mark.parametrize(
    "old", [{"floor": START.isoformat(), "owned": False}, {"not_before": START.isoformat(), "stop_on_kill": False}]
)
def test_rows_of_every_version_are_read(old):
    trigger = TrainingTrigger(conn_id="c", job_id="j", handle={}, **old)
    assert (trigger.not_before, trigger.stop_on_kill) == (START.isoformat(), False)


def test_a_triggerer_of_the_first_versions_reads_what_is_written():
    kwargs = TrainingTrigger(conn_id="c", job_id="j", handle={}, not_before=START.isoformat()).serialize()[1]
    assert set(kwargs) == {
        *("conn_id", "job_id", "handle", "floor", "skew", "deadline", "limit", "patience", "owned"),
        "metric_definitions",
    }


def test_an_outage_is_reported_once_when_it_begins_and_once_when_it_ends():
    steps = [ServiceUnavailable("No answer."), ConnectionError("gone"), BrokenContract("Bad page."), chunk("a"), end()]
    trigger = ScriptedTrigger(ScriptedFollower(steps))
    assert trigger.events() == [OVER]
    lost, back = trigger.recorder.lines("warning")
    assert lost.startswith("Contact with the job service is lost: No answer. ")
    assert back.startswith("Contact with the job service is back")
    assert trigger.recorder.lines() == ["a"]


def test_a_follower_that_cannot_be_opened_is_an_outage(mocker):
    follower = ScriptedFollower([end("a")])
    trigger = ScriptedTrigger(follower)
    mocker.patch.object(trigger, "_open", side_effect=[ServiceUnavailable("No answer."), follower])
    assert trigger.events() == [OVER]
    assert trigger.recorder.lines() == ["a"]


def test_a_refused_connection_is_read_again_and_one_that_is_lost_is_kept():
    """A person may have corrected the connection."""

    class Counted(ScriptedTrigger):
        opened = 0

        async def _open(self) -> Any:
            self.opened += 1
            return await super()._open()

    follower = ScriptedFollower([chunk("a"), ServiceUnavailable("lost."), ConnectionProblem("refused."), end("b")])
    trigger = Counted(follower)
    assert trigger.events() == [OVER]
    assert trigger.opened == 2
    assert follower.open == 0
    assert trigger.recorder.lines() == ["a", "b"]


def test_patience_ends():
    trigger = ScriptedTrigger(ScriptedFollower([ServiceUnavailable("No answer.")] * 1_000), patience=0.2)
    assert trigger.events() == [OVER | {"end": "unreachable", "detail": "No answer."}]
    assert len(trigger.recorder.lines("warning")) == 1


def test_each_good_answer_restarts_the_patience(monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    failures = [ServiceUnavailable("No answer.")] * 2
    steps = [step for _ in range(4) for step in (*failures, chunk())]
    assert ScriptedTrigger(ScriptedFollower([*steps, end()]), patience=10).events() == [OVER]
    assert next(clock) > 40


def test_a_read_that_never_returns_is_an_outage():
    trigger = ScriptedTrigger(ScriptedFollower([None, end("a")]), limits=Limits(read=0.05))
    assert trigger.events() == [OVER]
    assert "did not answer within 0.05 seconds" in trigger.recorder.lines("warning")[0]


def test_the_deadline_interrupts_a_read_and_stops_the_job_once():
    follower = ScriptedFollower([chunk("a"), None], after_stop=[chunk("stopping"), end("gone", state=JobState.STOPPED)])
    trigger = ScriptedTrigger(follower, deadline=soon(), limit="timeout of 0:00:01")
    assert trigger.events() == [OVER | {"end": "timeout", "detail": "timeout of 0:00:01"}]
    assert follower.stops == 1
    assert trigger.recorder.lines() == ["a", "stopping", "gone"]


def test_output_that_waits_does_not_delay_the_stop(monkeypatch):
    class Full(Pace):
        async def step(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(ScriptedTrigger, "pace", Full())
    follower = ScriptedFollower([chunk("a")])
    trigger = ScriptedTrigger(follower, deadline=soon(), limits=Limits(end_of_stopped=0.1))
    assert trigger.events()[0]["end"] == "timeout"
    assert follower.stops == 1


def test_a_stop_that_the_service_refuses_ends_with_the_patience():
    class Refusing(ScriptedFollower):
        async def stop(self) -> None:
            raise ServiceUnavailable("Not now.")

    trigger = ScriptedTrigger(Refusing([None]), deadline=soon(0), patience=0.1)
    assert trigger.events() == [OVER | {"end": "unreachable", "detail": "Not now."}]


def test_a_job_that_is_over_is_not_stopped_by_the_deadline():
    steps = [chunk("a", state=JobState.SUCCESSFUL)] + [chunk(state=JobState.SUCCESSFUL)] * 1_000_000
    follower = ScriptedFollower(steps)
    assert ScriptedTrigger(follower, deadline=soon(), limits=Limits(complete_log=2)).events() == [OVER]
    assert follower.stops == 0


def test_a_deadline_that_passed_while_no_triggerer_ran_stops_the_job():
    follower = ScriptedFollower([None], after_stop=[end()])
    assert ScriptedTrigger(follower, deadline=soon(-60)).events()[0]["end"] == "timeout"


def test_a_job_that_ignores_its_stop_does_not_block_the_task():
    follower = ScriptedFollower([], after_stop=[chunk()] * 1_000_000)
    trigger = ScriptedTrigger(follower, deadline=soon(0), limits=Limits(end_of_stopped=0.1))
    assert trigger.events()[0]["end"] == "timeout"


def test_a_log_that_is_never_complete_does_not_block_the_task():
    steps = [chunk("last", state=JobState.FAILED)] + [chunk(state=JobState.FAILED)] * 1_000_000
    trigger = ScriptedTrigger(ScriptedFollower(steps), limits=Limits(complete_log=0.1))
    assert trigger.events() == [OVER]
    assert trigger.recorder.lines() == ["last"]


def test_a_read_that_is_behind_is_no_sign_that_the_log_is_complete():
    over = JobState.SUCCESSFUL
    behind = replace(chunk(state=over), behind=True)
    steps = [chunk("a", state=over), behind, behind, chunk("b", state=over), chunk(state=over), chunk("too late")]
    trigger = ScriptedTrigger(ScriptedFollower(steps), limits=Limits(complete_log=0))
    assert trigger.events() == [OVER]
    assert trigger.recorder.lines() == ["a", "b"]


@pytest.mark.parametrize("in_triggerer", [True, False])
def test_a_deferral_is_not_shorter_than_the_scheduler_can_follow(monkeypatch, in_triggerer):
    monkeypatch.setattr(ScriptedTrigger, "shortest", 3.0)
    begin = datetime.now(UTC)
    trigger = ScriptedTrigger(ScriptedFollower([end()]), not_before=begin.isoformat())
    trigger.task_instance = TI if in_triggerer else None
    assert trigger.events() == [OVER]
    assert (datetime.now(UTC) - begin >= timedelta(seconds=3)) == in_triggerer


def test_a_job_that_is_gone_is_over():
    assert ScriptedTrigger(ScriptedFollower([JobGone("Its retention is over.")])).events() == [OVER]


# Stopping the job


def killed(mocker, *, state: str | None, job: str | None, map_index: int = -1) -> ScriptedFollower:
    """Call on_kill while Airflow says that the task is in this state and waits for this job."""
    name = "t" if map_index < 0 else f"t_{map_index}"
    states = {"r": {} if state is None else {name: state}}
    mocker.patch("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", return_value=states)
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_one", return_value=job)
    follower = ScriptedFollower([])
    trigger = ScriptedTrigger(follower)
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=map_index)
    asyncio.run(trigger.on_kill())
    return follower


@pytest.mark.parametrize("map_index", [-1, 0, 3])
@pytest.mark.parametrize(
    ("state", "job", "stopped"),
    [
        ("failed", "j", 1),
        ("success", "j", 1),
        ("scheduled", None, 1),
        (None, None, 1),
        ("deferred", "another", 1),
        ("deferred", None, 1),
        ("deferred", "j", 0),
    ],
)
def test_a_job_goes_on_only_while_a_deferral_waits_for_it(mocker, state, job, stopped, map_index):
    assert killed(mocker, state=state, job=job, map_index=map_index).stops == stopped


def test_a_job_goes_on_where_the_state_of_the_task_is_unknown(mocker):
    mocker.patch(
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", side_effect=RuntimeError("closed")
    )
    trigger = ScriptedTrigger(ScriptedFollower([]))
    trigger.task_instance = TI
    asyncio.run(trigger.on_kill())
    assert trigger.follower.stops == 0
    assert "so the job goes on: RuntimeError: closed." in trigger.recorder.lines("warning")[0]


def test_an_airflow_that_never_says_whether_a_job_is_wanted_stops_nothing(mocker):
    trigger = ScriptedTrigger(ScriptedFollower([]))
    trigger.task_instance = TI

    async def never() -> bool:
        await asyncio.Event().wait()
        return False

    async def kill() -> float:
        await trigger.on_kill()
        return asyncio.get_running_loop().time()

    mocker.patch.object(trigger, "_is_still_wanted", never)
    assert virtual_time.run(kill()) == trigger.kill_patience
    assert trigger.follower.stops == 0
    assert "so the job goes on" in trigger.recorder.lines("warning")[0]


def test_a_stop_that_fails_is_tried_again(mocker):
    follower = ScriptedFollower([])
    trigger = ScriptedTrigger(follower)
    mocker.patch.object(trigger, "_is_still_wanted", return_value=False)
    mocker.patch.object(
        trigger, "_open", side_effect=[ServiceUnavailable("Busy."), ServiceUnavailable("Busy."), follower]
    )
    trigger.task_instance = TI
    asyncio.run(trigger.on_kill())
    assert follower.stops == 1


def test_a_stop_continues_after_airflow_cancels_on_kill(mocker):
    """Airflow cancels on_kill after 30 seconds; a triggerer that is slow to answer must stop the job none the less."""
    trigger = ScriptedTrigger(ScriptedFollower([]))
    trigger.task_instance = TI

    async def run() -> None:
        answer = asyncio.Event()

        async def slow() -> bool:
            await answer.wait()
            return False

        mocker.patch.object(trigger, "_is_still_wanted", slow)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(trigger.on_kill(), 0.05)
        assert trigger.follower.stops == 0
        answer.set()
        (kill,) = training._KILLS
        await kill

    asyncio.run(run())
    assert trigger.follower.stops == 1
    assert not training._KILLS


def test_a_stop_that_always_fails_is_given_up_and_logged(mocker, monkeypatch):
    monkeypatch.setattr(ScriptedTrigger, "kill_patience", 0.1)
    trigger = ScriptedTrigger(ScriptedFollower([]))
    mocker.patch.object(trigger, "_is_still_wanted", return_value=False)
    mocker.patch.object(trigger, "_open", side_effect=ServiceUnavailable("Busy."))
    trigger.task_instance = TI
    asyncio.run(trigger.on_kill())
    assert trigger.recorder.lines("error") == ["Job j could not be stopped: Busy."]


def test_no_kill_after_the_event(mocker):
    trigger = ScriptedTrigger(ScriptedFollower([end()]))
    mocker.patch.object(trigger, "_is_still_wanted", return_value=False)
    trigger.task_instance = TI
    trigger.events()
    asyncio.run(trigger.on_kill())
    assert trigger.follower.stops == 0


@pytest.mark.parametrize(("wanted", "stops"), [(True, 0), (False, 1)])
def test_before_airflow_3_3_a_cancellation_is_the_only_sign_of_a_kill(monkeypatch, mocker, wanted, stops):
    monkeypatch.delattr(BaseTrigger, "on_kill", raising=False)
    assert cancelled(mocker, wanted).stops == stops


def test_from_airflow_3_3_on_a_cancellation_alone_does_not_stop_the_job(monkeypatch, mocker):
    monkeypatch.setattr(BaseTrigger, "on_kill", lambda _: None, raising=False)
    assert cancelled(mocker, wanted=False).stops == 0


def test_the_message_of_a_cancellation_reaches_airflow_while_a_follower_waits_in_a_thread():
    class Threaded(ScriptedFollower):
        async def read(self, _cursor):
            await sync_to_async(began.set, thread_sensitive=False)()
            await sync_to_async(over.wait, thread_sensitive=False)(20)

    async def cancel() -> tuple[object, ...]:
        following = asyncio.create_task(anext(ScriptedTrigger(Threaded([])).run()))
        await asyncio.to_thread(began.wait)
        await asyncio.sleep(0.1)
        following.cancel("user-action")
        with pytest.raises(asyncio.CancelledError) as caught:
            await following
        over.set()
        return caught.value.args

    began, over = threading.Event(), threading.Event()
    assert asyncio.run(cancel()) == ("user-action",)


def cancelled(mocker, wanted: bool) -> ScriptedFollower:
    """Cancel a trigger in the middle of a read, as a triggerer does."""
    follower = ScriptedFollower([chunk("a"), None])
    trigger = ScriptedTrigger(follower)
    trigger.task_instance = TI
    mocker.patch.object(trigger, "_is_still_wanted", return_value=wanted)

    async def run() -> None:
        task = asyncio.ensure_future(anext(trigger.run()))
        while len(follower.cursors) < 2:  # noqa: ASYNC110 -- the follower is a script and has no event to tell
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert follower.open == 0
    return follower


# The event


@pytest.mark.parametrize(
    "payload", [None, {}, {"status": "success"}, OVER | {"end": "sideways"}, OVER | {"more": 1}, "x"]
)
def test_a_payload_that_is_not_an_event_is_refused(payload):
    with pytest.raises(BrokenContract, match="which is not an event of TrainingTrigger"):
        TrainingEvent.read(payload)


def test_an_event_comes_back_from_its_payload():
    assert TrainingEvent.read(OVER).payload() == OVER
