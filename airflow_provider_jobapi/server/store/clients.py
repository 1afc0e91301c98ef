# SPDX-License-Identifier: Apache-2.0
"""Register the clients of the server, and allow several only where their jobs cannot read each other's files.

A job can read what its user can read: the database, the key of the tokens, the files of other clients. So a server with
several clients needs ``--users``, or ``--trust-all-clients`` for clients that trust each other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, insert, select, update

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import Database, clients, jobs
from airflow_provider_jobapi.training.status import JobState

FIRST_CLIENT = "airflow"
_CLIENT_ID = r"[a-z0-9][a-z0-9_-]{0,62}"


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A client: its id, the hash of its secret, the user id of its jobs if it has its own, and the bytes it stores."""

    client_id: str
    secret_hash: str
    uid: int | None
    used: int

    def accepts(self, secret: str) -> bool:
        """Return whether this is the secret of the client, in constant time."""
        return hmac.compare_digest(_hash(secret), self.secret_hash)


class ClientRegistry:
    """The clients of a server."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def all(self) -> list[RegisteredClient]:
        """Return all clients, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.created, clients.c.client_id))
            return [RegisteredClient(row.client_id, row.secret_hash, row.uid, row.used) for row in rows]

    def find(self, client_id: str) -> RegisteredClient | None:
        """Return the client with this id, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(clients).where(clients.c.client_id == client_id)).one_or_none()
        return None if row is None else RegisteredClient(row.client_id, row.secret_hash, row.uid, row.used)

    def add(self, client_id: str) -> str:
        """Add a client and return its secret, of which the server keeps only a hash.

        :raises SettingsError: when the id is invalid or taken, or the settings allow one client only.
        """
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
            uid = self._free_uid({number for number in taken.values() if number is not None})
            values = {"client_id": client_id, "secret_hash": _hash(secret), "uid": uid, "created": datetime.now(UTC)}
            connection.execute(insert(clients).values(values))
            # An earlier client of this name may have left files.
            layout.remove_tree(layout.client_directory(self._settings.root, client_id))
            layout.make_client_directory(self._settings.root, client_id, uid)
        return secret

    def renew(self, client_id: str) -> str:
        """Give a client a new secret. The old one gets no more tokens.

        :raises SettingsError: when there is no such client.
        """
        secret = secrets.token_hex(32)
        with self._database.write() as connection:
            query = update(clients).where(clients.c.client_id == client_id).values(secret_hash=_hash(secret))
            if not connection.execute(query).rowcount:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
        return secret

    def remove(self, client_id: str) -> None:
        """Remove a client with its jobs and its objects.

        :raises SettingsError: when there is no such client, or one of its jobs has not ended.
        """
        active = (JobState.PENDING.value, JobState.RUNNING.value)
        with self._database.write() as connection:
            query = select(jobs.c.job_id).where(jobs.c.client_id == client_id, jobs.c.state.in_(active))
            if active_job := connection.execute(query).scalars().first():
                raise SettingsError(f"The job {active_job} of {client_id!r} has not ended; stop it first.")
            if not connection.execute(delete(clients).where(clients.c.client_id == client_id)).rowcount:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
        layout.remove_tree(layout.client_directory(self._settings.root, client_id))

    def check(self) -> None:
        """Check the clients against the settings when the server starts, and make their directories.

        :raises SettingsError: when several clients would share one user id.
        """
        everyone = self.all()
        if len(everyone) > 1:
            self._refuse_second_tenant([client.client_id for client in everyone])
        for client in everyone:
            self._make_directory(client)

    def _make_directory(self, client: RegisteredClient) -> None:
        uid = client.uid
        if self._settings.users and uid is None:
            with self._database.write() as connection:
                uid = self._free_uid(set(connection.execute(select(clients.c.uid)).scalars()) - {None})
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

    def _free_uid(self, taken: set[int]) -> int | None:
        if self._settings.users is None:
            return None
        first, last = self._settings.users
        for uid in range(first, last + 1):
            if uid not in taken:
                return uid
        raise SettingsError(f"All user ids of --users {first}-{last} belong to clients; give a larger range.")


@contextmanager
def open_registry(settings: Settings, *, make: bool = False) -> Iterator[ClientRegistry]:
    """Open the client registry of a root directory, whether or not a server runs on it.

    :param make: Whether to make the root directory if it does not exist.
    :raises SettingsError: when it does not exist.
    """
    path = settings.root / "jobapi.sqlite"
    if make:
        layout.prepare_root(settings.root)
    elif not path.exists():
        raise SettingsError(f"There is no server's root at {settings.root}; name it with --root.")
    database = Database(path)
    try:
        yield ClientRegistry(settings, database)
    finally:
        database.close()


def connection_help(base_url: str, client_id: str, secret: str) -> str:
    """Describe the Airflow connection of a client, as a command and as an environment variable."""
    extra = {"token_url": f"{base_url}/oauth/token"}
    fields = {"conn_type": "jobapi", "host": base_url, "login": client_id, "password": secret, "extra": extra}
    command = (
        f"airflow connections add jobapi_default --conn-type jobapi --conn-host {base_url} \\\n"
        f"      --conn-login {client_id} --conn-password {shlex.quote(secret)} \\\n"
        f"      --conn-extra {shlex.quote(json.dumps(extra))}"
    )
    return f"  {command}\n\nor\n\n  export AIRFLOW_CONN_JOBAPI_DEFAULT={shlex.quote(json.dumps(fields))}\n"


def _hash(secret: str) -> str:
    # One round is enough, since a secret has 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
