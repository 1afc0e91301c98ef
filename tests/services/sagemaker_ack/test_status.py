# SPDX-License-Identifier: Apache-2.0
"""What an object of ACK says about its job, row by row, and the objects that the controller's own tests observe."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.services.sagemaker_ack import names, status
from airflow_provider_jobapi.training.status import JobState, Reason

CREATED = datetime(2026, 11, 30, 12, tzinfo=UTC)
JOB_ID = "0f3f7c1e-52a5-5a8e-9d0f-6a1f2f6f0c1a"


OBSERVED = Path(__file__).parents[2] / "harness" / "ack" / "data" / "observed"


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, Any]]:
    """Objects as the controller leaves them, by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(OBSERVED.iterdir())}


def condition(kind: str, value: str = "True", message: str = "") -> dict[str, str]:
    return {"type": f"ACK.{kind}", "status": value, "message": message}


def observed(word: str = "", step: str = "", *conditions: dict[str, str], **more: Any) -> dict[str, Any]:
    """An object with this status."""
    metadata: dict[str, Any] = {
        "name": names.object_name(JOB_ID),
        "creationTimestamp": "2026-11-30T12:00:00Z",
        "labels": {names.JOB_ID_LABEL: JOB_ID},
        "annotations": more.pop("annotations", {}),
    }
    metadata |= {"deletionTimestamp": more.pop("deleted")} if "deleted" in more else {}
    said = {"trainingJobStatus": word, "secondaryStatus": step, "conditions": list(conditions), **more}
    return {
        "metadata": metadata,
        "spec": {"trainingJobName": "train-1"},
        "status": {name: value for name, value in said.items() if value not in ("", [])},
    }


def read(object_: dict[str, Any], after: float = 10.0, accept_timeout: float = 300.0) -> status.Reading:
    return status.read(object_, now=CREATED + timedelta(seconds=after), accept_timeout=accept_timeout)


ARN = {"ackResourceMetadata": {"arn": "arn:aws:sagemaker:eu-west-1:1:training-job/train-1"}}
DENIED = condition("Recoverable", message="AccessDeniedException: User is not authorized to perform: iam:PassRole")
REFUSED = condition("Terminal", message="ResourceInUse: Training job names must be unique")

ROWS = [
    # seen, after seconds: state, reason, words of the message
    (observed(), 299, JobState.PENDING, None, "waits for the ACK controller"),
    (observed(), 301, JobState.FAILED, "NotAccepted", "No ACK controller took the job within 5 minutes"),
    (observed("", "", REFUSED), 1, JobState.FAILED, "Refused", "ResourceInUse: Training job names must be unique"),
    (observed("", "", DENIED), 299, JobState.PENDING, None, "iam:PassRole"),
    (observed("", "", DENIED), 301, JobState.FAILED, "NotAccepted", "its last error was: AccessDenied"),
    (observed("", "", condition("ResourceSynced", "Unknown")), 301, JobState.FAILED, "NotAccepted", "Synced Unknown"),
    (observed("", "", DENIED, **ARN), 9_999, JobState.PENDING, "Preparing", "iam:PassRole"),
    (observed("", "", deleted="2026-11-30T12:00:05Z"), 9, JobState.PENDING, "Stopped", "being deleted"),
    (observed("", "", DENIED, deleted="2026-11-30T12:05:01Z"), 301, JobState.FAILED, "NotAccepted", "AccessDenied"),
    (observed("", "", DENIED, deleted="2026-11-30T12:00:05Z", **ARN), 301, JobState.PENDING, "Stopped", "deleted"),
    (observed("InProgress"), 9, JobState.PENDING, "Preparing", ""),
    (observed("InProgress", "Pending"), 9, JobState.PENDING, None, "waiting for machines"),
    (observed("InProgress", "Starting"), 9_999, JobState.PENDING, "Preparing", "starting the machines"),
    (observed("InProgress", "LaunchingMLInstances"), 9, JobState.PENDING, "Preparing", "starting the machines"),
    (observed("InProgress", "Downloading"), 9, JobState.PENDING, "Preparing", "downloading the data"),
    (observed("InProgress", "Training"), 9, JobState.RUNNING, None, "It is training."),
    (observed("InProgress", "Training", DENIED), 9_999, JobState.RUNNING, None, "It is training."),
    (observed("InProgress", "Interrupted"), 9, JobState.RUNNING, None, "spot instances were taken back"),
    (observed("InProgress", "Restarting"), 9, JobState.RUNNING, None, "retryStrategy"),
    (observed("InProgress", "Uploading"), 9, JobState.RUNNING, None, "uploading the model"),
    (observed("InProgress", "Dreaming"), 9, JobState.RUNNING, None, ""),
    (observed("InProgress", "Training", deleted="2026-11-30T12:00:05Z"), 9, JobState.RUNNING, "Stopped", "deleted"),
    (observed("Stopping", "Starting"), 9, JobState.RUNNING, "Stopped", "It is stopping."),
    (observed("Stopped", "Stopped"), 9, JobState.STOPPED, "Stopped", "in AWS, which does not report by whom."),
    (observed("Stopped", "Stopped", deleted="2026-11-30T12:00:05Z"), 9, JobState.STOPPED, "Stopped", "was deleted."),
    (observed("Stopped", "MaxRuntimeExceeded"), 9, JobState.FAILED, "CompletionTimeExceeded", "maxRuntimeInSeconds"),
    (observed("Stopped", "MaxWaitTimeExceeded"), 9, JobState.FAILED, "MaxWaitTimeExceeded", "maxWaitTimeInSeconds"),
    (observed("Stopped", "MaxPendingTimeExceeded"), 9, JobState.FAILED, "MaxPendingTimeExceeded", "maxPendingTime"),
    (observed("Completed", "Completed"), 9, JobState.SUCCESSFUL, None, ""),
    (observed("Completed", "Completed", REFUSED), 9, JobState.SUCCESSFUL, None, ""),
    (observed("Failed", "Failed", failureReason="InternalServerError: again"), 9, JobState.FAILED,
     "InternalServerError", "InternalServerError: again"),
    (observed("Failed", "Failed"), 9, JobState.FAILED, None, ""),
    (observed("Deleting"), 9, JobState.UNKNOWN, None, "'Deleting', which this provider does not know"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "after", "state", "reason", "words"), ROWS)
