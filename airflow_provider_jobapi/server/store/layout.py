# SPDX-License-Identifier: Apache-2.0
"""The root directory of a server: its paths, its permissions, and the lock that lets only one server use it.

::

    <root>/lock                                  held while a server runs
    <root>/jobapi.sqlite                         clients, jobs, the index of the storage
    <root>/keys/                                 the key that signs the tokens
    <root>/clients/<client>/data/                the bytes of the client's objects
    <root>/clients/<client>/jobs/<job id>/       one job: inputs, work folder, checkpoints, log, exit record
    <root>/clients/<client>/ids/<job id>         an empty file for each job id that was used
    <root>/clients/<client>/environments/        Python environments
    <root>/reserve/                              room for a full disk, see ``reserve``
    <root>/set-aside/                            files that the database does not know, see ``set_aside``
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition

from airflow_provider_jobapi.server.config import SettingsError


def prepare_root(root: Path) -> None:
    """Make the root directory and its folders, readable by the user of the server alone.

    The mode is 0711, since jobs under their own user ids must reach their work folders.

    :raises SettingsError: when it cannot be made, or when it has files of clients and no database. Without
        it, the server would remove all files as unknown.
    """
    try:
        if not (root / "jobapi.sqlite").exists() and any((root / "clients").glob("*")):
            raise SettingsError(
                f"{root} has files of clients, but the database jobapi.sqlite is missing: restore it, or choose "
                "another --root."
            )
        for path, mode in ((root, 0o711), (root / "keys", 0o700), (root / "clients", 0o711)):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)
    except OSError as error:
        raise SettingsError(f"The root {root} cannot be used: {error.strerror}; choose another with --root.") from None


_OWNER_LENGTH = 20
"""The characters with the process id in the file of the lock."""


class RootInUse(SettingsError):
    """Another server uses the root directory; ``process`` is its process id, if it could be read."""

    def __init__(self, root: Path, process: int | None) -> None:
        super().__init__(
            f"A jobAPI server (process {process}) is running on {root} already: use that one, stop it first, or choose "
            "another --root and another --port."
        )
        self.process = process


@contextmanager
def root_lock(root: Path) -> Iterator[None]:
    """Lock the root directory for this process.

    :raises RootInUse: when another server uses it.
    """
    handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, _OWNER_LENGTH).strip()
            raise RootInUse(root, int(owner) if owner.isdigit() else None) from None
        with suppress(OSError):  # a full disk; without a truncation, a file that has its block needs no other
            os.pwrite(handle, f"{os.getpid():<{_OWNER_LENGTH - 1}}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def client_directory(root: Path, client_id: str) -> Path:
    """Return the directory of a client."""
    return root / "clients" / client_id


def job_directory(root: Path, client_id: str, job_id: str) -> Path:
    """Return the directory of a job."""
    return client_directory(root, client_id) / "jobs" / job_id


def owners(root: Path) -> set[int]:
    """Return the user ids of the clients whose directories are on the disk, also those that are set aside."""
    homes = (*root.glob("clients/*"), *root.glob("set-aside/*/clients/*"))
    return {home.lstat().st_gid for home in homes} - {os.getegid()}


def make_client_directory(root: Path, client_id: str, uid: int | None) -> None:
    """Make the directories of a client.

    The user of its jobs may pass through them and owns none, so that no job can replace a directory by a link.

    :param uid: The user id of the client's jobs, if it has its own.
    """
    home = client_directory(root, client_id)
    for path, mode in ((home, 0o710), (home / "data", 0o700), (home / "jobs", 0o710)):
        path.mkdir(mode=mode, exist_ok=True)
        if uid is not None:
            os.chown(path, 0, uid)
        path.chmod(mode)


def is_locked(directory: Path) -> bool:
    """Whether a supervisor holds the lock of a job's directory."""
    try:
        handle = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def is_running(directory: Path) -> bool:
    """Whether a supervisor holds the lock of a job's directory and has not written the exit record."""
    return is_locked(directory) and not (directory / "exit.json").exists()


def running_jobs(home: Path) -> list[Path]:
    """Return the directories of a client's jobs whose supervisors are alive, whatever the database says."""
    return sorted(place for place in (home / "jobs").glob("*") if is_running(place))


def has_files(folder: Path) -> bool:
    """Whether there is any file below a directory."""
    return any(files for _, _, files in os.walk(folder))


def make_job_directory(home: Path) -> None:
    """Make the directory of a job. Nothing may be at its place."""
    home.mkdir(mode=0o710)
    home.chmod(0o710)
    os.chown(home, -1, home.parent.stat().st_gid)


def remove_tree(path: Path) -> None:
    """Remove a directory tree that a job may have changed, as far as the system allows.

    A job may nest directories deeper than the longest path, remove its own permissions, and replace a directory by a
    link at any time. So every directory is moved to the top before it is emptied, and no link is followed. Only one
    removal runs in a tree at a time, since two would move each other's directories.
    """
    with _alone_in(path), suppress(OSError):
        if os.geteuid() != 0:
            path.chmod(0o700)
        top = os.open(path, _DIRECTORY)
        try:
            waiting = _clear(top, top)
            while waiting:
                waiting += _remove_below(waiting.pop(), top)
        finally:
            os.close(top)
        path.rmdir()


_removals = Condition()
_removed: list[Path] = []


@contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """Wait until nothing is removed above or below a path. The removal of a large tree delays no other one."""

    def is_free() -> bool:
        return not any(path.is_relative_to(each) or each.is_relative_to(path) for each in _removed)

    with _removals:
        _removals.wait_for(is_free)
        _removed.append(path)
    try:
        yield
    finally:
        with _removals:
            _removed.remove(path)
            _removals.notify_all()


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _remove_below(name: str, top: int) -> list[str]:
    """Remove a directory of the top, and return its subdirectories, which are at the top now."""
    moved: list[str] = []
    with suppress(OSError):
        below = os.open(name, _DIRECTORY, dir_fd=top)
        try:
            moved = _clear(below, top)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=top)
    return moved


def _clear(handle: int, top: int) -> list[str]:
    """Remove the files of a directory, move its subdirectories to the top, and return their new names."""
    moved = []
    with os.scandir(handle) as found:
        entries = list(found)
    for entry in entries:
        with suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=handle)
                continue
            if os.geteuid() != 0:
                os.chmod(entry.name, 0o700, dir_fd=handle)
            name = f".leaving-{os.urandom(16).hex()}"
            os.rename(entry.name, name, src_dir_fd=handle, dst_dir_fd=top)
            moved.append(name)
    return moved
