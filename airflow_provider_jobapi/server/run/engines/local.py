# SPDX-License-Identifier: Apache-2.0
"""The engine that runs jobs as processes of the server's machine.

Each supervisor has a session of its own, so supervisors and jobs outlive the server. A restarted server finds them by
the lock that each supervisor holds in the job's directory.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from airflow_provider_jobapi.server.run import supervisor
from airflow_provider_jobapi.server.run.engines.admission import admit
from airflow_provider_jobapi.server.run.engines.base import Admission, EngineState, EngineStatus, PlacementRequest
from airflow_provider_jobapi.server.run.supervisor import hidden_processes, private_mounts, process_bound, process_tree
from airflow_provider_jobapi.server.run.supervisor.step import MARK
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.server.store.layout import is_locked
from airflow_provider_jobapi.training.job_file import Resources

_PROBE_TIMEOUT_SECONDS = 60
_HANDOVER_SECONDS = 60
"""The time that a supervisor gets to take the credentials of the package index."""


class LocalEngine:
    """Run supervisors on this machine, as the server's own user.

    :param capacity: What all jobs may use together.
    :param exit_wait: Seconds that a supervisor gets from its exit record to the end of its process.
    """

    runs_images = False

    def __init__(self, capacity: Resources, *, exit_wait: float = 5.0) -> None:
        self.capacity = capacity
        self._exit_wait = exit_wait
        self._processes: dict[JobKey, subprocess.Popen[bytes]] = {}

    def admit(
        self, placed: Iterable[PlacementRequest], waiting: Iterable[PlacementRequest], *, explain: bool = True
    ) -> Admission:
        """Admit jobs in the order of their submission while they fit into the capacity."""
        return admit(self.capacity, placed, waiting, explain=explain)

    def place(self, request: PlacementRequest) -> None:
        """Start a supervisor, unless this process has started one that still runs."""
        if self._has_process(request):
            return
        command = [sys.executable, "-I", "-S", str(Path(supervisor.__file__).parent), str(request.directory)]
        with (request.directory / "supervisor.err").open("ab") as errors, ExitStack() as stack:
            server_end, job_end = map(stack.enter_context, socket.socketpair())
            handles = [job_end.fileno()] if request.credentials else []
            self._processes[request.key] = subprocess.Popen(
                [*command, *map(str, handles)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=dict(request.environment),
                cwd="/",
                start_new_session=True,
                pass_fds=handles,
            )
            job_end.close()
            if request.credentials:
                server_end.settimeout(_HANDOVER_SECONDS)
                with suppress(OSError):  # the supervisor has ended, which the next poll finds
                    server_end.sendall(request.credentials.encode())

    def poll(self, requests: Iterable[PlacementRequest]) -> dict[JobKey, EngineStatus]:
        """ACTIVE while a supervisor holds the lock, or was started and has not taken the lock yet; otherwise GONE."""
        return {request.key: EngineStatus(self._state(request)) for request in requests}

    def cancel(self, request: PlacementRequest, by: str, grace: float) -> None:
        """Write the stop request, a file that the supervisor looks for several times a second."""
        stop = request.directory / "stop"
        if stop.exists():
            return
        incoming = stop.with_name("stop.new")
        try:
            incoming.write_text(json.dumps({"by": by, "grace": grace}))
            incoming.replace(stop)
        except OSError:
            stop.touch()  # an empty file is enough, and can be made on a full disk

    def forget(self, request: PlacementRequest) -> None:
        """End the processes that a killed supervisor left running, which are found by their mark."""
        mark = f"{MARK}={request.directory}".encode()
        process_tree.end_marked(mark)
        process_bound.remove_group(mark)
        if process := self._processes.get(request.key):
            try:
                process.wait(self._exit_wait)
            except subprocess.TimeoutExpired:
                return
            del self._processes[request.key]

    def _state(self, request: PlacementRequest) -> EngineState:
        alive = self._has_process(request) or is_locked(request.directory)
        return EngineState.ACTIVE if alive else EngineState.GONE

    def _has_process(self, request: PlacementRequest) -> bool:
        process = self._processes.get(request.key)
        return process is not None and process.poll() is None


def can_hide_processes() -> bool:
    """Whether jobs under other user ids do not see the processes of other users."""
    return _probe(hidden_processes.__file__)


def can_protect(directory: Path, uid: int) -> bool:
    """Whether jobs of a user can be kept from writing into a directory of that user."""
    return _probe(private_mounts.__file__, str(directory), str(uid))


def _probe(*arguments: str) -> bool:
    command = [sys.executable, "-I", "-S", *arguments]
    try:
        ended = subprocess.run(command, check=False, timeout=_PROBE_TIMEOUT_SECONDS, capture_output=True, env={})
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.returncode == 0
