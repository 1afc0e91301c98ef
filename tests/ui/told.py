# SPDX-License-Identifier: Apache-2.0
"""What a training task tells, in the shapes that the provider writes."""

from __future__ import annotations

import math
from typing import Any

JOB = "ebe133ef-57d3-5bf6-8b5d-735439cc577d"
BEGAN = 1_790_000_000
PLACE = {"job_id": JOB, "name": "told-train"}


def curve(count: int, height: float = 1.0) -> dict[str, Any]:
    """A falling curve of so many points."""
    values = [round(height * math.exp(-step / count * 4) + 0.01, 6) for step in range(count)]
    return {
        "steps": list(range(1, count + 1)),
        "values": values,
        "times": [BEGAN + 2 * step for step in range(count)],
        "count": count,
        "last": values[-1],
        "min": min(values),
        "max": max(values),
    }


def facts() -> dict[str, Any]:
    """What was submitted."""
    return PLACE | {
        "image": "tensorflow/tensorflow:2.20.0",
        "resources": {"cpus": 4, "gpus": 1, "memory": 16384},
        "requirements": ["tensorflow==2.20.0", "pandas>=2"],
        "completion_time": 7200.0,
        "conn_id": "jobapi_default",
        "generation": 0,
        "submitted": "2026-09-21T14:12:50.000+00:00",
        "destination": "s3://models@warehouse/digits",
        "data": [{"name": "digits.csv", "size": 482_113, "sha256": "0" * 64}],
        "data_version": "4cddc7363c623116de576733d770212f05338df387baec0594223218cc80996e",
    }


def status() -> dict[str, Any]:
    """How the job ended."""
    return PLACE | {
        "containerID": "local-4711",
        "submissionTime": "2026-09-21T14:12:50.000Z",
        "startTime": "2026-09-21T14:13:20.000Z",
        "storingTime": "2026-09-21T14:30:00.000Z",
        "finishTime": "2026-09-21T14:30:04.200Z",
        "status": "SUCCESSFUL",
        "message": "The SavedModel has 5 files.",
        "reason": None,
        "exitCode": 0,
    }


def training(**metrics: Any) -> dict[str, Any]:
    """All XComs of a training."""
    told = {"job_id": JOB, "version": 1, "metrics": metrics, "left_out": 0}
    return {"training_job_id": JOB, "training_facts": facts(), "trainingStatus": status(), "training_metrics": told}
