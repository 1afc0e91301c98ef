# SPDX-License-Identifier: Apache-2.0
"""The names of a job in Kubernetes, in AWS and in S3. All follow from the job's id, which alone finds it.

A ``trainingJobName`` can never be used again in an account and region, whatever became of the job. Each generation of a
task has an id of its own, so no two jobs share a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GROUP, VERSION, PLURAL, KIND = "sagemaker.services.k8s.aws", "v1alpha1", "trainingjobs", "TrainingJob"

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
"""The log group of CloudWatch that SageMaker writes to; it exists from the account's first job on."""

REGION_ANNOTATION = "services.k8s.aws/region"
"""Chooses the region of one object, in place of the controller's own."""

FINALIZER = "finalizers.sagemaker.services.k8s.aws/TrainingJob"
"""What ACK marks an object with that is its job's own."""
ADOPTION_POLICY, ADOPTION_FIELDS = "services.k8s.aws/adoption-policy", "services.k8s.aws/adoption-fields"
ADOPTED = "services.k8s.aws/adopted"
DELETION_POLICY = "services.k8s.aws/deletion-policy"
"""How ACK takes up what is in AWS already, and whether the deletion of an object ends it there."""

DIGEST_ANNOTATION = "airflow-provider-jobapi/sha256"
"""The SHA-256 of the job's content: a second submit of the same id must be the same job."""
DATA_ANNOTATION = "airflow-provider-jobapi/data-sha256"
"""The SHA-256 over the job's data files, which its status reports."""
ACCEPT_ANNOTATION = "airflow-provider-jobapi/accept-max-runtime"
"""``true`` of a job that counts as successful when ``maxRuntimeInSeconds`` has ended it."""
DELETE_REFUSED_ANNOTATION = "airflow-provider-jobapi/delete-refused"
"""``true`` of a job whose object is deleted when ACK has refused it for good."""
PACKED_ANNOTATION = "airflow-provider-jobapi/packed"
"""``true`` of a job whose model is fetched as the archive that SageMaker made, ``false`` of one where it never is.
Where it is absent, the connection decides when the model is fetched."""
PASSING_ANNOTATION = "airflow-provider-jobapi/passing-checkpoints"
"""``true`` of a job whose checkpoints are in the folder of its clear cycle, and are removed when it is successful."""
JOB_ID_LABEL = "airflow-provider-jobapi/job-id"
MANAGED_BY = {"app.kubernetes.io/managed-by": "airflow-provider-jobapi"}

LONGEST_NAME = 63
"""Characters of a ``trainingJobName``, which is ``[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`` (API reference)."""

_UUID_LENGTH = 36


def object_name(job_id: str) -> str:
    """Return the name of the job's object in Kubernetes, a DNS label, which needs nothing but the id."""
    return f"training-{job_id}"


def training_job_name(name: str, job_id: str) -> str:
    """Return the job's name in AWS: as much of its own name as fits, ``-``, the job id."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name)[: LONGEST_NAME - _UUID_LENGTH - 1].strip("-")
    return f"{slug or 'job'}-{job_id}"


def log_stream_prefix(training_job: str) -> str:
    """Return what the names of the job's log streams begin with: ``<name>/algo-<n>-<epoch>``, one an instance."""
    return f"{training_job}/"


def model_url(output: str, training_job: str) -> str:
    """Return where SageMaker puts the model of a job, unless ``status.modelArtifacts`` says otherwise.

    :param output: The job's ``outputDataConfig.s3OutputPath``.
    """
    return f"{output.rstrip('/')}/{training_job}/output/model.tar.gz"


def packed(annotations: Mapping[str, Any]) -> bool | None:
    """Return whether the model of a job is fetched packed; None where the connection decides."""
    return {"true": True, "false": False}.get(str(annotations.get(PACKED_ANNOTATION)))
