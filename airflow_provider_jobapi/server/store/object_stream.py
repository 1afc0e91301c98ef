# SPDX-License-Identifier: Apache-2.0
"""Store the objects of one stream: all of them or none, flushed together and connected in one transaction.

A stream has an entry for each object: a line of JSON, ``{"key": …, "size": …, "sha256": …}``, and exactly ``size``
bytes. The pieces in which it arrives may begin and end anywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, ValidationError

from airflow_provider_jobapi.server.errors import InvalidStream
from airflow_provider_jobapi.server.store.blobs import BlobWriter
from airflow_provider_jobapi.server.store.job_record import job_of_key
from airflow_provider_jobapi.server.store.object_keys import check_key
from airflow_provider_jobapi.server.store.objects import ClientStorage, StoredObject, WriteCheck
from airflow_provider_jobapi.server.store.reservation import Reservation

MOST_OBJECTS = 500
"""The most objects of one stream. The transaction that connects them keeps the write lock for some milliseconds."""

_LONGEST_LINE = 8 * 1024
"""The most bytes of the line of an entry; a key of 1,024 bytes has up to 6 KB in JSON."""


class Announced(BaseModel):
    """The line before the bytes of an object."""

    key: str
    size: Annotated[int, Field(strict=True, ge=0, le=2**53)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ObjectStream:
    """Receives the objects of a stream. As a context manager it removes what was not committed.

    :param check: Called by :meth:`commit` with one key of each job's directory that has some, in the transaction.
    """

    def __init__(self, storage: ClientStorage, check: WriteCheck) -> None:
        self._storage = storage
        self._check = check
        self._reservation = Reservation(storage, storage.room())
        self._received: dict[str, StoredObject] = {}
        self._line = bytearray()
        self._object: Announced | None = None
        self._writer: BlobWriter | None = None
        self._jobs: dict[tuple[str, str], str] = {}

    def write(self, piece: bytes) -> None:
        """Take the next bytes of the stream.

        :raises InvalidStream: when the line of an entry is wrong, or the bytes are not the announced ones.
        :raises InvalidObjectKey: when something cannot be a key.
        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        """
        rest = memoryview(piece)
        while rest:
            rest = self._begin(rest) if self._writer is None or self._object is None else self._continue(rest)

    def commit(self) -> list[StoredObject]:
        """Flush all objects, connect their keys in one transaction, and return them in their order.

        :raises InvalidStream: when the stream ends within an entry.
        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        :raises ServerError: whatever ``check`` raises.
        """
        if self._line or self._object is not None:
            name = f"the bytes of {self._object.key!r}" if self._object else "the line of an object"
            raise InvalidStream(f"The body ends within {name}; send all of it.")
        stored = list(self._received.values())
        if stored:
            self._storage.blobs.settle([each.blob for each in stored])
            replaced = self._storage.connect(stored, self._check, list(self._jobs.values()))
            self._forget()  # from here on the objects stay, whatever fails
            self._storage.blobs.delete(replaced)
        return stored

    def close(self) -> None:
        """Remove the bytes that were not committed."""
        if self._writer is not None:
            self._writer.close()
        self._storage.blobs.delete_unsettled(each.blob for each in self._received.values())
        self._storage.blobs.delete(each.blob for each in self._received.values())
        if self._object is not None:
            self._storage.note_open(self._object.key, -1)
        self._forget()
        self._reservation.release()
        self._object = self._writer = None

    def _begin(self, rest: memoryview) -> memoryview:
        """Take bytes of the line of an entry, and begin to write its object when the line is whole."""
        end = bytes(rest[: _LONGEST_LINE + 1]).find(b"\n")
        self._line += rest if end < 0 else rest[:end]
        if len(self._line) > _LONGEST_LINE:
            raise InvalidStream(f"The line before an object is longer than {_LONGEST_LINE:,} bytes.")
        if end < 0:
            return rest[len(rest) :]
        announced = self._announced(bytes(self._line))
        self._line.clear()
        self._admit(announced)
        self._writer = self._storage.blobs.writer(self._reservation.take)
        self._storage.note_open(announced.key, 1)
        self._object = announced
        if not announced.size:
            self._finish(self._writer, announced)
        return rest[end + 1 :]

    def _announced(self, line: bytes) -> Announced:
        try:
            return Announced.model_validate_json(line)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in found["loc"]) or "it"
            raise InvalidStream(
                f"The line before object {len(self._received) + 1} of the body is wrong: {place}: {found['msg']}. It "
                'is JSON such as {"key": "jobs/…/train.py", "size": 10, "sha256": "…"}.'
            ) from None

    def _admit(self, announced: Announced) -> None:
        key = check_key(announced.key)
        if key in self._received:
            raise InvalidStream(f"The body has {key!r} twice; send each object once.")
        if len(self._received) == MOST_OBJECTS:
            raise InvalidStream(f"The body has more than {MOST_OBJECTS} objects; send them in several requests.")
        self._reservation.check(announced.size)
        self._jobs[job_of_key(key)] = key

    def _continue(self, rest: memoryview) -> memoryview:
        """Write bytes of the object, and finish it when it is whole."""
        writer, announced = self._writer, self._object
        assert writer is not None  # noqa: S101 -- for the type checker
        assert announced is not None  # noqa: S101
        taken = rest[: announced.size - writer.size]
        writer.write(bytes(taken))
        if writer.size == announced.size:
            self._finish(writer, announced)
        return rest[len(taken) :]

    def _finish(self, writer: BlobWriter, announced: Announced) -> None:
        if writer.sha256 != announced.sha256:
            raise InvalidStream(
                f"The bytes of {announced.key!r} that were received have SHA-256 {writer.sha256}, not "
                f"{announced.sha256}: send them again."
            )
        blob = writer.leave()
        stored = StoredObject(announced.key, announced.size, announced.sha256, datetime.now(UTC), blob)
        self._received[announced.key] = stored
        self._object = self._writer = None

    def _forget(self) -> None:
        """Count the received keys as being written no longer, and forget them."""
        for key in self._received:
            self._storage.note_open(key, -1)
        self._received = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()
