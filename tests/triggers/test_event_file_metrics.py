# SPDX-License-Identifier: Apache-2.0
"""The trigger reads a job's event files beside its log: curves of silent jobs, the same ones after each restart."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.base import ScalarChunk
from airflow_provider_jobapi.services.follow import Limits
from airflow_provider_jobapi.services.jobapi import follower as followers
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.metrics.job_metrics import JobMetrics
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.triggers.xcom_publisher import XComPublisher
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.client import service
from tests.harness.event_writer import SOURCE
from tests.harness.loops import until
from tests.harness.scripted import START, ScriptedFollower, ScriptedTrigger, chunk, end
from tests.harness.server import Server
from tests.triggers.test_xcom_publisher import Published, publishing


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shorten the waits."""
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    monkeypatch.setattr(XComPublisher, "last_wait", 5.0)
    monkeypatch.setattr(XComPublisher, "ask_every", (0.5, 0.5))
    monkeypatch.setattr(followers, "SCALARS_INTERVAL", 0.1)


def points(name: str, *values: float, first: int = 1, at_end: bool = True, complete: bool = False) -> ScalarChunk:
    """A chunk of the points of one curve."""
    lines = tuple(
        LogLine(START, json.dumps({"jobapi_metrics": 1, "step": step, "metrics": {name: value}}))
        for step, value in enumerate(values, first)
    )
    return ScalarChunk(lines, first + len(values), JobState.RUNNING, complete, at_end=at_end)


class TwoStreams(ScriptedFollower):
    """Follows a job that has scalars, too.

    :param scalars: The answers to the reads of the scalars; after them, a read waits for ever.
    """

    has_scalars = True

    def __init__(self, steps: Any, scalars: list[ScalarChunk | Exception]) -> None:
        super().__init__(steps)
        self.scalars = scalars

    async def read_scalars(self, _cursor: Any) -> ScalarChunk:
        if not self.scalars:
            await asyncio.Event().wait()
        answer = self.scalars.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(follower: ScriptedFollower, **changes: Any) -> tuple[dict[str, Any], ScriptedTrigger, Published]:
    trigger, published = ScriptedTrigger(follower, **changes), Published()
    trigger.sink = published
    (event,) = trigger.events()
    return event, trigger, published


def test_both_streams_are_in_the_xcom_and_in_the_result():
    follower = TwoStreams(
        [chunk("step=1 loss=1"), end("step=2 loss=0.5")],
        [points("train/acc", 0.1, 0.2), points("loss", 9.0, 9.0), points("train/acc", 0.3, first=3, complete=True)],
    )
    event, trigger, published = run(follower)
    assert event["metrics"] == {"loss": 0.5, "train/acc": 0.3}
    last = published.of("training_metrics")[-1]["metrics"]
    assert (last["train/acc"]["steps"], last["train/acc"]["values"]) == ([1, 2, 3], [0.1, 0.2, 0.3])
    assert last["loss"]["values"] == [1, 0.5]
    assert trigger.recorder.lines() == ["step=1 loss=1", "step=2 loss=0.5"]
    assert trigger.recorder.lines("warning") == []


@pytest.mark.parametrize("first", [True, False])
def test_a_restart_gives_the_same_metrics(first):
    log = [chunk("step=1 loss=1 acc=3"), chunk("step=2 loss=2"), end()]
    files = [points("acc", 1, 2), points("t/acc", *range(50)), points("t/acc", 7, first=51, complete=True)]
    if not first:
        log = [LogChunk(tuple(line for each in log for line in each.lines), None, JobState.SUCCESSFUL, complete=True)]
        lines = tuple(line for each in files for line in each.lines)
        files = [ScalarChunk(lines, 9, JobState.SUCCESSFUL, complete=True, at_end=True)]
    event, _, published = run(TwoStreams(log, files))
    assert event["metrics"] == {"loss": 2.0, "acc": 3.0, "t/acc": 7.0}
    last = published.of("training_metrics")[-1]["metrics"]
    assert {name: metric["count"] for name, metric in last.items()} == {"loss": 2, "acc": 1, "t/acc": 51}


def test_the_trouble_of_the_scalars_is_nobodys():
    """Neither a line, nor the end, nor another metric waits for them, and no warning is written."""
    follower = TwoStreams(
        [chunk("loss=1"), end("loss=0.5")], [ServiceUnavailable("Away."), RuntimeError("a defect")] * 9
    )
    begin = time.monotonic()
    event, trigger, published = run(follower, limits=Limits(scalars=0.2))
    assert time.monotonic() - begin < 30
    assert (event["end"], event["metrics"]) == ("over", {"loss": 0.5})
    assert trigger.recorder.lines() == ["loss=1", "loss=0.5"]
    assert trigger.recorder.lines("warning") == []
    assert published.of("training_metrics")[-1]["metrics"]["loss"]["values"] == [1, 0.5]


