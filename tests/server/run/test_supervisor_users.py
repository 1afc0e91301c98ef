# SPDX-License-Identifier: Apache-2.0
"""Jobs under user ids of their own: what a job of one client can see and do of the server and of another client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

import pytest

from airflow_provider_jobapi.server import serve
from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run.engines.local import can_hide_processes
from airflow_provider_jobapi.server.run.supervisor.event_folder import EventFiles
from airflow_provider_jobapi.server.run.supervisor.tfrecord import Event
from airflow_provider_jobapi.server.store.database import clients
from airflow_provider_jobapi.training.job_file import JobFile
from tests.harness.bench import WRITE_MODEL, Bench, processes_of
from tests.harness.event_writer import SOURCE, Writer
from tests.harness.supervised import SUPERVISOR, Supervised

PYTHON = Path("/usr/bin/python3")
FIRST = 2_000_001
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="user ids can be changed by root only"),
    pytest.mark.skipif(not PYTHON.exists(), reason=f"there is no {PYTHON}, which every user could run"),
]


@pytest.fixture
def home():
    """A place that every user may walk through, which pytest's own is not; with the mask of ``jobapi serve``."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    mask = os.umask(0o077)
    yield place
    os.umask(mask)
    shutil.rmtree(place)


@pytest.fixture
def bench(home):
    with Bench(home, users=(FIRST, FIRST + 9), python=PYTHON) as bench:
        bench.clients.add("second")
        yield bench


def test_a_job_of_a_client_without_a_user_id_fails_and_runs_under_no_other(bench):
    """A restored database may have clients of a time before ``--users``."""
    with bench.database.write() as connection:
        connection.execute(clients.update().where(clients.c.client_id == "second").values(uid=None))
    job = bench.wait(bench.submit("print('it runs')", client="second"))
    assert (job.state, job.reason) == ("FAILED", "Lost")
    assert "the client has no user id of its own" in job.message
    assert bench.log(job) == ""
    assert bench.wait(bench.submit()).state == "SUCCESSFUL"


LOOK = """
import json, os, pathlib
def tries(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).read()
        return "read"
    except PermissionError:
        return "refused"
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "umask": os.umask(0o77),
    "seen": {path: tries(path) for path in json.load(open("paths.json"))},
}))
"""


def test_a_job_runs_as_its_client_and_reads_nothing_else(bench):
    root = bench.settings.root
    other = bench.wait(bench.submit("open('own', 'w').write('x'); raise SystemExit(1)", client="second"))
    secrets = [root / "jobapi.sqlite", root / "keys", root / "clients", root / "clients" / "second" / "jobs"]
    secrets += [root / "clients" / "airflow" / "data", other.directory / "work", other.directory / "log"]
    job = bench.wait(bench.submit(LOOK, files={"paths.json": json.dumps([str(path) for path in secrets])}))
    assert job.state == "SUCCESSFUL", bench.log(job)
    seen = json.loads(bench.log(job).splitlines()[-1])
    assert set(seen["uid"]) == set(seen["gid"]) == {FIRST}
    assert seen["groups"] == []
    assert seen["umask"] == 0o077
    assert seen["seen"] == {str(path): "refused" for path in secrets}


def test_the_server_owns_the_log_and_the_exit_record(bench):
    script = """
import os
home = os.environ["JOB_DIRECTORY"]
for name in ("log", "exit.json", "spec.json", "lock", "started", "new"):
    try:
        open(os.path.join(home, name), "a")
    except OSError as error:
        print(name, type(error).__name__)
"""
    job = bench.wait(bench.submit(script))
    assert bench.log(job).split("\n")[:-1] == [
        f"{name} PermissionError" for name in ("log", "exit.json", "spec.json", "lock", "started", "new")
    ]
    assert (job.directory / "log").stat().st_uid == 0


