# SPDX-License-Identifier: Apache-2.0
"""The records of jobs that a service can forget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.files import tombstones
from airflow_provider_jobapi.services.files.sources import Source
from airflow_provider_jobapi.services.files.tombstones import Tombstone


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, source: Source, on_bytes: Any) -> None:
        with source.open(on_bytes) as file:
            self.objects[key] = file.read()

    @contextmanager
    def read(self, key: str, _start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        if key not in self.objects:
            raise BrokenContract(key)
        yield 0, iter([self.objects[key]])


@pytest.mark.parametrize("status", [None, {"status": "STOPPED", "message": "by us"}])
def test_what_was_written_is_read(status: dict[str, str] | None) -> None:
    store: Any = Kept()
    written = Tombstone({"job_id": "1", "name": "a"}, "digest", status)
    tombstones.write(store, "jobs", written)
    assert tombstones.read(store, "jobs", "1") == written
    assert tombstones.read(store, "jobs", "2") is None
    (content,) = store.objects.values()
    assert ("status" in json.loads(content)) == (status is not None)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"handle": {"job_id": "2"}, "sha256": ""}', b'{"handle": 5}'])
def test_anything_else_is_not_a_record(content: bytes) -> None:
    store: Any = Kept()
    store.objects["jobs/created/1.json"] = content
    with pytest.raises(BrokenContract, match=r"jobs/created/1\.json of the storage is not the tombstone of job 1"):
        tombstones.read(store, "jobs", "1")
