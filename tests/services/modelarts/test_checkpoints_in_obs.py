# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a job reach the next one of its clear cycle, and one that names it, in both dialects."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.training.status import JobState
from tests.harness.modelarts.service import ended, job

SCRIPT = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
print("found", sorted(path.name for path in folder.iterdir()))
(folder / f"step-{sys.argv[-1]}.json").write_text("{}")
(folder / "step-9.json").write_text("{")
sys.exit(0 if sys.argv[-1] == "0" else 1)
"""


def run(service: ModelArtsService, step: int, **fields: object) -> tuple[str, JobState, tuple[str, ...]]:
    job_id = str(uuid.uuid4())
    handle = service.submit(job(SCRIPT, arguments=[str(step)], **fields), job_id).handle
    status = ended(service, handle).status
    return job_id, status, service.last_lines(handle, 50)


def test_the_next_job_of_a_cycle_and_one_that_names_it(modelarts_service: ModelArtsService) -> None:
    cycle = str(uuid.uuid4())
    first, status, lines = run(modelarts_service, 1, cycle=cycle)
    assert (status, "found []" in lines) == (JobState.FAILED, True), lines
    _, _, lines = run(modelarts_service, 2, cycle=cycle)
    assert "found ['step-1.json']" in lines, lines
    assert f"jobapi: This job continues job {first}, whose checkpoints are in CHECKPOINT_DIR (1 file)." in lines
    done, status, lines = run(modelarts_service, 0, cycle=cycle)
    assert (status, "found ['step-1.json', 'step-2.json']" in lines) == (JobState.SUCCESSFUL, True), lines
    _, _, lines = run(modelarts_service, 3, resume_from=first)
    assert "found ['step-1.json']" in lines, lines
    with pytest.raises(InvalidJob, match="left no whole checkpoint in OBS"):
        run(modelarts_service, 3, resume_from=done)
    with pytest.raises(InvalidJob, match="not there"):
        run(modelarts_service, 3, resume_from=str(uuid.uuid4()))
