# SPDX-License-Identifier: Apache-2.0
"""The exit codes of the command ``jobapi``.

====  ===========================================================================================
code  meaning
====  ===========================================================================================
0     the job was successful; without a job to wait for, the command was
1     the job failed and did not end by itself (out of memory, out of time, lost, …)
2     the command line, the job file, the folder or the connection is wrong, or the service refuses
69    the service is unavailable, or was for longer than ``--patience`` (``EX_UNAVAILABLE``)
130   Ctrl-C: the command ended, the job goes on (SIGINT)
141   the reader of the output has closed it (SIGPIPE)
143   the job was stopped (SIGTERM)
else  the job's own exit code, which may be one of these numbers, too
====  ===========================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_jobapi.training.status import JobStatus

FAILED = 1
USAGE = 2
UNAVAILABLE = 69
INTERRUPTED = 130
BROKEN_PIPE = 141
STOPPED = 143


def exit_code(status: JobStatus) -> int:
    """Return the exit code for the end of a job."""
    from airflow_provider_jobapi.training.status import JobState, Reason

    if status.status is JobState.FAILED:
        # A job that was killed by a limit ends by a signal; its own code would look like a stop.
        return _own(status.exit_code) if status.reason in {None, Reason.NON_ZERO_EXIT} else FAILED
    return {JobState.SUCCESSFUL: 0, JobState.STOPPED: STOPPED}.get(status.status, UNAVAILABLE)


def _own(code: int | None) -> int:
    if not code:
        return FAILED
    # A negative code is a signal; an exit code is one byte.
    return (128 - code if code < 0 else code) % 256 or FAILED
