# SPDX-License-Identifier: Apache-2.0
"""What the triggerer makes of each state of an object, and what it records before Kubernetes forgets it."""

from __future__ import annotations

import asyncio
import time

import pytest
import yaml

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.sagemaker_ack import follower, names
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.ack import RBAC
from tests.harness.ack.double import Ack
from tests.harness.kubernetes.client import collection
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll
from tests.services.sagemaker_ack.follow import Begun, following
from tests.services.sagemaker_ack.service import Make

SLOW = 5.0
"""Seconds that a record takes; a thread cannot be ended, so the test takes them as well."""


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the clock more often, by which alone an object is not accepted."""
    monkeypatch.setattr(follower, "LONGEST_READ", 0.2)


def end_of(begun: Begun, **more: object) -> JobStatus:
    """Follow a job to its end; returns its status."""
    followed, _ = begun(waits=False, **more)

    async def watch() -> JobStatus:
        async with followed:
            await followed.until_complete()
            return await followed.follower.status()

    return asyncio.run(watch())


def test_nobody_takes_the_job(ack: Ack, begun: Begun) -> None:
    ack.stop()
    status = end_of(begun, accept_timeout=1)
    assert (status.status, status.reason) == (JobState.FAILED, "NotAccepted")
    assert "No ACK controller took the job within 1 second" in status.message


def test_what_ack_tries_for_ever_is_said_once_and_ends(
    ack: Ack, begun: Begun, caplog: pytest.LogCaptureFixture
) -> None:
    ack.refuse("create", "AccessDeniedException", "User is not authorized to perform: iam:PassRole")
    status = end_of(begun, accept_timeout=3)
    assert (status.status, status.reason) == (JobState.FAILED, "NotAccepted")
    assert "iam:PassRole" in status.message
    assert caplog.text.count("ACK: the job is not accepted yet, and is tried again") == 1


def test_what_is_refused_ends_at_once(ack: Ack, begun: Begun) -> None:
    ack.refuse("create", "ResourceInUse", "a training job with this name already exists")
    status = end_of(begun)
    assert (status.status, status.reason) == (JobState.FAILED, "Refused")


def test_news_of_the_object_are_said_once_each(begun: Begun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    followed, running = begun()

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.set(debugRuleEvaluationStatuses=[{"ruleConfigurationName": "r", "ruleEvaluationStatus": "Error"}])
            await followed.until(lambda: "debug rule r: Error" in caplog.text)
            running.move("Odd", "Paused")
            await followed.until_state(JobState.UNKNOWN)
            running.move("Training", "InProgress")
            await followed.until_state(JobState.RUNNING)
            running.set(warmPoolStatus={"status": "Available", "resourceRetainedBillableTimeInSeconds": 1_200})
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    for text in ("debug rule r: Error", "'Paused'", "the warm pool is Available, 1,200 billable seconds so far"):
        assert caplog.text.count(text) == 1, text
    assert [step.split(", ")[0].rstrip(".") for step in followed.steps()][-4:] == [
        "SageMaker: Training",
        "SageMaker: Odd",
        "SageMaker: Training",
        "SageMaker: Completed",
    ]


def test_the_end_is_recorded_before_the_object_can_go(ack: Ack, begun: Begun, namespace: str) -> None:
    followed, running = begun()

    async def watch() -> None:
        async with followed:
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    name = names.object_name(followed.handle["job_id"])
    ack.kubernetes.admin.delete(ack.path(namespace, name))
    poll(lambda: ack.object(namespace, name) is None, 30, "the object to go")
    assert followed.service.status(followed.handle).status is JobState.SUCCESSFUL
    again = following(followed.service, followed.handle)

    async def watch_again() -> None:
        async with again:
            await again.until_complete()

    asyncio.run(watch_again())
    assert again.chunks[-1].state is JobState.SUCCESSFUL


def test_a_stop_does_not_wait_for_its_record(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "RECORD_SECONDS", 0.1)
    followed, running = begun()

    def record(_: Handle, __: JobStatus) -> None:
        time.sleep(SLOW)

    monkeypatch.setattr(followed.service.records, "ended", record)
    slow = following(followed.service, followed.handle).follower

    async def stop() -> float:
        async with slow, asyncio.timeout(20):
            began = time.monotonic()
            await slow.stop()
            return time.monotonic() - began

    assert asyncio.run(stop()) < SLOW
    poll(lambda: running.status == "Stopped", 30, "the job to stop")


def test_a_stop_of_a_job_that_has_ended_changes_nothing(ack: Ack, begun: Begun, namespace: str) -> None:
    followed, running = begun()
    running.complete()

    async def stop() -> None:
        async with followed:
            await followed.until_state(JobState.SUCCESSFUL)
            await followed.follower.stop()
            assert (await followed.follower.status()).status is JobState.SUCCESSFUL

    asyncio.run(stop())
    assert ack.object(namespace, names.object_name(followed.handle["job_id"])) is not None


def test_a_stop_deletes_what_ack_would_try_for_ever(ack: Ack, begun: Begun, namespace: str) -> None:
    ack.stop()
    followed, _ = begun(waits=False, accept_timeout=1)

    async def stop() -> None:
        async with followed:
            await followed.until_complete()
            await followed.follower.stop()

    asyncio.run(stop())
    assert ack.objects(namespace) == []
    assert followed.service.status(followed.handle).reason == "NotAccepted"


def test_a_user_without_rights(begun: Begun, make: Make, kubernetes: Kubernetes) -> None:
    followed, _ = begun()
    other = {**followed.handle, "namespace": kubernetes.namespace()}
    elsewhere = following(make(), other)

    async def watch() -> None:
        async with elsewhere:
            with pytest.raises(ConnectionProblem, match="needs get, list, watch, create and delete on trainingjobs"):
                await elsewhere.until_complete()
            with pytest.raises(ConnectionProblem, match="does not allow to read the job's object"):
                await elsewhere.follower.status()
            with pytest.raises(ConnectionProblem, match="does not allow to read the job's object"):
                await elsewhere.follower.stop()

    asyncio.run(watch())


def test_rights_that_are_taken_away_and_given_back(begun: Begun, kubernetes: Kubernetes, namespace: str) -> None:
    """The job goes on meanwhile, and nothing of its log is lost or shown twice."""
    followed, running = begun()
    running.move("Training")
    followed.follower.watch._seconds = 1  # the rights of a watch are checked when it begins
    binding = yaml.safe_load((RBAC / "role-binding.yaml").read_text())
    path = f"{collection(binding, namespace)}/{binding['metadata']['name']}"
    refused = list[str]()

    async def watch() -> None:
        async with followed:
            running.log("one")
            await followed.until_line("one")
            await asyncio.to_thread(kubernetes.admin.delete, path)
            running.log("two")
            async with asyncio.timeout(60):
                while not refused:
                    try:
                        await followed.read()
                    except ConnectionProblem as error:
                        refused.append(str(error))
            await asyncio.to_thread(kubernetes.grant, RBAC, namespace)
            running.log("three")
            running.complete()
            async with asyncio.timeout(60):
                while not (followed.chunks and followed.chunks[-1].complete):
                    try:
                        await followed.read()
                    except ConnectionProblem:
                        await asyncio.sleep(0.1)

    asyncio.run(watch())
    assert "needs get, list, watch, create and delete on trainingjobs" in refused[0]
    assert followed.log() == ["one", "two", "three"]
    assert followed.chunks[-1].state is JobState.SUCCESSFUL
    # The events of CloudWatch have times of their own, so a line's time says when it was written.
    assert {chunk.came for chunk in followed.chunks} == {None}


def test_the_status_may_be_asked_before_the_first_read(begun: Begun) -> None:
    followed, running = begun()
    running.move("Training")

    async def ask() -> JobStatus:
        async with followed, asyncio.timeout(60):
            while (status := await followed.follower.status()).status is not JobState.RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            return status

    status = asyncio.run(ask())
    assert (status.job_id, status.message) == (followed.handle["job_id"], "It is training.")
