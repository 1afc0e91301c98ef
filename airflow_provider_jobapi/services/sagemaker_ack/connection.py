# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to SageMaker through ACK: two other connections, namespace, role, bucket and region."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_jobapi.services import fields, settings

DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ROLE_ARN = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}"
"""As the API reference has it for ``RoleArn`` of CreateTrainingJob."""
ECR = r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|[a-z0-9.]+)/.+"
"""The name of an image in ECR, from which alone SageMaker takes images."""

ACCEPT_TIMEOUT = 300.0
"""Seconds within which ACK must have created the training job in AWS. It looks at a refused one every 30 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SageMakerConnection(fields.ConnectionSettings):
    """A connection to SageMaker. See :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.of`."""

    kubernetes_conn_id: str | None = fields.setting(
        "Kubernetes connection",
        "The id of a connection of the type kubernetes, to the cluster in which the ACK controller runs.",
        settings.stripped,
        default_text="the cluster that Airflow itself runs in, else the kubeconfig of the machine",
    )
    aws_conn_id: str | None = fields.setting(
        "AWS connection",
        "The id of a connection of the type aws, for the bucket and the logs.",
        settings.stripped,
        default_text="the credentials of the machine, as boto3 finds them",
    )
    namespace: str | None = fields.setting(
        "Namespace",
        "The namespace of the TrainingJob objects, which the ACK controller must watch.",
        settings.matching(DNS_LABEL, "1 to 63 lower-case letters, digits and '-'"),
        default_text="the namespace of the Kubernetes connection, else default",
    )
    region: str = fields.setting(
        "Region",
        "The AWS region of the training jobs, of the bucket and of the logs, such as eu-central-1.",
        settings.matching(r"[a-z]{2}(-[a-z]+)+-\d", "a region such as eu-central-1"),
        required=True,
    )
    role_arn: str | None = fields.setting(
        "Role",
        "The ARN of the IAM role that SageMaker assumes for the jobs, such as arn:aws:iam::123456789012:role/training.",
        settings.matching(ROLE_ARN, "an ARN such as arn:aws:iam::123456789012:role/training"),
        default_text="none; each job then names its own in service_options",
    )
    bucket: str = fields.setting(
        "Bucket",
        "The S3 bucket for the files of jobs, in the same region.",
        settings.bucket_name,
        required=True,
    )
    prefix: str = fields.setting(
        "Prefix",
        "The folder in the bucket that contains one folder for each job.",
        settings.bucket_folder,
        default="jobs",
    )
    instance_type: str | None = fields.setting(
        "Instance type",
        "The instance type of jobs that name none, such as ml.m5.xlarge, where it has what job_resources ask for.",
        settings.matching(r"ml\.[a-z0-9-]+\.[a-z0-9-]+", "an instance type such as ml.m5.xlarge"),
        default_text="the smallest one that has the job's cpus, gpus and memory",
    )
    training_image: str | None = fields.setting(
        "Training image",
        "The image in ECR for jobs with a script whose own image is not in ECR, from which alone SageMaker takes "
        "images.",
        settings.matching(
            rf"(?=\S{{1,255}}\Z){ECR}",
            "an image in ECR such as "
            "763104351884.dkr.ecr.eu-central-1.amazonaws.com/tensorflow-training:2.19.0-cpu-py312",
        ),
        default_text="none; a job with a script then names an image in ECR itself",
    )
    accept_timeout: float = fields.setting(
        "Accept timeout",
        "Seconds, from 30 to 3,600, within which ACK must have created the training job in AWS. It tries a refused one "
        "again for ever, so this limit ends that.",
        settings.seconds_between(30, 3_600, example=300),
        default=ACCEPT_TIMEOUT,
        json_type="number",
    )
    unpack_model: bool = fields.setting(
        "Unpack models",
        "Whether a fetched model.tar.gz is unpacked. false leaves it packed.",
        settings.boolean,
        default=True,
        json_type="boolean",
    )
    poll_interval: float = fields.setting(
        "Log interval",
        "Seconds between two reads of a job's log, from 0.1 to 60; a tenth more or less each time.",
        settings.seconds_between(0.1, 60, example=5),
        default=5,
        json_type="number",
    )
