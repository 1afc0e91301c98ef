# SPDX-License-Identifier: Apache-2.0
"""The status of a job: its states, and the status object that all services are mapped to.

The object is the one that SAP's ``trainingClient`` documents, ``{"containerID", "finishTime", "job_id", "name",
"startTime", "status", "submissionTime"}``, with more fields: ``message``, ``reason``, ``exitCode``, ``storingTime``,
``dataVersion``, and where they are known ``progress``, ``remaining``, ``resumedFrom`` and ``checkpointSize``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer


class JobState(StrEnum):
    """The states of a job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"
    """Any other word of a service. The job counts as active: only a known word ends it."""

    @property
    def ended(self) -> bool:
        """Whether the job is over, successful or not."""
        return self in _ENDED

    @classmethod
    def read(cls, word: object) -> JobState:
        """Return the state of a status word in any spelling that services and their documents use."""
        return _WORDS.get(str(word).strip().upper(), cls.UNKNOWN)


_ONLY_WHERE_KNOWN = frozenset({"environment", "progress", "remaining", "resumedFrom", "checkpointSize"})
_ENDED = frozenset({JobState.SUCCESSFUL, JobState.FAILED, JobState.STOPPED})
_STATE_WORDS = {
    JobState.SUCCESSFUL: "was successful",
    JobState.FAILED: "failed",
    JobState.STOPPED: "was stopped",
}
_SPELLINGS = {
    JobState.PENDING: ("PENDING", "QUEUED", "SUBMITTED", "SCHEDULED", "WAITING", "NEW"),
    JobState.RUNNING: ("RUNNING", "STARTED", "PROCESSING", "STORING", "STOPPING"),
    JobState.SUCCESSFUL: ("SUCCESSFUL", "SUCCEEDED", "SUCCESS", "COMPLETED", "FINISHED"),
    JobState.FAILED: ("FAILED", "FAILURE", "ERROR", "DEAD"),
    JobState.STOPPED: ("STOPPED", "CANCELLED", "CANCELED", "KILLED", "TERMINATED", "ABORTED"),
}
_WORDS = {word: state for state, words in _SPELLINGS.items() for word in words}


class Reason(StrEnum):
    """Why a job ended FAILED or STOPPED."""

    NON_ZERO_EXIT = "NonZeroExit"
    OUT_OF_MEMORY = "OutOfMemory"
    COMPLETION_TIME_EXCEEDED = "CompletionTimeExceeded"
    ENVIRONMENT_FAILED = "EnvironmentFailed"
    STORAGE_FULL = "StorageFull"
    MODEL_UNREADABLE = "ModelUnreadable"
    LOST = "Lost"
    STOPPED = "Stopped"


def read_time(value: object) -> datetime | None:
    """Return a time from the wire; null, missing, blank and the year 1 (Go's zero time) mean that it is not set.

    :raises ValueError: when the text is neither unset nor a time.
    """
    if value is None or isinstance(value, datetime):
        return value
    text = str(value).strip()
    if not text or text.startswith("0001-01-01"):
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def write_time(moment: datetime | None) -> str | None:
    """Return a time as the service writes it: RFC 3339, UTC, milliseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_version(value: object) -> str | None:
    """Return a SHA-256 in hex; None for anything else."""
    return value if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else None


def _up_to(most: float) -> BeforeValidator:
    """Read a number from 0 to ``most``; anything else is not known."""

    def read(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return None
        return float(value)

    return BeforeValidator(read)


_CENTURY = 100 * 366 * 86_400.0


Moment = Annotated[
    datetime | None,
    BeforeValidator(read_time),
    PlainSerializer(write_time, return_type=str | None),
]


class JobStatus(BaseModel):
    """The status of a job as its service reports it; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    container_id: str = Field(
        default="", alias="containerID", description="where the job runs, in the engine's own words"
    )
    finish_time: Moment = Field(default=None, alias="finishTime", description="when the job ended")
    job_id: str = Field(default="", description="the id under which the job was submitted")
    name: str = Field(default="", description="the job's name")
    start_time: Moment = Field(default=None, alias="startTime", description="when the job began to run")
    status: Annotated[JobState, BeforeValidator(JobState.read)] = Field(description="the state of the job")
    submission_time: Moment = Field(default=None, alias="submissionTime", description="when the job was accepted")
    message: str = Field(default="", description="why it waits, how it ended: a sentence for people")
    reason: str | None = Field(default=None, description="why it failed or stopped, or Preparing, in one word")
    exit_code: int | None = Field(default=None, alias="exitCode", description="the exit code of the job's command")
    storing_time: Moment = Field(
        default=None,
        alias="storingTime",
        description="when the job's command had ended well and the storing of its model began",
    )
    data_version: Annotated[str | None, BeforeValidator(_read_version)] = Field(
        default=None,
        alias="dataVersion",
        description=(
            "the SHA-256 over the sorted lines '<name>\\0<sha256>\\n' of the job's data files; null without data"
        ),
    )
    resumed_from: str | None = Field(
        default=None,
        alias="resumedFrom",
        description="the job whose checkpoints this one continues; only in the status of such a job",
    )
    checkpoint_size: int | None = Field(
        default=None,
        alias="checkpointSize",
        description="the bytes of the checkpoints that the job left; only where it left some",
    )

    progress: Annotated[float | None, _up_to(1)] = Field(
        default=None, description="how far a running job is, from 0 to 1; only where it is known"
    )
    remaining: Annotated[float | None, _up_to(_CENTURY)] = Field(
        default=None, description="the seconds that a running job will still take; only where they are known"
    )
    environment: str | None = Field(
        default=None,
        description="where the list of the job's packages is, below `/api/v2/`; absent until its environment is made",
    )

    @property
    def stopping(self) -> bool:
        """Whether the job is being stopped and has not ended yet."""
        return not self.status.ended and self.reason == Reason.STOPPED

    @property
    def outlook(self) -> JobState:
        """The state for the decision to adopt the job: STOPPED also while it is being stopped."""
        return JobState.STOPPED if self.stopping else self.status

    @property
    def title(self) -> str:
        """The job for people, such as ``Job 1234 (train)``."""
        return f"Job {self.job_id} ({self.name})" if self.name else f"Job {self.job_id}"

    @property
    def cause(self) -> str:
        """Reason and exit code, such as ``NonZeroExit, exit code 3``; empty where neither is known."""
        code = None if self.exit_code is None else f"exit code {self.exit_code}"
        return ", ".join(filter(None, (self.reason, code)))

    def describe(self) -> str:
        """The state, cause and message in sentences, such as ``Job 1234 failed: NonZeroExit, exit code 3.``"""
        words = _STATE_WORDS.get(self.status, f"is {self.status}")
        cause = f": {self.cause}" if self.cause else ""
        return f"{self.title} {words}{cause}. {self.message}".rstrip()

    def to_wire(self) -> dict[str, Any]:
        """Return the status object as JSON. What is only known of some jobs is left out where it is not known."""
        wire = self.model_dump(mode="json", by_alias=True)
        return {name: value for name, value in wire.items() if value is not None or name not in _ONLY_WHERE_KNOWN}
