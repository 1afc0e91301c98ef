# SPDX-License-Identifier: Apache-2.0
"""ModelArts as a :class:`~airflow_provider_jobapi.services.base.TrainingService`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.base import FetchedModel, Handle, Model, Submission
from airflow_provider_jobapi.services.files import tombstones
from airflow_provider_jobapi.services.modelarts import boot
from airflow_provider_jobapi.services.modelarts import plan as plans
from airflow_provider_jobapi.services.modelarts.api_session import Mask, session_of
from airflow_provider_jobapi.services.modelarts.boot_work_folder import UNKEPT
from airflow_provider_jobapi.services.modelarts.catalogue import LIST_LIFETIME, Catalogue, CustomImage, Flavor
from airflow_provider_jobapi.services.modelarts.checkpoints import CheckpointHandover
from airflow_provider_jobapi.services.modelarts.client import DEFAULT_SEARCH, ModelArtsClient, SearchLimits, check_same
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.dialect_base import ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialects import handle_text, read_handle
from airflow_provider_jobapi.services.modelarts.errors import AlreadyEnded, FlavorRefused, SoldOut
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.logs import fair_shares
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason
from airflow_provider_jobapi.training.units import read_span

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.files.stores import ObjectStore, S3Store
    from airflow_provider_jobapi.services.files.transfers import Meters
    from airflow_provider_jobapi.services.modelarts.obs import ModelInObs

_log = logging.getLogger(__name__)

STOP_RETRY = Retry(total=10.0, attempts=5)
"""For a stop, which is requested while a worker is being killed and has seconds left."""

TAIL_RETRY = Retry(total=10.0, attempts=3)
"""For the last lines of a log, which are shown to a person who waits."""

TAIL_SECONDS = 30.0
"""Time after which no further log is read for its last lines; a job on many machines has many logs."""

END_LINES = 20
"""Last lines among which the boot file's own last line is searched."""

TOMBSTONE_RETRY = Retry(total=10.0, attempts=4)
"""For the tombstone of a created job, which runs without one as well."""


