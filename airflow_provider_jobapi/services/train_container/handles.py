# SPDX-License-Identifier: Apache-2.0
"""The handle of a job on a container engine. It has no secret, and nothing that the container's labels say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract


@dataclass(frozen=True, slots=True)
class JobHandle:
    """What finds a job again.

    :ivar job_id: The id that this provider derived.
    :ivar container: The name of its container.
    :ivar command: The command of the Train API.
    """

    job_id: str
    container: str
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the handle as the JSON-able value that Airflow keeps."""
        return asdict(self)

    @classmethod
    def of(cls, handle: dict[str, Any]) -> JobHandle:
        """Read a handle; fields of a later version are ignored.

        :raises BrokenContract: when it is not a handle of this service.
        """
        texts = {name: handle.get(name) for name in ("job_id", "container", "command")}
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise BrokenContract("The job was not submitted to a container engine: its handle has other fields.")
        return cls(**{name: str(text) for name, text in texts.items()})
