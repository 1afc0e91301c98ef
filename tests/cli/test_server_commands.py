# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest
import requests

from airflow_provider_jobapi.cli import main
from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from tests.harness.server import Server, poll, running


def jobapi(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command: in a process of its own where it would change this one, otherwise here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("JOBAPI_")]:
            patch.delenv(name)
        for name, value in {"JOBAPI_JOBS_AS_ROOT": "1", **(env or {})}.items():
            patch.setenv(name, value)
        if arguments[0] == "serve":
            command = [sys.executable, "-m", "airflow_provider_jobapi.cli", *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    """The one sentence with which a command is refused."""
    answer = jobapi(*arguments, env=env)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("jobapi: ")
    assert answer.stderr.count("\n") == 1
    return answer.stderr


def test_the_first_start_writes_the_connection_and_later_ones_do_not(tmp_path):
    with running(tmp_path / "root") as server:
        printed = (server.root / "connection-airflow.sh").read_text()
        begin = len(server.log())
        assert f"--conn-login airflow --conn-password {server.secret}" in printed
        host, port = f"--conn-host http://127.0.0.1 --conn-port {server.port}", {"port": server.port}
        assert f"airflow connections add jobapi_default --conn-type jobapi {host} " in printed
        assert "--conn-extra" not in printed
        known = {"conn_type": "jobapi", "host": "http://127.0.0.1", "login": "airflow", "password": server.secret}
        assert server.connection == known | port
        server.token()
        server.stop()
        (server.root / "connection-airflow.sh").unlink()
        server.restart()
        again = server.log()[begin:]
        assert server.secret not in again
        assert not (server.root / "connection-airflow.sh").exists()
        assert "Clients: airflow. A lost secret is replaced by `jobapi client renew airflow --root" in again
        server.token()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_code_0(tmp_path, number):
    with running(tmp_path / "root") as server:
        before = len(server.log())
        server.process.send_signal(number)
        assert server.process.wait(15) == 0
        assert server.log()[before:] == ""


def test_two_servers_cannot_share_a_root(tmp_path):
    with running(tmp_path / "root") as server:
        said = refused("serve", "--root", str(server.root), "--port", "0")
        running_there = f"jobapi: A jobAPI server (process {server.process.pid}) is running on {server.root} already: "
        assert said == f"{running_there}use that one, stop it first, or choose another --root and another --port.\n"
        server.kill()
        server.restart()
        server.token()


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("serve", "--root", str(tmp_path / "root"), "--port", str(port))
    assert (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use. If that is a jobAPI server, use it;" in said
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "x"], "--port cannot be 'x'"),
        (["serve", "--host", "0.0.0.0"], "put a proxy with TLS in front, or pass --insecure"),
        (["serve", "--root", "/proc/x"], "The root /proc/x cannot be used"),
        (["serve", "--python", "/bin/false"], "--python /bin/false"),
        (["serve", "--engine", "abacus"], "--engine cannot be 'abacus': the known engines are local."),
        (["gc", "--root", "/none"], "There is no server's root at /none"),
        (["client", "list", "--root", "/none"], "There is no server's root at /none"),
        (["client", "renew", "x", "--root", "/none"], "There is no server's root at /none"),
    ],
)
def test_an_invalid_command_is_refused_in_one_sentence(tmp_path, arguments, said):
    assert said in refused(*arguments, env={"JOBAPI_ROOT": str(tmp_path / "root")})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_without_users_refuses_to_run_jobs_unless_an_option_says_so(tmp_path):
    place = tmp_path / "root"
    said = refused("serve", "--root", str(place), "--port", "0", env={"JOBAPI_JOBS_AS_ROOT": ""})
    assert "The server runs as root, and each job would run as root, too" in said
    assert "--users FIRST-LAST" in said
    assert "pass --jobs-as-root" in said
    assert not place.exists()  # so that another user can be given it
    with running(place, "--jobs-as-root") as server:
        assert "Jobs run as root (--jobs-as-root): each job can read and change the files" in server.log()


