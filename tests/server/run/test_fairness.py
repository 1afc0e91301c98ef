# SPDX-License-Identifier: Apache-2.0
"""What one client does delays no other: storing and preparing, submits, removals."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.blobs import Blobs, BlobWriter
from airflow_provider_jobapi.training.job_file import MOST_INPUTS, JobFile
from tests.harness.bench import CLIENT, WRITE_MODEL, Bench
from tests.harness.server import poll

OTHER = "other"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    """A bench with two clients."""
    with Bench(tmp_path, trust_all_clients=True, cpus=16, memory=64_000) as bench:
        bench.clients.add(OTHER)
        yield bench


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def put(bench: Bench, client: str, key: str, content: bytes = b"1") -> None:
    with bench.storages.of(client).writer(key) as writer:
        writer.write(content)
        writer.commit()


def test_models_of_one_client_that_take_long_delay_no_other_job(two, gate, monkeypatch):
    """Four of them took all workers."""
    held: list[str] = []
    finish = BlobWriter.finish

    def slow(writer: BlobWriter, *, flush: bool = True) -> str:
        if not flush and f"/{CLIENT}/" in str(writer._place):
            held.append(str(writer._place))
            assert gate.wait(120)
        return finish(writer, flush=flush)

    monkeypatch.setattr(BlobWriter, "finish", slow)
    large = [two.submit(WRITE_MODEL) for _ in range(5)]
    poll(lambda: len(held) >= 3, 60, "models that are being stored")
    assert two.wait(two.submit(WRITE_MODEL, client=OTHER), timeout=90).model
    assert two.wait(two.submit("print('small, and of the same client')"), timeout=90).state == "SUCCESSFUL"
    assert not any(two.get(job).state.ended for job in large)
    gate.set()
    for job in large:
        assert two.wait(job, timeout=90).model


def test_inputs_that_are_copied_delay_no_other_client(two, gate, monkeypatch):
    copy = shutil.copyfile
    held: list[str] = []

    def slow(source: Path, target: Path) -> object:
        if f"/{CLIENT}/" in str(source):
            held.append(str(source))
            assert gate.wait(120)
        return copy(source, target)

    monkeypatch.setattr("airflow_provider_jobapi.server.run.preparation.shutil.copyfile", slow)
    large = [two.submit() for _ in range(6)]
    poll(lambda: len(held) >= 3, 60, "inputs that are being copied")
    assert two.wait(two.submit(client=OTHER), timeout=90).state == "SUCCESSFUL"
    assert not any(two.get(job).state.ended for job in large)
    gate.set()
    for job in large:
        two.wait(job, timeout=90)


def test_a_submit_with_many_inputs_holds_no_lock_while_it_links_them(two, gate, monkeypatch):
    linking = threading.Event()
    link = Blobs.link

    def slow(blobs: Blobs, blob: str, place: Path) -> None:
        linking.set()
        assert gate.wait(120)
        link(blobs, blob, place)

    monkeypatch.setattr(Blobs, "link", slow)
    thread = threading.Thread(target=two.submit)
    thread.start()
    assert linking.wait(30)
    put(two, OTHER, "free")
    put(two, CLIENT, "free")
    assert two.database._writer.acquire(timeout=0)
    two.database._writer.release()
    gate.set()
    thread.join(60)
    poll(lambda: len(two.registry.page(CLIENT, 10, None, None)) == 1, 30, "the job")


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_an_input_that_changes_while_it_is_linked_is_taken_as_it_is_then(two, monkeypatch, change):
    link = Blobs.link
    changed: list[str] = []

    def slow(blobs: Blobs, blob: str, place: Path) -> None:
        if place.name == "b.txt" and not changed:
            changed.append(blob)
            key = f"jobs/bench-{place.parents[1].name}/a.txt"
            if change == "replaced":
                put(two, CLIENT, key, b"new")
            else:
                two.storages.of(CLIENT).delete(key)
        link(blobs, blob, place)

    monkeypatch.setattr(Blobs, "link", slow)
    job = two.submit("import os; print(sorted(os.listdir()))", files={"a.txt": b"old", "b.txt": b"b"})
    inputs = job.directory / "inputs"
    assert changed
    if change == "replaced":
        assert (inputs / "a.txt").read_bytes() == b"new"
    else:
        assert not (inputs / "a.txt").exists()
    assert two.wait(job).state == "SUCCESSFUL"


def test_two_submits_of_one_id_at_a_time_are_one_job(two):
    job_id = str(uuid.uuid4())
    file = JobFile.model_validate({"job": {"name": "bench", "execution": {"command": "true"}}})
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(two.registry.submit(CLIENT, job_id, file)[1])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [False] * 7 + [True]


def test_a_job_of_too_many_inputs_is_refused_and_its_uploads_are_freed(two):
    storage, job_id = two.storages.of(CLIENT), str(uuid.uuid4())
    for number in range(3):
        put(two, CLIENT, f"jobs/bench-{job_id}/{number}")
    entry = {"size": 1, "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}
    document = {"name": "bench", "execution": {"command": "true"}}
    named = [{"path": str(number), **entry} for number in range(MOST_INPUTS + 1)]
    with pytest.raises(InvalidJob, match="may have at most 10,000"):
        two.registry.submit(CLIENT, job_id, JobFile.model_validate({"job": {**document, "inputs": named}}))
    assert storage.page("", "", 10)[0] == []


def test_the_removal_of_a_large_tree_delays_no_other(tmp_path, gate, monkeypatch):
    """One lock for all let each start of a job wait for it."""
    for name in ("large", "small"):
        (tmp_path / name / "folder").mkdir(parents=True)
    entered = threading.Event()
    clear = layout._clear
    large = (tmp_path / "large").stat().st_ino

    def slow(handle: int, top: int) -> list[str]:
        if os.fstat(top).st_ino == large:
            entered.set()
            assert gate.wait(60)
        return clear(handle, top)

    monkeypatch.setattr(layout, "_clear", slow)
    first = threading.Thread(target=layout.remove_tree, args=(tmp_path / "large",))
    first.start()
    assert entered.wait(10)
    layout.remove_tree(tmp_path / "small")
    assert not (tmp_path / "small").exists()
    inside = threading.Thread(target=layout.remove_tree, args=(tmp_path / "large" / "folder",))
    inside.start()
    inside.join(0.2)
    assert inside.is_alive()
    gate.set()
    first.join(10)
    inside.join(10)
    assert not (tmp_path / "large").exists()
