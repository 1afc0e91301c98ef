# SPDX-License-Identifier: Apache-2.0
"""A look at a folder or at a part of an S3 bucket: every file that fits, and when it changed. No content is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.new_data.new_files import SeenFile

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.stores import S3Access


class Folder(Protocol):
    """Where files come."""

    def look(self) -> Iterator[SeenFile]:
        """Every file that fits, in any order.

        :raises TrainingError: when the folder cannot be looked into, saying why.
        """


class Pattern:
    """Which paths beneath a folder fit: ``*`` and ``?`` stay within a name, ``**/`` is any folders, none included.

    Hidden files, which writers use for what is not whole yet, never fit.
    """

    _PARTS = {r"\*\*/": "(?:[^/.][^/]*/)*", r"\*": "[^/]*", r"\?": "[^/]"}  # noqa: RUF012 -- a constant

    def __init__(self, text: str) -> None:
        self.deep = "/" in text
        parts = re.split(r"(\*\*/|\*|\?)", text)
        self._fits = re.compile("".join(self._PARTS.get(re.escape(part), re.escape(part)) for part in parts), re.DOTALL)

    def __call__(self, path: str) -> bool:
        hidden = path.startswith(".") or "/." in path
        return not hidden and self._fits.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine."""

    path: Path
    pattern: Pattern

    def look(self) -> Iterator[SeenFile]:
        """Every file that fits; one that goes while we look is not there."""
        try:
            yield from self._beneath(self.path, "")
        except OSError as error:
            raise ServiceUnavailable(
                f"The folder {self.path} cannot be read: {error.strerror or error}; it is looked at again until it can."
            ) from None

    def _beneath(self, folder: Path, prefix: str) -> Iterator[SeenFile]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    if self.pattern.deep and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        yield from self._beneath(Path(entry.path), f"{name}/")
                    elif self.pattern(name) and entry.is_file():
                        stat = entry.stat()
                        yield SeenFile(name, stat.st_size, stat.st_mtime, stat.st_ctime)
                except FileNotFoundError:
                    continue


@dataclass(frozen=True, slots=True)
class BucketFolder:
    """What is under a prefix of an S3 bucket.

    :ivar prefix: Without a slash at the end; empty for the whole bucket.
    """

    access: S3Access
    prefix: str
    pattern: Pattern

    def look(self) -> Iterator[SeenFile]:
        """Every object that fits."""
        import obstore
        from obstore import exceptions

        from airflow_provider_jobapi.services.files.stores import obstore_of

        place = f"s3://{self.access.bucket}/{self.prefix}"
        begin = f"{self.prefix}/" if self.prefix else ""
        try:
            for page in obstore.list(obstore_of(self.access), prefix=begin or None):
                for each in page:
                    name, changed = each["path"][len(begin) :], each["last_modified"].timestamp()
                    if self.pattern(name):
                        yield SeenFile(name, each["size"], changed, changed)
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise ConnectionProblem(
                f"{place} refuses to be listed with the keys of the connection; it is looked at again until it can."
            ) from None
        except (exceptions.BaseError, FileNotFoundError) as error:
            # What obstore says last: the address and the number of its tries stand before.
            said = str(error).strip().rpartition(" - ")[2].partition(": <?xml")[0].partition("\n")[0][:300]
            raise ServiceUnavailable(f"{place} cannot be listed: {said}; it is looked at again until it can.") from None
