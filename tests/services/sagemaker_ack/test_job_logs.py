# SPDX-License-Identifier: Apache-2.0
"""Read the streams of a job's instances from moto's CloudWatch."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Connection
from botocore.exceptions import ClientError

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.hooks.clients import AwsOfHook
from airflow_provider_jobapi.services.polling import ReadLimits, RequestPace
from airflow_provider_jobapi.services.sagemaker_ack import job_logs, log_events
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.job_logs import JobLogs
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.proxy import BlackHole, Canned
from tests.harness.proxy_faults import ScriptedProxy

START = int(time.time() * 1000) - 3_600_000
"""An hour ago; CloudWatch refuses what is older than 14 days."""
FAST = RequestPace(10_000)
PATIENT = ReadLimits(seconds=600)
"""For a read that a busy machine does not end early."""


class Job:
    """A job's streams in CloudWatch, and the reads of them.

    :ivar requests: How many were sent, by their names.
    :ivar throttled: The next request whose body has this word is refused; empty for none.
    """

    def __init__(self, cloud: Cloud, instances: int, url: str = "") -> None:
        self.cloud, self.url = cloud, url or cloud.url
        name = f"digits-{uuid.uuid4()}"
        self.handle = JobHandle(str(uuid.uuid4()), "ns", name, REGION, "s3://b/o", instances)
        self.requests = Counter[str]()
        self.lines = list[str]()
        self.cursor: dict[str, Any] = {}
        self.throttled = ""

    def write(self, instance: int, *lines: str, epoch: int = 1, at: int = START) -> None:
        stream = f"{self.handle.name}/algo-{instance}-{epoch}"
        self.cloud.log(REGION, stream, [(at + number, line) for number, line in enumerate(lines)])

    def read(self, times: int = 1, limits: ReadLimits = PATIENT) -> list[JobLogs]:
        """Read some times, one read after the other."""

        async def read() -> list[JobLogs]:
            done = list[JobLogs]()
            async with self._aws().async_client("logs") as client:
                client.meta.events.register("before-call.cloudwatch-logs", self._count)
                for _ in range(times):
                    logs = JobLogs(self.handle, self.cursor, limits=limits, pace=FAST)
                    await logs.read(client, find=not logs.in_round)
                    self.cursor = json.loads(json.dumps(logs.cursor()))
                    self.lines += [line.text for line in logs.lines]
                    done.append(logs)
            return done

        return asyncio.run(read())

    def _count(self, model: Any, params: Any, **_: Any) -> None:
        self.requests[model.name] += 1
        if self.throttled and self.throttled in str(params["body"]):
            self.throttled = ""
            said = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
            raise ClientError(said, model.name)

    def _aws(self) -> AwsOfHook:
        given = self.cloud.connection
        extra = json.dumps({**given["extra"], "endpoint_url": self.url})
        return AwsOfHook(Connection(conn_id="aws", **{**given, "extra": extra}), REGION, "sagemaker", lambda _: None)


MakeJob = Callable[..., Job]


@pytest.fixture
def job(cloud: Cloud) -> MakeJob:
    return lambda instances=1, url="": Job(cloud, instances, url)


def test_five_hundred_streams(job: MakeJob) -> None:
    many = job(500)
    for instance in range(1, 501):
        many.write(instance, f"line of {instance}")
    (first,) = many.read()
    assert sorted(many.lines) == sorted(f"[algo-{number}] line of {number}" for number in range(1, 501))
    assert (first.behind, first.whole, first.trouble) == (False, True, None)
    assert many.requests["DescribeLogStreams"] == 10
    before = many.requests["GetLogEvents"]
    many.write(77, "one more", at=START + 9)
    many.read()
    assert many.lines[500:] == ["[algo-77] one more"]
    # One for each stream, and one more to see the end of the stream that has news.
    assert many.requests["GetLogEvents"] == before + 501


def test_a_round_goes_on_with_the_next_read(job: MakeJob) -> None:
    several = job(5)
    for instance in range(1, 6):
        several.write(instance, *[f"{instance}.{number}" for number in range(10)])
    reads = several.read(5, ReadLimits(lines=15, seconds=600))
    # Whether the streams that reached the limit have more, the next round shows.
    assert [each.behind for each in reads] == [True, True, True, False, False]
    assert [each.whole for each in reads] == [False, False, False, True, True]
    assert [each.in_round for each in reads] == [False, True, True, False, False]
    expected = [f"[algo-{instance}] {instance}.{number}" for instance in range(1, 6) for number in range(10)]
    assert sorted(several.lines) == sorted(expected)


def test_a_long_stream_does_not_keep_the_others_back(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "PAGE_EVENTS", 10)
    monkeypatch.setattr(log_events, "KEPT_EVENTS", 5)
    uneven = job(2)
    uneven.write(1, *[str(number) for number in range(95)])
    uneven.write(2, "short")
    reads = uneven.read(1, ReadLimits(pages=2, seconds=600))
    assert "[algo-2] short" in uneven.lines
    assert reads[0].behind
    for _ in range(20):
        if not uneven.read(1, ReadLimits(pages=2, seconds=600))[0].behind:
            break
    assert [line for line in uneven.lines if "algo-1" in line] == [f"[algo-1] {number}" for number in range(95)]


def test_lines_of_one_read_are_in_the_order_of_their_times(job: MakeJob) -> None:
    two = job(2)
    two.write(1, "a", at=START)
    two.write(1, "c", at=START + 20)
    two.write(2, "b", at=START + 10)
    two.write(2, "d", at=START + 30)
    two.read()
    assert two.lines == ["[algo-1] a", "[algo-2] b", "[algo-1] c", "[algo-2] d"]


def test_nothing_is_there_yet(cloud: Cloud, job: MakeJob) -> None:
    cloud.drop_logs()
    early = job()
    (logs,) = early.read()
    assert (logs.trouble, logs.whole, early.lines) == (None, True, [])
    early.write(1, "first")
    early.read()
    assert early.lines == ["first"]


def test_a_stream_that_was_deleted(cloud: Cloud, job: MakeJob) -> None:
    gone = job()
    gone.write(1, "first")
    gone.read()
    cloud.drop_logs()
    (logs,) = gone.read()
    assert (logs.trouble, gone.lines) == (None, ["first"])


def test_what_is_throttled_goes_on_where_it_was(job: MakeJob) -> None:
    several = job(4)
    for instance in range(1, 5):
        several.write(instance, f"line of {instance}")
    several.read()
    for instance in range(1, 5):
        several.write(instance, f"more of {instance}", at=START + 5)
    several.throttled = "algo-3"
    (logs,) = several.read()
    assert isinstance(logs.trouble, ServiceUnavailable)
    assert "AWS could not read the log now (ThrottlingException): Rate exceeded" in str(logs.trouble)
    assert not logs.whole
    assert several.lines[4:] == ["[algo-1] more of 1", "[algo-2] more of 2"]
    before = several.requests["GetLogEvents"]
    (logs,) = several.read()
    assert logs.trouble is None
    assert several.lines[6:] == ["[algo-3] more of 3", "[algo-4] more of 4"]
    assert several.requests["GetLogEvents"] == before + 4, "the streams that were read are not read again"


def test_what_is_refused_is_said(cloud: Cloud, job: MakeJob) -> None:
    body = json.dumps({"__type": "AccessDeniedException", "message": "User is not authorized"}).encode()
    with ScriptedProxy(_port(cloud)) as network:
        refused = job(1, network.url)
        refused.write(1, "unseen")
        with network.always(Canned(400, {"Content-Type": "application/x-amz-json-1.1"}, body)):
            (logs,) = refused.read()
    assert isinstance(logs.trouble, ConnectionProblem)
    assert "does not allow to read the log (AccessDeniedException)" in str(logs.trouble)
    assert not logs.whole


def test_nobody_answers(cloud: Cloud, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "ANSWER_SECONDS", 0.2)
    with ScriptedProxy(_port(cloud)) as network:
        silent = job(1, network.url)
        silent.write(1, "later")
        with network.always(BlackHole()):
            (logs,) = silent.read()
        assert isinstance(logs.trouble, ServiceUnavailable)
        monkeypatch.undo()
        silent.read()
    assert silent.lines == ["later"]


def _port(cloud: Cloud) -> int:
    return int(cloud.url.rpartition(":")[2])
