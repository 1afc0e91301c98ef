# SPDX-License-Identifier: Apache-2.0
"""What an engine says of a container, as the state of a job. Pure.

==============  ==========================================================================================
state           meaning
==============  ==========================================================================================
``created``     PENDING: claimed and not started
``running``     RUNNING
``paused``      RUNNING, with a message: somebody has paused it
``restarting``  RUNNING: Docker starts it again by itself, which our containers are never set to
``stopping``    RUNNING: Podman's word while it ends
``stopped``     ended: Podman's word for a container whose remains are not tidied up yet
``exited``      ended: judged by its response and its exit code
``dead``        FAILED, lost: Docker could not tidy it up
``removing``    ended: it is being removed; its exit code is known, its output may not be
any other       UNKNOWN, which counts as active
no container    its record says how it ended, else it is gone
==============  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.training.status import JobState, read_time

OUT_OF_MEMORY_CODE = 137
"""128 + SIGKILL, by which the kernel ends what uses too much memory; so does anybody's SIGKILL."""

TERMINATED_CODE = 143
"""128 + SIGTERM."""

_STATES = {
    "created": JobState.PENDING,
    "configured": JobState.PENDING,
    "initialized": JobState.PENDING,
    "running": JobState.RUNNING,
    "paused": JobState.RUNNING,
    "restarting": JobState.RUNNING,
    "stopping": JobState.RUNNING,
}
_ENDED = frozenset({"exited", "stopped", "dead", "removing"})


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as its engine describes it.

    :ivar id: The engine's own id.
    :ivar word: The engine's word for its state.
    :ivar exit_code: Of its command, where it has ended.
    :ivar out_of_memory: Whether the engine says that it was ended for its use of memory. Podman does not say it.
    :ivar started: None where it has not started.
    :ivar read_only_root: Whether it could write its own files only in :attr:`mounts`.
    :ivar data: Its folders that it cannot write: data of the station.
    :ivar mounts: All of its folders that are no part of its image and its own files.
    :ivar environment: ``NAME=value`` of its variables, with the station's secrets.
    :ivar memory: Bytes that it may use; None for as much as there is.
    """

    id: str
    name: str
    word: str
    exit_code: int | None
    out_of_memory: bool
    error: str
    created: datetime | None
    started: datetime | None
    finished: datetime | None
    image_id: str
    labels: Mapping[str, str]
    read_only_root: bool
    data: tuple[str, ...]
    mounts: tuple[str, ...]
    environment: tuple[str, ...] = field(repr=False, default=())
    memory: int | None = None

    @property
    def was_started(self) -> bool:
        """Whether it was ever started."""
        return self.started is not None or self.word not in {"created", "configured", "initialized"}

    @property
    def ended(self) -> bool:
        """Whether its command is over."""
        return self.word in _ENDED

    @property
    def job_state(self) -> JobState:
        """The state of its job, while it has not ended."""
        return _STATES.get(self.word, JobState.UNKNOWN)


def read_container(inspected: Mapping[str, Any]) -> ContainerState:
    """Read the answer to ``GET /containers/{id}/json``."""
    state = inspected.get("State") or {}
    config, mounts = inspected.get("Config") or {}, inspected.get("Mounts") or []
    host = inspected.get("HostConfig") or {}
    word = str(state.get("Status") or "").lower()
    ended = word in _ENDED
    return ContainerState(
        id=str(inspected.get("Id") or ""),
        name=str(inspected.get("Name") or "").lstrip("/"),
        word=word,
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        created=moment(inspected.get("Created")),
        started=moment(state.get("StartedAt")),
        finished=moment(state.get("FinishedAt")) if ended else None,
        image_id=str(inspected.get("Image") or ""),
        labels={str(name): str(value) for name, value in (config.get("Labels") or {}).items()},
        read_only_root=bool(host.get("ReadonlyRootfs")),
        data=tuple(sorted(str(each.get("Destination")) for each in mounts if not each.get("RW"))),
        mounts=tuple(sorted(str(each.get("Destination")) for each in mounts)),
        environment=tuple(str(each) for each in config.get("Env") or ()),
        memory=int(host.get("Memory") or 0) or None,
    )


def moment(text: Any) -> datetime | None:
    """Read a time of an engine, which has nanoseconds; None where it is not set, as in the year 1."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    try:
        found = read_time(re.sub(r"\.(\d{1,6})\d*", r".\1", text))
    except ValueError:
        return None
    return None if found is None or found.year < 1980 else found.astimezone(UTC)
