# SPDX-License-Identifier: Apache-2.0
"""Read the work folder of a job that has ended.

The job's user can change it at any time, so nothing in it is trusted: every directory and file is opened step by step
from the job's directory down, no step follows a link, and a file of another user is not read. A link to what lies in
the work folder or in ``CHECKPOINT_DIR`` counts as a copy of that.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from airflow_provider_jobapi.server.store.blobs import PIECE

DEPTH = 64
"""The most nested directories that are read."""

CHECKPOINTS = "state/checkpoints"
"""``CHECKPOINT_DIR`` below the job's directory."""

_OUTSIDE = "is a link that leads out of the working directory"

_LINKS = 40
"""The most links on the way to one file, as in Linux."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
"""Errors of a link to what is not there."""


class Unreadable(Exception):
    """Something in the work folder that cannot be read as a file.

    :param path: Where it is, relative to the work folder.
    :param how: What is wrong with it, as the rest of a sentence.
    """

    def __init__(self, path: str, how: str) -> None:
        super().__init__(f"{path!r} {how}")
        self.path = path
        self.how = how


class WithoutBytes(Unreadable):
    """Something that has no bytes to lose: a link to what is not there, a socket, a pipe, a device."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the work folder.

    :ivar path: Where the job put it, relative to the work folder.
    :ivar real: Where its bytes are, relative to the work folder; another path behind a link.
    """

    path: str
    real: str
    size: int


class Contents(NamedTuple):
    """What lies at or below a path.

    :ivar files: Its files, sorted.
    :ivar left_out: What it has besides that has no bytes.
    """

    files: list[Entry]
    left_out: list[WithoutBytes]


class _Place(NamedTuple):
    """Something in the work folder.

    :ivar above: Where the directories lie by which it was reached.
    """

    path: str
    real: str
    status: os.stat_result
    above: tuple[str, ...]


class WorkFolder:
    """The opened work folder of a job; a context manager.

    :param home: The job's directory.
    :raises OSError: when the work folder is not there, or no directory.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._handle = os.open(home, _DIRECTORY)
        try:
            with self._opened("") as work:
                self._owner = os.fstat(work).st_uid
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        os.close(self._handle)

    def walk(
        self, *, hidden: bool = False, skipped: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Yield everything but directories, without following any link.

        :param hidden: Whether to search directories whose name begins with a dot, where caches have models of other
            jobs.
        :param skipped: Called with each directory that cannot be read, or lies too deep.
        """
        waiting = [""]
        while waiting:
            current = waiting.pop()
            try:
                found = self._list(current)
            except OSError:
                if not current:
                    raise
                skipped(current)
                continue
            for name, status in found:
                if not stat.S_ISDIR(status.st_mode):
                    yield current + name, status
                elif not hidden and name.startswith("."):
                    continue
                elif current.count("/") < DEPTH:
                    waiting.append(f"{current}{name}/")
                else:
                    skipped(current + name)

    def files(self, path: str, most: int) -> Contents:
        """Find all files at or below a path, hidden ones too, and those behind links; none without the path.

        :param most: The most files.
        :raises Unreadable: when something there has bytes that cannot be read, or a link leads elsewhere.
        """
        found = Contents([], [])
        try:
            waiting = [_Place(path, path, self._status(path), ())]
        except (FileNotFoundError, NotADirectoryError):
            return found
        while waiting:
            try:
                place = self._followed(waiting.pop())
            except WithoutBytes as error:
                found.left_out.append(error)
                continue
            if stat.S_ISDIR(place.status.st_mode):
                waiting += self._below(place)
            elif len(found.files) >= most:
                raise Unreadable(place.path, f"is one of more than {most:,} files")
            else:
                found.files.append(Entry(place.path, place.real, place.status.st_size))
        found.files.sort(key=lambda entry: entry.path)
        return found

    def _followed(self, place: _Place) -> _Place:
        """Return a file or a directory itself, and for a link what it leads to.

        :raises Unreadable: when it is something else, or a link that leads elsewhere or to where it is.
        """
        if stat.S_ISLNK(place.status.st_mode):
            real, status = self._target(place.path, place.real)
            if not real or any(f"{folder}/".startswith(f"{real}/") for folder in place.above):
                raise Unreadable(place.path, "is a link to a folder that holds it")
            place = _Place(place.path, real, status, place.above)
        if not (stat.S_ISDIR(place.status.st_mode) or stat.S_ISREG(place.status.st_mode)):
            raise WithoutBytes(place.path, "is no regular file")
        return place

    def _below(self, folder: _Place) -> list[_Place]:
        if folder.path.count("/") >= DEPTH:
            raise Unreadable(folder.path, f"lies in more than {DEPTH} nested folders")
        try:
            listed = self._list(folder.real)
        except OSError as error:
            raise Unreadable(folder.path, f"cannot be read: {error.strerror}") from None
        above = (*folder.above, folder.real)
        return [_Place(f"{folder.path}/{name}", f"{folder.real}/{name}", status, above) for name, status in listed]

    @contextmanager
    def open(self, real: str) -> Iterator[int]:
        """Open a regular file that the owner of the work folder owns.

        :raises OSError: when it is something else.
        """
        folder, _, name = real.rpartition("/")
        with self._opened(folder) as directory:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            if not self.owns(os.fstat(handle)):
                raise PermissionError(1, "it is not a regular file that the job owns")
            yield handle
        finally:
            os.close(handle)

    def owns(self, status: os.stat_result) -> bool:
        """Whether this is a regular file that the owner of the work folder owns."""
        return stat.S_ISREG(status.st_mode) and status.st_uid == self._owner

    def is_input(self, path: str, inputs: Path) -> bool:
        """Whether a file is an input of the job that the job has not changed.

        :param inputs: The directory of the job's inputs.
        :raises OSError: when the file cannot be read.
        """
        if path.startswith("../"):  # a checkpoint
            return False
        try:
            given = (inputs / path).open("rb")
        except OSError:
            return False
        with given, self.open(path) as handle, open(handle, "rb", closefd=False) as written:
            if os.fstat(handle).st_size != os.fstat(given.fileno()).st_size:
                return False
            while piece := written.read(PIECE):
                if given.read(PIECE) != piece:
                    return False
        return True

    def remove(self, path: str) -> None:
        """Remove a file."""
        folder, _, name = path.rpartition("/")
        with self._opened(folder) as directory:
            os.unlink(name, dir_fd=directory)

    def _list(self, folder: str) -> list[tuple[str, os.stat_result]]:
        with self._opened(folder) as handle, os.scandir(handle) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]

    def _status(self, path: str) -> os.stat_result:
        folder, _, name = path.rpartition("/")
        with self._opened(folder) as directory:
            return os.stat(name or ".", dir_fd=directory, follow_symlinks=False)

    def _target(self, path: str, link: str) -> tuple[str, os.stat_result]:
        """Return where a link leads in the end.

        :param path: Where the job put it, for the error.
        :raises Unreadable: when that is nothing, or neither in the work folder nor in ``CHECKPOINT_DIR``.
        """
        left, place, links = _steps(link), list[str](), 0
        try:
            while left:
                place, text = self._step(path, place, left.pop(0))
                if text is None:
                    continue
                links += 1
                if links > _LINKS:
                    raise WithoutBytes(path, "is a link that leads to itself")
                left = text.split("/") + left
            if not _is_inside(place):
                raise Unreadable(path, _OUTSIDE)
            real = _from_work(place)
            return real, self._status(real)
        except OSError as error:
            if error.errno in _NOTHING:
                raise WithoutBytes(path, "is a link to what is not there") from None
            raise Unreadable(path, f"is a link to what cannot be read: {error.strerror}") from None

    def _step(self, path: str, place: list[str], part: str) -> tuple[list[str], str | None]:
        """Go one step on the way of a link; returns where that leads, and the text of the link that is there."""
        if part in {"", "."}:
            return place, None
        if part == ".." and place:
            return place[:-1], None
        place = [*place, part]
        if not _may_be_on_the_way(place):
            raise Unreadable(path, _OUTSIDE)
        # What lies in the job's directory itself is the server's, and no link.
        text = self._text_of_link(_from_work(place)) if len(place) > 1 else None
        if text is None:
            return place, None
        if text.startswith("/"):
            return [], self._inside(path, text)
        return place[:-1], text

    def _inside(self, path: str, text: str) -> str:
        """Return the text of an absolute link relative to the job's directory.

        :raises Unreadable: when it leads elsewhere.
        """
        for home in (self._home, self._home.resolve()):
            if text.startswith(f"{home}/"):
                return text[len(str(home)) :]
        raise Unreadable(path, _OUTSIDE)

    def _text_of_link(self, path: str) -> str | None:
        folder, _, name = path.rpartition("/")
        with self._opened(folder) as directory:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            return os.readlink(name, dir_fd=directory) if is_link else None

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """Open a directory step by step from the job's directory down.

        :param folder: Its path, relative to the work folder.
        """
        steps = _steps(folder)
        if not _may_be_on_the_way(steps):
            raise PermissionError(errno.EACCES, "it is not in the work folder")
        handle = os.dup(self._handle)
        try:
            for part in steps:
                below = os.open(part, _DIRECTORY, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)


_PLACES = (["work"], CHECKPOINTS.split("/"))
"""The folders that are read, as steps from the job's directory down."""


def _steps(path: str) -> list[str]:
    """The steps from the job's directory down to a path that is relative to the work folder."""
    return posixpath.normpath(f"work/{path}").split("/")


def _from_work(steps: list[str]) -> str:
    """The path relative to the work folder."""
    return "/".join(steps[1:]) if steps[:1] == ["work"] else "/".join(["..", *steps])


def _is_inside(steps: list[str]) -> bool:
    return any(steps[: len(place)] == place for place in _PLACES)


def _may_be_on_the_way(steps: list[str]) -> bool:
    return _is_inside(steps) or any(place[: len(steps)] == steps for place in _PLACES)
