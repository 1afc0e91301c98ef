# SPDX-License-Identifier: Apache-2.0
"""Tombstones: a created job is known after its deletion and after a change of the dialect."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    JobConflict,
    JobGone,
    JobNotFound,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services.files import tombstones
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.identity import Content, walk
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import ended, job, service, started

pytestmark = pytest.mark.usefixtures("no_waits")

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
OTHER = {"v1": "v2", "v2": "v1"}


def forget(double: ModelArts, modelarts_service: ModelArtsService, job_id: str) -> None:
    """Delete a job without the service."""
    handle = modelarts_service.find(job_id).handle
    Caller(double).ok("DELETE", f"/{handle['dialect']}/{{project_id}}/training-jobs/{handle['modelarts_id']}")


def test_a_deleted_job_does_not_hide_a_later_one(modelarts_service: ModelArtsService, modelarts: ModelArts) -> None:
    jobs = Content("client", str(uuid.uuid4()))
    failed, running = jobs.job_id(0), jobs.job_id(1)
    ended(modelarts_service, modelarts_service.submit(job("raise SystemExit(3)"), failed).handle)
    handle = modelarts_service.submit(job(WAITS), running).handle
    forget(modelarts, modelarts_service, failed)
    place = walk(jobs, lambda each: modelarts_service.status(modelarts_service.find(each).handle).status)
    assert (place.generation, place.job_id) == (1, running)
    assert place.state is not None
    with pytest.raises(JobGone, match="it was deleted"):
        modelarts_service.submit(job("raise SystemExit(3)"), failed)
    modelarts_service.stop(handle)


def test_an_id_that_was_never_used(modelarts_service: ModelArtsService, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        modelarts_service.find(job_id)


def test_tombstone_after_a_lost_answer(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("lost_answer")
    ended(modelarts_service, modelarts_service.submit(job(), job_id).handle)
    forget(modelarts, modelarts_service, job_id)
    with pytest.raises(JobGone):
        modelarts_service.find(job_id)


def test_tombstone_after_a_killed_worker(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(tombstones, "write", lambda *_: None)
        modelarts_service.submit(job(), job_id)
    modelarts_service.submit(job(), job_id)
    forget(modelarts, modelarts_service, job_id)
    with pytest.raises(JobGone):
        modelarts_service.find(job_id)


def test_a_tombstone_that_cannot_be_written(
    modelarts_service: ModelArtsService, job_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ServiceUnavailable("OBS is down.")

    monkeypatch.setattr(tombstones, "write", broken)
    with caplog.at_level(logging.WARNING):
        handle = modelarts_service.submit(job(), job_id).handle
    assert f"job {job_id} was created: OBS is down. If the job is deleted" in caplog.text
    assert modelarts_service.find(job_id).handle == handle


def test_unreadable_storage_is_an_error(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    down = service(modelarts, dialect, retry=Retry(attempts=1), obs_endpoint="http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable):
        down.find(job_id)
    with pytest.raises(ConnectionProblem, match="obs_secret_key"):
        service(modelarts, dialect, obs_secret_key="another-word").find(job_id)


def test_invalid_tombstone(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    for written in ("no JSON", "[]", "{}", '{"handle": {"job_id": "another"}, "sha256": ""}'):
        modelarts.put(f"/{modelarts.bucket}/jobs/created/{job_id}.json", written)
        with pytest.raises(
            BrokenContract, match=f"jobs/created/{job_id}.json of the storage is not the tombstone of job .*; delete it"
        ):
            modelarts_service.find(job_id)


def test_a_job_of_the_other_dialect(modelarts: ModelArts, dialect: str, job_id: str, tmp_path: Path) -> None:
    before, after = service(modelarts, dialect), service(modelarts, OTHER[dialect])
    submission = before.submit(job(MODEL), job_id)
    assert after.find(job_id).handle == submission.handle
    again = after.submit(job(MODEL), job_id)
    assert (again.handle, again.inputs) == (submission.handle, submission.inputs)
    with pytest.raises(JobConflict, match="another script"):
        after.submit(job("print('another')"), job_id)
    assert ended(after, submission.handle).status is JobState.SUCCESSFUL
    assert "written" in after.last_lines(submission.handle, 20)
    assert len(after.fetch_model(submission.handle, tmp_path).files) == 2
    after.delete(submission.handle)
    with pytest.raises(JobGone):
        after.find(job_id)


def test_a_stop_in_the_other_dialect(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    handle = service(modelarts, dialect).submit(job(WAITS), job_id).handle
    after = service(modelarts, OTHER[dialect])
    started(after, handle)
    after.stop(handle)
    assert ended(after, handle).status is JobState.STOPPED
