# SPDX-License-Identifier: Apache-2.0
"""Run one step of a job, from its first process to the end of its last: output, limits, stop, result.

A part of the supervisor and, like it, standard library only, Python 3.8 and newer.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple  # noqa: UP035 -- Python 3.8 has the others only as annotations

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import private_mounts, process_tree
    from airflow_provider_jobapi.server.run.supervisor.hidden_processes import hide_processes
    from airflow_provider_jobapi.server.run.supervisor.job_log import JobLog
    from airflow_provider_jobapi.server.run.supervisor.process_bound import ProcessBound
else:  # run by its path, isolated from every package
    import private_mounts  # type: ignore[import-not-found, no-redef]
    import process_tree  # type: ignore[import-not-found, no-redef]
    from hidden_processes import hide_processes  # type: ignore[import-not-found, no-redef]
    from job_log import JobLog  # type: ignore[import-not-found, no-redef]
    from process_bound import ProcessBound  # type: ignore[import-not-found, no-redef]

CHECK_SECONDS = 0.2
"""Time between two checks of the stop request and the clock."""

MEMORY_CHECK_SECONDS = 0.5
"""Time between two checks of the memory."""

LEFTOVER_GRACE_SECONDS = 2.0
"""The longest grace of processes that are still running when their step has ended."""

UNKILLABLE_SECONDS = 10.0
"""Time after which a process that survives SIGKILL (in the kernel, on broken hardware) is given up."""

MARK = "JOB_DIRECTORY"
"""The environment variable that marks every process of a job, also one whose parent has ended."""

READ_BYTES = 256 * 1024


class StepContext(NamedTuple):
    """What the steps of a job share.

    :ivar began: When the supervisor began, on the monotonic clock.
    :ivar seconds: The most seconds that all steps may take together, or None.
    :ivar log: The job's log.
    :ivar wakeup: The reading end of the pipe into which every signal writes a byte.
    :ivar stop_request: Returns who stops the job, and the grace in seconds; None while the job is not to be stopped.
    :ivar directory: The job's directory, the value of the mark of every process of the job.
    :ivar uid: The user id of the steps, or None for the supervisor's own.
    :ivar gid: The group id of the steps, or None for the supervisor's own.
    :ivar umask: The file mode mask of the steps.
    :ivar grace: Seconds from SIGTERM to SIGKILL.
    :ivar bound: The bound of the job's processes and threads.
    :ivar on_turn: Called several times a second while the step runs.
    """

    began: float
    seconds: float | None
    log: JobLog
    wakeup: int
    stop_request: Callable[[], tuple[str, float] | None]
    directory: str
    uid: int | None
    gid: int | None
    umask: int
    grace: float
    bound: ProcessBound
    on_turn: Callable[[], None]

    @property
    def mark(self) -> bytes:
        """The mark of every process of the job."""
        return f"{MARK}={self.directory}".encode()


class Ending:
    """Why a step is ended early, and when SIGKILL follows."""

    def __init__(self, reason: str, message: str, grace: float) -> None:
        self.reason = reason
        self.message = message
        self.first_signal = signal.SIGTERM if grace > 0 else signal.SIGKILL
        self.deadline = time.monotonic() + grace


class Step:
    """One step of a job."""

    def __init__(self, spec: dict[str, Any], context: StepContext) -> None:
        self._spec = spec
        self._context = context
        self._log = context.log
        limits = spec.get("limits") or {}
        self._memory: int | None = limits.get("memory")
        self._ending: Ending | None = None
        self._status: int | None = None
        self._main = 0
        bounds = ((context.began, context.seconds), (time.monotonic(), limits.get("seconds")))
        self._time_bounds = [(since, seconds) for since, seconds in bounds if seconds is not None]
        self._next_look = self._next_memory = 0.0
        self._kernel_kills = process_tree.kills_by_the_kernel()
        self._processes = 0
        self.peak = 0
        self._mirror = self._make_mirror()

    def run(self) -> dict[str, Any]:
        """Run the step to its end; returns ``exit_code``, ``signal``, ``reason`` and ``message``."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        try:
            self._start(write_end)
        except (OSError, subprocess.SubprocessError) as error:
            os.close(read_end)
            return self._verdict_of_start(error)
        finally:
            os.close(write_end)
        with selectors.DefaultSelector() as selector:
            selector.register(read_end, selectors.EVENT_READ, "output")
            selector.register(self._context.wakeup, selectors.EVENT_READ, "wakeup")
            if self._mirror:
                self._mirror.start()  # after the fork, which a process with threads must not do
            self._watch(selector, read_end)
            self._end_leftovers(selector, read_end)
            if self._mirror:
                self._mirror.stop()
        os.close(read_end)
        self._log.end_of_output()
        if process_tree.WATCHES:
            self.peak = max(self.peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
        return self._verdict()

    def _make_mirror(self) -> Any:
        """Make the mirror of the checkpoints of a step that writes some; None for every other."""
        spec = self._spec.get("checkpoints")
        if not spec:
            return None
        if __package__:
            from airflow_provider_jobapi.server.run.supervisor import checkpoint_mirror
        else:
            import checkpoint_mirror  # type: ignore[import-not-found, no-redef]

        home, uid = Path(self._context.directory), self._context.uid
        place = home / checkpoint_mirror.PLACE
        return checkpoint_mirror.CheckpointMirror(Path(spec["folder"]), place, uid, spec["bound"], self._log.say)

    def _start(self, output: int) -> None:
        supervisor, context = os.getpid(), self._context
        limit = context.bound.before_fork()

        def in_child() -> None:
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            process_tree.put_label(context.mark)
            process_tree.offer_to_the_oom_killer()
            context.bound.enter(limit)
            os.umask(context.umask)
            if context.uid is not None and context.gid is not None:
                hide_processes()  # where that is not possible, the server says so at its start
                os.setgroups([])
                os.setgid(context.gid)
                os.setuid(context.uid)
                os.umask(0o077)
            self._make_mounts()
            if context.uid is not None:
                process_tree.renounce_privileges()
            process_tree.die_with_parent(supervisor)

        process = subprocess.Popen(
            self._spec["argv"],
            cwd=self._spec["cwd"],
            env={**self._spec["env"], MARK: context.directory},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=in_child,  # noqa: PLW1509 -- there is one thread
            start_new_session=True,
        )
        process.returncode = 0  # _reap() waits for all processes, so Popen must not
        self._main = process.pid

    def _make_mounts(self) -> None:
        """Protect what the step may not write to or read; called in the child."""
        read_only, hidden = self._spec.get("read_only", ()), self._spec.get("hidden", ())
        if not (read_only or hidden):
            return
        try:
            private_mounts.make(read_only, hidden)
        except OSError as error:
            why = error.strerror or error
            os.write(2, f"jobapi: The shared Python environments cannot be protected from this job: {why}.\n".encode())
            raise

    def _watch(self, selector: selectors.BaseSelector, output: int) -> None:
        """Follow the step until its first process has ended."""
        while self._status is None:
            self._turn(selector, output)
            now = time.monotonic()
            if now < self._next_look:
                continue
            self._next_look = now + CHECK_SECONDS
            if self._mirror:
                self._mirror.tick()
            if self._ending is None:
                self._ending = self._reason_to_end(now)
                if self._ending:
                    self._log.say(self._ending.message)
                    self._send(self._ending.first_signal)
            elif now > self._ending.deadline + UNKILLABLE_SECONDS:
                self._log.say("A process of the job survives SIGKILL; the supervisor does not wait for it.")
                self._status = int(signal.SIGKILL)
            elif now > self._ending.deadline:
                self._send(signal.SIGKILL)

    def _turn(self, selector: selectors.BaseSelector, output: int) -> None:
        """Wait for output, a signal or the next check; take the output and reap ended processes."""
        ready = {key.data for key, _ in selector.select(CHECK_SECONDS)}
        if "wakeup" in ready:
            os.read(self._context.wakeup, 4096)
        if "output" in ready and not self._take(output):
            selector.unregister(output)
        self._log.tick()
        self._context.on_turn()
        self._reap()

    def _take(self, output: int) -> bool:
        """Take what was printed; returns whether more may come."""
        try:
            data = os.read(output, READ_BYTES)
        except BlockingIOError:
            return False
        self._log.feed(data)
        return bool(data)

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if process == self._main:
                self._status = status

    def _reason_to_end(self, now: float) -> Ending | None:
        if request := self._context.stop_request():
            return Ending("Stopped", f"Stopped by {request[0]}.", request[1])
        for since, seconds in self._time_bounds:
            if now - since > seconds:
                message = f"completionTime is over: the job has run for {seconds:g} s and is ended."
                return Ending("CompletionTimeExceeded", message, self._context.grace)
        if now >= self._next_memory:
            self._next_memory = now + MEMORY_CHECK_SECONDS
            if self._exceeds_memory():
                message = (
                    f"Out of memory: the job's processes hold {self.peak / 2**20:,.0f} MB, "
                    f"and {(self._memory or 0) / 2**20:,.0f} MB were asked for; ask for more, or hold less at once."
                )
                return Ending("OutOfMemory", message, 0)
            most = self._context.bound.most
            if most and self._processes > most:
                message = f"Too many processes: the job has {self._processes:,}, and {most:,} are allowed."
                return Ending("NonZeroExit", message, 0)
        return None

    def _exceeds_memory(self) -> bool:
        processes = process_tree.descendants(os.getpid())
        used = process_tree.resident(processes)
        if self._memory is not None and used > self._memory:
            used = process_tree.proportional(processes)
            self._next_memory += MEMORY_CHECK_SECONDS * 3  # PSS costs more than RSS, so it is read less often
        self.peak = max(self.peak, used)
        self._processes = len(processes)
        return self._memory is not None and used > self._memory

    def _send(self, number: int) -> None:
        if process_tree.WATCHES and number == signal.SIGKILL:
            process_tree.kill_all(lambda: process_tree.descendants(os.getpid()))
        elif process_tree.WATCHES:
            process_tree.send(number, process_tree.descendants(os.getpid()))
        else:
            process_tree.send_group(number, self._main)

    def _end_leftovers(self, selector: selectors.BaseSelector, output: int) -> None:
        """End the processes that the step left running, and take what they still print.

        A shell ends at once on SIGTERM while its child may be writing a checkpoint, so the child gets the rest of the
        grace.
        """
        deadline = self._ending.deadline if self._ending else 0.0
        if self._ending is None:
            deadline = time.monotonic() + min(LEFTOVER_GRACE_SECONDS, self._context.grace)
            self._send(signal.SIGTERM)
        while self._has_children() and time.monotonic() < deadline + UNKILLABLE_SECONDS:
            if time.monotonic() >= deadline:
                self._send(signal.SIGKILL)
            self._turn(selector, output)
        while self._take(output):
            pass

    def _has_children(self) -> bool:
        self._reap()
        if process_tree.WATCHES:
            return bool(process_tree.descendants(os.getpid()))
        try:
            os.killpg(self._main, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _verdict(self) -> dict[str, Any]:
        status = self._status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = 128 + number if number else os.WEXITSTATUS(status)
        verdict = {"exit_code": code, "signal": number, "reason": None, "message": ""}
        if self._ending:
            verdict.update(reason=self._ending.reason, message=self._ending.message)
        elif code:
            verdict.update(self._why(code))
        if self._context.bound.was_reached():
            most = self._context.bound.most
            self._log.say(f"The job reached its bound of {most:,} processes and threads, and could start no more.")
        return verdict

    def _why(self, code: int) -> dict[str, str]:
        name = self._spec["name"]
        if code == 128 + signal.SIGKILL and process_tree.kills_by_the_kernel() > self._kernel_kills:
            message = "Out of memory: the machine's memory was full, and the kernel ended the job."
            self._log.say(message)
            return {"reason": "OutOfMemory", "message": message}
        if self._spec.get("failed"):
            return {"reason": self._spec["failed"], "message": f"The {name} could not be made; the log says why."}
        how = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        return {"reason": "NonZeroExit", "message": f"The command {how}."}

    def _verdict_of_start(self, error: Exception) -> dict[str, Any]:
        message = f"The {self._spec['name']} could not be started: {error}."
        self._log.say(message)
        reason = self._spec.get("failed") or "NonZeroExit"
        return {"exit_code": 127, "signal": None, "reason": reason, "message": message}
