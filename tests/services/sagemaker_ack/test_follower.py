# SPDX-License-Identifier: Apache-2.0
"""The triggerer's side against a real Kubernetes API, the double of ACK, and moto's CloudWatch."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import JobGone
from airflow_provider_jobapi.services.sagemaker_ack import job_logs, names
from airflow_provider_jobapi.services.sagemaker_ack.watch import ObjectWatch
from airflow_provider_jobapi.training.status import JobState
from tests.harness.ack.cloud import Cloud
from tests.harness.ack.double import Ack
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.proxy import BlackHole
from tests.harness.proxy_faults import ScriptedProxy
from tests.services.sagemaker_ack.follow import Begun, following, merged, replayed, shown

STEPS = ["Starting", "Training", "Completed"]


def test_lines_and_transitions_until_the_end(begun: Begun) -> None:
    followed, running = begun()

    async def watch() -> None:
        async with followed:
            # The object has the newest step only; the one before must have been seen before it is replaced.
            await followed.until(lambda: len(followed.steps()) == 1)
            await followed.until_state(JobState.PENDING)
            running.move("Training")
            await followed.until_state(JobState.RUNNING)
            running.log("one", "two")
            await followed.until_line("two")
            running.log("three")
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    assert followed.log() == ["one", "two", "three"]
    assert [line.split()[1].strip(".,") for line in followed.steps()] == STEPS
    assert followed.chunks[-1].state is JobState.SUCCESSFUL


def test_instances_that_are_interrupted_go_on_in_new_streams(begun: Begun) -> None:
    followed, running = begun(nodes=2)

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.log("one of 1", instance=1)
            await followed.until_line("one of 1")
            running.log("one of 2", "two of 2", instance=2)
            await followed.until_line("two of 2")
            running.interrupt()
            await followed.until(lambda: any("Interrupted" in each for each in followed.steps()))
            running.restart()
            running.log("again 1", instance=1)
            running.log("again 2", instance=2)
            running.move("Training")
            await followed.until_line("again 1")
            await followed.until_line("again 2")
            running.restart()
            running.log("third 1", instance=1)
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    assert sorted(followed.log()) == sorted(
        ["[algo-1] one of 1", "[algo-2] one of 2", "[algo-2] two of 2", "[algo-1] again 1", "[algo-2] again 2",
         "[algo-1] third 1"]
    )  # fmt: skip
    live = shown(followed.lines)
    assert len(set(live)) == len(live)
    assert merged(live, replayed(followed)) == live


def test_lines_that_arrive_late_are_shown_once_under_their_own_times(begun: Begun) -> None:
    followed, running = begun()
    now = int(time.time() * 1000)

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.log("first", at=now - 9_000)
            running.log("third", "third", at=now - 7_000)
            await followed.until(lambda: followed.log().count("third") == 2)
            running.log("third", at=now - 7_000)
            await followed.until(lambda: followed.log().count("third") == 3)
            running.log("second", at=now - 8_000)
            await followed.until_line("second")
            running.complete()
            await followed.until_state(JobState.SUCCESSFUL)
            running.log("last")
            await followed.until_complete()

    asyncio.run(watch())
    assert followed.log() == ["first", "third", "third", "third", "second", "last"]
    live = shown(followed.lines)
    assert [text for _, text in live if not text.startswith("SageMaker")][:2] == ["first", "second"]
    assert merged(live, replayed(followed)) == live


def test_no_log_group_yet(ack: Ack, begun: Begun, caplog: pytest.LogCaptureFixture) -> None:
    followed, running = begun()
    ack.cloud.drop_logs()

    async def watch() -> None:
        async with followed:
            running.move("Training")
            await followed.until_state(JobState.RUNNING)
            for _ in range(5):
                await followed.read()
            running.log("late")
            await followed.until_line("late")
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    assert "cannot be read" not in caplog.text


def test_without_credentials_only_the_status_is_followed(
    begun: Begun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    followed, running = begun(aws=False)

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.log("unseen")
            await followed.until_state(JobState.RUNNING)
            await followed.until(lambda: "no credentials of AWS" in caplog.text)
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    assert followed.log() == []
    assert caplog.text.count("There are no credentials of AWS to read the log") == 1
    assert followed.steps()[-1] == "SageMaker: Completed."


def test_a_stop_by_another_follower(ack: Ack, begun: Begun) -> None:
    followed, running = begun()

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.log("begun")
            await followed.until_line("begun")
            async with following(followed.service, followed.handle) as other:
                await other.follower.stop()
                await other.follower.stop()
            await followed.until_complete()
            assert (await followed.follower.status()).status is JobState.STOPPED

    asyncio.run(watch())
    assert followed.chunks[-1].state is JobState.STOPPED
    status = followed.service.status(followed.handle)
    assert (status.status, status.message) == (JobState.STOPPED, "It was stopped by Airflow.")


def test_an_object_that_somebody_deletes(ack: Ack, begun: Begun, namespace: str) -> None:
    followed, running = begun()
    path = ack.path(namespace, names.object_name(followed.handle["job_id"]))

    async def watch() -> None:
        async with followed:
            running.move("Training")
            running.log("begun")
            await followed.until_line("begun")
            ack.stop()
            running.log("last")
            ack.kubernetes.admin.delete(path)
            ack.kubernetes.admin.patch(path, {"metadata": {"finalizers": None}})
            await followed.until_line("last")
            with pytest.raises(JobGone, match="was deleted from the namespace"):
                await followed.until_complete()
            with pytest.raises(JobGone, match="was deleted from the namespace"):
                await followed.follower.status()

    asyncio.run(watch())


def test_a_cluster_that_forgets_restarts_and_freezes(ack: Ack, begun: Begun, kubernetes: Kubernetes) -> None:
    followed, running = begun()
    followed.follower.watch = ObjectWatch(  # a watch that notices sooner
        followed.service.clients.kubernetes,
        followed.handle["namespace"],
        names.object_name(followed.handle["job_id"]),
        seconds=2,
        silent=1.0,
    )

    async def watch() -> None:
        async with followed:
            await followed.until_state(JobState.PENDING)
            running.move("Training")
            await followed.until_state(JobState.RUNNING)
            await asyncio.to_thread(kubernetes.forget_history)
            running.log("after the restart")
            running.move("Uploading")
            await followed.until(lambda: any("Uploading" in each for each in followed.steps()))
            await followed.until_line("after the restart")
            kubernetes.freeze()
            failures = len(followed.failures)
            await followed.until(lambda: len(followed.failures) > failures)
            kubernetes.thaw()
            running.complete()
            await followed.until_complete()

    try:
        asyncio.run(watch())
    finally:
        kubernetes.thaw()
    assert followed.log() == ["after the restart"]
    assert len(followed.steps()) == len(set(followed.steps())) == 4


def test_reads_that_are_cancelled_lose_and_double_nothing(begun: Begun) -> None:
    followed, running = begun(nodes=2)
    wanted = [f"[algo-{1 + number % 2}] line {number}" for number in range(40)]

    async def watch() -> None:
        async with followed:
            running.move("Training")
            for number in range(40):
                running.log(f"line {number}", instance=1 + number % 2)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02 * (number % 7)):
                        await followed.read()
            running.complete()
            await followed.until_complete()

    asyncio.run(watch())
    assert sorted(followed.log()) == sorted(wanted)
    assert len(followed.steps()) == len(set(followed.steps()))


def test_logs_that_do_not_answer_delay_no_state(begun: Begun, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "ANSWER_SECONDS", 600.0)
    with ScriptedProxy(int(cloud.url.rpartition(":")[2])) as network, network.always(BlackHole()):
        followed, running = begun(aws=network.url)

        async def watch() -> None:
            async with followed:
                running.move("Training")
                await followed.until_state(JobState.RUNNING)
                await followed.until(lambda: network.count("POST /") > 0)
                running.move("Uploading")
                await followed.until(lambda: "Uploading" in followed.steps()[-1])

        asyncio.run(watch())
    assert followed.log() == []
