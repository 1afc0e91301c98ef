# SPDX-License-Identifier: Apache-2.0
"""Workers that are killed by SIGKILL at random instants while they submit, on real engines."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from airflow_provider_jobapi.exceptions import JobGone, JobNotFound
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.training.status import JobState
from tests.services.train_container.station import Station, end_of, scripted

KILLS = 12
LONGEST = 0.9
"""Seconds after which the last of them is killed; a submit takes less on an idle machine."""


@pytest.mark.slow
def test_no_train_runs_twice_and_none_is_lost(station: Station) -> None:
    seed = random.randrange(2**32)  # noqa: S311 -- no secret
    instants = random.Random(seed)  # noqa: S311 -- no secret
    plan = scripted("print('ran', flush=True)\nanswer()", data={"rows.csv": "1\n"})
    for _ in range(KILLS):
        after = instants.uniform(0, LONGEST)
        job_id = station.job_id()
        child = os.fork()
        if child == 0:
            try:
                station.service().launch(plan, job_id)
            finally:
                os._exit(0)
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert _runs(station, plan, job_id) == 1, (seed, after)
        jobs = list(station.jobs)
        station.clean()
        station.jobs.clear()
        left = [str(each["Names"]) for each in station.engine.client.containers(all=True)]
        assert not [each for each in left if any(job in each for job in jobs)], (seed, after)


def _runs(station: Station, plan: Plan, job_id: str) -> int:
    """Do what the next try does, and return how often the train ran, by the logs of all its containers."""
    service = station.service()
    try:
        handle = service.find(job_id).handle
    except JobNotFound:
        handle = service.launch(plan, job_id).handle
    except JobGone:  # the claim was given up: the next generation runs it
        job_id = station.job_id()
        handle = service.launch(plan, job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    found = [
        each
        for job in station.jobs
        for each in station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={job}"]})
    ]
    logs = [station.engine.client.logs(each["Id"]).decode() for each in found]
    return sum(log.splitlines().count("ran") for log in logs)
