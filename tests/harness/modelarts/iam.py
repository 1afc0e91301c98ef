# SPDX-License-Identifier: Apache-2.0
"""IAM: issue tokens for users and passwords, and check the tokens of requests (page "Authentication")."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.store import Store

_BEGIN = "MIIZmgYJKoZIhvcNAQcCoIIZizCCGYcCAQExDTALBglghkgBZQMEAgEwgXXXXXX"
_LENGTH = 6000
"""A token is a signed document of several KB; these begin as the documents' does."""
_LIFE = 86400.0


class Iam:
    """The users, domains and projects: one of each.

    :param account: domain, project, user, password, region and url.
    """

    def __init__(self, account: dict[str, str], store: Store, faults: Faults) -> None:
        self._account, self._store, self._faults = account, store, faults
        self.project_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{account['project']}.{account['domain']}").hex
        self._domain = {"id": uuid.uuid5(uuid.NAMESPACE_DNS, account["domain"]).hex, "name": account["domain"]}

    async def issue(self, request: web.Request) -> web.Response:
        """``POST /v3/auth/tokens``: 201, the token in the header."""
        if request.content_type != "application/json":
            return no(400, "Content-Type must be application/json.", "Bad Request")
        try:
            auth = (await request.json())["auth"]
            user = auth["identity"]["password"]["user"]
            asked = (auth["identity"]["methods"], user["name"], user["password"], user["domain"])
            scope = auth.get("scope", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return no(400, "The request body is invalid.", "Bad Request")
        if asked[0] != ["password"]:
            return no(400, "Only the method password is known here.", "Bad Request")
        password = self._faults.option("new_password", "password", self._account["password"])
        known = (["password"], self._account["user"], password)
        if asked[:3] != known or not self._is_ours(asked[3]):
            return no(401, "The username or password is wrong.", "Unauthorized")
        return self._grant(scope)

    def check(self, request: web.Request, project_id: str) -> None:
        """Whether a request's token is good for a project's path.

        :raises Refused: It is not.
        """
        given = request.headers.get("X-Auth-Token")
        if not given:
            raise Refused("0201")
        token = self._store.token(given)
        if token is None:
            raise Refused("0203")
        if (voided := self._faults.get("expired_token")) and token.issued < voided["since"]:
            raise Refused("2784" if voided["status"] == 403 else "0202")
        if (changed := self._faults.get("new_password")) and token.issued < changed["since"]:
            raise Refused("0202")
        if time.time() > token.issued + self._life():
            raise Refused("0202")
        if token.project is None:
            raise Refused("0207" if token.scope == "domain" else "0212")
        if project_id != token.project:
            raise Refused("2786", project_id, token.project)

    def _grant(self, scope: dict[str, Any]) -> web.Response:
        body: dict[str, Any] = {"methods": ["password"], "issued_at": _time(0), "expires_at": _time(self._life())}
        body["user"] = {"id": uuid.uuid5(uuid.NAMESPACE_DNS, self._account["user"]).hex, "domain": self._domain}
        body["user"]["name"] = self._account["user"]
        kind, project = "none", None
        if "project" in scope:
            if not self._is_project(scope["project"]):
                return no(401, "The project is wrong, or the user has no access to it.", "Unauthorized")
            kind, project = "project", self.project_id
            body["project"] = {"id": project, "name": self._account["project"], "domain": self._domain}
            body["roles"] = [{"id": "0", "name": "te_admin"}]
            body["catalog"] = self._catalog()
        elif "domain" in scope:
            if not self._is_ours(scope["domain"]):
                return no(401, "The domain is wrong.", "Unauthorized")
            kind = "domain"
            body["domain"] = self._domain
        token = _BEGIN + secrets.token_urlsafe(_LENGTH)[: _LENGTH - len(_BEGIN)]
        self._store.keep_token(token, project, kind)
        return web.json_response({"token": body}, status=201, headers={"X-Subject-Token": token})

    def _is_project(self, named: Any) -> bool:
        if not isinstance(named, dict):
            return False
        if "id" in named:
            return bool(named["id"] == self.project_id)
        return named.get("name") == self._account["project"] and self._is_ours(named.get("domain", self._domain))

    def _is_ours(self, domain: Any) -> bool:
        if not isinstance(domain, dict):
            return False
        return domain.get("name") == self._domain["name"] or domain.get("id") == self._domain["id"]

    def _catalog(self) -> list[dict[str, Any]]:
        url, region = self._account["url"], self._account["region"]
        endpoint = {"id": uuid.uuid4().hex, "interface": "public", "region": region, "region_id": region, "url": url}
        return [{"id": uuid.uuid4().hex, "type": "modelarts", "name": "modelarts", "endpoints": [endpoint]}]

    def _life(self) -> float:
        return float(self._faults.option("token_life", "seconds", _LIFE))


def no(status: int, message: str, title: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message, "title": title}}, status=status)


def _time(ahead: float) -> str:
    return datetime.fromtimestamp(time.time() + ahead, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