def test_each_row(seen: dict[str, Any], after: float, state: JobState, reason: str | None, words: str) -> None:
    found = read(seen, after)
    assert (found.status.status, found.status.reason) == (state, reason)
    assert words in found.status.message
    assert (found.status.job_id, found.status.name) == (JOB_ID, "train-1")
    assert found.not_accepted is (reason == "NotAccepted")
    assert found.status.outlook is (JobState.STOPPED if reason == Reason.STOPPED else state)


@pytest.mark.parametrize(
    ("why", "reason", "code"),
    [
        (
            'AlgorithmError: ExecuteUserScriptError: ExitCode 1 Command "python train.py", exit code: 1',
            "NonZeroExit",
            1,
        ),
        ("AlgorithmError: , exit code: 137", "OutOfMemory", 137),
        ("ClientError: No S3 objects found under S3 URL", "ClientError", None),
        ("CapacityError: Unable to provision requested ML compute capacity", "CapacityError", None),
        ("something else", None, None),
    ],
)
def test_why_a_job_failed(why: str, reason: str | None, code: int | None) -> None:
    found = read(observed("Failed", "Failed", failureReason=why)).status
    assert (found.reason, found.exit_code, found.message) == (reason, code, why)


def test_a_job_may_accept_the_end_of_its_time() -> None:
    over = observed("Stopped", "MaxRuntimeExceeded", annotations={names.ACCEPT_ANNOTATION: "true"})
    assert read(over).status.status is JobState.SUCCESSFUL
    waited = observed("Stopped", "MaxWaitTimeExceeded", annotations={names.ACCEPT_ANNOTATION: "true"})
    assert read(waited).status.status is JobState.FAILED


def test_times_and_places() -> None:
    seen = observed(
        "Completed", "Completed", creationTime="2026-11-30T12:00:30.5Z", lastModifiedTime="2026-11-30T12:10:00Z",
        modelArtifacts={"s3ModelArtifacts": "s3://b/o/model.tar.gz"}, **ARN,
    )  # fmt: skip
    found = read(seen)
    assert found.artifacts == "s3://b/o/model.tar.gz"
    assert found.accepted
    assert found.status.submission_time == CREATED
    assert found.status.start_time == CREATED + timedelta(seconds=30.5)
    assert found.status.finish_time == CREATED + timedelta(minutes=10)
    assert found.status.container_id.endswith(":training-job/train-1")


def told(object_: dict[str, Any]) -> list[str]:
    return [notice.text for notice in read(object_).notices]


