# SPDX-License-Identifier: Apache-2.0
"""Keep the credentials of package indexes and proxies from jobs and from the builds of packages.

The installer gets addresses without credentials, and the relay that the supervisor starts beside it
(``supervisor/index_relay.py``) adds them. An index ``https://user:secret@host/simple/`` is ``http://host:443/simple/``
for the installer, with the relay as its proxy: an address that stays the same, so that the cache of packages keeps its
use, and that names the index in messages.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import netrc
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from airflow_provider_jobapi.server.config import SettingsError

log = logging.getLogger(__name__)

PYPI = "https://pypi.org/simple"
"""The index of an installer that is told none."""

RELAY = "{relay}"
"""Stands for the relay's address in the variables of a step; only the supervisor knows the address."""

_KEYRING_SECONDS = 30
"""The time that the program keyring gets to answer."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_INDEXES = re.compile(r"UV_(DEFAULT_INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX|FIND_LINKS)")
_LOGIN = re.compile(r"UV_INDEX_(?P<name>[A-Z0-9_]+)_(?P<part>USERNAME|PASSWORD)")
_ADDRESS = re.compile(
    r"(?:(?<!\S)(?P<name>[\w.-]+)=)?(?P<scheme>https?)://(?:(?P<login>[^\s/?#]*)@)?(?P<host>[^\s/?#@,]+)"
    r"(?P<rest>\S*?)(?=\s|$|,\w+:)",
    re.IGNORECASE,
)
_PORT = re.compile(r":\d+$")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Installer:
    """How the installer reaches its indexes.

    :ivar variables: Its variables about indexes and proxies, without any credentials.
    :ivar credentials: What the relay needs to know, as JSON; empty where no relay is needed.
    :ivar indexes: The addresses of the package indexes that jobs may name, as the installer gets them, by name.
    :ivar own: The addresses of the indexes that every job installs from, without credentials.
    """

    variables: dict[str, str]
    credentials: str
    indexes: dict[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()


def installer(
    environ: Mapping[str, str], netrc_file: Path | None = None, allowed: Mapping[str, str] | None = None
) -> Installer:
    """Part the credentials from the variables of an installer.

    :param environ: Variables that name package indexes and proxies.
    :param netrc_file: A file with the logins of hosts, if there is one.
    :param allowed: The package indexes that jobs may name, by name.
    :raises SettingsError: when there are credentials that the relay cannot add.
    """
    parts = _Parts(environ, _read_netrc(netrc_file))
    variables = {name: parts.without_credentials(name, value) for name, value in environ.items()}
    named = {name: parts.of_index(name, address) for name, address in (allowed or {}).items()}
    has_default = any(environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX"))
    own = frozenset(parts.own | (set() if has_default else {PYPI}))
    # Sorted, a name in lower case comes last: it is meant where both are set, as with uv and curl.
    lowered = {name.lower(): value for name, value in sorted(environ.items())}
    proxies = {name: value for name, value in lowered.items() if name in _PROXIES}
    with_login = [name for name, value in proxies.items() if "@" in value]
    if not parts.realms and not with_login:
        return Installer(dict(environ), "", named, own)
    if odd := [name for name, value in proxies.items() if not re.match(r"(https?://)?[^:/]", value, re.IGNORECASE)
               or value.lower().startswith("socks")]:  # fmt: skip
        raise SettingsError(
            f"{odd[0].upper()} cannot be a SOCKS proxy where a package index or a proxy needs credentials: name an "
            "HTTP proxy, or an index without credentials."
        )
    told = {
        "realms": parts.realms,
        "proxies": {"https": proxies.get("https_proxy") or proxies.get("all_proxy") or "",
                    "http": proxies.get("http_proxy") or proxies.get("all_proxy") or ""},
        "no_proxy": lowered.get("no_proxy", ""),
        "certificates": _certificates(environ),
        "insecure": environ.get("UV_INSECURE_HOST", "").split(),
    }  # fmt: skip
    kept = {
        name: value
        for name, value in variables.items()
        if not _LOGIN.fullmatch(name) and name.lower() not in {*_PROXIES, "no_proxy"}
    }
    relay = dict.fromkeys((*_PROXIES, *map(str.upper, _PROXIES)), RELAY)
    return Installer(kept | relay, json.dumps(told), named, own)


class _Parts:
    """The variables of an installer in parts: addresses, and the credentials for them."""

    def __init__(self, environ: Mapping[str, str], logins: Mapping[str, tuple[str, str]]) -> None:
        self.realms: dict[str, dict[str, Any]] = {}
        self.own: set[str] = set()
        self._logins = logins
        self._named: dict[str, dict[str, str]] = {}
        for name, value in environ.items():
            if matched := _LOGIN.fullmatch(name):
                self._named.setdefault(matched["name"], {})[matched["part"]] = value

    def without_credentials(self, variable: str, value: str) -> str:
        """Return a variable's value with the addresses that the installer gets."""
        if variable.lower() in {*_PROXIES, "no_proxy"} or _LOGIN.fullmatch(variable):
            return value
        is_index = _INDEXES.fullmatch(variable) is not None
        if is_index and variable != "UV_FIND_LINKS":
            self.own |= {f"{each['scheme']}://{each['host']}{each['rest']}" for each in _ADDRESS.finditer(value)}
        return _ADDRESS.sub(lambda matched: self._relayed(matched, is_index), value)

    def of_index(self, name: str, address: str) -> str:
        """Return the address of a named index as the installer gets it."""
        return _ADDRESS.sub(lambda matched: self._relayed(matched, True), f"{name}={address}").removeprefix(f"{name}=")

    def _relayed(self, matched: re.Match[str], is_index: bool) -> str:
        login = self._login(matched, is_index)
        if login is None:
            return matched[0]
        scheme, rest = matched["scheme"].lower(), matched["rest"]
        host = matched["host"].lower()
        try:
            port = urlsplit(f"//{host}").port or _PORTS[scheme]
        except ValueError:
            return f"{scheme}://{host}{rest}"  # no such port, which the installer reports
        place = f"{_PORT.sub('', host)}:{port}"
        realm = self.realms.setdefault(f"{scheme}://{place}", {"logins": []})
        path = urlsplit(rest).path or "/"
        authorization = base64.b64encode(":".join(login).encode()).decode()
        realm["logins"].append(
            {"path": path.rstrip("/") + "/" if is_index else path, "authorization": f"Basic {authorization}"}
        )
        name = f"{matched['name']}=" if matched["name"] else ""
        return f"{name}http://{place}{rest}"

    def _login(self, matched: re.Match[str], is_index: bool) -> tuple[str, str] | None:
        """The user name and password for an address, or None."""
        if matched["login"]:
            user, _, password = map(unquote, matched["login"].partition(":"))
            if is_index and not password:
                password = _of_keyring(f"{matched['scheme']}://{matched['host']}{matched['rest']}", user)
            return user, password
        if is_index and (named := self._named.get(re.sub(r"\W", "_", matched["name"] or "").upper())):
            return named.get("USERNAME", ""), named.get("PASSWORD", "")
        host = _PORT.sub("", matched["host"].lower())
        return self._logins.get(host) or self._logins.get("") if is_index else None


