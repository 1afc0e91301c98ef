# SPDX-License-Identifier: Apache-2.0
"""``jobapi submit``: the id on stdout, once trained whatever is repeated, one sentence for what cannot be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.harness.command import Command
from tests.harness.proxy import BlackHole, Broken, FaultProxy
from tests.harness.server import poll, running

SUBMIT = ("submit", "-f", "job.yaml", "files")


def script(work: Path, text: str) -> None:
    (work / "files" / "train.py").write_text(f"{text}\n# {work}\n")


def test_a_job_gets_the_files_of_its_folder_and_its_id_is_on_stdout(work, command, jobapi_server):
    files = work / "files"
    (files / "deep" / "er").mkdir(parents=True)
    (files / "deep" / "er" / "ro ws ü.csv").write_text("1,2\n")
    for left_out in (".git/config", ".env", "deep/__pycache__/x.pyc", ".venv/bin/python"):
        (files / left_out).parent.mkdir(parents=True, exist_ok=True)
        (files / left_out).write_text("no")
    script(work, "import os\nfor place in os.walk('.'): print(sorted(place[1] + place[2]))")
    done = command(*SUBMIT)
    assert done.code == 0
    job_id = done.out.removesuffix("\n")
    assert str(uuid.UUID(job_id)) == job_id
    assert "The job gets 2 files of files, " in done.err
    assert "left out: .env, .git, .venv, deep/__pycache__." in done.err
    assert f"Job {job_id} is submitted." in done.err
    jobapi_server.wait_for(job_id, "SUCCESSFUL")
    log = jobapi_server.job_log(job_id)
    assert "['ro ws ü.csv']" in log
    assert "__pycache__" not in log
    assert ".env" not in log


def test_quiet_says_the_id_and_nothing_else(command):
    done = command(*SUBMIT, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert uuid.UUID(done.out.strip())


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_follow_shows_the_log_and_ends_with_the_jobs_code(work, command, code):
    script(work, f"import sys\nfor line in range(3): print('line', line)\nsys.exit({code})")
    done = command(*SUBMIT, "--follow")
    job_id, *lines = done.out.splitlines()
    assert lines == ["line 0", "line 1", "line 2"]
    assert done.code == code
    ending = f"failed: NonZeroExit, exit code {code}. " if code else "was successful: exit code 0. "
    assert f"Job {job_id} (lines) {ending}" in done.err


def test_a_job_that_fails_without_a_code_of_its_own(work, command):
    content = {"name": "slow", "execution": {"command": "sleep 60", "completionTime": "1s"}}
    (work / "job.yaml").write_text(json.dumps({"job": content}))
    done = command("submit", "-f", "job.yaml", "-w", "--new")
    assert done.code == 1, done.err
    assert "CompletionTimeExceeded" in done.err


def test_a_job_that_is_stopped_ends_the_command_with_143(work, command, jobapi_server):
    script(work, "import time\nprint('begun', flush=True)\ntime.sleep(600)")
    with command.start(*SUBMIT, "-w") as following:
        following.wait_for("begun")
        job_id = following.out.split()[0]
        stopped = command("stop", job_id)
        assert stopped.code == 0
        assert f"Job {job_id} is asked to stop" in stopped.err
        assert stopped.out == ""
        done = following.wait()
    assert done.code == 143
    assert re.search(rf"Job {job_id}( \(.*\))? was stopped", done.err)
    again = command("stop", job_id)
    assert again.code == 0
    assert "It has ended already." in again.err


def test_the_same_command_finds_its_job_and_does_not_train_twice(work, command, jobapi_server):
    first = command(*SUBMIT)
    second = command(*SUBMIT)
    assert second.out == first.out
    assert "was submitted before and is" in second.err
    job_id = first.out.strip()
    jobapi_server.wait_for(job_id, "SUCCESSFUL")
    third = command(*SUBMIT, "-w")
    assert third.out == f"{job_id}\nbegun\n"
    assert third.code == 0
    anew = command(*SUBMIT, "--new")
    assert anew.out.strip() not in {job_id, ""}
    script(work, "print('another')")
    assert command(*SUBMIT).out.strip() not in {job_id, anew.out.strip()}


def test_what_failed_is_trained_anew_under_the_next_id(work, command):
    script(work, "import sys\nsys.exit(3)")
    first, second = (command(*SUBMIT, "-w") for _ in range(2))
    assert (first.code, second.code) == (3, 3)
    assert first.out != second.out


def test_a_lost_answer_is_repaired_by_the_same_command(work, command, jobapi_server):
    with FaultProxy(jobapi_server.port) as network:
        address = {**jobapi_server.connection, "host": network.url}
        over = Command(work, address)
        network.next(Broken(), when="POST /api/v2/jobs/")
        lost = over(*SUBMIT, "--patience", "0")
        assert lost.code == 69
        assert lost.out == ""
        assert "may not be submitted yet: the same command goes on with it." in lost.err
        again = over(*SUBMIT, "--patience", "0")
        assert "was submitted before and is" in again.err
        assert again.out.strip() in lost.err
        assert network.count("POST /api/v2/jobs/") == 2


def test_a_short_break_is_waited_for(work, command, jobapi_server):
    with FaultProxy(jobapi_server.port) as network:
        over = Command(work, {**jobapi_server.connection, "host": network.url})
        network.next(Broken(), when="POST /api/v2/jobs/")
        done = over(*SUBMIT)
        assert done.code == 0
        assert "Trying again in" in done.err


def test_an_id_of_ones_own(work, command, jobapi_server):
    job_id = str(uuid.uuid4())
    for said in ("is submitted", "was submitted before"):
        done = command(*SUBMIT, "--id", job_id.upper())
        assert (done.code, done.out) == (0, f"{job_id}\n")
        assert said in done.err
    script(work, "print('another job')")
    other = command(*SUBMIT, "--id", job_id)
    assert (other.code, other.out) == (2, "")
    assert job_id in other.err


def test_ctrl_c_ends_the_waiting_and_not_the_job(work, command, jobapi_server):
    script(work, "import time\nprint('begun', flush=True)\ntime.sleep(600)")
    with command.start(*SUBMIT, "--follow") as following:
        following.wait_for("begun")
        job_id = following.out.split()[0]
        following.interrupt()
        done = following.wait()
    assert done.code == -2  # what a shell shows as 130
    assert f"Job {job_id} goes on: `jobapi logs -f {job_id}` follows it again, `jobapi stop {job_id}` stops" in done.err
    assert "Traceback" not in done.err
    jobapi_server.wait_for(job_id, "RUNNING")
    command("stop", job_id)
    jobapi_server.wait_for(job_id, "STOPPED")


def test_ctrl_c_in_mid_upload_ends_at_once(work, jobapi_server):
    with FaultProxy(jobapi_server.port) as network:
        over = Command(work, {**jobapi_server.connection, "host": network.url})
        network.next(BlackHole(), when="PUT ")
        with over.start(*SUBMIT) as uploading:
            poll(lambda: network.count("PUT ") == 1, 60, "the upload")
            uploading.interrupt()
            done = uploading.wait()
        assert done.code == -2
        assert "Interrupted before job" in done.err
        assert "Traceback" not in done.err
        again = over(*SUBMIT)
        assert again.code == 0
        assert again.out.strip() in done.err


def test_a_terminal_gets_a_bar_and_no_terminal_gets_lines(work, command):
    with (work / "files" / "data.bin").open("wb") as file:
        file.truncate(30_000_000)
    with command.start(*SUBMIT, terminal="err") as submitting:
        done = submitting.wait()
    assert done.code == 0
    assert uuid.UUID(done.out.strip())
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.err).splitlines()
    assert any(re.fullmatch(r"Uploading the files ━{20} 30.0/30.0 MB .* 0:00:00", line.strip()) for line in shown), (
        shown
    )
    assert "done in" not in done.err
    (work / "files" / "more.txt").write_text("x")
    plain = command(*SUBMIT)
    assert "3 files, 30.0 MB, done in" in plain.err
    assert "\x1b" not in plain.err
    assert "\r" not in plain.err
    (work / "files" / "more.txt").write_text("y")
    with command.start(*SUBMIT, terminal="err", env={"TERM": "dumb"}) as submitting:
        assert "\x1b" not in submitting.wait().err


def test_a_job_file_may_name_its_inputs(work, command, jobapi_server):
    content = (work / "files" / "train.py").read_bytes()
    named = {"path": "train.py", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (work / "files" / "big.bin").write_text("not this one")

    def write(*inputs: dict[str, object]) -> None:
        job = {"name": "pinned", "execution": {"command": "ls"}, "inputs": list(inputs)}
        (work / "job.yaml").write_text(json.dumps({"job": job}))

    write(named)
    done = command(*SUBMIT, "-w")
    assert done.code == 0
    assert done.out.splitlines()[1:] == ["model", "train.py"]
    write({**named, "size": 1})
    assert "files/train.py is not the file that job.inputs names" in command(*SUBMIT, "-q").sentence
    write({**named, "path": "none.py"})
    assert "job.inputs names none.py, which is not in files." in command(*SUBMIT, "-q").sentence


def test_a_job_file_from_the_standard_input(command):
    done = command(
        "submit", "-f", "-", "-w", "--new", stdin=b'{"job": {"name": "x", "execution": {"command": "echo hi"}}}'
    )
    assert done.out.splitlines()[1:] == ["hi"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "job.yaml: The job file holds no job"),
        (b"job: [", "job.yaml: The job file is neither YAML nor JSON"),
        (b"job: {name: x, execution: {command: ls}, colour: red}", "job.yaml: job.colour is not a known field"),
        (b"job: {name: x, execution: {command: ls, retries: 2}}", "job.yaml: job.execution.retries cannot be 2"),
        (b"job: {name: x}", "job.yaml: job.execution is missing"),
        (b"\xff\xfe", "job.yaml: The job file is not UTF-8"),
        (b"{" + b" " * 9_000_000, "job.yaml has more than 8.4 MB; it is no job file."),
    ],
)
def test_a_bad_job_file_is_one_sentence(work, command, content, said):
    (work / "job.yaml").write_bytes(content)
    done = command(*SUBMIT)
    assert done.code == 2
    assert said in done.sentence


@pytest.mark.parametrize("folder", ["", "  "])
def test_a_variable_of_the_shell_that_is_not_set_is_no_folder(command, folder):
    done = command("submit", "-f", "job.yaml", folder)
    assert done.code == 2
    assert "The FOLDER is an empty text" in done.sentence


def test_streams_that_are_closed(work, command):
    shell = f"{shlex.join(command._command(('submit', '-f', '-')))} <&-"
    done = subprocess.run(["sh", "-c", shell], cwd=work, env=command.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jobapi: -: The job file holds no job; ")
    shell = f"{shlex.join(command._command(('submit', '-f', 'none.yaml')))} 2>&-"
    done = subprocess.run(["sh", "-c", shell], cwd=work, env=command.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_missing_job_file_and_one_that_is_a_folder(command):
    assert "The job file none.yaml cannot be read: No such file" in command("submit", "-f", "none.yaml").sentence
    assert "The job file files cannot be read: Is a directory." in command("submit", "-f", "files").sentence


def test_what_the_service_refuses_is_its_own_sentence(work, command):
    content = {"name": "x", "execution": {"command": "ls", "resources": {"gpus": 1000}}}
    (work / "job.yaml").write_text(json.dumps({"job": content}))
    done = command("submit", "-f", "job.yaml")
    assert done.code == 2
    assert "The job asks for 1000 GPUs and this server has" in done.sentence


def test_a_folder_for_which_the_service_has_no_room(work, tmp_path):
    with (work / "files" / "data.bin").open("wb") as file:
        file.truncate(3_000_000)
    with running(tmp_path / "root", "--storage-bound", "1MB") as server:
        done = Command(work, server.connection)(*SUBMIT, "-q")
    assert done.code == 2
    assert "The service has no space left for this client." in done.sentence


@pytest.mark.parametrize("missing", ["none", "job.yaml"])
def test_a_folder_that_is_none(command, missing):
    done = command("submit", "-f", "job.yaml", missing)
    assert done.code == 2
    assert "cannot be read" in done.sentence


def test_a_connections_file_is_not_uploaded(work, command, jobapi_server):
    (work / "files" / "conn.json").write_text(json.dumps(jobapi_server.connection))
    done = command(*SUBMIT, "--connection", "files/conn.json")
    assert done.code == 2
    assert "files/conn.json holds the secret of the connection and would be uploaded" in done.sentence


def test_the_shell_sees_130(work, command, jobapi_server):
    """A shell script that was interrupted in a command ends as well, as it does for every other program."""
    script(work, "import time\nprint('begun', flush=True)\ntime.sleep(600)")
    job_id = command(*SUBMIT).out.strip()
    jobapi_server.wait_for(job_id, "RUNNING")
    line = shlex.join(command._command(("logs", "-f", job_id)))
    with_shell = Command(work, jobapi_server.connection)
    with_shell._command = lambda _: ["bash", "-c", f"{line}; echo code $?"]
    with with_shell.start() as shell:
        shell.wait_for("begun")
        child = int((Path("/proc") / str(shell.process.pid) / "task" / str(shell.process.pid) / "children").read_text())
        os.kill(child, 2)
        assert "code 130" in shell.wait().out
    command("stop", job_id)
    jobapi_server.wait_for(job_id, "STOPPED")
