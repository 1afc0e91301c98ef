# SPDX-License-Identifier: Apache-2.0
"""A plain HTTP client of the double, independent of the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.harness.modelarts.double import ModelArts
from tests.harness.server import poll

DOCUMENTS = Path(__file__).parents[2] / "services" / "modelarts" / "documents"


def document(name: str) -> Any:
    """Return a literal request or answer of the API's documents."""
    return json.loads((DOCUMENTS / f"{name}.json").read_text())


class Caller:
    """Sends requests with a token.

    :param double: To whom.
    """

    def __init__(self, double: ModelArts) -> None:
        self.double = double
        self.token = ""
        self.project_id = ""
        self.login()

    def login(self) -> requests.Response:
        """Get a token."""
        body = document("token_request")
        body["auth"]["identity"]["password"]["user"] |= {
            "name": self.double.account["user"],
            "password": self.double.account["password"],
            "domain": {"name": self.double.account["domain"]},
        }
        body["auth"]["scope"]["project"]["name"] = self.double.account["project"]
        answer = requests.post(f"{self.double.iam_url}/auth/tokens", json=body, timeout=30)
        self.token = answer.headers["X-Subject-Token"]
        self.project_id = answer.json()["token"]["project"]["id"]
        return answer

    def send(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        """Send a request; ``{project_id}`` in the path is filled in."""
        url = self.double.url + path.replace("{project_id}", self.project_id)
        headers = {"X-auth-Token": self.token} | more.pop("headers", {})
        return requests.request(method, url, json=body, headers=headers, timeout=30, **more)

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request that must succeed and return the answer's JSON."""
        answer = self.send(method, path, body, **more)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def no(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Send a request that must fail; return the status and the code without ``ModelArts.``."""
        answer = self.send(method, path, body, **more)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error_code"].removeprefix("ModelArts.")

    def wait(self, path: str, *wanted: Any, timeout: float = 30.0) -> Any:
        """Wait for a status of v1 or a phase of v2 and return the details."""

        def look() -> Any:
            details = self.ok("GET", path)
            status = details["status"]
            return details if (status["phase"] if isinstance(status, dict) else int(status)) in wanted else None

        return poll(look, timeout, f"{path} to be in one of the states {wanted}")
