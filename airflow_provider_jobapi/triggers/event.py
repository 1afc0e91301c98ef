# SPDX-License-Identifier: Apache-2.0
"""The one event with which a trigger ends, and the closed set of words that it may say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract


class End(StrEnum):
    """Why the trigger stopped to follow a job. How the job ended is the service's to say."""

    OVER = "over"
    """The service said that the job is over."""

    TIMEOUT = "timeout"
    """A limit of the task passed; the job was told to stop."""

    UNREACHABLE = "unreachable"
    """The service did not answer for longer than the task's patience."""


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """What the trigger tells the task: small, and free of secrets, since Airflow logs it.

    :ivar end: Why the trigger stopped to follow the job.
    :ivar job_id: The job.
    :ivar handle: How its service finds it again.
    :ivar detail: Which limit passed, or the last thing that the service said.
    :ivar metrics: The last value of each metric; ``"NaN"`` and the infinities are words.
    """

    end: End
    job_id: str
    handle: dict[str, Any]
    detail: str = ""
    metrics: dict[str, float | str] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """The event as JSON."""
        return asdict(self) | {"end": self.end.value}

    @classmethod
    def read(cls, payload: Any) -> TrainingEvent:
        """Read an event.

        :raises BrokenContract: when it is not one that our trigger sends.
        """
        try:
            event = cls(**payload)
            return cls(End(event.end), str(event.job_id), dict(event.handle), str(event.detail), dict(event.metrics))
        except (TypeError, ValueError):
            raise BrokenContract(
                f"The trigger sent {payload!r}, which is no event of TrainingTrigger; "
                "the triggerer and the worker run different versions of airflow-provider-jobapi."
            ) from None
