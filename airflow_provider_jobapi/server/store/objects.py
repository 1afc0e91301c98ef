# SPDX-License-Identifier: Apache-2.0
"""Store the objects of the clients: their keys in the database, their bytes in blobs, and the limit of their size.

All bytes of an object are on the disk before one transaction connects them to its key. So a reader gets the old object
or the new one, a crash leaves at most a blob without a key, a job can keep its inputs by hard links, and a key is never
a path on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import ChangedFile, InvalidObjectKey, LostBytes, StorageFull, UnknownObject
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.blobs import PIECE, Blobs, ProbeResult
from airflow_provider_jobapi.server.store.database import Database, clients, inputs, objects
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.training.job_file import check_path
from airflow_provider_jobapi.training.units import size_text

WriteCheck = Callable[[Connection, str], None]
"""Called with the transaction and the key before a key changes; raises a ServerError where it must not."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its key, its size in bytes, the SHA-256 of its bytes in hex, when it was written, and its blob."""

    key: str
    size: int
    sha256: str
    modified: datetime
    blob: str


class ClientStorage:
    """The storage of one client."""

    def __init__(self, settings: Settings, database: Database, client_id: str) -> None:
        self.client_id = client_id
        self.blobs = Blobs(layout.client_directory(settings.root, client_id) / "data")
        self._root = settings.root
        self._bound = settings.storage_bound
        self._database = database
        self._uploading = 0
        self._lock = Lock()

    def head(self, key: str) -> StoredObject:
        """Return the description of an object.

        :raises UnknownObject: when there is none, also where its bytes are missing on the disk: so a client that asks
            before it uploads uploads it again.
        :raises InvalidObjectKey: when this cannot be a key.
        """
        for _attempt in range(3):
            stored = self._described(key)
            if self.blobs.path(stored.blob).exists():  # else it was replaced after the look-up
                return stored
        raise UnknownObject(key)

    def _described(self, key: str) -> StoredObject:
        check_key(key)
        with self._database.read() as connection:
            row = connection.execute(select(objects).where(self._is(key))).one_or_none()
        if row is None:
            raise UnknownObject(key)
        return _stored(row)

    def open(self, key: str) -> tuple[StoredObject, int]:
        """Return the description of an object and a file descriptor of its bytes, which the caller closes.

        :raises UnknownObject: when there is none.
        :raises InvalidObjectKey: when this cannot be a key.
        :raises LostBytes: when its bytes are missing on the disk.
        """
        for _attempt in range(3):
            stored = self._described(key)
            try:
                return stored, self.blobs.open(stored.blob)
            except FileNotFoundError:  # replaced after the look-up
                continue
        raise LostBytes(f"The bytes of {key!r} are missing on the server's disk; upload the object again.")

    def writer(self, key: str, size: int = 0, check: WriteCheck | None = None) -> ObjectWriter:
        """Begin to write an object.

        :param size: The size in bytes, if the client sent it, so that an object without room is refused at once.
        :param check: Called before the write, and again by :meth:`ObjectWriter.commit`.
        :raises InvalidObjectKey: when this cannot be a key.
        :raises StorageFull: when there is no room.
        :raises ServerError: whatever ``check`` raises.
        """
        check_key(key)
        with self._database.read() as connection:
            if check:
                check(connection, key)
            room = self._bound - self._used(connection)
        if size > room:
            raise self.full_error(size, room)
        return ObjectWriter(self, key, room)

    def add_file(self, source: int, key: str, *, sha256: str | None = None, size: int | None = None) -> StoredObject:
        """Store a copy of a file of this machine.

        :param source: A file descriptor. The file is read from its start, and left open.
        :param sha256: The expected SHA-256, if it is known.
        :param size: The expected bytes, if they are known.
        :raises OutOfSpace: when the client's storage or the disk is full.
        :raises ChangedFile: when these are not the expected bytes.
        """
        offset = 0
        with self.writer(key, os.fstat(source).st_size) as writer:
            while piece := os.pread(source, PIECE, offset):
                writer.write(piece)
                offset += len(piece)
            if sha256 not in {None, writer.sha256} or size not in {None, offset}:
                raise ChangedFile(f"The file for {key!r} changed while it was stored.")
            return writer.commit()[0]

    def delete(self, key: str, check: WriteCheck | None = None) -> None:
        """Delete an object.

        :param check: Called before the key changes.
        :raises UnknownObject: when there is none.
        :raises InvalidObjectKey: when this cannot be a key.
        :raises ServerError: whatever ``check`` raises.
        """
        check_key(key)
        with self._database.write() as connection:
            if check:
                check(connection, key)
            freed = self._remove_key(connection, key)
            if freed is None:
                raise UnknownObject(key)
        self.blobs.delete([freed])

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredObject], str | None]:
        """Return objects sorted by key, and the key after which the next page begins, if there is one."""
        query = select(objects).where(objects.c.client_id == self.client_id, objects.c.key > after)
        if prefix:
            query = query.where(_begins(prefix))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(objects.c.key).limit(limit + 1)).all()
        found = [_stored(row) for row in rows[:limit]]
        return found, found[-1].key if len(rows) > limit else None

    def probe(self) -> ProbeResult:
        """Check whether the storage works, and describe how full it is."""
        probe = self.blobs.probe()
        if not probe.ok:
            return probe
        with self._database.read() as connection:
            used = self._used(connection)
        return ProbeResult(True, f"{probe.message}; {size_text(used)} of {size_text(self._bound)} are used.")

    def objects_below(self, connection: Connection, directory: str) -> dict[str, StoredObject]:
        """Return the objects below a directory by their paths in it."""
        query = select(objects).where(objects.c.client_id == self.client_id, _begins(f"{directory}/"))
        return {row.key[len(directory) + 1 :]: _stored(row) for row in connection.execute(query)}

    def keep_inputs(
        self, connection: Connection, job_id: str, chosen: Sequence[tuple[str, StoredObject]], target: Path
    ) -> None:
        """Keep the current bytes of objects for a job, by hard links below a directory.

        :param connection: The transaction that creates the job. It holds the write lock, so no blob is deleted now.
        :param chosen: The paths below the directory, and their objects.
        :param target: The directory, which is created.
        """
        target.mkdir(mode=0o700)
        for path, stored in chosen:
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.blobs.link(stored.blob, place)
        mine = {"client_id": self.client_id, "job_id": job_id}
        if rows := [mine | {"path": path, "blob": each.blob, "size": each.size} for path, each in chosen]:
            connection.execute(insert(inputs), rows)

    def remove_job(self, connection: Connection, job_id: str, directory: str) -> list[str]:
        """Remove the objects and the inputs of a job; returns the blobs to delete after the commit.

        :param directory: The directory of the job in the storage.
        """
        below = (objects.c.client_id == self.client_id) & _begins(f"{directory}/")
        held = (inputs.c.client_id == self.client_id) & (inputs.c.job_id == job_id)
        blobs = list(connection.execute(select(objects.c.blob).where(below)).scalars())
        freed = _sum(connection, objects.c.size, below) + _sum(connection, inputs.c.size, held & inputs.c.alone)
        connection.execute(delete(objects).where(below))
        connection.execute(delete(inputs).where(held))
        self._count(connection, -freed)
        return blobs

    def sweep(self, aside: SetAside | None = None) -> int:
        """Count the used bytes, and remove or set aside blobs without a key; returns their bytes.

        Call it while nothing writes.

        :param aside: Where unknown blobs go; by default to a folder of their own.
        """
        mine = objects.c.client_id == self.client_id
        with self._database.write() as connection:
            known = set(connection.execute(select(objects.c.blob).where(mine)).scalars())
            alone = (inputs.c.client_id == self.client_id) & inputs.c.alone
            used = _sum(connection, objects.c.size, mine) + _sum(connection, inputs.c.size, alone)
            connection.execute(update(clients).where(clients.c.client_id == self.client_id).values(used=used))
        return self.blobs.sweep(known, aside or SetAside(self._root))

    def publish(self, stored: StoredObject, check: WriteCheck | None) -> bool:
        """Connect a key to a finished blob and return whether the key is new."""
        try:
            with self._database.write() as connection:
                if check:
                    check(connection, stored.key)
                replaced = self._remove_key(connection, stored.key)
                room = self._bound - self._used(connection)
                if stored.size > room:
                    raise self.full_error(stored.size, room)
                values: dict[str, Any] = {"client_id": self.client_id, "key": stored.key, "blob": stored.blob}
                values |= {"size": stored.size, "sha256": stored.sha256, "modified": stored.modified}
                connection.execute(insert(objects).values(values))
                self._count(connection, stored.size)
        except BaseException:
            self.blobs.delete([stored.blob])
            raise
        if replaced is not None:
            self.blobs.delete([replaced])
        return replaced is None

    def count_upload(self, size: int) -> int:
        """Add to the bytes of all uploads that are not committed, and return their sum. A negative size subtracts."""
        with self._lock:
            self._uploading += size
            return self._uploading

    def full_error(self, size: int, room: int) -> StorageFull:
        """Make the error for an object that does not fit into the storage."""
        return StorageFull(
            f"The storage has no room for {size_text(size)}: {size_text(max(0, room))} of {size_text(self._bound)} are "
            "free. Delete objects or ended jobs, or ask the server's operator for a larger --storage-bound.",
        )

    def _remove_key(self, connection: Connection, key: str) -> str | None:
        """Remove a key and return the blob to delete after the commit, or None where there was no object."""
        row = connection.execute(select(objects).where(self._is(key))).one_or_none()
        if row is None:
            return None
        connection.execute(delete(objects).where(self._is(key)))
        kept = connection.execute(update(inputs).where(inputs.c.blob == row.blob).values(alone=True)).rowcount
        if not kept:
            self._count(connection, -row.size)
        return str(row.blob)

    def _is(self, key: str) -> ColumnElement[bool]:
        return (objects.c.client_id == self.client_id) & (objects.c.key == key)

    def _used(self, connection: Connection) -> int:
        query = select(clients.c.used).where(clients.c.client_id == self.client_id)
        return int(connection.execute(query).scalar_one())

    def _count(self, connection: Connection, size: int) -> None:
        mine = clients.c.client_id == self.client_id
        connection.execute(update(clients).where(mine).values(used=clients.c.used + size))


