# SPDX-License-Identifier: Apache-2.0
"""Checks of the connection form's Test button: the token, the API and the bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_jobapi.services.checks import CheckResult, run_check
from airflow_provider_jobapi.services.modelarts.api_session import ApiSession, Mask
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of
from airflow_provider_jobapi.services.modelarts.obs import store_of

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection


def check(connection: ModelArtsConnection, mask: Mask) -> list[CheckResult]:
    """Check token, API and bucket once each, without retries: a person is waiting.

    Without a token the API is not checked.
    """
    quick = replace(connection, timeout=min(10.0, connection.timeout))
    session, dialect = ApiSession(quick, mask), dialect_of(connection.dialect)

    def token() -> str:
        project = session.project_id()
        clear = "; it is sent unencrypted, use https:// in host and iam_url" if quick.in_clear else ""
        return f"{quick.iam_url} issued a token to user {quick.user!r} for project {quick.project!r} ({project}){clear}"

    def api() -> str:
        found = dialect.read_flavors(session.send(dialect.flavors()))
        return f"{quick.url} answers requests of {quick.dialect} and has {len(found)} flavours"

    def storage() -> str:
        next(iter(store_of(quick, quick.bucket).list_objects(f"{quick.prefix}/")), None)
        return f"bucket {quick.bucket!r} of {quick.obs_url} can be listed"

    results = [run_check("Token", token)]
    if results[0].ok:
        results.append(run_check("API", api))
    results.append(run_check("Storage", storage))
    session.close()
    return results
