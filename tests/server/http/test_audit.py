# SPDX-License-Identifier: Apache-2.0
"""Who logged in, submitted, stopped and deleted, in the log of a real server."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.harness.server import AS_ROOT, Server, poll, renew, running

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("audit") / "root", "--grace", "1s") as started:
        yield started


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(text) for text in re.findall(r"^\S+ \S+ INFO audit (\{.*\})$", server.log(), re.MULTILINE)]


def last(server: Server) -> dict[str, Any]:
    return lines(server)[-1]


@pytest.mark.parametrize(
    ("method", "more", "client"),
    [
        ("POST", {"auth": ("airflow", "wrong")}, "airflow"),
        ("POST", {"auth": ("nobody", "x")}, "nobody"),
        ("GET", {"auth": ("airflow", "wrong")}, "airflow"),
        ("POST", {"data": GRANT | {"client_id": "airflow", "client_secret": "wrong"}}, "airflow"),
        ("POST", {}, ""),
        ("POST", {"data": GRANT | {"client_id": "x\n2026-11-30 03:00:00,000 INFO audit {}\r\x1b\u2028"}}, None),
        ("POST", {"auth": ("y" * 5_000, "x")}, "y" * 200),
    ],
)
def test_a_login_that_failed_is_one_line(server: Server, method, more, client):
    before = lines(server)
    given = {"params" if method == "GET" else "data": GRANT} | more
    answer = requests.request(method, f"{server.url}/oauth/token", timeout=30, **given)
    assert answer.status_code == 401
    (line,) = lines(server)[len(before) :]
    assert (line["event"], line["address"]) == ("login failed", "127.0.0.1")
    assert client is None or line["client"] == client
    assert "wrong" not in str(line)
    assert "forwarded" not in line


def test_submits_stops_and_deletes_are_one_line_each(server: Server):
    before = len(lines(server))
    job_id = server.submit("import time; time.sleep(60)", name="some-job")
    server.wait_for(job_id, "RUNNING")
    again = server.request("POST", f"/api/v2/jobs/{job_id}/stop")
    assert again.status_code == 200
    server.wait_for(job_id, "STOPPED")
    assert server.request("DELETE", f"/api/v2/jobs/{job_id}").status_code == 204
    server.put("some/ö", b"x")
    assert server.request("DELETE", "/api/v2/storage/objects/some/ö").status_code == 204
    assert server.request("DELETE", "/api/v2/storage/objects/some/ö").status_code == 404
    who = {"client": "airflow", "address": "127.0.0.1"}
    assert lines(server)[before:] == [
        {"event": "submit", "job": job_id, "name": "some-job", "new": True} | who,
        {"event": "stop", "job": job_id, "status": "RUNNING"} | who,
        {"event": "delete job", "job": job_id} | who,
        {"event": "delete object", "key": "some/ö"} | who,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "203.0.113.5, 10.0.0.1"),
        ("Forwarded", 'for="[2001:db8::1]";proto=https'),
        ("X-Real-IP", "203.0.113.5"),
    ],
)
def test_behind_a_proxy_both_addresses_are_named_and_none_is_forged(server: Server, name, value):
    answer = requests.post(
        f"{server.url}/oauth/token", data=GRANT, auth=("airflow", "no"), headers={name: value}, timeout=30
    )
    assert answer.status_code == 401
    assert (last(server)["address"], last(server)["forwarded"]) == ("127.0.0.1", value)


def test_a_token_that_is_refused_is_a_line_too(server: Server):
    old = server.token()
    renew(server)
    headers = {"Authorization": f"Bearer {old}x"}
    assert requests.get(f"{server.url}/api/v2/jobs", headers=headers, timeout=30).status_code == 401
    assert last(server)["event"] == "token refused"
    assert old not in server.log()


def test_the_first_secret_is_in_a_file_of_its_user_and_not_in_the_log(tmp_path: Path):
    os.umask(0o022)
    with running(tmp_path / "the root") as server:
        file = server.root / "connection-airflow.sh"
        assert file.stat().st_mode & 0o777 == 0o600
        assert str(file) in server.log()
        assert server.secret in file.read_text()
        assert server.secret not in server.log()
        shell = f'. "{file}" && printenv AIRFLOW_CONN_JOBAPI_DEFAULT'
        printed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
        assert json.loads(printed) == server.connection
        old = server.secret
        server.stop()
        server.restart()
        assert old not in server.log()
        assert server.log().count(str(file)) > 1  # the next start names it, too
        renew(server)
        assert server.request("GET", "/api/v2/jobs").status_code == 200
        assert not file.exists()


def test_a_link_at_the_place_of_the_file_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/connection-airflow.sh").symlink_to(victim)
    with running(tmp_path / "root"):
        assert victim.read_text() == "mine"


def test_at_a_terminal_the_connection_is_shown(tmp_path: Path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "serve", "--root", str(tmp_path / "root")]
    process = subprocess.Popen([*command, "--port", "0", *AS_ROOT], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""

    def ready() -> bool:
        nonlocal shown
        shown += os.read(ours, 65536)
        return b"export AIRFLOW_CONN_JOBAPI_DEFAULT=" in shown and shown.endswith(b"\n")

    try:
        poll(ready, 60, "the connection")
    finally:
        process.terminate()
        process.wait()
        os.close(ours)
    secret = re.search(r'"password": "([0-9a-f]{64})"', (tmp_path / "root/connection-airflow.sh").read_text())
    assert secret
    assert secret[1].encode() in shown
