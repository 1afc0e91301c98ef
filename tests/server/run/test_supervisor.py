# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from airflow_provider_jobapi.server.run.engines.local import is_locked
from airflow_provider_jobapi.server.run.supervisor import process_tree
from tests.harness.bench import processes_of, supervisor_of
from tests.harness.server import poll
from tests.harness.small_disk import small_disk
from tests.harness.supervised import Supervised, supervised
from tests.harness.waiting import NotInTime

__all__ = ["supervised"]

PYTHON = sys.executable
linux = pytest.mark.skipif(not process_tree.WATCHES, reason="processes are watched through /proc, which is not here")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def script(text: str) -> str:
    """A shell command that runs a Python program."""
    return f"exec {PYTHON} -u -c '{text}'"


def test_a_job_leaves_its_log_and_an_exit_record(supervised):
    job = supervised("echo out; echo err >&2; exit 3", notices=["The image is not run."])
    record = job.record()
    assert record["exit_code"] == 3
    assert record["signal"] is None
    assert (record["step"], record["reason"]) == ("training", "NonZeroExit")
    assert record["message"] == "The command ended with exit code 3."
    assert record["log_size"] == (job.directory / "log").stat().st_size
    assert datetime.fromisoformat(record["started"]) <= datetime.fromisoformat(record["finished"])
    assert job.lines() == ["jobapi: The image is not run.", "out", "err"]
    assert job.processes[0].wait(10) == 3


def test_success_has_no_reason(supervised):
    record = supervised("true").record()
    assert (record["exit_code"], record["reason"], record["message"]) == (0, None, "")


def test_the_exit_record_names_the_signal(supervised):
    job = supervised("kill -SEGV $$")
    record = job.record()
    assert (record["exit_code"], record["signal"], record["reason"]) == (128 + 11, 11, "NonZeroExit")
    assert "signal 11" in record["message"]
    assert job.processes[0].wait(10) == 139


@pytest.mark.parametrize(
    "step", [{"argv": ["/proc/no-such/program"]}, {"argv": ["/bin/true"], "cwd": "/proc/no-such/place"}]
)
def test_a_command_that_cannot_be_started_fails_the_job(supervised, step):
    job = supervised(steps=[{"name": "training"} | step])
    record = job.record()
    assert (record["exit_code"], record["reason"]) == (127, "NonZeroExit")
    assert "/proc/no-such" in record["message"]
    assert "/proc/no-such" in job.lines()[0]


def test_a_failed_environment_has_its_own_reason_and_the_training_does_not_begin(supervised):
    environment = {"name": "environment", "argv": ["/bin/sh", "-c", "echo no such package; exit 1"]}
    job = supervised(
        steps=[environment | {"failed": "EnvironmentFailed"}, {"name": "training", "argv": ["/bin/echo", "trained"]}]
    )
    record = job.record()
    assert (record["step"], record["exit_code"], record["reason"]) == ("environment", 1, "EnvironmentFailed")
    assert job.lines() == ["no such package"]


def test_steps_run_one_after_the_other(supervised):
    steps = [{"name": name, "argv": ["/bin/sh", "-c", f"printf {name}"]} for name in ("environment", "training")]
    job = supervised(steps=steps)
    assert job.record()["step"] == "training"
    assert job.lines() == ["environment", "training"]


def test_a_job_never_starts_twice_however_often_it_is_started(supervised):
    job = supervised("echo run; sleep 0.5", start=False)
    others = [job.start() for _ in range(6)]
    codes = sorted(process.wait(30) for process in others)
    assert codes[0] == 0
    assert set(codes[1:]) <= {75, 76}
    assert job.lines() == ["run"]
    assert job.start().wait(10) == 76
    assert job.lines() == ["run"]


def test_a_started_job_without_a_record_is_not_started_again(supervised):
    job = supervised("echo run", start=False)
    (job.directory / "started").write_text("{}")
    assert job.start().wait(10) == 76
    assert job.lines() == []


