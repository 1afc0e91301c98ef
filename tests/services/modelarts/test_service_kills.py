# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed: what it had asked for is found and stopped, from inside a signal handler, within seconds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob, JobNotFound, ServiceUnavailable
from airflow_provider_jobapi.services.modelarts import jobs, session
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.modelarts.session import session_of
from airflow_provider_jobapi.training.status import JobState
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import created, ended, job, service, started

pytestmark = pytest.mark.usefixtures("nobody_has_logged_in")

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
CREATE = "^POST .*/training-jobs$"
STOP = "^POST .*/(stop|actions)$"


class Killed(BaseException):
    pass


class Held:
    """A lock whose holder was interrupted."""

    def __enter__(self) -> None:
        raise AssertionError("The signal handler waits for a lock that the interrupted thread may hold.")

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def killed_in_create(seconds: float) -> Iterator[None]:
    """Interrupt the main thread as Airflow's handler of SIGTERM does, so many seconds after it began to create."""

    def handle(*_: object) -> None:
        raise Killed

    def create(*given: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return original(*given)

    original = jobs.Jobs.create
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs.Jobs, "create", create)
            with pytest.raises(Killed):
                yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_a_handler(work: Any) -> None:
    """Do something in a signal handler."""
    before = signal.signal(signal.SIGUSR1, lambda *_: work())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_list_that_is_late_after_a_lost_answer(asking: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.misbehave("listed_late", seconds=1.5)
    modelarts.misbehave("lost_answer")
    handle = asking.submit(job(), job_id).handle
    assert ended(asking, handle).status is JobState.SUCCESSFUL
    assert len(created(modelarts, job_id)) == 1


@pytest.mark.usefixtures("no_waits")
def test_a_list_that_stays_late_is_worth_another_try(
    asking: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.misbehave("listed_late", seconds=60)
    modelarts.misbehave("lost_answer")
    with pytest.raises(ServiceUnavailable, match=r"ModelArts\.(0103|2751).*does not show it yet"):
        asking.submit(job(WAITS), job_id)
    modelarts.behave()
    asking.stop(asking.find(job_id).handle)


def test_a_create_that_is_slower_than_the_kill(
    asking: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str
) -> None:
    asking._jobs.search(job_id)
    modelarts.misbehave("slow", path=CREATE, seconds=3.0)
    modelarts.misbehave("listed_late", seconds=1.0)
    with killed_in_create(1.5):
        asking.submit(job(WAITS), job_id)
    # As Airflow's operator does it: with a new service, since this one was the interrupted call's.
    new = service(modelarts, dialect)
    handle = new.find(job_id).handle
    new.stop(handle)
    assert ended(new, handle).status is JobState.STOPPED


def test_a_create_that_never_came_through_is_looked_for_once(
    asking: ModelArtsService, modelarts: ModelArts, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOOKS", 3)
    modelarts.misbehave("slow", path=CREATE, seconds=60)
    with killed_in_create(1.0):
        asking.submit(job(WAITS), job_id)
    for least in (3, 0):
        began = time.monotonic()
        with pytest.raises(JobNotFound):
            asking.find(job_id)
        assert least <= time.monotonic() - began < least + 30


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("refused", [False, True])
def test_what_was_answered_is_not_looked_for(
    asking: ModelArtsService, modelarts: ModelArts, job_id: str, *, refused: bool
) -> None:
    if refused:
        modelarts.misbehave("refusal", path=CREATE, code="0104", message="No.")
        with pytest.raises(InvalidJob):
            asking.submit(job(), job_id)
    else:
        asking.submit(job(), job_id)
    assert asking._jobs.find_late(job_id) is None
    assert job_id not in jobs._unanswered


@pytest.mark.parametrize("logged_in", [True, False])
def test_a_stop_in_a_signal_handler_waits_for_nobody(
    modelarts: ModelArts, dialect: str, job_id: str, *, logged_in: bool
) -> None:
    handle = service(modelarts, dialect).submit(job(WAITS), job_id).handle
    asking = service(modelarts, dialect)
    started(asking, handle)
    shared = session_of(asking.connection, asking._mask)
    if not logged_in:
        shared._keystone = None
    else:
        assert shared._keystone is not None
        shared._keystone[1]._lock = Held()  # type: ignore[assignment]

    def mask(_: str) -> None:
        raise AssertionError("The signal handler asks the supervisor, whose lock the interrupted thread may hold.")

    shared._lock = Held()  # type: ignore[assignment]
    shared._mask = asking._mask = mask
    in_a_handler(lambda: asking.stop(handle))
    session._sessions.clear()
    assert ended(service(modelarts, dialect), handle).status is JobState.STOPPED


def test_a_find_after_the_kill_waits_for_nobody_either(
    asking: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str
) -> None:
    modelarts.misbehave("slow", path=CREATE, seconds=2.5)
    with killed_in_create(1.5):
        asking.submit(job(WAITS), job_id)
    shared = session_of(asking.connection, asking._mask)
    shared._lock = Held()  # type: ignore[assignment]
    found: list[Any] = []
    in_a_handler(lambda: found.append(asking.find(job_id).handle))
    asking.stop(found[0])


def test_a_stop_that_hangs_takes_its_time_and_no_more(
    asking: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    handle = asking.submit(job(WAITS), job_id).handle
    started(asking, handle)
    modelarts.misbehave("slow", path=STOP, seconds=20)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        asking.stop(handle)
    assert time.monotonic() - began < 18
    modelarts.behave()
    asking.stop(handle)


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(("status", "code"), [(400, "0105"), (409, "9999"), (403, "0112")])
def test_a_stop_that_is_refused_is_one_of_a_job_that_goes_on(
    asking: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str, status: int, code: str
) -> None:
    handle = asking.submit(job(WAITS), job_id).handle
    started(asking, handle)
    refuse = {"path": STOP, "status": status, "code": code, "message": "No.", "times": 99}
    modelarts.misbehave("refusal", **refuse)
    with pytest.raises(Exception, match=rf"ModelArts\.{code}: No") as caught:
        asking.stop(handle)
    assert isinstance(caught.value, ConnectionProblem) is (code == "0112")
    modelarts.behave()
    asking.stop(handle)
    ended(asking, handle)
    modelarts.misbehave("refusal", **refuse)
    asking.stop(handle)
    Caller(modelarts).ok("DELETE", f"/{dialect}/{{project_id}}/training-jobs/{handle['modelarts_id']}")
    asking.stop(handle)
