# SPDX-License-Identifier: Apache-2.0
"""A database that is older than the files, or empty, deletes nothing, and no job runs twice."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.errors import DeletedJob, JobStillActive, LostBytes, UnknownObject
from airflow_provider_jobapi.server.http.app import build
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper, collect_now
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import open_registry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState
from tests.harness.bench import Bench
from tests.harness.server import AS_ROOT, poll, running, stop_jobs
from tests.harness.supervised import Supervised

DOCS = Path(__file__).parents[3] / "docs" / "server.md"
BUSY = """
import os
number = 0
while True:
    number += 1
    open(f"f{number % 50}", "w").write("y" * 100_000)
    if os.path.exists(f"f{(number + 25) % 50}"):
        os.remove(f"f{(number + 25) % 50}")
"""
GATED = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists({gate!r}): time.sleep(0.05)\n"


def files(root: Path) -> dict[str, int]:
    """The files of all clients, and those that were set aside, by their paths below ``clients``."""
    found = {}
    for top in (root / "clients", *(root / "set-aside").glob("*/clients")):
        for path in top.rglob("*"):
            if path.is_file() and "environments" not in path.parts and "ids" not in path.relative_to(top).parts:
                found[str(path.relative_to(top))] = path.stat().st_size
    return found


def sweep(bench: Bench) -> str:
    return Housekeeper(bench.settings, bench.clients, bench.storages, bench.registry).sweep()


def put(bench: Bench, key: str, content: bytes) -> None:
    with bench.storages.of("airflow").writer(key) as writer:
        writer.write(content)
        writer.commit()


def restart(bench: Bench, home: Path, database: bytes) -> Bench:
    """The same root with another database."""
    bench.database.close()
    place = bench.settings.root / "jobapi.sqlite"
    place.write_bytes(database)
    return Bench(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("kind", ["an empty file", "a copy without its -wal", "tables without a client"])
def test_a_database_that_knows_no_client_deletes_nothing(home, kind):
    bench = Bench(home)
    put(bench, "rows.csv", b"1,2,3")
    bench.submit()
    place = bench.settings.root / "jobapi.sqlite"
    content = place.read_bytes() if kind == "a copy without its -wal" else b""
    bench.database.close()
    before = files(bench.settings.root)
    assert len(before) >= 3
    place.write_bytes(content)
    if kind == "tables without a client":
        other = Bench(home / "other")
        with other.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM clients")
        other.database.close()
        shutil.copy(other.settings.root / "jobapi.sqlite", place)
    said = "has files of clients, but the database jobapi.sqlite knows no client"
    with pytest.raises(SettingsError, match=said):
        collect_now(bench.settings)
    with pytest.raises(SettingsError, match=said), open_registry(bench.settings, make=True) as clients:
        clients.add("airflow")
    database = Database(place)
    with pytest.raises(SettingsError, match=said):
        build(bench.settings, database)
    database.close()
    if kind == "an empty file":
        command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "serve", "--port", "0", *AS_ROOT]
        done = subprocess.run([*command, "--root", str(place.parent)], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert said in done.stderr
    assert files(bench.settings.root) == before


@pytest.mark.parametrize("left", ["missing", "empty"])
def test_a_wal_without_its_database_is_kept(home, left):
    bench = Bench(home)
    put(bench, "rows.csv", b"1,2,3")
    place = bench.settings.root / "jobapi.sqlite"
    content = place.with_name("jobapi.sqlite-wal").read_bytes()
    assert content
    bench.database.close()
    place.unlink()
    place.with_name("jobapi.sqlite-wal").write_bytes(content)
    if left == "empty":
        place.touch()
    with pytest.raises(SettingsError, match="is missing or empty: restore both"):
        Database(place)
    assert place.with_name("jobapi.sqlite-wal").read_bytes() == content


def test_an_object_whose_bytes_a_restored_database_does_not_have_is_uploaded_again(home):
    bench = Bench(home)
    put(bench, "rows.csv", b"old")
    bench.database.close()
    backup = (bench.settings.root / "jobapi.sqlite").read_bytes()
    bench = Bench(home)
    put(bench, "rows.csv", b"newer")  # the old bytes are gone
    bench = restart(bench, home, backup)
    sweep(bench)
    storage = bench.storages.of("airflow")
    with pytest.raises(UnknownObject):
        storage.head("rows.csv")
    with pytest.raises(LostBytes, match="upload the object again"):
        storage.open("rows.csv")
    put(bench, "rows.csv", b"old")
    assert storage.head("rows.csv").size == 3
    bench.database.close()


def test_files_that_the_database_does_not_know_are_set_aside(home):
    bench = Bench(home)
    put(bench, "old.csv", b"old")
    bench.database.close()
    backup = (bench.settings.root / "jobapi.sqlite").read_bytes()
    bench = Bench(home)
    put(bench, "new.csv", b"newer")
    ended, waiting = bench.submit(), bench.submit()
    bench.registry.finish(ended.key, JobState.SUCCESSFUL)
    (ended.directory / "started").touch()
    stranger = bench.settings.root / "clients" / "later" / "data"
    stranger.mkdir(parents=True)
    (stranger / "blob").write_bytes(b"of a client that was added later")
    half = bench.settings.root / "clients" / "airflow" / "data" / "0123.part"
    half.write_bytes(b"cut off")
    before = files(bench.settings.root)
    bench = restart(bench, home, backup)
    said = sweep(bench)
    assert "that the database does not know were set aside" in said
    after = files(bench.settings.root)
    before.pop(str(half.relative_to(bench.settings.root / "clients")))
    assert after == before
    assert not any(each.exists() for each in (stranger.parent, ended.directory, waiting.directory))
    assert (bench.settings.root / "set-aside").stat().st_mode & 0o077 == 0
    assert sweep(bench) == ""
    storage = bench.storages.of("airflow")
    assert [each.key for each in storage.page("", "", 9)[0]] == ["old.csv"]
    bench.database.close()


def test_the_ids_of_jobs_that_a_restored_database_does_not_know_stay_used(home):
    bench = Bench(home)
    bench.database.close()
    backup = (bench.settings.root / "jobapi.sqlite").read_bytes()
    bench = Bench(home)
    kept, deleted = bench.submit(), bench.submit()
    bench.registry.finish(deleted.key, JobState.FAILED)
    bench.registry.delete(deleted.key)
    file = JobFile.model_validate({"job": {"name": "bench", "execution": {"command": "true"}}})
    for _ in range(2):  # also the second time, when what was set aside is removed
        bench = restart(bench, home, backup)
        sweep(bench)
        for job in (kept, deleted):
            with pytest.raises(DeletedJob, match="restored from a backup, does not know the job"):
                bench.registry.get(*job.key)
            with pytest.raises(DeletedJob, match="A used id is never free"):
                bench.registry.submit(*job.key, file)
        shutil.rmtree(bench.settings.root / "set-aside", ignore_errors=True)
    assert bench.registry.submit("airflow", str(uuid.uuid4()), file)[1]
    bench.database.close()


@pytest.mark.parametrize("sign", ["spec.json", "started", "exit.json", "lock"])
def test_a_directory_of_an_earlier_version_keeps_its_id_used(home, sign):
    bench = Bench(home)
    job_id = str(uuid.uuid4())
    place = layout.job_directory(bench.settings.root, "airflow", job_id)
    place.mkdir(parents=True)
    file = JobFile.model_validate({"job": {"name": "bench", "execution": {"command": "true"}}})
    with (place / sign).open("w") as held:
        if sign == "lock":
            fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(2):
            with pytest.raises(DeletedJob):
                bench.registry.submit("airflow", job_id, file)
            sweep(bench)
            assert place.exists() is (sign == "lock")
    bench.database.close()


def test_a_directory_whose_lock_is_held_is_left_alone(home, caplog):
    bench = Bench(home)
    ended = bench.submit()
    bench.registry.finish(ended.key, JobState.FAILED)
    stranger = bench.settings.root / "clients" / "later" / "jobs" / str(uuid.uuid4())
    stranger.mkdir(parents=True)
    with (ended.directory / "lock").open("w") as first, (stranger / "lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)
        assert bench.registry.expire(-bench.settings.retention) == 0
        with pytest.raises(JobStillActive, match="The supervisor of the job"):
            bench.registry.delete(ended.key)
        sweep(bench)
        assert f"touch {stranger}/stop" in caplog.text
        for act in (lambda: bench.clients.add("later"), lambda: bench.clients.remove("airflow")):
            with pytest.raises(SettingsError):
                act()
    assert ended.directory.is_dir()
    assert stranger.is_dir()
    bench.registry.delete(ended.key)
    bench.database.close()


def test_a_running_job_survives_an_older_database_and_runs_once(home):
    gate = home / "gate"
    with running(home / "root", "--grace", "2s") as server:
        server.stop()
        backup = home / "backup"
        shutil.copy(server.root / "jobapi.sqlite", backup)
        server.restart()
        job_id = server.submit(GATED.format(gate=str(gate)))
        server.wait_for(job_id, "RUNNING", timeout=240)
        place = server.root / "clients" / "airflow" / "jobs" / job_id
        server.kill()
        for each in server.root.glob("jobapi.sqlite*"):
            each.unlink()
        shutil.copy(backup, server.root / "jobapi.sqlite")
        server.restart()
        assert f"The job in {place} runs, and the database does not know it" in server.log()
        assert layout.is_running(place)
        body = json.dumps({"job": {"name": "test", "execution": {"command": "python3 train.py"}}})
        for method, data in (("GET", None), ("POST", body)):
            answer = server.request(method, f"/api/v2/jobs/{job_id}", data=data)
            assert answer.status_code == 410, answer.text
        gate.touch()
        poll((place / "exit.json").exists, 60, "the exit record")
        assert json.loads((place / "exit.json").read_bytes())["exit_code"] == 0


def test_a_supervisor_whose_directory_was_removed_ends(tmp_path):
    gate = tmp_path / "gate"
    command = f"while ! test -e {gate}; do sleep 0.05; done"
    job = Supervised(tmp_path / "job", [{"name": "training", "argv": ["/bin/sh", "-c", command], "cwd": "/"}])
    process = job.start()
    poll((job.directory / "running").exists, 30, "the command to run")
    shutil.rmtree(job.directory)
    job.directory.mkdir()  # the same id again
    gate.touch()
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert list(job.directory.iterdir()) == []


def test_backup_and_restore_as_the_documentation_says(home):
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text().partition("## Backup and restore")[2], re.DOTALL)
    backup, restore = blocks[0], blocks[1]
    with running(home / "root", "--grace", "2s") as server:
        environment = os.environ | {"ROOT": str(server.root), "BACKUP": str(home / "backup")}
        server.put("kept", b"kept")
        job_id = server.submit("raise SystemExit(3)", name="one")
        server.wait_for(job_id, timeout=240)
        busy = server.submit(BUSY)
        server.wait_for(busy, "RUNNING", timeout=240)
        subprocess.run(["bash", "-ec", backup], env=environment, check=True, timeout=120)
        server.put("later", b"later")
        stop_jobs(server)
        server.stop()
        shutil.rmtree(server.root)
        subprocess.run(["bash", "-ec", restore], env=environment, check=True, timeout=120)
        server.restart()
        assert server.request("GET", "/api/v2/storage/objects/kept").content == b"kept"
        assert server.status(job_id)["status"] == "FAILED"
        assert server.wait_for(busy)["reason"] == "Lost"
        assert "set aside" not in server.log()
        assert (server.root / "jobapi.sqlite").stat().st_mode & 0o077 == 0
