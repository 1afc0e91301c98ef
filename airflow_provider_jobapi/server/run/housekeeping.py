# SPDX-License-Identifier: Apache-2.0
"""Remove jobs whose retention is over, Python environments beyond their bound, and files that a crash left behind."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.errors import DiskFull
from airflow_provider_jobapi.server.run.environment_collection import collect
from airflow_provider_jobapi.server.run.environments import find_uv
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.disk import is_full
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.reserve import Reserve, open_database
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.units import size_text

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 3600.0
"""The most time between two looks for jobs whose retention is over."""


class Housekeeper:
    """Remove old jobs in a thread while the server runs, and more on demand."""

    def __init__(self, settings: Settings, clients: ClientRegistry, storages: Storages, registry: JobRegistry) -> None:
        self._settings = settings
        self._clients = clients
        self._storages = storages
        self._registry = registry
        self._reserve = Reserve(settings.root)
        self._wake = Event()
        self._stopping = False
        self._thread = Thread(target=self._run, name="housekeeping", daemon=True)

    def sweep(self) -> str:
        """Remove what a crash cut off, set aside what the database does not know; returns what was done, or no text.

        Only while no request is served: an upload in progress would be removed too.

        :raises SettingsError: when the database knows no client, and there are files of clients.
        """
        self._clients.refuse_lost_database()
        aside = SetAside(self._settings.root)
        names = [client.client_id for client in self._clients.all()]
        running: list[Path] = []
        for place in (self._settings.root / "clients").iterdir():
            if place.name not in names:
                jobs = layout.running_jobs(place)
                running += jobs
                if not jobs:
                    aside.move(place)
        freed = 0
        for name in names:
            self._registry.sweep(name, aside)
            before = aside.size
            try:
                self._registry.leftovers.sweep(name)
                self._registry.checkpoints.collect(name)
                freed += self._storages.of(name).sweep(aside) - (aside.size - before)
            except DiskFull:
                log.warning("The disk is full: the used bytes of %s are not counted again, and its files stay.", name)
            running += self._registry.unknown_running(name)
        for place in running:
            log.warning(
                "The job in %s runs, and the database does not know it: it goes on, and its directory stays. "
                "`touch %s/stop` stops it.", place, place,
            )  # fmt: skip
        if aside.count:
            log.warning("%s", aside)
        return f"{f'{size_text(freed)} were freed that nothing used.' if freed else ''} {aside}".strip()

    def expire(self) -> str:
        """Remove the jobs, work folders and uploads whose retention is over; returns sentences about it, or no text."""
        leftovers, done = self._registry.leftovers, []
        if count := self._registry.expire(self._settings.retention):
            done.append(f"{count} jobs are gone, whose retention was over.")
        if count := leftovers.expire_work(self._settings.work_retention):
            done.append(f"{count} work folders are gone, whose retention was over.")
        if count := leftovers.expire_uploads():
            done.append(f"The files of {count} jobs are gone that were uploaded and never submitted.")
        return " ".join(done)

    def collect(self) -> str:
        """Remove old jobs and the environments beyond their bound; returns a sentence about it."""
        return f"{self.expire()} {collect(self._settings, find_uv())}".strip()

    def collect_and_sweep(self) -> str:
        """Collect and sweep, where no server runs; returns a sentence about it."""
        return f"{self.collect()} {self.sweep()}".strip()

    def with_reserve(self, work: Callable[[], str]) -> str:
        """Do some work that frees space; on a full disk with the reserve, or not even a removal could be recorded.

        :returns: What the work returns, and a sentence where the disk is full.
        """
        if is_full(self._settings.root):
            self._reserve.release()
        try:
            message = work()
        except DiskFull:
            if not self._reserve.release():
                raise
            message = work()
        return message if self._reserve.keep() else f"{message} {self._reserve.room()}".strip()

    def start(self) -> None:
        """Start the thread. It removes old jobs from time to time, and environments too after :meth:`wake`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Remove old jobs and environments now."""
        self._wake.set()

    def _run(self) -> None:
        woken = False
        while not self._stopping:
            try:
                if message := self.with_reserve(self.collect if woken else self.expire):
                    log.info("%s", message)
            except Exception:
                log.exception("The housekeeping failed; it is tried again later.")
            woken = self._wake.wait(self._interval())
            self._wake.clear()

    def _interval(self) -> float:
        settings = self._settings
        shortest = min(settings.retention, settings.work_retention, settings.upload_retention)
        return min(_INTERVAL_SECONDS, shortest.total_seconds())


def collect_now(settings: Settings) -> str:
    """Run ``jobapi gc``: collect in this process, or have the server that runs on this root collect.

    :raises SettingsError: when neither is possible.
    """
    if not (settings.root / "jobapi.sqlite").exists():
        raise SettingsError(f"There is no server's root at {settings.root}; name it with --root.")
    try:
        with layout.root_lock(settings.root):
            return _collect_alone(settings)
    except layout.RootInUse as held:
        return _signal_server(settings.root, held.process)


def _collect_alone(settings: Settings) -> str:
    Reserve(settings.root).make_room()
    database = open_database(settings.root)
    try:
        clients, storages = ClientRegistry(settings, database), Storages(settings, database)
        keeper = Housekeeper(settings, clients, storages, JobRegistry(settings, database, storages))
        clients.refuse_lost_database()
        return keeper.with_reserve(keeper.collect_and_sweep)
    finally:
        database.close()


def _signal_server(root: Path, process: int | None) -> str:
    try:
        if process is None:
            raise OSError(None, "its process id is unknown")
        os.kill(process, signal.SIGUSR1)
    except OSError as error:
        raise SettingsError(
            f"The server that runs on {root} (process {process}) cannot be signalled to collect: {error.strerror}."
        ) from None
    return f"The server that runs on {root} (process {process}) collects now."
