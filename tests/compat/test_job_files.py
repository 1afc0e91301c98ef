# SPDX-License-Identifier: Apache-2.0
"""The canonical form of a job, its digest and its id stay as they are: jobs are found again by them."""

from __future__ import annotations

from datetime import datetime

import pytest

from airflow_provider_jobapi.training.identity import Cycle
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import InputFile, JobFile
from tests.compat.fixtures import load

RECORDED = load("job_files")
AIRFLOW = load("airflow")


@pytest.mark.parametrize("name", RECORDED["files"])
def test_a_job_file_has_its_canonical_form_and_digest(name):
    recorded = RECORDED["files"][name]
    job_file = JobFile.parse(recorded["text"])
    assert job_file.canonical() == recorded["canonical"].encode()
    assert job_file.digest() == recorded["digest"]
    assert JobFile.parse(recorded["canonical"]).digest() == recorded["digest"]


@pytest.mark.parametrize("name", RECORDED["jobs"])
def test_a_job_becomes_the_same_job_file(name):
    recorded = RECORDED["jobs"][name]
    job = TrainingJob.of(**recorded["fields"])
    job_file = job.job_file(InputFile(**each) for each in recorded["inputs"])
    assert job_file.canonical() == recorded["canonical"].encode()
    assert job_file.digest() == recorded["digest"]


@pytest.mark.parametrize(
    "task", [each for each in AIRFLOW["tasks"] if "training_facts" in each["xcoms"]], ids=lambda each: each["task_id"]
)
def test_the_id_of_a_job_is_derived_as_before(task):
    run = AIRFLOW["run"]
    start = datetime.fromisoformat(run["start_date"])
    cycle = Cycle(run["dag_id"], run["run_id"], start, task["task_id"], task["map_index"], task["max_tries"])
    assert cycle.job_id(0) == task["xcoms"]["training_job_id"]
