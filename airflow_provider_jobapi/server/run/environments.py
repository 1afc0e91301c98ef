# SPDX-License-Identifier: Apache-2.0
"""The Python environments of jobs: which interpreter, where each environment is, and the step that makes it.

Jobs of a client with the same requirements share an environment, which they cannot change: it is mounted read-only for
them. Where that is not possible, each job makes an environment of its own in its ``tmp``.

Each client has its own, below ``<root>/clients/<client>/environments/``: ``venvs/<key>``, made by the job's first step
(``build_environment.py``); ``uv-cache/`` on the same file system, so that an environment consists of hard links; and
``locks/<key>``, on which a running job holds a shared lock. ``environment_collection.py`` removes what is not used.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run import build_environment, environment_collection
from airflow_provider_jobapi.server.run.engines.local import can_protect
from airflow_provider_jobapi.server.run.environment_record import heading
from airflow_provider_jobapi.server.run.index_credentials import installer, netrc_of_user, secret_files
from airflow_provider_jobapi.server.run.interpreters import COMMAND_TIMEOUT_SECONDS, Interpreter, Interpreters
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.requirement_lines import InstallPlan, Installs, plain_address, with_wheels
from airflow_provider_jobapi.training.requirement_text import DEFAULT, EXTRA, LINKS
from airflow_provider_jobapi.training.status import Reason

_INSTALLER_SEES = (
    "UV_CONCURRENT", "UV_CONSTRAINT", "UV_DEFAULT_INDEX", "UV_EXCLUDE_NEWER", "UV_EXTRA_INDEX", "UV_FIND_LINKS",
    "UV_HTTP", "UV_INDEX", "UV_INSECURE_HOST", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_NO_BUILD", "UV_NO_INDEX",
    "UV_OFFLINE", "UV_ONLY_BINARY", "UV_OVERRIDE", "UV_PRERELEASE", "UV_REQUEST", "UV_SYSTEM_CERTS", "UV_TORCH_BACKEND",
)  # fmt: skip
"""Prefixes of the variables that say from where and how uv installs."""

_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_DIR")

_UV_COMPILES = (3, 7)
"""The oldest Python whose modules uv compiles; ``build_environment.py`` does it for older ones."""

_FORMAT = 3
"""Goes up when environments are made in another way, so that those of an earlier server are made again."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of one job.

    :ivar programs: The directory of its programs.
    :ivar step: The step of ``spec.json`` that makes it.
    :ivar lock: The file that the job holds a shared lock on while it runs; None where the environment is its own.
    :ivar mounts: What the job cannot write to or read, as the supervisor takes it.
    :ivar needs_relay: Whether the step needs the relay that adds the credentials of package indexes.
    :ivar record: What the record of its packages is made of.
    """

    programs: Path
    step: dict[str, Any]
    lock: Path | None
    mounts: dict[str, list[str]] = field(default_factory=dict)
    needs_relay: bool = False
    record: dict[str, str] = field(default_factory=dict)


class Environments:
    """All Python environments of a server.

    :raises SettingsError: when the jobs' Python or uv cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.interpreters = Interpreters(settings.python)
        self._installer = installer(
            _installer_variables(os.environ) | _own_index(settings),
            netrc_of_user(os.environ),
            dict(settings.allow_index),
        )
        self.installs = Installs(
            urls=settings.allow_requirement_urls,
            pythons=tuple(each.version for each in self.interpreters.all),
            indexes={name: plain_address(address) for name, address in settings.allow_index},
            own=self._installer.own,
        )
        self._uv = find_uv()
        self._builder = build_environment.__file__
        if settings.users:
            self._uv = _install_program(self._uv, settings.root)
            self._builder = _install_program(self._builder, settings.root)
            self._check_programs(settings.users[0])
        builder = self.interpreters.builder
        self._python = builder.path if builder else sys.executable
        self.can_protect = can_protect(settings.root, settings.users[0] if settings.users else os.geteuid())

    @property
    def shared(self) -> bool:
        """Whether jobs of a client share environments; jobs that run as root could change them in any case."""
        return self.can_protect or (os.geteuid() == 0 and not self._settings.users)

    @property
    def credentials(self) -> str:
        """The credentials of package indexes, for the relay of a supervisor; empty where there are none."""
        return self._installer.credentials

    def of(
        self,
        client_id: str,
        uid: int | None,
        directory: Path,
        requirements: str,
        interpreter: Interpreter | None = None,
    ) -> Environment:
        """Plan the environment of a job.

        :param uid: The user id of the job's steps, or None for the server's own.
        :param directory: The job's directory, which has a ``tmp``.
        :param requirements: The content of ``requirements.txt``; empty where the job has none.
        :param interpreter: The job's Python, or None for the default.
        :raises OSError: when the directories cannot be made.
        """
        listing = directory / "requirements.txt"
        listing.write_text(requirements, encoding="utf-8")
        listing.chmod(0o644)
        plan = InstallPlan.of(requirements, self.installs)
        plan.lines, wheels = with_wheels(plan.lines, directory / "work")
        more = self._variables_of(plan)
        tmp, python, lock = directory / "tmp", interpreter or self.interpreters.default, None
        home, target = tmp / "environment", tmp / "environment" / "venv"
        if self.shared:
            home = self._make_home(client_id, uid)
            key = _key(python, requirements, more | _hashes(directory / "inputs", wheels))
            target, lock = home / "venvs" / key, home / "locks" / key
            lock.touch(mode=0o600)
        mounts = {"hidden": secret_files(os.environ)} if self.can_protect and uid is None else {}
        variables = _installer_environment(home, tmp)
        if self.can_protect and python.minor >= _UV_COMPILES:  # Python could not write it later
            variables["UV_COMPILE_BYTECODE"] = "1"
        environ = self._installer.variables | more | variables
        step = {
            "name": "environment",
            "argv": [
                *(self._python, "-I", "-S", self._builder, self._uv, python.path, str(listing), str(target)),
                python.version,
                *_installer_options(plan, requirements, directory, self._installer.variables.get("UV_CONSTRAINT", "")),
            ],
            "env": {name: value for name, value in environ.items() if value},
            "cwd": str(tmp),  # not the work folder: uv would read its uv.toml
            "failed": Reason.ENVIRONMENT_FAILED.value,
            **mounts,
        }
        if self.can_protect:
            mounts = mounts | {"read_only": [str(home)]}
        about = {"target": str(target), "heading": heading(directory.name, python.version, requirements)}
        return Environment(target / "bin", step, lock, mounts, bool(self.credentials), about)

    def _variables_of(self, plan: InstallPlan) -> dict[str, str]:
        """The installer's variables about what a job asks for: package indexes that it names, and prereleases."""
        addresses = {use: [self._installer.indexes[name] for name in names] for use, names in plan.indexes.items()}
        given, variables = self._installer.variables, {"UV_PRERELEASE": "allow"} if plan.prereleases else {}
        if addresses[DEFAULT]:
            variables |= {"UV_DEFAULT_INDEX": addresses[DEFAULT][-1], "UV_INDEX_URL": ""}
        if addresses[EXTRA]:
            there = given.get("UV_EXTRA_INDEX_URL", "").split()
            variables["UV_EXTRA_INDEX_URL"] = " ".join([*there, *addresses[EXTRA]])
            # As pip does it. uv's own way takes a package from the first index that has any version of it, and an index
            # of a few packages may have old versions of others, too.
            variables["UV_INDEX_STRATEGY"] = given.get("UV_INDEX_STRATEGY", "unsafe-best-match")
        if addresses[LINKS]:
            there = [each for each in given.get("UV_FIND_LINKS", "").split(",") if each]
            variables["UV_FIND_LINKS"] = ",".join([*there, *addresses[LINKS]])
        return variables

    def collect(self) -> environment_collection.Collected:
        """Bring the environments below their bound."""
        return environment_collection.collect(self._settings, self._uv)

    def _make_home(self, client_id: str, uid: int | None) -> Path:
        home = layout.client_directory(self._settings.root, client_id) / "environments"
        for path, mode in ((home, 0o710), (home / "locks", 0o700), (home / "venvs", 0o700), (home / "uv-cache", 0o700)):
            path.mkdir(mode=mode, exist_ok=True)
            if uid is not None:
                os.chown(path, uid if path.name in {"venvs", "uv-cache"} else 0, uid)
            path.chmod(mode)
        return home

    def _check_programs(self, uid: int) -> None:
        """Check that a client's user can run the programs that its jobs need."""
        for command, help_text in (
            *(
                ([each.path, "-E", "-c", "import json"], "name one with --python that every user may run")
                for each in self.interpreters.all
            ),
            ([self._uv, "--version"], "choose a --root that every user may walk through"),
        ):
            try:
                subprocess.run(
                    command, user=uid, group=uid, extra_groups=[], cwd="/", env={}, capture_output=True, check=True,
                    timeout=COMMAND_TIMEOUT_SECONDS,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError):
                raise SettingsError(
                    f"With --users, jobs run as user id {uid}, and that user cannot run {command[0]}: {help_text}."
                ) from None