def test_a_job_owns_its_work_folder_alone_and_its_model_is_stored(bench):
    job = bench.wait(bench.submit(WRITE_MODEL + "raise SystemExit(2)", files={"data/a": "x"}))
    work = job.directory / "work"
    assert (work.stat().st_uid, work.stat().st_mode & 0o777) == (FIRST, 0o700)
    assert {path.stat().st_uid for path in work.rglob("*")} == {FIRST}
    job = bench.wait(bench.submit(WRITE_MODEL, client="second"))
    assert job.state == "SUCCESSFUL", bench.log(job)
    assert job.model is not None


LINK = """
import os
folder, model = os.environ["CHECKPOINT_DIR"], os.environ["MODEL_DIR"]
"""


def test_a_model_may_link_to_checkpoints_that_its_job_got_and_to_no_other_jobs(bench):
    leave = LINK + "open(folder + '/best.bin', 'w').write('weights'); raise SystemExit(1)"
    first = bench.wait(bench.submit(leave))
    second = bench.submit(LINK + "os.symlink(folder + '/best.bin', model + '/best.bin')", resume_from=first.key.job_id)
    assert bench.wait(second).state == "SUCCESSFUL", bench.get(second).message
    assert [(file["path"], file["size"]) for file in bench.get(second).model["files"]] == [("best.bin", 7)]
    place = first.directory / "state/checkpoints/best.bin"
    for client in ("airflow", "second"):
        other = bench.wait(bench.submit(LINK + f"os.symlink({str(place)!r}, model + '/best.bin')", client=client))
        assert (other.reason, other.model) == ("ModelUnreadable", None)
        assert "is a link that leads out of the working directory" in other.message


def test_each_client_has_its_own_environments(bench):
    files = {"requirements.txt": "six==1.17.0\n"}
    script = "import six; print(six.__file__)"
    jobs = [bench.submit(script, files=files, client=client) for client in ("airflow", "second")]
    ended = [bench.wait(job, timeout=120) for job in jobs]
    assert [job.state for job in ended] == ["SUCCESSFUL"] * 2, [bench.log(job) for job in ended]
    for uid, job, client in ((FIRST, ended[0], "airflow"), (FIRST + 1, ended[1], "second")):
        place = Path(bench.log(job).splitlines()[-1])
        assert place.is_relative_to(bench.settings.root / "clients" / client / "environments")
        assert place.stat().st_uid == uid
    cache = bench.settings.root / "clients" / "airflow" / "environments" / "uv-cache"
    assert (cache.stat().st_uid, cache.stat().st_mode & 0o777) == (FIRST, 0o700)


def test_stop_ends_the_processes_of_another_user(bench):
    job = bench.submit("import os, time; os.fork(); os.write(1, b'up\\n'); time.sleep(60)")
    bench.wait_for_line(job, "up\nup")
    bench.registry.request_stop(job.key, "alice")
    assert bench.wait(job).state == "STOPPED"
    assert processes_of(job.directory) == []


def test_a_link_to_a_file_of_the_server_is_not_stored_as_a_model(bench):
    secret = bench.settings.root / "keys" / "secret"
    secret.write_text("secret")
    script = f"import os\nos.makedirs('model', exist_ok=True)\nos.symlink({str(secret)!r}, 'model/saved_model.pb')"
    job = bench.wait(bench.submit(script))
    assert (job.state, job.reason, job.model) == ("FAILED", "ModelUnreadable", None)
    assert "'model/saved_model.pb' in MODEL_DIR is a link that leads out of the working directory" in job.message


WRITES_POINTS = """
import event_writer, os, pathlib
with event_writer.Writer("logs") as writer:
    writer.scalar("loss", 0.5, 1)
os.symlink("/SECRET", "events.out.tfevents.1.link")
os.symlink("/SECRET-FOLDER", "linked")
try:
    open(pathlib.Path(os.environ["JOB_DIRECTORY"], "scalars"), "a")
except OSError as error:
    print(type(error).__name__)
"""


