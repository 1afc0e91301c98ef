# SPDX-License-Identifier: Apache-2.0
"""OBS of the double: an S3 store, accessed through obstore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store


def split(url: str) -> tuple[str, str]:
    """Bucket and key of ``/bucket/key``, ``obs://bucket/key`` or, as boot files see it, ``s3://bucket/key``.

    :raises ValueError: It is neither.
    """
    if url.startswith(("obs://", "s3://")):
        place = url.partition("://")[2]
    elif url.startswith("/") and not url.startswith("//"):
        place = url[1:]
    else:
        raise ValueError("it must look like /bucket/folder/ or obs://bucket/folder/")
    bucket, _, key = place.partition("/")
    if not bucket:
        raise ValueError("it names no bucket")
    return bucket, key


class Obs:
    """The store.

    :param access: endpoint, key, secret and region.
    """

    def __init__(self, access: dict[str, str]) -> None:
        self._access = access
        self._stores: dict[str, S3Store] = {}

    def has_bucket(self, bucket: str) -> bool:
        try:
            next(iter(obstore.list(self._store(bucket), chunk_size=1)), None)
        except (BaseError, FileNotFoundError, OSError):
            return False
        return True

    def has(self, url: str) -> bool:
        """Whether an object is there."""
        bucket, key = split(url)
        try:
            obstore.head(self._store(bucket), key)
        except (BaseError, FileNotFoundError, OSError):
            return False
        return True

    def sizes(self, url: str) -> dict[str, int]:
        """The objects below a folder: their names within it, and their sizes."""
        bucket, prefix = split(url)
        try:
            return {
                str(PurePosixPath(entry["path"]).relative_to(prefix or ".")): entry["size"]
                for entry in self._entries(bucket, prefix)
                if not entry["path"].endswith("/")
            }
        except (BaseError, FileNotFoundError, OSError):
            return {}

    def download(self, url: str, target: Path) -> int:
        """Copy a folder from the store and return the number of files."""
        bucket, prefix = split(url)
        names = self.sizes(url)
        for name in names:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                for chunk in obstore.get(self._store(bucket), f"{prefix}{name}"):
                    file.write(chunk)
        return len(names)

    def upload(self, source: Path, url: str) -> int:
        """Copy a folder to the store and return the number of files."""
        bucket, prefix = split(url)
        files = [file for file in sorted(source.rglob("*")) if file.is_file()]
        for file in files:
            obstore.put(self._store(bucket), f"{prefix}{file.relative_to(source).as_posix()}", file)
        return len(files)

    def delete(self, url: str) -> int:
        """Delete an object, or all below a folder; returns how many."""
        bucket, key = split(url)
        keys = [entry["path"] for entry in self._entries(bucket, key)] if url.endswith("/") else [key] * self.has(url)
        for each in keys:
            obstore.delete(self._store(bucket), each)
        return len(keys)

    def put(self, url: str, content: bytes) -> None:
        bucket, key = split(url)
        obstore.put(self._store(bucket), key, content)

    def _entries(self, bucket: str, prefix: str) -> Iterator[Any]:
        for chunk in obstore.list(self._store(bucket), prefix=prefix or None):
            yield from chunk

    def _store(self, bucket: str) -> S3Store:
        if bucket not in self._stores:
            self._stores[bucket] = S3Store(
                bucket,
                endpoint=self._access["endpoint"],
                access_key_id=self._access["key"],
                secret_access_key=self._access["secret"],
                region=self._access["region"],
                virtual_hosted_style_request=False,
                client_options={"allow_http": True},
            )
        return self._stores[bucket]
