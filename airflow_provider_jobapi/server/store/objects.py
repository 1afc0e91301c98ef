# SPDX-License-Identifier: Apache-2.0
"""Store the objects of the clients: their keys in the database, their bytes in blobs, and the limit of their size.

All bytes of an object are on the disk before one transaction connects them to its key. So a reader gets the old object
or the new one, a crash leaves at most a blob without a key, a job can keep its inputs by hard links, and a key is never
a path on this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import LostBytes, StorageFull, UnknownObject
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.blobs import Blobs, ProbeResult
from airflow_provider_jobapi.server.store.database import Database, clients, inputs, jobs, objects
from airflow_provider_jobapi.server.store.fair_slots import FairSlots
from airflow_provider_jobapi.server.store.object_keys import check_key
from airflow_provider_jobapi.server.store.reservation import Reservation
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.training.units import size_text

DISK_SLOTS = 4
"""How many threads copy the files of jobs at a time."""

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

    def __init__(self, settings: Settings, database: Database, client_id: str, slots: FairSlots | None = None) -> None:
        self.client_id = client_id
        self.blobs = Blobs(layout.client_directory(settings.root, client_id) / "data")
        self._root = settings.root
        self._bound = settings.storage_bound
        self._database = database
        self._uploading = 0
        self._slots = slots or FairSlots(DISK_SLOTS)
        self._open_keys: Counter[str] = Counter()
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

    def room(self, replacing: Sequence[str] = ()) -> int:
        """Return the bytes that the client may still store.

        :param replacing: Keys whose objects, where there are any, are replaced.
        """
        with self._database.read() as connection:
            room = self._bound - self._used(connection)
            for start in range(0, len(replacing), 1000):
                some = self._mine() & objects.c.key.in_(replacing[start : start + 1000])
                room += _sum(connection, objects.c.size, some)
        return room

    def open_all(self, keys: Sequence[str]) -> dict[str, tuple[StoredObject, int]]:
        """Return those of the objects whose bytes are there, each with a file descriptor that the caller closes.

        :param keys: At most 1,000.
        """
        with self._database.read() as connection:
            rows = connection.execute(select(objects).where(self._mine(), objects.c.key.in_(keys))).all()
        found = {}
        for row in rows:
            with suppress(FileNotFoundError):  # replaced after the look-up
                found[row.key] = (_stored(row), self.blobs.open(row.blob))
        return found

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the client's turn to work on the disk."""
        return self._slots.turn(self.client_id)

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

    def objects_below(self, connection: Connection, directory: str, limit: int) -> dict[str, StoredObject]:
        """Return the objects below a directory by their paths in it, and not more than a limit."""
        query = select(objects).where(self._mine(), _begins(f"{directory}/")).limit(limit)
        return {row.key[len(directory) + 1 :]: _stored(row) for row in connection.execute(query)}

    def link_inputs(self, chosen: Sequence[tuple[str, StoredObject]], target: Path) -> None:
        """Keep the current bytes of objects for a job, by hard links below a directory.

        :param chosen: The paths below the directory, and their objects.
        :param target: The directory, which is created.
        :raises FileNotFoundError: when an object was replaced or deleted in the meantime.
        """
        target.mkdir(mode=0o700)
        for path, stored in chosen:
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.blobs.link(stored.blob, place)

    def record_inputs(self, connection: Connection, job_id: str, chosen: Sequence[tuple[str, StoredObject]]) -> bool:
        """Record the inputs of a job that were linked. Return False where an object was changed in the meantime.

        :param connection: The transaction that creates the job. It holds the write lock, so no blob is deleted now.
        """
        current: dict[str, str] = {}
        for start in range(0, len(chosen), 1000):
            keys = [stored.key for _, stored in chosen[start : start + 1000]]
            query = select(objects.c.key, objects.c.blob).where(self._mine(), objects.c.key.in_(keys))
            current |= {row.key: row.blob for row in connection.execute(query)}
        if any(current.get(stored.key) != stored.blob for _, stored in chosen):
            return False
        mine = {"client_id": self.client_id, "job_id": job_id}
        if rows := [mine | {"path": path, "blob": each.blob, "size": each.size} for path, each in chosen]:
            connection.execute(insert(inputs), rows)
        return True

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
        self.count(connection, -freed)
        return blobs

    def sweep(self, aside: SetAside | None = None) -> int:
        """Count the used bytes, and remove or set aside blobs without a key; returns their bytes.

        Call it while nothing writes.

        :param aside: Where unknown blobs go; by default to a folder of their own.
        """
        mine = self._mine()
        with self._database.write() as connection:
            known = set(connection.execute(select(objects.c.blob).where(mine)).scalars())
            alone = (inputs.c.client_id == self.client_id) & inputs.c.alone
            kept = (jobs.c.client_id == self.client_id) & jobs.c.deleted.is_(None)
            used = _sum(connection, objects.c.size, mine) + _sum(connection, inputs.c.size, alone)
            used += _sum(connection, jobs.c.work, kept) + _sum(connection, jobs.c.checkpoints, kept)
            connection.execute(update(clients).where(clients.c.client_id == self.client_id).values(used=used))
        return self.blobs.sweep(known, aside or SetAside(self._root))

    def publish(self, stored: StoredObject, check: WriteCheck | None) -> bool:
        """Connect a key to a finished blob and return whether the key is new."""
        try:
            replaced = self.connect([stored], check, [stored.key])
        except BaseException:
            self.blobs.delete([stored.blob])
            raise
        self.blobs.delete(replaced)
        return not replaced

    def connect(
        self, stored: Sequence[StoredObject], check: WriteCheck | None = None, checked: Sequence[str] = ()
    ) -> list[str]:
        """Connect keys to finished blobs in one transaction; returns the blobs that are replaced, to be deleted.

        :param check: Called before, with each key of ``checked``.
        """
        with self._database.write() as connection:
            for key in checked:
                if check:
                    check(connection, key)
            query = select(objects.c.key).where(self._mine(), objects.c.key.in_([each.key for each in stored]))
            replaced = [self._remove_key(connection, key) for key in connection.execute(query).scalars().all()]
            self._insert(connection, stored)
        return [blob for blob in replaced if blob]

    def count_upload(self, size: int) -> int:
        """Add to the bytes of all uploads that are not committed, and return their sum. A negative size subtracts."""
        with self._lock:
            self._uploading += size
            return self._uploading

    def note_open(self, key: str, change: int) -> None:
        """Count a key as being written, or not any more."""
        with self._lock:
            self._open_keys[key] += change
            self._open_keys = +self._open_keys

    def is_written(self, directory: str) -> bool:
        """Whether an object below a directory is being written."""
        with self._lock:
            return any(key.startswith(f"{directory}/") for key in self._open_keys)

    def full_error(self, size: int, room: int) -> StorageFull:
        """Make the error for an object that does not fit into the storage."""
        return StorageFull(
            f"The storage has no room for {size_text(size)}: {size_text(max(0, room))} of {size_text(self._bound)} are "
            "free. Delete objects or ended jobs, or ask the server's operator for a larger --storage-bound.",
        )

    def _insert(self, connection: Connection, stored: Sequence[StoredObject]) -> None:
        size, room = sum(each.size for each in stored), self._bound - self._used(connection)
        if size > room:
            raise self.full_error(size, room)
        columns = ("key", "blob", "size", "sha256", "modified")
        rows = [{"client_id": self.client_id} | {name: getattr(each, name) for name in columns} for each in stored]
        connection.execute(insert(objects), rows)
        self.count(connection, size)

    def _remove_key(self, connection: Connection, key: str) -> str | None:
        """Remove a key and return the blob to delete after the commit, or None where there was no object."""
        row = connection.execute(select(objects).where(self._is(key))).one_or_none()
        if row is None:
            return None
        connection.execute(delete(objects).where(self._is(key)))
        kept = connection.execute(update(inputs).where(inputs.c.blob == row.blob).values(alone=True)).rowcount
        if not kept:
            self.count(connection, -row.size)
        return str(row.blob)

    def _is(self, key: str) -> ColumnElement[bool]:
        return (objects.c.client_id == self.client_id) & (objects.c.key == key)

    def _used(self, connection: Connection) -> int:
        query = select(clients.c.used).where(clients.c.client_id == self.client_id)
        return int(connection.execute(query).scalar_one())

    def _mine(self) -> ColumnElement[bool]:
        return objects.c.client_id == self.client_id

    def count(self, connection: Connection, size: int) -> None:
        """Add to the bytes that the client uses. A negative size subtracts."""
        mine = clients.c.client_id == self.client_id
        connection.execute(update(clients).where(mine).values(used=clients.c.used + size))


class ObjectWriter:
    """Write an object. As a context manager it removes an object that was not committed."""

    def __init__(self, storage: ClientStorage, key: str, room: int) -> None:
        self._storage = storage
        self._key = key
        self._reservation = Reservation(storage, room)
        self._blob = storage.blobs.writer(self._reservation.take)
        self._closed = False
        storage.note_open(key, 1)

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
        self._reservation.release()
        if not self._closed:
            self._storage.note_open(self._key, -1)
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()


def _begins(prefix: str) -> ColumnElement[bool]:
    return (objects.c.key >= prefix) & (objects.c.key < prefix + "\U0010ffff")


def _sum(connection: Connection, column: ColumnElement[int], condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(column), 0)).where(condition)).scalar_one())


def _stored(row: Row[Any]) -> StoredObject:
    return StoredObject(row.key, row.size, row.sha256, row.modified, row.blob)
