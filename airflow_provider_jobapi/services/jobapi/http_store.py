# SPDX-License-Identifier: Apache-2.0
"""The object store of a jobAPI: ``/storage/objects``, with the token of the connection."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.files.sources import CHUNK, OnBytes, Source
from airflow_provider_jobapi.services.files.stores import StoredObject
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault

if TYPE_CHECKING:
    from requests import Response

_OBJECTS = "/storage/objects"

MOST_OBJECTS = 200_000
"""The most objects below one directory: twice the most inputs that a job has."""

_MOST_PAGES = 1_000


class HttpStore:
    """The objects of one client on a jobAPI.

    Requests go to the connection's own address; the endpoint in the storage answer could redirect the token.

    :param page: The most objects of one page of a listing.
    :param base: Where the objects are, below the API's own path.
    """

    def __init__(self, client: Client, *, page: int = 1_000, base: str = _OBJECTS) -> None:
        self._client = client
        self._limit = str(page)
        self._base = base

    def head(self, key: str) -> StoredObject | None:
        """Return the object of a key; its SHA-256 is the ETag."""
        with self._client.open(Request("HEAD", self._path(key), f"the file {key}"), accept=(404,)) as response:
            if response.status_code == 404:
                return None
            size, tag = response.headers.get("Content-Length", ""), response.headers.get("ETag", "").strip('"')
            if not size.isdecimal():
                raise BrokenContract(f"The service returned no size for {key}.")
            return StoredObject(key, int(size), tag if len(tag) == 64 else None)

    def put(self, key: str, source: Source, on_bytes: OnBytes) -> None:
        """Upload a file; the service checks its SHA-256."""
        digest = base64.b64encode(bytes.fromhex(source.sha256)).decode()
        request = Request(
            "PUT",
            self._path(key),
            f"the file {key}",
            headers={"Content-Type": "application/octet-stream", "Content-Digest": f"sha-256=:{digest}:"},
        )
        # requests sends a file without bytes in chunks, which says nothing about its length.
        with self._client.open(request, lambda: source.open(on_bytes) if source.size else b""):
            pass

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open an object at an offset."""
        request = Request(
            "GET", self._path(key), f"the file {key}", headers={"Range": f"bytes={start}-"} if start else {}
        )
        with self._client.open(request, accept=(404,)) as response:
            if response.status_code == 404:
                raise BrokenContract(f"The storage has no {key}, which the service names.")
            yield start if response.status_code == 206 else 0, self._chunks(response)

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with ``prefix``, without the empty ones that stand for folders."""
        after: str | None = None
        left = MOST_OBJECTS
        for _ in range(_MOST_PAGES):
            page, following = self._page(prefix, after)
            if not all(each.key.startswith(prefix) for each in page):
                raise BrokenContract(f"The service was asked for what is below {prefix} and listed something else.")
            left -= len(page)
            yield from (each for each in page if each.size or not each.key.endswith("/"))
            if following is None:
                return
            if after is not None and following <= after:
                raise BrokenContract("The service's listing of the storage repeats its pages.")
            if left < 0:
                break
            after = following
        raise BrokenContract(
            f"The service's listing of {prefix} does not end; at most {MOST_OBJECTS:,} objects are read."
        )

    def _path(self, key: str) -> str:
        return f"{self._base}/{quote(key, safe='/')}"

    def _page(self, prefix: str, after: str | None) -> tuple[list[StoredObject], str | None]:
        params = {"prefix": prefix, "limit": self._limit} | ({} if after is None else {"after": after})
        answer = self._client.send_once(Request("GET", _OBJECTS, "the storage", params=params))
        objects, following = contract.read_objects(answer)
        return [StoredObject(*each) for each in objects], following

    def _chunks(self, response: Response) -> Iterator[bytes]:
        try:
            while chunk := response.raw.read(CHUNK):
                yield chunk
        except Exception as error:  # noqa: BLE001 -- urllib3's, http.client's and ssl's have nothing in common
            raise error_of_fault(error, self._client.connection.base_url) from None
