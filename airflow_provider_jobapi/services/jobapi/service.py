# SPDX-License-Identifier: Apache-2.0
"""The jobAPI service: submits, finds, stops jobs, reads their logs, fetches their models."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    JobConflict,
    JobNotFound,
    NoSavedModel,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.base import NO_CHECKPOINTS, FetchedModel, Handle, KeptWork, Model, Submission
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.client import Client, Mask
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.contract import Request, Storage
from airflow_provider_jobapi.services.jobapi.results import find_model, find_work, no_model
from airflow_provider_jobapi.services.jobapi.submit_checks import check_known, check_resume, check_supported
from airflow_provider_jobapi.services.jobapi.tokens import tokens_of
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_features import OBJECT_STREAMS, used_features
from airflow_provider_jobapi.training.job_file import JobFile, check_input_count
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobStatus

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.files.stores import ObjectStore
    from airflow_provider_jobapi.services.files.transfers import Meters
    from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower

_log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""The feature of a server that keeps the checkpoints of jobs."""

STOP = Retry(total=10.0, attempts=5)
"""The retry of a stop request, which a worker sends while it is being killed and has seconds left."""

LONGEST_TAIL = 30.0
"""Seconds, at the most, for reading a log to its last lines; the contract has no way to read from the end."""


class JobApiService:
    """Runs jobs on a jobAPI. Opens no connection before it is used.

    :param connection: The address, and the client's credentials.
    :param mask: Called with each secret that is not in the connection, a token or a key, so that logs can mask it.
    :param log: Gets the progress of transfers.
    :param retry: How a call is repeated while the service is unavailable.
    :param meters: Makes the meter that shows the progress of a transfer, in place of lines in the log.
    """

    keeps_checkpoints = True

    def __init__(
        self,
        connection: JobApiConnection,
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
        self._client = Client(connection, tokens_of(connection), mask, retry=self._retry, log=log)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.base_url!r})"

    def token(self) -> str:
        """Return a valid token of this connection."""
        return self._retry.call(self._client.token, self._log)

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the files that differ and submit the job; the same id is the same job.

        :raises InvalidJob: for what a jobAPI server cannot do: service options, several nodes, a job without a script,
            more than 10,000 files.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        from airflow_provider_jobapi.services.files.sources import measure_all

        check_supported(job)
        check_input_count(len(job.files()))
        sources = measure_all(job.files())
        return self.submit_file(job.job_file(each.as_input() for each in sources.values()), sources, job_id, job.cycle)

    def submit_file(self, job_file: JobFile, sources: Mapping[str, Source], job_id: str, cycle: str = "") -> Submission:
        """Upload the files that differ and submit a job file; the same id is the same job.

        The job is looked up first: a job that exists needs no files, and those of an active job must not change.

        :param sources: The files that the job file names as its inputs, by their path.
        :param cycle: What the jobs of one clear cycle of a task have in common.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        check_input_count(len(sources))
        request = contract.submit(job_id, job_file, cycle)
        for _ in range(3):
            there = self._is_there(job_id)
            try:
                if not there and (sources or used_features(job_file)):
                    self._upload(job_file, sources, job_id, cycle)
                return replace(self._submission(request, job_id), inputs=job_file.job.inputs or ())
            except JobConflict as error:
                # Another worker has submitted this job, or changed its files, since the look-up.
                if there:
                    raise
                conflict = error
        raise conflict

    def find(self, job_id: str) -> Submission:
        """Find a job by its id.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when it was, and the job is gone.
        """
        return self._submission(contract.status(job_id), job_id)

    def status(self, handle: Handle) -> JobStatus:
        """Return the job's status."""
        job_id = _job_id(handle)
        return contract.read_status(self._client.send(contract.status(job_id)), job_id)

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Return the last lines of the job's log, ``count`` at most; empty when the log cannot be read."""
        lines: deque[str] = deque(maxlen=max(0, count))
        until = time.monotonic() + LONGEST_TAIL
        try:
            for chunk in self.read_log(handle):
                lines.extend(line.text for line in chunk.lines)
                if time.monotonic() > until:
                    break
        except TrainingError as error:
            self._log.warning(f"The log of job {_job_id(handle)} cannot be read to its end: {error}")
        return tuple(lines)

    def read_log(self, handle: Handle) -> Iterator[LogChunk]:
        """Read the log up to its current end, in chunks; a follower can continue at the last one's cursor."""
        job_id, offset, size = _job_id(handle), 0, None
        while size is None or offset < size:
            page = contract.read_log_page(self._client.send(contract.log_page(job_id, offset)), offset)
            yield LogChunk(page.lines, {"offset": page.next_offset}, page.state, page.complete)
            if page.next_offset == offset:
                break
            size = page.size if size is None else size
            offset = page.next_offset

    def jobs(self, limit: int) -> tuple[list[JobStatus], bool]:
        """Return the newest jobs of the client, and whether there are more.

        :param limit: The most jobs; the service's own limit is 1,000.
        """
        return contract.read_job_page(self._client.send(contract.jobs(limit)))

    def stop(self, handle: Handle) -> None:
        """Ask the service to stop the job; may be called from a signal handler."""
        with self._client.isolated(STOP) as client:
            client.send(contract.stop(_job_id(handle)))

    def environment(self, handle: Handle) -> str | None:
        """Return the job's packages as requirements that install the same; None where no list of them is kept.

        :raises JobNotFound: when there is no such job.
        """
        job_id = _job_id(handle)
        try:
            return contract.read_environment(self._client.send(contract.environment(job_id)))
        except JobNotFound:
            self.status(handle)  # an earlier server knows the job, and keeps no list
            return None

    def model(self, handle: Handle) -> Model | None:
        """Return the model that the job has left; None when it left none."""
        found = find_model(self._client, _job_id(handle))
        return found and found[0]

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | int | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the job's model into ``<destination>/<version>/``, all of it or none.

        :param kind: The kind that the model must have; None for any. ``files`` fetches all of ``MODEL_DIR``, whatever
            it is.
        :raises NoSavedModel: when the job left no model, or none of this kind.
        :raises JobConflict: when the job has not ended, or another model is there.
        """
        from airflow_provider_jobapi.services.files.destinations import destination_of
        from airflow_provider_jobapi.services.files.models import check_kind, fetch

        job_id = _job_id(handle)
        found = find_model(self._client, job_id, kind)
        if found is None:
            raise no_model(self._client, job_id)
        model, keys = found
        check_kind(job_id, kind, model.kind)
        place = destination_of(destination, self._version(handle) if version is None else str(version))
        fetched = fetch(job_id, keys, place, self._store, self._retry, self._log, self._meters, model.kind)
        return replace(fetched, unsafe=model.unsafe)

    def work(self, handle: Handle) -> KeptWork | None:
        """Return what the job has left in its working directory; None where it is gone or empty.

        :raises JobConflict: when the job has not ended.
        :raises InvalidJob: when the service keeps no working directories.
        """
        return find_work(self._client, _job_id(handle))

    def fetch_work(self, handle: Handle, destination: Any, version: str | int | None = None) -> FetchedModel:
        """Fetch the files of the job's working directory into ``<destination>/<version>/``, all of them or none.

        :raises NoSavedModel: when it is gone or empty.
        :raises JobConflict: when the job has not ended, or other files are there.
        """
        from airflow_provider_jobapi.services.files.destinations import destination_of
        from airflow_provider_jobapi.services.files.models import fetch
        from airflow_provider_jobapi.services.jobapi.http_store import HttpStore

        job_id = _job_id(handle)
        kept = self.work(handle)
        if kept is None or not kept.files:
            raise NoSavedModel(
                f"The working directory of job {job_id} is gone, or has no files: it stays for a while after a job "
                "that failed, or wrote no model (--work-retention of the server)."
            )
        if kept.left_out:
            self._log.warning(
                f"{kept.left_out:,} entries of the working directory of job {job_id} are left out: links, special "
                "files, or names that not every system can write."
            )
        place = destination_of(destination, self._version(handle) if version is None else str(version))
        store = HttpStore(self._client, base=f"/jobs/{job_id}/work")
        keys = {file: file.path for file in kept.files}
        what = "working directory"
        return fetch(job_id, keys, place, lambda: store, self._retry, self._log, self._meters, what=what)

    def follower(self, handle: Handle) -> JobApiFollower:
        """Return a follower of this job for the triggerer."""
        from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower

        return JobApiFollower(self.connection, tokens_of(self.connection), _job_id(handle), self._mask)

    def storage(self) -> Storage:
        """Return the storage of the jobs' files.

        :raises ServiceUnavailable: when it is not ready, with the service's message.
        """
        return self._retry.call(self._ready_storage, self._log)

    def without_retry(self) -> JobApiService:
        """Return a copy with a short timeout and without retries, for checks whose answer a person waits for."""
        connection = replace(self.connection, timeout=min(10.0, self.connection.timeout))
        return JobApiService(connection, mask=self._mask, log=self._log, retry=Retry(attempts=1))

    def probe(self) -> None:
        """Check that the API answers.

        :raises TrainingError: when it does not answer as a jobAPI.
        """
        contract.read_jobs(self._client.send(contract.jobs(1)))

    def probe_storage(self) -> Storage:
        """Check that the storage is ready and can be listed.

        :raises TrainingError: when it is not ready, or cannot be listed.
        """
        storage = self.storage()
        next(iter(self._open(storage).list_objects("jobs/")), None)
        return storage

    def _ready_storage(self) -> Storage:
        storage = contract.read_storage(self._client.send_once(contract.storage()))
        if storage.secret_key:
            self._mask(storage.secret_key)
        if storage.state != "READY":
            said = f" ({storage.message.rstrip('.')})" if storage.message else ""
            advice = "wait and run the task again" if storage.state == "PENDING" else "contact the service's operator"
            raise ServiceUnavailable(f"The service's storage is {storage.state[:40]}, not READY{said}; {advice}.")
        return storage

    def _store(self) -> ObjectStore:
        return self._open(self.storage())

    def _open(self, storage: Storage) -> ObjectStore:
        from airflow_provider_jobapi.services.jobapi.http_store import HttpStore
        from airflow_provider_jobapi.services.jobapi.http_streams import StreamingHttpStore

        if storage.protocol != "http":
            return s3_store(self.connection, storage)
        return StreamingHttpStore(self._client) if OBJECT_STREAMS in storage.features else HttpStore(self._client)

    def _upload(self, job_file: JobFile, sources: Mapping[str, Source], job_id: str, cycle: str) -> None:
        from airflow_provider_jobapi.services.files.transfers import upload

        storage = self.storage()
        storage.limits.check(job_file)
        check_known(job_file, sources, storage)
        if cycle and CHECKPOINTS not in storage.features:
            self._log.info(NO_CHECKPOINTS)
        if not sources:
            return
        if job_file.job.resume_from:
            check_resume(self._client, contract.submit(job_id, job_file, cycle))
        title = f"Uploading the files of job {job_id}"
        upload(self._open(storage), job_file.directory(job_id), sources, self._retry, self._log, title, self._meters)

    def _submission(self, request: Request, job_id: str) -> Submission:
        answer = self._client.send(request)
        contract.read_status(answer, job_id)
        return Submission({"job_id": job_id}, contract.read_skew(answer))

    def _is_there(self, job_id: str) -> bool:
        try:
            self.find(job_id)
        except JobNotFound:
            return False
        return True

    def _version(self, handle: Handle) -> str:
        """The Unix time at which the job ended, which TensorFlow Serving's examples use as version."""
        ended = self.status(handle).finish_time
        if ended is None:
            raise BrokenContract(f"The status of job {_job_id(handle)} has no finish time; pass a version.")
        return str(max(1, int(ended.timestamp())))


def s3_store(connection: JobApiConnection, storage: Storage) -> ObjectStore:
    """Return the S3 bucket of the storage, with the TLS and proxy settings of the connection.

    :raises BrokenContract: when the storage's fields are incomplete or invalid.
    """
    from airflow_provider_jobapi.services.files.stores import S3Access, S3Store, endpoint_url

    url = endpoint_url(storage.endpoint)
    contract.check_s3(storage, url)
    return S3Store(
        S3Access(
            url=url,
            bucket=storage.bucket,
            access_key=storage.access_key,
            secret_key=storage.secret_key,
            region=storage.region or "us-east-1",
            verify=connection.verify,
            roots=settings.authorities(connection.ca_bundle),
            proxy=connection.proxy_for(url),
            timeout=connection.timeout,
        )
    )


def _job_id(handle: Handle) -> str:
    job_id = handle.get("job_id") if isinstance(handle, dict) else None
    if not isinstance(job_id, str) or not job_id:
        raise BrokenContract(f"The job handle {handle!r} is invalid; expected {{'job_id': <id>}}.")
    return job_id
