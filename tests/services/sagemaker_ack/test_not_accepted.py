# SPDX-License-Identifier: Apache-2.0
"""Jobs that SageMaker has not accepted, and whose object does not go."""

from __future__ import annotations

import uuid
from dataclasses import replace

from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.training.status import JobState
from tests.harness.ack.double import Ack
from tests.harness.server import poll
from tests.services.sagemaker_ack.service import Make, job

TIMEOUT = 60.0


def test_the_controller_that_holds_the_object_is_not_there_any_more(ack: Ack, make: Make, namespace: str) -> None:
    """It has marked the object with its finalizer, and so the object stays for ever."""
    ack.refuse("create", "AccessDeniedException", "no rights")
    service, job_id = make(), str(uuid.uuid4())
    service.connection = replace(service.connection, accept_timeout=2.0)
    handle = service.submit(job(), job_id).handle
    place = ack.path(namespace, names.object_name(job_id))
    poll(lambda: "finalizers" in ack.kubernetes.admin.get(place)["metadata"], TIMEOUT, "the controller's mark")
    ack.stop()
    poll(lambda: service.status(handle).status.ended, TIMEOUT, "the job to end")
    assert "deletionTimestamp" in ack.kubernetes.admin.get(place)["metadata"]
    again = service.status(handle)
    assert (again.status, again.reason) == (JobState.FAILED, "NotAccepted")
    ack.start()
