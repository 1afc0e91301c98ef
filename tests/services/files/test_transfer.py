# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import io
import logging
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import obstore
import pytest

from airflow_provider_jobapi.exceptions import InvalidJob, ServiceUnavailable
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files import transfers
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.files.stores import S3Access, S3Store, obstore_of
from airflow_provider_jobapi.services.files.transfers import THREADS, Task, download, run, upload
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.units import size_text
from tests.harness.moto_s3 import MotoS3, moto_s3
from tests.harness.s3 import BUCKET, KEY, SECRET
from tests.harness.server import poll

__all__ = ["moto_s3"]

log = logging.getLogger("transfer-test")


def test_an_object_is_kept_only_where_its_hash_is_known_to_be_that_of_the_file(moto_s3: MotoS3) -> None:
    """A listing of S3 has sizes and no hashes, and what another program wrote has no hash of ours at all."""
    access = S3Access(url=moto_s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET)
    store, bucket = S3Store(access), obstore_of(access)
    sources = {name: measure(name, content) for name, content in (("ours", b"new!"), ("theirs", b"same"))}
    upload(store, "kept", {"ours": measure("ours", b"old!"), "equal": measure("equal", b"same")}, Retry(), log, "Up")
    obstore.put(bucket, "kept/theirs", b"same")
    before = {name: obstore.head(bucket, f"kept/{name}")["last_modified"] for name in ("equal", "theirs")}
    time.sleep(1.1)  # the times of objects are whole seconds
    upload(store, "kept", sources | {"equal": measure("equal", b"same")}, Retry(), log, "Up")
    assert bytes(obstore.get(bucket, "kept/ours").bytes()) == b"new!"
    found = store.head("kept/theirs")
    assert found is not None
    assert found.sha256 == sources["theirs"].sha256
    after = {name: obstore.head(bucket, f"kept/{name}")["last_modified"] for name in ("equal", "theirs")}
    assert after["equal"] == before["equal"]
    assert after["theirs"] > before["theirs"]


def test_files_move_in_parallel_and_no_more_than_some() -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(THREADS, timeout=20)

    def move(told: Any) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        told(1)

    run("Moving", [Task(str(number), 1, move) for number in range(3 * THREADS)], log)
    assert most == THREADS


def test_one_error_ends_the_transfer_and_stops_the_others() -> None:
    stopped = threading.Event()
    moving = threading.Event()
    begun: list[str] = []

    def endless(told: Any) -> None:
        try:
            while True:
                told(1)
                moving.set()
        except Exception:
            stopped.set()
            raise

    def broken(_: Any) -> None:
        assert moving.wait(10)
        raise InvalidJob("The file is not right.")

    later = [Task(f"later {number}", 1, lambda _: begun.append("later")) for number in range(1_000)]
    with pytest.raises(InvalidJob, match="The file is not right"):
        run(
            "Moving",
            [*(Task("endless", 1, endless) for _ in range(THREADS - 1)), Task("broken", 1, broken), *later],
            log,
        )
    assert stopped.wait(10)
    assert len(begun) < 1_000


def test_a_signal_ends_the_wait_at_once() -> None:
    """``on_kill`` raises in the main thread while files are on their way."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    release, stopped = threading.Event(), threading.Event()

    def stuck(told: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        release.wait(30)
        try:
            told(1)
        except Exception:
            stopped.set()
            raise

    before = signal.signal(signal.SIGUSR1, killed)
    try:
        began = time.monotonic()
        with pytest.raises(Killed):
            run("Moving", [Task("stuck", 1, stuck)], log)
        assert time.monotonic() - began < 10
    finally:
        signal.signal(signal.SIGUSR1, before)
        release.set()
    assert stopped.wait(10)


def test_progress_is_told_at_a_humane_pace(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PACE", 0.6)

    def slow(told: Any) -> None:
        for line in range(1, 5):
            told(250_000)
            poll(lambda wanted=line: len(caplog.messages) >= wanted, 10, "a line about the progress")

    with caplog.at_level(logging.INFO):
        began = time.monotonic()
        run("Moving", [Task("slow", 1_000_000, slow)], log)
        seconds = time.monotonic() - began
    assert caplog.messages[0].startswith("Moving: 25% of 1.0 MB, ")
    assert caplog.messages[-1].startswith("Moving: 1 file, 1.0 MB, done in ")
    assert len(caplog.messages) == 5
    assert seconds >= 4 * 0.6


def test_a_chunk_that_cannot_be_written_is_what_is_told_even_where_the_download_broke_off_too():
    """It is hashed and written while the next one is received; were it counted, the download would go on behind it."""

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            assert broke.wait(10)
            raise OSError(errno.ENOSPC, "No space left on device")

    class Breaking:
        def read(self, *_: Any) -> Any:
            return contextlib.nullcontext((0, self._chunks()))

        def _chunks(self) -> Iterator[bytes]:
            yield b"first"
            broke.set()
            raise ServiceUnavailable("The connection was cut.")

    broke = threading.Event()
    with pytest.raises(OSError, match="No space left"):
        download(cast("Any", Breaking()), "key", ModelFile("a", 9, None), Full(), Retry(), lambda _: None)


def test_nothing_to_move(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run("Moving", [], log)
    (line,) = caplog.messages
    assert line.startswith("Moving: 0 files, 0 bytes, done in ")


def test_the_first_error_is_the_one_that_is_told() -> None:
    def refused(_: Any) -> None:
        raise ServiceUnavailable("Busy.")

    with pytest.raises(ServiceUnavailable, match="Busy"):
        run("Moving", [Task("a", 1, refused)] * 50, log)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text