def test_event_files_are_read_as_the_jobs_user(bench):
    secret = bench.settings.root / "keys" / "events.out.tfevents.9.host"
    with Writer(bench.settings.root / "keys", 9) as writer:
        writer.scalar("secret", 1.0, 1)
    writer.path.rename(secret)
    script = WRITES_POINTS.replace("/SECRET-FOLDER", str(secret.parent)).replace("/SECRET", str(secret))
    job = bench.wait(bench.submit(script, files={"event_writer.py": SOURCE.read_text()}))
    assert bench.log(job).startswith("PermissionError\n")
    written = (job.directory / "scalars").stat()
    assert (written.st_uid, written.st_mode & 0o777) == (0, 0o600)
    assert (job.directory / "scalars").read_text().split(" ", 1)[1] == (
        '{"jobapi_metrics": 1, "step": 1, "metrics": {"loss": 0.5}}\n'
    )


def test_files_of_other_users_are_no_event_files_of_the_job(home):
    work, taken, users = home / "work", [], []

    def take(_: object, event: Event) -> None:
        taken.append(event.values)
        for thread in (threading.get_native_id(), other.native_id):
            status = Path(f"/proc/self/task/{thread}/status").read_text()
            users.append(status.split("Uid:")[1].split()[:4])

    end = threading.Event()
    other = threading.Thread(target=end.wait, daemon=True)  # as the one that copies checkpoints
    other.start()
    files = EventFiles([str(work)], take, pytest.fail, user=(FIRST, FIRST))
    for number, owner in enumerate((FIRST, FIRST + 1, 0)):
        with Writer(work, number) as writer:
            writer.scalar("owner", owner, 1)
        os.chown(writer.path, owner, owner)
        writer.path.chmod(0o644)
    work.chmod(0o755)
    os.link(writer.path, work / "hard.tfevents.link")
    before = Path("/proc/self/status").read_text().split("Groups:")[0].split("Uid:")[1]
    files.look()
    assert taken == [[("owner", FIRST)]]
    assert users == [["0", "0", "0", str(FIRST)], ["0"] * 4]
    assert Path("/proc/self/status").read_text().split("Groups:")[0].split("Uid:")[1] == before
    with Writer(work, 7) as writer:
        writer.scalar("hidden", 1.0, 1)
    os.chown(writer.path, FIRST, FIRST)
    work.chmod(0o700)  # of root, which the job's user cannot enter
    files.finish(lambda: None)
    assert taken == [[("owner", FIRST)]]
    end.set()
    other.join()


def test_a_set_uid_program_gains_a_job_nothing(bench):
    script = """
with open("/proc/self/status") as file:
    print([line.split()[1] for line in file if line.startswith("NoNewPrivs")])
"""
    assert bench.log(bench.wait(bench.submit(script))) == "['1']\n"


def test_a_python_that_the_users_cannot_run_is_refused_at_the_start(home):
    hidden = home / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "python3").symlink_to(PYTHON)
    script = hidden / "python"
    script.write_text(
        f'#!/bin/sh\nexec {PYTHON} -c "import json; print(json.dumps([{str(script)!r}, {"3.11.2"!r}]))"\n'
    )
    script.chmod(0o755)
    with pytest.raises(SettingsError, match=f"user id {FIRST}, and that user cannot run .*--python"):
        Bench(home, users=(FIRST, FIRST + 9), python=script)


def test_a_root_that_the_users_cannot_walk_through_is_refused_at_the_start(home):
    (home / "hidden").mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="choose a --root that every user may walk through"):
        Bench(home / "hidden", users=(FIRST, FIRST + 9), python=PYTHON)


SEES = """
import pathlib
lines = []
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        lines.append(path.read_bytes().replace(b"\\0", b" ").decode(errors="replace"))
    except OSError:
        pass
print("seen", [line for line in lines if "password" in line or "supervisor" in line])
print("own", any("train.py" in line for line in lines), pathlib.Path("/proc/self/status").exists())
"""


