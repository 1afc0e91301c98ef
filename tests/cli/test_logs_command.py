# SPDX-License-Identifier: Apache-2.0
"""``jobapi logs``: every line once and in order, through a killed server, into pipes and terminals of any kind."""

from __future__ import annotations

import os
import re
import subprocess
import uuid

import pytest

from tests.harness.command import Command
from tests.harness.follow import log_page
from tests.harness.server import Server
from tests.harness.tiny import Tiny, reply

ENDLESS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
PAGE = "GET /api/v2/jobs/{}/logs"


def counting(lines: int, pause: float, code: int = 0) -> str:
    return (
        f"import sys, time\nfor line in range({lines}):\n    print('line', line, flush=True)\n    time.sleep({pause})\n"
        f"sys.exit({code})\n"
    )


def expected(lines: int, begin: int = 0) -> list[str]:
    return [f"line {line}" for line in range(begin, lines)]


def stop(server: Server, job_id: str) -> None:
    server.request("POST", f"/api/v2/jobs/{job_id}/stop")
    server.wait_for(job_id, "STOPPED")


def test_the_log_so_far_and_its_end(command, jobapi_server):
    job_id = jobapi_server.submit(counting(1_000, 0))
    jobapi_server.wait_for(job_id)
    whole = command("logs", job_id)
    assert (whole.code, whole.err) == (0, "")
    assert whole.out.splitlines() == expected(1_000)
    assert command("logs", job_id, "--tail", "3").out.splitlines() == expected(1_000, 997)
    assert command("logs", job_id, "--tail", "0").out == ""
    assert command("logs", job_id, "--tail", "2000").out == whole.out
    timed = command("logs", job_id, "--tail", "2", "--timestamps").out
    assert timed == "".join(jobapi_server.job_log(job_id).splitlines(keepends=True)[-2:])


def test_the_log_of_a_job_that_goes_on_is_printed_without_waiting(command, jobapi_server):
    job_id = jobapi_server.submit(ENDLESS)
    with command.start("logs", "-f", "--tail", "5", job_id) as following:
        following.wait_for("begun")
        assert command("logs", job_id).out == "begun\n"
        with command.start("logs", "-f", "--tail", "0", job_id) as later:
            later.wait_for("is RUNNING", "err")
            stop(jobapi_server, job_id)
            done = later.wait()
        assert done.code == 143
        assert "begun" not in done.out
        assert following.wait().out.count("begun") == 1


def test_follow_ends_with_the_jobs_code_also_when_it_is_over_already(command, jobapi_server):
    job_id = jobapi_server.submit(counting(3, 0, code=9))
    first = command("logs", "-f", job_id)
    again = command("logs", "-f", job_id, "--tail", "1", "--quiet")
    assert (first.code, again.code) == (9, 9)
    assert first.out.splitlines() == expected(3)
    assert (again.out, again.err) == ("line 2\n", "")


def test_no_line_is_lost_or_doubled_when_the_server_is_killed(work, jobapi):
    job_id = jobapi.submit(counting(200, 0.05, code=5))
    command = Command(work, jobapi.connection)
    with command.start("logs", "-f", job_id) as following:
        following.wait_for("line 20\n")
        jobapi.kill()
        following.wait_for("is lost", "err")
        jobapi.restart()
        following.wait_for("is back", "err")
        jobapi.kill()
        jobapi.restart()
        done = following.wait()
    assert done.out.splitlines() == expected(200)
    assert done.code == 5
    assert "Contact with the job service is lost: " in done.err
    assert "Contact with the job service is back after " in done.err
    assert re.search(rf"Job {job_id}( \(.*\))? failed: NonZeroExit, exit code 5\.", done.err)


def test_patience_ends_and_the_job_goes_on(work, jobapi):
    job_id = jobapi.submit(ENDLESS)
    command = Command(work, jobapi.connection)
    with command.start("logs", "-f", job_id, "--patience", "1.5") as following:
        following.wait_for("begun")
        jobapi.kill()
        done = following.wait()
    assert done.code == 69
    assert done.err.endswith(f"Job {job_id} may go on: `jobapi logs -f {job_id}` follows it again.\n")
    assert "Traceback" not in done.err
    jobapi.restart()
    jobapi.wait_for(job_id, "RUNNING")


