# SPDX-License-Identifier: Apache-2.0
"""Start the supervisor: take the lock, mark the job started, run its steps, write the exit record."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import process_tree
    from airflow_provider_jobapi.server.run.supervisor.framing import stamp
    from airflow_provider_jobapi.server.run.supervisor.job_log import JobLog
    from airflow_provider_jobapi.server.run.supervisor.process_bound import ProcessBound
    from airflow_provider_jobapi.server.run.supervisor.scalars import Curves
    from airflow_provider_jobapi.server.run.supervisor.step import MARK, Step, StepContext
else:  # run by its path, isolated from every package
    import process_tree  # type: ignore[import-not-found, no-redef]
    from framing import stamp  # type: ignore[import-not-found, no-redef]
    from job_log import JobLog  # type: ignore[import-not-found, no-redef]
    from process_bound import ProcessBound  # type: ignore[import-not-found, no-redef]
    from scalars import Curves  # type: ignore[import-not-found, no-redef]
    from step import MARK, Step, StepContext  # type: ignore[import-not-found, no-redef]

UNUSABLE, ALIVE, STARTED_BEFORE = 74, 75, 76

_RECORD_BYTES = 4096
"""The size that the exit record has at the start, so that it can be written when the disk is full."""

_MESSAGE_CHARACTERS = 1000
"""The longest message of an exit record."""


_UNNAMED = "a client"
"""Who stopped the job, when the stop request does not name it."""


class ExitRecord:
    """The exit record of a job. Its space on the disk is taken in advance."""

    _NEW, _FINAL = "exit.json.new", "exit.json"

    def __init__(self, directory: Path) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = self._open()
        os.pwrite(self._file, b" " * _RECORD_BYTES, 0)
        os.fsync(self._file)

    def write(self, content: dict[str, Any]) -> None:
        """Write the record. Repeated until it works, since the job would be taken for lost without it.

        It goes into the directory that the supervisor began in, also if that was moved. Where it was removed, nobody
        can ask for the record any more.
        """
        data = json.dumps(content).encode() + b"\n"
        while os.fstat(self._directory).st_nlink:
            try:
                if not os.fstat(self._file).st_nlink:
                    os.close(self._file)
                    self._file = self._open()
                os.pwrite(self._file, data, 0)
                os.ftruncate(self._file, len(data))
                os.fsync(self._file)
                os.replace(self._NEW, self._FINAL, src_dir_fd=self._directory, dst_dir_fd=self._directory)
                os.fsync(self._directory)
            except OSError:
                time.sleep(1)
            else:
                return

    def _open(self) -> int:
        return os.open(self._NEW, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)


class Job:
    """The job of one directory.

    :raises OSError: when the directory cannot be used.
    :raises ValueError: when its ``spec.json`` is not JSON.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spec: dict[str, Any] = json.loads((directory / "spec.json").read_bytes())
        self._log = JobLog(str(directory / "log"), int(self._spec["log_bound"]))
        self._record = ExitRecord(directory)
        self._received_sigterm = False
        self._command_started: float | None = None

    def start_relay(self, handle: int | None) -> None:
        """Start the relay of the package index, if the job needs one; it ends with the first step.

        :param handle: The socket through which the server sends the credentials.
        :raises OSError: when it did not send them.
        """
        if not self._spec.get("relay"):
            return
        if handle is None:
            raise OSError("the server opened no way for the credentials of the package index")
        # Imported here: with it, the supervisor of every job would hold three times the memory.
        if __package__:
            from airflow_provider_jobapi.server.run.supervisor import index_relay
        else:
            import index_relay  # type: ignore[import-not-found, no-redef]

        address = index_relay.start(handle)
        for step in self._spec["steps"]:
            variables = step["env"].items()
            step["env"] = {name: address if value == index_relay.RELAY else value for name, value in variables}

    def run(self, umask: int) -> int:
        """Run the steps, write the exit record, and return the exit code."""
        began = time.time()
        uid = self._spec.get("uid")
        bound = ProcessBound(self._spec.get("processes"), f"{MARK}={self._directory}".encode(), uid)
        context = StepContext(
            began=time.monotonic(),
            seconds=self._spec.get("seconds"),
            log=self._log,
            wakeup=self._install_signal_handlers(),
            stop_request=self._stop_request,
            directory=str(self._directory),
            uid=uid,
            gid=self._spec.get("gid"),
            umask=umask,
            grace=float(self._spec.get("grace", 30)),
            bound=bound,
            on_turn=lambda: None,
        )
        held = [lock_shared(path) for path in self._spec.get("holds", ())]
        self._log_notices()
        verdict, peak = self._run_steps(context)
        verdict["message"] = str(verdict["message"])[:_MESSAGE_CHARACTERS]
        bound.close()
        size = self._log.close()
        started = self._command_started or began
        times = {"started": stamp(started).decode(), "finished": stamp(max(started, time.time())).decode()}
        self._record.write({**verdict, **times, "peak_memory": peak, "log_size": size, "lost_lines": self._log.lost})
        for handle in held:
            os.close(handle)
        return int(verdict["exit_code"] if verdict["exit_code"] is not None else 128 + signal.SIGTERM)

    def _log_notices(self) -> None:
        for notice in self._spec.get("notices", ()):
            self._log.say(notice)
        if not (process_tree.adopt_orphans() and process_tree.WATCHES):
            self._log.say(
                "On this system memory is not watched, and processes that leave the job's group are not ended."
            )

    def _run_steps(self, context: StepContext) -> tuple[dict[str, Any], int]:
        verdict: dict[str, Any] = {"step": None, "exit_code": 0, "signal": None, "reason": None, "message": ""}
        peak = 0
        steps = self._spec["steps"]
        for spec in steps:
            if request := self._stop_request():
                message = f"Stopped by {request[0]} before its {spec['name']} began."
                self._log.say(message)
                return {**verdict, "exit_code": None, "reason": "Stopped", "message": message}, peak
            curves = None
            if spec is steps[-1]:
                self._command_started = mark_running(self._directory)
                curves = self._curves(context)
            step = Step(spec, context if curves is None else context._replace(on_turn=curves.look))
            verdict = {"step": spec["name"], **step.run()}
            peak = max(peak, step.peak)
            if curves is not None:
                curves.finish(stopped=verdict["reason"] == "Stopped")
            if verdict["reason"]:
                break
        return verdict, peak

    def _curves(self, context: StepContext) -> Curves | None:
        """What reads the job's event files; None for the specs of earlier servers, which do not ask for it."""
        wanted = self._spec.get("scalars")
        if not wanted:
            return None
        user = None if context.uid is None or context.gid is None else (context.uid, context.gid)
        return Curves(self._directory, wanted["folders"], int(wanted["bound"]), self._log.say, user)

    def _install_signal_handlers(self) -> int:
        """Make signals wake the supervisor, and SIGTERM stop the job; returns the reading end of a pipe."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return reading

    def _on_sigterm(self, *_: object) -> None:
        self._received_sigterm = True

    def _stop_request(self) -> tuple[str, float] | None:
        """Read who stops the job, and the grace in seconds; None while the job is not to be stopped."""
        grace = float(self._spec.get("grace", 30))
        try:
            request = json.loads((self._directory / "stop").read_bytes())
            return str(request.get("by") or _UNNAMED), float(request.get("grace", grace))
        except FileNotFoundError:
            return ("a signal to its supervisor", grace) if self._received_sigterm else None
        except (OSError, ValueError, TypeError, AttributeError):
            return _UNNAMED, grace


def _sync(directory: Path) -> None:
    """Write the names in a directory to the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_directory(directory: Path, timeout: float = 10.0) -> int | None:
    """Lock a job's directory; returns the handle, or None when another supervisor holds the lock.

    :param timeout: Seconds to wait for the lock, since a server that checks for a supervisor holds it for an instant.
    """
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if (directory / "started").exists() or time.monotonic() > deadline:
                os.close(handle)
                return None
            time.sleep(0.02)


