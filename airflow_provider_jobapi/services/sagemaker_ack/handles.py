# SPDX-License-Identifier: Apache-2.0
"""The handle of a job: where its object is in Kubernetes, its name in AWS, and its output in S3. It has no secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract


@dataclass(frozen=True, slots=True)
class JobHandle:
    """What finds a job again, also after its connection was edited.

    :ivar job_id: The id that this provider derived.
    :ivar namespace: The namespace of its object; the object's name follows from the id.
    :ivar name: Its ``trainingJobName``, of which the log streams' names begin.
    :ivar region: The AWS region.
    :ivar output: Its ``s3OutputPath``, such as ``s3://bucket/jobs/…/output``.
    :ivar instances: How many instances it has, and so streams of log.
    :ivar checkpoints: The URL of the folder of its checkpoints; empty where it keeps none.
    :ivar packed: Whether its model is fetched as the archive that SageMaker makes; None where the connection decides.
    :ivar passing: Whether its checkpoints are removed when it is successful.
    """

    job_id: str
    namespace: str
    name: str
    region: str
    output: str
    instances: int = 1
    checkpoints: str = ""
    packed: bool | None = None
    passing: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the handle as the JSON-able value that Airflow keeps."""
        return asdict(self)

    @classmethod
    def of(cls, handle: dict[str, Any]) -> JobHandle:
        """Read a handle; fields of a later version are ignored.

        :raises BrokenContract: when it is not a handle of this service.
        """
        texts = {name: handle.get(name) for name in ("job_id", "namespace", "name", "region", "output")}
        instances, packed = handle.get("instances", 1), handle.get("packed")
        if not all(isinstance(text, str) and text for text in texts.values()) or not isinstance(instances, int):
            raise BrokenContract("The job was not submitted to SageMaker: its handle has other fields.")
        known = {name: str(text) for name, text in texts.items()}
        return cls(
            **known,
            instances=max(1, instances),
            checkpoints=str(handle.get("checkpoints") or ""),
            packed=packed if isinstance(packed, bool) else None,
            passing=handle.get("passing") is True,
        )
