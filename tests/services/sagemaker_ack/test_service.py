# SPDX-License-Identifier: Apache-2.0
"""The worker's side against a real Kubernetes API, the double of ACK, and moto's S3 and CloudWatch."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    NoSavedModel,
)
from airflow_provider_jobapi.services.sagemaker_ack import checkpoints, checks, names
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.training.status import JobState
from tests.harness.ack import drivers
from tests.harness.ack.cloud import REGION, ROLE, Cloud
from tests.harness.ack.double import Ack
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.proxy import Canned, FaultProxy
from tests.harness.server import poll
from tests.services.sagemaker_ack.service import Make, job

TIMEOUT = 60.0


@pytest.fixture
def service(make: Make) -> SageMakerAckService:
    return make()


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())


def ended(service: SageMakerAckService, handle: dict[str, Any]) -> JobState:
    poll(lambda: service.status(handle).status.ended, TIMEOUT, "the job to end")
    return service.status(handle).status


SCRIPT = """
import os, sys, pathlib
print("hello", sys.argv[1:], open("in/a.csv").read())
pathlib.Path(os.environ["MODEL_DIR"], "m.safetensors").write_bytes(b"x" * 9)
"""


def test_a_script_trains_and_its_model_comes_back(
    ack: Ack, service: SageMakerAckService, job_id: str, tmp_path: Path
) -> None:
    given = job(script=SCRIPT, env={"RATE": "1e3"}, data={"in/a.csv": "1,2"}, env_vars={"A": "b"})
    submitted = service.submit(given, job_id)
    assert [each.path for each in submitted.inputs] == ["in/a.csv", "train.py"]
    assert service.find(job_id).handle == submitted.handle
    assert ended(service, submitted.handle) is JobState.SUCCESSFUL, service.status(submitted.handle)
    assert "hello ['--rate=1e3'] 1,2" in service.last_lines(submitted.handle, 20)
    model = service.model(submitted.handle)
    assert model is not None
    assert [(each.path, each.size) for each in model.files] == [("m.safetensors", 9)]
    fetched = service.fetch_model(submitted.handle, tmp_path, "7")
    assert (tmp_path / "7" / "m.safetensors").read_bytes() == b"x" * 9
    assert fetched.files[0].sha256 is not None
    with pytest.raises(NoSavedModel, match="left no model of the kind 'onnx'"):
        service.fetch_model(submitted.handle, tmp_path, "8", "onnx")
    status = service.status(submitted.handle)
    assert (status.job_id, status.name) == (job_id, f"digits-{job_id}")
    assert status.data_version is not None
    assert None not in {status.submission_time, status.start_time, status.finish_time}


def test_a_model_that_is_refused_unpacked_is_fetched_packed_later(
    ack: Ack, make: Make, cloud: Cloud, job_id: str, tmp_path: Path
) -> None:
    """It has been trained already, so it must not be trained again for another option."""
    ack.sagemaker.driver = drivers.by_hand
    service = make()
    kept, ours = service.submit(job(), job_id).handle, service.submit(
        job(service_options={"unpack_model": True}), str(uuid.uuid4())
    ).handle  # fmt: skip
    for handle in (kept, ours):
        ack.job(handle["job_id"]).complete({"m.txt": b"1"})
        assert ended(service, handle) is JobState.SUCCESSFUL
    (url,) = cloud.objects(kept["output"])
    damaged = cloud.get(url)[:-9]
    cloud.put(url, damaged)
    with pytest.raises(BrokenContract, match=r"With unpack_model = false in the connection it is fetched packed\.$"):
        service.fetch_model(kept, tmp_path, "1")
    assert list(tmp_path.iterdir()) == []
    later = make(unpack_model=False)
    later.fetch_model(later.find(job_id).handle, tmp_path, "1")
    assert (tmp_path / "1" / "model.tar.gz").read_bytes() == damaged
    later.fetch_model(ours, tmp_path, "2")
    assert (tmp_path / "2" / "m.txt").read_bytes() == b"1"


def test_the_same_id_is_the_same_job(ack: Ack, service: SageMakerAckService, namespace: str, job_id: str) -> None:
    ack.sagemaker.driver = drivers.by_hand
    first = service.submit(job(), job_id)
    second = service.submit(job(), job_id)
    assert first.handle == second.handle
    assert len(ack.objects(namespace)) == 1
    with pytest.raises(JobConflict, match=r"already has a job digits-.* with another script, data or options"):
        service.submit(job(env={"A": 1}), job_id)
    with pytest.raises(JobNotFound):
        service.find(str(uuid.uuid4()))


def test_stop_and_the_last_status(ack: Ack, service: SageMakerAckService, namespace: str, job_id: str) -> None:
    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    ack.job(job_id).move("Training")
    poll(lambda: service.status(handle).status is JobState.RUNNING, TIMEOUT, "the job to run")
    service.stop(handle)
    service.stop(handle)
    name = names.object_name(job_id)
    poll(lambda: ack.object(namespace, name) is None, TIMEOUT, "the object to go")
    assert ack.job(job_id).status == "Stopped"
    status = service.status(service.find(job_id).handle)
    assert (status.status, status.reason, status.message) == (JobState.STOPPED, "Stopped", "It was stopped by Airflow.")
    service.stop(handle)
    with pytest.raises(JobConflict, match="already has a job"):
        service.submit(job(env={"A": 1}), job_id)


def test_a_stop_of_an_ended_job_changes_nothing(ack: Ack, service: SageMakerAckService, job_id: str) -> None:
    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    ack.job(job_id).complete()
    assert ended(service, handle) is JobState.SUCCESSFUL
    service.stop(handle)
    assert service.status(handle).status is JobState.SUCCESSFUL
    assert service.model(handle) is None
    service.delete(handle)
    service.delete(handle)
    assert service.status(handle).status is JobState.SUCCESSFUL


def test_a_job_that_somebody_deleted(ack: Ack, service: SageMakerAckService, namespace: str, job_id: str) -> None:
    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    with pytest.raises(JobConflict, match="was not deleted, which would stop it"):
        service.delete(handle)
    ack.job(job_id)
    ack.kubernetes.admin.delete(ack.path(namespace, names.object_name(job_id)))
    poll(lambda: ack.object(namespace, names.object_name(job_id)) is None, TIMEOUT, "the object to go")
    with pytest.raises(JobGone, match=f"job {job_id} was deleted from the namespace {namespace} by somebody"):
        service.status(handle)
    assert service.find(job_id).handle == handle, "SageMaker has it"
    assert ended(service, handle) is JobState.STOPPED


def test_sagemaker_itself_knows_the_end_of_a_job_that_somebody_deleted(
    ack: Ack, cloud: Cloud, service: SageMakerAckService, namespace: str, job_id: str
) -> None:
    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    cloud.client("sagemaker").create_training_job(  # which is Completed at once
        TrainingJobName=handle["name"], RoleArn=ROLE, OutputDataConfig={"S3OutputPath": handle["output"]},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60}, AlgorithmSpecification={"TrainingInputMode": "File"},
    )  # fmt: skip
    ack.job(job_id)
    ack.kubernetes.admin.delete(ack.path(namespace, names.object_name(job_id)))
    poll(lambda: ack.object(namespace, names.object_name(job_id)) is None, TIMEOUT, "the object to go")
    found = service.status(service.find(job_id).handle)
    assert (found.status, found.job_id) == (JobState.SUCCESSFUL, job_id)
    assert found.finish_time is not None


def test_nobody_takes_the_job(ack: Ack, make: Make, namespace: str, job_id: str) -> None:
    ack.stop()
    service = make(accept_timeout=30)
    handle = service.submit(job(), job_id).handle
    assert service.status(handle).status is JobState.PENDING
    service.connection = service.connection.__class__(**{**_fields(service), "accept_timeout": 1})
    assert ended(service, handle) is JobState.FAILED
    status = service.status(handle)  # its object is gone now
    assert status.reason == "NotAccepted"
    assert "No ACK controller took the job within 1 second" in status.message
    assert ack.objects(namespace) == []


def _fields(service: SageMakerAckService) -> dict[str, Any]:
    return {name: getattr(service.connection, name) for name in service.connection.fields()}


def test_acks_own_words(ack: Ack, make: Make, job_id: str) -> None:
    ack.refuse("create", "AccessDeniedException", "User is not authorized to perform: iam:PassRole")
    service = make(accept_timeout=30)
    handle = service.submit(job(), job_id).handle
    poll(lambda: "iam:PassRole" in service.status(handle).message, TIMEOUT, "ACK to say why")
    assert service.status(handle).status is JobState.PENDING
    ack.allow("create")
    poll(lambda: service.status(handle).start_time is not None, TIMEOUT, "the job to be accepted")


@pytest.mark.parametrize("delete", [False, True])
def test_what_ack_refuses_stays_or_goes(
    ack: Ack, service: SageMakerAckService, namespace: str, job_id: str, delete: bool
) -> None:
    ack.refuse("create", "InvalidParameterValue", "no such role")
    handle = service.submit(job(service_options={"delete_refused": delete}), job_id).handle
    assert ended(service, handle) is JobState.FAILED
    poll(lambda: (ack.object(namespace, names.object_name(job_id)) is None) == delete, TIMEOUT, "the object to go")
    status = service.status(handle)
    assert (status.status, status.reason) == (JobState.FAILED, "Refused")
    assert "no such role" in status.message


def test_a_namespace_that_is_being_deleted(ack: Ack, service: SageMakerAckService, namespace: str, job_id: str) -> None:
    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    ack.kubernetes.admin.delete(f"/api/v1/namespaces/{namespace}")
    words = r"being terminated\. Wait until the namespace is gone and make it again"
    with pytest.raises(ConnectionProblem, match=words):
        service.submit(job(), str(uuid.uuid4()))
    assert service.status(handle).status is JobState.PENDING
    service.stop(handle)
    poll(lambda: ack.object(namespace, names.object_name(job_id)) is None, TIMEOUT, "the object to go")
    assert service.status(handle).status is JobState.STOPPED


def test_a_bucket_of_another_region_makes_no_job(ack: Ack, make: Make, namespace: str, job_id: str) -> None:
    with FaultProxy(9) as s3:
        s3.next(Canned(301, body=b"<Error><Code>PermanentRedirect</Code></Error>"))
        with pytest.raises(ConnectionProblem, match=f"is not in region '{REGION}'"):
            make(aws=s3.url).submit(job(), job_id)
    assert ack.objects(namespace) == []


def test_what_the_cluster_does_not_know_is_refused_before_the_upload(
    ack: Ack, cloud: Cloud, service: SageMakerAckService, namespace: str, job_id: str
) -> None:
    with pytest.raises(InvalidJob, match=r"no field spec\.roleArn; 'roleARN' may be meant"):
        service.submit(job(service_options={"roleArn": ROLE}), job_id)
    with pytest.raises(InvalidJob, match=r"no field spec\.vpcConfig\.subnetIDs; 'subnets' may be meant"):
        service.submit(job(service_options={"vpcConfig": {"subnetIDs": ["a"]}}), job_id)
    assert ack.objects(namespace) == []
    assert cloud.objects(f"s3://{cloud.bucket}/jobs/digits-{job_id}") == []


def test_secrets_of_the_worker_are_refused(ack: Ack, service: SageMakerAckService, job_id: str) -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("correct-horse-battery")
    with pytest.raises(InvalidJob, match=r"environment\.KEY contains a secret of Airflow's"):
        service.submit(job(env_vars={"KEY": "correct-horse-battery"}), job_id)


def test_without_credentials_of_aws(
    ack: Ack, make: Make, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    ack.sagemaker.driver = drivers.by_hand
    service = make(aws=False)
    with pytest.raises(ConnectionProblem, match="no credentials of AWS"):
        service.submit(job(), job_id)
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"
    handle = service.submit(job(script=None, image=image), job_id).handle
    ack.job(job_id).complete()
    assert ended(service, handle) is JobState.SUCCESSFUL
    assert service.last_lines(handle, 5) == ()


def test_checkpoints_go_on_in_the_next_generation(ack: Ack, cloud: Cloud, service: SageMakerAckService) -> None:
    ack.sagemaker.driver = drivers.by_hand
    first, second, third, fourth = (str(uuid.uuid4()) for _ in range(4))
    cycle = str(uuid.uuid4())
    service.submit(job(cycle=cycle), first)
    service.submit(job(cycle=cycle), second)
    folders = [ack.job(name).spec["checkpointConfig"]["s3URI"] for name in (first, second)]
    assert folders == [f"s3://{cloud.bucket}/jobs/checkpoints/{cycle}/"] * 2
    cloud.put(f"{folders[0]}step-1/w.bin", b"weights")
    service.submit(job(resume_from=first), third)
    own = ack.job(third).spec["checkpointConfig"]["s3URI"]
    assert cloud.get(f"{own}step-1/w.bin") == b"weights"
    service.stop(service.find(first).handle)
    poll(lambda: ack.object(service.namespace, names.object_name(first)) is None, TIMEOUT, "the object to go")
    service.submit(job(resume_from=first), fourth)
    assert cloud.get(f"{ack.job(fourth).spec['checkpointConfig']['s3URI']}step-1/w.bin") == b"weights"
    with pytest.raises(InvalidJob, match="resume_from names a job that is not there"):
        service.submit(job(resume_from=str(uuid.uuid4())), str(uuid.uuid4()))


@pytest.mark.parametrize(
    ("more", "stays"),
    [
        ({}, False),
        ({"keep_checkpoints": True}, True),
        ({"service_options": {"checkpointConfig": {"s3URI": "s3://training/jobs/checkpoints/mine/"}}}, True),
        ({"service_options": {"accept_max_runtime": True}}, True),
    ],
    ids=["its own", "kept", "a place of the user's", "not completed"],
)
def test_the_checkpoints_of_a_successful_job_are_removed(
    ack: Ack, cloud: Cloud, service: SageMakerAckService, caplog: pytest.LogCaptureFixture, more: Any, stays: bool
) -> None:
    ack.sagemaker.driver = drivers.by_hand
    failed, job_id, cycle = (str(uuid.uuid4()) for _ in range(3))
    before = service.submit(job(cycle=cycle, **more), failed).handle
    place = ack.job(failed).spec["checkpointConfig"]["s3URI"]
    mine = [f"{place}{number // 100}/{number}" for number in range(3)]
    others = [f"s3://{cloud.bucket}/jobs/checkpoints/{uuid.uuid4()}/a", f"{place.rstrip('/')}-2/a"]
    for url in (*mine, *others):
        cloud.put(url, b"weights")
    ack.job(failed).fail("AlgorithmError: exit code: 1")
    assert ended(service, before) is JobState.FAILED
    handle = service.submit(job(cycle=cycle, **more), job_id).handle
    assert cloud.objects(place) == mine
    running = ack.job(job_id)
    running.stopped("MaxRuntimeExceeded") if "accept_max_runtime" in str(more) else running.complete()
    with caplog.at_level("INFO"):
        assert ended(service, handle) is JobState.SUCCESSFUL
        service.status(handle)
    assert cloud.objects(place) == (mine if stays else [])
    assert all(cloud.get(url) == b"weights" for url in others)
    assert caplog.text.count("its checkpoints (3 files) are removed.") == (not stays)
    if not stays:
        with pytest.raises(InvalidJob, match="are gone unless it had keep_checkpoints"):
            service.submit(job(resume_from=job_id), str(uuid.uuid4()))


def test_checkpoints_elsewhere_are_not_ours(service: SageMakerAckService, cloud: Cloud) -> None:
    cycle, own = uuid.uuid4(), service.connection
    handle = JobHandle("id", "n", "name", REGION, "s3://training/o", passing=True)

    def folder(url: str, **more: Any) -> str:
        return checkpoints.folder_to_empty(replace(handle, checkpoints=url, **more), own)

    place = f"s3://{own.bucket}/{own.prefix}/checkpoints/{cycle}/"
    assert folder(place) == f"{own.prefix}/checkpoints/{cycle}/"
    assert folder(place, passing=False) == ""
    for url in (
        place.removesuffix("/"), f"{place}more/", f"s3://{own.bucket}/{own.prefix}/checkpoints/", f"s3://{own.bucket}/",
        f"s3://other/{own.prefix}/checkpoints/{cycle}/", f"s3://{own.bucket}/x/{own.prefix}/checkpoints/{cycle}/",
        f"s3://{own.bucket}/checkpoints/{cycle}/", f"s3://{own.bucket}/{own.prefix}/checkpoints/../{cycle}/",
    ):  # fmt: skip
        assert folder(url) == "", url


def test_checkpoints_that_may_not_be_removed(
    ack: Ack, cloud: Cloud, service: SageMakerAckService, job_id: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise ConnectionProblem("The storage denies access.")

    ack.sagemaker.driver = drivers.by_hand
    handle = service.submit(job(), job_id).handle
    cloud.put(f"{handle['checkpoints']}a", b"weights")
    ack.job(job_id).complete()
    monkeypatch.setattr(service.store(), "delete", refuse)
    assert ended(service, handle) is JobState.SUCCESSFUL
    assert "cannot be removed: The storage denies access. The user of the AWS connection needs s3:Del" in caplog.text


def test_the_test_button(ack: Ack, make: Make, cloud: Cloud, namespace: str) -> None:
    results = checks.check(make())
    assert all(each.ok for each in results), "\n".join(map(str, results))
    assert [(each.subject, each.ok) for each in results] == [
        ("Cluster", True), ("CRD", True), ("Rights", True), ("AWS", True), ("Bucket", True), ("Logs", True),
    ]  # fmt: skip
    assert "knows every field of sagemaker-controller 1.9.1" in results[1].message
    elsewhere = {each.subject: each for each in checks.check(make(bucket="not-there", namespace="kube-system"))}
    assert elsewhere["Cluster"].ok
    assert "answers, Kubernetes v1." in elsewhere["Cluster"].message
    assert "does not allow to create the job's object" in elsewhere["CRD"].message
    assert "does not allow to list the objects of jobs" in elsewhere["Rights"].message
    assert not elsewhere["Bucket"].ok


def test_the_test_button_without_cluster_and_aws(
    make: Make, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each thing has its line all the same."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    service = make(aws=False)
    kubernetes.stop()
    try:
        lines = [str(each) for each in checks.check(service)]
    finally:
        kubernetes.start()
    assert lines[0].startswith("Cluster: not ok, The cluster did not answer")
    assert lines[1:3] == [f"{name}: not ok, not tried, since Cluster is not ok." for name in ("CRD", "Rights")]
    assert lines[3].startswith("AWS: not ok, There are no credentials of AWS")
    assert lines[4:] == [f"{name}: not ok, not tried, since AWS is not ok." for name in ("Bucket", "Logs")]


def test_the_test_button_sees_a_bucket_of_another_region(ack: Ack, make: Make, cloud: Cloud) -> None:
    name = f"elsewhere-{uuid.uuid4().hex[:8]}"
    cloud.make_bucket(name, "us-west-2")
    (found,) = [each for each in checks.check(make(bucket=name)) if each.subject == "Bucket"]
    assert not found.ok
    assert f"is in region us-west-2, and jobs run in {REGION}" in found.message
