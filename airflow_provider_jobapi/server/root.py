# SPDX-License-Identifier: Apache-2.0
"""The root directory of a server: what stands where, who may look into it, and that one server only uses it.

::

    <root>/lock                                  held while a server runs
    <root>/jobapi.sqlite                         clients, jobs, the index of the storage
    <root>/keys/                                 what signs the tokens
    <root>/clients/<client>/data/                the bytes of the client's objects
    <root>/clients/<client>/jobs/<job id>/       one job: inputs, work folder, log, exit record
    <root>/clients/<client>/environments/        Python environments
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_jobapi.server.config import SettingsError


def prepare(root: Path) -> None:
    """Make the root directory and what stands in it, for the server's own user alone.

    Jobs under user ids of their own must be able to walk through to their work folders, hence 0711.

    :raises SettingsError: when it cannot be made.
    """
    try:
        for path, mode in ((root, 0o711), (root / "keys", 0o700), (root / "clients", 0o711)):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)
    except OSError as error:
        raise SettingsError(f"The root {root} cannot be used: {error.strerror}; choose another with --root.") from None


class Held(SettingsError):
    """Another server holds the root; ``process`` is its id, where it could be read."""

    def __init__(self, root: Path, process: int | None) -> None:
        super().__init__(
            f"A jobAPI server (process {process}) is running on {root}: stop it first, or choose another --root."
        )
        self.process = process


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the root for this process.

    :raises Held: when another server holds it.
    """
    handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 20).strip()
            raise Held(root, int(owner) if owner.isdigit() else None) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def client_directory(root: Path, client_id: str) -> Path:
    """Where everything of one client stands."""
    return root / "clients" / client_id


def job_directory(root: Path, client_id: str, job_id: str) -> Path:
    """Where everything of one job stands."""
    return client_directory(root, client_id) / "jobs" / job_id


def make_client(root: Path, client_id: str, uid: int | None) -> None:
    """Make a client's directories.

    The client's own user may walk through them and owns none, so that no job can put a link in a directory's place.

    :param uid: The user id of the client's jobs, where it has its own.
    """
    home = client_directory(root, client_id)
    for path, mode in ((home, 0o710), (home / "data", 0o700), (home / "jobs", 0o710)):
        path.mkdir(mode=mode, exist_ok=True)
        if uid is not None:
            os.chown(path, 0, uid)
        path.chmod(mode)


def make_job(home: Path) -> None:
    """Make a job's directory, empty; what a crash may have left there goes."""
    remove_tree(home)
    home.mkdir(mode=0o710)
    home.chmod(0o710)
    os.chown(home, -1, home.parent.stat().st_gid)


def remove_tree(path: Path) -> None:
    """Remove a directory and all that is in it, whatever a job did to the rights of its own directories."""
    if os.geteuid() != 0:
        for folder, names, _files in os.walk(path):
            for name in names:
                if not os.path.islink(place := os.path.join(folder, name)):  # noqa: PTH118, PTH114
                    os.chmod(place, 0o700)  # noqa: PTH101
    shutil.rmtree(path, ignore_errors=True)
