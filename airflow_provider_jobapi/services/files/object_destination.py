# SPDX-License-Identifier: Apache-2.0
"""The destination of a model in an object store, or behind any other ``ObjectStoragePath`` that is not local.

There is no rename, so the file by which readers recognise a model, such as ``saved_model.pb``, is written last, and a
:class:`~airflow_provider_jobapi.services.files.claims.Claim` keeps the model of another job away meanwhile.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from airflow_provider_jobapi.exceptions import JobConflict
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.claims import Claim
from airflow_provider_jobapi.services.files.destination_errors import translated_errors
from airflow_provider_jobapi.services.files.destination_files import Download, Run, conflict, has_hash, make_parents
from airflow_provider_jobapi.services.files.sources import CHUNK
from airflow_provider_jobapi.services.files.transfers import Task
from airflow_provider_jobapi.training.model import is_marker

BLOCK = 8 * 1024 * 1024
"""Bytes, at the least, of one part of a file that is written; s3fs would hold 50 MiB of each file in memory."""

_PARTS = 10_000 - 100
"""Parts of an object, at the most; the limit of S3 is 10,000."""

END_OF_WRITES = 5.0
"""Seconds for which a fetch that has failed waits for its writes to end before it gives up its claim."""


class ObjectDestination:
    """A directory behind an ``ObjectStoragePath``, or any path with its methods."""

    def __init__(self, final: Any) -> None:
        self._final = final
        self._conn_id = getattr(final, "conn_id", None)
        self.location = str(final)

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already; files of an attempt that was killed do not count."""
        with self._errors():
            there = self._listing()
            others = self._others(files, there)
            if not there.keys() & _written_last(files) and not any(
                is_marker(path) and "/" not in path for path in there
            ):
                if others:
                    raise conflict(self.location, f"holds {min(others)}, which is not a file of this model")
                return False
            if others or not self._has(files, there):
                raise conflict(self.location, "holds another model")
            return True

    def publish(self, job_id: str, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Claim the version, write the file by which readers recognise a model last, and check what was written.

        :raises JobConflict: when another job's model is written there at the same time.
        """
        writes = _Writes()
        with self._errors():
            claim = Claim(self._final, job_id, files)
            claim.take()
            try:
                # Another fetch may have ended since the first look.
                if not self.holds(files):
                    self._write(files, download, run, claim, writes)
                    self._check(job_id, files, claim)
            except BaseException:
                # A write that ends later would end in the model of the next one who claims this version.
                if writes.end(END_OF_WRITES):
                    claim.release()
                raise
            claim.release()

    def _write(self, files: Sequence[ModelFile], download: Download, run: Run, claim: Claim, writes: _Writes) -> None:
        names = _written_last(files)
        last = [file for file in files if file.path in names]
        first = [file for file in files if file.path not in names]

        def task(file: ModelFile) -> Task:
            return Task(file.path, file.size, lambda on_bytes: self._one(file, download, on_bytes, claim, writes))

        if first:
            run([task(file) for file in first])
        run([task(file) for file in last])

    def _one(
        self,
        file: ModelFile,
        download: Download,
        on_bytes: Callable[[int], None],
        claim: Claim,
        writes: _Writes,
    ) -> None:
        """Copy a file by way of a local one without a name, so that it is verified before a byte is written."""
        with tempfile.TemporaryFile(prefix="jobapi-") as part:
            download(file, part, on_bytes)
            part.seek(0)
            with self._errors(), writes.one():
                if not claim.exclusive:
                    claim.check()
                target = self._final / file.path
                make_parents(target)
                with target.open("wb", block_size=max(BLOCK, -(-file.size // _PARTS))) as out:
                    shutil.copyfileobj(part, out, CHUNK)

    def _check(self, job_id: str, files: Sequence[ModelFile], claim: Claim) -> None:
        """Check after the last byte that the model is the one of this job.

        :raises JobConflict: when something else wrote there at the same time.
        """
        claim.check()
        there = self._listing()
        if self._others(files, there) or not self._has(files, there, hashes=not claim.exclusive):
            raise JobConflict(
                f"{self.location} does not hold the model of job {job_id} alone: something else wrote there at the "
                "same time. Remove the directory, and fetch into another version."
            )

    def _listing(self) -> dict[str, int | None]:
        """The path and the size of each file, by one listing. Nothing in the path is a pattern."""
        root = str(self._final.path)
        self._final.fs.invalidate_cache(root)
        try:
            found = self._final.fs.find(root, detail=True)
        except FileNotFoundError:
            return {}
        begin = f"{root.strip('/')}/"
        files = {
            name.lstrip("/")[len(begin) :]: each.get("size")
            for name, each in found.items()
            if name.lstrip("/").startswith(begin) and each.get("type") != "directory"
        }
        above = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
        # Objects of no bytes that stand for folders, as consoles of object stores make them, are no files.
        return {
            path: size
            for path, size in files.items()
            if path and not path.endswith("/") and (size or path not in above)
        }

    def _others(self, files: Sequence[ModelFile], there: dict[str, int | None]) -> set[str]:
        """The files that are there and not of this model."""
        known = {file.path for file in files}
        return {path for path, size in there.items() if path not in known and (size or self._is_file(path))}

    def _is_file(self, path: str) -> bool:
        """Whether an empty object is a file: obstore lists one that stands for a folder under a key that is none."""
        try:
            self._final.fs.cat_file(str((self._final / path).path))
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def _has(self, files: Sequence[ModelFile], there: dict[str, int | None], *, hashes: bool = True) -> bool:
        if any(file.path not in there or there[file.path] not in {None, file.size} for file in files):
            return False
        return not hashes or all(self._has_hash(file) for file in files)

    def _has_hash(self, file: ModelFile) -> bool:
        target = self._final / file.path
        try:
            with target.open("rb") as opened:
                return has_hash(opened, file)
        except Exception as error:
            if "non-partial response" not in str(error):
                raise
        # A store without ranges, which obstore reads a file by: the file is read as a whole.
        return has_hash(BytesIO(self._final.fs.cat_file(str(target.path))), file)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with translated_errors(self.location, self._conn_id):
            yield


class _Writes:
    """Counts the files that are being written, and lets no further one begin after the end."""

    def __init__(self) -> None:
        self._running = 0
        self._ended = False
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one file."""
        with self._changed:
            if self._ended:
                raise JobConflict("The fetch has failed.")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def end(self, seconds: float) -> bool:
        """Let none begin any more; whether all have ended within the time."""
        with self._changed:
            self._ended = True
            return self._changed.wait_for(lambda: not self._running, seconds)


def _written_last(files: Sequence[ModelFile]) -> set[str]:
    """The paths that are written last, so that their presence means that the model is complete."""
    markers = {file.path for file in files if is_marker(file.path) and "/" not in file.path}
    return markers or {max(file.path for file in files)}
