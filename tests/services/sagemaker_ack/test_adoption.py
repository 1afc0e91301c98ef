# SPDX-License-Identifier: Apache-2.0
"""Jobs that SageMaker has and whose object is gone, or is not the one that made them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import JobConflict, JobGone
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.training.status import JobState
from tests.harness.ack import drivers, rules
from tests.harness.ack.cloud import REGION
from tests.harness.ack.double import Ack
from tests.harness.server import poll
from tests.services.sagemaker_ack.follow import following
from tests.services.sagemaker_ack.service import Make, job

TIMEOUT = 60.0
OTHERS = {"environment": {"JOB_ID": "another"}}


@pytest.fixture
def service(ack: Ack, make: Make) -> SageMakerAckService:
    ack.sagemaker.driver = drivers.by_hand
    return make(poll_interval=0.1)


def lose(ack: Ack, service: SageMakerAckService, job_id: str) -> dict[str, Any]:
    """Take the object away, and not the job, as a cluster does that is lost; answers the object."""
    path, name = ack.path(service.namespace, names.object_name(job_id)), names.object_name(job_id)
    ack.job(job_id).move("Training")
    poll(lambda: "finalizers" in ack.object(service.namespace, name)["metadata"], TIMEOUT, "the object to be ACK's")
    ack.stop()
    lost = ack.object(service.namespace, name)
    assert lost is not None
    ack.kubernetes.admin.delete(path)
    ack.kubernetes.admin.patch(path, {"metadata": {"finalizers": None}})
    ack.start()
    return lost


def restore(ack: Ack, service: SageMakerAckService, lost: dict[str, Any]) -> None:
    """Create an object again, as a backup or a repository has it; wait until ACK has looked at it."""
    kept = {name: lost["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    again = {"apiVersion": lost["apiVersion"], "kind": lost["kind"], "metadata": kept, "spec": lost["spec"]}
    ack.kubernetes.admin.json("POST", ack.path(service.namespace), again)

    def terminal() -> bool:
        found = ack.object(service.namespace, kept["name"]) or {}
        return any(each["type"] == rules.TERMINAL for each in found.get("status", {}).get("conditions", []))

    poll(terminal, TIMEOUT, "ACK to refuse the object")


def check_own_object(ack: Ack, service: SageMakerAckService, job_id: str) -> None:
    """The job has one object, with the finalizer, and nothing else is left."""
    poll(lambda: len(ack.objects(service.namespace)) == 1, TIMEOUT, "the object that looked to go")
    (found,) = ack.objects(service.namespace)
    assert found["metadata"]["name"] == names.object_name(job_id)
    assert found["metadata"]["finalizers"] == [rules.FINALIZER]
    assert not {rules.ADOPTION_POLICY, rules.DELETION_POLICY} & found["metadata"]["annotations"].keys()


def test_a_job_without_its_object_is_found_followed_and_stopped(ack: Ack, service: SageMakerAckService) -> None:
    job_id = str(uuid.uuid4())
    submitted = service.submit(job(), job_id)
    lose(ack, service, job_id)
    assert service.find(job_id).handle == submitted.handle
    check_own_object(ack, service, job_id)
    poll(lambda: service.status(submitted.handle).status is JobState.RUNNING, TIMEOUT, "the job to be seen")
    with pytest.raises(JobConflict, match="with another script, data or options"):
        service.submit(job(env={"A": "1"}), job_id)
    service.stop(submitted.handle)
    poll(lambda: ack.object(service.namespace, names.object_name(job_id)) is None, TIMEOUT, "the object to go")
    assert ack.job(job_id).status == "Stopped"
    assert service.status(submitted.handle).status is JobState.STOPPED


def test_an_object_that_was_created_again_is_taken_up(ack: Ack, service: SageMakerAckService) -> None:
    job_id = str(uuid.uuid4())
    handle = service.submit(job(service_options={"accept_max_runtime": True}), job_id).handle
    restore(ack, service, lose(ack, service, job_id))
    service.status(handle)
    check_own_object(ack, service, job_id)
    ack.job(job_id).stopped("MaxRuntimeExceeded")
    poll(lambda: service.status(handle).status.ended, TIMEOUT, "the end to be seen")
    assert service.status(handle).status is JobState.SUCCESSFUL, "its annotations are those of the object before"


def test_a_stop_of_a_job_that_its_object_would_not_stop(ack: Ack, service: SageMakerAckService) -> None:
    restored, gone = str(uuid.uuid4()), str(uuid.uuid4())
    for job_id in (restored, gone):
        handle = service.submit(job(), job_id).handle
        lost = lose(ack, service, job_id)
        if job_id == restored:
            restore(ack, service, lost)
        service.stop(handle)
        poll(lambda: ack.objects(service.namespace) == [], TIMEOUT, "the object to go")
        assert ack.job(job_id).status == "Stopped"
        assert service.status(handle).message == "It was stopped by Airflow."


def test_the_trigger_takes_a_job_up(ack: Ack, service: SageMakerAckService) -> None:
    followed_id, stopped_id = str(uuid.uuid4()), str(uuid.uuid4())
    handles = {job_id: service.submit(job(), job_id).handle for job_id in (followed_id, stopped_id)}
    for job_id in handles:
        restore(ack, service, lose(ack, service, job_id))
    followed, other = (following(service, handle) for handle in handles.values())

    async def watch() -> None:
        async with followed, other:
            ack.job(followed_id).log("a line")
            await followed.until_line("a line")
            await followed.until_state(JobState.RUNNING)
            ack.job(followed_id).complete()
            await followed.until_complete()
            assert (await followed.follower.status()).status is JobState.SUCCESSFUL
            await other.follower.stop()

    asyncio.run(watch())
    assert followed.steps() == ["SageMaker: Training.", "SageMaker: Completed."]
    poll(lambda: ack.job(stopped_id).status == "Stopped", TIMEOUT, "the other to be stopped")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (OTHERS, "this provider did not make it"),
        ({"hyperParameters": {"sagemaker_submit_directory": '"s3://b/jobs/x/0/code/a.tar.gz"'}}, "has another script"),
    ],
    ids=["of others", "of another script"],
)
def test_a_job_that_is_not_ours_is_refused_and_left_alone(
    ack: Ack, service: SageMakerAckService, change: dict[str, Any], why: str
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    spec = ack.job(service.submit(job(), first).handle["name"]).spec
    for job_id in (first, second):
        service.stop(service.find(job_id).handle) if job_id == first else None
    own = {"environment": {"JOB_ID": second}}
    ack.sagemaker.create(REGION, spec | {"trainingJobName": f"digits-{second}"} | own | change)
    ack.job(second).move("Training")
    handle = service.submit(job(), second).handle
    poll(lambda: service.status(handle).status.ended, TIMEOUT, "the job to be refused")
    status = service.status(handle)
    assert (status.status, status.reason) == (JobState.FAILED, "Refused")
    assert f"SageMaker has a training job digits-{second} already, and " in status.message
    assert why in status.message
    service.stop(handle)
    assert (ack.job(second).status, ack.job(second).told_to_stop) == ("InProgress", False)
    poll(lambda: ack.objects(service.namespace) == [], TIMEOUT, "nothing to be left")
    assert service.find(second).handle == handle


def test_the_trigger_shows_nothing_of_a_job_that_is_not_ours(ack: Ack, service: SageMakerAckService) -> None:
    model = ack.job(service.submit(job(), str(uuid.uuid4())).handle["name"]).spec
    job_id = str(uuid.uuid4())
    ack.sagemaker.create(REGION, model | {"trainingJobName": f"digits-{job_id}"} | OTHERS)
    ack.job(job_id).move("Training")
    ack.job(job_id).log("a secret of others")
    handle = service.submit(job(), job_id).handle
    followed = following(service, handle)

    async def watch() -> None:
        async with followed:
            await followed.until_complete()
            assert (await followed.follower.status()).reason == "Refused"
            await followed.follower.stop()

    asyncio.run(watch())
    assert followed.log() == []
    assert not ack.job(job_id).told_to_stop


def test_a_controller_that_adopts_nothing(ack: Ack, service: SageMakerAckService) -> None:
    ids = running, ended = str(uuid.uuid4()), str(uuid.uuid4())
    handles = {job_id: service.submit(job(), job_id).handle for job_id in ids}
    ack.adopts = False
    lost = [lose(ack, service, job_id) for job_id in ids]
    with pytest.raises(JobGone, match="by somebody"):
        service.find(running)
    ack.job(ended).complete()
    for each in lost:
        restore(ack, service, each)
    assert service.status(handles[ended]).status is JobState.SUCCESSFUL
    with pytest.raises(JobConflict, match=f"{running} was not stopped: .*ResourceAdoption"):
        service.stop(handles[running])
    assert service.status(handles[running]).reason == "Refused"
    assert not ack.job(running).told_to_stop
