# SPDX-License-Identifier: Apache-2.0
"""Clients of Docker's API, with the library and the hook of the provider docker, for services to use.

That hook reads its connection, a registry's, by itself, which a triggerer cannot do in its event loop, and logs in at
the registry before each use of the engine; where an engine does not answer, it does not say why; and the variable
REQUESTS_CA_BUNDLE has more say than the authority that it is given. So the client is made here, the hook reads the
certificates, and user and password of the registry go with the pulls and pushes of its images only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import ConnectionProblem

if TYPE_CHECKING:
    from airflow.sdk import Connection

_HOOK = "airflow.providers.docker.hooks.docker"
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com"})


class DockerOfHook:
    """A container engine.

    :param url: Its address.
    :param certificates: The files of the authority, the client's certificate and its key; all of them or none.
    :param timeout: Seconds to wait for an answer.
    :param extra: The extra that provides this provider, for the error of one that is missing.
    """

    def __init__(self, url: str, certificates: tuple[str, str, str] | None, timeout: float, extra: str) -> None:
        self._url = url
        self._certificates = certificates
        self._timeout = timeout
        self._extra = extra

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    def __call__(self) -> Any:
        """Return a ``docker.APIClient``, after a first request that says the version of the engine.

        :raises Exception: whatever the client raises where the engine does not answer.
        """
        try:
            hook_class = import_module(_HOOK).DockerHook
        except ImportError as error:
            raise ConnectionProblem(
                f"{error.name or _HOOK} is not installed, which this connection needs: install "
                f"airflow-provider-jobapi[{self._extra}] on workers and triggerers."
            ) from None
        tls: Any = False
        if self._certificates is not None:
            authority, certificate, key = self._certificates
            tls = hook_class.construct_tls_config(ca_cert=authority, client_cert=certificate, client_key=key)
        # requests prefers REQUESTS_CA_BUNDLE to the client's own authority, unless it reads no environment.
        made = type("Client", (import_module("docker").APIClient,), {"trust_env": property(_no, _ignore)})
        return made(base_url=self._address(), version="auto", timeout=round(self._timeout), tls=tls)

    def _address(self) -> str:
        return self._url.replace("tcp://", "https://") if self._certificates is not None else self._url


def _no(_client: Any) -> bool:
    return False


def _ignore(_client: Any, _value: bool) -> None:
    pass


class RegistryAuth:
    """The user of one registry, for the images of that registry only.

    :param connection: A connection of the type ``docker``; None for no user.
    """

    def __init__(self, connection: Connection | None) -> None:
        self._registry = None if connection is None else _registry(connection.host or "", connection.port)
        self._user = (
            None if connection is None else {"username": connection.login or "", "password": connection.password or ""}
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._registry!r})"

    def __call__(self, image: str) -> Mapping[str, str] | None:
        """Return user and password for the registry of an image; None where it is another registry."""
        return self._user if self._user is not None and registry_of(image) == self._registry else None


def registry_of(image: str) -> str:
    """Return the registry of an image: the first part of its name, where that is a host (distribution/reference)."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return _registry(first, None) if is_host else _DOCKER_HUB


def _registry(host: str, port: int | None) -> str:
    """Return the name of a registry as images have it; Docker's connections also have it as an address."""
    name = host.strip().partition("://")[2] or host.strip()
    name = name.partition("/")[0].lower()
    if port and ":" not in name:
        name = f"{name}:{port}"
    return _DOCKER_HUB if name in _DOCKER_HUB_NAMES else name