def lock_shared(path: str) -> int:
    """Take a shared lock on a file, so that what it protects is not removed; returns the handle."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def mark_started(directory: Path) -> None:
    """Make the file that keeps this job from being started again.

    :raises FileExistsError: when the job was started before.
    """
    handle = os.open(directory / "started", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, json.dumps({"pid": os.getpid(), "time": stamp(time.time()).decode()}).encode())
        os.fsync(handle)
    except OSError:
        pass  # an empty file is enough when the disk is full
    finally:
        os.close(handle)
    _sync(directory)


def mark_running(directory: Path) -> float:
    """Make the file that says that the job's command runs; returns its time in seconds since 1970."""
    now, marker = time.time(), directory / "running"
    try:
        incoming = directory / "running.new"
        incoming.write_text(json.dumps({"time": stamp(now).decode()}))
        incoming.replace(marker)
    except OSError:
        try:
            marker.touch()  # an empty file is enough, and can be made on a full disk
        except OSError:
            pass  # the exit record will have the time
    return now


def main(directory: Path, handle: int | None = None) -> int:
    """Supervise the job of a directory; returns the exit code.

    :param handle: The socket through which the server sends the credentials of the package index, if it has any.
    """
    umask = os.umask(0o077)
    try:
        lock = lock_directory(directory)
        if lock is None:
            return ALIVE
        if (directory / "started").exists():
            return STARTED_BEFORE
        job = Job(directory)
        job.start_relay(handle)
        mark_started(directory)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{directory} cannot be used: {error!r}\n")
        return UNUSABLE
    return job.run(umask)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:3])))
