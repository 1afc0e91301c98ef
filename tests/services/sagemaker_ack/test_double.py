# SPDX-License-Identifier: Apache-2.0
"""The double of ACK and SageMaker through the real Kubernetes API."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.harness.ack import SAMPLE, drivers, rules
from tests.harness.ack.cloud import Cloud
from tests.harness.ack.double import Ack
from tests.harness.ack.sagemaker import ACCOUNT
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll

TIMEOUT = 60.0
Object = dict[str, Any]


class Jobs:
    """Training jobs of a namespace, by hand."""

    def __init__(self, ack: Ack, namespace: str) -> None:
        self._ack, self._namespace = ack, namespace
        self._admin = ack.kubernetes.admin

    def create(self, name: str, annotations: dict[str, str] | None = None, job: str = "", **spec: Any) -> Object:
        document = yaml.safe_load(SAMPLE.read_text())
        document["metadata"] = {"name": name, "annotations": annotations or {}}
        document["spec"] |= {
            "trainingJobName": job or f"{self._namespace}-{name}",
            "roleARN": f"arn:aws:iam::{ACCOUNT}:role/training",
            "outputDataConfig": {"s3OutputPath": f"s3://{self._ack.cloud.bucket}/{self._namespace}/{name}"},
            "hyperParameters": {},
            "inputDataConfig": None,
        } | spec
        return self._admin.json("POST", self._ack.path(self._namespace), document)

    def get(self, name: str) -> Object | None:
        return self._ack.object(self._namespace, name)

    def delete(self, name: str) -> None:
        self._admin.delete(self._ack.path(self._namespace, name))

    def patch(self, name: str, change: Object) -> None:
        self._admin.patch(self._ack.path(self._namespace, name), change)

    def wait(self, name: str, look: Callable[[Object], object], what: str) -> Object:
        def found() -> Object | None:
            seen = self.get(name)
            return seen if seen is not None and look(seen.get("status") or {}) else None

        return poll(found, TIMEOUT, f"{name} to be {what}; it is {self.get(name)}")

    def wait_for(self, name: str, status: str) -> Object:
        return dict(self.wait(name, lambda seen: seen.get("trainingJobStatus") == status, status)["status"])

    def wait_for_condition(self, name: str, kind: str) -> str:
        def met(status: Object) -> bool:
            return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions", []))

        status = self.wait(name, met, kind)["status"]
        return str(next(each["message"] for each in status["conditions"] if each["type"] == kind))

    def wait_until_gone(self, name: str) -> None:
        poll(lambda: self.get(name) is None, TIMEOUT, f"{name} to be gone")


@pytest.fixture
def jobs(ack: Ack, namespace: str) -> Jobs:
    ack.sagemaker.driver = drivers.by_hand
    return Jobs(ack, namespace)


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{name}.py")
            member.size = len(text)
            made.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def script(cloud: Cloud, namespace: str, text: str, **parameters: str) -> dict[str, str]:
    url = f"s3://{cloud.bucket}/{namespace}/sourcedir.tar.gz"
    cloud.put(url, archive(train=text))
    return {"sagemaker_submit_directory": url, "sagemaker_program": "train.py"} | parameters


def test_a_job_goes_through_its_phases(ack: Ack, jobs: Jobs) -> None:
    jobs.create("whole")
    status = jobs.wait_for("whole", "InProgress")
    found = jobs.get("whole")
    assert found is not None
    assert found["metadata"]["finalizers"] == [rules.FINALIZER]
    assert found["spec"]["enableNetworkIsolation"] is False, "the controller writes defaults into the spec"
    job = ack.job("whole")
    assert status["ackResourceMetadata"] == {"arn": job.arn, "ownerAccountID": ACCOUNT, "region": "eu-central-1"}
    job.move("Training")
    jobs.wait("whole", lambda seen: seen.get("secondaryStatus") == "Training", "Training")
    job.log("epoch 1", "epoch 2")
    job.set(warmPoolStatus={"status": "Available", "resourceRetainedBillableTimeInSeconds": 60})
    job.complete({"model.txt": b"weights"})
    status = jobs.wait_for("whole", "Completed")
    assert status["warmPoolStatus"]["status"] == "Available"
    url = status["modelArtifacts"]["s3ModelArtifacts"]
    assert url.endswith(f"{job.name}/output/model.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(ack.cloud.get(url))) as packed:
        assert packed.getnames() == ["model.txt"]
    assert job.lines() == ["epoch 1", "epoch 2"]


def test_a_failure_has_its_reason(ack: Ack, jobs: Jobs) -> None:
    jobs.create("fails")
    ack.job("fails").fail("AlgorithmError: no, exit code: 1")
    assert jobs.wait_for("fails", "Failed")["failureReason"] == "AlgorithmError: no, exit code: 1"


def test_an_unknown_status_is_passed_on(ack: Ack, jobs: Jobs) -> None:
    jobs.create("odd")
    ack.job("odd").move("Negotiating", "Paused")
    assert jobs.wait_for("odd", "Paused")["secondaryStatus"] == "Negotiating"


def test_a_deletion_stops_the_job_and_the_object_goes_last(ack: Ack, jobs: Jobs) -> None:
    ack.sagemaker.stop_seconds = 2.0
    jobs.create("stops")
    job = ack.job("stops")
    jobs.wait_for("stops", "InProgress")
    jobs.delete("stops")
    jobs.wait_for("stops", "Stopping")
    jobs.wait_until_gone("stops")
    assert job.status == "Stopped"


@pytest.mark.parametrize(
    ("annotations", "status"), [({}, "Stopping"), ({rules.DELETION_POLICY: "retain"}, "InProgress")]
)
def test_the_deletion_policy_decides_whether_the_job_goes_on(
    ack: Ack, jobs: Jobs, annotations: dict[str, str], status: str
) -> None:
    ack.sagemaker.stop_seconds = 600.0
    jobs.create("policy", annotations)
    jobs.wait_for("policy", "InProgress")
    jobs.delete("policy")
    if annotations:
        jobs.wait_until_gone("policy")
    else:
        jobs.wait_for("policy", "Stopping")
    assert ack.job("policy").status == status
    ack.job("policy").stopped()


def test_a_name_is_never_free_again(ack: Ack, jobs: Jobs) -> None:
    jobs.create("first", job="taken")
    ack.job("taken").complete()
    jobs.wait_for("first", "Completed")
    jobs.delete("first")
    jobs.wait_until_gone("first")
    jobs.create("second", job="taken")
    assert jobs.wait_for_condition("second", rules.TERMINAL) == "Resource already exists"
    found = jobs.get("second")
    assert found is not None
    assert found["status"]["trainingJobStatus"] == "Completed", "it shows the status of the job that it did not make"
    assert "finalizers" not in found["metadata"]
    jobs.delete("second")
    assert jobs.get("second") is None


@pytest.mark.parametrize("policy", [rules.ADOPT, rules.ADOPT_OR_CREATE])
def test_a_job_that_lost_its_object_can_be_adopted(ack: Ack, jobs: Jobs, policy: str) -> None:
    jobs.create("first", {rules.DELETION_POLICY: "retain"}, job="left")
    jobs.wait_for("first", "InProgress")
    jobs.delete("first")
    jobs.wait_until_gone("first")
    spec = ack.job("left").spec
    named = {rules.ADOPTION_FIELDS: '{"trainingJobName": "left"}'} if policy == rules.ADOPT else {}
    own = {"environment": {"OTHER": "1"}} if policy == rules.ADOPT else spec
    jobs.create("second", {rules.ADOPTION_POLICY: policy, **named}, job="left", **own)
    jobs.wait_for("second", "InProgress")
    found = jobs.get("second")
    assert found is not None
    assert found["metadata"]["finalizers"] == [rules.FINALIZER]
    assert rules.initialized(found["spec"]) == rules.initialized(spec), "adopted as it is, or with the same spec"
    assert rules.TERMINAL not in {each["type"] for each in found["status"]["conditions"]}
    jobs.delete("second")
    jobs.wait_until_gone("second")
    assert ack.job("left").status == "Stopped"


@pytest.mark.parametrize(
    ("fields", "said"), [("{}", "required field missing"), ('{"trainingJobName": "none"}', "was not found")]
)
def test_what_cannot_be_adopted(jobs: Jobs, fields: str, said: str) -> None:
    jobs.create("wrong", {rules.ADOPTION_POLICY: rules.ADOPT, rules.ADOPTION_FIELDS: fields})
    assert said in jobs.wait_for_condition("wrong", rules.TERMINAL)


def test_adopt_or_create_creates(jobs: Jobs) -> None:
    jobs.create("new", {rules.ADOPTION_POLICY: rules.ADOPT_OR_CREATE})
    jobs.wait_for("new", "InProgress")


def test_a_refusal_that_is_not_terminal_is_tried_for_ever(ack: Ack, jobs: Jobs) -> None:
    ack.refuse("create", "AccessDeniedException", "User: arn:aws:iam::1:user/ack is not authorized")
    jobs.create("denied")
    message = jobs.wait_for_condition("denied", rules.RECOVERABLE)
    assert message.startswith("AccessDeniedException: User: arn:aws:iam::1:user/ack is not authorized")
    poll(lambda: sum(call == "create refused" for call, _ in ack.sagemaker.calls) > 2, TIMEOUT, "three tries")
    found = jobs.get("denied")
    assert found is not None
    assert "trainingJobStatus" not in found["status"]
    ack.allow("create")
    status = jobs.wait_for("denied", "InProgress")
    assert rules.RECOVERABLE not in {each["type"] for each in status["conditions"]}


def test_a_bad_request_is_recoverable_and_a_bad_value_terminal(ack: Ack, jobs: Jobs) -> None:
    jobs.create("bad", job="intentionally@invalid")
    assert jobs.wait_for_condition("bad", rules.RECOVERABLE).startswith(
        "ValidationException: 1 validation error detected"
    )
    jobs.delete("bad")
    jobs.wait_until_gone("bad")
    ack.refuse("create", "InvalidParameterValue", "no such thing")
    jobs.create("worse")
    assert jobs.wait_for_condition("worse", rules.TERMINAL).startswith("InvalidParameterValue: no such thing")


def test_a_controller_that_cannot_read_keeps_the_last_status(ack: Ack, jobs: Jobs) -> None:
    jobs.create("blind")
    jobs.wait_for("blind", "InProgress")
    ack.refuse("describe", "ServiceUnavailable", "Server is down")
    assert jobs.wait_for_condition("blind", rules.RECOVERABLE).startswith("ServiceUnavailable: Server is down")
    found = jobs.get("blind")
    assert found is not None
    assert found["status"]["trainingJobStatus"] == "InProgress"
    ack.allow("describe")
    ack.job("blind").complete()
    jobs.wait_for("blind", "Completed")


def test_without_a_controller_nothing_happens_until_it_is_back(ack: Ack, jobs: Jobs) -> None:
    ack.stop()
    jobs.create("alone")
    found = jobs.get("alone")
    assert found is not None
    assert "status" not in found
    jobs.delete("alone")
    assert jobs.get("alone") is None, "there is no finalizer yet, so it goes at once"
    jobs.create("waits")
    ack.start()
    jobs.wait_for("waits", "InProgress")
    ack.stop()
    jobs.delete("waits")
    found = jobs.get("waits")
    assert found is not None
    assert found["metadata"]["deletionTimestamp"]
    ack.start()
    jobs.wait_until_gone("waits")


def test_another_namespace_is_not_looked_at(ack: Ack, jobs: Jobs, kubernetes: Kubernetes) -> None:
    elsewhere = Jobs(ack, kubernetes.namespace())
    elsewhere.create("unseen")
    jobs.create("seen")
    jobs.wait_for("seen", "InProgress")
    found = elsewhere.get("unseen")
    assert found is not None
    assert "status" not in found


def test_the_annotation_chooses_the_region(ack: Ack, jobs: Jobs) -> None:
    jobs.create("far", {rules.REGION: "us-west-2"})
    status = jobs.wait_for("far", "InProgress")
    assert status["ackResourceMetadata"]["region"] == "us-west-2"
    assert ":us-west-2:" in status["ackResourceMetadata"]["arn"]


def test_an_edit_of_a_completed_job_leaves_a_terminal_condition(ack: Ack, jobs: Jobs) -> None:
    jobs.create("edited")
    ack.job("edited").complete()
    jobs.wait_for("edited", "Completed")
    jobs.patch("edited", {"spec": {"stoppingCondition": {"maxRuntimeInSeconds": 1}}})
    assert jobs.wait_for_condition("edited", rules.TERMINAL) == rules.UPDATE_REFUSED
    assert jobs.wait_for("edited", "Completed")


def test_a_script_is_run_as_the_framework_containers_do(ack: Ack, jobs: Jobs, namespace: str) -> None:
    ack.sagemaker.driver = drivers.train
    data = f"s3://{ack.cloud.bucket}/{namespace}/data"
    ack.cloud.put(f"{data}/train.csv", b"1,2\n")
    text = """
