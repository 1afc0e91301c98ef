# SPDX-License-Identifier: Apache-2.0
"""Register the clients of the server, and allow several only where their jobs cannot read each other's files.

A job can read what its user can read: the database, the key of the tokens, the files of other clients. So a server with
several clients needs ``--users``, or ``--trust-all-clients`` for clients that trust each other.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.connection_help import connection_file
from airflow_provider_jobapi.server.store.database import Database, clients, jobs, removed_clients
from airflow_provider_jobapi.server.store.reserve import open_database
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.training.status import JobState

FIRST_CLIENT = "airflow"
_CLIENT_ID = r"[a-z0-9][a-z0-9_-]{0,62}"


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A client.

    :ivar uid: The user id of its jobs, if it has its own.
    :ivar used: The bytes that it stores.
    :ivar generation: A random text that its tokens carry; a new secret, and a new client of the name, get another.
    """

    client_id: str
    secret_hash: str
    uid: int | None
    used: int
    generation: str = ""

    def accepts(self, secret: str) -> bool:
        """Return whether this is the secret of the client, in constant time."""
        return hmac.compare_digest(_hash(secret), self.secret_hash)


class ClientRegistry:
    """The clients of a server."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._note = settings.root / "clients-changed"

    def all(self) -> list[RegisteredClient]:
        """Return all clients, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.created, clients.c.client_id))
            return [_client(row) for row in rows]

    def find(self, client_id: str) -> RegisteredClient | None:
        """Return the client with this id, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(clients).where(clients.c.client_id == client_id)).one_or_none()
        return None if row is None else _client(row)

    def add(self, client_id: str) -> str:
        """Add a client and return its secret, of which the server keeps only a hash.

        :raises SettingsError: when the id is invalid or taken, the settings allow one client only, or the directory of
            an earlier client of this name cannot be set aside.
        """
        self.refuse_lost_database()
        if not re.fullmatch(_CLIENT_ID, client_id):
            raise SettingsError(
                f"A client cannot have the id {client_id!r}: it has at most 63 small letters, digits, - and _."
            )
        secret = secrets.token_hex(32)
        with self._database.write() as connection:
            taken = {row.client_id: row.uid for row in connection.execute(select(clients))}
            if client_id in taken:
                raise SettingsError(f"The client {client_id!r} exists; `jobapi client renew` gives it a new secret.")
            if taken:
                self._refuse_second_tenant([*taken, client_id])
            uid = self._free_uid(connection)
            values = {"client_id": client_id, "secret_hash": _hash(secret), "uid": uid, "created": datetime.now(UTC)}
            connection.execute(insert(clients).values(values | {"generation": _generation()}))
            self._set_aside_earlier(client_id)
            layout.make_client_directory(self._settings.root, client_id, uid)
        return secret

    def renew(self, client_id: str) -> str:
        """Give a client a new secret. The old one gets no more tokens, and the tokens that it got are not accepted.

        :raises SettingsError: when there is no such client.
        """
        secret = secrets.token_hex(32)
        with self._database.write() as connection:
            values = {"secret_hash": _hash(secret), "generation": _generation()}
            query = update(clients).where(clients.c.client_id == client_id).values(values)
            if not connection.execute(query).rowcount:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
        self._note_change()
        connection_file(self._settings.root, client_id).unlink(missing_ok=True)  # it has the old secret
        return secret

    def remove(self, client_id: str) -> None:
        """Remove a client with its jobs and its objects.

        :raises SettingsError: when there is no such client, or one of its jobs has not ended.
        """
        home = layout.client_directory(self._settings.root, client_id)
        active = (JobState.PENDING.value, JobState.RUNNING.value)
        with self._database.write() as connection:
            query = select(jobs.c.job_id).where(jobs.c.client_id == client_id, jobs.c.state.in_(active))
            if active_job := connection.execute(query).scalars().first():
                raise SettingsError(f"The job {active_job} of {client_id!r} has not ended; stop it first.")
            uids = connection.execute(select(clients.c.uid).where(clients.c.client_id == client_id)).scalars().all()
            if not uids:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
            self._refuse_running(home)
            connection.execute(delete(clients).where(clients.c.client_id == client_id))
            values = {"client_id": client_id, "uid": uids[0], "removed": datetime.now(UTC)}
            connection.execute(insert(removed_clients).values(values))
        self._note_change()
        layout.remove_tree(home)
        connection_file(self._settings.root, client_id).unlink(missing_ok=True)

    def changes(self) -> int:
        """Return a number that is another one after a client was removed, or got a new secret, by any process."""
        try:
            return self._note.stat().st_mtime_ns
        except OSError:
            return 0

    def _note_change(self) -> None:
        with suppress(OSError):  # a full disk; the tokens are looked up again soon
            os.close(os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.utime(self._note, ns=(time.time_ns(), time.time_ns()))

    def refuse_lost_database(self) -> None:
        """Refuse a database that knows no client where there are files of clients.

        :raises SettingsError: when it is so.
        """
        with self._database.read() as connection:
            known = [connection.execute(select(table).limit(1)).first() for table in (clients, removed_clients)]
        if not any(known) and layout.has_files(self._settings.root / "clients"):
            raise SettingsError(
                f"{self._settings.root} has files of clients, but the database jobapi.sqlite knows no client, as a "
                "copy without its jobapi.sqlite-wal: restore it from a backup, or choose another --root."
            )

    def check(self) -> None:
        """Check the clients against the settings when the server starts, and make their directories.

        :raises SettingsError: when several clients would share one user id, or the database was lost.
        """
        self.refuse_lost_database()
        everyone = self.all()
        if len(everyone) > 1:
            self._refuse_second_tenant([client.client_id for client in everyone])
        for client in everyone:
            self._make_directory(client)

    def _make_directory(self, client: RegisteredClient) -> None:
        uid = client.uid
        if self._settings.users and uid is None:
            with self._database.write() as connection:
                uid = self._free_uid(connection)
                connection.execute(update(clients).where(clients.c.client_id == client.client_id).values(uid=uid))
        layout.make_client_directory(self._settings.root, client.client_id, uid if self._settings.users else None)

    def _refuse_second_tenant(self, names: list[str]) -> None:
        if self._settings.users or self._settings.trust_all_clients:
            return
        raise SettingsError(
            f"The clients {', '.join(names)} would share one user id, so a job of one could read the files and secrets "
            "of the others: give each its own with --users FIRST-LAST (as root), or pass --trust-all-clients if they "
            "trust each other."
        )

    def _set_aside_earlier(self, client_id: str) -> None:
        """Set aside what an earlier client of a name left."""
        home = layout.client_directory(self._settings.root, client_id)
        self._refuse_running(home)
        if home.exists() and not SetAside(self._settings.root).move(home):
            raise SettingsError(f"{home} is left of an earlier client {client_id!r}: move it away first.")

    @staticmethod
    def _refuse_running(home: Path) -> None:
        if running := layout.running_jobs(home):
            raise SettingsError(
                f"The job in {running[0]} runs, though the database does not know it: stop it first with "
                f"`touch {running[0]}/stop`."
            )

    def _free_uid(self, connection: Connection) -> int | None:
        """Return a user id that no client has or had, so that no leftovers of one go to another."""
        if self._settings.users is None:
            return None
        queries = (select(clients.c.uid), select(removed_clients.c.uid))
        taken = {uid for query in queries for uid in connection.execute(query).scalars()}
        taken |= layout.owners(self._settings.root)
        first, last = self._settings.users
        for uid in range(first, last + 1):
            if uid not in taken:
                return uid
        raise SettingsError(
            f"All user ids of --users {first}-{last} belong to clients, or belonged to removed ones, whose files may "
            "be left on this machine; give a larger range."
        )


@contextmanager
def open_registry(settings: Settings, *, make: bool = False) -> Iterator[ClientRegistry]:
    """Open the client registry of a root directory, whether or not a server runs on it.

    :param make: Whether to make the root directory if it does not exist.
    :raises SettingsError: when it does not exist.
    """
    if make:
        layout.prepare_root(settings.root)
    elif not (settings.root / "jobapi.sqlite").exists():
        raise SettingsError(f"There is no server's root at {settings.root}; name it with --root.")
    database = open_database(settings.root)
    try:
        yield ClientRegistry(settings, database)
    finally:
        database.close()


def _client(row: Row[Any]) -> RegisteredClient:
    return RegisteredClient(row.client_id, row.secret_hash, row.uid, row.used, row.generation)


def _generation() -> str:
    return secrets.token_hex(16)


def _hash(secret: str) -> str:
    # One round is enough, since a secret has 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
