# SPDX-License-Identifier: Apache-2.0
"""Parallel uploads and downloads with bounded memory, a retry for each file, and progress in the log."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.sources import OnBytes, Source
from airflow_provider_jobapi.services.files.stores import ObjectStore, StoredObject, StreamingStore
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.units import count_text, size_text

THREADS = 8
"""Files that are transferred at a time; their chunks need some tens of megabytes, whatever the files' sizes."""

SMALL = 2**20
"""The most bytes of a file that is transferred together with others, where the store can."""

_LEAST_TOGETHER, _TOGETHER, _TOGETHER_BYTES = 25, 500, 16 * 2**20
"""How many files one request has, where there are so many, at the most, and the most bytes of them."""

PACE = 5.0
"""Seconds, at the least, from one progress line to the next."""


class Cancelled(TrainingError):
    """Another file of the same transfer has failed; never leaves this module."""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to transfer, or some together.

    :ivar move: Transfers it; called with the function that counts its bytes.
    :ivar files: How many files it is.
    """

    name: str
    size: int
    move: Callable[[OnBytes], None]
    files: int = 1


class Meter(Protocol):
    """Shows how far a transfer is; called by one thread."""

    def show(self, moved: int) -> None:
        """Show the number of bytes so far, about twice a second. A repeated attempt counts its bytes again."""

    def close(self, *, done: bool) -> None:
        """The transfer is done, or has failed."""


Meters = Callable[[str, int, int], Meter]
"""Makes the meter of a transfer, given its title, the number of its files and of their bytes."""


def run(title: str, tasks: Sequence[Task], log: logging.Logger, meters: Meters | None = None) -> None:
    """Transfer all files in parallel.

    :param title: What is done, such as ``Uploading the files of job 1234``.
    :param meters: Makes the meter that shows the progress; by default lines in the log.
    :raises TrainingError: the first error; the other transfers are cancelled.
    """
    size = sum(task.size for task in tasks)
    count = sum(task.files for task in tasks)
    meter = LogMeter(title, count, size, log) if meters is None else meters(title, count, size)
    progress = _Progress(title)
    executor = ThreadPoolExecutor(max_workers=min(THREADS, max(1, len(tasks))), thread_name_prefix="jobapi-transfer")
    try:
        futures = [executor.submit(_moved, task, progress) for task in tasks]
        _follow(futures, progress, meter)
    except BaseException:
        # A signal handler may have raised; the rest of a large file must not delay it.
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
    """Counts the bytes of all threads, and cancels them when one has failed."""

    def __init__(self, title: str) -> None:
        self.bytes = 0
        self.cancelled = threading.Event()
        self.error: BaseException | None = None
        self._title = title
        self._lock = threading.Lock()

    def moved(self, size: int) -> None:
        """Count bytes; raises :class:`Cancelled` when another file has failed."""
        with self._lock:
            self.bytes += size
        if self.cancelled.is_set():
            raise Cancelled(self._title)

    def fail(self, error: BaseException) -> None:
        """Keep the first error, and cancel the other files."""
        with self._lock:
            self.error = self.error or error
        self.cancelled.set()


class LogMeter:
    """Logs the progress of a transfer every :data:`PACE` seconds."""

    def __init__(self, title: str, count: int, size: int, log: logging.Logger) -> None:
        self._title = title
        self._count = count
        self._size = size
        self._log = log
        self._started = self._told = time.monotonic()

    def show(self, moved: int) -> None:
        """Log a line, unless the last one is too recent."""
        now = time.monotonic()
        if now - self._told >= PACE:
            self._told = now
            part = min(1.0, moved / self._size) if self._size else 1.0
            rate = size_text(moved / max(now - self._started, 0.001))
            self._log.info(f"{self._title}: {part:.0%} of {size_text(self._size)}, {rate} a second.")

    def close(self, *, done: bool) -> None:
        """Log the last line, unless the transfer has failed."""
        if done:
            seconds = time.monotonic() - self._started
            files = count_text(self._count, "file")
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
    """Upload files into a directory of a store; files that are there already are skipped.

    :param sources: By their path in the directory.
    :param meters: As for :func:`run`.
    """
    there = retry.call(lambda: {each.key: each for each in store.list_objects(f"{directory}/")}, log)

    def task(key: str, source: Source) -> Task:
        def once(on_bytes: OnBytes) -> None:
            on_bytes(0)
            if _same(store, there.get(key), source):
                on_bytes(source.size)
            else:
                store.put(key, source, on_bytes)

        return Task(key, source.size, lambda on_bytes: retry.call(lambda: once(on_bytes), log))

    left = {f"{directory}/{path}": source for path, source in sources.items()}
    tasks: dict[str, Task] = {key: task(key, source) for key, source in left.items()}
    if isinstance(store, StreamingStore):
        small = {
            key: each for key, each in left.items() if each.size <= SMALL and not _same(store, there.get(key), each)
        }
        for some in _groups(small):
            tasks[next(iter(some))] = _together(store, some, [tasks.pop(key) for key in some], retry, log)
    run(title, list(tasks.values()), log, meters)


def _together(
    store: StreamingStore, sources: Mapping[str, Source], single: Sequence[Task], retry: Retry, log: logging.Logger
) -> Task:
    """The upload of files by one request, or each by its own task where the store refuses that."""

    def move(on_bytes: OnBytes) -> None:
        if not retry.call(lambda: store.put_all(sources, on_bytes), log):
            for task in single:
                task.move(on_bytes)

    return Task(next(iter(sources)), sum(source.size for source in sources.values()), move, len(sources))


def _groups(sources: Mapping[str, Source]) -> Iterator[dict[str, Source]]:
    """Divide files among requests, so that each thread has one where there are many; one file is no group."""
    most = min(_TOGETHER, max(_LEAST_TOGETHER, -(-len(sources) // THREADS)))
    group: dict[str, Source] = {}
    size = 0
    for key, source in sources.items():
        if len(group) == most or size + source.size > _TOGETHER_BYTES:
            yield group
            group, size = {}, 0
        group[key] = source
        size += source.size
    if len(group) > 1:
        yield group


def _same(store: ObjectStore, there: StoredObject | None, source: Source) -> bool:
    if there is None or there.size != source.size:
        return False
    if there.sha256 is None:
        found = store.head(there.key)
        return found is not None and found.sha256 == source.sha256
    return there.sha256 == source.sha256


def download(store: ObjectStore, key: str, file: ModelFile, out: BinaryIO, retry: Retry, on_bytes: OnBytes) -> None:
    """Download one object into an open local file, verified and synced; after a break it resumes where the store can.

    :param file: The expected size and SHA-256.
    :param out: An empty file.
    :raises BrokenContract: when the object differs.
    """
    received = _Received(file)

    def take(chunk: bytes) -> None:
        received.add(chunk)
        out.write(chunk)
        on_bytes(len(chunk))

    def once() -> None:
        on_bytes(0)
        with store.read(key, received.size) as (start, chunks):
            if start != received.size:
                out.seek(0)
                out.truncate()
                received.restart()
            _each_beside(chunks, take)
        if received.size < file.size:
            raise ServiceUnavailable(
                f"The download of {file.path} ended after {received.size:,} of {file.size:,} bytes."
            )

    retry.call(once)
    received.verify()
    out.flush()
    os.fsync(out.fileno())


def _each_beside(chunks: Iterable[bytes], take: Callable[[bytes], None]) -> None:
    """Take each chunk in a second thread, so that one is hashed and written while the next one is received."""
    with ThreadPoolExecutor(1, thread_name_prefix="jobapi-written") as beside:
        taken: Future[None] | None = None
        try:
            for chunk in chunks:
                if taken is not None:
                    taken.result()
                taken = beside.submit(take, chunk)
        finally:
            # A chunk that was not written must not be counted as received, whatever else went wrong.
            if taken is not None:
                taken.result()


def keep(content: bytes, file: ModelFile, out: BinaryIO, on_bytes: OnBytes) -> bool:
    """Write the bytes of an object that was read into an empty local file, synced; False where they differ."""
    on_bytes(0)
    if len(content) != file.size or file.sha256 not in {None, hashlib.sha256(content).hexdigest()}:
        return False
    out.write(content)
    on_bytes(len(content))
    out.flush()
    os.fsync(out.fileno())
    return True


class _Received:
    """The bytes of a file that were received so far."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        """Start again at the first byte."""
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Add the next bytes.

        :raises BrokenContract: when there are more than the file has.
        """
        self.size += len(chunk)
        self._digest.update(chunk)
        if self.size > self._file.size:
            raise BrokenContract(f"The storage sent more than the {self._file.size:,} bytes of {self._file.path}.")

    def verify(self) -> None:
        """Check the SHA-256, where it is known.

        :raises BrokenContract: when it differs.
        """
        if self._file.sha256 is not None and self._digest.hexdigest() != self._file.sha256:
            raise BrokenContract(
                f"The SHA-256 of {self._file.path} in the storage differs from the one that the service listed. "
                "Nothing was kept; try again, and report it to the service's operator if it happens again."
            )
