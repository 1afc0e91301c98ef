# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of jobs on ModelArts, which travel through their folders in OBS.

The boot file of a job copies them into its output folder. When the next job is submitted, the worker copies them,
inside OBS, into the data folder of that job. Which jobs belong together is recorded beside the tombstones::

    <prefix>/cycles/<cycle>/<time>-<job id>.json    {"output": "/bucket/…/output/"}
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob, JobGone, JobNotFound
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.files.sources import Source, measure
from airflow_provider_jobapi.services.files.stores import ObjectStore
from airflow_provider_jobapi.services.modelarts.boot_checkpoints import FOLDER
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.obs import bucket_and_key
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.units import count_text

_CYCLES = "cycles"
_LARGEST_LIST = 16 * 1024 * 1024


class CopyingStore(ObjectStore, Protocol):
    """A bucket in which objects can be copied."""

    def copy(self, key: str, target: str) -> None:
        """Copy an object."""


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """What a job left.

    :ivar job_id: The job.
    :ivar folder: The key of the folder of its newest state, with a ``/`` at its end.
    :ivar files: The entries of its list.
    """

    job_id: str
    folder: str
    files: tuple[Mapping[str, Any], ...]

    def listing(self) -> dict[str, Source]:
        """The list for the job that continues it, by its path in the data folder."""
        content = json.dumps({"job_id": self.job_id, "files": list(self.files)})
        return {f"{FOLDER}.json": measure(f"{FOLDER}.json", content)}

    def copy(self, store: CopyingStore, data: str) -> None:
        """Copy the files into the data folder of a job.

        :param data: The key of the folder, with a ``/`` at its end.
        """
        for each in self.files:
            store.copy(f"{self.folder}{each['path']}", f"{data}{FOLDER}/{each['path']}")


def left_by(store: ObjectStore, bucket: str, job_id: str, output: str) -> CheckpointState | None:
    """Return the newest whole state in the output folder of a job; None where there is none.

    :param bucket: The bucket of the store.
    :param output: The folder as the job names it, such as ``/bucket/key/``.
    """
    place, key = bucket_and_key(output)
    if place != bucket:
        return None
    folder = f"{key}{FOLDER}/"
    sizes = {each.key.removeprefix(folder): each.size for each in store.list_objects(folder)}
    numbers = (int(found[1]) for path in sizes if (found := re.fullmatch(r"(\d{1,9})\.json", path)))
    for number in sorted(numbers, reverse=True):
        files = _read(store, f"{folder}{number}.json", "files")
        if isinstance(files, list) and all(sizes.get(f"{number}/{each['path']}") == each["size"] for each in files):
            return CheckpointState(job_id, f"{folder}{number}/", tuple(files))
    return None


def left_in_cycle(store: ObjectStore, bucket: str, prefix: str, cycle: str) -> CheckpointState | None:
    """Return the newest whole state that the jobs of a clear cycle left.

    :param prefix: What the keys of the service's own objects begin with.
    """
    for key, job_id in _jobs(store, f"{prefix}/{_CYCLES}/{cycle}/"):
        output = _read(store, key, "output")
        if isinstance(output, str) and (found := left_by(store, bucket, job_id, output)):
            return found
    return None


def record(store: ObjectStore, prefix: str, cycle: str, job_id: str, output: str) -> None:
    """Record that a job belongs to a clear cycle."""
    key = f"{prefix}/{_CYCLES}/{cycle}/{time.time_ns() // 10**6:015d}-{job_id}.json"
    store.put(key, measure("cycle", json.dumps({"output": output})), lambda _: None)


class CheckpointHandover:
    """What a job that is being submitted gets from an earlier one.

    :param handle_of: Finds the handle of a job by its id.
    :raises InvalidJob: when the job that ``resume_from`` names left nothing.
    """

    def __init__(
        self,
        job: TrainingJob,
        store: CopyingStore,
        connection: ModelArtsConnection,
        retry: Retry,
        log: logging.Logger,
        handle_of: Callable[[str], Handle],
    ) -> None:
        self._job = job
        self._store = store
        self._connection = connection
        self._retry = retry
        self._log = log
        self._left = retry.call(self._of_cycle, log) if job.cycle else None
        if self._left is None and job.resume_from:
            self._left = self._named(handle_of)

    def files(self, data: str) -> dict[str, Source]:
        """The list for the boot file, by its path in the job's folder.

        :param data: The data folder, with a ``/`` at its end.
        """
        listing = {} if self._left is None else self._left.listing()
        return {f"{data}{path}": source for path, source in listing.items()}

    def complete(self, job_id: str, data: str, output: str) -> None:
        """Copy the checkpoints, and record to which clear cycle the job belongs, before it is created.

        :param data: The key of the data folder, with a ``/`` at its end.
        :param output: The job's output folder.
        """
        if (left := self._left) is not None:
            self._log.info(
                f"The job continues the checkpoints of job {left.job_id} ({count_text(len(left.files), 'file')})."
            )
            self._retry.call(lambda: left.copy(self._store, data), self._log)
        if self._job.cycle:
            prefix, cycle = self._connection.prefix, self._job.cycle
            self._retry.call(lambda: record(self._store, prefix, cycle, job_id, output), self._log)

    def _of_cycle(self) -> CheckpointState | None:
        return left_in_cycle(self._store, self._connection.bucket, self._connection.prefix, self._job.cycle)

    def _named(self, handle_of: Callable[[str], Handle]) -> CheckpointState:
        job_id = self._job.resume_from
        try:
            output = str(handle_of(job_id)["output"])
        except (JobNotFound, JobGone) as error:
            raise InvalidJob(f"resume_from names a job that is not there: {error}", field="resume_from") from None
        found = self._retry.call(lambda: left_by(self._store, self._connection.bucket, job_id, output), self._log)
        if found is None:
            raise InvalidJob(
                f"resume_from names job {job_id}, which left no whole checkpoint in OBS: name another one, or leave it "
                "out. Those of a job that was successful are gone unless it had keep_checkpoints.",
                field="resume_from",
            )
        return found


def _jobs(store: ObjectStore, folder: str) -> Iterator[tuple[str, str]]:
    keys = [each.key for each in store.list_objects(folder)]
    for key in sorted(keys, reverse=True):
        if found := re.fullmatch(r"\d{15}-([0-9a-f-]{36})\.json", key.removeprefix(folder)):
            yield key, found[1]


def _read(store: ObjectStore, key: str, name: str) -> Any:
    """Return a value of a small JSON object; None where it cannot be read."""
    content = b""
    try:
        with store.read(key, 0) as (_, chunks):
            for chunk in chunks:
                content += chunk
                if len(content) > _LARGEST_LIST:
                    return None
        return json.loads(content)[name]
    except (BrokenContract, ValueError, KeyError, TypeError):
        return None