def test_the_deadline_waits_for_no_scalars():
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    follower = TwoStreams([chunk("loss=1"), None], [points("a", 1.0), points("a", 2.0)])
    begin = time.monotonic()
    event, _, _ = run(follower, deadline=soon.isoformat(), limit="timeout of 1 s", limits=Limits(end_of_stopped=0.1))
    assert (event["end"], event["metrics"]) == ("timeout", {"loss": 1.0, "a": 2.0})
    assert follower.stops == 1
    assert time.monotonic() - begin < 30


def test_lines_wait_for_no_scalars(monkeypatch):
    """However many points come at once, the event loop is given back to the lines."""
    shown: list[int] = []
    read = JobMetrics.read_scalars

    def traced(metrics, line, moment):
        shown.append(len(trigger.recorder.lines()))
        read(metrics, line, moment)

    monkeypatch.setattr(JobMetrics, "read_scalars", traced)
    follower = TwoStreams(
        [*(chunk(f"line {number}") for number in range(50)), end()],
        [points("a", *range(20_000), complete=True)],
    )
    trigger = ScriptedTrigger(follower)
    trigger.events()
    assert len(shown) == 20_000
    assert shown[-1] > shown[0]


def test_a_takeover_publishes_nothing_before_it_knows_both_streams(monkeypatch):
    monkeypatch.setattr(XComPublisher, "scalars_wait", 60.0)
    later = asyncio.Event()

    class Late(TwoStreams):
        async def read_scalars(self, cursor: Any) -> ScalarChunk:
            await later.wait()
            return await super().read_scalars(cursor)

    follower, published = (
        Late([chunk("loss=1"), chunk(), None], [points("a", 1.0, at_end=False), points("a", 2.0)]),
        Published(),
    )
    trigger = ScriptedTrigger(follower)
    trigger.sink = published

    async def follow() -> None:
        following = asyncio.create_task(anext(trigger.run()))
        await until(lambda: published.of("trainingStatus"))
        await asyncio.sleep(0.2)  # what must not be written has the time to be
        assert published.of("training_metrics") == []
        later.set()
        await until(lambda: published.of("training_metrics"))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(follow())
    assert set(published.of("training_metrics")[0]["metrics"]) == {"loss", "a"}
    assert published.of("training_metrics")[0]["metrics"]["a"]["count"] == 2


def test_scalars_that_never_come_do_not_hold_the_other_metrics(monkeypatch):
    monkeypatch.setattr(XComPublisher, "scalars_wait", 0.0)
    follower = TwoStreams([chunk("loss=1"), chunk(), None], [])
    assert publishing(follower, lambda published: published.of("training_metrics")).of("training_metrics")


def test_secrets_in_names_are_hidden():
    trigger = ScriptedTrigger(TwoStreams([end()], [points("runs/hunter2!/loss", 0.5, complete=True)]))
    trigger.masker = Masker(["hunter2!"])
    trigger.sink = published = Published()
    (event,) = trigger.events()
    assert event["metrics"] == {"runs/***/loss": 0.5}
    assert "hunter2" not in json.dumps(published.all)


SILENT = """
import event_writer
train, validation = event_writer.Writer("logs/fit/train"), event_writer.Writer("logs/fit/validation", 1)
for step in range(1, 21):
    train.scalar("epoch_loss", 1 / step, step)
    validation.scalar("epoch_loss", 2 / step, step)
"""


class RealTrigger(ScriptedTrigger):
    """The trigger with the follower of a real server and a log that is a recorder."""

    async def _open(self) -> Any:
        return self.follower()


def test_a_job_that_prints_nothing_has_its_curves(jobapi_server: Server) -> None:
    """A real server, a real job: twice, as with a triggerer that was restarted."""
    job_id = jobapi_server.submit(SILENT, files={"event_writer.py": SOURCE.read_text()})
    contents = []
    for _ in range(2):
        trigger = RealTrigger(
            lambda: service(jobapi_server).follower({"job_id": job_id}), job_id=job_id, handle={"job_id": job_id}
        )
        trigger.sink = published = Published()
        (event,) = trigger.events()
        assert event["end"] == "over"
        assert event["metrics"] == {"train/epoch_loss": 0.05, "validation/epoch_loss": 0.1}
        assert [line for line in trigger.recorder.lines() if "epoch_loss" in line] == []
        contents.append(published.of("training_metrics")[-1])
    assert contents[0] == contents[1]
    assert contents[0]["metrics"]["train/epoch_loss"]["steps"] == list(range(1, 21))
    assert published.of("trainingStatus")[-1]["status"] == "SUCCESSFUL"
