# SPDX-License-Identifier: Apache-2.0
"""Copy the whole checkpoints of a folder that a job writes, or has written, as it was at one instant.

A part of the supervisor and, like it, standard library only, Python 3.8 and newer. The job can change its folder at any
time, so nothing in it is trusted: every directory is opened from the folder down, no link is followed, a file of
another user is not read, and a file that changes while it is copied is not whole. Files are copied, since a hard link
would be the same file: a script that writes into it would change it for the next job, too. Where the file system can
share the bytes of a copy until one is written to, the kernel does so.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any, Callable, Collection, Mapping, NamedTuple  # noqa: UP035 -- Python 3.8 has no others

rules: Any
formats: Any
if __package__:
    from airflow_provider_jobapi.training import checkpoint_formats as formats
    from airflow_provider_jobapi.training import checkpoint_rules as rules
else:  # run by its path, isolated from every package
    import importlib.util

    def _load(name: str) -> Any:
        beside = Path(__file__).with_name(f"{name}.py")
        place = beside if beside.exists() else Path(__file__).parents[3] / "training" / f"{name}.py"
        spec: Any = importlib.util.spec_from_file_location(name, place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    rules, formats = _load("checkpoint_rules"), _load("checkpoint_formats")

FOLDER = "state/checkpoints"
"""``CHECKPOINT_DIR`` below the job's directory. The job owns ``state``, too: a library may remove the folder and make
it again."""

MOST_FILES = 100_000
_DEPTH = 32
"""What is deeper or beyond is no checkpoint."""

_PIECE = 8 * 2**20
_CANNOT_SHARE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
"""Errors of ``copy_file_range`` between file systems that do not have it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What opening says where something else, or nothing, has taken a folder's or file's place."""


class Identity(NamedTuple):
    """What changes when a file is written, replaced or renamed."""

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity of a file."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class CopySummary(NamedTuple):
    """What was copied.

    :ivar files: The number of its files.
    :ivar size: Their bytes.
    :ivar newest: When the newest was written, in seconds since 1970.
    """

    files: int
    size: int
    newest: float


class FolderChanged(Exception):
    """The folder was changed while it was read."""


class CheckpointFolder:
    """One look at a folder of checkpoints.

    :param path: The folder.
    :param owners: The user ids whose files are read.
    :param known: What is known of files whose identity is the same, whether they are whole.
    :ivar identities: The files, by path.
    :ivar links: What the links lead to that stay in the folder, by path.
    :ivar leading_out: The paths of the other links, which are left out.
    """

    def __init__(
        self, path: Path, owners: Collection[int], known: Mapping[tuple[str, Identity], bool | None] | None = None
    ) -> None:
        self._owners = owners
        self._path = path
        self._known = known or {}
        self.identities: dict[str, Identity] = {}
        self.links: dict[str, str] = {}
        self.leading_out: list[str] = []
        self.whole: dict[str, bool | None] = {}
        self._top = _open_below(path)
        self._open: tuple[str, int] = ("", self._top)

    def __enter__(self) -> CheckpointFolder:  # noqa: PYI034 -- Python 3.8 has no Self
        """Read what is in the folder; no file is opened."""
        try:
            self._walk("", os.dup(self._top), 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_unused: object) -> None:
        """Close it."""
        self._leave()
        os.close(self._top)

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(each.size for each in self.identities.values())

    @property
    def newest(self) -> int:
        """When the newest change was, in nanoseconds since 1970."""
        return max((each.changed for each in self.identities.values()), default=0)

    def select(self) -> Any:
        """Choose what is whole; see ``checkpoint_rules``."""
        for path, identity in self.identities.items():
            if path not in self.whole:
                known = (path, identity)
                self.whole[path] = self._known[known] if known in self._known else self._is_whole(path, identity)
        times = {path: identity.changed for path, identity in self.identities.items()}
        selection = rules.select({**self.whole, **dict.fromkeys(self.links)}, times)
        kept = set(selection.kept)
        kept = {path for path in kept if path not in self.links or self._leads_to(path, kept)}
        selection.kept = sorted(kept)
        return selection

    def is_unchanged(self) -> bool:
        """Whether the folder is still as it was at the look."""
        try:
            with CheckpointFolder(self._path, self._owners) as now:
                return now.identities == self.identities
        except OSError:
            return False

    def copy(
        self,
        kept: Collection[str],
        target: Path,
        *,
        uid: int | None = None,
        places: bytes = b"",
        as_path: bytes = b"",
        previous: tuple[Path, Mapping[str, Identity]] | None = None,
        go_on: Callable[[], bool] = lambda: True,
    ) -> CopySummary:
        """Copy files and links to a new directory.

        :param kept: Their paths.
        :param uid: The user to whom they are given.
        :param places: A regular expression of the paths of earlier folders, which small texts of libraries hold.
        :param as_path: What takes their place.
        :param previous: An earlier copy, to whose files those are linked that did not change since.
        :param go_on: Asked before each piece.
        :raises FolderChanged: when a file was changed, or ``go_on`` said no.
        """
        target.mkdir(mode=0o700)
        total, newest, made = 0, 0, {""}
        for path in kept:
            self._make_folders(path, target, uid, made)
            place = target / path
            if path in self.links:
                place.symlink_to(self.links[path])
            else:
                total += self._copy_file(path, place, previous, go_on)
                newest = max(newest, self.identities[path].modified)
                if places and rules.names_paths(path, self.identities[path].size):
                    _rewrite(place, path, kept, places, as_path)
            if uid is not None:
                os.chown(place, uid, uid, follow_symlinks=False)
        return CopySummary(len(kept), total, newest / 1e9)

    def _make_folders(self, path: str, target: Path, uid: int | None, made: set[str]) -> None:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in made:
                (target / folder).mkdir(mode=0o755)
                if uid is not None:
                    os.chown(target / folder, uid, uid)
                made.add(folder)

    def _copy_file(
        self,
        path: str,
        place: Path,
        previous: tuple[Path, Mapping[str, Identity]] | None,
        go_on: Callable[[], bool],
    ) -> int:
        identity = self.identities[path]
        if previous and previous[1].get(path) == identity:
            os.link(previous[0] / path, place)
            return identity.size
        source = self._open_file(path)
        try:
            target = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                _copy_bytes(source, target, identity.size, go_on)
                os.fchmod(target, 0o644 | stat.S_IMODE(os.fstat(source).st_mode) & 0o111)
            finally:
                os.close(target)
            if Identity.of(os.fstat(source)) != identity:
                raise FolderChanged(path)
        finally:
            os.close(source)
        # Libraries choose the newest by its time.
        os.utime(place, ns=(identity.modified, identity.modified))
        return identity.size

    def _is_whole(self, path: str, identity: Identity) -> bool | None:
        try:
            handle = self._open_file(path)
        except PermissionError:
            return False
        with os.fdopen(handle, "rb") as file:
            found: bool | None = formats.is_whole(path.rsplit("/", 1)[-1], file, identity.size)
            if Identity.of(os.fstat(file.fileno())) != identity:
                raise FolderChanged(path)
        return found

    def _walk(self, prefix: str, handle: int, depth: int) -> None:
        """List what is below an open directory, and close it."""
        try:
            with os.scandir(handle) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            for name, status in found:
                path = prefix + name
                if not _is_name(name):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    if depth < _DEPTH and (below := _open_or_none(name, handle)) is not None:
                        self._walk(path + "/", below, depth + 1)
                elif stat.S_ISLNK(status.st_mode):
                    self._take_link(path, os.readlink(name, dir_fd=handle))
                elif stat.S_ISREG(status.st_mode) and status.st_uid in self._owners:
                    self.identities[path] = Identity.of(status)
                if len(self.identities) > MOST_FILES:
                    raise OSError(f"there are more than {MOST_FILES:,} files in it")
        except FileNotFoundError:
            raise FolderChanged(prefix) from None
        finally:
            os.close(handle)

    def _take_link(self, path: str, target: str) -> None:
        """Keep a link that stays in the folder, such as that of Lightning to its last checkpoint."""
        own = f"{self._path}/"
        if target.startswith("/"):
            below = re.sub(rf"^.*/{re.escape(FOLDER)}/", own, target)
            target = os.path.relpath(below[len(own) :], path.rpartition("/")[0] or ".") if below.startswith(own) else ""
        inside = _inside(path, target) if target else ".."
        if inside.startswith(("..", "/")) or inside == ".":
            self.leading_out.append(path)
        else:
            self.links[path] = target

    def _leads_to(self, path: str, kept: Collection[str]) -> bool:
        inside = _inside(path, self.links[path])
        return inside in kept or any(each.startswith(f"{inside}/") for each in kept)

    def _open_file(self, path: str) -> int:
        folder, _, name = path.rpartition("/")
        try:
            if self._open[0] != folder:
                self._enter(folder)
            handle = os.open(name, _FILE, dir_fd=self._open[1])
        except OSError as error:
            if error.errno in _REPLACED:
                raise FolderChanged(path) from None
            raise
        status = os.fstat(handle)
        if Identity.of(status) != self.identities[path] or status.st_uid not in self._owners:
            os.close(handle)
            raise FolderChanged(path)
        return handle

    def _enter(self, folder: str) -> None:
        """Open a directory step by step, in place of the one that is open."""
        self._leave()
        handle = os.dup(self._top)
        try:
            for part in folder.split("/") if folder else ():
                below = os.open(part, _DIRECTORY, dir_fd=handle)
                os.close(handle)
                handle = below
        except OSError:
            os.close(handle)
            raise
        self._open = folder, handle

    def _leave(self) -> None:
        if self._open[1] != self._top:
            os.close(self._open[1])
        self._open = "", self._top


def _open_below(path: Path) -> int:
    """Open a folder; where the job owns the one above it, no link in its place is followed either."""
    above = os.open(path.parent, _DIRECTORY)
    try:
        return os.open(path.name, _DIRECTORY, dir_fd=above)
    except OSError as error:
        if error.errno in _REPLACED:
            raise FileNotFoundError(path) from None
        raise
    finally:
        os.close(above)


def _inside(path: str, target: str) -> str:
    """The path below the folder to which a link leads."""
    return os.path.normpath(f"{path.rpartition('/')[0] or '.'}/{target}")


def _open_or_none(name: str, above: int) -> int | None:
    """Open a directory; None for one that cannot be read."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=above)
    except PermissionError:
        return None


def _is_name(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy_bytes(source: int, target: int, size: int, go_on: Callable[[], bool]) -> None:
    rest, shares = size, hasattr(os, "copy_file_range")
    while rest:
        if not go_on():
            raise FolderChanged
        count = 0
        if shares:
            try:
                count = os.copy_file_range(source, target, min(rest, _PIECE))
            except OSError as error:
                if error.errno not in _CANNOT_SHARE:
                    raise
            shares = count > 0
        if not count:
            count = os.write(target, os.read(source, min(rest, _PIECE)))
        if not count:
            raise FolderChanged
        rest -= count


def _rewrite(place: Path, path: str, kept: Collection[str], places: bytes, as_path: bytes) -> None:
    """Correct the paths in a small text that a library wrote."""
    status = place.stat()
    text = place.read_bytes()
    written = rules.corrected(path, text, kept, places, as_path)
    if written is None:
        place.unlink()
        return
    if written != text:
        place.write_bytes(written)
    os.utime(place, ns=(status.st_mtime_ns, status.st_mtime_ns))
