# SPDX-License-Identifier: Apache-2.0
"""From connections to the service: two other connections, read by worker and triggerer alike."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.hooks.discovery import hook_class_for
from airflow_provider_jobapi.hooks.sagemaker_ack import SageMakerAckHook
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService

OWN = {"region": "eu-central-1", "bucket": "my-trainings", "role_arn": "arn:aws:iam::123456789012:role/training"}


def defined(monkeypatch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **extra: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, "extra": extra}))


def test_the_connection_decides_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **OWN, kubernetes_conn_id="cluster", aws_conn_id="cloud")
    defined(monkeypatch, "cluster", "kubernetes", namespace="jobs")
    defined(monkeypatch, "cloud", "aws", endpoint_url="http://localhost:1")
    assert hook_class_for("sagemaker_ack", "training") is SageMakerAckHook
    for service in (TrainingHook.service_of("training"), asyncio.run(TrainingHook.async_service_of("training"))):
        assert isinstance(service, SageMakerAckService)
        assert service.namespace == "jobs"
        assert service.clients.aws.endpoint("s3") == "http://localhost:1"


def test_the_other_connections_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **OWN)
    service = TrainingHook.service_of("training")
    assert isinstance(service, SageMakerAckService)
    assert service.namespace == "default"


def test_another_connection_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **OWN, aws_conn_id="nowhere")
    words = "Connection training names 'nowhere' as its connection for aws, which is not defined"
    for use in (TrainingHook.service_of, lambda name: asyncio.run(TrainingHook.async_service_of(name))):
        with pytest.raises(ConnectionProblem, match=words):
            use("training")
    ok, message = SageMakerAckHook("training").test_connection()
    assert (ok, words in message) == (False, True)


@pytest.mark.parametrize("role", ["kubernetes", "aws"])
def test_another_connection_of_a_wrong_type(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **OWN, **{f"{role}_conn_id": "database"})
    defined(monkeypatch, "database", "postgres")
    words = f"Connection database has type 'postgres', and is named as a connection for {role}: name one of the type"
    for use in (TrainingHook.service_of, lambda name: asyncio.run(TrainingHook.async_service_of(name))):
        with pytest.raises(ConnectionProblem, match=words):
            use("training")
    ok, message = SageMakerAckHook("training").test_connection()
    assert (ok, words in message) == (False, True)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"region": "here"}, "extra region cannot be 'here': it is a region such as eu-central-1"),
        ({"region": None}, "has no region: it is the AWS region"),
        ({"bucket": None}, "has no bucket"),
        ({"role_arn": "training"}, "extra role_arn cannot be 'training': it is an ARN such as"),
        ({"namespace": "My_Space"}, "extra namespace cannot be 'My_Space'"),
        ({"accept_timeout": 5}, "extra accept_timeout cannot be 5: it is seconds from 30 to 3600"),
        ({"instance_type": "m5.large"}, "extra instance_type cannot be 'm5.large'"),
        (
            {"training_image": "tensorflow/tensorflow:2.1.0"},
            "'tensorflow/tensorflow:2.1.0': it is an image in ECR such as",
        ),
        ({"rol": "x"}, "has 'rol', which is not known"),
    ],
)
def test_a_connection_with_an_error_names_the_field(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], words: str
) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **{**OWN, **extra})
    with pytest.raises(ConnectionProblem) as error:
        TrainingHook.service_of("training")
    assert words in str(error.value)
    ok, message = SageMakerAckHook("training").test_connection()
    assert (ok, words in message) == (False, True)


def test_without_the_other_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", "sagemaker_ack", **OWN)
    for name in ("airflow.providers.cncf.kubernetes.hooks.kubernetes", "airflow.providers.amazon.aws.hooks.base_aws"):
        monkeypatch.setitem(sys.modules, name, None)
    service = TrainingHook.service_of("training")
    assert isinstance(service, SageMakerAckService)
    for use in (lambda: service.find("x"), service.store):
        with pytest.raises(ConnectionProblem, match=r"install airflow-provider-jobapi\[sagemaker\]"):
            use()


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, airflow.sdk; from airflow.sdk import BaseHook, Connection; before = set(sys.modules)\n"
        "import airflow_provider_jobapi.hooks.sagemaker_ack\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"kubernetes", "kubernetes_asyncio", "boto3", "botocore", "obstore", "requests"}
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy
