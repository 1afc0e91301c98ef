# SPDX-License-Identifier: Apache-2.0
"""Bound the processes and threads of a job, so that a fork bomb does not take those of the whole machine.

A part of the supervisor: standard library only, Python 3.8 and newer. Where a control group for process numbers (pids)
can be made, the kernel bounds the job by it; where the job has a user id of its own, also by RLIMIT_NPROC, which is
for that user and not for root. Everywhere else the supervisor counts the processes and ends the job.
"""

from __future__ import annotations

import resource
from pathlib import Path

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import process_tree
else:  # run by its path, isolated from every package
    import process_tree  # type: ignore[import-not-found, no-redef]

CGROUPS = Path("/sys/fs/cgroup")


class ProcessBound:
    """The bound of one job.

    :param most: The most processes and threads of the job, or None.
    :param mark: The mark of the job's processes, from which the name of its control group is made.
    :param uid: The user id of the job, where it has one of its own.
    """

    def __init__(self, most: int | None, mark: bytes, uid: int | None) -> None:
        self.most = most
        self._uid = uid
        self._group = _make_group(mark, most) if most else None

    def before_fork(self) -> int | None:
        """The value for RLIMIT_NPROC, which counts all processes and threads of a user; None without a limit."""
        return process_tree.threads_of(self._uid) + self.most if self._uid and self.most else None

    def enter(self, limit: int | None) -> None:
        """Bound this process and all that it starts; called between fork and exec, before any change of uid."""
        if self._group:
            try:
                (self._group / "cgroup.procs").write_text("0")
            except OSError:
                pass
        if limit is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))

    def was_reached(self) -> bool:
        """Whether the control group refused a process to the job."""
        try:
            counts = (self._group / "pids.events").read_text().split() if self._group else []
        except OSError:
            return False
        return any(name == "max" and int(count) > 0 for name, count in zip(counts[::2], counts[1::2]))  # noqa: B905 -- 3.8

    def close(self) -> None:
        """Remove the control group."""
        if self._group:
            _remove(self._group)


def remove_group(mark: bytes) -> None:
    """Remove the control group that a killed supervisor left, once its processes have ended."""
    for parent in _parents():
        _remove(parent / _name(mark))


def _name(mark: bytes) -> str:
    return f"jobapi-{process_tree.label(mark)}"


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:  # it is not there, or a process that survives SIGKILL is in it
        pass


def _parents() -> list[Path]:
    """The control groups of this process that have a controller for the number of processes (cgroup 1 and 2)."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "pids" in controllers.split(","):
            found.append(CGROUPS / "pids" / path.lstrip("/"))
        elif number == "0":
            found.append(CGROUPS / path.lstrip("/"))
    return found


def _make_group(mark: bytes, most: int) -> Path | None:
    """Make a control group for a job; None where this process may not, or the controller is not there."""
    for parent in _parents():
        group = parent / _name(mark)
        try:
            group.mkdir(exist_ok=True)
        except OSError:
            continue
        try:
            with (group / "pids.max").open("r+") as file:
                file.write(str(most))
        except OSError:
            _remove(group)
            continue
        return group
    return None
