# SPDX-License-Identifier: Apache-2.0
"""Nothing of a removed client goes to another one, and nobody else can read what the server keeps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.http.oauth import SigningKey, TokenEndpoint, TokenVerifier
from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry, open_registry
from airflow_provider_jobapi.server.store.database import Database


class Place:
    """A root with its registry of clients and its tokens."""

    def __init__(self, root: Path, users: tuple[int, int] | None = None) -> None:
        layout.prepare_root(root)
        self.root = root
        self.database = Database(root / "jobapi.sqlite")
        self.clients = ClientRegistry(Settings(root=root, users=users, trust_all_clients=True), self.database)
        self.key = SigningKey(root / "keys")

    def token(self, client_id: str, secret: str) -> str:
        fields = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        return str(TokenEndpoint(self.clients, self.key, 3600).answer("POST", "", fields).body["access_token"])

    def verify(self, token: str) -> str:
        """The client of a token, for a server that has not seen it before."""
        return TokenVerifier(self.key, self.clients).verify(token)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "root")
    yield made
    made.database.close()


def test_a_removed_clients_token_is_refused_after_its_name_is_added_again(place):
    token = place.token("one", place.clients.add("one"))
    assert place.verify(token) == "one"
    place.clients.remove("one")
    with pytest.raises(Problem, match="removed"):
        place.verify(token)
    secret = place.clients.add("one")
    with pytest.raises(Problem, match="revoked"):
        place.verify(token)
    assert place.verify(place.token("one", secret)) == "one"


def test_a_new_secret_revokes_the_tokens_of_the_old_one(place):
    token = place.token("one", place.clients.add("one"))
    other = place.token("two", place.clients.add("two"))
    verifier = TokenVerifier(place.key, place.clients, recheck=0)
    assert verifier.verify(token) == "one"
    secret = place.clients.renew("one")
    assert verifier.recall(token) is None
    for each in (verifier.verify, place.verify):
        with pytest.raises(Problem, match="revoked"):
            each(token)
    assert place.verify(place.token("one", secret)) == "one"
    assert place.verify(other) == "two"


def test_a_token_of_an_earlier_version_is_accepted_until_the_secret_is_renewed(place):
    place.clients.add("one")
    with place.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE clients DROP COLUMN generation")
        connection.exec_driver_sql("PRAGMA user_version = 3")
    place.database.close()
    later = Place(place.root)
    client = later.clients.find("one")
    assert client is not None
    assert client.generation == ""
    token = later.key.sign(client, 3600)
    assert later.verify(token) == "one"
    later.clients.renew("one")
    with pytest.raises(Problem, match="revoked"):
        later.verify(token)
    later.database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give clients user ids")
def test_the_user_id_of_a_removed_client_goes_to_nobody(tmp_path):
    place = Place(tmp_path / "root", (200_000, 200_002))
    place.clients.add("one")
    place.clients.remove("one")
    for name in ("one", "two"):
        place.clients.add(name)
    assert [client.uid for client in place.clients.all()] == [200_001, 200_002]
    with pytest.raises(SettingsError, match="belonged to removed ones, whose files may be left on this machine"):
        place.clients.add("three")
    place.database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give clients user ids")
def test_the_user_id_of_files_that_were_set_aside_goes_to_nobody(tmp_path):
    place = Place(tmp_path / "root", (200_000, 200_002))
    for name in ("one", "two"):
        place.clients.add(name)
    with place.database.write() as connection:  # as in a backup from before the second client
        connection.exec_driver_sql("DELETE FROM clients WHERE client_id = 'two'")
    place.clients.add("three")
    client = place.clients.find("three")
    assert client is not None
    assert client.uid == 200_002
    place.clients.remove("three")
    place.database.close()


def test_the_leftovers_of_an_earlier_client_are_set_aside_from_the_next_of_its_name(place):
    place.clients.add("one")
    place.clients.remove("one")
    left = layout.client_directory(place.root, "one") / "data" / "secret"
    left.parent.mkdir(parents=True)
    left.write_text("of the earlier client")
    place.clients.add("one")
    assert not left.exists()
    (moved,) = place.root.glob("set-aside/*/clients/one/data/secret")
    assert moved.read_text() == "of the earlier client"
    assert stat.S_IMODE((place.root / "set-aside").stat().st_mode) == 0o700


def modes(root: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.glob("jobapi.sqlite*")}


def test_the_database_is_readable_by_the_server_alone_whoever_makes_it(tmp_path):
    earlier = os.umask(0o022)
    try:
        settings = Settings(root=tmp_path / "root")
        with open_registry(settings, make=True) as registry:
            registry.add("one")
            made = modes(settings.root)
    finally:
        os.umask(earlier)
    assert made == dict.fromkeys(("jobapi.sqlite", "jobapi.sqlite-wal", "jobapi.sqlite-shm"), 0o600)


def test_a_database_that_others_could_read_is_repaired_at_the_start(place):
    earlier = os.umask(0o022)
    try:
        place.clients.add("one")
        for each in place.root.glob("jobapi.sqlite*"):
            each.chmod(0o644)
        copy = place.root / "jobapi.sqlite.backup"
        copy.write_bytes(b"")
        assert set(modes(place.root).values()) == {0o644}
        Database(place.root / "jobapi.sqlite").close()
        assert set(modes(place.root).values()) == {0o600}
    finally:
        os.umask(earlier)
