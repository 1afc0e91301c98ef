# SPDX-License-Identifier: Apache-2.0
"""What jobs leave in their client's storage is counted and freed: uploads that no job uses, work folders."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.errors import MissingInput, ResourcesExceeded, StorageFull
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.store.database import inputs, jobs, objects
from airflow_provider_jobapi.server.store.disk import tree_size
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState
from tests.harness.bench import CLIENT, WRITE_MODEL, Bench, bench

__all__ = ["bench"]

LARGE = 2_000_000
WRITES = f"open('large.bin', 'wb').write(bytes({LARGE})); raise SystemExit(3)"


def used(bench: Bench) -> int:
    client = bench.clients.find(CLIENT)
    assert client is not None
    return client.used


def put(bench: Bench, key: str, size: int = 1_000) -> None:
    with bench.storages.of(CLIENT).writer(key) as writer:
        writer.write(bytes(size))
        writer.commit()


def housekeeper(bench: Bench) -> Housekeeper:
    return Housekeeper(bench.settings, bench.clients, bench.storages, bench.registry)


def age(bench: Bench, span: timedelta) -> None:
    """Let all objects be as old as this."""
    with bench.database.write() as connection:
        connection.execute(objects.update().values(modified=datetime.now(UTC) - span))


def failed(bench: Bench) -> Job:
    job = bench.wait(bench.submit(WRITES))
    assert job.state is JobState.FAILED
    return job


def test_the_work_folder_of_a_failed_job_counts_to_its_client(bench):
    job = failed(bench)
    assert LARGE <= used(bench) < LARGE + 200_000
    assert str(used(bench))[:2] in "".join(bench.storages.of(CLIENT).probe().message.split(".")[:2])
    bench.registry.delete(job.key)
    assert used(bench) == 0


def test_a_client_whose_failed_jobs_fill_its_storage_stores_nothing_more(tmp_path):
    with Bench(tmp_path, storage_bound=LARGE + 500_000) as bench:
        job = failed(bench)
        with pytest.raises(StorageFull, match="ended jobs"):
            put(bench, "more", 500_000)
        bench.registry.delete(job.key)
        put(bench, "more", 500_000)


def test_the_work_folder_of_a_stopped_job_counts_and_that_of_a_successful_one_with_a_model_does_not(bench):
    job = bench.submit("import time; open('a', 'wb').write(bytes(2_000_000)); print('up'); time.sleep(60)")
    bench.wait_for_line(job, "up")
    bench.registry.request_stop(job.key, "a test")
    assert bench.wait(job).state is JobState.STOPPED
    assert used(bench) >= LARGE
    bench.registry.delete(job.key)
    job = bench.wait(bench.submit(f"{WRITE_MODEL}open('a', 'wb').write(bytes(2_000_000))"))
    assert job.state is JobState.SUCCESSFUL
    assert used(bench) < 100_000


def test_the_work_folder_of_a_successful_job_without_a_model_stays_like_that_of_a_failed_one(bench):
    job = bench.wait(bench.submit("open('a', 'wb').write(bytes(2_000_000))"))
    assert (job.state, job.model) == (JobState.SUCCESSFUL, None)
    assert LARGE <= used(bench) < LARGE + 200_000
    for _ in range(2):  # a server that starts again keeps it, too
        housekeeper(bench).sweep()
        assert (job.directory / "work" / "a").exists()
    assert bench.registry.leftovers.expire_work(timedelta(0)) == 1
    assert not (job.directory / "work").exists()
    assert used(bench) < 100_000
    assert bench.get(job).message.endswith("Its work folder was removed: --work-retention is over.")


def test_a_work_folder_has_a_shorter_life_than_its_job(bench):
    job = failed(bench)
    assert housekeeper(bench).expire() == ""
    assert bench.registry.leftovers.expire_work(timedelta(0)) == 1
    assert not (job.directory / "work").exists()
    assert used(bench) < 100_000
    after = bench.get(job)
    assert after.message.endswith("Its work folder was removed: --work-retention is over.")
    assert (job.directory / "log").exists()
    assert bench.registry.leftovers.expire_work(timedelta(0)) == 0


def test_work_folders_of_an_earlier_version_are_counted_at_the_start(bench):
    job = failed(bench)
    before = used(bench)
    with bench.database.write() as connection:
        bench.registry.leftovers.discount(connection, job.key)
    assert used(bench) < 100_000
    for _ in range(2):
        housekeeper(bench).sweep()
        assert used(bench) == before


def test_all_that_a_client_uses_is_counted_at_the_start(bench):
    """Its objects, the inputs whose objects it has deleted, and what its ended jobs left."""
    put(bench, "rows", 30)
    job = failed(bench)
    counted = used(bench)
    with bench.database.write() as connection:
        of_the_job = (jobs.c.job_id == job.key.job_id) & (jobs.c.client_id == CLIENT)
        connection.execute(jobs.update().where(of_the_job).values(checkpoints=5_000))
        values = {"client_id": CLIENT, "job_id": job.key.job_id, "path": "gone.csv", "blob": "b" * 32, "size": 700}
        connection.execute(inputs.insert().values(**values, alone=True))
    housekeeper(bench).sweep()
    assert used(bench) == counted + 5_000 + 700


@pytest.mark.parametrize(
    ("refusal", "execution", "files"),
    [
        (ResourcesExceeded, {"resources": {"memory": 10**9}}, {}),
        (ResourcesExceeded, {"resources": {"cpus": 4000}}, {}),
        (InvalidJob, {"command": "python2.7 train.py"}, {}),
        (InvalidJob, {}, {"requirements.txt": "--index-url https://example.com"}),
    ],
)
def test_the_uploads_of_a_refused_job_are_freed(bench, refusal, execution, files):
    put(bench, "jobs/other", 10)
    with pytest.raises(refusal, match=r"The files that were uploaded for it are removed\.$"):
        bench.submit(files={"rows.bin": bytes(LARGE), **files}, **execution)
    assert used(bench) == 10


def test_the_uploads_of_a_job_that_lacks_an_input_stay(bench):
    """The client uploads what is missing, then submits again."""
    job_id = str(uuid.uuid4())
    put(bench, f"jobs/bench-{job_id}/a")
    named = [{"path": path, "size": 1, "sha256": "0" * 64} for path in ("b", "c")]
    lacking = JobFile.model_validate({"job": {"name": "bench", "execution": {"command": "true"}, "inputs": named}})
    with pytest.raises(MissingInput):
        bench.registry.submit(CLIENT, job_id, lacking)
    assert used(bench) == 1_000


def test_a_refused_job_of_another_name_does_not_touch_the_accepted_one(bench):
    job = bench.submit("import time; time.sleep(60)")
    other = JobFile.model_validate({"job": {"name": "other", "execution": {"command": "python2 x"}}})
    put(bench, f"jobs/other-{job.key.job_id}/x", 10)
    before = used(bench)
    with pytest.raises(Exception, match="belongs to another job"):
        bench.registry.submit(CLIENT, job.key.job_id, other)
    assert used(bench) == before
    bench.registry.request_stop(job.key, "a test")
    bench.wait(job)


def test_uploads_that_were_never_submitted_are_freed_after_a_day(bench):
    accepted = bench.wait(bench.submit())
    left, late = uuid.uuid4(), uuid.uuid4()
    for key in ("own/file", "jobs/no-id/x", f"jobs/bench-{left}/a", f"jobs/bench-{left}/b/c", f"jobs/bench-{late}/a"):
        put(bench, key)
    before = used(bench)
    age(bench, timedelta(hours=23))
    assert housekeeper(bench).expire() == ""
    age(bench, timedelta(hours=25))
    put(bench, f"jobs/bench-{late}/b")
    assert "The files of 1 jobs are gone that were uploaded and never submitted." in housekeeper(bench).expire()
    assert used(bench) == before - 1_000
    keys = [each.key for each in bench.storages.of(CLIENT).page("", "", 100)[0]]
    assert not any(str(left) in key for key in keys)
    assert {"own/file", "jobs/no-id/x", f"jobs/bench-{late}/a", f"{accepted.prefix}/train.py"} <= set(keys)


def test_an_upload_that_goes_on_for_a_day_is_kept(bench):
    slow = uuid.uuid4()
    put(bench, f"jobs/bench-{slow}/a")
    age(bench, timedelta(hours=25))
    with bench.storages.of(CLIENT).writer(f"jobs/bench-{slow}/b"):
        assert housekeeper(bench).expire() == ""
    assert "1 jobs" in housekeeper(bench).expire()


def test_a_clock_that_jumped_ahead_frees_no_upload(bench):
    ahead = timedelta(0)
    bench.registry.leftovers._clock._now = lambda: datetime.now(UTC) + ahead
    assert bench.registry.leftovers.expire_uploads() == 0
    put(bench, f"jobs/bench-{uuid.uuid4()}/a")
    ahead = timedelta(days=40)
    assert bench.registry.leftovers.expire_uploads() == 0


def test_the_size_of_a_tree_is_what_it_takes_on_the_disk(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(1_000_000))
    os.link(tmp_path / "a" / "b" / "file", tmp_path / "a" / "again")
    (tmp_path / "out").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
    assert 1_000_000 <= tree_size(tmp_path) < 1_100_000
    assert tree_size(tmp_path / "missing") == 0


def test_directories_nested_beyond_the_longest_path_are_counted(tmp_path: Path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d" * 200, dir_fd=here)
        here, above = os.open("d" * 200, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    handle = os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here)
    os.write(handle, bytes(1_000_000))
    os.close(handle)
    os.close(here)
    assert tree_size(tmp_path) >= 1_000_000
