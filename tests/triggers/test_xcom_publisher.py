# SPDX-License-Identifier: Apache-2.0
"""The XComs of the status and of the metrics, and that no error in them fails a job."""

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
    """Shorten the waits."""
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    monkeypatch.setattr(XComPublisher, "last_wait", 0.5)
    monkeypatch.setattr(XComPublisher, "ask_every", (0.02, 0.02))


def status(word: str, message: str = "", job_id: str = "j") -> JobStatus:
    return JobStatus(job_id=job_id, status=word, message=message)


class Published:
    """Every value that was written to a task's XComs."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict]] = []

    def __call__(self, key: str, value: dict) -> None:
        self.all.append((key, value))

    def of(self, key: str) -> list[dict]:
        return [value for each, value in self.all if each == key]

    @property
    def words(self) -> list[tuple[str, str]]:
        return [(value["status"], value["message"]) for value in self.of("trainingStatus")]


def followed(steps, sink=None, statuses=None, **changes) -> tuple[dict, ScriptedTrigger, Published]:
    """Run a trigger to its end; returns its event, the trigger and the XComs."""
    follower, published = ScriptedFollower(steps), Published()
    if statuses:
        follower.statuses = statuses
    trigger = ScriptedTrigger(follower, **changes)
    trigger.sink = sink or published
    (event,) = trigger.events()
    return event, trigger, published


def test_the_last_values_are_in_the_event_and_the_curves_in_the_xcom():
    event, trigger, published = followed(
        [chunk("loss=1", "Epoch 1/2"), chunk("loss=0.5", HELPER), end("step=3 loss=0")]
    )
    assert event["metrics"] == {"loss": 0.0, "x": "NaN"}
    last = published.of("training_metrics")[-1]
    assert (last["job_id"], last["version"], last["left_out"]) == ("j", 1, 0)
    assert last["metrics"]["loss"]["values"] == [1, 0.5, 0.25, 0]
    assert last["metrics"]["loss"]["times"] == [1767614401.0] * 4
    assert trigger.recorder.lines() == ["loss=1", "Epoch 1/2", "loss=0.5", "step 2: loss=0.25 x=nan", "step=3 loss=0"]


def test_only_the_definitions_are_used_and_they_are_serialized():
    definitions = [{"name": "quality", "regex": "Q(.*)"}]
    event, trigger, _ = followed([end("loss=1", "Q2.5")], metric_definitions=definitions)
    assert event["metrics"] == {"quality": 2.5}
    assert trigger.serialize()[1]["metric_definitions"] == definitions


def test_lines_that_thinning_leaves_out_are_read():
    _, trigger, published = followed([chunk(*(f"loss={number}" for number in range(12_000))), end()])
    assert published.of("training_metrics")[-1]["metrics"]["loss"]["count"] == 12_000
    assert len(trigger.recorder.lines()) < 12_000


def test_metrics_of_a_replay_are_published_although_no_new_line_follows():
    follower = ScriptedFollower([chunk("loss=1"), chunk(), None])
    published = publishing(follower, lambda published: published.of("training_metrics"))
    assert published.of("training_metrics")[0]["metrics"]["loss"]["values"] == [1]


def test_the_skew_is_in_the_times():
    _, _, published = followed([end("loss=1")], skew=100.0)
    assert published.of("training_metrics")[-1]["metrics"]["loss"]["times"] == [1767614501.0]


def test_without_a_task_nothing_is_published_and_the_event_has_the_values():
    follower = ScriptedFollower([end("loss=1")])
    assert ScriptedTrigger(follower).events()[0]["metrics"] == {"loss": 1.0}
    assert follower.questions == 0


def test_each_state_and_each_message_is_published():
    follower, published = ScriptedFollower([chunk(state=JobState.PENDING), None]), Published()
    follower.statuses = [status("PENDING", "1 job waits before it.")] * 2 + [status("PENDING"), status("RUNNING")]
    trigger = ScriptedTrigger(follower)
    trigger.sink = published

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: ("RUNNING", "") in published.words)
        asked = follower.questions
        await until(lambda: follower.questions >= asked + 3)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert published.words[0] == ("PENDING", "1 job waits before it.")
    assert published.words[-1] == ("RUNNING", "")
    assert len(published.words) == len(set(published.words)), "what is there already is not written again"


def publishing(follower: ScriptedFollower, done) -> Published:
    """Run a trigger until its XComs are as wanted."""
    published = Published()
    trigger = ScriptedTrigger(follower)
    trigger.sink = published

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: done(published))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    return published


@pytest.mark.parametrize(("retry_after", "asks_on"), [(60.0, False), (None, True), (0.0, True)])
def test_a_service_that_wants_no_request_is_not_asked_for_the_status(retry_after, asks_on):
    follower = ScriptedFollower([None])
    follower.statuses = [ServiceUnavailable("busy", retry_after=retry_after)]
    trigger = ScriptedTrigger(follower)
    trigger.sink = Published()

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: follower.questions >= (3 if asks_on else 1))
        await asyncio.sleep(0.2)  # ten times as long as the pause between two questions
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert asks_on or follower.questions == 1


def test_the_status_is_published_while_the_first_read_waits_for_a_line():
    follower = ScriptedFollower([None])
    follower.statuses = [status("PENDING", "2 jobs wait before it.")]
    published = publishing(follower, lambda published: published.words)
    assert published.words == [("PENDING", "2 jobs wait before it.")]


def test_a_status_that_does_not_change_is_written_again(monkeypatch):
    monkeypatch.setattr(XComPublisher, "write_every", 0.1)
    published = publishing(ScriptedFollower([chunk("a"), None]), lambda published: len(published.words) == 3)
    assert set(published.words) == {("RUNNING", "")}


def test_the_final_status_is_published_last():
    _, _, published = followed([chunk("a"), end()], statuses=[status("SUCCESSFUL", job_id="")])
    assert published.of("trainingStatus")[-1]["status"] == "SUCCESSFUL"
    assert {value["job_id"] for _, value in published.all} == {"j"}


@pytest.mark.parametrize("answer", [None, ServiceUnavailable("No answer."), RuntimeError("closed")])
def test_a_status_that_cannot_be_read_delays_no_line_and_fails_no_job(answer):
    begin = time.monotonic()
    event, trigger, published = followed([chunk("a"), chunk("b"), end("loss=1")], statuses=[answer])
    assert event["end"] == "over"
    assert trigger.recorder.lines() == ["a", "b", "loss=1"]
    assert trigger.recorder.lines("warning") == []
    assert published.of("training_metrics")
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


def test_an_error_in_the_metrics_is_reported_once_and_fails_no_job(mocker):
    mocker.patch.object(Metrics, "read", side_effect=ZeroDivisionError("a defect"))
    event, trigger, _ = followed([chunk("loss=1"), chunk("b"), end()])
    assert event["end"] == "over"
    assert trigger.recorder.lines() == ["loss=1", "b"]
    assert len(trigger.recorder.lines("warning")) == 1


def test_definitions_that_are_not_valid_on_the_triggerer_fail_no_job():
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
    follower, published = (
        ScriptedFollower([LogChunk((old,), None), LogChunk(lines, None), LogChunk((old,), None), None]),
        Published(),
    )
    trigger = ScriptedTrigger(follower)
    trigger.sink = published

    async def run() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        async with asyncio.timeout(20):
            while not published.of("training_metrics" if known else "trainingStatus"):  # noqa: ASYNC110 -- a thread writes
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # what must not be written has the time to be
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    assert bool(published.of("training_metrics")) == known


def test_nothing_is_written_after_cancellation():
    follower, published = ScriptedFollower([chunk("loss=1"), None]), Published()
    trigger = ScriptedTrigger(follower)
    trigger.sink = published

    async def run() -> int:
        following = asyncio.create_task(anext(trigger.run()))
        async with asyncio.timeout(20):
            while not published.all:  # noqa: ASYNC110 -- written by a thread
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        there, asked = len(published.all), follower.questions
        await asyncio.sleep(0.2)
        assert (len(published.all), follower.questions) == (there, asked)
        return xcom_writer.writer().size

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("definitions", [None, [{"name": "loss", "regex": "loss=(.*)"}]])
def test_a_replay_publishes_the_same_metrics_for_any_chunks(definitions):
    """And another log gives other metrics."""
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


def test_slow_work_is_not_done_on_the_event_loop(monkeypatch):
    where = {}

    def traced(name, function):
        def call(*arguments):
            where[name] = threading.current_thread() is threading.main_thread()
            return function(*arguments)

        return call

    monkeypatch.setattr(xcom_publisher, "read_definitions", traced("compile", xcom_publisher.read_definitions))
    for name in ("snapshot", "content", "read"):
        monkeypatch.setattr(Metrics, name, traced(name, getattr(Metrics, name)))
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

    _, _, published = followed([*map(page, range(0, 100_000, 5_000)), end()], patience=600.0)
    contents = published.of("training_metrics")
    assert max(len(json.dumps(content)) for content in contents) <= 64 * 1024
    assert {metric["count"] for metric in contents[-1]["metrics"].values()} == {100_000}
    assert contents[-1]["metrics"]["m0"]["max"] == 99_999 / 7
    assert min(len(metric["values"]) for metric in contents[-1]["metrics"].values()) > 90


def far(seconds: float, *texts: str) -> LogChunk:
    """Lines that are written now, each so many seconds after the one before."""
    begin = datetime.now(UTC) - timedelta(seconds=seconds * len(texts) - 1)
    lines = (LogLine(begin + timedelta(seconds=seconds * number), text) for number, text in enumerate(texts))
    return LogChunk((*lines, LogLine(datetime.now(UTC) + timedelta(seconds=1), "now")), None, JobState.RUNNING)


EPOCHS = ["Epoch 1/10 loss 0.5", "Epoch 2/10 loss 0.5", "Epoch 3/10 loss 0.5"]


def test_the_progress_is_read_from_the_lines_where_the_service_does_not_say_it(monkeypatch):
    monkeypatch.setattr(XComPublisher, "progress_every", 0.0)
    follower = ScriptedFollower([far(10.0, *EPOCHS), None])
    follower.statuses = [status("RUNNING")]
    published = publishing(
        follower, lambda published: any("progress" in each for each in published.of("trainingStatus"))
    )
    last = published.of("trainingStatus")[-1]
    assert last["progress"] == 0.3
    assert last["remaining"] == pytest.approx(70, abs=15)


def test_the_progress_of_the_service_comes_first():
    follower = ScriptedFollower([far(10.0, *EPOCHS), None])
    follower.statuses = [JobStatus(job_id="j", status="RUNNING", progress=0.25, remaining=7.0), status("RUNNING", "on")]
    published = publishing(follower, lambda published: ("RUNNING", "on") in published.words)
    assert [value.get("progress") for value in published.of("trainingStatus")] == [0.25, None]


@pytest.mark.parametrize("word", ["PENDING", "SUCCESSFUL", "FAILED"])
def test_only_a_running_job_has_a_progress(word):
    follower = ScriptedFollower([far(10.0, *EPOCHS), None])
    follower.statuses = [status(word), status(word), status(word, "again")]
    published = publishing(follower, lambda published: (word, "again") in published.words)
    assert all("progress" not in value for value in published.of("trainingStatus"))


def test_a_progress_that_moves_is_written_from_time_to_time(monkeypatch):
    def written(every: float) -> int:
        monkeypatch.setattr(XComPublisher, "progress_every", every)
        follower = ScriptedFollower([chunk("a"), None])
        told = [JobStatus(job_id="j", status="RUNNING", progress=step / 100) for step in range(20)]
        follower.statuses = [*told, status("RUNNING", "end")]
        published = publishing(follower, lambda published: ("RUNNING", "end") in published.words)
        return len(published.of("trainingStatus"))

    assert written(3_600.0) == 2
    assert written(0.0) > 5


def test_a_trigger_that_reads_the_log_again_says_no_earlier_progress():
    old = LogLine(datetime.now(UTC) - timedelta(days=1), "Epoch 1/10 loss 0.5")
    follower = ScriptedFollower([LogChunk((old,), None, JobState.RUNNING), None])
    follower.statuses = [status("RUNNING"), status("RUNNING"), status("RUNNING", "again")]
    published = publishing(follower, lambda published: ("RUNNING", "again") in published.words)
    assert all("progress" not in value for value in published.of("trainingStatus"))


def test_what_the_helper_tells_of_the_progress_is_shown_for_people():
    line = '{"jobapi_metrics": 1, "progress": {"done": 30.0, "total": 120.0}}'
    _, trigger, _ = followed([end(line)])
    assert trigger.recorder.lines() == ["progress: 30 of 120"]
