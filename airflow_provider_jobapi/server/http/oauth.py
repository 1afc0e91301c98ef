# SPDX-License-Identifier: Apache-2.0
"""Issue and verify tokens: the OAuth2 client credentials grant (RFC 6749 §4.4) with JWT access tokens (RFC 9068).

SAP's clients ask with GET and HTTP Basic, others with POST and HTTP Basic or form fields. All three work.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.store.clients import ClientRegistry, RegisteredClient

ISSUER = AUDIENCE = "jobapi"
ALGORITHM = "ES256"

GENERATION = "gen"
"""The claim with the generation of the client's tokens; a token of an earlier version of the server has none."""

CLOCK_SKEW = 1.0
"""Seconds by which the ``nbf`` of a token may lie in the future."""


class SigningKey:
    """The key that signs the tokens. It is made once, in a directory that only the user of the server can read.

    :param directory: Where the key is kept.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "token-key.json"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            new = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM, "kid": uuid.uuid4().hex}, private=True)
            with os.fdopen(handle, "w") as file:
                json.dump(new.as_dict(private=True), file)
        try:
            self.key = ECKey.import_key(json.loads(path.read_text()))
            self.kid = str(self.key.kid)
        except (JoseError, OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"The key of the tokens {path} cannot be used ({type(error).__name__}): restore it from a backup, or "
                "remove it; then a new one is made, and clients need new tokens."
            ) from None

    def sign(self, client: RegisteredClient, lifetime: int) -> str:
        """Make a token for a client.

        :param lifetime: Seconds until it expires.
        """
        now, client_id = int(time.time()), client.client_id
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": client_id, "client_id": client_id, "iat": now}
        claims[GENERATION] = client.generation
        claims |= {"exp": now + lifetime, "jti": uuid.uuid4().hex}
        return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": self.kid}, claims, self.key)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The answer of the token endpoint: its HTTP status, its JSON body and its headers.

    :ivar client_id: The client that the request names, known or not.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    client_id: str = ""


class TokenEndpoint:
    """Give tokens to clients that know their secret.

    :param lifetime: Seconds until a token expires.
    """

    def __init__(self, clients: ClientRegistry, key: SigningKey, lifetime: int) -> None:
        self._clients = clients
        self._key = key
        self._lifetime = lifetime

    def answer(self, method: str, authorization: str, fields: Mapping[str, str]) -> TokenAnswer:
        """Answer a request for a token.

        :param authorization: The Authorization header, or an empty text.
        :param fields: The query of a GET, the form of a POST.
        """
        if fields.get("grant_type") != "client_credentials":
            return _refusal(
                400,
                "unsupported_grant_type",
                "Ask with grant_type=client_credentials, in the query of a GET or the form of a POST.",
            )
        credentials = [_basic_credentials(authorization)]
        if method == "POST":  # a secret in the query of a GET would be written to the log of every proxy
            credentials.append((fields.get("client_id", ""), fields.get("client_secret", "")))
        for client_id, secret in credentials:
            if client := self._authenticate(client_id, secret):
                token = self._key.sign(client, self._lifetime)
                body = {"token_type": "Bearer", "access_token": token, "expires_in": self._lifetime}
                return TokenAnswer(200, body, _NO_STORE)
        text = "Unknown client or wrong secret: check the login and the password of the connection."
        challenge = f'Basic error="invalid_client", error_description="{text}"'
        refusal = _refusal(401, "invalid_client", text, {"WWW-Authenticate": challenge})
        return replace(refusal, client_id=next((client_id for client_id, _ in credentials if client_id), ""))

    def _authenticate(self, client_id: str, secret: str) -> RegisteredClient | None:
        """Return the client if the secret is its own. An unknown client and a wrong secret look the same outside."""
        client = self._clients.find(client_id) if client_id and secret else None
        return client if client is not None and client.accepts(secret) else None


_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def _refusal(status: int, error: str, text: str, headers: Mapping[str, str] | None = None) -> TokenAnswer:
    return TokenAnswer(status, {"error": error, "error_description": text}, _NO_STORE | dict(headers or {}))


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """Return the client id and the secret of an HTTP Basic header, or two empty texts."""
    kind, _, encoded = authorization.partition(" ")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return (client_id, secret) if kind.lower() == "basic" else ("", "")


class TokenVerifier:
    """Find the client of a token. Tokens that were valid are remembered until they expire.

    :param remembered: The most tokens that are remembered.
    :param recheck: Seconds after which the client of a remembered token is looked up again, in case that the note of
        a change could not be written.
    """

    def __init__(
        self, key: SigningKey, clients: ClientRegistry, remembered: int = 10_000, recheck: float = 5.0
    ) -> None:
        self._key = key
        self._clients = clients
        self._remembered = remembered
        self._recheck = recheck
        self._known: OrderedDict[str, tuple[str, float, float]] = OrderedDict()
        self._changes = clients.changes()
        self._lock = Lock()

    def recall(self, token: str) -> str | None:
        """Return the client of a token that was verified within the last seconds, else None. Never waits.

        After a client was removed, or got a new secret, no token is remembered.
        """
        if self._changes != (changes := self._clients.changes()):
            with self._lock:
                self._known.clear()
                self._changes = changes
        client_id, expires, checked = self._known.get(token, ("", 0.0, 0.0))
        return client_id if time.time() < expires and time.monotonic() - checked < self._recheck else None

    def verify(self, token: str) -> str:
        """Return the id of the client of a token.

        :raises Problem: 401, when the token is not from this server, has expired or was revoked, or its client was
            removed.
        """
        claims = self._claims(token)
        client_id = str(claims["client_id"])
        client = self._clients.find(client_id)
        if client is None:
            raise _invalid_token("The client of this token was removed from the server.")
        if claims.get(GENERATION, "") != client.generation:
            raise _invalid_token("The token was revoked: its client has a new secret; get a new one at /oauth/token.")
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
            raise _invalid_token("The token is not one of this server; get a new one at /oauth/token.") from None
        claims, header = decoded.claims, decoded.header
        from_here = header.get("typ") == "at+jwt" and header.get("kid") == self._key.kid
        for_here = claims.get("iss") == ISSUER and claims.get("aud") == AUDIENCE
        expires, names_client = claims.get("exp"), isinstance(claims.get("client_id"), str)
        if not (from_here and for_here and names_client and isinstance(expires, int)):
            raise _invalid_token("The token is not one for this server; get a new one at /oauth/token.")
        not_before = claims.get("nbf", 0)
        if not isinstance(not_before, int | float) or not_before > time.time() + CLOCK_SKEW:
            raise _invalid_token("The token is not valid yet; check the clock of the machine that made it.")
        if expires <= time.time():
            raise _invalid_token("The token has expired; get a new one at /oauth/token.")
        return claims


def _invalid_token(detail: str) -> Problem:
    """Make the 401 of RFC 6750 for a token that is not accepted."""
    challenge = f'Bearer realm="jobapi", error="invalid_token", error_description="{detail}"'
    return Problem(401, "token", detail, headers={"WWW-Authenticate": challenge})


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header.

    :raises Problem: 401, when there is none.
    """
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        detail = "The request has no token: get one at /oauth/token and send it as 'Authorization: Bearer …'."
        raise Problem(401, "token", detail, headers={"WWW-Authenticate": 'Bearer realm="jobapi"'})
    return token.strip()
