# SPDX-License-Identifier: Apache-2.0
"""Check and convert the values of a connection: addresses, files, booleans, times, proxies.

A :data:`Reader` is called for a value of the connection's extra that is not empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.training.hosts import is_loopback

Reader = Callable[[str, Any], Any]
"""Takes the key and the value; answers the value to use, or raises :class:`ConnectionProblem`."""

DEFAULT_PORTS = {"http": 80, "https": 443}
LARGEST_PORT = 65_535

LONGEST_TIME = 3_600.0
"""Seconds; the longest time that a connection may set."""


def travels_in_clear(address: str) -> bool:
    """Whether requests to this URL leave this machine unencrypted."""
    parts = urlsplit(address)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def address(host: str, port: int | None, schema: str | None) -> str:
    """The service's address, without a trailing slash.

    :param host: A host, or a whole address.
    :param port: The port, where the host does not contain it. Airflow's forms write 0 for an empty field.
    :param schema: ``http`` or ``https`` (the default), where the host does not contain it.
    :raises ConnectionProblem: when it is not an HTTP address.
    """
    scheme, separator, place = host.strip().partition("://")
    if not separator:
        scheme, place = (schema or "https").strip().lower(), host.strip()
        if scheme not in DEFAULT_PORTS:
            raise ConnectionProblem(f"The connection's schema cannot be {scheme!r}: it is http or https.")
    parts = check_url("host", f"{scheme}://{_bracketed(place)}", base=True)
    if port and not 0 < port <= LARGEST_PORT:
        raise ConnectionProblem(f"The connection's port cannot be {port}: it is 1 to {LARGEST_PORT}.")
    if port and parts.port is None and port != DEFAULT_PORTS[parts.scheme]:
        parts = parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}")
    return parts.geturl().rstrip("/")


def _bracketed(place: str) -> str:
    """Write an IPv6 address as addresses have it: ``[::1]`` for ``::1``."""
    host, slash, path = place.partition("/")
    try:
        IPv6Address(host)
    except ValueError:
        return place
    return f"[{host}]{slash}{path}"


def known(extra: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """The values of the extra that are not empty.

    :param names: The keys that are allowed.
    :raises ConnectionProblem: naming a key that is not.
    """
    given = {name: value for name, value in (extra or {}).items() if value is not None and value != ""}
    if unknown := sorted(set(given) - set(names)):
        raise ConnectionProblem(
            f"The connection's extra has {unknown[0]!r}, which is not known; it may hold {', '.join(names)}."
        )
    return given


def check_url(name: str, given: str, *, secrets: bool = False, base: bool = False) -> SplitResult:
    """Check an address. The errors do not repeat it, since it may contain a secret by mistake.

    :param name: The field, for the errors.
    :param secrets: Whether a user and a password may be in it.
    :param base: Whether paths are appended to it, so that it may have no query.
    :raises ConnectionProblem: when it is not an HTTP address of this kind.
    """
    try:
        parts = urlsplit(given.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f\\]", given.strip()):
        raise ConnectionProblem(
            f"The connection's {name} is not an address: it is one such as https://jobs.example.com."
        )
    if "@" in parts.netloc and not secrets:
        raise ConnectionProblem(
            f"The connection's {name} holds a user name; put the user into login and the secret into password."
        )
    if base and (parts.query or parts.fragment):
        raise ConnectionProblem(
            f"The connection's {name} ends in a query; it is an address such as https://jobs.example.com."
        )
    return parts


def entered(_name: str, value: Any) -> Any:
    """Take a value as it was entered."""
    return value


def text(name: str, value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ConnectionProblem(f"The connection's extra {name} is a {type(value).__name__}; it is a text.")
    return value


def stripped(name: str, value: Any) -> str:
    """Read a text without the blanks around it."""
    return text(name, value).strip()


def url(name: str, value: Any) -> str:
    """Read an HTTP address, which may have a query."""
    return check_url(f"extra {name}", text(name, value)).geturl()


def base_url(name: str, value: Any) -> str:
    """Read an HTTP address to which paths are appended; answers it without a trailing slash."""
    return check_url(f"extra {name}", text(name, value), base=True).geturl().rstrip("/")


def proxy(name: str, value: Any) -> str:
    """Read the address of an HTTP proxy, which may contain a user and a password."""
    return check_url(f"extra {name}", text(name, value), secrets=True).geturl()


def file(name: str, value: Any) -> str:
    """Read the path of a file that is on this machine."""
    path = text(name, value)
    if not os.path.exists(path):  # noqa: PTH110 -- a text, as ssl and requests take it
        raise ConnectionProblem(f"The connection's extra {name} names {path}, which is not on this machine.")
    return path


def boolean(name: str, value: Any) -> bool:
    """Read true or false, in any of the usual spellings."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    read = words.get(str(value).strip().lower())
    if read is None:
        raise ConnectionProblem(f"The connection's extra {name} cannot be {value!r}: it is true or false.")
    return read