def test_a_job_does_not_see_the_arguments_of_another_clients_job(bench):
    if not can_hide_processes():
        pytest.skip("this machine lets nobody mount a /proc")
    command = "sleep 600 & echo up; wait; : --password=of-another-client"
    other = bench.submit(command=f"sh -c '{command}' sh --password=of-another-client", client="second")
    bench.wait_for_line(other, "up", timeout=300)
    assert any(b"--password=of-another-client" in line for line in command_lines())  # the server's user sees it
    job = bench.wait(bench.submit(SEES), timeout=300)
    assert bench.log(job).splitlines()[-2:] == ["seen []", "own True True"]
    bench.registry.request_stop(other.key, "alice")
    assert bench.wait(other, timeout=300).state == "STOPPED"
    assert processes_of(other.directory) == []


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("hides", [True, False])
def test_the_start_says_what_jobs_of_several_clients_can_read(monkeypatch, tmp_path, hides):
    monkeypatch.setattr(serve, "can_hide_processes", lambda: hides)
    said = serve._user_of_jobs(Settings(root=tmp_path, users=(FIRST, FIRST + 9)))
    assert said.count("\n") == 0
    assert "cannot read the files of other clients or of the server" in said
    assert ("they do not see the processes of other users" in said) == hides
    assert ("they can read the command lines of all processes" in said) == (not hides)


def test_a_job_runs_where_processes_cannot_be_hidden(home):
    """As in most containers: the supervisor may not make a mount namespace."""
    directory = home / "job"
    spec = {"name": "training", "argv": ["/bin/echo", "ran"], "env": {"PATH": "/bin"}, "cwd": "/"}
    job = Supervised(directory, [spec], uid=FIRST, gid=FIRST)
    command = [
        "setpriv",
        "--bounding-set",
        "-sys_admin",
        "--inh-caps",
        "-all",
        str(PYTHON),
        "-I",
        "-S",
        str(SUPERVISOR),
    ]
    subprocess.run([*command, str(directory)], check=True, timeout=300, stdin=subprocess.DEVNULL)
    assert job.record()["exit_code"] == 0
    assert job.lines() == ["ran"]


LEAVE = """
import os, pathlib, shutil, sys
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
print("found", sorted(str(path.relative_to(folder)) for path in folder.rglob("*")), os.getuid() == folder.stat().st_uid)
shutil.rmtree(folder)
folder.mkdir()
(folder / "ckpt-1").mkdir()
(folder / "ckpt-1" / "a.json").write_text("{}")
(folder / "secret").symlink_to(PATH)
os.link(PATH, folder / "hard") if os.access(PATH, os.W_OK) else None
sys.exit(1)
"""


def test_checkpoints_belong_to_the_user_of_the_jobs_and_bring_no_file_of_another(bench, home):
    secret = home / "root" / "jobapi.sqlite"
    script = LEAVE.replace("PATH", repr(str(secret)))
    cycle, logs = str(uuid.uuid4()), []
    for _ in range(2):
        job_id = str(uuid.uuid4())
        with bench.storages.of("second").writer(f"jobs/c-{job_id}/train.py") as writer:
            writer.write(script.encode())
            writer.commit()
        document = {"job": {"name": "c", "execution": {"command": "python3 train.py"}}}
        job = bench.wait(bench.registry.submit("second", job_id, JobFile.model_validate(document), cycle)[0])
        logs.append(bench.log(job))
    assert "found [] True" in logs[0]
    assert "found ['ckpt-1', 'ckpt-1/a.json'] True" in logs[1]


def test_a_folder_that_a_job_replaced_by_a_link_is_not_followed(bench, home):
    outside = home / "outside"
    outside.mkdir(mode=0o755)
    (outside / "ckpt-1.json").write_text("{}")
    script = f"""
import os, pathlib, shutil
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
shutil.rmtree(folder)
folder.symlink_to({str(outside)!r})
1 / 0
"""
    job_id = str(uuid.uuid4())
    with bench.storages.of("second").writer(f"jobs/c-{job_id}/train.py") as writer:
        writer.write(script.encode())
        writer.commit()
    document = {"job": {"name": "c", "execution": {"command": "python3 train.py"}}}
    job = bench.wait(bench.registry.submit("second", job_id, JobFile.model_validate(document), str(uuid.uuid4()))[0])
    assert (job.state, job.checkpoints) == ("FAILED", None)
    assert (outside / "ckpt-1.json").exists()
