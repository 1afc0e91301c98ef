# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.job_limits import JobLimits


def job_file(command: str = "python3 train.py", **resources: int) -> JobFile:
    return JobFile.model_validate({"job": {"name": "a", "execution": {"command": command, "resources": resources}}})


@pytest.mark.parametrize("limits", [JobLimits(), JobLimits(8, 0, 32_000, python=3), JobLimits(python=3)])
def test_limits_are_read_as_they_were_written(limits):
    assert JobLimits.of_header(limits.to_header()) == limits


@pytest.mark.parametrize(
    ("header", "limits"),
    [
        ("", JobLimits()),
        ("cpus=2,memory=5", JobLimits(cpus=2, memory=5)),
        ("cpus=x, gpus=-1, tpus=4, memory=7; python=2.7", JobLimits()),
        ("cpus=" + "9" * 5000, JobLimits()),
        ("inputs=1, cpus=3", JobLimits(cpus=3)),
    ],
)
def test_what_is_no_limit_is_ignored(header, limits):
    assert JobLimits.of_header(header) == limits


def test_a_job_beyond_a_limit_is_refused_with_its_field():
    limits = JobLimits(2, 0, 4_000, python=3)
    limits.check(job_file(cpus=2, memory=4_000))
    for resources in ({"cpus": 3}, {"gpus": 1}, {"memory": 4_001}):
        with pytest.raises(InvalidJob, match="this server has") as refused:
            limits.check(job_file(**resources))
        assert refused.value.field == f"job.execution.resources.{next(iter(resources))}"
    with pytest.raises(InvalidJob, match="Python 2"):
        limits.check(job_file("python2 train.py"))
    JobLimits().check(job_file("python2 train.py", cpus=4_000))
