# SPDX-License-Identifier: Apache-2.0
"""A killed worker finds and stops its job in a signal handler within seconds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob, JobNotFound, ServiceUnavailable
from airflow_provider_jobapi.services.modelarts import api_session, client
from airflow_provider_jobapi.services.modelarts.api_session import session_of
from airflow_provider_jobapi.services.modelarts.client import SearchLimits
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.status import JobState
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import created, ended, job, service, started

pytestmark = pytest.mark.usefixtures("no_cached_sessions")

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
CREATE = "^POST .*/training-jobs$"
STOP = "^POST .*/(stop|actions)$"


class Killed(BaseException):
    pass


class Held:
    """A lock that the interrupted thread holds."""

    def __enter__(self) -> None:
        raise AssertionError("The signal handler waits for a lock that the interrupted thread may hold.")

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def killed_in_create(seconds: float) -> Iterator[None]:
    """Interrupt the main thread some seconds after a creation began, like Airflow's SIGTERM handler."""

    def handle(*_: object) -> None:
        raise Killed

    def create(*given: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return original(*given)

    original = client.ModelArtsClient.create
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client.ModelArtsClient, "create", create)
            with pytest.raises(Killed):
                yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_a_handler(work: Any) -> None:
    """Call a function in a signal handler."""
    before = signal.signal(signal.SIGUSR1, lambda *_: work())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_lost_answer_and_stale_list(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("listed_late", seconds=1.5)
    modelarts.inject_fault("lost_answer")
    handle = modelarts_service.submit(job(), job_id).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    assert len(created(modelarts, job_id)) == 1


@pytest.mark.usefixtures("no_waits")
def test_lost_answer_and_a_list_that_stays_stale(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.inject_fault("listed_late", seconds=60)
    modelarts.inject_fault("lost_answer")
    with pytest.raises(ServiceUnavailable, match=r"ModelArts\.(0103|2751).*does not contain it yet"):
        modelarts_service.submit(job(WAITS), job_id)
    modelarts.clear_faults()
    modelarts_service.stop(modelarts_service.find(job_id).handle)


def test_worker_killed_before_the_answer_to_a_creation(
    modelarts_service: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str
) -> None:
    with pytest.raises(JobNotFound):  # logs in
        modelarts_service.find(job_id)
    modelarts.inject_fault("slow", path=CREATE, seconds=3.0)
    modelarts.inject_fault("listed_late", seconds=1.0)
    with killed_in_create(1.5):
        modelarts_service.submit(job(WAITS), job_id)
    # As Airflow's operator does it: with a new service, since this one was the interrupted call's.
    new = service(modelarts, dialect)
    handle = new.find(job_id).handle
    new.stop(handle)
    assert ended(new, handle).status is JobState.STOPPED


def test_a_creation_without_effect_is_searched_for_once(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    modelarts_service = service(modelarts, dialect, search=SearchLimits(seconds=2.0, searches=4))
    modelarts.inject_fault("slow", path=CREATE, seconds=60)
    with killed_in_create(1.0):
        modelarts_service.submit(job(WAITS), job_id)
    for least in (1.5, 0):
        began = time.monotonic()
        with pytest.raises(JobNotFound):
            modelarts_service.find(job_id)
        assert least <= time.monotonic() - began < least + 30


@pytest.mark.usefixtures("no_waits")
def test_a_job_whose_creation_was_refused_is_searched_for_once(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.inject_fault("refusal", path=CREATE, code="0104", message="No.", times=2)
    with pytest.raises(InvalidJob):
        modelarts_service.submit(job(), job_id)
    modelarts.clear_faults()
    since = len(modelarts.requests())
    with pytest.raises(JobNotFound):
        modelarts_service.find(job_id)
    assert len(modelarts.requests()[since:]) == 1


@pytest.mark.parametrize("logged_in", [True, False])
def test_stop_in_a_signal_handler_takes_no_held_lock(
    modelarts: ModelArts, dialect: str, job_id: str, *, logged_in: bool
) -> None:
    handle = service(modelarts, dialect).submit(job(WAITS), job_id).handle
    modelarts_service = service(modelarts, dialect)
    started(modelarts_service, handle)
    shared = session_of(modelarts_service.connection, modelarts_service._mask)
    if not logged_in:
        shared._keystone = None
    else:
        assert shared._keystone is not None
        shared._keystone[1]._lock = Held()  # type: ignore[assignment]

    def mask(_: str) -> None:
        raise AssertionError("The signal handler asks the supervisor, whose lock the interrupted thread may hold.")

    shared._lock = Held()  # type: ignore[assignment]
    shared._mask = modelarts_service._mask = mask
    in_a_handler(lambda: modelarts_service.stop(handle))
    api_session._sessions.clear()
    assert ended(service(modelarts, dialect), handle).status is JobState.STOPPED


def test_find_in_a_signal_handler_takes_no_held_lock(
    modelarts_service: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str
) -> None:
    modelarts.inject_fault("slow", path=CREATE, seconds=2.5)
    with killed_in_create(1.5):
        modelarts_service.submit(job(WAITS), job_id)
    shared = session_of(modelarts_service.connection, modelarts_service._mask)
    shared._lock = Held()  # type: ignore[assignment]
    found: list[Any] = []
    in_a_handler(lambda: found.append(modelarts_service.find(job_id).handle))
    modelarts_service.stop(found[0])


def test_time_limit_of_a_stop(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    modelarts_service = service(modelarts, dialect, stop_retry=Retry(total=2.0, attempts=5))
    handle = modelarts_service.submit(job(WAITS), job_id).handle
    started(modelarts_service, handle)
    modelarts.inject_fault("slow", path=STOP, seconds=20)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        modelarts_service.stop(handle)
    assert time.monotonic() - began < 5
    modelarts.clear_faults()
    modelarts_service.stop(handle)


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(("status", "code"), [(400, "0105"), (409, "9999"), (403, "0112")])
def test_a_refused_stop_is_an_error_only_for_a_running_job(
    modelarts_service: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str, status: int, code: str
) -> None:
    handle = modelarts_service.submit(job(WAITS), job_id).handle
    started(modelarts_service, handle)
    refuse = {"path": STOP, "status": status, "code": code, "message": "No.", "times": 99}
    modelarts.inject_fault("refusal", **refuse)
    with pytest.raises(Exception, match=rf"ModelArts\.{code}: No") as caught:
        modelarts_service.stop(handle)
    assert isinstance(caught.value, ConnectionProblem) is (code == "0112")
    modelarts.clear_faults()
    modelarts_service.stop(handle)
    ended(modelarts_service, handle)
    modelarts.inject_fault("refusal", **refuse)
    modelarts_service.stop(handle)
    Caller(modelarts).ok("DELETE", f"/{dialect}/{{project_id}}/training-jobs/{handle['modelarts_id']}")
    modelarts_service.stop(handle)
