# SPDX-License-Identifier: Apache-2.0
"""The errors that ``store`` and ``run`` raise for a client. ``http`` turns each class into a problem+json answer.

::

    ServerError
    ├── UnknownJob              the client never submitted this job
    ├── DeletedJob              the job was deleted, by its client or at the end of its retention
    ├── JobIdTaken              the id belongs to a job with another content
    ├── JobStillActive          the job has to end first
    ├── QueueFull               the client has too many PENDING jobs
    ├── ResourcesExceeded       the job asks for more than the whole server has
    ├── MissingInput            an input of the job is not in the storage
    ├── ChangedInput            an input in the storage is not the one that the job names
    ├── UnknownObject           the storage has no object with this key
    ├── UnknownFile             the working directory of a job has no file with this path
    ├── InvalidObjectKey        the text cannot be the key of an object
    ├── InvalidStream           the body with several objects is wrong
    ├── LostBytes               the bytes of an object are missing on the disk
    ├── OutOfSpace
    │   ├── StorageFull         the client has used up its storage
    │   └── DiskFull            the disk of the server is full
    ├── RemovedClient           the client was removed while it sent the request
    └── DatabaseBusy            the database is locked; the same call may succeed later

A job that is invalid in itself raises ``InvalidJob`` of :mod:`airflow_provider_jobapi.exceptions`, as on the worker.
"""

from __future__ import annotations

import errno


class ServerError(Exception):
    """The base of the errors that a client of the server gets to see.

    :param detail: What is wrong and what to do, in one sentence.
    :param field: The path of the invalid field in the job file, such as ``job.inputs[0]``, where there is one.
    """

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class UnknownJob(ServerError):
    """The client never submitted a job with this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id} of this client; submit it first.")


class DeletedJob(ServerError):
    """The job was deleted, by its client or at the end of its retention. Its id stays used.

    :param forgotten: Whether the database does not know the job, since an older copy of it was restored.
    """

    def __init__(self, job_id: str, *, forgotten: bool = False) -> None:
        why = "it was deleted, or its retention is over"
        if forgotten:
            why = "its id was used before, and the server's database, restored from a backup, does not know the job"
        super().__init__(f"The job {job_id} is gone: {why}. A used id is never free; take another.")


class JobIdTaken(ServerError):
    """The id belongs to a job with another content."""


class JobStillActive(ServerError):
    """The call is possible only after the job has ended."""


class QueueFull(ServerError):
    """The client has as many PENDING jobs as it may have."""


class ResourcesExceeded(ServerError):
    """The job asks for more CPUs, GPUs or memory than the whole server has."""


class MissingInput(ServerError):
    """An input that the job names is not in the storage."""


class ChangedInput(ServerError):
    """An input in the storage has another size or another SHA-256 than the job names."""


class UnknownObject(ServerError):
    """The storage has no object with this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no object {key!r} in the storage; upload it first.")


class UnknownFile(ServerError):
    """The working directory of an ended job has no file with this path."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The working directory of this job has no file {path[:200]!r}: list it again, since it may be removed."
        )


class InvalidObjectKey(ServerError):
    """The text cannot be the key of an object."""


class InvalidStream(ServerError):
    """A body with several objects is wrong: the line of one, its bytes, or the end."""


class LostBytes(ServerError):
    """The database knows an object whose bytes are missing on the disk."""


class RemovedClient(ServerError):
    """The client was removed from the server while it sent the request."""

    def __init__(self) -> None:
        super().__init__("The client of this token was removed from the server.")


class OutOfSpace(ServerError):
    """There is no room for the bytes."""


class StorageFull(OutOfSpace):
    """The client has used up its storage."""


class DiskFull(OutOfSpace):
    """The disk of the server, or the quota of the server's user, is full."""

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full and nothing of this request was kept: ask the server's operator to free some "
            "space, then repeat it."
        )


class DatabaseBusy(ServerError):
    """Another transaction holds the lock of the database for too long."""

    def __init__(self) -> None:
        super().__init__("The server's database is busy; repeat the request in a moment.")


def is_disk_full(error: OSError) -> bool:
    """Whether an error of the system means that the disk, or the quota of the server's user, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
