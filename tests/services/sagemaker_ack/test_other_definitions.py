# SPDX-License-Identifier: Apache-2.0
"""A cluster whose definition of training jobs is older or newer than the one that the provider was made with."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import checks
from tests.harness.ack import drivers
from tests.harness.ack.definitions import knowing, redefined, undefined, without
from tests.harness.ack.double import Ack
from tests.services.sagemaker_ack.service import Make, job


def test_an_older_definition(ack: Ack, make: Make) -> None:
    ack.sagemaker.driver = drivers.by_hand
    service = make()
    with redefined(ack.kubernetes, without("spec", "infraCheckConfig")):
        options = {"infraCheckConfig": {"enableInfraCheck": True}}
        with pytest.raises(InvalidJob, match=r"no field spec\.infraCheckConfig\. Its CRD is older than the one of"):
            service.submit(job(service_options=options), str(uuid.uuid4()))
        service.submit(job(), str(uuid.uuid4()))
        found = {each.subject: each for each in checks.check(service)}
        assert found["CRD"].ok
        assert "it does not know infraCheckConfig; jobs without them run" in found["CRD"].message


def test_a_newer_definition(ack: Ack, make: Make) -> None:
    ack.sagemaker.driver = drivers.by_hand
    job_id = str(uuid.uuid4())
    with redefined(ack.kubernetes, knowing("spec", "sessionName")):
        make().submit(job(service_options={"sessionName": "mine"}), job_id)
        assert ack.job(job_id).spec["sessionName"] == "mine"


def test_no_definition(ack: Ack, make: Make) -> None:
    service = make()
    with undefined(ack.kubernetes):
        with pytest.raises(ConnectionProblem, match="install the ACK controller for SageMaker with its CRDs"):
            service.submit(job(), str(uuid.uuid4()))
        found = {each.subject: each for each in checks.check(service)}
        assert found["Cluster"].ok
        assert "install the ACK controller for SageMaker with its CRDs" in found["CRD"].message
