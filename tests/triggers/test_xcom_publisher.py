# SPDX-License-Identifier: Apache-2.0
"""What a trigger tells beside the log: the XComs of the status and of the metrics, and that neither ever harms."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.metrics.definitions import Metrics
from airflow_provider_jobapi.training.status import JobState, JobStatus
from airflow_provider_jobapi.triggers import xcom_publisher, xcom_writer
from airflow_provider_jobapi.triggers.xcom_publisher import XComPublisher
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.loops import until
from tests.harness.scripted import ScriptedFollower, ScriptedTrigger, chunk, end

HELPER = '{"jobapi_metrics": 1, "step": 2, "metrics": {"loss": 0.25, "x": "NaN"}}'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test waits for what only people need."""
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    monkeypatch.setattr(XComPublisher, "last_wait", 0.5)
    monkeypatch.setattr(XComPublisher, "ask_every", (0.02, 0.02))


def status(word: str, message: str = "", job_id: str = "j") -> JobStatus:
    return JobStatus(job_id=job_id, status=word, message=message)


class Told:
    """A task's XComs, and everything that was ever written to them."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict]] = []

    def __call__(self, key: str, value: dict) -> None:
        self.all.append((key, value))

    def of(self, key: str) -> list[dict]:
        return [value for each, value in self.all if each == key]

    @property
    def words(self) -> list[tuple[str, str]]:
        return [(value["status"], value["message"]) for value in self.of("trainingStatus")]


def followed(steps, sink=None, statuses=None, **changes) -> tuple[dict, ScriptedTrigger, Told]:
    """Run a trigger to its end; answers its event."""
    follower, told = ScriptedFollower(steps), Told()
    if statuses:
        follower.statuses = statuses
    trigger = ScriptedTrigger(follower, **changes)
    trigger.sink = sink or told
    (event,) = trigger.events()
    return event, trigger, told


def test_the_last_values_are_in_the_event_and_the_curves_in_the_xcom():
    event, trigger, told = followed([chunk("loss=1", "Epoch 1/2"), chunk("loss=0.5", HELPER), end("step=3 loss=0")])
    assert event["metrics"] == {"loss": 0.0, "x": "NaN"}
    last = told.of("training_metrics")[-1]
    assert (last["job_id"], last["version"], last["left_out"]) == ("j", 1, 0)
    assert last["metrics"]["loss"]["values"] == [1, 0.5, 0.25, 0]
    assert last["metrics"]["loss"]["times"] == [1767614401.0] * 4
    assert trigger.recorder.lines() == ["loss=1", "Epoch 1/2", "loss=0.5", "step 2: loss=0.25 x=nan", "step=3 loss=0"]


def test_definitions_are_kept_to_and_survive_the_triggers_serialization():
    definitions = [{"name": "quality", "regex": "Q(.*)"}]
    event, trigger, _ = followed([end("loss=1", "Q2.5")], metric_definitions=definitions)
    assert event["metrics"] == {"quality": 2.5}
    assert trigger.serialize()[1]["metric_definitions"] == definitions


def test_lines_that_thinning_leaves_out_are_read():
    _, trigger, told = followed([chunk(*(f"loss={number}" for number in range(12_000))), end()])
    assert told.of("training_metrics")[-1]["metrics"]["loss"]["count"] == 12_000
    assert len(trigger.recorder.lines()) < 12_000


def test_what_was_read_again_is_told_though_no_line_follows():
    follower, told = ScriptedFollower([chunk("loss=1"), chunk(), None]), Told()
    trigger = ScriptedTrigger(follower)
    trigger.sink = told

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: told.of("training_metrics"))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert told.of("training_metrics")[0]["metrics"]["loss"]["values"] == [1]


def test_the_skew_is_in_the_times():
    _, _, told = followed([end("loss=1")], skew=100.0)
    assert told.of("training_metrics")[-1]["metrics"]["loss"]["times"] == [1767614501.0]


def test_without_a_task_to_write_for_nothing_is_written_and_the_event_knows_the_values():
    follower = ScriptedFollower([end("loss=1")])
    assert ScriptedTrigger(follower).events()[0]["metrics"] == {"loss": 1.0}
    assert follower.questions == 0


def test_each_state_is_told_and_each_message():
    follower, told = ScriptedFollower([chunk(state=JobState.PENDING), None]), Told()
    follower.statuses = [status("PENDING", "1 job waits before it.")] * 2 + [status("PENDING"), status("RUNNING")]
    trigger = ScriptedTrigger(follower)
    trigger.sink = told

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: ("RUNNING", "") in told.words)
        asked = follower.questions
        await until(lambda: follower.questions >= asked + 3)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert told.words[0] == ("PENDING", "1 job waits before it.")
    assert told.words[-1] == ("RUNNING", "")
    assert len(told.words) == len(set(told.words)), "what is there already is not written again"


def test_the_last_status_is_the_ends():
    _, _, told = followed([chunk("a"), end()], statuses=[status("SUCCESSFUL", job_id="")])
    assert told.of("trainingStatus")[-1]["status"] == "SUCCESSFUL"
    assert {value["job_id"] for _, value in told.all} == {"j"}


@pytest.mark.parametrize("answer", [None, ServiceUnavailable("No answer."), RuntimeError("closed")])
def test_a_status_that_cannot_be_had_delays_no_line_and_fails_no_job(answer):
    begin = time.monotonic()
    event, trigger, told = followed([chunk("a"), chunk("b"), end("loss=1")], statuses=[answer])
    assert event["end"] == "over"
    assert trigger.recorder.lines() == ["a", "b", "loss=1"]
    assert trigger.recorder.lines("warning") == []
    assert told.of("training_metrics")
    assert time.monotonic() - begin < 30


def test_an_xcom_that_cannot_be_written_fails_no_job_and_is_tried_again():
    failures = []

    def sink(key: str, value: dict) -> None:
        failures.append(key)
        raise ConnectionError("The API is away.")

    event, trigger, _ = followed([chunk("loss=1"), end("b")], sink=sink)
    assert (event["end"], event["metrics"]) == ("over", {"loss": 1.0})
    assert trigger.recorder.lines() == ["loss=1", "b"]
    assert failures.count("training_metrics") > 1


def test_an_xcom_that_is_never_written_does_not_hold_the_task():
    held = threading.Event()
    begin = time.monotonic()
    try:
        followed([end("loss=1")], sink=lambda _key, _value: held.wait(60))
        assert time.monotonic() - begin < 30
    finally:
        held.set()


def test_what_breaks_in_the_metrics_is_told_once_and_harms_nothing(mocker):
    mocker.patch.object(Metrics, "read", side_effect=ZeroDivisionError("a defect of ours"))
    event, trigger, _ = followed([chunk("loss=1"), chunk("b"), end()])
    assert event["end"] == "over"
    assert trigger.recorder.lines() == ["loss=1", "b"]
    assert len(trigger.recorder.lines("warning")) == 1


def test_definitions_that_this_triggerer_cannot_read_harm_nothing():
    event, trigger, _ = followed([end(HELPER)], metric_definitions=[{"name": "a", "regex": "("}])
    assert event["metrics"] == {"loss": 0.25, "x": "NaN"}
    assert trigger.recorder.lines("warning")[0].startswith(
        "No metrics are read, since the metric definitions are not valid on this triggerer: "
    )


def test_a_line_of_any_year_has_a_time():
    steps = [LogChunk((LogLine(datetime.max.replace(tzinfo=UTC), "loss=1"),), None, JobState.RUNNING), end()]
    event, _, _ = followed(steps, skew=1e9)
    assert event["metrics"] == {"loss": 1.0}


@pytest.mark.parametrize(("ages", "known"), [((300, 200), False), ((300, -100), True), ((), True)])
def test_a_takeover_writes_no_shorter_curve_while_it_reads_the_log_again(ages, known):
    lines = tuple(LogLine(datetime.now(UTC) - timedelta(seconds=age), "loss=1") for age in ages)
    old = LogLine(datetime.now(UTC) - timedelta(days=1), "loss=1")
    follower, told = (
        ScriptedFollower([LogChunk((old,), None), LogChunk(lines, None), LogChunk((old,), None), None]),
        Told(),
    )
    trigger = ScriptedTrigger(follower)
    trigger.sink = told

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        async with asyncio.timeout(20):
            while not told.of("training_metrics" if known else "trainingStatus"):  # noqa: ASYNC110 -- a thread writes
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # what must not be written has the time to be
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert bool(told.of("training_metrics")) == known


def test_nothing_is_written_after_cancellation():
    follower, told = ScriptedFollower([chunk("loss=1"), None]), Told()
    trigger = ScriptedTrigger(follower)
    trigger.sink = told

    async def run() -> int:
        following = asyncio.create_task(anext(trigger.run()))
        async with asyncio.timeout(20):
            while not told.all:  # noqa: ASYNC110 -- written by a thread
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        there, asked = len(told.all), follower.questions
        await asyncio.sleep(0.2)
        assert (len(told.all), follower.questions) == (there, asked)
        return xcom_writer.writer().size

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("definitions", [None, [{"name": "loss", "regex": "loss=(.*)"}]])
def test_a_replay_tells_the_same_however_the_log_is_cut(definitions):
    """And another log another thing."""
    lines = [f"step={number} loss={number * 7919 % 1_009}" for number in range(2_000)]
    pages = [chunk(*lines[:1_100]), chunk(*lines[1_100:]), end(HELPER)]
    tellings = [
        followed(steps, metric_definitions=definitions)[2].of("training_metrics")[-1]["metrics"]
        for steps in (pages[:], [end(*lines, HELPER)], [end(*lines[1:], HELPER)])
    ]
    assert tellings[0] == tellings[1] != tellings[2]
    assert (tellings[0]["loss"]["count"], tellings[0]["loss"]["max"]) == (2_001, 1_008)


def test_lines_are_shown_before_they_are_read(monkeypatch):
    shown, read = [], Metrics.read

    def late(metrics, line, time):
        shown.append(len(trigger.recorder.lines()))
        read(metrics, line, time)

    monkeypatch.setattr(Metrics, "read", late)
    trigger = ScriptedTrigger(ScriptedFollower([chunk(*["loss=1"] * 200), end("loss=2")]))
    assert trigger.events()[0]["metrics"] == {"loss": 2.0}
    assert shown == [200] * 200 + [201]


def test_what_takes_long_is_not_done_on_the_event_loop(monkeypatch):
    where = {}

    def told(name, function):
        def call(*arguments):
            where[name] = threading.current_thread() is threading.main_thread()
            return function(*arguments)

        return call

    monkeypatch.setattr(xcom_publisher, "read_definitions", told("compile", xcom_publisher.read_definitions))
    for name in ("snapshot", "content", "read"):
        monkeypatch.setattr(Metrics, name, told(name, getattr(Metrics, name)))
    followed([end("loss=1")], metric_definitions=[{"name": "loss", "regex": "loss=(.*)"}])
    assert where == {"compile": False, "snapshot": True, "content": False, "read": True}


def test_lines_that_take_long_to_read_do_not_hold_the_event_loop(monkeypatch):
    def slow(*_):
        until = time.thread_time() + 0.003
        while time.thread_time() < until:
            pass

    monkeypatch.setattr(Metrics, "read", slow)
    trigger = ScriptedTrigger(ScriptedFollower([chunk(*["x"] * 40), chunk(*["x"] * 40), end()]))
    worked: list[float] = []

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        while not following.done():
            begin = time.thread_time()
            await asyncio.sleep(0)
            worked.append(time.thread_time() - begin)
        await following

    gc.disable()  # a collection holds the loop, too
    try:
        asyncio.run(run())
    finally:
        gc.enable()
    assert sum(worked) > 0.24
    assert max(worked) < 0.05


def test_a_job_of_a_hundred_thousand_steps_costs_64_kib_of_xcom():
    def page(first: int) -> LogChunk:
        lines = (
            f"step={n} " + " ".join(f"m{each}={n / 7 + each}" for each in range(8)) for n in range(first, first + 5_000)
        )
        return chunk(*lines)

    _, _, told = followed([*map(page, range(0, 100_000, 5_000)), end()], patience=600.0)
    contents = told.of("training_metrics")
    assert max(len(json.dumps(content)) for content in contents) <= 64 * 1024
    assert {metric["count"] for metric in contents[-1]["metrics"].values()} == {100_000}
    assert contents[-1]["metrics"]["m0"]["max"] == 99_999 / 7
    assert min(len(metric["values"]) for metric in contents[-1]["metrics"].values()) > 90
