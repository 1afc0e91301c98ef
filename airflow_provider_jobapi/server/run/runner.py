# SPDX-License-Identifier: Apache-2.0
"""The loop that brings jobs from PENDING to their end.

Each turn looks at every running job (an exit record? a supervisor alive?) and lets begin those that have room. What may
take long, copying inputs and storing models, happens in a few threads beside the loop. Whatever the server was doing
when it was killed, the next one sees from the database and the job's directory what is left to do, and does it:

=============  ========================  =====================================================
state          in the job's directory    what is done
=============  ========================  =====================================================
PENDING                                  it begins when there is room
RUNNING        no ``spec.json``          it is prepared, its supervisor started
RUNNING        no ``started``            its supervisor is started; only the first that comes up runs the job
RUNNING        ``started``, lock held    it runs
RUNNING        ``exit.json``             its model is stored and its end said
RUNNING        ``started``, lock free    it is lost: the supervisor was killed
=============  ========================  =====================================================
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run import verdict
from airflow_provider_jobapi.server.run.engines.base import Engine, EngineState, EngineStatus, PlacementRequest
from airflow_provider_jobapi.server.run.environments import Environments
from airflow_provider_jobapi.server.run.preparation import is_prepared, prepare
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import Storages

log = logging.getLogger(__name__)

PACE = 0.2
"""Seconds between two turns while jobs run."""

GRACE_POLLS = 2
"""So often a supervisor must be found gone before its job is lost."""

STARTS = 3
"""So often a supervisor is started that does not come up."""

_PASSING = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""Errors of the machine that are over soon, so that a job does not fail of them."""

_WORKERS = 4
_COLLECT_EVERY = 600.0
_REPEAT_AFTER = 2.0


@dataclass(slots=True)
class _Attention:
    """What the loop remembers of a running job; all of it can be lost."""

    gone: int = 0
    starts: int = 0
    not_before: float = 0.0


