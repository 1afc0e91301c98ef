# SPDX-License-Identifier: Apache-2.0
"""ModelArts as a :class:`~airflow_provider_jobapi.services.base.TrainingService`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    JobConflict,
    JobGone,
    JobNotFound,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.base import FetchedModel, Handle, Model, Submission
from airflow_provider_jobapi.services.files import tombstones
from airflow_provider_jobapi.services.modelarts import boot, planning
from airflow_provider_jobapi.services.modelarts.catalogue import Catalogue
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.engines import CustomImage
from airflow_provider_jobapi.services.modelarts.jobs import Jobs, check_same
from airflow_provider_jobapi.services.modelarts.mapping import Key, Plan, key_of, text_of
from airflow_provider_jobapi.services.modelarts.refusals import AlreadyEnded, SoldOut
from airflow_provider_jobapi.services.modelarts.session import Mask, session_of
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason
from airflow_provider_jobapi.training.units import read_span

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.files.stores import ObjectStore
    from airflow_provider_jobapi.services.files.transfers import Meters

_log = logging.getLogger(__name__)

STOP = Retry(total=10.0, attempts=5)
"""A stop is asked for while a worker is being killed, which has seconds left."""

TAIL = Retry(total=10.0, attempts=3)
"""The last lines of a log are shown to somebody who waits, and missed by nobody else."""

LONGEST_TAIL = 30.0
"""Seconds for which logs are read for their last lines; of many machines, those of the first."""

OVERS = 20
"""Among how many last lines that of our boot file is looked for."""

MARK = Retry(total=10.0, attempts=4)
"""A job that was created runs on without its mark."""


class ModelArtsService:
    """Runs jobs on ModelArts. Opens nothing before it is used.

    :param connection: Where, and as whom.
    :param mask: Told each secret that was not in the connection, so that logs can hide it.
    :param log: Where transfers tell how far they are.
    :param retry: How a call is repeated while the service is unavailable.
    :param meters: What shows how far a transfer is, in place of lines in the log.
    """

    def __init__(
        self,
        connection: ModelArtsConnection,
        *,
        mask: Mask = lambda _: None,
        log: logging.Logger = _log,
        retry: Retry | None = None,
        meters: Meters | None = None,
    ) -> None:
        self.connection = connection
        self._mask = mask
        self._log = log
        self._meters = meters
        self._retry = retry or Retry()
        self._jobs = Jobs(connection, lambda: session_of(connection, mask), self._retry, log)
        self._dialect = self._jobs.dialect
        self._catalogue = Catalogue(self._dialect, self._jobs.send)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.url!r})"

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and create the job; the same id is the same job.

        The job is looked up first, and everything that can be refused without an upload is asked before it.

        :raises InvalidJob: for a job without a script, and for what ModelArts does not offer.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        from airflow_provider_jobapi.services.files.sources import measure_all

        planning.check_script(job)
        sources = measure_all(job.files())
        inputs = tuple(each.as_input() for each in sources.values())
        digest = planning.digest_of(job, sources)
        if (there := self._there(job_id)) is not None:
            submission, known = there
            check_same(submission.handle["name"], known, digest)
            self._mark(submission.handle, digest)  # whoever created it may have been killed before
            return replace(submission, inputs=inputs)
        if job.completion_time and read_span(job.completion_time) is None:
            self._log.warning(
                f"completion_time {job.completion_time!r} cannot be read as a span of time, so the time is not limited."
            )
        plan = self._plan(job, job_id, digest)
        installs = not isinstance(plan.engine, CustomImage)
        self._upload(
            job_id, self._directory(job, job_id, digest), planning.files(job, job_id, sources, installs=installs)
        )
        with self._jobs.creating(job_id):
            key, measured = self._create(job, plan, job_id, digest)
            handle = self._jobs.handle(job_id, plan.name, key, plan.output)
            self._mark(handle, digest)
        return Submission(handle, measured, inputs)

    def find(self, job_id: str) -> Submission:
        """Find a job by its id.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when it was, and somebody deleted the job.
        """
        if (late := self._jobs.find_late(job_id)) is not None:
            return late
        there = self._there(job_id)
        if there is None:
            raise JobNotFound(f"ModelArts has no job of the id {job_id}.")
        return there[0]

    def status(self, handle: Handle) -> JobStatus:
        """Where the job stands.

        :raises JobGone: when somebody deleted it.
        """
        status = self._standing(handle)
        unclear = status.status is JobState.FAILED and status.exit_code in {None, boot.TIME_OVER}
        if unclear and any(boot.OVER in line for line in self.last_lines(handle, OVERS)):
            return status.model_copy(update={"reason": Reason.COMPLETION_TIME_EXCEEDED})
        return status

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """The last lines of the logs of all machines, at most ``count``; none when they cannot be read."""
        dialect, key = key_of(handle)
        until = time.monotonic() + LONGEST_TAIL
        found: list[tuple[str, ...]] = []
        try:
            asked = dialect.logs(key)
            logs = (
                self._jobs.details(handle, TAIL)[0].tasks
                if asked is None
                else dialect.read_logs(self._jobs.send(asked, TAIL))
            )
            for log in logs[:count]:
                lines = dialect.read_tail(self._jobs.send(dialect.tail(key, log, count), TAIL))[-count:]
                found.append(tuple(f"[{log}] {line}" for line in lines) if len(logs) > 1 else lines)
                if time.monotonic() > until:
                    break
        except TrainingError as error:
            self._log.warning(f"The log of job {_job_id(handle)} cannot be read to its end: {error}")
        return fair_shares(found, count)

    def stop(self, handle: Handle) -> None:
        """Ask ModelArts to stop the job; one that has ended or is gone is no error. For signal handlers, too."""
        dialect, key = key_of(handle)
        with self._jobs.apart(STOP) as jobs:
            try:
                jobs.send(dialect.stop(key))
            except (AlreadyEnded, JobGone):
                pass
            except ServiceUnavailable:
                raise
            except TrainingError:
                # There are more codes for a job that has ended than are documented for a stop.
                if not jobs.is_over(handle):
                    raise

    def delete(self, handle: Handle) -> None:
        """Delete the job and its log for good; one that is gone is no error. Its files in OBS stay where they are.

        :raises JobConflict: when it has not ended.
        """
        try:
            status = self._standing(handle).status
            if not status.ended:
                raise JobConflict(
                    f"Job {_job_id(handle)} is {status} and was not deleted: stop it, wait for its end, and delete it "
                    "then."
                )
            dialect, key = key_of(handle)
            self._jobs.send(dialect.delete(key))
        except (AlreadyEnded, JobGone):
            pass

    def model(self, handle: Handle) -> Model | None:
        """Return the SavedModel that the job has left; None when it left none."""
        from airflow_provider_jobapi.services.files.fetching import SAVED_MODEL
        from airflow_provider_jobapi.services.modelarts.output import model_files, place

        bucket, folder = place(text_of(handle, "output"))
        keys = self._retry.call(lambda: model_files(self._store(bucket), folder), self._log)
        return None if keys is None else Model(SAVED_MODEL, tuple(keys))

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | int | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the job's SavedModel into ``<destination>/<version>/``, all of it or none.

        :raises NoSavedModel: when the job wrote none.
        :raises JobConflict: when the job has not ended, or another model is there.
        """
        from airflow_provider_jobapi.services.files.destinations import place_of
        from airflow_provider_jobapi.services.files.fetching import check_kind, fetch, no_model
        from airflow_provider_jobapi.services.modelarts.output import model_files, place

        job_id = _job_id(handle)
        check_kind(job_id, kind)
        ended = self._end(handle)
        bucket, folder = place(text_of(handle, "output"))
        store = self._store(bucket)
        keys = self._retry.call(lambda: model_files(store, folder), self._log)
        if keys is None:
            raise no_model(job_id)
        target = place_of(destination, ended if version is None else str(version))
        return fetch(job_id, keys, target, lambda: store, self._retry, self._log, self._meters)

    def follower(self, handle: Handle) -> LogFollower:
        """A follower of this job for the triggerer."""
        from airflow_provider_jobapi.services.modelarts.follower import ModelArtsFollower

        return ModelArtsFollower(self.connection, handle, self._mask)

    def _standing(self, handle: Handle) -> JobStatus:
        return self._jobs.details(handle)[0].status.model_copy(update={"job_id": _job_id(handle)})

    def _there(self, job_id: str) -> tuple[Submission, str | None] | None:
        """The job of an id, and the digest of its content where that is known; None for an id that was never used.

        A search finds what this dialect has, and not at once; the mark in OBS tells what else there was.

        :raises JobGone: when somebody deleted the job.
        """
        if (found := self._jobs.search(job_id)) is not None:
            return self._jobs.submission(job_id, found[0]), planning.digest_in(found[0].description)
        store = self._store(self.connection.bucket)
        mark = self._retry.call(lambda: tombstones.read(store, self.connection.prefix, job_id), self._log)
        if mark is None:
            return None
        return Submission(mark.handle, self._jobs.details(mark.handle)[1]), mark.digest

    def _mark(self, handle: Handle, digest: str) -> None:
        """Keep in OBS that the job was created. The job goes on without it, so nothing fails for it."""
        store, mark = self._store(self.connection.bucket), tombstones.Mark(handle, digest)
        try:
            MARK.call(lambda: tombstones.write(store, self.connection.prefix, mark), self._log)
        except TrainingError as error:
            self._log.warning(
                f"It could not be kept in OBS that job {_job_id(handle)} was created: {error} "
                "Should somebody delete the job, a retry would not know that there has been one."
            )

    def _plan(self, job: TrainingJob, job_id: str, digest: str) -> Plan:
        planning.check_env(job)
        options = planning.Options.of(job.service_options, job.nodes)
        named = self._dialect.check(options.more)
        flavor = None if named.flavor else self._flavor(job, options)
        engine = None if named.engine else self._catalogue.engine(job, options, self.connection.engine)
        folder = f"/{self.connection.bucket}/{self._directory(job, job_id, digest)}/"
        return Plan(
            name=planning.job_name(job.name, job_id),
            description=planning.description(job_id, digest),
            workspace_id=self.connection.workspace_id,
            code=f"{folder}{planning.CODE}",
            boot_file=planning.BOOT_FILE,
            data=f"{folder}{planning.DATA}",
            output=f"{folder}{planning.OUTPUT}",
            engine=engine,
            flavor=flavor,
            nodes=options.nodes,
            env=tuple((each.name, each.value) for each in job.env),
            more=options.more,
        )

    def _flavor(self, job: TrainingJob, options: planning.Options) -> str:
        chosen = self._catalogue.flavor(job, options)
        self._log.info(f"The job is to run on {chosen}.")
        return chosen.code

    def _create(self, job: TrainingJob, plan: Plan, job_id: str, digest: str) -> tuple[Key, timedelta]:
        try:
            return self._jobs.create(plan, job_id, digest)
        except SoldOut as error:
            self._catalogue.forget()
            listed = self._catalogue.fitting(job, plan.nodes)
            raise QuotaReached(f"{str(error).rstrip('.')}{listed}.") from None

    def _upload(self, job_id: str, directory: str, sources: Mapping[str, Source]) -> None:
        from airflow_provider_jobapi.services.files.transfers import upload

        title = f"Uploading the files of job {job_id}"
        store = self._store(self.connection.bucket)
        upload(store, directory, sources, self._retry, self._log, title, self._meters)

    def _directory(self, job: TrainingJob, job_id: str, digest: str) -> str:
        """The job's own folder: another content has another one, so nothing of an earlier attempt is in it."""
        return f"{self.connection.prefix}/{job.name}-{job_id}/{digest[:12]}"

    def _store(self, bucket: str) -> ObjectStore:
        from airflow_provider_jobapi.services.modelarts.obs import store_of

        return store_of(self.connection, bucket)

    def _end(self, handle: Handle) -> str:
        """The Unix time at which the job ended, as TensorFlow Serving's examples number their versions.

        :raises JobConflict: when it has not.
        """
        status = self._standing(handle)
        if not status.status.ended:
            raise JobConflict(f"Job {_job_id(handle)} has not ended, so there is no model yet; wait for its end.")
        ended = status.finish_time or status.start_time or status.submission_time
        if ended is None:
            raise BrokenContract(f"ModelArts does not say when job {_job_id(handle)} ended.")
        return str(max(1, int(ended.timestamp())))


def fair_shares(logs: Sequence[tuple[str, ...]], count: int) -> tuple[str, ...]:
    """The last lines of several logs, at most ``count`` together: as many of each, and what one has not to the others,
    the first of them before.
    """
    shares = [0] * len(logs)
    while sum(shares) < count and (short := [i for i, log in enumerate(logs) if shares[i] < len(log)]):
        shares[min(short, key=lambda i: shares[i])] += 1
    return tuple(line for log, share in zip(logs, shares, strict=True) for line in log[len(log) - share :])


def _job_id(handle: Handle) -> str:
    return text_of(handle, "job_id")
