# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to a jobAPI."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError
from airflow_provider_jobapi.services import fields, settings
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault, may_be_of_a_file


class TokenMethod(StrEnum):
    """How a token is requested; each method is OAuth2's client credentials grant."""

    POST_BASIC = "post_basic"
    """POST, client and secret as HTTP Basic: what RFC 6749 requires of every server."""

    POST_FORM = "post_form"
    """POST, client and secret as form fields."""

    GET_BASIC = "get_basic"
    """GET, client and secret as HTTP Basic: what the clients of SAP's service did."""


CONNECT_TIMEOUT = 10.0
"""Seconds to open a connection to the service: name lookup, socket and TLS."""


def _default_token_url(values: Mapping[str, Any]) -> str:
    return f"{values['base_url']}/oauth/token"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobApiConnection(fields.HttpConnectionSettings):
    """A connection to a jobAPI. See :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.of`."""

    base_url: str = fields.host("Address", "The address of the jobAPI, such as https://jobs.example.com.")
    client_id: str = fields.login("Client ID", "The OAuth2 client ID.")
    client_secret: str = fields.password("Client secret", "The OAuth2 client secret.")
    token_url: str = fields.setting(
        "Token URL",
        "The address that issues OAuth2 tokens. The key token_url means the same, and Airflow hides its value in logs.",
        settings.url,
        key="oauth_url",
        also="token_url",
        default=_default_token_url,
        default_text="<host>/oauth/token",
        json_format="url",
    )
    token_method: TokenMethod = fields.setting(
        "Token method",
        "How a token is requested: by POST or GET, with the client as HTTP Basic or as form fields. The clients of "
        "SAP's service used get_basic. The key oauth_method means the same.",
        settings.one_of(TokenMethod),
        also="oauth_method",
        default=TokenMethod.POST_BASIC,
        choices=list(TokenMethod),
    )
    scope: str | None = fields.setting("Scope", "The OAuth2 scope, where the token server needs one.")
    audience: str | None = fields.setting(
        "Audience", "The audience of the token, where the token server needs one, as Auth0's does."
    )
    resource: str | None = fields.setting(
        "Resource", "The resource of the token (RFC 8707), where the token server needs one."
    )
    version: str = fields.setting(
        "API version",
        "The version of the API, a part of every path.",
        settings.matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", "a text such as v2"),
        default="v2",
    )
    client_cert: str | None = fields.setting(
        "Client certificate",
        "A PEM file, on workers and triggerers, with the client's certificate, where the service needs one.",
        settings.file,
    )
    client_key: str | None = fields.setting(
        "Client key", "The key of the client's certificate, where it is in a file of its own.", settings.file
    )

    @property
    def api_url(self) -> str:
        """The address to which the API's paths are appended."""
        return f"{self.base_url}/api/{self.version}"

    @property
    def token_server(self) -> str:
        """The token server for messages.

        Airflow hides the whole address where it comes from an extra whose key contains ``token``, so this is without
        its scheme. It is also without its query, which may contain a secret.
        """
        parts = urlsplit(self.token_url)
        return f"{parts.netloc}{parts.path}"

    @property
    def in_clear(self) -> bool:
        """Whether the secret or the token leaves this machine unencrypted."""
        return any(settings.travels_in_clear(url) for url in (self.base_url, self.token_url))

    def ssl_context(self) -> ssl.SSLContext:
        """Make the TLS settings of this connection. Takes some 20 ms: make them once, and not in an event loop.

        :raises ConnectionProblem: when a file that the connection names cannot be used.
        """
        roots = self.roots()
        try:
            if os.path.isdir(roots):  # noqa: PTH112 -- may be any text of the environment
                context = ssl.create_default_context(capath=roots)
            else:
                context = ssl.create_default_context(cafile=roots)
        except OSError as error:
            raise ConnectionProblem(
                f"The CA bundle {roots} cannot be used: {_reason(error)}; check ca_bundle and REQUESTS_CA_BUNDLE."
            ) from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert:
            try:
                context.load_cert_chain(self.client_cert, self.client_key)
            except OSError as error:
                raise ConnectionProblem(
                    f"The connection's client_cert {self.client_cert} cannot be used: {_reason(error)}; check "
                    "client_cert and client_key."
                ) from None
        return context

    def error_of_fault(self, error: BaseException, address: str) -> TrainingError:
        """The error for a fault; it names the file of this connection that cannot be used, if that is the cause.

        :param address: The address that was called.
        """
        if may_be_of_a_file(error):
            try:
                self.ssl_context()
            except ConnectionProblem as problem:
                return problem
        return error_of_fault(error, address)


def _reason(error: OSError) -> str:
    """Why a file of certificates cannot be used."""
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is of another certificate"
    return "it does not hold what is expected, in PEM"