import os, pathlib, sys
print(sys.argv[1:], os.environ["SM_HP_EPOCHS"], os.environ["COLOUR"])
data = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "train.csv").read_text()
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(data)
"""
    channel = {"channelName": "train", "dataSource": {"s3DataSource": {"s3DataType": "S3Prefix", "s3URI": data}}}
    parameters = script(ack.cloud, namespace, text, epochs="3")
    jobs.create("real", hyperParameters=parameters, environment={"COLOUR": "red"}, inputDataConfig=[channel])
    url = jobs.wait_for("real", "Completed")["modelArtifacts"]["s3ModelArtifacts"]
    assert ack.job("real").lines() == ["['--epochs', '3'] 3 red"]
    with tarfile.open(fileobj=io.BytesIO(ack.cloud.get(url))) as packed:
        member = packed.extractfile("model.txt")
        assert member is not None
        assert member.read() == b"1,2\n"


def test_a_script_that_fails_says_why(ack: Ack, jobs: Jobs, namespace: str) -> None:
    ack.sagemaker.driver = drivers.train
    text = "import os; open(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('out of luck'); raise SystemExit(3)"
    jobs.create("broken", hyperParameters=script(ack.cloud, namespace, text))
    assert jobs.wait_for("broken", "Failed")["failureReason"] == "AlgorithmError: out of luck, exit code: 3"


def test_an_interrupted_script_continues_in_new_streams_from_its_checkpoint(
    ack: Ack, jobs: Jobs, namespace: str
) -> None:
    ack.sagemaker.driver = drivers.train
    text = """
