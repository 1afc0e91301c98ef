# SPDX-License-Identifier: Apache-2.0
"""The watch of the files of jobs, with the system's reports of changes and without them, on real files."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.http import watched_jobs
from airflow_provider_jobapi.server.http.directory_events import DirectoryEvents, shared_file_system
from airflow_provider_jobapi.server.http.log_watcher import LogWatcher
from airflow_provider_jobapi.server.http.watched_jobs import WatchedJob, WatchedJobs
from airflow_provider_jobapi.server.store.job_record import JobKey

SECONDS = 20.0


class Silent(DirectoryEvents):
    """What Linux reports where another host writes: nothing."""

    def read(self) -> tuple[set[int], set[int], bool]:
        super().read()
        return set(), set(), False


class Full(DirectoryEvents):
    """As many watches as there may be."""

    def add(self, *_unused: object) -> int:
        raise OSError(28, "No space left on device")


class Missing(DirectoryEvents):
    """A system without inotify."""

    def __init__(self, *_unused: object) -> None:
        raise OSError(38, "Function not implemented")


class Forgetful(DirectoryEvents):
    """A queue of reports that has run over."""

    def read(self) -> tuple[set[int], set[int], bool]:
        return set(), set(), any(super().read())


SYSTEMS = {
    "reports": DirectoryEvents,
    "no inotify": Missing,
    "limit": Full,
    "silent": Silent,
    "queue runs over": Forgetful,
}


@contextlib.asynccontextmanager
async def watching(root: Path, **bounds: float) -> AsyncIterator[LogWatcher]:
    watcher = LogWatcher(root, **{"poll": 0.02, "safety": 0.1, **bounds})
    watcher.open()
    try:
        yield watcher
    finally:
        watcher.close()


def begin(watcher: LogWatcher, root: Path, name: str = "a") -> WatchedJob:
    home = root / name
    home.mkdir(exist_ok=True)
    return watcher.jobs.watch(JobKey("airflow", name), home)


def append(job: WatchedJob, name: str = "log", text: bytes = b"x\n") -> None:
    with (job.home / name).open("ab") as file:
        file.write(text)


async def woken(waiter) -> set[WatchedJob]:
    found = await waiter.wait(asyncio.get_running_loop().time() + SECONDS)
    assert found, "nobody was woken"
    return found


async def forgotten(watcher: LogWatcher, job: WatchedJob) -> None:
    async with asyncio.timeout(SECONDS):
        while watcher.jobs.get(job.key):  # noqa: ASYNC110 -- nothing says so
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_growth_of_a_file_wakes_those_that_wait_for_its_job(tmp_path: Path, monkeypatch, system):
    monkeypatch.setattr(watched_jobs, "DirectoryEvents", SYSTEMS[system])

    async def run() -> None:
        async with watching(tmp_path) as watcher:
            first, second = begin(watcher, tmp_path), begin(watcher, tmp_path, "b")
            with watcher.waiting([first]) as one, watcher.waiting([first, second]) as both:
                for number in range(20):
                    job, name = (first, second)[number % 2], ("log", "scalars")[number // 2 % 2]
                    first.changed = second.changed = False
                    append(job, name)
                    while job not in await woken(both):
                        pass
                    assert job.changed
                    if job is first:
                        assert await woken(one) == {first}

    asyncio.run(run())


@pytest.mark.parametrize("system", ["reports", "no inotify"])
def test_other_files_of_a_job_wake_nobody(tmp_path: Path, monkeypatch, system):
    monkeypatch.setattr(watched_jobs, "DirectoryEvents", SYSTEMS[system])

    async def run() -> None:
        async with watching(tmp_path) as watcher:
            job = begin(watcher, tmp_path)
            with watcher.waiting([job]) as waiter:
                append(job, "running.new")
                (job.home / "running.new").rename(job.home / "running")
                assert not await waiter.wait(asyncio.get_running_loop().time() + 0.5)

    asyncio.run(run())


def test_a_job_whose_directory_is_made_later_is_watched(tmp_path: Path):
    async def run() -> None:
        async with watching(tmp_path) as watcher:
            job = watcher.jobs.watch(JobKey("airflow", "a"), tmp_path / "a")
            with watcher.waiting([job]) as waiter:
                assert job.number is None
                job.home.mkdir()
                append(job)
                while job.number is None:
                    await woken(waiter)
                append(job)
                await woken(waiter)

    asyncio.run(run())


def test_a_directory_that_is_replaced_is_watched_again(tmp_path: Path):
    async def run() -> None:
        async with watching(tmp_path) as watcher:
            job = begin(watcher, tmp_path)
            append(job)
            with watcher.waiting([job]) as waiter:
                number = job.number
                (job.home / "log").unlink()
                job.home.rmdir()
                job.home.mkdir()
                append(job)
                while job.number in {None, number}:
                    await woken(waiter)

    asyncio.run(run())


def test_missing_reports_are_found_out_and_present_ones_are_trusted(tmp_path: Path, monkeypatch):
    async def reports(system: type[DirectoryEvents]) -> bool:
        monkeypatch.setattr(watched_jobs, "DirectoryEvents", system)
        async with watching(tmp_path) as watcher:
            job = begin(watcher, tmp_path, system.__name__)
            with watcher.waiting([job]) as waiter:
                for _ in range(20):  # through some looks at all sizes
                    append(job)
                    await woken(waiter)
            return watcher.jobs.reports

    assert asyncio.run(reports(DirectoryEvents))
    assert not asyncio.run(reports(Silent))


def test_a_thousand_writes_a_second_wake_seldom(tmp_path: Path):
    async def run() -> None:
        async with watching(tmp_path, safety=60) as watcher:
            job = begin(watcher, tmp_path)
            loop, count, ended = asyncio.get_running_loop(), 0, threading.Event()

            def write() -> None:
                for _ in range(1_000):
                    append(job)
                    ended.wait(0.001)
                ended.set()

            with watcher.waiting([job]) as waiter:
                begun = loop.time()
                writing = loop.run_in_executor(None, write)
                while not ended.is_set():
                    count += bool(await waiter.wait(loop.time() + 0.2))
                await writing
                assert 1 <= count <= (loop.time() - begun) / 0.05 + 2

    asyncio.run(run())


def test_a_job_that_nobody_asks_for_any_more_is_forgotten(tmp_path: Path):
    async def run() -> None:
        async with watching(tmp_path, kept=0.2) as watcher:
            kept, other = begin(watcher, tmp_path), begin(watcher, tmp_path, "b")
            with watcher.waiting([kept]):
                await forgotten(watcher, other)
                assert watcher.jobs.get(kept.key) is kept
            await forgotten(watcher, kept)
            assert begin(watcher, tmp_path).number is not None

    asyncio.run(run())


def test_the_limit_of_watches_is_said_once(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(watched_jobs, "DirectoryEvents", Full)

    async def run() -> None:
        async with watching(tmp_path) as watcher:
            for name in "abc":
                begin(watcher, tmp_path, name)

    asyncio.run(run())
    assert [record.message for record in caplog.records if "max_user_watches" in record.message] == [
        "Some logs are polled, which costs more time: raise the limit fs.inotify.max_user_watches."
    ]


def test_on_a_shared_file_system_the_sizes_are_looked_at(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(watched_jobs, "shared_file_system", lambda _path: "NFS")
    assert shared_file_system(tmp_path) is None

    async def run() -> None:
        jobs = WatchedJobs(tmp_path, lambda _job: None)
        jobs.open()
        assert not jobs.reports
        jobs.close()

    asyncio.run(run())
