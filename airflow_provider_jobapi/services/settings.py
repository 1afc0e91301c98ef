# SPDX-License-Identifier: Apache-2.0
"""The settings that connections to any service have in common: addresses, files, switches, times, proxies."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_jobapi.exceptions import ConnectionProblem


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def travels_in_clear(address: str) -> bool:
    """Whether what is sent to this URL leaves this machine unencrypted."""
    parts = urlsplit(address)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def address(host: str | None, port: int | None, schema: str | None, whose: str) -> str:
    """The service's address, without a slash at its end.

    :param whose: The service's name, for the sentences.
    """
    if not host or not host.strip():
        raise ConnectionProblem(
            f"The connection has no host: it is the {whose}'s address, such as https://jobs.example.com."
        )
    given = host.strip()
    if "://" not in given:
        scheme = (schema or "https").strip().lower()
        if scheme not in {"http", "https"}:
            raise ConnectionProblem(f"The connection's schema cannot be {scheme!r}: it is http or https.")
        given = f"{scheme}://{given}"
    parts = url("host", given)
    if port and parts.port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{port}")
    return parts.geturl().rstrip("/")


def known(extra: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """What the extra gives; empty texts count as not given.

    :param names: What it may hold.
    :raises ConnectionProblem: naming what is not known.
    """
    given = {name: value for name, value in (extra or {}).items() if value is not None and value != ""}
    if unknown := sorted(set(given) - set(names)):
        raise ConnectionProblem(
            f"The connection's extra has {unknown[0]!r}, which is not known; it may hold {', '.join(names)}."
        )
    return given


def proxy(extra: Mapping[str, Any]) -> str | None:
    """The HTTP proxy that the connection names; its address may hold a user and a password."""
    given = text(extra, "proxy")
    return url("extra proxy", given, secrets=True).geturl() if given else None


_PLAIN = frozenset({"host", "extra iam_url", "extra obs_endpoint"})
"""Addresses to which paths are appended."""


def url(name: str, given: str, *, secrets: bool = False) -> SplitResult:
    """Check an address; no sentence repeats it, since a person may have put a secret into it."""
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
    if name in _PLAIN and (parts.query or parts.fragment):
        raise ConnectionProblem(
            f"The connection's {name} ends in a query; it is an address such as https://jobs.example.com."
        )
    return parts


def text(extra: Mapping[str, Any], name: str) -> str | None:
    """A text of the extra."""
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        raise ConnectionProblem(f"The connection's extra {name} is a {type(value).__name__}; it is a text.")
    return value


def file(extra: Mapping[str, Any], name: str) -> str | None:
    """The path of a file that is on this machine."""
    path = text(extra, name)
    if path is not None and not os.path.exists(path):  # noqa: PTH110 -- a text, as ssl and requests take it
        raise ConnectionProblem(f"The connection's extra {name} names {path}, which is not on this machine.")
    return path


def authorities(ca_bundle: str | None) -> bytes | None:
    """The PEM text of the authorities that the connection names, for storages, which take no directory of them."""
    if ca_bundle is None:
        return None
    try:
        return Path(ca_bundle).read_bytes()
    except OSError as error:
        raise ConnectionProblem(
            f"The connection's extra ca_bundle cannot be read ({type(error).__name__}): for the storage it must be one "
            "PEM file."
        ) from None


def switch(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """True or false, in whichever spelling."""
    value = extra.get(name, default)
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    read = words.get(str(value).strip().lower())
    if read is None:
        raise ConnectionProblem(f"The connection's extra {name} cannot be {value!r}: it is true or false.")
    return read


def seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    """A time in seconds, of at most an hour."""
    value = extra.get(name, default)
    try:
        read = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        read = float("nan")
    if not 0 < read <= 3_600:
        raise ConnectionProblem(f"The connection's extra {name} cannot be {value!r}: it is seconds, such as 30.")
    return read


def environment_proxy(address: str) -> str | None:
    """The proxy that the environment names for this URL.

    :raises ConnectionProblem: for a proxy that does not speak HTTP.
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
    """The PEM file, or directory, of the authorities to trust.

    :param ca_bundle: What the connection names; by default the environment says it, else they are the public ones.
    """
    import certifi

    named = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or certifi.where()
