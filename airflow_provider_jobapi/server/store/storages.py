# SPDX-License-Identifier: Apache-2.0
"""The storages of all clients of a server."""

from __future__ import annotations

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.fair_slots import FairSlots
from airflow_provider_jobapi.server.store.objects import DISK_SLOTS, ClientStorage


class Storages:
    """The storages of all clients."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._storages: dict[str, ClientStorage] = {}
        self._slots = FairSlots(DISK_SLOTS)

    def of(self, client_id: str) -> ClientStorage:
        """Return the storage of a client."""
        made = ClientStorage(self._settings, self._database, client_id, self._slots)
        return self._storages.setdefault(client_id, made)