class ObjectWriter:
    """Write an object. As a context manager it removes an object that was not committed."""

    def __init__(self, storage: ClientStorage, key: str, room: int) -> None:
        self._storage = storage
        self._key = key
        self._room = room
        self._blob = storage.blobs.writer(self._reserve)
        self._reserved = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hex."""
        return self._blob.sha256

    def write(self, piece: bytes) -> None:
        """Write some bytes.

        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        """
        self._blob.write(piece)

    def commit(self, check: WriteCheck | None = None) -> tuple[StoredObject, bool]:
        """Connect the key to the bytes and return the object, and whether its key is new.

        :param check: Called in the same transaction before the key changes.
        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        :raises ServerError: whatever ``check`` raises.
        """
        blob = self._blob.finish()
        stored = StoredObject(self._key, self._blob.size, self.sha256, datetime.now(UTC), blob)
        return stored, self._storage.publish(stored, check)

    def close(self) -> None:
        """Remove the bytes that were not committed."""
        self._blob.close()
        self._storage.count_upload(-self._reserved)
        self._reserved = 0

    def _reserve(self, size: int) -> None:
        self._reserved += size
        if (uploading := self._storage.count_upload(size)) > self._room:
            raise self._storage.full_error(uploading, self._room)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()


class Storages:
    """The storages of all clients."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._storages: dict[str, ClientStorage] = {}

    def of(self, client_id: str) -> ClientStorage:
        """Return the storage of a client."""
        return self._storages.setdefault(client_id, ClientStorage(self._settings, self._database, client_id))


def check_key(key: str) -> str:
    """Check the key of an object. It is a relative path, so that every client can download it as a file.

    :raises InvalidObjectKey: when it is not.
    """
    try:
        check_path(key)
        if any(len(part.encode()) > 255 for part in key.split("/")):
            raise ValueError(key)
    except ValueError:
        raise InvalidObjectKey(
            f"An object cannot have the key {key[:200]!r}: it is a relative path of at most 1,024 bytes, and 255 "
            "between slashes, without '..', empty parts, backslashes and control characters.",
        ) from None
    return key


def _begins(prefix: str) -> ColumnElement[bool]:
    return (objects.c.key >= prefix) & (objects.c.key < prefix + "\U0010ffff")


def _sum(connection: Connection, column: ColumnElement[int], condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(column), 0)).where(condition)).scalar_one())


def _stored(row: Row[Any]) -> StoredObject:
    return StoredObject(row.key, row.size, row.sha256, row.modified, row.blob)
