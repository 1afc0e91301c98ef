# SPDX-License-Identifier: Apache-2.0
"""Unpack a ``model.tar.gz`` that nobody vouches for: a job has written what is in it.

Nothing is unpacked under a name of the archive. Each file goes into a folder of this process under a number, and only
paths that are checked are given to whoever publishes them.
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import IO, Any, cast

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.files.sources import CHUNK
from airflow_provider_jobapi.services.files.stores import StoredObject
from airflow_provider_jobapi.training.job_file import check_path
from airflow_provider_jobapi.training.model import HEAD_BYTES, MOST_FILES, FoundFile
from airflow_provider_jobapi.training.units import size_text

LARGEST_RATIO = 200
"""Times its packed size that an archive may unpack to."""
ALWAYS_ALLOWED = 2**30
"""Bytes that any archive may unpack to."""
MOST_FOLDERS = 100
"""Folders that a file may be in."""
MOST_FOLDER_LINKS = 1_000
"""Links to folders."""
MOST_LINKS = 40
"""Links in the way of one path, as Linux allows."""
MODEL_DIR = "/opt/ml/model/"
"""The folder that an archive was made of, by which a job may have named what its links lead to."""
_LARGEST_HEADER = 4 * 1024 * 1024
"""Bytes of one header; tarfile holds a header in memory, and an archive says itself how long it is."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file of the archive.

    :ivar path: Its path in the archive.
    :ivar number: Its name in the folder it was unpacked into; empty where it was only listed.
    :ivar modified: Unix time.
    """

    path: str
    size: int
    sha256: str
    head: bytes
    modified: float
    number: str = ""

    def found(self) -> FoundFile:
        """The file, to tell the kind of the model."""
        return FoundFile(self.path, self.size, self.head)


class Folder:
    """The unpacked files, read as an object store; see
    :class:`~airflow_provider_jobapi.services.files.stores.ObjectStore`.

    :param root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open a file at an offset."""
        with (self._root / key).open("rb") as file:
            file.seek(start)
            yield start, iter(lambda: file.read(CHUNK), b"")

    def head(self, key: str) -> StoredObject | None:
        """Return nothing; hashes are known."""

    def put(self, key: str, source: Any, on_bytes: Any) -> None:
        """Refuse to write."""
        raise NotImplementedError

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:  # noqa: ARG002 -- its caller knows them
        """List nothing."""
        return iter(())


def unpack(chunks: Iterable[bytes], packed: int, target: Path | None, what: str) -> dict[str, Unpacked]:
    """Unpack an archive as it comes; answers its files by path.

    Links to files and folders of the archive become copies of them.

    :param chunks: The bytes of the archive.
    :param packed: How many there are.
    :param target: An empty folder to unpack into; None to list only.
    :param what: The archive, for errors.
    :raises BrokenContract: for paths that leave the archive, links that do, devices, and more than a model can be.
    """
    most = max(ALWAYS_ALLOWED, LARGEST_RATIO * packed)
    reader = _Reader(chunks, most, what)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as archive:
            found = _Unpacking(archive, target, most, what).run()
        rest = reader.last  # what ended the archive for tarfile, which takes a damaged header for its end
        while rest:  # to the checksum at the end
            if rest.strip(b"\0"):
                raise ValueError("there is more behind its end")
            rest = reader.read(CHUNK)
        return found
    except (tarfile.TarError, EOFError, zlib.error, OverflowError, UnicodeError, ValueError) as error:
        raise BrokenContract(f"{what} is damaged ({type(error).__name__}: {error}); nothing was fetched.") from None


class _Unpacking:
    def __init__(self, archive: tarfile.TarFile, target: Path | None, most: int, what: str) -> None:
        self._archive = archive
        self._target = target
        self._left = self._most = most
        self._what = what
        self._files: dict[str, Unpacked] = {}
        self._links: dict[str, str] = {}
        self._folders: set[str] = set()

    def run(self) -> dict[str, Unpacked]:
        for count, member in enumerate(self._archive, 1):
            if count > 2 * MOST_FILES:
                raise self._refused(f"more than {2 * MOST_FILES:,} entries")
            self._archive.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
            self._take(member)
        for path in self._files.keys() | self._links.keys():
            if taken := next((each for each in _above(path) if each in self._files or each in self._links), None):
                raise self._refused(f"{taken!r} as a file and as a folder")
        self._copy_links()
        return self._files

    def _copy_links(self) -> None:
        to = {path: self._end_of(path) for path in self._links}
        for path in [path for path in to if to[path] in self._files]:
            self._copy(path, self._files[to.pop(path)])
        if to:
            self._copy_folders(to)

    def _copy_folders(self, to: dict[str, str]) -> None:
        """Copy the files of folders to the links that lead to them, those of the innermost links first.

        :param to: The folder of each link.
        """
        inside: dict[str, list[str]] = {folder: [] for folder in self._folders}
        for path in self._files:
            for folder in _above(path):
                inside.setdefault(folder, []).append(path)
        for path in self._ordered(to):
            if (found := inside.get(to[path])) is None:
                raise self._refused(f"the link {path!r}, which leads to no file in it")
            for each in tuple(found):
                copy = f"{path}{each.removeprefix(to[path])}"
                self._copy(copy, self._files[each])
                for folder in _above(copy):
                    inside.setdefault(folder, []).append(copy)

    def _ordered(self, to: Mapping[str, str]) -> Iterable[str]:
        if len(to) > MOST_FOLDER_LINKS:
            raise self._refused(f"more than {MOST_FOLDER_LINKS:,} links to folders")
        needs = {path: [each for each in to if each.startswith(f"{to[path]}/")] for path in to}
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise self._refused(f"the link {error.args[1][0]!r}, which leads to a folder that it is in") from None

    def _copy(self, path: str, found: Unpacked) -> None:
        self._check(path)
        self._count(found.size)
        self._files[path] = replace(found, path=path)
        self._check_count()

    def _check_count(self) -> None:
        if len(self._files) > MOST_FILES:
            raise self._refused(f"more than {MOST_FILES:,} files")

    def _take(self, member: tarfile.TarInfo) -> None:
        path = member.name.removeprefix("./")
        if member.isdir():
            if path not in {"", "."}:
                self._check(path.rstrip("/"))
                self._folders.add(path.rstrip("/"))
            return
        self._check(path)
        if path in self._files or path in self._links:
            raise self._refused(f"{path!r} twice")
        if member.isreg():
            self._files[path] = self._file(member, path)
        elif member.issym():
            begin = "" if member.linkname.startswith(MODEL_DIR) else posixpath.dirname(path)
            self._links[path] = posixpath.normpath(posixpath.join(begin, member.linkname.removeprefix(MODEL_DIR)))
        elif member.islnk():
            self._links[path] = posixpath.normpath(member.linkname)
        else:
            raise self._refused(f"{path!r}, which is neither a file nor a link")
        if len(self._links) > MOST_FILES:
            raise self._refused(f"more than {MOST_FILES:,} files")
        self._check_count()

    def _file(self, member: tarfile.TarInfo, path: str) -> Unpacked:
        self._count(member.size)
        content = self._archive.extractfile(member)
        if content is None:
            raise self._refused(f"{path!r} without content")
        number = f"{len(self._files):06d}" if self._target is not None else ""
        digest, size, head = hashlib.sha256(), 0, b""
        out = (self._target / number).open("xb") if self._target is not None else None
        try:
            while chunk := content.read(CHUNK):
                head = head or chunk[:HEAD_BYTES]
                digest.update(chunk)
                size += len(chunk)
                if out is not None:
                    out.write(chunk)
        finally:
            if out is not None:
                out.close()
        if size != member.size:
            raise self._refused(f"only {size:,} of the {member.size:,} bytes of {path!r}")
        return Unpacked(path, size, digest.hexdigest(), head, float(member.mtime), number)

    def _end_of(self, link: str) -> str:
        """Return where a link leads in the end, by links in its way as well."""
        left, gone, followed = [link], "", 0
        while left:
            gone = f"{gone}/{left.pop(0)}" if gone else left.pop(0)
            if (to := self._links.get(gone)) is None:
                continue
            followed += 1
            if followed > MOST_LINKS or to in {".", ".."} or to.startswith(("/", "../")):
                raise self._refused(f"the link {link!r}, which leads to no file in it")
            left, gone = [*to.split("/"), *left], ""
        return gone

    def _count(self, size: int) -> None:
        """Count the bytes of a file. Those of holes and of copies are not in the archive."""
        self._left -= size
        if self._left < 0:
            raise _too_large(self._what, self._most)

    def _check(self, path: str) -> None:
        try:
            check_path(path)
            path.encode()
        except (ValueError, UnicodeError):
            raise self._refused(f"the path {path[:200]!r}") from None
        if path.count("/") >= MOST_FOLDERS:
            raise self._refused(f"a path of more than {MOST_FOLDERS} folders")

    def _refused(self, what: str) -> BrokenContract:
        return BrokenContract(f"{self._what} has {what}; nothing was fetched.")


class _Reader:
    """The decompressed archive, as tarfile reads it: forward, and in small pieces.

    :ivar last: What was read last.
    """

    def __init__(self, chunks: Iterable[bytes], most: int, what: str) -> None:
        self._chunks = iter(chunks)
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._buffer, self._offset = b"", 0
        self._at = 0
        self._most = most
        self._what = what
        self._packed = b""
        self.name = what
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise BrokenContract(f"{self._what} has a header of {size:,} bytes; nothing was fetched.")
        while len(self._buffer) - self._offset < size and self._more():
            pass
        found = self._buffer[self._offset : self._offset + size]
        self._offset += len(found)
        self._at += len(found)
        self.last = found
        return found

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, position: int, _whence: int = 0) -> int:
        """Go forward."""
        while self._at < position:
            if not self.read(min(CHUNK, position - self._at)):
                break
        return self._at

    def close(self) -> None:
        """Do nothing; the caller closes what the bytes come from."""

    def _more(self) -> bool:
        """Decompress some more; whether there was any."""
        if not self._packed:
            self._packed = next(self._chunks, b"")
            if not self._packed:
                if not self._gzip.eof and self._at + len(self._buffer) - self._offset:
                    raise EOFError("it ends in the middle")
                return False
        if self._gzip.eof:  # another member of gzip, or padding
            if not self._packed.strip(b"\0"):
                self._packed = b""
                return True
            self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        made = self._gzip.decompress(self._packed, CHUNK)
        self._packed = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
        self._buffer, self._offset = self._buffer[self._offset :] + made, 0
        if self._at + len(self._buffer) > self._most:
            raise _too_large(self._what, self._most)
        return True


def _above(path: str) -> Iterator[str]:
    """Yield the folders that a path is in."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _too_large(what: str, most: int) -> BrokenContract:
    return BrokenContract(
        f"{what} unpacks to more than {size_text(most)}, {LARGEST_RATIO} times its size; nothing was fetched."
    )
