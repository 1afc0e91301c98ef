# SPDX-License-Identifier: Apache-2.0
"""The loop that brings jobs from PENDING to their end.

Each turn polls the engine for every placed job, advances the jobs that can be advanced, and places the waiting jobs
that the engine has room for. What may take long, such as copying inputs and storing models, is done by a few threads
beside the loop. A server that was killed at any instant goes on from the database and the job's directory:

===============  ========================  ======================================================
state            in the job's directory    what is done
===============  ========================  ======================================================
PENDING                                    the job is placed when the engine has room
PENDING, placed  no ``spec.json``          its inputs are copied, then its supervisor is started
PENDING, placed  no ``started``            its supervisor is started; only the first one runs the job
PENDING, placed  ``started``, lock held    its Python environment is being made
any, placed      ``running``, lock held    RUNNING is recorded with the time at which the command began
any, placed      ``exit.json``             its model is stored and its end recorded
any, placed      ``started``, lock free    it is lost: its supervisor was killed
===============  ========================  ======================================================
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run import checkpoints, environment_record, verdict
from airflow_provider_jobapi.server.run.engines.base import Engine, EngineState, EngineStatus, PlacementRequest
from airflow_provider_jobapi.server.run.environments import Environments
from airflow_provider_jobapi.server.run.preparation import is_prepared, prepare
from airflow_provider_jobapi.server.run.wait_reasons import WaitReasons
from airflow_provider_jobapi.server.store.checkpoints import held_back
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.disk import tree_size
from airflow_provider_jobapi.server.store.fair_slots import FairSlots
from airflow_provider_jobapi.server.store.job_record import PREPARING, Job, JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.server.store.objects import DISK_SLOTS
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.status import JobState

log = logging.getLogger(__name__)

COPYING_INPUTS = "Preparing: the inputs are being copied."
MAKING_ENVIRONMENT = "Preparing: the Python environment is being made; the log shows how far it is."
STORING_MODEL = "The command has ended well; its model is being stored."

GONE_POLLS = 2
"""Consecutive polls that must find a started job without its supervisor before the job is lost."""

STARTS = 3
"""How often a supervisor is started that never begins its job."""

_TRANSIENT = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""Errors of the machine that pass, so that a job is prepared again and does not fail."""

_THREADS = 256
_THREADS_PER_CLIENT = 16
"""Threads that prepare jobs, and as many that store models. What they do on the disk is divided by ``FairSlots``."""


@dataclass(slots=True)
class _Progress:
    """What the loop remembers about a placed job. It may be lost with the process.

    :ivar gone: Consecutive polls without a supervisor.
    :ivar starts: How often a supervisor was started.
    :ivar not_before: When the job is looked at next, on the monotonic clock.
    """

    gone: int = 0
    starts: int = 0
    not_before: float = 0.0


