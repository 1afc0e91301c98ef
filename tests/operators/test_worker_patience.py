# SPDX-License-Identifier: Apache-2.0
"""A worker waits for the service as long as the task says: a submit in the middle of an outage needs no retry."""

from __future__ import annotations

import json

import pytest

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services import retry
from tests.harness.proxy import Canned, FaultProxy
from tests.harness.server import Server
from tests.harness.tries import Task


@pytest.mark.parametrize(("seconds", "waits"), [(300, True), (0, False)])
def test_the_patience_of_the_task_is_the_workers_too(jobapi_server: Server, monkeypatch, seconds, waits):
    with FaultProxy(jobapi_server.port) as network, retry.testing():
        connection = jobapi_server.connection | {
            "host": network.url,
            "extra": {"token_url": f"{network.url}/oauth/token"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(connection))
        network.next(*[Canned(503)] * 30, when="POST /api/v2/jobs/")
        task = Task(deferrable=True, patience=seconds)
        if waits:
            task.submit()
            jobapi_server.wait_for(task.job_id, "SUCCESSFUL")
        else:
            with pytest.raises(ServiceUnavailable):
                task.submit()
