# SPDX-License-Identifier: Apache-2.0
"""Who may use the server: the client registry, and the rule that a server without user ids of its own has one tenant.

A process can read what its user can read: the database, the key of the tokens, other clients' files. So several clients
need ``--users``, or somebody who says that they trust each other.
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
    """A client: its id, the hash of its secret, the user id of its jobs where it has its own, the bytes it stores."""

    client_id: str
    secret_hash: str
    uid: int | None
    used: int

    def accepts(self, secret: str) -> bool:
        """Whether this is the client's secret; takes the same time for every answer."""
        return hmac.compare_digest(_hash(secret), self.secret_hash)


class ClientRegistry:
    """The clients of a server."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def all(self) -> list[RegisteredClient]:
        """Every client, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.created, clients.c.client_id))
            return [RegisteredClient(row.client_id, row.secret_hash, row.uid, row.used) for row in rows]

    def find(self, client_id: str) -> RegisteredClient | None:
        """The client of this id, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(clients).where(clients.c.client_id == client_id)).one_or_none()
        return None if row is None else RegisteredClient(row.client_id, row.secret_hash, row.uid, row.used)

    def add(self, client_id: str) -> str:
        """Make a client and answer its secret, which is kept nowhere.

        :raises SettingsError: when the id is not one, is taken, or the server is for one tenant only.
        """
        if not re.fullmatch(_CLIENT_ID, client_id):
            raise SettingsError(
                f"A client cannot be called {client_id!r}: its id is made of at most 63 small letters, digits, - and _."
            )
        secret = secrets.token_hex(32)
        with self._database.write() as connection:
            taken = {row.client_id: row.uid for row in connection.execute(select(clients))}
            if client_id in taken:
                raise SettingsError(f"There is a client {client_id!r}; `jobapi client renew` gives it another secret.")
            if taken:
                self._refuse_second_tenant([*taken, client_id])
            uid = self._free_uid({number for number in taken.values() if number is not None})
            values = {"client_id": client_id, "secret_hash": _hash(secret), "uid": uid, "created": datetime.now(UTC)}
            connection.execute(insert(clients).values(values))
            # Left by an earlier client of this name.
            layout.remove_tree(layout.client_directory(self._settings.root, client_id))
            layout.make_client_directory(self._settings.root, client_id, uid)
        return secret

    def renew(self, client_id: str) -> str:
        """Give a client another secret; the old one and its tokens' renewal end with it.

        :raises SettingsError: when there is no such client.
        """
        secret = secrets.token_hex(32)
        with self._database.write() as connection:
            query = update(clients).where(clients.c.client_id == client_id).values(secret_hash=_hash(secret))
            if not connection.execute(query).rowcount:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
        return secret

    def remove(self, client_id: str) -> None:
        """Remove a client with all that is its own.

        :raises SettingsError: when there is no such client, or a job of it has not ended.
        """
        active = (JobState.PENDING.value, JobState.RUNNING.value)
        with self._database.write() as connection:
            query = select(jobs.c.job_id).where(jobs.c.client_id == client_id, jobs.c.state.in_(active))
            if going := connection.execute(query).scalars().first():
                raise SettingsError(f"The job {going} of {client_id!r} has not ended; stop it first.")
            if not connection.execute(delete(clients).where(clients.c.client_id == client_id)).rowcount:
                raise SettingsError(f"There is no client {client_id!r}; `jobapi client list` names them.")
        layout.remove_tree(layout.client_directory(self._settings.root, client_id))

    def check(self) -> None:
        """Hold the clients against the settings at the start of the server.

        :raises SettingsError: when several clients would share one user id.
        """
        everyone = self.all()
        if len(everyone) > 1:
            self._refuse_second_tenant([client.client_id for client in everyone])
        for client in everyone:
            self._place(client)

    def _place(self, client: RegisteredClient) -> None:
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
        raise SettingsError(f"Every user id of --users {first}-{last} is given to a client; widen the range.")


@contextmanager
def open_registry(settings: Settings, *, make: bool = False) -> Iterator[ClientRegistry]:
    """The clients of a root, whether or not a server runs on it.

    :param make: Whether the root is made when it is not there.
    :raises SettingsError: when it is not there.
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
    """The Airflow connection of a client: as a command, and as JSON for an environment variable."""
    extra = {"token_url": f"{base_url}/oauth/token"}
    fields = {"conn_type": "jobapi", "host": base_url, "login": client_id, "password": secret, "extra": extra}
    command = (
        f"airflow connections add jobapi_default --conn-type jobapi --conn-host {base_url} \\\n"
        f"      --conn-login {client_id} --conn-password {shlex.quote(secret)} \\\n"
        f"      --conn-extra {shlex.quote(json.dumps(extra))}"
    )
    return f"  {command}\n\nor\n\n  export AIRFLOW_CONN_JOBAPI_DEFAULT={shlex.quote(json.dumps(fields))}\n"


def _hash(secret: str) -> str:
    # One round is enough: the secrets are 256 random bits of ours, and nobody can try them out.
    return hashlib.sha256(secret.encode()).hexdigest()
