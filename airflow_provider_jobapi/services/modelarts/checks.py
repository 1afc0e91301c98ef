# SPDX-License-Identifier: Apache-2.0
"""What the Test button of a connection asks: is there a token of the project, is there an API, is there a bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_jobapi.services.checks import CheckResult, run_check
from airflow_provider_jobapi.services.modelarts.mapping import dialect_of
from airflow_provider_jobapi.services.modelarts.obs import store_of
from airflow_provider_jobapi.services.modelarts.session import Mask, Session

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection


def check(connection: ModelArtsConnection, mask: Mask) -> list[CheckResult]:
    """Try token, API and bucket once each; a person is waiting, so nothing is repeated.

    Without a token nothing else of ModelArts can be tried.
    """
    quick = replace(connection, timeout=min(10.0, connection.timeout))
    session, dialect = Session(quick, mask), dialect_of(connection.dialect)

    def token() -> str:
        project = session.project_id()
        clear = " (which travels unencrypted: let host and iam_url begin with https://)" if quick.in_clear else ""
        return f"{quick.iam_url} gives user {quick.user!r} a token of the project {quick.project!r} ({project}){clear}"

    def api() -> str:
        found = dialect.read_flavors(session.send(dialect.flavors()))
        return f"{quick.url} answers in {quick.dialect} and has {len(found)} flavours"

    def storage() -> str:
        next(iter(store_of(quick, quick.bucket).list_objects(f"{quick.prefix}/")), None)
        return f"bucket {quick.bucket!r} of {quick.obs_url} can be listed"

    results = [run_check("Token", token)]
    if results[0].ok:
        results.append(run_check("API", api))
    results.append(run_check("Storage", storage))
    session.close()
    return results
