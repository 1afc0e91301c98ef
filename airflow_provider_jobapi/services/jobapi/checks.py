# SPDX-License-Identifier: Apache-2.0
"""The checks of a jobAPI connection: the token, the API and the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_jobapi.services.checks import CheckResult, run_check

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.jobapi.service import JobApiService


def check(service: JobApiService) -> list[CheckResult]:
    """Check token, API and storage once each, without a retry, since a person waits for the answer.

    API and storage are checked only where there is a token.
    """
    quick = service.without_retry()
    connection = service.connection

    def token() -> str:
        quick.token()
        clear = " (which travels unencrypted: let the host begin with https://)" if connection.in_clear else ""
        return f"{connection.token_server} gives client {connection.client_id!r} a token{clear}"

    def api() -> str:
        quick.probe()
        return f"{connection.api_url} answers"

    def storage() -> str:
        found = quick.probe_storage()
        return f"{found.protocol} storage is ready, bucket {found.bucket!r} can be listed"

    results = [run_check("Token", token)]
    if results[0].ok:
        results += [run_check("API", api), run_check("Storage", storage)]
    return results