@pytest.mark.parametrize(
    ("root", "users", "as_root", "runs"),
    [(True, None, False, False), (True, None, True, True), (True, (2, 3), False, True), (False, None, False, True)],
)
def test_who_may_run_jobs(tmp_path, monkeypatch, root, users, as_root, runs):
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    settings = Settings(root=tmp_path, users=users, jobs_as_root=as_root)
    with contextlib.nullcontext() if runs else pytest.raises(SettingsError, match="pass --jobs-as-root"):
        make_engine(settings)


def test_the_start_says_what_jobs_can_read_of_one_another(tmp_path):
    with running(tmp_path / "root") as server:
        lines = [line for line in server.log().splitlines() if line.startswith("Jobs run as ")]
        assert len(lines) == 1
        assert "the files, variables and secrets of every other job" in lines[0]


def test_an_invalid_variable_is_named():
    assert "JOBAPI_PORT cannot be 'x'" in refused("serve", env={"JOBAPI_PORT": "x"})


def test_insecure_allows_a_network_address(tmp_path):
    with running(tmp_path / "root", "--host", "0.0.0.0", "--insecure") as server:
        assert server.request("GET", "/api/v2/storage").json()["status"] == "READY"


def test_the_root_is_the_servers_alone(tmp_path):
    with running(tmp_path / "root") as server:
        server.put("a/b", b"x")
        for path in [server.root, *server.root.rglob("*")]:
            mode = stat.S_IMODE(path.lstat().st_mode)
            allowed = 0o711 if path in {server.root, server.root / "clients"} else 0o710 if path.is_dir() else 0o600
            assert mode & ~allowed == 0, (path, oct(mode))


def test_a_second_client_needs_users_or_trust(tmp_path):
    place = str(tmp_path / "root")
    first = jobapi("client", "add", "one", "--root", place, "--port", "4711")
    assert first.returncode == 0
    assert "--conn-host http://127.0.0.1 --conn-port 4711" in first.stdout
    said = refused("client", "add", "two", "--root", place)
    assert "The clients one, two would share one user id" in said
    assert "--users FIRST-LAST (as root), or pass --trust-all-clients" in said
    assert "The client 'one' exists" in refused("client", "add", "one", "--root", place)
    assert "cannot have the id 'Two/..'" in refused("client", "add", "Two/..", "--root", place)
    assert jobapi("client", "add", "two", "--root", place, "--trust-all-clients").returncode == 0
    assert "would share one user id" in refused("serve", "--root", place, "--port", "0")
    assert jobapi("client", "list", "--root", place).stdout == "one: 0 bytes stored\ntwo: 0 bytes stored\n"
    assert jobapi("client", "remove", "two", "--root", place).returncode == 0
    assert "There is no client 'two'" in refused("client", "remove", "two", "--root", place)
    assert jobapi("client", "list", "--root", place).stdout == "one: 0 bytes stored\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give clients user ids")
def test_clients_with_user_ids_of_their_own(tmp_path):
    place = tmp_path / "root"
    users = ("--root", str(place), "--users", "200000-200001")
    assert jobapi("client", "add", "one", "--root", str(place)).returncode == 0  # before --users is used
    assert jobapi("client", "add", "two", *users).returncode == 0
    database = Database(place / "jobapi.sqlite")
    ClientRegistry(Settings(root=place, users=(200000, 200001)), database).check()  # as at the start of a server
    database.close()
    assert jobapi("client", "list", "--root", str(place)).stdout == (
        "one: 0 bytes stored, user id 200001\ntwo: 0 bytes stored, user id 200000\n"
    )
    assert "All user ids of --users 200000-200001 belong to clients" in refused("client", "add", "three", *users)
    for name, number in (("one", 200001), ("two", 200000)):
        home = place / "clients" / name
        assert (home.stat().st_uid, home.stat().st_gid) == (0, number)
        assert stat.S_IMODE(home.stat().st_mode) == 0o710
        assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700


def test_a_renewed_secret_replaces_the_old_one(tmp_path):
    with running(tmp_path / "root") as server:
        old = server.secret
        answer = jobapi("client", "renew", "airflow", "--root", str(server.root), "--url", server.url)
        assert answer.returncode == 0
        assert old not in answer.stdout
        new = answer.stdout.split("--conn-password ")[1].split()[0]
        grant = {"grant_type": "client_credentials"}
        for secret, status in ((old, 401), (new, 200)):
            answer = requests.post(f"{server.url}/oauth/token", data=grant, auth=("airflow", secret), timeout=30)
            assert answer.status_code == status
        server.connection["password"] = new