class ModelArtsService:
    """Runs jobs on ModelArts; connects when it is first used.

    :param connection: The connection's settings.
    :param mask: Receives each secret that is not in the connection, so that logs can hide it.
    :param log: Gets the progress of transfers, and one line for each failed attempt.
    :param retry: How a request is repeated while the service is unavailable.
    :param meters: Shows the progress of transfers instead of the log.
    :param stop_retry: How a stop is repeated while the service is unavailable.
    :param search: Limits of a search for a job by its id.
    :param list_lifetime: Seconds for which the lists of engines and flavours are cached.
    """

    keeps_checkpoints = True

    def __init__(
        self,
        connection: ModelArtsConnection,
        *,
        mask: Mask = lambda _: None,
        log: logging.Logger = _log,
        retry: Retry | None = None,
        meters: Meters | None = None,
        stop_retry: Retry = STOP_RETRY,
        search: SearchLimits = DEFAULT_SEARCH,
        list_lifetime: float = LIST_LIFETIME,
    ) -> None:
        self.connection = connection
        self._mask = mask
        self._log = log
        self._meters = meters
        self._retry, self._stop_retry = retry or Retry(), stop_retry
        self._client = ModelArtsClient(connection, lambda: session_of(connection, mask), self._retry, log, search)
        self._dialect = self._client.dialect
        self._catalogue = Catalogue(self._dialect, self._client.send, lifetime=list_lifetime)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.url!r})"

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and create the job; the same id never makes two jobs.

        The job is searched for first, and engine and flavour are chosen before anything is uploaded.

        :raises InvalidJob: if the job has no script, or needs what ModelArts does not offer.
        :raises JobConflict: if the id belongs to a job with other content.
        """
        from airflow_provider_jobapi.services.files.sources import measure_all

        plans.check_script(job)
        plans.check_requirements(job)
        sources = measure_all(job.files())
        inputs = job.job_file(each.as_input() for each in sources.values()).job.inputs or ()
        digest = plans.job_digest(job, sources)
        if (existing := self._existing(job_id)) is not None:
            submission, known = existing
            check_same(submission.handle["name"], known, digest)
            self._write_tombstone(submission.handle, digest)  # the worker that created the job may have been killed
            return replace(submission, inputs=inputs)
        if job.completion_time and read_span(job.completion_time) is None:
            self._log.warning(
                f"completion_time {job.completion_time!r} is not a duration, so the job's run time is not limited."
            )
        plan = self._plan(job, job_id, digest)
        installs = not isinstance(plan.engine, CustomImage)
        directory, handover = self._directory(job, job_id, digest), self._handover(job)
        files = plans.files(job, job_id, sources, installs=installs) | handover.files(plans.DATA)
        self._upload(job_id, directory, files)
        handover.complete(job_id, f"{directory}/{plans.DATA}", plan.output)
        with self._client.creating(job_id):
            key, measured = self._create(job, plan, job_id, digest)
            handle = self._client.handle(job_id, plan.name, key, plan.output)
            self._write_tombstone(handle, digest)
        return Submission(handle, measured, inputs)

    def find(self, job_id: str) -> Submission:
        """Find a job by its id.

        :raises JobNotFound: if the id was never used.
        :raises JobGone: if it was, and the job was deleted.
        """
        if (unanswered := self._client.find_unanswered(job_id)) is not None:
            return unanswered
        existing = self._existing(job_id)
        if existing is None:
            raise JobNotFound(f"ModelArts has no job with the id {job_id}.")
        return existing[0]

    def status(self, handle: Handle) -> JobStatus:
        """Return the state of the job.

        :raises JobGone: if the job was deleted.
        """
        status = self._status(handle)
        unclear = status.status is JobState.FAILED and status.exit_code in {None, boot.TIME_OVER}
        if unclear and any(boot.OVER in line for line in self.last_lines(handle, END_LINES)):
            return status.model_copy(update={"reason": Reason.COMPLETION_TIME_EXCEEDED})
        return status

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Return the last lines of the logs of all machines, at most ``count``; none if they cannot be read."""
        dialect, key = read_handle(handle)
        until = time.monotonic() + TAIL_SECONDS
        found: list[tuple[str, ...]] = []
        try:
            call = dialect.logs(key)
            logs = (
                self._client.details(handle, TAIL_RETRY)[0].tasks
                if call is None
                else dialect.read_logs(self._client.send(call, TAIL_RETRY))
            )
            for log in logs[:count]:
                lines = dialect.read_tail(self._client.send(dialect.tail(key, log, count), TAIL_RETRY))[-count:]
                found.append(tuple(f"[{log}] {line}" for line in lines) if len(logs) > 1 else lines)
                if time.monotonic() > until:
                    break
        except TrainingError as error:
            self._log.warning(f"The last log lines of job {_job_id(handle)} are incomplete: {error}")
        return fair_shares(found, count)

    def stop(self, handle: Handle) -> None:
        """Request that the job be stopped; no error if it has ended or was deleted. Safe for signal handlers."""
        dialect, key = read_handle(handle)
        with self._client.separate(self._stop_retry) as client:
            try:
                client.send(dialect.stop(key))
            except (AlreadyEnded, JobGone):
                pass
            except ServiceUnavailable:
                raise
            except TrainingError:
                # A job that has ended may be refused with other codes than those documented.
                if not client.is_over(handle):
                    raise

    def delete(self, handle: Handle) -> None:
        """Delete the job and its log, not its files in OBS. No error if the job was deleted before.

        :raises JobConflict: if the job has not ended.
        """
        try:
            status = self._status(handle).status
            if not status.ended:
                raise JobConflict(
                    f"Job {_job_id(handle)} is {status} and was not deleted: stop it, wait for its end, and delete it "
                    "then."
                )
            dialect, key = read_handle(handle)
            self._client.send(dialect.delete(key))
        except (AlreadyEnded, JobGone):
            pass

    def model(self, handle: Handle) -> Model | None:
        """Return the model that the job wrote; None if it wrote none. Hashes that OBS does not know are None."""
        found = self._find_model(handle, compute_hashes=False)[1]
        return None if found is None else Model(found.kind, tuple(found.keys), found.root, found.unsafe)

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | int | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the job's model into ``<destination>/<version>/``, completely or not at all.

        :raises NoSavedModel: if the job wrote no model, or none of this kind.
        :raises JobConflict: if the job has not ended, or the destination has another model.
        """
        from airflow_provider_jobapi.services.files.destinations import destination_of
        from airflow_provider_jobapi.services.files.models import check_kind, fetch, no_model

        job_id = _job_id(handle)
        ended = self._end_time(handle)
        store, found = self._find_model(handle, kind)
        if found is None:
            more = "On ModelArts, files outside of MODEL_DIR are lost with the job's machine."
            status = self.status(handle)
            if status.status is JobState.FAILED:  # the boot file may have said why
                more = next((line for line in self.last_lines(handle, END_LINES) if UNKEPT in line), more)
            raise no_model(job_id, more, status)
        check_kind(job_id, kind, found.kind)
        target = destination_of(destination, ended if version is None else str(version))
        fetched = fetch(job_id, found.keys, target, lambda: store, self._retry, self._log, self._meters, found.kind)
        return replace(fetched, unsafe=found.unsafe)

    def follower(self, handle: Handle) -> LogFollower:
        """Return a follower of this job for the triggerer."""
        from airflow_provider_jobapi.services.modelarts.follower import ModelArtsFollower

        return ModelArtsFollower(self.connection, handle, self._mask)

    def _status(self, handle: Handle) -> JobStatus:
        return self._client.details(handle)[0].status.model_copy(update={"job_id": _job_id(handle)})

    def _existing(self, job_id: str) -> tuple[Submission, str | None] | None:
        """Return the job of an id, and the digest of its content if known; None if the id was never used.

        A search finds only jobs of this dialect, and new ones late; the tombstone in OBS covers the others.

        :raises JobGone: if the job was deleted.
        """
        if (found := self._client.search(job_id)) is not None:
            return self._client.submission(job_id, found[0]), plans.digest_in(found[0].description)
        store = self._store(self.connection.bucket)
        tombstone = self._retry.call(lambda: tombstones.read(store, self.connection.prefix, job_id), self._log)
        if tombstone is None:
            return None
        return Submission(tombstone.handle, self._client.details(tombstone.handle)[1]), tombstone.digest

    def _write_tombstone(self, handle: Handle, digest: str) -> None:
        """Record in OBS that the job was created. A failure is logged only: the job does not need the record."""
        store, tombstone = self._store(self.connection.bucket), tombstones.Tombstone(handle, digest)
        try:
            TOMBSTONE_RETRY.call(lambda: tombstones.write(store, self.connection.prefix, tombstone), self._log)
        except TrainingError as error:
            self._log.warning(
                f"Cannot record in OBS that job {_job_id(handle)} was created: {error} If the job is deleted on "
                "ModelArts, a retry will not know that it existed."
            )

    def _plan(self, job: TrainingJob, job_id: str, digest: str) -> plans.Plan:
        plans.check_env(job)
        options = plans.Options.of(job.service_options, job.nodes)
        overrides = self._dialect.overrides(options.more)
        flavor = None if overrides.flavor else self._flavor(job, options.flavor, overrides.nodes or options.nodes)
        engine = None if overrides.engine else self._catalogue.engine(job, options.engine, self.connection.engine)
        folder = f"/{self.connection.bucket}/{self._directory(job, job_id, digest)}/"
        return plans.Plan(
            name=plans.job_name(job.name, job_id),
            description=plans.description(job_id, digest),
            workspace_id=self.connection.workspace_id,
            code=f"{folder}{plans.CODE}",
            boot_file=plans.BOOT_FILE,
            data=f"{folder}{plans.DATA}",
            output=f"{folder}{plans.OUTPUT}",
            engine=engine,
            flavor=None if flavor is None else flavor.code,
            spec_id=None if flavor is None else flavor.id,
            nodes=options.nodes,
            env=tuple((each.name, each.value) for each in job.env),
            more=options.more,
        )

    def _flavor(self, job: TrainingJob, named: str | None, nodes: int) -> Flavor:
        chosen = self._catalogue.flavor(job, named, nodes)
        self._log.info(f"The job will run on flavour {chosen}.")
        return chosen

    def _create(self, job: TrainingJob, plan: plans.Plan, job_id: str, digest: str) -> tuple[ModelArtsKey, timedelta]:
        try:
            return self._client.create(plan, job_id, digest)
        except SoldOut as error:
            self._catalogue.clear()
            fitting = self._catalogue.fitting(job, plan.nodes)
            raise QuotaReached(f"{str(error).rstrip('.')}{fitting and f'; {fitting}'}.") from None
        except FlavorRefused as error:
            if plan.flavor is None:
                raise
            self._catalogue.clear()
            fitting = self._catalogue.fitting(job, plan.nodes)
            raise InvalidJob(
                f"{str(error).rstrip('.')}; the request was for flavour {plan.flavor}{fitting and f'; {fitting}'}.",
                field="service_options",
            ) from None

    def _upload(self, job_id: str, directory: str, sources: Mapping[str, Source]) -> None:
        from airflow_provider_jobapi.services.files.transfers import upload

        title = f"Uploading the files of job {job_id}"
        store = self._store(self.connection.bucket)
        upload(store, directory, sources, self._retry, self._log, title, self._meters)

    def _handover(self, job: TrainingJob) -> CheckpointHandover:
        connection = self.connection
        store = self._store(connection.bucket)
        return CheckpointHandover(job, store, connection, self._retry, self._log, lambda name: self.find(name).handle)

    def _directory(self, job: TrainingJob, job_id: str, digest: str) -> str:
        """Return the folder of a job's files. It depends on the content, so it has no files of an earlier attempt."""
        return f"{self.connection.prefix}/{job.name}-{job_id}/{digest[:12]}"

    def _find_model(
        self, handle: Handle, kind: str | None = None, *, compute_hashes: bool = True
    ) -> tuple[ObjectStore, ModelInObs | None]:
        """Return the bucket of the job's output, and the model there."""
        from airflow_provider_jobapi.services.modelarts.obs import bucket_and_key, find_model

        bucket, folder = bucket_and_key(handle_text(handle, "output"))
        store = self._store(bucket)
        find = partial(find_model, store, folder, kind, compute_hashes=compute_hashes)
        return store, self._retry.call(find, self._log)

    def _store(self, bucket: str) -> S3Store:
        from airflow_provider_jobapi.services.modelarts.obs import store_of

        return store_of(self.connection, bucket)

    def _end_time(self, handle: Handle) -> str:
        """Return the Unix time at which the job ended, the default version as in TensorFlow Serving's examples.

        :raises JobConflict: if it has not ended.
        """
        status = self._status(handle)
        if not status.status.ended:
            raise JobConflict(f"Job {_job_id(handle)} has not ended, so there is no model yet; wait for its end.")
        ended = status.finish_time or status.start_time or status.submission_time
        if ended is None:
            raise BrokenContract(f"ModelArts reports no time for the end of job {_job_id(handle)}.")
        return str(max(1, int(ended.timestamp())))


def _job_id(handle: Handle) -> str:
    return handle_text(handle, "job_id")
