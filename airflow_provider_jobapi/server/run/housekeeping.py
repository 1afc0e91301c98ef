# SPDX-License-Identifier: Apache-2.0
"""What is cleared away: jobs whose retention is over, environments beyond their bound, and what a crash left behind."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from threading import Event, Thread

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run import environments
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import Storages
from airflow_provider_jobapi.training.units import size_text

log = logging.getLogger(__name__)

_PACE = 3600.0
"""The most seconds between two collections."""


class Housekeeper:
    """Clears away, in a thread of its own while the server runs."""

    def __init__(self, settings: Settings, clients: ClientRegistry, storages: Storages, registry: JobRegistry) -> None:
        self._settings = settings
        self._clients = clients
        self._storages = storages
        self._registry = registry
        self._wake = Event()
        self._over = False
        self._thread = Thread(target=self._run, name="housekeeping", daemon=True)

    def sweep(self) -> str:
        """Remove what no row of the database knows. Only while nobody uses the root but the caller."""
        names = [client.client_id for client in self._clients.all()]
        for place in (self._settings.root / "clients").iterdir():
            if place.name not in names:
                layout.remove_tree(place)
        freed = 0
        for name in names:
            self._registry.sweep(name)
            freed += self._storages.of(name).sweep()
        return f"{size_text(freed)} were freed that nothing used." if freed else ""

    def expire(self) -> str:
        """Remove the jobs whose retention is over; says how many."""
        count = self._registry.expire(self._settings.retention)
        return f"{count} jobs are gone, whose retention was over." if count else ""

    def collect(self) -> str:
        """Remove what has had its time, the environments beyond their bound included; says what that was."""
        return f"{self.expire()} {environments.collect(self._settings)}".strip()

    def start(self) -> None:
        """Begin to clear away: jobs from time to time, everything when told so."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits until the thread is at rest."""
        self._over = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Clear away now."""
        self._wake.set()

    def _run(self) -> None:
        told = False
        while not self._over:
            try:
                if said := self.collect() if told else self.expire():
                    log.info("%s", said)
            except Exception:
                log.exception("The housekeeping failed; it goes on at its pace.")
            told = self._wake.wait(min(_PACE, self._settings.retention.total_seconds()))
            self._wake.clear()


def collect_now(settings: Settings) -> str:
    """``jobapi gc``: clear away in this process, or tell the server that runs on this root to do so.

    :raises SettingsError: when neither is possible.
    """
    if not (settings.root / "jobapi.sqlite").exists():
        raise SettingsError(f"There is no server's root at {settings.root}; name it with --root.")
    try:
        with layout.root_lock(settings.root):
            return _collect_alone(settings)
    except layout.RootInUse as held:
        return _tell_server(settings.root, held.process)


def _collect_alone(settings: Settings) -> str:
    database = Database(settings.root / "jobapi.sqlite")
    try:
        clients, storages = ClientRegistry(settings, database), Storages(settings, database)
        keeper = Housekeeper(settings, clients, storages, JobRegistry(settings, database, storages))
        return f"{keeper.collect()} {keeper.sweep()}".strip()
    finally:
        database.close()


def _tell_server(place: Path, process: int | None) -> str:
    try:
        if process is None:
            raise OSError(None, "it does not say its process id")
        os.kill(process, signal.SIGUSR1)
    except OSError as error:
        raise SettingsError(
            f"The server that runs on {place} (process {process}) cannot be told to collect: {error.strerror}."
        ) from None
    return f"The server that runs on {place} (process {process}) was told to collect now."