def test_a_removed_client_has_no_access_and_no_files(tmp_path):
    with running(tmp_path / "root") as server:
        job_id = server.submit("import time\nwhile True: time.sleep(0.1)\n")
        said = refused("client", "remove", "airflow", "--root", str(server.root))
        assert f"The job {job_id} of 'airflow' has not ended; stop it first." in said
        server.request("POST", f"/api/v2/jobs/{job_id}/stop")
        server.wait_for(job_id)
        header = {"Authorization": f"Bearer {server.token()}"}
        assert jobapi("client", "remove", "airflow", "--root", str(server.root)).returncode == 0
        url = f"{server.url}/api/v2/jobs"
        poll(lambda: requests.get(url, headers=header, timeout=30).status_code == 401, 15, "the client to be out")
        assert not (server.root / "clients" / "airflow").exists()
        server.stop()
        server.restart()
        assert server.request("GET", "/api/v2/jobs").json()["jobs"] == []  # a first start again


def test_a_root_without_its_database_is_left_alone(tmp_path):
    place = str(tmp_path / "root")
    assert jobapi("client", "add", "one", "--root", place).returncode == 0
    (tmp_path / "root" / "jobapi.sqlite").unlink()
    for command in (("serve", "--port", "0"), ("client", "add", "one")):
        assert "the database jobapi.sqlite is missing" in refused(*command, "--root", place)
    assert (tmp_path / "root" / "clients" / "one" / "data").is_dir()


def test_gc_removes_old_jobs_and_the_leftovers_of_a_crash(tmp_path):
    with running(tmp_path / "root") as server:
        job_id = server.submit("print(1)", name="old")
        server.wait_for(job_id, timeout=120)
        server.put("kept", b"kept")
        server.stop()
        orphan = server.root / "clients" / "airflow" / "data" / "half.part"
        orphan.write_bytes(b"x" * 5_000)
        answer = jobapi("gc", "--root", str(server.root), "--retention", "30d")
        assert answer.returncode == 0
        assert "5.0 kB were freed" in answer.stdout
        assert "jobs are gone" not in answer.stdout
        assert not orphan.exists()
        poll(lambda: "1 jobs are gone" in gc(server), 10, "a second to pass")
        server.restart()
        assert server.request("GET", f"/api/v2/jobs/{job_id}").status_code == 410
        assert [each["key"] for each in server.request("GET", "/api/v2/storage/objects").json()["objects"]] == ["kept"]


def gc(server: Server) -> str:
    return jobapi("gc", "--root", str(server.root), "--retention", "1s").stdout


def test_gc_has_a_running_server_collect(tmp_path):
    with running(tmp_path / "root") as server:
        job_id = server.submit("print(1)")
        server.wait_for(job_id, timeout=120)
        answer = jobapi("gc", "--root", str(server.root))
        assert answer.stdout == (
            f"The server that runs on {server.root} (process {server.process.pid}) collects now.\n"
        )
        poll(lambda: "environments were removed" in server.log(), 30, "the server to collect")
        assert server.request("GET", f"/api/v2/jobs/{job_id}").status_code == 200


def test_a_running_server_removes_old_jobs(tmp_path):
    with running(tmp_path / "root", "--retention", "1s") as server:
        job_id = server.submit("print(1)")
        path = f"/api/v2/jobs/{job_id}"
        poll(lambda: server.request("GET", path).status_code == 410, 60, "the job's retention to be over")
        assert server.request("GET", "/api/v2/storage/objects").json()["objects"] == []


def test_a_missing_library_is_named_with_what_to_install(tmp_path):
    (tmp_path / "joserfc").mkdir()
    (tmp_path / "sqlalchemy.py").write_text("raise ModuleNotFoundError('no', name='sqlalchemy')")
    answer = jobapi("serve", env={"PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 2
    assert answer.stderr == "jobapi: sqlalchemy is missing: pip install 'airflow-provider-jobapi[server]'\n"
