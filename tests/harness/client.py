# SPDX-License-Identifier: Apache-2.0
"""Our own client of a jobAPI, set up for a test."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from tests.harness.server import Server
from tests.harness.tiny import Tiny

MODEL = """
import os
root = os.environ["MODEL_DIR"]
os.makedirs(f"{root}/variables", exist_ok=True)
for name, content in {"saved_model.pb": b"graph", "variables/variables.index": b"index" * 1000}.items():
    with open(f"{root}/{name}", "wb") as file:
        file.write(content)
print("written")
"""
"""A script that leaves a small SavedModel."""


def connection(server: Server | Tiny, url: str | None = None, **extra: Any) -> JobApiConnection:
    """The connection to a server.

    :param url: Another way to it, such as a proxy's.
    :param extra: More of the connection's extra.
    """
    if isinstance(server, Tiny):
        login, password, token_url = "client", "tiny-secret", f"{server.url}/oauth/token"
    else:
        login, password, token_url = server.client_id, server.secret, server.token_url
    return JobApiConnection.of(
        host=url or server.url, login=login, password=password, extra={"token_url": token_url, **extra}
    )


def service(
    server: Server | Tiny, url: str | None = None, *, retry: Retry | None = None, **extra: Any
) -> JobApiService:
    """The service behind a server."""
    return JobApiService(connection(server, url, **extra), retry=retry)


def job(script: str = "print('hello')\n", name: str = "test", **fields: Any) -> TrainingJob:
    """A training job."""
    return TrainingJob.of(name=name, script=script, **fields)
