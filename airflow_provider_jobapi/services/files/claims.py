# SPDX-License-Identifier: Apache-2.0
"""The claim of one version of a model in an object store, so that two jobs' models never mix there.

An object store renames nothing, so the files of two fetches into one version would lie side by side. The claim is a
small object beside the version, ``.<version>.claim``, that names the job. It is written on the condition that there is
none. Some stores ignore that condition, which a second write reveals: then the last writer holds the claim, each waits
before it believes that it is the one, and looks again before each file and after the last byte.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import JobConflict
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.destination_errors import code_of
from airflow_provider_jobapi.services.files.destination_files import make_parents

SETTLE = 2.0
"""Seconds for which a claim must stand in a store that ignores conditions: longer than a small request takes."""

ABANDONED = 24 * 3600.0
"""Seconds after which the claim of a fetch that never ended binds nobody any more."""

_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_UNKNOWN = {"NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest", "501"}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a claim.

    :ivar model: The SHA-256 of the model's listing; fetches of one model do not disturb each other.
    :ivar since: Unix time.
    """

    job_id: str
    model: str
    since: float

    @property
    def abandoned(self) -> bool:
        """Whether the fetch is so old that it must have died."""
        return time.time() - self.since > ABANDONED


class Claim:
    """The claim of a version for the model of one job.

    :param version: The version's directory, an ``ObjectStoragePath``.
    """

    def __init__(self, version: Any, job_id: str, files: Sequence[ModelFile]) -> None:
        self._fs = version.fs
        parent, _, name = str(version.path).rstrip("/").rpartition("/")
        self._path = f"{parent}/.{name}.claim" if parent else f".{name}.claim"
        self._version = version
        self._location = str(version)
        self._mine = Holder(job_id, _listing_hash(job_id, files), time.time())
        self.exclusive = False
        """Whether the store keeps the condition, so that nobody else can hold the claim."""

    def take(self) -> None:
        """Take the claim, or join the one of an earlier attempt for the same model.

        :raises JobConflict: when another job holds it.
        """
        make_parents(self._version)
        for _ in range(5):
            held = self._read()
            overwritten = held is not None and held.model != self._mine.model
            if overwritten and held is not None and not held.abandoned:
                raise self._conflict(held)
            if overwritten:
                self._fs.pipe_file(self._path, self._content())
            elif held is None and not self._create():
                continue
            # Nothing keeps two fetches from overwriting an abandoned claim at the same time.
            self.exclusive = not self._create() and not overwritten
            if not self.exclusive:
                time.sleep(SETTLE)
            break
        self.check()

    def check(self) -> None:
        """Check that no other job has taken the claim meanwhile.

        :raises JobConflict: when one has.
        """
        held = self._read()
        if held is not None and held.model != self._mine.model:
            raise self._conflict(held)

    def release(self) -> None:
        """Remove the claim. One that cannot be removed is harmless beside a complete model."""
        with suppress(Exception):
            held = self._read()
            if held is not None and held.model == self._mine.model:
                self._fs.rm_file(self._path)

    def _create(self) -> bool:
        """Write the claim unless there is one; False where there is one."""
        try:
            self._fs.pipe_file(self._path, self._content(), mode="create")
        except FileExistsError:
            return False
        except TypeError:  # a file system that knows no mode
            self._fs.pipe_file(self._path, self._content())
        except Exception as error:
            codes = {code_of(error), code_of(error.__cause__) if error.__cause__ else None}
            if codes & _REFUSED:
                return False
            if not codes & _UNKNOWN:
                raise
            self._fs.pipe_file(self._path, self._content())
        return True

    def _content(self) -> bytes:
        mine = self._mine
        return json.dumps({"job_id": mine.job_id, "model": mine.model, "since": mine.since}).encode()

    def _read(self) -> Holder | None:
        try:
            content = self._fs.cat_file(self._path)
        except FileNotFoundError:
            return None
        try:
            read = json.loads(content)
            return Holder(str(read["job_id"])[:100], str(read["model"]), float(read["since"]))
        except (ValueError, KeyError, TypeError):
            return Holder("unknown", "", time.time())

    def _conflict(self, held: Holder) -> JobConflict:
        return JobConflict(
            f"{self._location} is being written with the model of job {held.job_id}; the model of job "
            f"{self._mine.job_id} was not fetched there. Choose another version. If no fetch of job {held.job_id} runs "
            f"any more, fetch it again, or remove {self._path}."
        )


def _listing_hash(job_id: str, files: Sequence[ModelFile]) -> str:
    """The SHA-256 of a model's listing; models of two jobs whose hashes are not known are never the same."""
    known = all(file.sha256 for file in files)
    lines = [f"{file.path}\0{file.size}\0{file.sha256}\0" for file in sorted(files, key=lambda file: file.path)]
    return hashlib.sha256("".join([*lines, "" if known else job_id]).encode()).hexdigest()
