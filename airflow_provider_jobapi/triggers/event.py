# SPDX-License-Identifier: Apache-2.0
"""The one event with which a trigger ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.follow import End

__all__ = ["End", "TrainingEvent"]


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """The trigger's message to its task: small, and free of secrets, since Airflow logs it.

    :ivar end: Why following the job ended.
    :ivar job_id: The job.
    :ivar handle: What its service finds it by.
    :ivar detail: Which limit passed, or the last error of the service.
    :ivar metrics: The last value of each metric; ``"NaN"`` and the infinities are words.
    """

    end: End
    job_id: str
    handle: dict[str, Any]
    detail: str = ""
    metrics: dict[str, float | str] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """Return the event as JSON."""
        return asdict(self) | {"end": self.end.value}

    @classmethod
    def read(cls, payload: Any) -> TrainingEvent:
        """Read an event from its payload.

        :raises BrokenContract: when it is not an event of :class:`TrainingTrigger`.
        """
        try:
            event = cls(**payload)
            return cls(End(event.end), str(event.job_id), dict(event.handle), str(event.detail), dict(event.metrics))
        except (TypeError, ValueError):
            raise BrokenContract(
                f"The trigger sent {payload!r}, which is not an event of TrainingTrigger. Check that the triggerer and "
                "the worker run the same version of airflow-provider-jobapi."
            ) from None