def test_a_supervisor_waits_for_a_server_that_checks_its_lock(supervised):
    job = supervised("echo run", start=False)
    with (job.directory / "lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        job.start()
        with pytest.raises(NotInTime):
            job.record(timeout=0.2)
    assert job.record()["exit_code"] == 0


def test_a_directory_that_cannot_be_used_starts_nothing(supervised):
    job = supervised("echo run", start=False)
    (job.directory / "spec.json").write_text("{")
    process = job.start()
    assert process.wait(10) == 74
    assert not (job.directory / "started").exists()


def test_the_lock_is_held_from_start_to_end(supervised):
    job = supervised("sleep 60")
    poll((job.directory / "started").exists, 10, "the start")
    assert is_locked(job.directory)
    job.stop(grace=0)
    job.processes[0].wait(10)
    assert not is_locked(job.directory)


@linux
def test_a_killed_supervisor_takes_the_command_with_it_and_leaves_no_record(supervised):
    job = supervised("echo up; exec sleep 60")
    job.wait_for_line("up")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    poll(lambda: not processes_of(job.directory), 5, "the command to be gone")
    assert not is_locked(job.directory)
    assert not (job.directory / "exit.json").exists()


@linux
def test_processes_of_a_killed_supervisor_are_found_by_their_mark(supervised):
    job = supervised(f"({PYTHON} -c 'import time; time.sleep(60)'; true) & echo up; wait")
    job.wait_for_line("up")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    assert process_tree.end_marked(f"JOB_DIRECTORY={job.directory}".encode()) == []
    assert processes_of(job.directory) == []


SAVES = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    print("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("up")
time.sleep(60)
"""


def test_a_stopped_job_has_its_grace_even_where_its_shell_dies_at_once(supervised):
    job = supervised(f"true && {PYTHON} -u -c '{SAVES}' && true", grace=20)
    job.wait_for_line("up")
    begin = time.monotonic()
    job.stop(by="alice")
    record = job.record()
    assert (record["reason"], record["message"]) == ("Stopped", "Stopped by alice.")
    assert "saved" in job.lines()
    assert time.monotonic() - begin < 10


@linux
def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(supervised):
    job = supervised(script('import signal, time; signal.signal(15, signal.SIG_IGN); print("up"); time.sleep(60)'))
    job.wait_for_line("up")
    begin = time.monotonic()
    job.stop(grace=1)
    record = job.record()
    assert (record["signal"], record["reason"]) == (9, "Stopped")
    assert 0.9 < time.monotonic() - begin < 5


def test_a_job_that_is_stopped_before_it_begins_does_not_begin(supervised):
    job = supervised("echo run", start=False)
    job.stop(by="bob")
    process = job.start()
    record = job.record()
    assert (record["step"], record["exit_code"], record["reason"]) == (None, None, "Stopped")
    assert record["message"] == "Stopped by bob before its training began."
    assert job.lines() == ["jobapi: Stopped by bob before its training began."]
    assert process.wait(10) == 143


def test_an_empty_stop_file_is_a_stop_request(supervised):
    job = supervised("echo up; sleep 60")
    job.wait_for_line("up")
    (job.directory / "stop").touch()
    assert job.record()["message"] == "Stopped by a client."


def test_sigterm_to_the_supervisor_stops_the_job(supervised):
    job = supervised("echo up; sleep 60")
    job.wait_for_line("up")
    job.processes[0].terminate()
    assert job.record()["reason"] == "Stopped"


def test_hangup_and_interrupt_of_a_terminal_do_not(supervised):
    job = supervised("echo up; sleep 0.5; echo done")
    job.wait_for_line("up")
    for number in (signal.SIGINT, signal.SIGHUP):
        job.processes[0].send_signal(number)
    assert job.record()["reason"] is None
    assert job.lines() == ["up", "done"]


DAEMON = """
import os, signal, sys, time
read, write = os.pipe()
if os.fork():
    os.read(read, 1)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("daemon")
os.write(write, b"1")
time.sleep(600)
"""


@linux
@pytest.mark.parametrize("ends", ["by itself", "stopped"])
def test_a_daemon_does_not_outlive_its_job(supervised, ends):
    after = "" if ends == "by itself" else "; sleep 600"
    job = supervised(f"{PYTHON} -u -c '{DAEMON}'{after}")
    job.wait_for_line("daemon")
    if ends == "stopped":
        job.stop(grace=0.5)
    record = job.record()
    assert record["reason"] == (None if ends == "by itself" else "Stopped")
    assert processes_of(job.directory) == []


@linux
def test_what_background_processes_print_last_is_in_the_log(supervised):
    goodbye = """
import signal, sys, time
signal.signal(15, lambda *_: sys.exit("goodbye"))
print("up")
open("up", "w")
time.sleep(60)
"""
    job = supervised(f"{PYTHON} -u -c '{goodbye}' & until [ -e up ]; do sleep 0.05; done; echo end")
    assert job.record()["exit_code"] == 0
    assert job.lines() == ["up", "end", "goodbye"]


LOOK = """
import json, os, resource, signal
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
    "ignored": [n.name for n in signal.Signals if signal.getsignal(n) == signal.SIG_IGN], "sid": os.getsid(0),
    "pgid": os.getpgid(0), "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "umask": os.umask(0),
}))
"""


@linux
def test_a_job_inherits_nothing_but_what_the_spec_says(supervised, monkeypatch):
    monkeypatch.setenv("JOBAPI_SECRET", "hidden")
    job = supervised(script(LOOK))
    assert job.record()["exit_code"] == 0
    seen = json.loads(job.lines()[0])
    assert set(seen["env"]) - {"LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "JOB_DIRECTORY"}
    assert seen["cwd"] == str(job.work)
    assert seen["fds"] == ["0", "1", "2"]
    assert seen["ignored"] == ["SIGPIPE", "SIGXFSZ"], "these two are Python's own"
    assert seen["sid"] == seen["pgid"] != job.processes[0].pid
    assert seen["core"] == 0


@root_only
def test_the_exit_record_is_written_though_the_job_filled_the_disk(tmp_path):
    with small_disk(tmp_path / "small", "1m") as place:
        fill = "cat /dev/zero > filler; echo lost; rm filler; echo after; cat /dev/zero > filler; exit 4"
        fill = f"echo before; until [ -s {place}/job/log ]; do sleep 0.05; done; {fill}"
        job = Supervised(place / "job", [{"name": "training", "argv": ["/bin/sh", "-c", fill]}])
        try:
            job.start()
            record = job.record()
            assert record["exit_code"] == 4
            assert job.lines()[0] == "before"
        finally:
            job.end()


@root_only
def test_lines_that_a_full_disk_lost_are_counted_in_the_log_and_in_the_exit_record(tmp_path):
    with small_disk(tmp_path / "small", "1m") as place:
        print_400 = 'i=0; while [ $i -lt 400 ]; do echo "epoch $i $(printf %0100d 0)"; i=$((i+1)); done'
        fill = f"until [ -s {place}/job/started ]; do sleep 0.05; done; cat /dev/zero > filler 2>/dev/null; {print_400}"
        job = Supervised(place / "job", [{"name": "training", "argv": ["/bin/sh", "-c", fill]}])
        try:
            job.start()
            record = job.record()
            lines = job.lines()
            kept = [line for line in lines if line.startswith("epoch ")]
            assert record["exit_code"] == 0
            assert record["lost_lines"] == 400 - len(kept) > 0
            assert lines[-1] == f"jobapi: {record['lost_lines']:,} lines are lost here: the disk was full."
        finally:
            job.end()


def test_what_the_job_uses_is_held_while_it_runs(supervised, tmp_path):
    held = tmp_path / "held"
    held.touch()
    job = supervised("echo up; sleep 60", holds=[str(held)])
    job.wait_for_line("up")
    with held.open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        job.stop(grace=0)
        job.processes[0].wait(10)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def pythons() -> list[str]:
    names = [f"python3.{minor}" for minor in (8, 9, 10, 12, 13, 14)]
    found = [path for name in names if (path := shutil.which(name))]
    return [
        path for path in found if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    ]


@pytest.mark.parametrize("python", pythons() or [sys.executable])
def test_it_runs_on_every_python_that_is_here(supervised, python):
    job = supervised("echo hello; exit 5", start=False)
    process = job.start(python)
    assert job.record()["exit_code"] == 5
    assert job.lines() == ["hello"]
    assert process.wait(10) == 5
