# SPDX-License-Identifier: Apache-2.0
"""Hostile jobs on the machine that runs them: jobs of two clients under their own user ids, which needs root."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.server import Server, poll
from tests.hostile.tenants import Tenant, add_client, tenant_of

FIRST, LAST = 200_000, 200_099
PYTHON = "/usr/bin/python3"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(PYTHON, os.X_OK),
    reason=f"user ids of their own need root, and jobs a Python that every user may run ({PYTHON})",
)

_TRY = """
import json, os, sys
found = {}
def attempt(name, action):
    try:
        found[name] = repr(action())[:200]
    except BaseException as error:
        found[name] = "no: " + type(error).__name__
def read(path):
    with open(path, "rb") as file:
        return file.read(100)
def write(path):
    with open(path, "ab") as file:
        file.write(b"x")
"""
_TELL = "\nprint('FOUND ' + json.dumps(found))\n"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Return a root directory that every user may enter, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="jobapi-users-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # which goes deeper than shutil does


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[tuple[Server, Tenant, Tenant]]:
    options = ("--users", f"{FIRST}-{LAST}", "--python", PYTHON, "--grace", "1s", "--cpus", "4")
    with Server.start(place / "root", *options) as server:
        yield server, tenant_of(server), add_client(server, "mallory", "--users", f"{FIRST}-{LAST}")


@pytest.fixture(scope="module")
def victim(served: tuple[Server, Tenant, Tenant]) -> dict[str, Any]:
    """Return an ended job of Alice, whose directory stays since it failed."""
    ended = served[1].run("open('result.txt', 'w').write('the secret recipe')\nraise SystemExit(3)")
    assert ended["exitCode"] == 3, ended
    return ended


def _found(tenant: Tenant, body: str, **more: Any) -> dict[str, str]:
    ended = tenant.run(_TRY + body + _TELL, **more)
    line = next((line for line in tenant.log(ended["job_id"]).splitlines() if line.startswith("FOUND ")), None)
    assert line, (ended, tenant.log(ended["job_id"]))
    return dict(json.loads(line[6:]))


def test_a_job_can_only_read_and_write_its_own_files(
    served: tuple[Server, Tenant, Tenant], victim: dict[str, Any], tally: Counter[str]
) -> None:
    server, alice, mallory = served
    root, theirs = server.root, server.root / "clients" / alice.client_id
    job = theirs / "jobs" / victim["job_id"]
    assert (job / "work" / "result.txt").read_text() == "the secret recipe"
    blobs = [path for path in (theirs / "data").rglob("*") if path.is_file()]
    readable = [
        root / "jobapi.sqlite", root / "jobapi.sqlite-wal", root / "lock", root / "keys" / "token-key.json",
        job / "log", job / "spec.json", job / "exit.json", job / "work" / "result.txt", job / "inputs" / "train.py",
        *blobs, Path("/etc/shadow"),
    ]  # fmt: skip
    assert all(path.exists() for path in readable if path.suffix != ".sqlite-wal"), readable
    listed = [root, root / "keys", root / "clients", theirs, theirs / "data", theirs / "jobs", job, job / "work",
              theirs / "environments" / "venvs", theirs / "environments" / "uv-cache"]  # fmt: skip
    own = root / "clients" / mallory.client_id / "jobs"
    body = f"""
for path in {[str(path) for path in readable]!r}:
    attempt("read " + path, lambda: read(path))
    attempt("write " + path, lambda: write(path))
    attempt("remove " + path, lambda: os.remove(path))
    attempt("link " + path, lambda: os.link(path, "linked" + os.path.basename(path)))
for path in {[str(path) for path in listed]!r}:
    attempt("list " + path, lambda: os.listdir(path))
    attempt("make in " + path, lambda: os.mkdir(path + "/mine"))
    attempt("rename " + path, lambda: os.rename(path, path + ".away"))
home = {str(own)!r} + "/" + os.environ["JOB_ID"]
for name in ("exit.json", "started", "stop", "spec.json", "log", "lock", "requirements.txt", "new"):
    attempt("write own " + name, lambda: write(home + "/" + name))
    attempt("replace own " + name, lambda: os.replace("train.py", home + "/" + name))
for name in ("spec.json", "exit.json.new", "inputs/train.py"):
    attempt("read own " + name, lambda: read(home + "/" + name))
