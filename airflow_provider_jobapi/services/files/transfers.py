# SPDX-License-Identifier: Apache-2.0
"""Many files at once: parallel, bounded in memory, each repeated by itself after a break, told at a humane pace."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.sources import Source, Told
from airflow_provider_jobapi.services.files.stores import ObjectStore, StoredObject
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.units import size_text

THREADS = 8
"""Files that are on their way at a time; with their chunks some tens of megabytes, whatever the files' sizes."""

PACE = 5.0
"""The least seconds from one line about the progress to the next."""


class Cancelled(TrainingError):
    """Another file of the same transfer has failed; never seen outside of it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to move.

    :ivar move: Moves it; told the function that counts its bytes.
    """

    name: str
    size: int
    move: Callable[[Told], None]


class Meter(Protocol):
    """Shows how far a transfer is; called by one thread."""

    def show(self, moved: int) -> None:
        """So many bytes have moved; told some twice a second. A repeated attempt counts its bytes again."""

    def close(self, *, done: bool) -> None:
        """The transfer is done, or has failed."""


Meters = Callable[[str, int, int], Meter]
"""Makes the meter of a transfer, given its title, the number of its files and of their bytes."""


def run(title: str, tasks: Sequence[Task], log: logging.Logger, meters: Meters | None = None) -> None:
    """Move all files in parallel.

    :param title: What it is, for people, such as ``Uploading the files of job 1234``.
    :param meters: What shows how far it is; lines in the log, where nothing else does.
    :raises TrainingError: the first error; the other files are told to stop.
    """
    size = sum(task.size for task in tasks)
    meter = LogMeter(title, len(tasks), size, log) if meters is None else meters(title, len(tasks), size)
    progress = _Progress(title)
    executor = ThreadPoolExecutor(max_workers=min(THREADS, max(1, len(tasks))), thread_name_prefix="jobapi-transfer")
    try:
        futures = [executor.submit(_moved, task, progress) for task in tasks]
        _follow(futures, progress, meter)
    except BaseException:
        # A signal handler may have raised; whoever waits for us shall not wait for the rest of a large file.
        progress.cancelled.set()
        executor.shutdown(wait=False, cancel_futures=True)
        meter.close(done=False)
        raise
    executor.shutdown()
    meter.close(done=True)


def _moved(task: Task, progress: _Progress) -> None:
    if progress.cancelled.is_set():
        return
    try:
        task.move(progress.moved)
    except BaseException as error:
        progress.fail(error)
        raise


def _follow(futures: Iterable[Future[None]], progress: _Progress, meter: Meter) -> None:
    left = set(futures)
    while left:
        done, left = wait(left, timeout=0.5, return_when=FIRST_EXCEPTION)
        if any(future.exception() is not None for future in done):
            assert progress.error is not None  # noqa: S101 -- for the type checker
            raise progress.error
        meter.show(progress.bytes)


class _Progress:
    """Counts the bytes of many threads, and ends them all when one has failed."""

    def __init__(self, title: str) -> None:
        self.bytes = 0
        self.cancelled = threading.Event()
        self.error: BaseException | None = None
        self._title = title
        self._lock = threading.Lock()

    def moved(self, size: int) -> None:
        """Count bytes; ends the transfer of this file when another has failed."""
        with self._lock:
            self.bytes += size
        if self.cancelled.is_set():
            raise Cancelled(self._title)

    def fail(self, error: BaseException) -> None:
        """Keep the first error, and let no other file go on."""
        with self._lock:
            self.error = self.error or error
        self.cancelled.set()


class LogMeter:
    """Tells how far a transfer is by lines of a log, at a humane pace."""

    def __init__(self, title: str, count: int, size: int, log: logging.Logger) -> None:
        self._title = title
        self._count = count
        self._size = size
        self._log = log
        self._started = self._told = time.monotonic()

    def show(self, moved: int) -> None:
        """One line, where the last was long enough ago."""
        now = time.monotonic()
        if now - self._told >= PACE:
            self._told = now
            part = min(1.0, moved / self._size) if self._size else 1.0
            rate = size_text(moved / max(now - self._started, 0.001))
            self._log.info(f"{self._title}: {part:.0%} of {size_text(self._size)}, {rate} a second.")

    def close(self, *, done: bool) -> None:
        """The last line, unless an error says more."""
        if done:
            seconds = time.monotonic() - self._started
            files = "1 file" if self._count == 1 else f"{self._count:,} files"
            self._log.info(f"{self._title}: {files}, {size_text(self._size)}, done in {seconds:.1f} seconds.")


def upload(
    store: ObjectStore,
    directory: str,
    sources: Mapping[str, Source],
    retry: Retry,
    log: logging.Logger,
    title: str,
    meters: Meters | None = None,
) -> None:
    """Bring files into a directory of a store; those that it has already are left out.

    :param sources: By their path in the directory.
    :param meters: As for :func:`run`.
    """
    there = retry.call(lambda: {each.key: each for each in store.list_objects(f"{directory}/")}, log)

    def task(key: str, source: Source) -> Task:
        def once(told: Told) -> None:
            told(0)
            if _same(store, there.get(key), source):
                told(source.size)
            else:
                store.put(key, source, told)

        return Task(key, source.size, lambda told: retry.call(lambda: once(told), log))

    run(title, [task(f"{directory}/{path}", source) for path, source in sources.items()], log, meters)


def _same(store: ObjectStore, there: StoredObject | None, source: Source) -> bool:
    if there is None or there.size != source.size:
        return False
    if there.sha256 is None:
        found = store.head(there.key)
        return found is not None and found.sha256 == source.sha256
    return there.sha256 == source.sha256


def download(store: ObjectStore, key: str, file: ModelFile, target: Path, retry: Retry, told: Told) -> None:
    """Bring one object into a file of this machine, verified and synced. A break goes on where it was, if it can.

    :param file: What the object must be.
    :param target: A file that does not exist yet.
    :raises BrokenContract: when the object is not what it must be.
    """
    with target.open("xb") as out:
        received = _Received(file)

        def once() -> None:
            told(0)
            with store.read(key, received.size) as (start, chunks):
                if start != received.size:
                    out.seek(0)
                    out.truncate()
                    received.restart()
                for chunk in chunks:
                    received.add(chunk)
                    out.write(chunk)
                    told(len(chunk))
            if received.size < file.size:
                raise ServiceUnavailable(f"The storage broke off {file.path} after {received.size:,} bytes.")

        retry.call(once)
        received.verify()
        out.flush()
        os.fsync(out.fileno())


class _Received:
    """What has come of a file so far."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Take in the next bytes, and no more than there may be."""
        self.size += len(chunk)
        self._digest.update(chunk)
        if self.size > self._file.size:
            raise BrokenContract(f"The storage sends more of {self._file.path} than the service named.")

    def verify(self) -> None:
        """Check that the file is whole and the one that was named."""
        if self._file.sha256 is not None and self._digest.hexdigest() != self._file.sha256:
            raise BrokenContract(
                f"The storage's {self._file.path} is not the one that the service named: its SHA-256 differs. Nothing "
                "was kept; try again, and tell the service's operator if it stays so."
            )
