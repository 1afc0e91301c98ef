# SPDX-License-Identifier: Apache-2.0
"""The Python environments of jobs: which Python, where each environment stands, and which ones are kept.

Beneath ``<root>/clients/<client>/environments/`` stand ``venvs/<key>`` (made by the job's first step, see
``build_environment.py``), ``uv-cache/`` on the same file system, so that an environment is hard links, and
``locks/<key>``: a running job holds a shared lock on it, and its time is that of the last use. Each client has its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run import build_environment
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.training.status import Reason
from airflow_provider_jobapi.training.units import size_text

log = logging.getLogger(__name__)

_ASK = "import json, sys; print(json.dumps([getattr(sys, '_base_executable', sys.executable), sys.version.split()[0]]))"

_INSTALLER_SEES = (
    "UV_CONCURRENT", "UV_CONSTRAINT", "UV_DEFAULT_INDEX", "UV_EXCLUDE_NEWER", "UV_EXTRA_INDEX", "UV_FIND_LINKS",
    "UV_HTTP", "UV_INDEX", "UV_INSECURE_HOST", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_NO_BUILD", "UV_NO_INDEX",
    "UV_OFFLINE", "UV_ONLY_BINARY", "UV_OVERRIDE", "UV_PRERELEASE", "UV_REQUEST", "UV_SYSTEM_CERTS", "UV_TORCH_BACKEND",
)  # fmt: skip
"""Beginnings of the variables that say from where and how uv installs."""

_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_DIR")

_PATIENCE = 120
"""Seconds after which uv or a Python that does not answer is given up."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python of the jobs."""

    path: str
    version: str

    @classmethod
    def find(cls, python: Path) -> Interpreter:
        """The Python that stands behind a path; behind that of a virtual environment, the one it was made of.

        :raises SettingsError: when it does not run, or is too old.
        """
        try:
            answer = subprocess.run(
                [str(python), "-I", "-S", "-c", _ASK], capture_output=True, check=True, timeout=_PATIENCE
            )
            path, version = json.loads(answer.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise SettingsError(f"--python {python} is no Python 3 that runs ({error}); name another.") from None
        if tuple(int(part) for part in version.split(".")[:2]) < (3, 8):
            raise SettingsError(f"--python {python} is Python {version}; jobs need Python 3.8 or newer.")
        return cls(path, version)


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of one job: where its programs are, the step that makes it, the lock that keeps it."""

    programs: Path
    step: dict[str, Any]
    lock: Path


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did: sizes in bytes, and how many environments went."""

    before: int
    after: int
    removed: int

    def __str__(self) -> str:
        return (
            f"{self.removed} environments were removed; they and the cache of packages took {size_text(self.before)} "
            f"and take {size_text(self.after)} now."
        )


class Environments:
    """All environments of a server.

    :raises SettingsError: when the jobs' Python or uv cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.interpreter = Interpreter.find(settings.python)
        self._uv = _find_uv()
        self._builder = build_environment.__file__
        if settings.users:
            self._uv = _bring(self._uv, settings.root)
            self._builder = _bring(self._builder, settings.root)
            self._check_reach(settings.users[0])

    def of(self, client_id: str, uid: int | None, directory: Path, requirements: str) -> Environment:
        """The environment for a job.

        :param uid: The user id of the job's steps, where it is another one.
        :param directory: The job's directory; its ``tmp`` is there.
        :param requirements: The content of its ``requirements.txt``, empty where it has none.
        :raises OSError: when the places cannot be made.
        """
        home = self._place(client_id, uid)
        made_of = [self.interpreter.path, self.interpreter.version, platform.machine(), requirements.rstrip()]
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
        target, lock = home / "venvs" / key, home / "locks" / key
        lock.touch(mode=0o600)
        listing = directory / "requirements.txt"
        listing.write_text(requirements, encoding="utf-8")
        listing.chmod(0o644)
        python = self.interpreter.path
        step = {
            "name": "environment",
            "argv": [python, "-I", "-S", self._builder, self._uv, python, str(listing), str(target)],
            "env": _installer_environment(os.environ, home, directory / "tmp"),
            "cwd": str(directory / "tmp"),  # not the work folder: uv would read its uv.toml
            "failed": Reason.ENVIRONMENT_FAILED.value,
        }
        return Environment(target / "bin", step, lock)

    def collect(self) -> Collected:
        """Bring the environments below their bound: first goes what uv keeps for later, then what was not used longest.

        An environment that a job uses never goes.
        """
        return collect(self._settings, self._uv)

    def _place(self, client_id: str, uid: int | None) -> Path:
        home = layout.client_directory(self._settings.root, client_id) / "environments"
        for path, mode in ((home, 0o710), (home / "locks", 0o700), (home / "venvs", 0o700), (home / "uv-cache", 0o700)):
            path.mkdir(mode=mode, exist_ok=True)
            if uid is not None:
                os.chown(path, uid if path.name in {"venvs", "uv-cache"} else 0, uid)
            path.chmod(mode)
        return home

    def _check_reach(self, uid: int) -> None:
        """Whether a client's user can run what its jobs need."""
        for command, help_text in (
            ([self.interpreter.path, "-I", "-c", "import json"], "name one with --python that every user may run"),
            ([self._uv, "--version"], "choose a --root that every user may walk through"),
        ):
            try:
                subprocess.run(
                    command, user=uid, group=uid, extra_groups=[], cwd="/", env={}, capture_output=True, check=True,
                    timeout=_PATIENCE,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError):
                raise SettingsError(
                    f"With --users, jobs run as user id {uid}, and that user cannot run {command[0]}: {help_text}."
                ) from None


def collect(settings: Settings, uv: str | None = None) -> Collected:
    """Bring the environments of all clients below ``environment_bound``; see :meth:`Environments.collect`."""
    homes = sorted((settings.root / "clients").glob("*/environments"))
    before = after = _size(homes)
    removed = 0
    if after > settings.environment_bound:
        for home in homes:
            _clean_cache(uv or _find_uv(), home)
        after = _size(homes)
    for lock in sorted((lock for home in homes for lock in (home / "locks").iterdir()), key=_last_use):
        if after <= settings.environment_bound:
            break
        if _remove(lock):
            removed += 1
            after = _size(homes)
    return Collected(before, after, removed)


def _last_use(lock: Path) -> float:
    return lock.stat().st_mtime


def _remove(lock: Path) -> bool:
    """Remove the environment that this lock keeps, unless a job uses it."""
    target = lock.parent.parent / "venvs" / lock.name
    handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leaving = target.with_name(target.name + ".leaving")
        shutil.rmtree(leaving, ignore_errors=True)
        target.rename(leaving)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    shutil.rmtree(leaving, ignore_errors=True)
    return True


def _clean_cache(uv: str, home: Path) -> None:
    """Empty uv's cache as the user whose jobs may write it: as root, a link put there meanwhile would be followed."""
    cache = home / "uv-cache"
    command = [uv, "cache", "clean", "--quiet", "--cache-dir", str(cache)]
    try:
        owner = cache.stat().st_uid
        user: dict[str, Any] = {"user": owner, "group": owner, "extra_groups": []} if owner != os.geteuid() else {}
        subprocess.run(command, check=True, timeout=_PATIENCE, capture_output=True, stdin=subprocess.DEVNULL, **user)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("The cache of packages in %s could not be emptied: %s", home, error)


def _size(homes: list[Path]) -> int:
    """The bytes on disk below some directories, what is linked several times counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for status in _files(homes):
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def _files(folders: list[Path]) -> Iterator[os.stat_result]:
    waiting = [str(folder) for folder in folders]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # gone in the meantime
            continue


def _installer_environment(environ: Mapping[str, str], home: Path, temporary: Path) -> dict[str, str]:
    """What uv sees: where to install from and through which proxy, and nothing else of the server's."""
    names = [name for name in environ if name.startswith(_INSTALLER_SEES) or name.upper() in _NETWORK]
    return {name: environ[name] for name in names} | trusted_certificates(environ) | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "UV_CACHE_DIR": str(home / "uv-cache"),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }  # fmt: skip


def trusted_certificates(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that name certificates to trust."""
    return {name: environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if name in environ}


def _find_uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise SettingsError(
            "uv is missing, which makes the environments of jobs: pip install 'airflow-provider-jobapi[server]'."
        )
    return found


def _bring(program: str, to: Path) -> str:
    """Put a program where every user may run it."""
    place = to / "bin" / Path(program).name
    try:
        place.parent.mkdir(mode=0o755, exist_ok=True)
        place.parent.chmod(0o755)
        incoming = place.with_suffix(".new")
        shutil.copyfile(program, incoming)
        incoming.chmod(0o755)
        incoming.replace(place)
    except OSError as error:
        raise SettingsError(f"{program} cannot be copied to {place}: {error.strerror}.") from None
    return str(place)
