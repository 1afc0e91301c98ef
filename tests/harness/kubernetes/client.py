# SPDX-License-Identifier: Apache-2.0
"""Requests to the Kubernetes API, for the tests themselves; the product uses the official clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

MERGE = "application/merge-patch+json"
TIMEOUT = 30.0


class Refused(AssertionError):
    """The API answered with an error.

    :ivar code: Its HTTP status.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclass(frozen=True)
class Client:
    """The API as somebody sees it.

    :param url: Where it is.
    :param authority: The certificate that it is signed by.
    :param token: Who asks.
    """

    url: str
    authority: Path
    token: str

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        """Send a request; the arguments are those of ``requests.request``."""
        headers = {"Authorization": f"Bearer {self.token}", **(more.pop("headers", None) or {})}
        timeout = more.pop("timeout", TIMEOUT)
        more |= {"json": body, "headers": headers, "verify": str(self.authority)}
        return requests.request(method, f"{self.url}{path}", timeout=timeout, **more)

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Send a request and answer what the API says.

        :raises Refused: when it refuses.
        """
        answer = self.call(method, path, body, **more)
        if not answer.ok:
            raise Refused(answer.status_code, answer.text)
        return dict(answer.json())

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """An object or a list."""
        return self.json("GET", path, params=params)

    def find(self, path: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.code != 404:
                raise
            return None

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge something into an object."""
        return self.json("PATCH", path, body, headers={"Content-Type": MERGE})

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is no error."""
        answer = self.call("DELETE", path)
        if not answer.ok and answer.status_code != 404:
            raise Refused(answer.status_code, answer.text)

    def apply(self, document: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object, or replace its content where it is already there."""
        place = collection(document, namespace)
        try:
            return self.json("POST", place, document)
        except Refused as refused:
            if refused.code != 409:
                raise
        return self.patch(f"{place}/{document['metadata']['name']}", document)


_PLURALS = {"NetworkPolicy": "networkpolicies"}


def collection(document: dict[str, Any], namespace: str = "") -> str:
    """The path that objects like this one are created at."""
    version, kind = document["apiVersion"], document["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
