# SPDX-License-Identifier: Apache-2.0
"""What the status codes of v1 and the phases of v2 mean for us.

The numbers and their names are those of the API's appendix "Job Statuses". Which of them end a job is partly our
reading: only 10 is documented as success. A code that we do not know never ends a job.
"""

from __future__ import annotations

from airflow_provider_jobapi.training.status import JobState

_P, _R, _S, _F, _X = JobState.PENDING, JobState.RUNNING, JobState.SUCCESSFUL, JobState.FAILED, JobState.STOPPED

V1: dict[int, tuple[str, JobState]] = {
    0: ("UNKNOWN", JobState.UNKNOWN),
    1: ("INIT", _P),
    2: ("IMAGE_CREATING", _P),
    3: ("IMAGE_FAILED", _F),
    4: ("SUBMIT_TRYING", _P),
    5: ("SUBMIT_FAILED", _F),
    6: ("DELETE_FAILED", _F),
    7: ("WAITING", _P),
    8: ("RUNNING", _R),
    9: ("KILLING", _R),
    10: ("COMPLETED", _S),
    11: ("FAILED", _F),
    12: ("KILLED", _X),
    13: ("CANCELED", _X),
    14: ("LOST", _F),
    15: ("SCALING", _R),
    16: ("SUBMIT_MODEL_FAILED", _F),
    17: ("DEPLOY_SERVICE_FAILED", _F),
    18: ("CHECK_INIT", _P),
    19: ("CHECK_RUNNING", _R),
    20: ("CHECK_RUNNING_COMPLETED", _R),
    21: ("CHECK_FAILED", _F),
}
"""By code; 20 says that a check has ended, not that the training has, and 6 that a job that failed is still there."""

V2: dict[str, JobState] = {
    "creating": _P,
    "pending": _P,
    "running": _R,
    "failed": _F,
    "completed": _S,
    "terminating": _R,
    "terminated": _X,
    "abnormal": _F,
}
"""By phase, in lower case."""


def v1_state(code: int | None) -> tuple[str, JobState]:
    """The name and the meaning of a status code."""
    return V1.get(-1 if code is None else code, (f"status {code}", JobState.UNKNOWN))


def v2_state(phase: str) -> JobState:
    """The meaning of a phase."""
    return V2.get(phase.strip().lower(), JobState.UNKNOWN)
