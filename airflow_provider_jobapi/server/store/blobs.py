# SPDX-License-Identifier: Apache-2.0
"""Store the bytes of a client's objects on the disk, in files with random names ("blobs").

A blob is written under a temporary name, flushed, and renamed. From then on it never changes. ``objects`` knows
which key it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airflow_provider_jobapi.server.errors import DiskFull, is_disk_full
from airflow_provider_jobapi.server.store.set_aside import SetAside

PIECE = 2**20
"""Bytes that are read or written at a time."""

_FLUSHES = 16
"""How many blobs are flushed at the same time: a disk does that together."""

_REPROBE_WORKING, _REPROBE_FAILING = 10.0, 1.0
"""Seconds after which a probe that succeeded, or failed, is repeated."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether bytes can be written and read, and the reason if not."""

    ok: bool
    message: str


class Blobs:
    """The directory with the blobs of one client."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._probed = (0.0, ProbeResult(False, ""))

    def path(self, blob: str) -> Path:
        """Return the path of a blob."""
        return self._directory / blob[:2] / blob

    def open(self, blob: str) -> int:
        """Return a file descriptor of a blob. The caller closes it."""
        return os.open(self.path(blob), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def writer(self, allow: Callable[[int], None]) -> BlobWriter:
        """Begin to write a blob.

        :param allow: Called with the number of bytes before they are written; raises if there is no room for them.
        """
        return BlobWriter(self, self._directory / f"{secrets.token_hex(16)}.part", allow)

    def link(self, blob: str, place: Path) -> None:
        """Make a hard link to a blob, which keeps the bytes after the blob is deleted."""
        try:
            os.link(self.path(blob), place)
        except PermissionError:  # a file system without hard links
            shutil.copyfile(self.path(blob), place)

    def delete(self, blobs: Iterable[str]) -> None:
        """Delete blobs. Links to them keep their bytes."""
        for blob in blobs:
            self.path(blob).unlink(missing_ok=True)

    def flush(self, blobs: Collection[str]) -> None:
        """Flush blobs that were finished without it, and their names. Many at a time take little longer than one.

        :raises DiskFull: when the disk is full.
        """
        paths = [self.path(blob) for blob in blobs]
        try:
            with ThreadPoolExecutor(_FLUSHES, "jobapi-flush") as pool:
                for each in (paths, {path.parent for path in paths}):
                    list(pool.map(_flush, each))
        except OSError as error:
            raise (DiskFull() if is_disk_full(error) else error) from None

    def settle(self, blobs: Collection[str]) -> None:
        """Flush blobs that were left with :meth:`BlobWriter.leave`, give them their names, and flush the names.

        :raises DiskFull: when the disk is full.
        """
        moves = [(self._unsettled(blob), self.path(blob)) for blob in blobs]
        try:
            with ThreadPoolExecutor(_FLUSHES, "jobapi-flush") as pool:
                list(pool.map(_flush, [part for part, _ in moves]))
                for part, place in moves:
                    place.parent.mkdir(exist_ok=True, mode=0o700)
                    part.rename(place)
                list(pool.map(_flush, {place.parent for _, place in moves}))
            _flush(self._directory)  # with the names of new folders
        except OSError as error:
            raise (DiskFull() if is_disk_full(error) else error) from None

    def delete_unsettled(self, blobs: Iterable[str]) -> None:
        """Delete blobs that were left and not settled."""
        for blob in blobs:
            self._unsettled(blob).unlink(missing_ok=True)

    def _unsettled(self, blob: str) -> Path:
        return self._directory / f"{blob}.part"

    def sweep(self, known: Collection[str], aside: SetAside) -> int:
        """Delete the uploads that a crash cut off, set unknown blobs aside, and return how many bytes both have.

        Call it while nothing writes.

        :param known: The blobs that are in use.
        :param aside: Where whole blobs go that nothing uses, since an older database does not know all that are used.
        """
        swept = 0
        for folder, _, names in os.walk(self._directory):
            for name in set(names).difference(known):
                place = Path(folder, name)
                size = place.lstat().st_size
                if name.endswith(".part"):
                    place.unlink()
                elif not aside.move(place):
                    continue
                swept += size
        return swept

    def probe(self) -> ProbeResult:
        """Try a write and a read, and remember the result for a few seconds."""
        until, answer = self._probed
        if time.monotonic() >= until:
            answer = self._try()
            self._probed = (time.monotonic() + (_REPROBE_WORKING if answer.ok else _REPROBE_FAILING), answer)
        return answer

    def _try(self) -> ProbeResult:
        place, content = self._directory / f"{secrets.token_hex(16)}.part", secrets.token_bytes(4096)
        try:
            try:
                place.write_bytes(content)
                _flush(place)
                same = place.read_bytes() == content
            finally:
                place.unlink(missing_ok=True)
        except OSError as error:
            return ProbeResult(
                False, f"The storage cannot be written: {error.strerror}; report it to the server's operator."
            )
        if not same:
            return ProbeResult(
                False, "The storage returned other bytes than were written; report it to the server's operator."
            )
        return ProbeResult(True, "The storage works")


class BlobWriter:
    """Write a blob. As a context manager it removes a blob that was not finished.

    :ivar size: The bytes that are written so far.
    """

    def __init__(self, blobs: Blobs, place: Path, allow: Callable[[int], None]) -> None:
        self.size = 0
        self._blobs = blobs
        self._place = place
        self._allow = allow
        self._digest = hashlib.sha256()
        self._file = place.open("xb", buffering=0)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hex."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Write some bytes.

        :raises DiskFull: when the disk is full.
        :raises Exception: whatever ``allow`` raises.
        """
        self._allow(len(piece))
        self.size += len(piece)
        self._digest.update(piece)
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise (DiskFull() if is_disk_full(error) else error) from None

    def finish(self, *, flush: bool = True) -> str:
        """Flush the bytes to the disk and return the name of their blob.

        :param flush: Whether to flush the bytes and the name; otherwise :meth:`Blobs.flush` does it for many.
        :raises DiskFull: when the disk is full.
        """
        blob = self._place.name.removesuffix(".part")
        place = self._blobs.path(blob)
        try:
            if flush:
                os.fsync(self._file.fileno())
            place.parent.mkdir(exist_ok=True, mode=0o700)
            self._place.rename(place)
            if flush:
                _flush(place.parent)
        except OSError as error:
            raise (DiskFull() if is_disk_full(error) else error) from None
        return blob

    def leave(self) -> str:
        """Close the file, keep its temporary name until :meth:`Blobs.settle`, and return the name of the blob."""
        self._file.close()
        return self._place.name.removesuffix(".part")

    def close(self) -> None:
        """Close the file, and remove it if it was not finished."""
        self._file.close()
        self._place.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