def seconds(name: str, value: Any) -> float:
    """Read a time in seconds, of at most an hour."""
    try:
        read = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        read = float("nan")
    if not 0 < read <= LONGEST_TIME:
        raise ConnectionProblem(f"The connection's extra {name} cannot be {value!r}: it is seconds, such as 30.")
    return read


def seconds_between(least: float, most: float, example: float) -> Reader:
    """Make the reader of a time in seconds that has bounds of its own."""

    def read(name: str, value: Any) -> float:
        found = seconds(name, value)
        if not least <= found <= most:
            raise ConnectionProblem(
                f"The connection's extra {name} cannot be {found:g}: it is seconds from {least:g} to {most:g}, such "
                f"as {example:g}."
            )
        return found

    return read


def one_of(choices: Iterable[str]) -> Reader:
    """Make the reader of a value that is one of a few texts."""
    allowed = {str(choice): choice for choice in choices}
    names = " or ".join(allowed) if len(allowed) <= 2 else f"one of {', '.join(allowed)}"

    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ConnectionProblem(f"The connection's extra {name} cannot be {value!r}: it is {names}.")
        return allowed[value]

    return read


def matching(pattern: str, allowed: str) -> Reader:
    """Make the reader of a text that a regular expression allows and that does not contain ``..``.

    :param allowed: What is allowed, in words, for the error.
    """

    def read(name: str, value: Any) -> str:
        given = text(name, value).strip()
        if not re.fullmatch(pattern, given) or ".." in given:
            raise ConnectionProblem(f"The connection's extra {name} cannot be {given[:80]!r}: it is {allowed}.")
        return given

    return read


bucket_name = matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits, '.' and '-'")
"""The reader of the name of a bucket."""
bucket_folder = matching(
    r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", "letters, digits, '_', '.' and '-', in parts separated by '/'"
)
"""The reader of a folder in a bucket."""


def authorities(ca_bundle: str | None) -> bytes | None:
    """The PEM text of the certificate authorities that the connection names, for storages, which take no directory.

    :raises ConnectionProblem: when it is not one PEM file.
    """
    if ca_bundle is None:
        return None
    try:
        return Path(ca_bundle).read_bytes()
    except OSError as error:
        raise ConnectionProblem(
            f"The connection's extra ca_bundle cannot be read ({type(error).__name__}): for the storage it must be one "
            "PEM file."
        ) from None


def environment_proxy(address: str) -> str | None:
    """The proxy that the environment names for this URL.

    :raises ConnectionProblem: for a proxy that does not use HTTP.
    """
    from requests.utils import get_environ_proxies, select_proxy

    found = select_proxy(address, get_environ_proxies(address))
    if not found:
        return None
    proxy = found if "://" in found else f"http://{found}"
    if not proxy.startswith(("http://", "https://")):
        scheme = proxy.partition(":")[0]
        raise ConnectionProblem(f"The environment names a {scheme} proxy; set the connection's proxy to an HTTP proxy.")
    return proxy


def roots(ca_bundle: str | None) -> str:
    """The PEM file, or directory, of the certificate authorities to trust.

    :param ca_bundle: What the connection names; by default the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, else
        the public authorities.
    """
    import certifi

    named = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or certifi.where()
