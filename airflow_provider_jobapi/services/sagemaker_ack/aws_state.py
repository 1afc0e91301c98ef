# SPDX-License-Identifier: Apache-2.0
"""Ask SageMaker itself about a job whose object is gone. SageMaker keeps every job for ever.

It needs ``sagemaker:DescribeTrainingJob``, as nothing else of this provider does. Where that is not allowed, it is
left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_of_aws
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.status import read
from airflow_provider_jobapi.training.status import JobStatus

_COPIED = {
    "TrainingJobStatus": "trainingJobStatus",
    "SecondaryStatus": "secondaryStatus",
    "FailureReason": "failureReason",
    "CreationTime": "creationTime",
    "LastModifiedTime": "lastModifiedTime",
}
"""The fields that ACK copies from DescribeTrainingJob into an object's status, by their names there."""


def end_in_aws(aws: Aws, handle: JobHandle, log: logging.Logger) -> JobStatus | None:
    """Return how a job ended; None where it has not, or SageMaker does not know it or does not say."""
    try:
        answer = aws.client("sagemaker").describe_training_job(TrainingJobName=handle.name)
    except Exception as error:  # noqa: BLE001 -- whatever the client raises, the job stays as unknown as it is
        log.debug("%s", error_of_aws(error, f"describe the training job {handle.name}"))
        return None
    found = read(as_object(answer), now=datetime.now(UTC), accept_timeout=float("inf")).status
    return found.model_copy(update={"job_id": handle.job_id, "name": handle.name}) if found.status.ended else None


def as_object(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that ACK makes of an answer of DescribeTrainingJob, as far as a status is read of it."""
    said = {theirs: answer[ours] for ours, theirs in _COPIED.items() if answer.get(ours) is not None}
    said = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in said.items()}
    return {
        "spec": {"trainingJobName": answer.get("TrainingJobName", "")},
        "status": {**said, "ackResourceMetadata": {"arn": answer.get("TrainingJobArn", "")}},
    }
