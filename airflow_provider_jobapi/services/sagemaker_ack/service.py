# SPDX-License-Identifier: Apache-2.0
"""SageMaker through ACK, from a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import InvalidJob, JobConflict, JobGone, JobNotFound, TrainingError
from airflow_provider_jobapi.services.base import FetchedModel, Handle, LogFollower, Model, Submission
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack import names, schema
from airflow_provider_jobapi.services.sagemaker_ack.adoption import Adoption
from airflow_provider_jobapi.services.sagemaker_ack.aws_state import end_in_aws
from airflow_provider_jobapi.services.sagemaker_ack.checkpoints import PassingCheckpoints, copy_from
from airflow_provider_jobapi.services.sagemaker_ack.clients import Clients
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectExists, ObjectMissing
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.objects import Seen, TrainingJobs
from airflow_provider_jobapi.services.sagemaker_ack.records import RECORD_SECONDS, Records, stopped
from airflow_provider_jobapi.services.sagemaker_ack.spec import Identity, instances, sendable_metrics
from airflow_provider_jobapi.services.sagemaker_ack.status import Reading, read_job
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key, store_of
from airflow_provider_jobapi.services.sagemaker_ack.submission import Prepared, prepared
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobStatus
from airflow_provider_jobapi.training.units import read_span

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.stores import S3Store
    from airflow_provider_jobapi.services.files.transfers import Meters

_log = logging.getLogger(__name__)

STOP_RETRY = Retry(total=10.0, attempts=4, longest_wait=2.0)
"""For a stop, which a worker may send while it is being killed."""


class SageMakerAckService:
    """Runs jobs on SageMaker; see :class:`~airflow_provider_jobapi.services.base.TrainingService`.

    :param clients: The clients of Kubernetes and AWS.
    :param secrets: Returns what must not be in an object, since others can read it.
    :param retry: How each request is repeated while its service is unavailable.
    """

    keeps_checkpoints = True

    def __init__(
        self,
        connection: SageMakerConnection,
        clients: Clients,
        *,
        secrets: Callable[[], frozenset[str]] = frozenset,
        log: logging.Logger = _log,
        retry: Retry | None = None,
        meters: Meters | None = None,
        stop_retry: Retry = STOP_RETRY,
    ) -> None:
        self.connection = connection
        self.clients = clients
        self.namespace = connection.namespace or clients.kubernetes.namespace or "default"
        self._secrets = secrets
        self._log = log
        self._meters = meters
        self._retry, self._stop_retry = retry or Retry(), stop_retry
        self._jobs = TrainingJobs(clients.kubernetes)
        self._stores: dict[str, S3Store] = {}
        self._passing = PassingCheckpoints(self.store, connection, self._retry, log)
        self.records = Records(self.store, connection.prefix, self._retry, log)
        self.adoption = Adoption(self._jobs, self.records, self._retry, log)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.namespace!r}, {self.connection.region!r})"

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and create its object; the same id never makes two jobs.

        The object is checked by the cluster before anything is uploaded.

        :raises InvalidJob: when SageMaker or the cluster cannot run such a job.
        :raises JobConflict: when the id belongs to a job with other content.
        """
        identity = Identity(job_id, self.namespace, "")
        with prepared(job, job_id, self.namespace, self.connection, self._secrets) as made:
            handle = made.handle(identity, self.connection.region)
            if (existing := self._existing(job_id)) is not None:
                submission, digest = existing
                if digest not in {"", made.digest}:
                    raise JobConflict(
                        f"SageMaker already has a job {handle.name} with another script, data or options."
                    )
                self.records.created(submission.handle, made.digest)  # the worker that made it may have been killed
                return replace(submission, inputs=made.inputs)
            if job.completion_time and read_span(job.completion_time) is None:
                self._log.warning(
                    f"completion_time {job.completion_time!r} is not a duration, so the job may run for a day."
                )
            if (left_out := len(job.metric_definitions) - len(sendable_metrics(job))) > 0:
                self._log.info(f"{left_out} metric definitions are read here only: SageMaker cannot read such ones.")
            checked = self._check(made)
            self._upload(job_id, made)
            self._resume(job, handle.checkpoints)
            seen = self._create(made, handle)
            if not checked and (lost := schema.dropped(made.object["spec"], seen.object.get("spec", {}))):
                self._delete(self._jobs, handle)
                schema.check_known(lost)
        self.records.created(handle.to_json(), made.digest)
        return Submission(handle.to_json(), seen.skew, made.inputs)

    def find(self, job_id: str) -> Submission:
        """Find a job by its id.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when its object was deleted, and its end is not known.
        """
        existing = self._existing(job_id)
        if existing is None:
            raise JobNotFound(f"The namespace {self.namespace} has no job with the id {job_id}.")
        return existing[0]

    def status(self, handle: Handle) -> JobStatus:
        """Return the state of the job; where its object is gone, the last one that is known.

        The checkpoints of a successful job are removed, unless it keeps them. An object that was not accepted in time
        is deleted, since ACK would try it again for ever; one that was refused with the option ``delete_refused``.

        :raises JobGone: when its object was deleted by somebody else, and its end is not known.
        """
        found = JobHandle.of(handle)
        try:
            reading = self._reading(found)
        except ObjectMissing:
            return self.last_status(found)
        if reading.unmanaged:
            return self.adoption.take_up(found) or self._reading(found).status
        if reading.status.status.ended:
            self.records.ended(handle, reading.status)
        if reading.completed:
            self._passing.remove(found)
        if reading.unwanted:
            self._retry.call(lambda: self._delete(self._jobs, found), self._log)
        return reading.status

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Return the last lines of the logs of all instances, at most ``count``; none where they cannot be read."""
        from airflow_provider_jobapi.services.sagemaker_ack.log_tail import last_lines

        try:
            return last_lines(self.clients.aws, JobHandle.of(handle), count)
        except TrainingError as error:
            self._log.warning(f"The last log lines of job {handle.get('job_id')} cannot be read: {error}")
            return ()

    def stop(self, handle: Handle) -> None:
        """Delete the job's object, by which ACK stops the job; no error if it has ended or is gone.

        Its status is recorded before, since SageMaker's last word goes with the object. Safe for signal handlers.
        """
        found = JobHandle.of(handle)
        jobs = TrainingJobs(self.clients.kubernetes, timeout=self._stop_retry.total / 2)
        try:
            reading = self._stop_retry.call(lambda: self._reading(found, jobs))
            if reading.unmanaged:
                self.adoption.stop(found)
                return
            if not reading.may_go_on:
                return
            _within(RECORD_SECONDS, lambda: self.records.ended(handle, stopped(reading.status)))
            self._stop_retry.call(lambda: self._delete(jobs, found))
        except ObjectMissing:
            self.adoption.stop(found)
        finally:
            jobs.close()

    def delete(self, handle: Handle) -> None:
        """Delete the object of a job that has ended; no error if it is gone. SageMaker keeps the job for ever.

        :raises JobConflict: when the job has not ended.
        """
        found = JobHandle.of(handle)
        try:
            state = self.status(handle)
            if not state.status.ended:
                raise JobConflict(
                    f"Job {found.job_id} is {state.status} and was not deleted, which would stop it: stop it, and wait "
                    "for its end."
                )
            self._retry.call(lambda: self._delete(self._jobs, found), self._log)
        except JobGone:
            pass

    def model(self, handle: Handle) -> Model | None:
        """Return the model that the job left; None where it left none."""
        from airflow_provider_jobapi.services.sagemaker_ack.model import listed

        return listed(self.store, self._for_model(handle), self._artifacts(handle), self._retry, self._log)

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | int | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the job's model into ``<destination>/<version>/``, completely or not at all.

        :raises NoSavedModel: when the job left no model, or none of this kind.
        :raises JobConflict: when the job has not ended, or the destination has another model.
        """
        from airflow_provider_jobapi.services.sagemaker_ack.model import fetched

        found, state = self._for_model(handle), self.status(handle)
        if not state.status.ended:
            raise JobConflict(f"Job {found.job_id} has not ended, so there is no model yet; wait for its end.")
        ended = state.finish_time or state.start_time or state.submission_time
        named = str(max(1, int(ended.timestamp()))) if version is None and ended else str(version or 1)
        return fetched(
            self.store, found, self._artifacts(handle), (destination, named, kind), self._retry, self._log, self._meters
        )

    def follower(self, handle: Handle) -> LogFollower:
        """Return a follower of this job for the triggerer."""
        from airflow_provider_jobapi.services.sagemaker_ack.follower import SageMakerAckFollower

        return SageMakerAckFollower(self.connection, self.clients, handle, self)

    def store(self, bucket: str = "") -> S3Store:
        """Return a bucket, by default the connection's.

        :raises NoCredentials: when there are no credentials of AWS.
        """
        name = bucket or self.connection.bucket
        if name not in self._stores:
            self._stores[name] = store_of(self.clients.aws, name, self.connection.region)
        return self._stores[name]

    def _reading(self, handle: JobHandle, jobs: TrainingJobs | None = None) -> Reading:
        seen = self._seen(handle.namespace, handle.job_id) if jobs is None else _get(jobs, handle)
        return read_job(handle, seen.object, now=seen.now, accept_timeout=self.connection.accept_timeout)

    def _seen(self, namespace: str, job_id: str) -> Seen:
        return self._retry.call(lambda: self._jobs.get(namespace, names.object_name(job_id)), self._log)

    def _existing(self, job_id: str) -> tuple[Submission, str] | None:
        """Return the job of an id, and its digest, empty where it is not known; None where the id was never used.

        :raises JobGone: when its object was deleted, and its end is not known.
        """
        try:
            return _submission(self._seen(self.namespace, job_id), job_id)
        except ObjectMissing:
            pass
        tombstone = self.records.read(job_id)
        if tombstone is None:
            return None
        handle = JobHandle.of(tombstone.handle)
        if handle.namespace != self.namespace:  # the connection was edited
            with suppress(ObjectMissing):
                return _submission(self._seen(handle.namespace, job_id), job_id)
        try:
            self.last_status(handle)
        except JobGone:
            if (seen := self.adoption.find(handle, tombstone.digest)) is None:
                raise
            return _submission(seen, job_id)
        return Submission(tombstone.handle, timedelta(0)), tombstone.digest

    def last_status(self, handle: JobHandle) -> JobStatus:
        """Return how a job ended whose object is gone.

        :raises JobGone: when neither the record nor SageMaker says it.
        """
        tombstone = self.records.read(handle.job_id)
        if tombstone is None or tombstone.status is None:
            ended = end_in_aws(self.clients.aws, handle, self._log)
            if ended is not None:
                self.records.ended(handle.to_json(), ended)
                return ended
            raise JobGone(
                f"The TrainingJob of job {handle.job_id} was deleted from the namespace {handle.namespace} by "
                "somebody, which stops a job that runs."
            )
        return JobStatus.model_validate(tombstone.status)

    def _check(self, made: Prepared) -> bool:
        """Let the cluster check the object, and see what it would drop; whether the cluster can do that."""
        try:
            seen = self._retry.call(lambda: self._jobs.create(self.namespace, made.object, dry_run=True), self._log)
        except InvalidJob as error:
            if "dry run" not in str(error).lower():
                raise
            return False  # a webhook of this cluster knows no dry run
        except ObjectExists:
            return True
        schema.check_known(schema.dropped(made.object["spec"], seen.object.get("spec", {})))
        return True

    def _upload(self, job_id: str, made: Prepared) -> None:
        from airflow_provider_jobapi.services.files.transfers import upload

        if made.uploads:
            title = f"Uploading the files of job {job_id}"
            upload(self.store(), made.folder, made.uploads, self._retry, self._log, title, self._meters)

    def _resume(self, job: TrainingJob, target: str) -> None:
        """Copy the checkpoints of the job that ``resume_from`` names.

        :param target: The URL of the folder of this job's checkpoints; empty where it keeps none.
        """
        if not job.resume_from:
            return
        try:
            source = JobHandle.of(self.find(job.resume_from).handle).checkpoints
        except (JobNotFound, JobGone) as error:
            raise InvalidJob(f"resume_from names a job that is not there: {error}", field="resume_from") from None
        if not source or not target:
            which = "this job keeps" if source else f"job {job.resume_from}, which it names, kept"
            raise InvalidJob(f"resume_from cannot be used: {which} no checkpoints.", field="resume_from")
        store = self.store(bucket_and_key(target)[0])
        count = self._retry.call(lambda: copy_from(store, source, target, job.resume_from), self._log)
        if count:
            self._log.info(f"The job continues {count} files of checkpoints of job {job.resume_from}.")

    def _create(self, made: Prepared, handle: JobHandle) -> Seen:
        """Create the object, or find it where an answer was lost.

        :raises JobConflict: when the id belongs to a job with other content.
        """

        def create_once() -> Seen:
            try:
                return self._jobs.create(handle.namespace, made.object)
            except ObjectExists:
                seen = _get(self._jobs, handle)
                if _annotations(seen).get(names.DIGEST_ANNOTATION) not in {None, made.digest}:
                    raise JobConflict(
                        f"The namespace {handle.namespace} already has job {handle.name} with another script, data or "
                        "options."
                    ) from None
                return seen

        return self._retry.call(create_once, self._log)

    def _delete(self, jobs: TrainingJobs, handle: JobHandle) -> None:
        with suppress(ObjectMissing):
            jobs.delete(handle.namespace, names.object_name(handle.job_id))

    def _for_model(self, handle: Handle) -> JobHandle:
        """Return a handle that says whether the model is fetched packed."""
        found = JobHandle.of(handle)
        return found if found.packed is not None else replace(found, packed=not self.connection.unpack_model)

    def _artifacts(self, handle: Handle) -> str:
        """Return where the model is: as the object says, else where SageMaker puts it."""
        found = JobHandle.of(handle)
        try:
            reading = self._reading(found)
        except ObjectMissing:
            return names.model_url(found.output, found.name)
        return reading.artifacts or names.model_url(found.output, found.name)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do some work, and go on after some seconds although it is not done."""
    thread = threading.Thread(target=work, daemon=True, name="sagemaker record")
    thread.start()
    thread.join(seconds)


def _get(jobs: TrainingJobs, handle: JobHandle) -> Seen:
    return jobs.get(handle.namespace, names.object_name(handle.job_id))


def _annotations(seen: Seen) -> Mapping[str, Any]:
    found = seen.object.get("metadata", {}).get("annotations")
    return found if isinstance(found, Mapping) else {}


def _submission(seen: Seen, job_id: str) -> tuple[Submission, str]:
    """Return the job of an object, and its digest."""
    spec, annotations = seen.object.get("spec", {}), _annotations(seen)
    handle = JobHandle(
        job_id=job_id,
        namespace=str(seen.object.get("metadata", {}).get("namespace", "")),
        name=str(spec.get("trainingJobName", "")),
        region=str(annotations.get(names.REGION_ANNOTATION, "")),
        output=str(spec.get("outputDataConfig", {}).get("s3OutputPath", "")),
        instances=instances(spec),
        checkpoints=str(spec.get("checkpointConfig", {}).get("s3URI") or ""),
        packed=names.packed(annotations),
        passing=annotations.get(names.PASSING_ANNOTATION) == "true",
    )
    return Submission(handle.to_json(), seen.skew), str(annotations.get(names.DIGEST_ANNOTATION, ""))