attempt("rename own work", lambda: os.rename(home + "/work", home + "/away"))
attempt("list jobs", lambda: os.listdir({str(own)!r}))
"""
    found = _found(mallory, body)
    broken = {name: what for name, what in found.items() if not what.startswith("no: ")}
    assert not broken
    tally["attempts of a job at what is not its own"] += len(found)


def test_a_job_cannot_signal_other_processes(served: tuple[Server, Tenant, Tenant], tally: Counter[str]) -> None:
    server, _, mallory = served
    body = f"""
import ctypes, signal
supervisor = os.getppid()
try:
    while os.stat(f"/proc/{{supervisor}}").st_uid == os.getuid():
        supervisor = int(open(f"/proc/{{supervisor}}/stat").read().rpartition(")")[2].split()[1])
    assert b"supervisor" in open(f"/proc/{{supervisor}}/cmdline", "rb").read()
except FileNotFoundError:  # where the processes of others are hidden, its id is known and no more
    pass
for process in {{supervisor, {server.process.pid}, {os.getpid()}, 1}}:
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL, signal.SIGUSR1):
        attempt(f"signal {{number}} to {{process}}", lambda: os.kill(process, number))
    for name in ("environ", "mem", "maps"):
        attempt(f"read {{name}} of {{process}}", lambda: read(f"/proc/{{process}}/{{name}}"))
    attempt(f"list fd of {{process}}", lambda: os.listdir(f"/proc/{{process}}/fd"))
    attempt(f"root of {{process}}", lambda: os.listdir(f"/proc/{{process}}/root"))
libc = ctypes.CDLL(None, use_errno=True)
def check(answer):
    if answer != 0:
        raise OSError(ctypes.get_errno())
