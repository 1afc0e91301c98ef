# SPDX-License-Identifier: Apache-2.0
"""The storage itself, on a real disk and a real database, without HTTP around it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import (
    DiskFull,
    InvalidObjectKey,
    ServerError,
    StorageFull,
    UnknownObject,
)
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database, clients, inputs, objects
from airflow_provider_jobapi.server.store.jobs import JobKey, JobRegistry
from airflow_provider_jobapi.server.store.object_batch import ObjectBatch
from airflow_provider_jobapi.server.store.object_keys import check_key
from airflow_provider_jobapi.server.store.object_stream import ObjectStream
from airflow_provider_jobapi.server.store.objects import ClientStorage
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState
from tests.harness.small_disk import small_disk

JOB = "11111111-2222-3333-4444-555555555555"
BOUND = 100_000


class Store:
    """A root with one client, as the server would have it."""

    def __init__(self, place: Path, bound: int = BOUND) -> None:
        self.settings = Settings(root=place, storage_bound=bound)
        layout.prepare_root(place)
        self.database = Database(place / "jobapi.sqlite")
        ClientRegistry(self.settings, self.database).add("one")
        self.storages = Storages(self.settings, self.database)
        self.storage = self.storages.of("one")
        self.registry = JobRegistry(self.settings, self.database, self.storages)

    def put(self, key: str, content: bytes) -> None:
        with self.storage.writer(key) as writer:
            writer.write(content)
            writer.commit()

    def read(self, key: str) -> bytes:
        stored, handle = self.storage.open(key)
        with os.fdopen(handle, "rb") as file:
            content = file.read()
        assert (stored.size, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        return content

    def submit(self, job_id: str = JOB, name: str = "train") -> None:
        self.registry.submit("one", job_id, JobFile.parse(f"job: {{name: {name}, execution: {{command: 'true'}}}}"))

    def do(self, what: str, key: str, job_id: str, size: int) -> None:
        """One of the operations of the property below; raises a ServerError where it is not possible now."""
        if what == "put":
            self.put(key, b"x" * size)
        elif what == "delete":
            self.storage.delete(key)
        elif what == "submit":
            self.submit(job_id)
        elif what == "remove":
            self.registry.finish(JobKey("one", job_id), JobState.FAILED)
            self.registry.delete(JobKey("one", job_id))
        else:
            assert self.storage.sweep() == 0

    def used(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(clients.c.used)).scalar_one())

    def held(self) -> int:
        """The bytes that are held, counted anew."""
        with self.database.read() as connection:
            queries = (select(objects.c.blob, objects.c.size), select(inputs.c.blob, inputs.c.size))
            blobs = {row.blob: row.size for query in queries for row in connection.execute(query)}
        return sum(blobs.values())

    def files(self) -> list[Path]:
        return [path for path in (self.settings.root / "clients" / "one" / "data").rglob("*") if path.is_file()]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "root")
    yield made
    made.database.close()


def test_an_object_is_read_as_it_was_written(store: Store):
    store.put("a/b.txt", b"hello")
    assert store.read("a/b.txt") == b"hello"
    store.put("a/b.txt", b"")
    assert store.read("a/b.txt") == b""
    assert len(store.files()) == 1


def test_a_key_may_be_a_file_and_a_directory_as_in_s3(store: Store):
    store.put("a", b"1")
    store.put("a/b", b"2")
    assert (store.read("a"), store.read("a/b")) == (b"1", b"2")


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", ".", "a\nb", "a\0b", "a\\b", "x" * 256, "ä" * 128],
)
def test_a_key_that_could_not_be_a_file_is_refused(key):
    with pytest.raises(InvalidObjectKey, match="relative path"):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "ä/ö/ü.txt", "a b", "a+b%20c", "-rf", "x" * 255, "/".join(["x" * 200] * 5), "…"])
def test_every_relative_path_is_a_valid_key(store: Store, key):
    store.put(key, key.encode())
    assert store.read(key) == key.encode()


def test_a_reader_keeps_its_object_when_it_is_replaced_and_deleted(store: Store):
    store.put("a", b"old")
    _, handle = store.storage.open("a")
    store.put("a", b"new")
    store.storage.delete("a")
    with os.fdopen(handle, "rb") as file:
        assert file.read() == b"old"


def test_an_object_that_is_not_committed_leaves_nothing(store: Store):
    store.put("a", b"old")
    with store.storage.writer("a") as writer:
        writer.write(b"x" * 1000)
    assert store.read("a") == b"old"
    assert len(store.files()) == 1
    assert store.used() == 3


def test_a_commit_that_is_refused_leaves_nothing(store: Store):
    def refuse(*_unused: object) -> None:
        raise ServerError("no")

    store.put("a", b"old")
    with store.storage.writer("a") as writer:
        writer.write(b"new")
        with pytest.raises(ServerError, match="no"):
            writer.commit(refuse)
    assert store.read("a") == b"old"
    assert len(store.files()) == 1


def test_pages_return_every_object_once_in_order(store: Store):
    keys = sorted(["a/1", "a/2", "a/ü", "a/😀", "a0", "b", "B"], key=lambda key: key.encode())
    for key in keys:
        store.put(key, b"")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page, after = store.storage.page("", after, 2)
        seen += [each.key for each in page]
    assert seen == keys
    assert [each.key for each in store.storage.page("a/", "", 10)[0]] == ["a/1", "a/2", "a/ü", "a/😀"]
    assert store.storage.page("a/", "", 4)[1] is None
    assert store.storage.page("zzz", "", 4) == ([], None)


def test_the_storage_bound_holds_for_one_object_and_for_all(store: Store):
    with pytest.raises(StorageFull) as announced:
        store.storage.writer("a", BOUND + 1)
    with pytest.raises(StorageFull) as sent, store.storage.writer("a") as writer:
        writer.write(b"x" * (BOUND + 1))
    store.put("a", b"x" * BOUND)
    with pytest.raises(StorageFull) as more:
        store.put("b", b"x")
    for problem in (announced, sent, more):
        assert "100.0 kB" in problem.value.detail
        assert "Delete" in problem.value.detail
    store.put("b", b"")
    assert len(store.files()) == 2


def test_an_object_can_be_replaced_while_the_storage_is_full_by_a_smaller_one(store: Store):
    store.put("a", b"x" * BOUND)
    with pytest.raises(StorageFull):
        store.put("a", b"y" * 10)  # both would be on the disk at once
    store.storage.delete("a")
    store.put("a", b"y" * 10)
    assert store.used() == 10


def test_concurrent_uploads_share_the_bound(store: Store):
    writers = [store.storage.writer(f"k{number}") for number in range(4)]
    for writer in writers[:3]:
        writer.write(b"x" * (BOUND // 3))
    with pytest.raises(StorageFull):
        writers[3].write(b"x" * (BOUND // 3))
    for writer in writers:
        writer.close()
    store.put("a", b"x" * BOUND)


def test_an_upload_that_began_before_another_one_was_committed_is_bounded(store: Store):
    with store.storage.writer("late") as late:
        store.put("early", b"x" * (BOUND * 6 // 10))
        late.write(b"x" * (BOUND * 6 // 10))
        with pytest.raises(StorageFull):
            late.commit()
    assert store.used() == store.held() == BOUND * 6 // 10
    assert len(store.files()) == 1


def test_a_job_keeps_its_inputs_when_the_objects_change(store: Store):
    store.put(f"jobs/train-{JOB}/train.py", b"as it was")
    store.put(f"jobs/train-{JOB}/data/x.csv", b"1,2")
    store.submit()
    store.put(f"jobs/train-{JOB}/train.py", b"too late")
    store.storage.delete(f"jobs/train-{JOB}/data/x.csv")
    kept = layout.job_directory(store.settings.root, "one", JOB) / "inputs"
    assert (kept / "train.py").read_bytes() == b"as it was"
    assert (kept / "data" / "x.csv").read_bytes() == b"1,2"
    assert store.used() == store.held() == len(b"as it was" + b"too late" + b"1,2")


def test_deleting_a_job_deletes_its_objects_and_files(store: Store):
    store.put("other", b"stays")
    store.put(f"jobs/train-{JOB}/train.py", b"one")
    store.submit()
    store.put(f"jobs/train-{JOB}/train.py", b"two!")
    store.put(f"jobs/train-{JOB}x/train.py", b"neighbour")
    key = JobKey("one", JOB)
    assert store.registry.finish(key, JobState.SUCCESSFUL)
    store.registry.delete(key)
    assert not layout.job_directory(store.settings.root, "one", JOB).exists()
    assert [each.key for each in store.storage.page("", "", 9)[0]] == [f"jobs/train-{JOB}x/train.py", "other"]
    assert store.used() == store.held() == len(b"stays" + b"neighbour")
    assert len(store.files()) == 2


@pytest.mark.parametrize("together", [False, True])
def test_an_object_that_was_written_stays_where_the_one_before_cannot_be_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    store.put("a", b"old")
    old, delete = store.storage.head("a").blob, store.storage.blobs.delete

    def fails(blobs: Iterable[str]) -> None:
        given = list(blobs)
        if old in given:
            raise OSError(errno.EIO, "the disk is broken")
        delete(given)

    def put_together() -> None:
        with ObjectStream(store.storage, lambda _connection, _key: None) as stream:
            head = {"key": "a", "size": 3, "sha256": hashlib.sha256(b"new").hexdigest()}
            stream.write(json.dumps(head).encode() + b"\nnew")
            stream.commit()

    monkeypatch.setattr(store.storage.blobs, "delete", fails)
    with pytest.raises(OSError, match="the disk is broken"):
        put_together() if together else store.put("a", b"new")
    monkeypatch.undo()
    assert store.read("a") == b"new"


def test_a_batch_that_fails_after_its_commit_leaves_no_key_without_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.put("a", b"old")
    old, delete = store.storage.head("a").blob, store.storage.blobs.delete
    (tmp_path / "new").write_bytes(b"new")

    def fails(blobs: Iterable[str]) -> None:
        given = list(blobs)
        if old in given:
            raise OSError(errno.EIO, "the disk is broken")
        delete(given)

    def put_all() -> None:
        with (tmp_path / "new").open("rb") as file, ObjectBatch(store.storage) as batch:
            batch.add(file.fileno(), "a")
            batch.commit()

    monkeypatch.setattr(store.storage.blobs, "delete", fails)
    with pytest.raises(OSError, match="the disk is broken"):
        put_all()
    monkeypatch.undo()
    with store.database.read() as connection:
        assert connection.execute(select(objects.c.key)).all() == []


def test_a_sweep_removes_files_of_a_crash_and_counts_the_used_bytes(store: Store):
    store.put("a", b"12345")
    store.storage.writer("b").write(b"half")  # and then the power went
    with store.storage.writer("c") as writer:
        writer.write(b"whole, but nobody knows")
        writer._blob.finish()
    with store.database.write() as connection:
        connection.execute(clients.update().values(used=99))
    assert store.storage.sweep() == len(b"half" + b"whole, but nobody knows")
    assert store.used() == 5
    assert store.read("a") == b"12345"


def test_a_batch_stores_all_files_or_none(store: Store, tmp_path: Path):
    (tmp_path / "model").write_bytes(b"m" * 100)
    store.put("model/1", b"old")
    handle = os.open(tmp_path / "model", os.O_RDONLY)
    with ObjectBatch(store.storage) as batch:
        stored = [batch.add(handle, f"model/{number}") for number in range(700)]
        assert store.read("model/1") == b"old"
        batch.commit()
    assert {(each.sha256, each.size) for each in stored} == {(hashlib.sha256(b"m" * 100).hexdigest(), 100)}
    assert store.read("model/1") == store.read("model/699") == b"m" * 100
    assert (len(store.files()), store.used()) == (700, 700 * 100)
    with ObjectBatch(store.storage) as batch:
        batch.add(handle, "other/1")
        with pytest.raises(InvalidObjectKey):
            batch.add(handle, "../2")
    os.close(handle)
    assert (len(store.files()), store.used()) == (700, 700 * 100)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "submit", "remove", "sweep"]),
        st.sampled_from(["train.py", "data/a", "data/b"]),
        st.integers(0, 2),
        st.integers(0, 500),
    ),
    max_size=40,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_the_used_bytes_are_always_the_stored_bytes(tmp_path_factory, operations):
    store = Store(tmp_path_factory.mktemp("held") / "root")
    ids = [JOB[:-1] + str(number) for number in range(3)]
    for what, path, number, size in operations:
        key = f"jobs/train-{ids[number]}/{path}"
        with contextlib.suppress(ServerError):
            store.do(what, key, ids[number], size)
        assert store.used() == store.held()
    with store.database.read() as connection:
        count = connection.execute(select(func.count()).select_from(objects)).scalar_one()
    assert len(store.files()) == count
    store.database.close()
    shutil.rmtree(store.settings.root)


def test_racing_writers_of_one_key_leave_one_whole_object(store: Store):
    contents = [bytes([number]) * 2_000 for number in range(8)]
    threads = [threading.Thread(target=store.put, args=("k", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("k") in contents
    assert len(store.files()) == 1
    assert store.used() == 2_000


def test_a_full_disk_is_an_error_and_nothing_is_kept(tmp_path: Path):
    with small_disk(tmp_path / "disk", "3m") as disk:
        store = Store(disk / "root", bound=10**9)
        store.put("a", b"a" * 1_000_000)
        with pytest.raises(DiskFull):
            store.put("b", b"b" * 5_000_000)
        assert len(store.files()) == 1
        assert store.read("a") == b"a" * 1_000_000
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 5_000_000)
        probe = store.storage.probe()
        assert not probe.ok
        assert "No space left" in probe.message
        with pytest.raises(DiskFull), store.database.write() as connection:
            connection.execute(clients.update().values(secret_hash="x" * 5_000_000))
        filler.unlink()
        store.storage.blobs._probed = (0.0, probe)
        assert store.storage.probe().ok
        store.database.close()


def test_a_storage_without_its_directory_is_not_ready(store: Store):
    shutil.rmtree(store.settings.root / "clients" / "one" / "data")
    probe = store.storage.probe()
    assert not probe.ok
    assert (
        probe.message == "The storage cannot be written: No such file or directory; report it to the server's operator."
    )


def test_the_storages_of_two_clients_are_separate(store: Store):
    store.settings.__dict__["trust_all_clients"] = True
    ClientRegistry(store.settings, store.database).add("two")
    other: ClientStorage = store.storages.of("two")
    store.put("a", b"mine")
    with pytest.raises(UnknownObject):
        other.head("a")
    with pytest.raises(UnknownObject):
        other.delete("a")
    assert other.page("", "", 10) == ([], None)
    assert store.read("a") == b"mine"
