# SPDX-License-Identifier: Apache-2.0
"""What the Test button of a connection asks: is there a token, is there an API, is there a storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_jobapi.services.checks import Finding, attempt

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.jobapi.service import JobApiService


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

    findings = [attempt("Token", token)]
    if findings[0].good:
        findings += [attempt("API", api), attempt("Storage", storage)]
    return findings