def test_ctrl_c_says_that_the_job_goes_on(command, jobapi_server):
    job_id = jobapi_server.submit(ENDLESS)
    with command.start("logs", "-f", job_id, terminal="out err") as following:
        following.wait_for("begun")
        following.interrupt()
        done = following.wait()
    assert done.code == -2
    assert f"jobapi: Job {job_id} goes on: " in done.err
    assert "Traceback" not in done.err
    jobapi_server.wait_for(job_id, "RUNNING")
    stop(jobapi_server, job_id)


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_a_closed_pipe_ends_the_command(command, jobapi_server, follow):
    job_id = jobapi_server.submit("for line in range(50_000): print('line', line, 'x' * 20)\n")
    jobapi_server.wait_for(job_id)
    process = subprocess.Popen(
        command._command(("logs", *follow, job_id)),
        env=command.env,
        cwd=command.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"line 0 " + b"x" * 20 + b"\n"
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 141
    assert not [line for line in said.splitlines() if b"RUNNING" not in line], said
    process.stderr.close()


def test_a_pipe_that_was_closed_before_the_first_line(command, jobapi_server):
    job_id = jobapi_server.submit()
    jobapi_server.wait_for(job_id)
    reading, writing = os.pipe()
    os.close(reading)
    for words in (("status", job_id), ("logs", job_id)):
        ran = subprocess.run(
            command._command(words),
            env=command.env,
            cwd=command.folder,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (141, b"")
    os.close(writing)


def test_a_full_disk_is_one_sentence(command, jobapi_server):
    job_id = jobapi_server.submit()
    jobapi_server.wait_for(job_id)
    line = " ".join(command._command(("logs", job_id)))
    ran = subprocess.run(
        ["sh", "-c", f"{line} > /dev/full"], env=command.env, cwd=command.folder, capture_output=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr == b"jobapi: The output: No space left on device.\n"


def test_a_terminal_whose_encoding_lacks_characters(command, jobapi_server):
    job_id = jobapi_server.submit("print('Gr\\u00fc\\u00dfe \\u2713 \\U0001f600')\n")
    jobapi_server.wait_for(job_id)
    done = command("logs", "-f", job_id, env={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.out) == (0, "Gr\\xfc\\xdfe \\u2713 \\U0001f600\n")
    assert command("logs", job_id, env={"PYTHONIOENCODING": "latin-1"}).code == 0
    assert command("logs", job_id).out == "Grüße ✓ 😀\n"


HOSTILE = "a\x1b]0;owned\x07b\x1b[2J\x1b[31mred\x1b[0m\x9b5mc\x08\u202egpj.exe\x1b\x1b[0m[2J\ttab"


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_hostile_lines_do_not_control_the_terminal(work, follow):
    """A service that passes on whatever a job prints, as services other than `jobapi serve` may."""
    job_id = str(uuid.uuid4())
    status = {"job_id": job_id, "status": "SUCCESSFUL", "name": HOSTILE, "message": HOSTILE}
    page = log_page(f"2026-01-01T00:00:00.000000Z {HOSTILE}\n".encode(), status="SUCCESSFUL", complete=True)
    routes = {PAGE.format(job_id): page, f"GET /api/v2/jobs/{job_id}": reply(status)}
    with Tiny(routes) as tiny:
        command = Command(work, {"host": tiny.url, "login": "a", "password": "b"})
        with command.start("logs", *follow, job_id, terminal="out err") as shown:
            done = shown.wait()
        assert done.code == 0
        assert done.out == ("a\\x1b]0;owned\\x07b\\x1b[2Jred\\x9b5mc\\x08\\u202egpj.exe\\x1b[2J\ttab\r\n")
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", done.err)
        assert command("logs", job_id).out == f"{HOSTILE}\n"
        listed = command("status", job_id)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", listed.out)


def test_a_log_that_is_never_complete_ends(work, monkeypatch):
    """The log counts as complete after some seconds, which a sitecustomize shortens in the subprocess."""
    job_id = str(uuid.uuid4())
    begin = f"{PAGE.format(job_id)}?offset"
    line = b"2026-01-01T00:00:00.000000Z the only line\n"
    routes = {
        f"{begin}=0": log_page(line, status="SUCCESSFUL"),
        f"{begin}={len(line)}": log_page(b"", len(line), status="SUCCESSFUL"),
        f"GET /api/v2/jobs/{job_id}": reply({"job_id": job_id, "status": "SUCCESSFUL"}),
    }
    site = work / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import airflow_provider_jobapi.services.follow as f\n"
        "f.follow.__kwdefaults__['limits'] = f.Limits(complete_log=0.5)\n"
    )
    with Tiny(routes) as tiny:
        command = Command(work, {"host": tiny.url, "login": "a", "password": "b"})
        done = command("logs", "-f", job_id, env={"PYTHONPATH": str(site)})
    assert (done.code, done.out) == (0, "the only line\n")


def test_errors_of_a_proxy_are_waited_for_once_the_service_has_answered(work):
    """403, 404 and a page that is no log are waited for once the service has answered, and refused before."""
    job_id = str(uuid.uuid4())
    line = b"2026-01-01T00:00:00.000000Z line\n"
    answers = [
        log_page(line),
        reply({"detail": "no"}, 403),
        reply({"detail": "no"}, 404),
        log_page(b"<html>"),
        log_page(line, len(line), status="SUCCESSFUL", complete=True),
    ]
    routes = {
        PAGE.format(job_id): lambda _: answers.pop(0),
        f"GET /api/v2/jobs/{job_id}": reply({"job_id": job_id, "status": "SUCCESSFUL"}),
    }
    with Tiny(routes) as tiny:
        command = Command(work, {"host": tiny.url, "login": "a", "password": "b"})
        done = command("logs", "-f", job_id)
        assert (done.code, done.out) == (0, "line\nline\n")
        answers += [reply({"detail": "no"}, 403)]
        refused = command("logs", "-f", job_id)
    assert refused.code == 2
    assert "does not permit this client to access" in refused.sentence


def test_a_job_that_is_not_there(command):
    job_id = str(uuid.uuid4())
    for words in (("logs",), ("logs", "-f"), ("logs", "--tail", "1"), ("status",), ("stop",)):
        done = command(*words, job_id)
        assert done.code == 2
        assert done.sentence == f"The service has no job {job_id}; it was never submitted with this connection."


def test_a_job_that_was_deleted(command, jobapi_server):
    job_id = jobapi_server.submit()
    jobapi_server.wait_for(job_id)
    assert jobapi_server.request("DELETE", f"/api/v2/jobs/{job_id}").status_code == 204
    done = command("logs", "-f", job_id)
    assert done.code == 2
    assert "is gone from the service" in done.sentence
