# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to a jobAPI: where it is, as whom we come, and what stands between us."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services import settings


class TokenMethod(StrEnum):
    """How the token server wants to be asked; every one is OAuth2's client credentials grant."""

    POST_BASIC = "post_basic"
    """POST, client and secret as HTTP Basic: what RFC 6749 asks every server to take."""

    POST_FORM = "post_form"
    """POST, client and secret as form fields."""

    GET_BASIC = "get_basic"
    """GET, client and secret as HTTP Basic: what the clients of SAP's service did."""


EXTRAS = (
    "ca_bundle", "client_cert", "client_key", "proxy", "scope",
    "timeout", "token_method", "token_url", "verify", "version",
)  # fmt: skip
"""What the connection's extra may hold."""

CONNECT_TIMEOUT = 10.0
"""Seconds for the way to the service: its name, its socket, its TLS."""


@dataclass(frozen=True, slots=True)
class JobApiConnection:
    """A connection to a jobAPI.

    :ivar base_url: The service's address without the version, such as ``https://jobs.example.com/base``.
    :ivar client_id: The OAuth2 client.
    :ivar client_secret: Its secret; in no repr.
    :ivar token_url: Where tokens are; by default ``<base_url>/oauth/token``.
    :ivar token_method: How they are asked for.
    :ivar scope: The OAuth2 scope, where the token server wants one.
    :ivar version: The API's version, a part of every path.
    :ivar verify: Whether certificates are checked.
    :ivar ca_bundle: A PEM file of the authorities to trust in place of the public ones.
    :ivar client_cert: A PEM file with our own certificate, where the service asks for one.
    :ivar client_key: The key of that certificate, where it is in a file of its own.
    :ivar proxy: The HTTP proxy for everything; by default the environment says it. May hold a password: in no repr.
    :ivar timeout: Seconds of silence after which an answer is given up.
    """

    base_url: str
    client_id: str
    client_secret: str = field(repr=False)
    token_url: str = ""
    token_method: TokenMethod = TokenMethod.POST_BASIC
    scope: str | None = None
    version: str = "v2"
    verify: bool = True
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout: float = 30.0

    @property
    def api_url(self) -> str:
        """Where the paths of the API begin."""
        return f"{self.base_url}/api/{self.version}"

    @property
    def in_clear(self) -> bool:
        """Whether the secret or the token leaves this machine unencrypted."""
        return any(settings.travels_in_clear(url) for url in (self.base_url, self.token_url))

    @classmethod
    def of(
        cls,
        *,
        host: str | None,
        port: int | None = None,
        schema: str | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> JobApiConnection:
        """Read a connection from the fields that Airflow keeps.

        :param host: ``jobs.example.com`` or a whole address such as ``https://jobs.example.com/base``.
        :param schema: ``http`` or ``https`` (the default), where the host does not say it.
        :param extra: See :data:`EXTRAS`; empty texts count as not given.
        :raises ConnectionProblem: naming the field and saying what is allowed.
        """
        given = settings.known(extra, EXTRAS)
        base_url = settings.address(host, port, schema, "jobAPI")
        if not login or not password:
            missing = "login: it is the OAuth2 client ID" if not login else "password: it is the OAuth2 client secret"
            raise ConnectionProblem(f"The connection has no {missing}.")
        token_url = settings.text(given, "token_url")
        return cls(
            base_url=base_url,
            client_id=login,
            client_secret=password,
            token_url=settings.url("extra token_url", token_url).geturl() if token_url else f"{base_url}/oauth/token",
            token_method=_token_method(given),
            scope=settings.text(given, "scope"),
            version=_version(given),
            verify=settings.switch(given, "verify", default=True),
            ca_bundle=settings.file(given, "ca_bundle"),
            client_cert=settings.file(given, "client_cert"),
            client_key=settings.file(given, "client_key"),
            proxy=settings.proxy(given),
            timeout=settings.seconds(given, "timeout", 30.0),
        )

    def proxy_for(self, url: str) -> str | None:
        """The proxy on the way to this URL: the connection's own, else the one that the environment names.

        Both sides ask here, so that HTTPS_PROXY and NO_PROXY mean the same to the worker and to the triggerer.

        :raises ConnectionProblem: for a proxy that does not speak HTTP.
        """
        return self.proxy or settings.environment_proxy(url)

    def roots(self) -> str:
        """The PEM file, or directory, of the authorities that both sides trust."""
        return settings.roots(self.ca_bundle)

    def ssl_context(self) -> ssl.SSLContext:
        """The TLS settings of this connection. Takes some 20 ms, so make it once and not in an event loop.

        :raises ConnectionProblem: when a file that the connection names cannot be used.
        """
        roots = self.roots()
        try:
            if os.path.isdir(roots):  # noqa: PTH112 -- may be any text of the environment
                context = ssl.create_default_context(capath=roots)
            else:
                context = ssl.create_default_context(cafile=roots)
        except OSError as error:
            raise ConnectionProblem(f"The CA bundle {roots} cannot be used: {error.strerror or error}.") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert:
            try:
                context.load_cert_chain(self.client_cert, self.client_key)
            except OSError as error:
                raise ConnectionProblem(
                    f"The connection's client_cert {self.client_cert} cannot be used: {error.strerror or error}."
                ) from None
        return context


def _version(extra: Mapping[str, Any]) -> str:
    version = extra.get("version", "v2")
    if not isinstance(version, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", version):
        raise ConnectionProblem(f"The connection's extra version cannot be {version!r}: it is a text such as v2.")
    return version


def _token_method(extra: Mapping[str, Any]) -> TokenMethod:
    try:
        return TokenMethod(extra.get("token_method", TokenMethod.POST_BASIC))
    except ValueError:
        known = ", ".join(TokenMethod)
        raise ConnectionProblem(
            f"The connection's extra token_method cannot be {extra['token_method']!r}: it is one of {known}."
        ) from None