class Runner:
    """Runs the jobs of a server in a thread of its own.

    :param engine: Where the supervisors run.
    :param idle_pause: Seconds between two turns while no job runs and nothing wakes the runner.
    :raises SettingsError: when jobs could not be run with these settings.
    """

    def __init__(
        self,
        settings: Settings,
        registry: JobRegistry,
        storages: Storages,
        clients: ClientRegistry,
        engine: Engine,
        *,
        idle_pause: float = 5.0,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._storages = storages
        self._clients = clients
        self._engine = engine
        self._idle_pause = idle_pause
        self.environments = Environments(settings)
        self._attention: dict[JobKey, _Attention] = {}
        self._busy: set[JobKey] = set()
        self._storing: set[JobKey] = set()
        self._collected = time.monotonic() - _COLLECT_EVERY
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="jobapi-work")
        self._thread = threading.Thread(target=self._loop, name="jobapi-runner", daemon=True)

    def start(self) -> None:
        """Begin to run jobs; those of an earlier server go on."""
        self._registry.on_change(lambda _key: self.wake())
        self._thread.start()

    def stop(self) -> None:
        """Stop looking after jobs. They go on, and the next runner takes them over."""
        self._ending.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def wake(self) -> None:
        """Take the next turn at once: a job came, or somebody wants one to stop."""
        self._woken.set()

    def _loop(self) -> None:
        while not self._ending.is_set():
            self._woken.clear()
            try:
                pause = PACE if self._turn() else self._idle_pause
            except Exception:
                log.exception("The runner's turn failed; the next one is in a second.")
                self._ending.wait(1.0)
                continue
            self._woken.wait(pause)

    def _turn(self) -> bool:
        """Look after every job once; answers whether any is running."""
        busy = self._busy.copy()  # before the jobs are read: whoever is done since then is not looked at as it was
        running = self._registry.running()
        now = time.monotonic()
        for key in self._attention.keys() - {job.key for job in running}:
            del self._attention[key]
        free = [job for job in running if job.key not in busy and self._attend(job).not_before <= now]
        statuses = self._engine.poll([PlacementRequest.of(job) for job in free if is_prepared(job)])
        for job in free:
            self._look_after(job, statuses.get(job.key))
        started = self._admit([job for job in running if job.key not in self._storing])
        self._collect()
        return bool(running or started)

    def _attend(self, job: Job) -> _Attention:
        return self._attention.setdefault(job.key, _Attention())

    def _look_after(self, job: Job, status: EngineStatus | None) -> None:
        if record := verdict.read_record(job.directory):
            self._storing.add(job.key)
            self._in_background(job, self._finish, record)
        elif status is None:
            self._in_background(job, self._begin)
        else:
            if job.stop_requested_by:
                grace = self._settings.grace.total_seconds()
                self._engine.cancel(PlacementRequest.of(job), job.stop_requested_by, grace)
            self._handle_missing_supervisor(job, status)

    def _handle_missing_supervisor(self, job: Job, status: EngineStatus) -> None:
        attention = self._attend(job)
        if status.state is not EngineState.GONE:
            attention.gone = 0
            return
        attention.gone += 1
        if (job.directory / "started").exists():
            if attention.gone > GRACE_POLLS:
                self._in_background(job, self._mark_lost)
        elif attention.starts < STARTS:
            self._in_background(job, self._begin)
        else:
            self._in_background(job, self._mark_lost)

    def _admit(self, holding: list[Job]) -> bool:
        waiting = self._registry.waiting()
        admission = self._engine.admit(map(PlacementRequest.of, holding), list(map(PlacementRequest.of, waiting)))
        for job in waiting:
            if (reason := admission.waits.get(job.key, job.message)) != job.message:
                self._registry.set_waiting_reason(job.key, reason)
        for key, gpu_ids in admission.granted.items():
            self._registry.start(key, gpu_ids)
        return bool(admission.granted)

    def _begin(self, job: Job) -> None:
        """Prepare a job unless it is, and start its supervisor."""
        attention = self._attend(job)
        attention.starts += 1
        attention.not_before = time.monotonic() + PACE * attention.starts
        if not is_prepared(job):
            try:
                prepare(job, self._settings, self.environments, self._uid(job))
            except OSError as error:
                if error.errno in _PASSING:
                    raise
                self._end(job, verdict.not_prepared(error))
                return
        self._engine.place(PlacementRequest.of(job))

    def _uid(self, job: Job) -> int | None:
        """The user id of the job's steps.

        :raises PermissionError: when there is none, since the job must not run as the server's own user then.
        """
        if self._settings.users is None:
            return None
        client = self._clients.find(job.key.client_id)
        if client is None or not client.uid:
            raise PermissionError(errno.EPERM, "the client has no user id of its own")
        return client.uid

    def _finish(self, job: Job, record: dict[str, Any]) -> None:
        if record["reason"] is None:
            since = datetime.fromisoformat(record["finished"])
            self._registry.set_storing(job.key, since, "The command has ended well; its SavedModel is being stored.")
        self._end(job, verdict.of_record(job, record, self._storages.of(job.key.client_id)))
        verdict.tidy(job)

    def _mark_lost(self, job: Job) -> None:
        """Say that a job is lost; what it left running is ended first, since another try may follow at once."""
        self._engine.forget(PlacementRequest.of(job))
        if record := verdict.read_record(job.directory):
            self._finish(job, record)
            return
        verdict.seal_log(job.directory)
        self._end(job, verdict.lost(job.directory))

    def _end(self, job: Job, end: verdict.Verdict) -> None:
        self._registry.finish(
            job.key,
            end.state,
            reason=end.reason,
            message=end.message,
            exit_code=end.exit_code,
            model=end.model,
            started=end.started,
            finished=end.finished,
        )
        self._engine.forget(PlacementRequest.of(job))

    def _collect(self) -> None:
        """Hold the bound of the environments, now and then."""
        if time.monotonic() - self._collected < _COLLECT_EVERY:
            return
        self._collected = time.monotonic()
        self._pool.submit(self._collect_now)

    def _collect_now(self) -> None:
        try:
            collected = self.environments.collect()
            if collected.before != collected.after:
                log.info("%s", collected)
        except Exception:
            log.exception("The environments could not be collected.")

    def _in_background(self, job: Job, work: Callable[..., None], *arguments: Any) -> None:
        """Do something for a job in another thread; until it is done, the loop leaves the job alone."""
        self._busy.add(job.key)

        def done(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()):
                log.error("Job %s of %s: trying again soon.", job.key.job_id, job.key.client_id, exc_info=error)
                self._attend(job).not_before = time.monotonic() + _REPEAT_AFTER
            self._busy.discard(job.key)
            self._storing.discard(job.key)
            self.wake()

        self._pool.submit(work, job, *arguments).add_done_callback(done)