attempt("ptrace", lambda: check(libc.ptrace(16, supervisor, 0, 0)))
attempt("setuid", lambda: os.setuid(0))
attempt("setgid", lambda: os.setgid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("mknod", lambda: os.mknod("device", 0o600 | 0o060000, os.makedev(8, 0)))
attempt("chown", lambda: os.chown("train.py", 0, 0))
attempt("chroot", lambda: os.chroot("."))
attempt("mount", lambda: check(libc.mount(b"none", b".", b"tmpfs", 0, None)))
attempt("sudo", lambda: os.posix_spawn("/usr/bin/sudo", ["sudo", "-n", "true"], {{}}) and os.waitpid(-1, 0)[1] or 1 / 0)
"""
    found = _found(mallory, body)
    broken = {name: what for name, what in found.items() if not what.startswith("no: ")}
    assert not broken
    assert server.process.poll() is None
    tally["attempts of a job at what is not its own"] += len(found)


def test_a_job_inherits_no_variables_and_files_of_the_server(served: tuple[Server, Tenant, Tenant]) -> None:
    _, _, mallory = served
    body = """
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
found["ids"] = [os.getresuid(), os.getresgid(), os.getgroups()]
found["status"] = {name: status[name] for name in ("NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
found["files"] = sorted(os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name not in "012")
found["names"] = sorted(os.environ)
found["cwd"] = os.getcwd()
"""
    found: dict[str, Any] = dict(_found(mallory, body))
    (real, effective, saved), groups = found["ids"][0], found["ids"][2]
    assert real == effective == saved
    assert FIRST <= real <= LAST
    assert groups in ([], [real])
    assert found["status"]["NoNewPrivs"].strip() == "1"
    assert all(
        int(value, 16) == 0
        for name, value in found["status"].items()
        if name in {"CapInh", "CapPrm", "CapEff", "CapAmb"}
    )
    # The folder that is being listed is open itself.
    assert all("/proc/" in name for name in found["files"]), found["files"]
    assert not [name for name in found["names"] if name.startswith(("JOBAPI_", "AIRFLOW", "UV_", "PYTEST"))]
    assert found["cwd"].endswith("/work")


def test_processes_that_a_job_leaves_running_are_ended(served: tuple[Server, Tenant, Tenant]) -> None:
    _, _, mallory = served
    word = f"left-{uuid.uuid4().hex}"
    ended = mallory.run(f"""
import os, subprocess, sys, time
code = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600) # {word}"
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", code], {{}})
        os._exit(0)
time.sleep(1)
""")
    assert ended["status"] == "SUCCESSFUL"

    def left() -> list[int]:
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if word in " ".join(process.info["cmdline"] or [])
        ]

    poll(lambda: not left(), 10, "what the job left running to be ended")


def test_a_job_cannot_make_the_server_write_outside_of_a_work_folder_by_links(
    served: tuple[Server, Tenant, Tenant], place: Path, tally: Counter[str]
) -> None:
    """Another job of the same user puts links into a work folder while root fills it."""
    server, alice, _ = served
    target = place / "of-root"
    target.write_text("intact")
    target.chmod(0o644)
    # A file between two links, large enough that the copying takes a while.
    names = [f"part{number:03}" for number in range(60)]
    job_id = str(uuid.uuid4())
    for name in names:
        assert alice.put(f"jobs/test-{job_id}/{name}", os.urandom(2**20)).status_code == 201
    work = server.root / "clients" / alice.client_id / "jobs" / job_id / "work"
    waiting = str(uuid.uuid4())
    script = f"""
import os, time
print("waiting", flush=True)
planted, deadline = 0, time.monotonic() + 60
while time.monotonic() < deadline and not os.path.exists({str(work)!r} + "/over"):
    for name in {[*names, "model", "over2"]!r}:
        try:
            os.symlink({str(target)!r}, {str(work)!r} + "/" + name)
            planted += 1
        except OSError:
            pass
print("planted", planted)
"""
    assert alice.put(f"jobs/test-{waiting}/train.py", script.encode()).status_code == 201
    assert alice.submit(waiting, "python3 train.py").status_code == 201
    poll(lambda: "waiting" in alice.log(waiting), 60, "the other job to lie in wait")
    assert alice.submit(job_id, "sleep 1; touch over; sleep 1").status_code == 201
    poll(lambda: alice.status(job_id)["status"] in {"SUCCESSFUL", "FAILED"}, 60, "the job to end")
    poll(lambda: alice.status(waiting)["status"] in {"SUCCESSFUL", "FAILED"}, 90, "the other job to end")
    assert int(alice.log(waiting).rpartition("planted ")[2]) > 0
    assert target.read_bytes() == b"intact"
    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o644)
    tally["files that root copied under attack"] += len(names)


def test_environments_are_removed_under_their_owners_user_id(served: tuple[Server, Tenant, Tenant]) -> None:
    """uv walks through a cache that jobs may write. As root it could be made to delete other files."""
    from airflow_provider_jobapi.server.run.environment_collection import clean_cache

    server, alice, _ = served
    home = server.root / "clients" / alice.client_id / "environments"
    assert (home / "uv-cache").stat().st_uid in range(FIRST, LAST + 1)
    witness = server.root / "bin" / "witness"
    witness.write_text(f'#!/bin/sh\nid -u > "{home}/uv-cache/who"\n')
    witness.chmod(0o755)
    clean_cache(str(witness), home)
    assert int((home / "uv-cache" / "who").read_text()) == (home / "uv-cache").stat().st_uid


_LEAVINGS = {
    "a-link-as-the-model": "os.rmdir(model); os.symlink('/etc', model)",
    "a-link-as-the-graph": "os.symlink({secret!r}, model + '/saved_model.pb')",
    "a-link-among-the-variables": "graph(); os.mkdir(model + '/variables'); os.symlink({secret!r}, model + '/variables/a')",
    "a-linked-folder": "graph(); os.symlink('/etc', model + '/variables')",
    "a-linked-folder-with-a-model": "os.rmdir(model); os.mkdir('real'); open('real/saved_model.pb', 'w').close(); os.symlink('real', model)",
    "a-loop": "graph(); os.symlink('.', model + '/loop')",
    "a-FIFO-as-the-graph": "os.mkfifo(model + '/saved_model.pb')",
    "a-FIFO-among-the-variables": "graph(); os.mkdir(model + '/variables'); os.mkfifo(model + '/variables/a')",
    "a-socket": "graph(); import socket; socket.socket(socket.AF_UNIX).bind(model + '/s')",
    "a-directory-as-the-graph": "os.mkdir(model + '/saved_model.pb')",
    "a-closed-directory": "graph(); os.mkdir(model + '/variables', 0)",
    "a-closed-file": "graph(); os.chmod(model + '/saved_model.pb', 0)",
    "a-name-of-no-encoding": "graph(); open(os.fsencode(model) + b'/\\xff\\xfe', 'w').close()",
    "a-model-beside-of-no-encoding": "graph(); os.mkdir(b'\\xff'); open(b'\\xff/saved_model.pb', 'w').close()",
    "a-name-with-newlines": "graph(); open(model + '/a\\nb\\x1b[2J', 'w').close()",
    "a-name-with-a-backslash": "graph(); open(model + '/..\\\\..\\\\x', 'w').close()",
    "a-device-like-name": "graph(); open(model + '/CON', 'w').close(); open(model + '/nul.txt', 'w').close()",
    "a-long-name": "graph(); open(model + '/' + 'a' * 255, 'w').close()",
    "a-deep-tree": "deep(1500); graph()",
    "a-deep-model": "os.chdir(model); deep(1500); os.chdir('..'); graph()",
    "thousands-of-models": "[os.makedirs(f'm{{n}}') or open(f'm{{n}}/saved_model.pb', 'w').close() for n in range(500)]; graph()",
    "no-work-folder-at-all": "import shutil; [shutil.rmtree(n) if os.path.isdir(n) else os.remove(n) for n in os.listdir('.')]",
    "a-closed-work-folder": "graph(); os.chmod('.', 0)",
    "a-hard-link": "graph(); os.mkdir(model + '/variables'); os.link('train.py', model + '/variables/a')",
    "a-hole-of-a-terabyte": "f = open(model + '/saved_model.pb', 'w'); f.truncate(10**12)",
}
_STORED = {"a-loop", "a-device-like-name", "a-long-name", "thousands-of-models", "a-deep-tree", "a-hard-link",
           "a-model-beside-of-no-encoding", "a-closed-file", "a-closed-work-folder"}  # fmt: skip


@pytest.mark.parametrize("what", sorted(_LEAVINGS))
def test_a_job_ends_and_is_removed_with_any_files_that_it_leaves(
    what: str, served: tuple[Server, Tenant, Tenant], tally: Counter[str]
) -> None:
    server, _, mallory = served
    secret = server.root / "keys" / "token-key.json"
    content = json.loads(secret.read_text())["d"]
    script = f"""
import os
model = os.environ["MODEL_DIR"]
def graph():
    with open(model + "/saved_model.pb", "w") as file:
        file.write("graph")
def deep(levels):
    here = os.open(".", os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d"); os.chdir("d")
    os.fchdir(here)
{_LEAVINGS[what].format(secret=str(secret))}
"""
    ended = mallory.run(script)
    job_id = ended["job_id"]
    told = json.dumps(ended) + mallory.log(job_id)
    assert content not in told
    assert ended["exitCode"] == 0, (ended, mallory.log(job_id))
    model = mallory.request("GET", f"/api/v2/jobs/{job_id}/model").json()["model"]
    for file in model["files"] if model else ():
        stored = mallory.request("GET", f"/api/v2/storage/objects/{file['key']}")
        assert stored.status_code == 200
        assert content.encode() not in stored.content
        assert b"root:" not in stored.content
    if ended["status"] == "FAILED":
        assert ended["reason"] in {"ModelUnreadable", "StorageFull"}
        assert ended["message"].endswith(".")
        assert model is None
        assert what not in _STORED - {"a-loop"}
    home = server.root / "clients" / mallory.client_id / "jobs" / job_id
    assert mallory.request("DELETE", f"/api/v2/jobs/{job_id}").status_code == 204
    assert not home.exists()
    assert requests_work(mallory)
    tally["hostile work folders"] += 1


def requests_work(tenant: Tenant) -> bool:
    """Check that the server still answers."""
    return tenant.request("GET", "/api/v2/jobs").status_code == 200


def test_the_server_starts_again_with_any_files_that_jobs_left(served: tuple[Server, Tenant, Tenant]) -> None:
    """Must be the last test of this file: the start removes the folders of unknown jobs."""
    server, _, mallory = served
    stray = server.root / "clients" / mallory.client_id / "jobs" / str(uuid.uuid4())
    stray.mkdir()
    here = os.open(".", os.O_RDONLY)
    os.chdir(stray)
    try:
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.fchdir(here)
        os.close(here)
    server.stop()
    server.restart()
    assert not stray.exists()
    assert requests_work(mallory)
