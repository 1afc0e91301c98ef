# SPDX-License-Identifier: Apache-2.0
"""The settings of the server. The options, the JOBAPI_* variables and the help all come from :class:`Settings`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from airflow_provider_jobapi.server import machine
from airflow_provider_jobapi.training.units import read_span, size_text

_SIZES = {"": 1, "b": 1}
_SIZES |= {f"{letter}{unit}": base**power for power, letter in enumerate("kmgt", 1)
           for unit, base in (("", 1000), ("b", 1000), ("ib", 1024))}  # fmt: skip


_INDEX = re.compile(r"([\w.-]+=)?https?://[^\s,]+", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")


class SettingsError(Exception):
    """A setting with which the server cannot start. The message names it and says what to do."""


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _programs(text: str) -> tuple[Path, ...]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("it is one or more interpreters with commas between them, such as python3.12,python3.6")
    return tuple(_program(name) for name in names)


def _program(text: str) -> Path:
    """The path of a Python: it is a path, a name in PATH, or a version, also one that pyenv has."""
    if "/" in text:
        return _path(text)
    version = text.removeprefix("python")
    if re.fullmatch(r"\d+(\.\d+)*", version):
        home = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
        found = [home / version, *sorted(home.glob(f"{version}.*"), key=_numbers, reverse=True)]
        for place in found:
            if (place / "bin" / "python").exists():
                return place / "bin" / "python"
        text = f"python{'.'.join(version.split('.')[:2])}"
    found_program = shutil.which(text)
    if found_program is None:
        raise ValueError(f"there is no {text} in PATH; name an interpreter by its path, its name or its version")
    return _path(found_program)


def _numbers(path: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", path.name)]


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,12}", text.strip()) else -1
        if not least <= number <= most:
            raise ValueError(f"it is a whole number from {least} to {most}")
        return number

    return read


def _span(text: str) -> timedelta:
    span = read_span(text)
    if span is None:
        raise ValueError("it is a span of time, such as 1h, 90 minutes, 30d or a number of seconds")
    return span


def _size(text: str) -> int:
    matched = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]*)\s*", text.lower())
    if matched is None or matched[2] not in _SIZES:
        raise ValueError("it is a size, such as 20GB, 512MiB or a number of bytes")
    return int(Decimal(matched[1]) * _SIZES[matched[2]])


def _switch(text: str) -> bool:
    word = text.strip().lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise ValueError("it is 1 or 0")
    return word in {"1", "true", "yes", "on"}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in re.split(r"[,\s]+", text) if name)
    if hidden := [name for name in names if name.startswith("JOBAPI_") or "=" in name]:
        raise ValueError(f"it is a list of variable names, and {hidden[0]} cannot be passed to jobs")
    return names


def _index(text: str) -> str:
    if not _INDEX.fullmatch(text.strip()):
        raise ValueError("it is the address of a package index, such as https://packages.example.com/simple")
    return text.strip()


def _indexes(text: str) -> tuple[tuple[str, str], ...]:
    found = [re.fullmatch(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?P<address>\S+)", each) for each in re.split(r"[,\s]+", text)]
    pairs = [(each["name"], each["address"]) for each in found if each]
    if len(pairs) < len([each for each in re.split(r"[,\s]+", text) if each]) or not all(
        _INDEX.fullmatch(address) or address.startswith("/") for _, address in pairs
    ):
        raise ValueError(
            "it is names and addresses with commas between them, such as pytorch=https://download.pytorch.org/whl/cpu"
        )
    if twice := [name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1]:
        raise ValueError(f"it names {twice[0]} twice")
    return tuple(pairs)


def _users(text: str) -> tuple[int, int]:
    matched = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", text)
    if matched is None or not 0 < int(matched[1]) <= int(matched[2]):
        raise ValueError("it is a range of user ids above 0 that no other account uses, such as 200000-200099")
    return int(matched[1]), int(matched[2])


def _setting(read: Callable[[str], Any], text: str) -> dict[str, Any]:
    """The metadata of a setting: the function that reads its text, and its help."""
    return {"read": read, "help": text}


def _default_root() -> Path:
    return _path(f"{os.environ.get('XDG_DATA_HOME') or '~/.local/share'}/jobapi")


_ROOT = _setting(_path, "where everything is kept")
_HOST = _setting(_text, "the address to listen on")
_PORT = _setting(_whole(0, 65_535), "the port to listen on; 0 takes a free one")
_URL = _setting(_text, "the address that clients use where a proxy stands in front, such as https://jobs.example.com")
_INSECURE = _setting(_switch, "listen on an address beyond this machine without TLS")
_TRUST = _setting(_switch, "let several clients share one user id, so that their jobs can read each other's files")
_USERS = _setting(_users, "FIRST-LAST: run each client's jobs under a user id of its own (needs root)")
_AS_ROOT = _setting(_switch, "let jobs run as root where the server does and --users does not give them other user ids")
_TOKENS = _setting(_span, "how long a token is good for")
_STORAGE = _setting(_size, "the most bytes that one client may store")
_LOG = _setting(_size, "the most bytes of one job's log")
_ENVIRONMENTS = _setting(_size, "the most bytes of all Python environments that are kept for later jobs")
_QUEUE = _setting(_whole(1, 100_000), "the most jobs of one client that may wait")
_PROCESSES = _setting(_whole(64, 4_194_304), "the most processes and threads of one job")
_RETENTION = _setting(_span, "how long an ended job is kept, with its log, its files and its model")
_WORK = _setting(_span, "how long the work folder of a job is kept that was not successful")
_UPLOADS = _setting(_span, "how long files are kept that were uploaded for a job that was never submitted")
_GRACE = _setting(_span, "the time from SIGTERM to SIGKILL when a job is stopped")
_ENGINE = _setting(_text, "where jobs run: local runs them as processes of this machine")
_CPUS = _setting(_whole(1, 4096), "CPUs that jobs may use together")
_GPUS = _setting(_whole(0, 1024), "GPUs that jobs may use together")
_MEMORY = _setting(_whole(1, 2**31), "megabytes that jobs may use together")
_PYTHON = _setting(_programs, "the Pythons of the jobs, the default first: paths, names or versions, as 3.12,3.6,2.7")
_JOB_ENV = _setting(_names, "names of the server's environment variables that jobs may see")
_INDEX_HELP = _setting(
    _index, "the package index of the jobs, in place of PyPI; its password in the keyring or the variable"
)
_INDEXES = _setting(
    _indexes, "NAME=ADDRESS,…: package indexes that requirements may name in --extra-index-url and others"
)
_URLS = _setting(_switch, "let requirements name addresses")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings with which the server starts. Sizes are bytes, ``memory`` is megabytes."""

    root: Path = field(default_factory=_default_root, metadata=_ROOT)
    host: str = field(default="127.0.0.1", metadata=_HOST)
    port: int = field(default=8787, metadata=_PORT)
    url: str = field(default="", metadata=_URL)
    insecure: bool = field(default=False, metadata=_INSECURE)
    trust_all_clients: bool = field(default=False, metadata=_TRUST)
    users: tuple[int, int] | None = field(default=None, metadata=_USERS)
    jobs_as_root: bool = field(default=False, metadata=_AS_ROOT)
    token_lifetime: timedelta = field(default=timedelta(hours=1), metadata=_TOKENS)
    storage_bound: int = field(default=20 * 10**9, metadata=_STORAGE)
    log_bound: int = field(default=100 * 10**6, metadata=_LOG)
    environment_bound: int = field(default=20 * 10**9, metadata=_ENVIRONMENTS)
    queue_bound: int = field(default=100, metadata=_QUEUE)
    process_bound: int = field(default=4096, metadata=_PROCESSES)
    retention: timedelta = field(default=timedelta(days=30), metadata=_RETENTION)
    work_retention: timedelta = field(default=timedelta(days=7), metadata=_WORK)
    upload_retention: timedelta = field(default=timedelta(days=1), metadata=_UPLOADS)
    grace: timedelta = field(default=timedelta(seconds=30), metadata=_GRACE)
    engine: str = field(default="local", metadata=_ENGINE)
    cpus: int = field(default_factory=machine.cpus, metadata=_CPUS)
    gpus: int = field(default_factory=machine.gpus, metadata=_GPUS)
    memory: int = field(default_factory=machine.memory, metadata=_MEMORY)
    python: tuple[Path, ...] = field(default=(Path(sys.executable),), metadata=_PYTHON)
    job_env: tuple[str, ...] = field(default=(), metadata=_JOB_ENV)
    index: str = field(default="", metadata=_INDEX_HELP)
    allow_index: tuple[tuple[str, str], ...] = field(default=(), metadata=_INDEXES)
    allow_requirement_urls: bool = field(default=False, metadata=_URLS)

    @classmethod
    def load(cls, options: Mapping[str, str | None], environ: Mapping[str, str]) -> Self:
        """Read the settings. An option of the command line takes precedence over its variable.

        :param options: The text of each option by the name of its field; None where it was not given.
        :param environ: The environment with the JOBAPI_* variables.
        :raises SettingsError: when a value is invalid; the message names the option or the variable.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = f"JOBAPI_{each.name.upper()}"
            given, text = f"--{each.name.replace('_', '-')}", options.get(each.name)
            if text is None:
                given, text = variable, environ.get(variable)
            if text is None:
                continue
            if given.startswith("-") and _PASSWORD.search(text):
                raise SettingsError(
                    f"{given} has a password, which every user of this machine can read there: put the address into "
                    f"the variable {variable}, or the password into the keyring and the user alone into the address."
                )
            try:
                values[each.name] = each.metadata["read"](text)
            except ValueError as error:
                raise SettingsError(f"{given} cannot be {_without_password(text)!r}: {error}.") from None
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        # Imported late: it brings pydantic, which `jobapi --help` does not need.
        from airflow_provider_jobapi.training.hosts import is_loopback

        if not (self.insecure or is_loopback(self.host)):
            raise SettingsError(
                f"--host {self.host} would send secrets over the network in plain text: listen on 127.0.0.1 and put a "
                "proxy with TLS in front, or pass --insecure on a network that you trust."
            )
        if self.users and os.geteuid() != 0:
            raise SettingsError("--users needs root, since each client's jobs run under a user id of their own.")
        if self.url and not _is_address(self.url):
            raise SettingsError(f"--url cannot be {self.url!r}: it is an address such as https://jobs.example.com.")

    def check_user_of_jobs(self) -> None:
        """Check that no job runs as root unless the settings allow it.

        :raises SettingsError: when the server's user is root, and neither ``users`` nor ``jobs_as_root`` is set.
        """
        if os.geteuid() == 0 and not (self.users or self.jobs_as_root):
            raise SettingsError(
                "The server runs as root, and each job would run as root, too: start it as another user, give the jobs "
                "of each client a user id of their own with --users FIRST-LAST, or pass --jobs-as-root where jobs may "
                "do everything on this machine, such as in a container of their own."
            )


def _without_password(text: str) -> str:
    return _PASSWORD.sub("://***@", text)


def _is_address(text: str) -> bool:
    try:
        port = urlsplit(text).port
    except ValueError:
        return False
    return port != 0 and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text) is not None


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add an option for each setting, or for those named; :meth:`Settings.load` reads their texts."""
    for each in fields(Settings):
        if names and each.name not in names:
            continue
        option, variable = f"--{each.name.replace('_', '-')}", f"JOBAPI_{each.name.upper()}"
        default = "" if each.default in ("", (), None, False, MISSING) else f" ({_shown(each)})"
        text = f"{each.metadata['help']}{default} [{variable}]"
        if each.metadata["read"] is _switch:
            parser.add_argument(option, dest=each.name, action="store_const", const="1", help=text)
        else:
            # Given more than once, a list has all of it.
            kind = _Joined if each.metadata["read"] is _indexes else "store"
            parser.add_argument(option, dest=each.name, metavar="X", help=text, action=kind)


class _Joined(argparse.Action):
    """Joins the texts of an option that is given more than once."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, f"{before},{values}" if before else values)


def _shown(setting: Field[Any]) -> str:
    default: Any = setting.default
    if setting.metadata["read"] is _programs:
        return ",".join(map(str, default))
    return size_text(default) if setting.metadata["read"] is _size else str(default)
