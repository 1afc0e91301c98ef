# SPDX-License-Identifier: Apache-2.0
"""The exit codes of the command ``jobapi``.

====  ===========================================================================================
code  meaning
====  ===========================================================================================
0     the job was successful; or the command, which waited for none, did what it was asked
1     the job failed and did not end by itself (out of memory, out of time, lost, …)
2     the command line, the job file, the folder or the connection is wrong, or the service refuses
69    the service cannot be reached, or not for longer than the patience (``EX_UNAVAILABLE``)
130   Ctrl-C: the command ended, the job goes on (as a shell tells the end by SIGINT)
141   nobody reads the output any more (SIGPIPE)
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
    """The exit code that tells this end."""
    from airflow_provider_jobapi.training.status import JobState, Reason

    if status.status is JobState.FAILED:
        # Whom a limit has killed ends by a signal, and its code would say that somebody stopped it.
        return _own(status.exit_code) if status.reason in {None, Reason.NON_ZERO_EXIT} else FAILED
    return {JobState.SUCCESSFUL: 0, JobState.STOPPED: STOPPED}.get(status.status, UNAVAILABLE)


def _own(code: int | None) -> int:
    if not code:
        return FAILED
    # A negative code is a signal's; a process of ours has one byte.
    return (128 - code if code < 0 else code) % 256 or FAILED