def _key(python: Interpreter, requirements: str, more: Mapping[str, str]) -> str:
    made_of: list[Any] = [_FORMAT, python.path, python.version, platform.machine(), requirements.rstrip()]
    if more:
        made_of.append(sorted(more.items()))
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _hashes(inputs: Path, paths: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each wheel of a job, which differ between jobs with the same requirements."""
    found = {}
    for path in paths:
        with (inputs / path).open("rb") as file:
            found[f"./{path}"] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _own_index(settings: Settings) -> dict[str, str]:
    """The variables of the server's own package index, where a setting names it."""
    return {"UV_DEFAULT_INDEX": settings.index, "UV_INDEX_URL": ""} if settings.index else {}


def _installer_options(plan: InstallPlan, requirements: str, directory: Path, constraints: str = "") -> list[str]:
    """The options of the installer for a job's requirements; none where it reads requirements.txt as it is.

    :param constraints: The server's own files of constraints, of which uv reads none beside such options.
    """
    files = [("-r", "install.txt", plan.lines if plan.lines != requirements else "")]
    files.append(("-c", "constraints.txt", plan.constraints))
    options = ["-r", str(directory / "requirements.txt")]
    for option, name, text in files:
        if not text:
            continue
        place = directory / name
        place.write_text(text, encoding="utf-8")
        place.chmod(0o644)
        options = [option, str(place)] if option == "-r" else [*options, option, str(place)]
    if plan.constraints:
        options += [part for place in constraints.split() for part in ("-c", place)]
    options += plan.options
    return options if len(options) > 2 or files[0][2] else []


def _installer_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The server's variables about package indexes and proxies."""
    names = [name for name in environ if name.startswith(_INSTALLER_SEES) or name.upper() in _NETWORK]
    return {name: environ[name] for name in names} | trusted_certificates(environ)


def _installer_environment(home: Path, temporary: Path) -> dict[str, str]:
    """The other environment variables of uv."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "UV_CACHE_DIR": str(home / "uv-cache"),
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }  # fmt: skip


def trusted_certificates(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the server that name trusted certificates."""
    return {name: environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if name in environ}


def find_uv() -> str:
    """Find the program uv.

    :raises SettingsError: when it is not installed.
    """
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise SettingsError(
            "The program uv is not installed; it makes the Python environments of jobs: "
            "pip install 'airflow-provider-jobapi[server]'."
        )
    return found


def _install_program(program: str, root: Path) -> str:
    """Copy a program below the root, where every user may run it."""
    place = root / "bin" / Path(program).name
    try:
        place.parent.mkdir(mode=0o755, exist_ok=True)
        place.parent.chmod(0o755)
        if place.is_file() and filecmp.cmp(program, place, shallow=False):
            return str(place)  # a full disk has no room for another copy
        incoming = place.with_suffix(".new")
        shutil.copyfile(program, incoming)
        incoming.chmod(0o755)
        incoming.replace(place)
    except OSError as error:
        raise SettingsError(f"{program} cannot be copied to {place}: {error.strerror}.") from None
    return str(place)
