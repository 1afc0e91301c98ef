# SPDX-License-Identifier: Apache-2.0
"""What the Test button of a connection asks: is there a token, is there an API, is there a storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.jobapi.service import JobApiService


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; as a text, one line."""

    subject: str
    good: bool
    said: str

    def __str__(self) -> str:
        return f"{self.subject}: {'ok' if self.good else 'not ok'}, {self.said}"


def check(service: JobApiService) -> list[Finding]:
    """Try token, API and storage once each; a person is waiting, so nothing is repeated.

    Without a token nothing else can be tried.
    """
    quick = service.impatient()
    connection = service.connection

    def token() -> str:
        quick.token()
        clear = " (which travels unencrypted: let the host begin with https://)" if connection.in_clear else ""
        return f"{connection.token_url} gives client {connection.client_id!r} a token{clear}"

    def api() -> str:
        quick.probe()
        return f"{connection.api_url} answers"

    def storage() -> str:
        found = quick.probe_storage()
        return f"{found.protocol} storage is ready, bucket {found.bucket!r} can be listed"

    findings = [_try("Token", token)]
    if findings[0].good:
        findings += [_try("API", api), _try("Storage", storage)]
    return findings


def _try(subject: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, attempt())
    except TrainingError as error:
        return Finding(subject, False, str(error))
    except Exception as error:  # noqa: BLE001 -- a form shows one line, whatever happened
        return Finding(subject, False, str(ConnectionProblem(f"{type(error).__name__} while trying it.")))
