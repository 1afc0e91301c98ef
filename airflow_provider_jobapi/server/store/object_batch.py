# SPDX-License-Identifier: Apache-2.0
"""Store many files of this machine as objects: all or none, in few transactions, in turn with other clients."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from airflow_provider_jobapi.server.errors import ServerError
from airflow_provider_jobapi.server.store.blobs import PIECE
from airflow_provider_jobapi.server.store.object_keys import check_key
from airflow_provider_jobapi.server.store.objects import ClientStorage, StoredObject
from airflow_provider_jobapi.server.store.reservation import Reservation

_KEYS = 500
"""The most keys of one transaction, which keeps the write lock for some milliseconds."""

_FLUSHED_AT_ONCE_BYTES = 8 * 2**20
"""From this size on a file is flushed in the turn of its client; smaller ones are flushed together at the end."""


class ObjectBatch:
    """Files that become objects together. As a context manager it removes what was not committed.

    :param room: The bytes that they may have; by default what the client may still store.
    """

    def __init__(self, storage: ClientStorage, room: int | None = None) -> None:
        self._storage = storage
        self._reservation = Reservation(storage, storage.room() if room is None else room)
        self._written: list[StoredObject] = []

    def add(self, source: int, key: str) -> StoredObject:
        """Copy a file of this machine, whose key exists after :meth:`commit`.

        :param source: A file descriptor. The file is read from its start, and left open.
        :raises OutOfSpace: when the client's storage or the disk is full.
        :raises InvalidObjectKey: when this cannot be a key.
        """
        check_key(key)
        self._reservation.check(os.fstat(source).st_size)
        offset = 0
        with self._storage.blobs.writer(self._reservation.take) as writer:
            while True:
                with self._storage.turn():
                    if not (piece := os.pread(source, PIECE, offset)):
                        blob = writer.finish(flush=writer.size > _FLUSHED_AT_ONCE_BYTES)
                        break
                    writer.write(piece)
                offset += len(piece)
            stored = StoredObject(key, writer.size, writer.sha256, datetime.now(UTC), blob)
        self._written.append(stored)
        return stored

    def commit(self) -> list[StoredObject]:
        """Connect all keys to their bytes.

        :raises OutOfSpace: when the client's storage or the disk is full.
        """
        self._storage.blobs.flush([stored.blob for stored in self._written])
        done: list[StoredObject] = []
        try:
            while self._written:
                some = self._written[:_KEYS]
                replaced = self._storage.connect(some)
                done += some
                del self._written[:_KEYS]  # from here on their bytes belong to the keys
                self._storage.blobs.delete(replaced)
        except BaseException:
            for stored in done:
                with suppress(ServerError):
                    self._storage.delete(stored.key)
            raise
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._storage.blobs.delete(stored.blob for stored in self._written)
        self._reservation.release()
