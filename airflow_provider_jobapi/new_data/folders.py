# SPDX-License-Identifier: Apache-2.0
"""List the files of a folder or of a part of an S3 bucket, with their sizes and times. No content is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.new_data.new_files import SeenFile

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.files.stores import S3Access


class Folder(Protocol):
    """A place where files arrive."""

    def list_files(self) -> Iterator[SeenFile]:
        """Every file that matches, in any order.

        :raises TrainingError: when the folder cannot be listed.
        """


class Pattern:
    """Matches paths below a folder: ``*`` and ``?`` stay within a name, ``**/`` is any number of folders, also none.

    Hidden files, which writers use for incomplete files, never match.
    """

    _PARTS = {r"\*\*/": "(?:[^/.][^/]*/)*", r"\*": "[^/]*", r"\?": "[^/]"}  # noqa: RUF012 -- a constant

    def __init__(self, text: str) -> None:
        self.deep = "/" in text
        parts = re.split(r"(\*\*/|\*|\?)", text)
        regex = "".join(self._PARTS.get(re.escape(part), re.escape(part)) for part in parts)
        self._regex = re.compile(regex, re.DOTALL)

    def __call__(self, path: str) -> bool:
        hidden = path.startswith(".") or "/." in path
        return not hidden and self._regex.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine."""

    path: Path
    pattern: Pattern

    def list_files(self) -> Iterator[SeenFile]:
        """Every file that matches; one that disappears meanwhile is left out."""
        try:
            yield from self._beneath(self.path, "")
        except OSError as error:
            raise ServiceUnavailable(
                f"The folder {self.path} cannot be read: {error.strerror or error}. It is tried again."
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
    """The objects below a prefix of an S3 bucket.

    :ivar prefix: Without a slash at the end; empty for the whole bucket.
    """

    access: S3Access
    prefix: str
    pattern: Pattern

    def list_files(self) -> Iterator[SeenFile]:
        """Every object that matches."""
        from obstore import exceptions

        from airflow_provider_jobapi.services.files.stores import list_below, obstore_of

        place = f"s3://{self.access.bucket}/{self.prefix}"
        begin = f"{self.prefix}/" if self.prefix else ""
        try:
            for each in list_below(obstore_of(self.access), begin):
                name = each.key[len(begin) :]
                if self.pattern(name):
                    yield SeenFile(name, each.size, each.modified, each.modified)
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise ConnectionProblem(
                f"{place} cannot be listed with the keys of the connection. It is tried again."
            ) from None
        except (exceptions.BaseError, FileNotFoundError) as error:
            # The end of obstore's message; the address and the number of its tries come before.
            reason = str(error).strip().rpartition(" - ")[2].partition(": <?xml")[0].partition("\n")[0][:300]
            raise ServiceUnavailable(f"{place} cannot be listed: {reason}. It is tried again.") from None


def s3_access(connection: Connection, bucket: str) -> S3Access:
    """Read the access to a bucket from a connection of the type ``aws``, as Airflow's Amazon provider does.

    :param connection: Login and password are the access key and its secret; without them those of the environment or
        of the machine are used. The extra may hold ``endpoint_url``, ``region_name``, ``aws_session_token`` and
        ``verify``, which may also be a file of certificate authorities to trust.
    """
    from airflow_provider_jobapi.services.files.stores import S3Access, endpoint_url

    extra: dict[str, Any] = connection.extra_dejson
    of_s3 = (extra.get("service_config") or {}).get("s3") or {}
    url = of_s3.get("endpoint_url") or extra.get("endpoint_url") or ""
    verify = str(extra.get("verify", True))
    return S3Access(
        url=endpoint_url(url) if url else "",
        bucket=bucket,
        access_key=connection.login or "",
        secret_key=connection.password or "",
        session_token=extra.get("aws_session_token"),
        region=extra.get("region_name") or "us-east-1",
        verify=verify.lower() != "false",
        roots=None if verify.lower() in {"true", "false"} else Path(verify).read_bytes(),
    )
