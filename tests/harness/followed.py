# SPDX-License-Identifier: Apache-2.0
"""Requests to ``POST /api/v2/follow``, and their entries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from tests.harness.server import Server

PATH = "/api/v2/follow"


@dataclass(frozen=True)
class Entry:
    """One entry of an answer: the line of JSON, and the records."""

    head: Mapping[str, Any]
    body: bytes

    def __getitem__(self, name: str) -> Any:
        return self.head[name]


def entries(content: bytes) -> list[Entry]:
    """Parse the body of an answer."""
    found, rest = [], content
    while rest:
        line, _, rest = rest.partition(b"\n")
        head = json.loads(line)
        body, rest = rest[: head["length"]], rest[head["length"] :]
        assert len(body) == head["length"]
        found.append(Entry(head, body))
    return found


def ask(server: Server, jobs: Iterable[Mapping[str, Any]], wait: int | None = None, **more: Any) -> requests.Response:
    """Send a request that follows jobs."""
    headers = {} if wait is None else {"Prefer": f"wait={wait}"}
    headers |= more.pop("headers", {})
    return server.request("POST", PATH, json={"jobs": list(jobs)}, headers=headers, **more)


def follow(server: Server, jobs: Iterable[Mapping[str, Any]], wait: int | None = None) -> list[Entry]:
    """Follow jobs by one request."""
    answer = ask(server, jobs, wait)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.jobapi.follow"
    return entries(answer.content)