import os, pathlib, time
kept = pathlib.Path(os.environ["CHECKPOINTS"], "epoch")
if kept.exists():
    print("continues", kept.read_text())
else:
    print("begins")
    kept.write_text("7")
    time.sleep(600)
"""
    parameters = script(ack.cloud, namespace, text)
    checkpoints = {"s3URI": f"s3://{ack.cloud.bucket}/{namespace}/checkpoints", "localPath": "/opt/ml/checkpoints"}
    jobs.create(
        "spot",
        hyperParameters=parameters,
        checkpointConfig=checkpoints,
        environment={"CHECKPOINTS": "/opt/ml/checkpoints"},
    )
    job = ack.job("spot")
    poll(lambda: ack.cloud.objects(checkpoints["s3URI"]), TIMEOUT, "a checkpoint")
    poll(lambda: _lines(ack, job.name), TIMEOUT, "a line")
    job.interrupt()
    jobs.wait("spot", lambda seen: seen.get("secondaryStatus") == "Interrupted", "Interrupted")
    job.restart()
    jobs.wait_for("spot", "Completed")
    assert job.lines() == ["begins", "continues 7"]
    assert len(ack.cloud.streams(job.region, f"{job.name}/")) == 2


def test_two_instances_have_two_streams_and_a_stop_ends_both(ack: Ack, jobs: Jobs, namespace: str) -> None:
    ack.sagemaker.driver = drivers.train
    text = "import os, time; print(os.environ['SM_CURRENT_HOST'], flush=True); time.sleep(600)"
    resources = {"instanceCount": 2, "instanceType": "ml.m5.large", "volumeSizeInGB": 5}
    jobs.create("two", hyperParameters=script(ack.cloud, namespace, text), resourceConfig=resources)
    job = ack.job("two")
    poll(lambda: _lines(ack, job.name) == ["algo-1", "algo-2"], TIMEOUT, "a line of each")
    jobs.delete("two")
    jobs.wait_until_gone("two")
    assert job.status == "Stopped"


def test_the_runtime_limit_ends_a_script(ack: Ack, jobs: Jobs, namespace: str) -> None:
    ack.sagemaker.driver = drivers.train
    parameters = script(ack.cloud, namespace, "import time; time.sleep(600)")
    jobs.create("long", hyperParameters=parameters, stoppingCondition={"maxRuntimeInSeconds": 1})
    assert jobs.wait_for("long", "Stopped")["secondaryStatus"] == "MaxRuntimeExceeded"


def _lines(ack: Ack, name: str) -> list[str]:
    logs = ack.cloud.client("logs")
    try:
        streams = ack.cloud.streams("eu-central-1", f"{name}/")
    except logs.exceptions.ResourceNotFoundException:  # the group comes with the first line
        return []
    return [line for stream in streams for line in ack.cloud.lines("eu-central-1", stream)]