def _of_keyring(address: str, user: str) -> str:
    """The password of an index's user in the keyring of the server's user; empty where there is none.

    The keyring is asked for the address and then for the host, as pip does it.
    """
    try:
        found = _ask_keyring(address, user) or _ask_keyring(urlsplit(address).netloc, user)
    except Exception:
        log.warning(
            "The keyring could not be asked for the password of the package index at %s.", address, exc_info=True
        )
        return ""
    return found or ""


def _ask_keyring(place: str, user: str) -> str | None:
    """Ask the keyring by its library, or by its program where that is installed elsewhere."""
    try:
        return cast("str | None", importlib.import_module("keyring").get_password(place, user))
    except ImportError:
        program = shutil.which("keyring")
    if program is None:
        return None
    command = [program, "get", place, user]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=_KEYRING_SECONDS)
    return done.stdout.strip() if done.returncode == 0 else None


def netrc_of_user(environ: Mapping[str, str]) -> Path:
    """The file with the logins of hosts, where the server's user has one."""
    return Path(environ.get("NETRC") or Path("~/.netrc").expanduser())


def _read_netrc(file: Path | None) -> dict[str, tuple[str, str]]:
    """The logins of a netrc file by host, that of ``default`` under an empty name."""
    if file is None or not file.is_file():
        return {}
    try:
        hosts = netrc.netrc(str(file)).hosts
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return {}
    return {("" if host == "default" else host.lower()): (login or "", password or "")
            for host, (login, _, password) in hosts.items()}  # fmt: skip


def _certificates(environ: Mapping[str, str]) -> list[str]:
    named = [environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR") if environ.get(name)]
    try:
        import certifi
    except ImportError:
        return named
    return [*named, certifi.where()]


def secret_files(environ: Mapping[str, str]) -> list[str]:
    """Return the files of the server's user that may have the credentials of indexes, as far as they exist."""
    home = Path("~").expanduser()
    places = [netrc_of_user(environ)]
    places += [home / name for name in (".netrc", "_netrc", ".pypirc", ".pip", ".config/pip", ".config/uv",
                                        ".local/share/uv/credentials", ".local/share/python_keyring")]  # fmt: skip
    places += [Path(environ[name]) for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE") if environ.get(name)]
    return sorted({os.path.realpath(place) for place in places if place.exists() and str(place) != os.devnull})
