# SPDX-License-Identifier: Apache-2.0
"""The object store of a jobAPI that takes and sends many objects by one request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.files.sources import OnBytes, Source
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault
from airflow_provider_jobapi.services.jobapi.http_store import HttpStore

if TYPE_CHECKING:
    from requests import Response

_REFUSED = (400, 404, 405, 409, 410, 411, 413, 415, 422, 501, 507)
"""Answers after which each object is transferred by itself: the route is not there, or an object is to blame."""

_PIECE = 2**18
"""Bytes that are sent and read at a time."""

_LONGEST_LINE = 16 * 1024
"""The most bytes of the line before an object."""


class StreamingHttpStore(HttpStore):
    """The objects of one client on a jobAPI with the feature ``object-streams``."""

    def put_all(self, sources: Mapping[str, Source], on_bytes: OnBytes) -> bool:
        """Upload files by one request; the service checks each SHA-256."""
        headers = {"Content-Type": "application/vnd.jobapi.objects"}
        request = Request("POST", "/storage/upload", "the storage", headers=headers)
        with self._client.open(request, lambda: _Upload(sources, on_bytes), accept=_REFUSED) as response:
            return response.status_code not in _REFUSED

    def read_all(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """Read objects by one request."""
        body = json.dumps({"keys": list(sizes)}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request("POST", "/storage/download", "the storage", headers=headers, body=body)
        with self._client.open(request, accept=_REFUSED) as response:
            return {} if response.status_code in _REFUSED else self._received(response, sizes)

    def _received(self, response: Response, sizes: Mapping[str, int]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        # urllib3 reads a line byte by byte.
        body = BufferedReader(response.raw, _PIECE)
        try:
            for key, size in sizes.items():
                entry = _entry(body.readline(_LONGEST_LINE))
                if "problem" in entry:
                    continue
                if entry.get("key") != key or entry.get("size") != size:
                    break
                found[key] = content = body.read(size)
                if len(content) < size:
                    raise ServiceUnavailable("The download of many files ended before its last byte.")
        except ServiceUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- urllib3's, http.client's and ssl's have nothing in common
            raise error_of_fault(error, self._client.connection.base_url) from None
        return found


def _entry(line: bytes) -> dict[str, Any]:
    if not line:
        raise ServiceUnavailable("The download of many files ended before its last byte.")
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


class _Upload:
    """The body of an upload: the line of each object, and its bytes."""

    def __init__(self, sources: Mapping[str, Source], on_bytes: OnBytes) -> None:
        self._sources = sources
        self._on_bytes = on_bytes
        self._lines = {
            key: json.dumps({"key": key, "size": each.size, "sha256": each.sha256}).encode() + b"\n"
            for key, each in sources.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self._lines.values())) + sum(each.size for each in self._sources.values())

    def __iter__(self) -> Iterator[bytes]:
        held = bytearray()
        for key, source in self._sources.items():
            held += self._lines[key]
            with source.open(self._on_bytes) as file:
                for chunk in file:
                    held += chunk
            if len(held) >= _PIECE:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)

    def close(self) -> None:
        """Nothing is open between two objects."""
