# SPDX-License-Identifier: Apache-2.0
"""Tokens: the OAuth2 client credentials grant (RFC 6749 §4.4) on Authlib's core, and JWT access tokens (RFC 9068).

SAP's clients ask with GET and Basic, others with POST and Basic or form fields; all three are served.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request  # noqa: TID253 -- no DAG imports this
from authlib.oauth2.rfc6749.errors import InvalidClientError, OAuth2Error, UnsupportedGrantTypeError  # noqa: TID253
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # noqa: TID253
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # noqa: TID253
from authlib.oauth2.rfc6750 import BearerTokenGenerator  # noqa: TID253
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.store.clients import ClientRegistry, RegisteredClient

ISSUER = AUDIENCE = "jobapi"
ALGORITHM = "ES256"
_RECHECK = 5.0
"""Seconds after which a known token's client is looked up again, so that a removed client is out soon."""


class SigningKey:
    """The key that signs the tokens, made once and kept in a directory that only the server's user can read."""

    def __init__(self, directory: Path) -> None:
        path = directory / "token-key.json"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            fresh = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM, "kid": uuid.uuid4().hex}, private=True)
            with os.fdopen(handle, "w") as file:
                json.dump(fresh.as_dict(private=True), file)
        self.key = ECKey.import_key(json.loads(path.read_text()))
        self.kid = str(self.key.kid)

    def sign(self, client_id: str, lifetime: int) -> str:
        """Make a token.

        :param lifetime: Seconds.
        """
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": client_id, "client_id": client_id, "iat": now}
        claims |= {"exp": now + lifetime, "jti": uuid.uuid4().hex}
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": self.kid}, claims, self.key)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The answer of the token endpoint."""

    status: int
    body: dict[str, Any]
    headers: list[tuple[str, str]]


class TokenEndpoint(AuthorizationServer):  # type: ignore[misc]  # Authlib has no types
    """Authlib's authorization server without a web framework around it."""

    def __init__(self, clients: ClientRegistry, key: SigningKey, lifetime: int) -> None:
        super().__init__()
        self._clients = clients
        self.register_grant(_Grant)

        def make(client: _OAuthClient, **_unused: Any) -> str:
            return key.sign(client.get_client_id(), lifetime)

        self.register_token_generator(
            "default", BearerTokenGenerator(make, expires_generator=lambda *_unused: lifetime)
        )

    def answer(self, method: str, headers: Mapping[str, str], fields: dict[str, str]) -> TokenAnswer:
        """Answer a token request.

        :param headers: Names in any case.
        :param fields: The query of a GET, the form of a POST.
        """
        answer: TokenAnswer = self.create_token_response(_Request(method, headers, fields))
        return answer

    def query_client(self, client_id: str) -> _OAuthClient:
        """Authlib's question for a client. Nobody is told whether a client exists, so there is always one."""
        return _OAuthClient(self._clients.find(client_id))

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Tokens are not kept: they carry what there is to know."""

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        """Ours already."""
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_error_response(self, request: OAuth2Request, error: OAuth2Error) -> TokenAnswer:
        """Say what to do."""
        if isinstance(error, InvalidClientError):
            error.status_code = 401
            error.description = "Unknown client or wrong secret: check the login and the password of the connection."
        elif isinstance(error, UnsupportedGrantTypeError):
            error.description = "Ask with grant_type=client_credentials, in the query of a GET or the form of a POST."
        answer: TokenAnswer = super().handle_error_response(request, error)
        return answer

    def handle_response(self, status: int, body: dict[str, Any], headers: list[tuple[str, str]]) -> TokenAnswer:
        """The answer as plain data."""
        return TokenAnswer(status, dict(body), list(headers))


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_HTTP_METHODS = ("GET", "POST")
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")


class _OAuthClient(ClientMixin):  # type: ignore[misc]
    def __init__(self, client: RegisteredClient | None) -> None:
        self._client = client

    def get_client_id(self) -> str:
        return "" if self._client is None else self._client.client_id

    def get_allowed_scope(self, scope: str | None) -> str:  # noqa: ARG002 -- a client may do everything that is its own
        return ""

    def check_client_secret(self, client_secret: str) -> bool:
        return self._client is not None and self._client.accepts(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        return True

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, method: str, headers: Mapping[str, str], fields: dict[str, str]) -> None:
        # Whether the way to the client is safe is decided where the server listens; Authlib would ask the address.
        super().__init__(method, "https://jobapi/oauth/token", headers=_basic(headers))
        self.payload = BasicOAuth2Payload(fields)
        # A secret in a query would stand in the logs of every proxy.
        self._form = fields if method == "POST" else {}

    @property
    def form(self) -> dict[str, str]:
        return self._form


def _basic(headers: Mapping[str, str]) -> dict[str, str]:
    """The Authorization header under the name that Authlib looks for, if it is one that Authlib can read."""
    value = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
    kind, _, encoded = value.partition(" ")
    try:
        base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return {}
    return {"Authorization": value} if kind.lower() == "basic" else {}


class TokenVerifier:
    """Tells whose token it is. A token that was found good is remembered until it expires."""

    def __init__(self, key: SigningKey, clients: ClientRegistry, remembered: int = 10_000) -> None:
        self._key = key
        self._clients = clients
        self._remembered = remembered
        self._known: OrderedDict[str, tuple[str, float, float]] = OrderedDict()
        self._lock = Lock()

    def recall(self, token: str) -> str | None:
        """The client of a token that was found good a moment ago, without any waiting; otherwise None."""
        client_id, expires, checked = self._known.get(token, ("", 0.0, 0.0))
        return client_id if time.time() < expires and time.monotonic() - checked < _RECHECK else None

    def verify(self, token: str) -> str:
        """The client of a token.

        :raises Problem: 401, when the token is not one of ours, is over, or its client is gone.
        """
        claims = self._claims(token)
        client_id = str(claims["client_id"])
        if self._clients.find(client_id) is None:
            raise refused("The client of this token was removed from the server.")
        with self._lock:
            self._known[token] = (client_id, float(claims["exp"]), time.monotonic())
            self._known.move_to_end(token)
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return client_id

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            decoded = jwt.decode(token, self._key.key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise refused("The token is not one of this server; get a new one at /oauth/token.") from None
        claims = decoded.claims
        ours = decoded.header.get("typ") == "at+jwt" and decoded.header.get("kid") == self._key.kid
        named = claims.get("iss") == ISSUER and claims.get("aud") == AUDIENCE
        expires, whole = claims.get("exp"), isinstance(claims.get("client_id"), str)
        if not (ours and named and whole and isinstance(expires, int)):
            raise refused("The token is not one for this server; get a new one at /oauth/token.")
        begins = claims.get("nbf", 0)
        if not isinstance(begins, int | float) or begins > time.time() + 1:
            raise refused("The token is not good yet; look at the clock of who made it.")
        if expires <= time.time():
            raise refused("The token has expired; get a new one at /oauth/token.")
        return claims


def refused(detail: str) -> Problem:
    """A 401 as RFC 6750 has it."""
    challenge = f'Bearer realm="jobapi", error="invalid_token", error_description="{detail}"'
    return Problem(401, "token", detail, headers={"WWW-Authenticate": challenge})


def bearer(authorization: str | None) -> str:
    """The token in an Authorization header.

    :raises Problem: 401, when there is none.
    """
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        detail = "The request has no token: get one at /oauth/token and send it as 'Authorization: Bearer …'."
        raise Problem(401, "token", detail, headers={"WWW-Authenticate": 'Bearer realm="jobapi"'})
    return token.strip()
