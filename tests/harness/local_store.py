# SPDX-License-Identifier: Apache-2.0
"""An object store in a directory, for tests of what works on any store."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.files.sources import CHUNK, OnBytes, Source
from airflow_provider_jobapi.services.files.stores import StoredObject


class LocalStore:
    """A directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def head(self, key: str) -> StoredObject | None:
        """What is under a key; the hash is computed from the file."""
        path = self._root / key
        if not path.is_file():
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return StoredObject(key, os.fstat(file.fileno()).st_size, digest)

    def put(self, key: str, source: Source, on_bytes: OnBytes) -> None:
        """Keep a file under a key: written beside it, synced, renamed."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as target, source.open(on_bytes) as file:
                for chunk in file:
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open a file."""
        try:
            file = (self._root / key).open("rb")
        except FileNotFoundError:
            raise BrokenContract(f"There is no {self._root / key}.") from None
        with file:
            file.seek(start)
            yield start, iter(lambda: file.read(CHUNK), b"")

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every file whose key begins with ``prefix``."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    yield StoredObject(key, path.stat().st_size, None)