def test_notices() -> None:
    assert told(observed("InProgress", "Downloading")) == ["SageMaker: Downloading, downloading the data."]
    assert told(observed("InProgress", "Training")) == ["SageMaker: Training."]
    assert told(observed("InProgress", "Dreaming")) == ["SageMaker: Dreaming."]
    assert told(observed("", "", DENIED)) == [
        (
            "ACK: the job is not accepted yet, and is tried again: "
            "AccessDeniedException: User is not authorized to perform: iam:PassRole"
        )
    ]
    assert told(observed("InProgress", "", DENIED))[0].startswith("ACK: SageMaker cannot be asked now")
    assert told(observed("Completed", "", REFUSED))[0].startswith("ACK: a change of the job was refused: ResourceInUse")
    assert "The job is treated as running." in told(observed("Deleting"))[0]
    warnings = [notice.warning for notice in read(observed("InProgress", "Interrupted", DENIED)).notices]
    assert warnings == [True, True]


def test_facts() -> None:
    rule = {"ruleConfigurationName": "loss", "ruleEvaluationStatus": "IssuesFound", "statusDetails": "it grew"}
    seen = observed(
        "Completed", "",
        warmPoolStatus={"status": "Reused", "reusedByJob": "next", "resourceRetainedBillableTimeInSeconds": 1_234},
        profilingStatus="Enabled", debugRuleEvaluationStatuses=[rule], profilerRuleEvaluationStatuses=[{}, rule],
    )  # fmt: skip
    assert told(seen) == [
        "SageMaker: the warm pool is Reused, used by job next, 1,234 billable seconds so far.",
        "SageMaker: the profiler is Enabled.",
        "SageMaker: debug rule loss: IssuesFound: it grew",
        "SageMaker: profiler rule loss: IssuesFound: it grew",
    ]
    assert told(observed("InProgress", "", profilingStatus="Disabled")) == []


GOLDEN = {
    "completed": (JobState.SUCCESSFUL, None, "Completed"),
    "created": (JobState.PENDING, "Preparing", "Downloading"),
    "stopping": (JobState.RUNNING, "Stopped", "Starting"),
    "error_on_describe": (JobState.PENDING, "Preparing", ""),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_objects(name: str, golden: dict[str, dict[str, Any]]) -> None:
    found = read(golden[name], 9_999_999_999)
    assert (found.status.status, found.status.reason, found.secondary) == GOLDEN[name]
    assert found.accepted
    assert found.status.name.startswith("xgboost-training-job")


def test_all_golden_objects_are_read(golden: dict[str, dict[str, Any]]) -> None:
    assert golden.keys() == GOLDEN.keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FULL = observed("Completed", "Completed", DENIED, warmPoolStatus={}, modelArtifacts={}, failureReason="x", **ARN)


@given(
    st.lists(st.sampled_from([("metadata",), ("spec",), ("status",), *(("status", name) for name in FULL["status"])])),
    JSON,
)
def test_anything_can_be_read(places: list[tuple[str, ...]], value: Any) -> None:
    damaged: Any = deepcopy(FULL)
    for place in places:
        inner = damaged
        for name in place[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[place[-1]] = value
    assert isinstance(read(damaged).status.status, JobState)


def test_an_object_that_its_controller_lets_go_is_still_its_jobs_own() -> None:
    """The finalizer is taken off before the object is gone, beside the condition of an old refusal."""
    assert read(observed("InProgress", "Training", REFUSED)).unmanaged
    assert not read(observed("Stopped", "Stopped", REFUSED, deleted="2026-11-30T12:00:05Z")).unmanaged


def test_an_error_that_is_repeated_under_another_id_of_its_request_is_the_same_notice() -> None:
    said = "ThrottlingException: Rate exceeded, request id: {}"
    ids = ("0f3f7c1e-52a5-5a8e-9d0f-6a1f2f6f0c1a", "9555f02a-512e-4d36-8558-df1af5de659e")
    keys = {read(observed("", "", condition("Recoverable", message=said.format(each)))).notices[0].key for each in ids}
    assert len(keys) == 1


def test_a_job_whose_time_has_ended_is_not_completed() -> None:
    """Its checkpoints stay: a longer one may continue them."""
    over = read(observed("Stopped", "MaxRuntimeExceeded", annotations={names.ACCEPT_ANNOTATION: "true"}))
    assert (over.status.status, over.completed) == (JobState.SUCCESSFUL, False)
    assert read(observed("Completed", "Completed")).completed
