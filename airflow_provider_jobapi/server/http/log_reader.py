# SPDX-License-Identifier: Apache-2.0
"""Read the log of a job by offset, in whole records.

The scalars of a job are a second such file. A *stream* is one of the two, in the spelling of the headers. Only the
supervisor of the job appends to them, and to the log once the server, after the supervisor and before the job has
ended. Records never change, so an offset always means the same record. The status is read before the file: after a job
has ended, the file is complete.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.training.logs import RECORD_LIMIT
from airflow_provider_jobapi.training.status import JobState

CHUNK_LIMIT = 2**20
"""The most bytes of one answer."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Whole records of a log.

    :ivar size: The bytes of all whole records so far.
    :ivar complete: Whether the job has ended and no record follows.
    :ivar state: The state of the job before the records were read.
    :ivar scalars: The bytes of the job's scalars, where the records are those of its log.
    """

    body: bytes
    next_offset: int
    size: int
    complete: bool
    state: JobState
    scalars: int = 0


def read_part(path: Path | str, offset: int, limit: int, state: JobState, stream: str = "Log") -> LogPart:
    """Read whole records from an offset on.

    :param limit: The most bytes; one record is returned even if it is longer.
    :param state: The state of the job, read before the file.
    :param stream: ``Log`` or ``Scalars``.
    :raises Problem: 416, when no record begins at the offset.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = -1
    try:
        found = _rest(handle, offset, limit)
        if found is None:
            size = 0 if handle < 0 else _whole_size(handle)
            found = size, b"" if offset == size == 0 else _records(handle, offset, limit, size, stream)
        size, body = found
    finally:
        if handle >= 0:
            os.close(handle)
    end = offset + len(body)
    return LogPart(body, end, size, state.ended and end == size, state)


def size_of(path: Path | str) -> int:
    """The bytes of a stream, a record that is being written included; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _rest(handle: int, offset: int, limit: int) -> tuple[int, bytes] | None:
    """Read the rest of a file at once, as for a client that follows it; None where it is too long, or otherwise.

    Returns what ``_whole_size`` and ``_records`` would.
    """
    end = os.fstat(handle).st_size if handle >= 0 else 0
    if not 0 < offset <= end <= offset + max(limit, RECORD_LIMIT):
        return None
    piece = os.pread(handle, end - offset + 1, offset - 1)
    if not piece.startswith(b"\n"):
        return None
    last = piece.rfind(b"\n")
    return offset + last, _cut(piece[1 : last + 1], limit)


def _whole_size(handle: int) -> int:
    """Return the size up to the last newline. A record that is being written does not count."""
    size = os.fstat(handle).st_size
    while size:
        start = max(0, size - RECORD_LIMIT)
        if (found := os.pread(handle, size - start, start).rfind(b"\n")) >= 0:
            return start + found + 1
        size = start
    return 0


def _records(handle: int, offset: int, limit: int, size: int, stream: str) -> bytes:
    before = b"\n" if offset == 0 else os.pread(handle, 1, offset - 1) if offset <= size else b""
    if before != b"\n":
        raise Problem(
            416,
            "offset",
            f"No record of the {stream.lower()} begins at offset {offset} of {size} bytes: continue from a "
            f"Job-{stream}-Next-Offset, or from 0.",
            headers={"Content-Range": f"bytes */{size}", f"Job-{stream}-Size": str(size)},
        )
    body = os.pread(handle, min(max(limit, RECORD_LIMIT), size - offset), offset)
    return _cut(body, limit)


def _cut(body: bytes, limit: int) -> bytes:
    """Return the whole records within a limit, and at least one."""
    return body[: body.rfind(b"\n", 0, limit) + 1 or body.find(b"\n") + 1]
