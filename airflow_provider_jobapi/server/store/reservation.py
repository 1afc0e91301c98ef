# SPDX-License-Identifier: Apache-2.0
"""Reserve the room of an upload while its bytes arrive, so that uploads at the same time keep the client's bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_jobapi.server.store.objects import ClientStorage


class Reservation:
    """The bytes of one upload that are not committed.

    :param room: The bytes that all uploads of the client may have together.
    """

    def __init__(self, storage: ClientStorage, room: int) -> None:
        self._storage = storage
        self._room = room
        self._reserved = 0

    def check(self, size: int) -> None:
        """Refuse bytes that are announced where this upload alone has no room for them.

        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        """
        if size > (left := self._room - self._reserved):
            raise self._storage.full_error(size, left)

    def take(self, size: int) -> None:
        """Reserve bytes that arrived.

        :raises OutOfSpace: when the client's bound is reached or the disk is full.
        """
        self._reserved += size
        if (uploading := self._storage.count_upload(size)) > self._room:
            raise self._storage.full_error(uploading, self._room)

    def release(self) -> None:
        """Give the bytes back, once they are committed or removed."""
        self._storage.count_upload(-self._reserved)
        self._reserved = 0