class Runner:
    """Run the jobs of a server in a thread of its own.

    :param engine: Where the jobs run.
    :param pause: Seconds between two turns while jobs are placed.
    :param idle_pause: Seconds between two turns while no job is placed and nothing wakes the runner.
    :param retry_pause: Seconds after which a step that failed for a job is tried again.
    :param collect_interval: Seconds between two collections of the Python environments.
    :raises SettingsError: when jobs cannot be run with these settings.
    """

    def __init__(
        self,
        settings: Settings,
        registry: JobRegistry,
        storages: Storages,
        clients: ClientRegistry,
        engine: Engine,
        *,
        pause: float = 0.2,
        idle_pause: float = 5.0,
        retry_pause: float = 2.0,
        collect_interval: float = 600.0,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._storages = storages
        self._clients = clients
        self._engine = engine
        self._pause = pause
        self._idle_pause = idle_pause
        self._retry_pause = retry_pause
        self._collect_interval = collect_interval
        self.environments = Environments(settings)
        registry.has_python_2 = self.environments.interpreters.python_2 is not None
        registry.installs = self.environments.installs
        self._progress: dict[JobKey, _Progress] = {}
        self._busy: set[JobKey] = set()
        self._copies = FairSlots(DISK_SLOTS)  # beside those for models, which take longer
        self._working: Counter[tuple[str, str]] = Counter()
        self._working_lock = threading.Lock()
        self._storing: set[JobKey] = set()
        self._next_collection = time.monotonic()
        self._admitted: object = None
        self._next_admission = 0.0
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobapi-work")
        self._thread = threading.Thread(target=self._loop, name="jobapi-runner", daemon=True)

    def start(self) -> None:
        """Start the loop. It takes over the jobs that an earlier server placed."""
        self._registry.hold_active()
        self._registry.why_waiting = WaitReasons(self._registry, self._engine, self._occupying).of
        self._registry.on_change(lambda _key: self.wake())
        self._thread.start()

    def stop(self) -> None:
        """Stop the loop. The jobs go on, and the next runner takes them over."""
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def wake(self) -> None:
        """Take the next turn now, since a job was submitted, changed or is to be stopped."""
        self._woken.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                pause = self._pause if self._turn() else self._idle_pause
            except Exception:
                log.exception("A turn of the runner failed; it is tried again in a second.")
                self._stopping.wait(1.0)
                continue
            self._woken.wait(pause)

    def _turn(self) -> bool:
        """Look at every job once; returns whether any is placed."""
        busy = self._busy.copy()  # before the jobs are read, so that no job that just became free is seen as it was
        changes = self._registry.active.changes  # before them, too, so that no change after it is missed
        placed = self._registry.placed()
        now = time.monotonic()
        for key in self._progress.keys() - {job.key for job in placed}:
            del self._progress[key]
        due = [job for job in placed if job.key not in busy and self._progress_of(job).not_before <= now]
        statuses = self._engine.poll([PlacementRequest.of(job) for job in due if is_prepared(job)])
        for job in due:
            self._advance(job, statuses.get(job.key))
        admitted = self._admit(placed, changes)
        self._collect_environments()
        return bool(placed or admitted)

    def _progress_of(self, job: Job) -> _Progress:
        return self._progress.setdefault(job.key, _Progress())

    def _occupying(self, placed: Iterable[Job]) -> list[Job]:
        """Return the jobs that occupy the engine: all that are placed but those whose model is being stored."""
        return [job for job in placed if job.key not in self._storing]

    def _admit(self, placed: Sequence[Job], changes: int) -> bool:
        """Place the waiting jobs that the engine has room for, where anything changed since the last time.

        The room of an engine may change by itself, so it is asked from time to time, too.
        """
        occupying = self._occupying(placed)
        seen = (changes, [job.key for job in occupying])
        if seen == self._admitted and time.monotonic() < self._next_admission:
            return False
        waiting = self._registry.waiting()
        held = held_back(waiting, self._registry.placed())
        free = (PlacementRequest.of(job) for job in waiting if job.key not in held)
        granted = self._engine.admit(map(PlacementRequest.of, occupying), free, explain=False).granted
        for key, gpu_ids in granted.items():
            self._registry.place(key, gpu_ids, COPYING_INPUTS)
        self._admitted, self._next_admission = seen, time.monotonic() + self._idle_pause
        return bool(granted)

    def _advance(self, job: Job, status: EngineStatus | None) -> None:
        """Do what is next for a placed job.

        :param status: The engine's answer, or None while the job is not prepared.
        """
        if record := verdict.read_record(job.directory):
            self._storing.add(job.key)
            self._in_background(job, self._finish, record)
        elif status is None:
            self._in_background(job, self._begin)
        else:
            if job.stop_requested_by:
                grace = self._settings.grace.total_seconds()
                self._engine.cancel(PlacementRequest.of(job), job.stop_requested_by, grace)
            if job.state is JobState.PENDING:
                self._update_pending(job, status)
            self._handle_missing_supervisor(job, status)

    def _update_pending(self, job: Job, status: EngineStatus) -> None:
        """Record RUNNING once the job's command runs, and until then why it does not run yet."""
        if started := verdict.read_start(job.directory):
            self._record_environment(job)
            self._registry.start(job.key, started)
            return
        queued = status.state is EngineState.QUEUED
        reason, message = (None, status.message) if queued else (PREPARING, MAKING_ENVIRONMENT)
        if not job.stop_requested_by and (reason, message) != (job.reason, job.message):
            self._registry.set_waiting_reason(job.key, message, reason)

    def _handle_missing_supervisor(self, job: Job, status: EngineStatus) -> None:
        """Start a supervisor that never began the job again, or mark the job lost."""
        progress = self._progress_of(job)
        if status.state is not EngineState.GONE:
            progress.gone = 0
            return
        progress.gone += 1
        if (job.directory / "started").exists():
            if progress.gone > GONE_POLLS:
                self._in_background(job, self._mark_lost)
        elif progress.starts < STARTS:
            self._in_background(job, self._begin)
        else:
            self._in_background(job, self._mark_lost)

    def _begin(self, job: Job) -> None:
        """Prepare a job unless it is prepared, and place it."""
        progress = self._progress_of(job)
        progress.starts += 1
        progress.not_before = time.monotonic() + self._pause * progress.starts
        if not is_prepared(job):
            try:
                turn, runs_images = partial(self._copies.turn, job.key.client_id), self._engine.runs_images
                known = self._registry.checkpoints
                prepare(
                    job,
                    self._settings,
                    self.environments,
                    self._uid(job),
                    turn=turn,
                    runs_images=runs_images,
                    earlier=known.earlier(job),
                    room=known.room(job),
                    on_resumed=partial(self._registry.set_resumed, job.key),
                )
            except OSError as error:
                if error.errno in _TRANSIENT:
                    raise
                # Nothing but copies of the inputs and of checkpoints, which a full disk needs not.
                remove_tree(job.directory / "work")
                checkpoints.remove(job.directory)
                self._end(job, verdict.not_prepared(error))
                return
        self._engine.place(replace(PlacementRequest.of(job), credentials=self.environments.credentials))

    def _uid(self, job: Job) -> int | None:
        """The user id of the job's steps, or None for the server's own.

        :raises PermissionError: when the client has none, since the job must not run as the server's own user then.
        """
        if self._settings.users is None:
            return None
        client = self._clients.find(job.key.client_id)
        if client is None or not client.uid:
            raise PermissionError(errno.EPERM, "the client has no user id of its own")
        return client.uid

    def _finish(self, job: Job, record: dict[str, Any]) -> None:
        """Store the model of a job that has an exit record, and record its end."""
        self._record_environment(job)
        if record["reason"] is None:
            # The command may have begun and ended between two turns.
            self._registry.start(job.key, datetime.fromisoformat(record["started"]))
            self._registry.set_storing(job.key, datetime.fromisoformat(record["finished"]), STORING_MODEL)
        kept = min(self._settings.work_retention, self._settings.retention)
        end = verdict.of_record(job, record, self._storages.of(job.key.client_id), kept)
        if end.notice:
            verdict.add_notice(job.directory, end.notice)
        self._end(job, end)
        verdict.tidy(job, end)

    def _record_environment(self, job: Job) -> None:
        """Keep the list of the packages that the job has; one that cannot be kept is no reason to fail."""
        try:
            environment_record.record(job.directory)
        except FileNotFoundError:
            pass  # no environment was made
        except (OSError, ValueError) as error:
            log.warning("The packages of job %s cannot be recorded: %s.", job.key.job_id, error)

    def _mark_lost(self, job: Job) -> None:
        """Record that a job is lost. Its processes are ended first, since its next try may start at once."""
        checkpoints.rescue(job.directory)
        self._engine.forget(PlacementRequest.of(job))
        if record := verdict.read_record(job.directory):
            self._finish(job, record)
            return
        verdict.seal_log(job.directory)
        self._end(job, verdict.lost(job.directory))

    def _end(self, job: Job, end: verdict.Verdict) -> None:
        left, said = self._settle(job, end)
        self._registry.finish(
            job.key,
            end.state,
            reason=end.reason,
            message=f"{end.message} {said}".strip(),
            exit_code=end.exit_code,
            model=end.model,
            started=end.started,
            finished=end.finished,
            work=tree_size(job.directory / "work") if end.keeps_work else None,
            checkpoints=left,
        )
        if left is None:  # only now: a server that was killed before stores the model again, with links to them
            checkpoints.remove(job.directory)
        self._engine.forget(PlacementRequest.of(job))
        self._registry.checkpoints.collect(job.key.client_id)

    def _settle(self, job: Job, end: verdict.Verdict) -> tuple[int | None, str]:
        """Leave the last whole checkpoints of a job for the next one; returns their bytes, and a sentence about it."""
        if end.state is JobState.SUCCESSFUL and not job.job_file.job.keep_checkpoints:
            lost = end.model is None and checkpoints.has_any(job.directory)
            return None, checkpoints.REMOVED if lost else ""
        resumed = self._registry.get(*job.key).resumed is not None
        return checkpoints.settle(job.directory, resumed=resumed, room=lambda: self._registry.checkpoints.room(job))

    def _collect_environments(self) -> None:
        """Bring the Python environments below their bound, from time to time."""
        if time.monotonic() < self._next_collection:
            return
        self._next_collection = time.monotonic() + self._collect_interval
        self._pool.submit(self._collect_now)

    def _collect_now(self) -> None:
        try:
            collected = self.environments.collect()
            if collected.before != collected.after:
                log.info("%s", collected)
        except Exception:
            log.exception("The Python environments could not be collected.")

    def _in_background(self, job: Job, work: Callable[..., None], *arguments: Any) -> None:
        """Do something for a job in another thread. The loop skips the job until it is done.

        A client whose jobs have all of its threads waits for the next turn, and no other client does.
        """
        kind = (job.key.client_id, work.__name__)
        with self._working_lock:
            if self._working[kind] >= _THREADS_PER_CLIENT:
                return
            self._working[kind] += 1
        self._busy.add(job.key)

        def done(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()):
                log.error(
                    "Job %s of client %s: %s failed; it is tried again in %g seconds.",
                    job.key.job_id, job.key.client_id, work.__name__.lstrip("_"), self._retry_pause, exc_info=error,
                )  # fmt: skip
                self._progress_of(job).not_before = time.monotonic() + self._retry_pause
            with self._working_lock:
                self._working[kind] -= 1
            self._busy.discard(job.key)
            self._storing.discard(job.key)
            self.wake()

        self._pool.submit(work, job, *arguments).add_done_callback(done)
