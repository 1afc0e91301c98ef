# SPDX-License-Identifier: Apache-2.0
"""The input files of a job before the upload: a text, bytes, or a path, with size and SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.files.destination_errors import error_at
from airflow_provider_jobapi.training.job import DataSource
from airflow_provider_jobapi.training.job_file import InputFile

CHUNK = 1024 * 1024
"""Bytes of a file that are held in memory at a time."""

OnBytes = Callable[[int], None]
"""Called with the number of bytes that were just transferred; may raise to end the transfer."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is ready for its upload.

    :ivar open: Opens it at its beginning, once for each attempt; takes the function that counts its bytes.
    """

    name: str
    size: int
    sha256: str
    open: Callable[[OnBytes], VerifiedReader]

    def as_input(self) -> InputFile:
        """The file as an input of a job file."""
        return InputFile(path=self.name, size=self.size, sha256=self.sha256)


def measure_all(files: Mapping[str, DataSource]) -> dict[str, Source]:
    """Measure the files of a job.

    :param files: By their path in the job's working directory.

    :raises InvalidJob: when one cannot be read.
    """
    return {path: measure(path, data) for path, data in files.items()}


def measure(name: str, data: DataSource) -> Source:
    """Determine size and SHA-256 of a file by reading it once, in chunks.

    :raises InvalidJob: when it cannot be read.
    :raises ConnectionProblem: when the connection that its path names is wrong.
    :raises ServiceUnavailable: when its storage cannot be reached.
    """
    opened = _opener(name, data)
    digest, size = hashlib.sha256(), 0
    try:
        with opened() as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except Exception as error:
        known = unreadable(name, data, error)
        if known is None:
            raise
        raise known from None
    sha256 = digest.hexdigest()
    return Source(name, size, sha256, lambda on_bytes: VerifiedReader(opened(), name, sha256, size, on_bytes))


def _opener(name: str, data: DataSource) -> Callable[[], BinaryIO]:
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError:
            raise InvalidJob(
                f"{name} holds characters that cannot be encoded in UTF-8; pass it as bytes.", field=name
            ) from None
    if isinstance(data, bytes):
        content = data
        return lambda: io.BytesIO(content)
    path = data
    return lambda: cast("BinaryIO", path.open("rb"))


class VerifiedReader:
    """Reads a measured file again and fails where its content has changed.

    A file that changes during the upload must not become an input under the wrong hash. The error is raised before the
    last bytes are returned, so that no store accepts the object as complete.

    :raises InvalidJob: from ``read``, when the content has changed.
    """

    def __init__(self, file: BinaryIO, name: str, sha256: str, size: int, on_bytes: OnBytes) -> None:
        self._file = file
        self._name = name
        self._sha256 = sha256
        self._left = size
        self._size = size
        self._digest = hashlib.sha256()
        self._on_bytes = on_bytes

    def __len__(self) -> int:
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, or all that are left."""
        if size < 0:
            return b"".join(self)
        wanted = min(size, self._left)
        try:
            chunk = self._file.read(wanted) if wanted else b""
        except OSError as error:
            raise _no_file(self._name, self._name, error.strerror or str(error)) from None
        self._left -= len(chunk)
        self._digest.update(chunk)
        short = wanted > 0 and not chunk
        over = not self._left and (self._digest.hexdigest() != self._sha256 or bool(self._file.read(1)))
        if short or over:
            raise InvalidJob(
                f"{self._name} changed during the upload; try again when nothing writes to it.",
                field=self._name,
            )
        self._on_bytes(len(chunk))
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def unreadable(name: str, data: object, error: Exception) -> TrainingError | None:
    """The error for a file that cannot be read; None where the error is not one of reading."""
    known = None if isinstance(data, str | bytes | Path) else error_at(data, error, getattr(data, "conn_id", None))
    if isinstance(known, ServiceUnavailable | ConnectionProblem):
        return known
    if not isinstance(error, OSError) and known is None:
        return None
    return _no_file(name, data, getattr(error, "strerror", None) or " ".join(str(error).split())[:300])


def _no_file(name: str, data: object, why: str) -> InvalidJob:
    place = f" ({data})" if str(data) != name and not isinstance(data, str | bytes) else ""
    return InvalidJob(f"{name}{place} cannot be read: {why.rstrip('.')}.", field=name)
