# SPDX-License-Identifier: Apache-2.0
"""The errors of this provider, distinguished by what the user has to do.

::

    TrainingError
    ├── InvalidJob              fix the job: a field, a file name, a requirement
    ├── JobEnded                the job ran and its end is not what was asked for
    │   ├── JobFailed           fix the script or its limits; holds the reason, the exit code, the last log lines
    │   ├── JobStopped          a user or a limit stopped it
    │   └── NoSavedModel        write a model of this kind, or do not fetch one
    ├── JobNotFound             the service never had this job
    ├── JobGone                 the service had it, and its retention is over
    ├── JobConflict             this id belongs to another job, or the job's state does not allow this
    ├── ConnectionProblem       fix the connection: its address, its client, its secret, its certificates
    ├── QuotaReached            ask for quota, or free some
    ├── ServiceUnavailable      wait: it is safe to repeat
    └── BrokenContract          the service said something that its contract does not know
"""

from __future__ import annotations


class TrainingError(Exception):
    """Everything that this provider raises on purpose."""


class InvalidJob(TrainingError, ValueError):
    """The job is not one that a service could run.

    :param message: One sentence that names the field and says what is allowed.
    :param field: The field's path, such as ``job.execution.resources.memory``, where one field is to blame.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class JobEnded(TrainingError):
    """The job is over and not successful."""


class JobFailed(JobEnded):
    """The job ended FAILED.

    :param message: The sentence for the user, the last log lines included.
    :param reason: The service's word for it, such as ``OutOfMemory``.
    :param exit_code: The exit code of the job's command, where it has one.
    """

    def __init__(self, message: str, *, reason: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class JobStopped(JobEnded):
    """The job ended STOPPED: by a person, by a limit, or by another program."""


class NoSavedModel(JobEnded):
    """The job left no model, or none of the kind that was asked for."""


class JobNotFound(TrainingError):
    """The service does not know this job id."""


class JobGone(TrainingError):
    """The service knew this job id; the job was deleted or its retention is over. A used id is never free."""


class JobConflict(TrainingError):
    """The id belongs to a job with another content, or the job's state does not allow this."""


class ConnectionProblem(TrainingError):
    """The service refuses this connection: wrong address, wrong client or secret, certificate not trusted."""


class QuotaReached(TrainingError):
    """The service has no room left for this client."""


class ServiceUnavailable(TrainingError):
    """The service cannot be reached or is busy; the same call may work later.

    :param message: What was tried and what came back.
    :param retry_after: Seconds after which the service asks to be called again, where it says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BrokenContract(TrainingError):
    """The service's answer cannot be understood: a wrong address, a wrong version, or a fault on its side."""


def describe(error: BaseException) -> str:
    """An error as one sentence, preceded by its type where its text is not a sentence."""
    text = " ".join(str(error).split())
    if text.endswith((".", "!", "…")):
        return text
    return ": ".join(filter(None, (type(error).__name__, text))) + "."
